"""Read what an adopted CA issued and revoked: its index, certificates and CRLs, compared with the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.import_ca import naming, openssl_index
from pki.authority.import_ca import revocations as import_ca_revocations
from pki.authority.import_ca.scan import ScannedCertificate, ScannedFiles, find
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.types import IssuanceRecords, Issued, LastCrl
from pki.project.adopted_ca import has_signed
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.ledger_view import LedgerView
from pki.x509.certificate_names import alternative_names, common_name
from pki.x509.keys import public_der
from pki.x509.revocation import crl_number

NEVER = datetime.fromtimestamp(0, UTC)  # the date of a CRL that is unknown; every certificate expires after it
PLACES = ("", "pki", "demoCA")  # below the named folder: openssl ca, easy-rsa, the default of openssl.cnf
NUMBER_LIMIT = 1 << 62  # CRL numbers: below the 64-bit integers of the databases, with room for years of CRLs
UNNAMED = ArtifactId("", "")  # until all names are known: `naming.artifact` then chooses one


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The records of a folder that are new, how many certificates the ledger has already, and what was left out.

    `left_out` has one text for each file or line.
    """

    issuance_records: IssuanceRecords
    recorded: int
    left_out: tuple[str, ...]


class _NamedRecord(NamedTuple):
    """A certificate without an artifact, and the name from which its artifact is made."""

    name: str
    issued: Issued


@dataclass(frozen=True, slots=True)
class _SortedFiles:
    """The files of a folder: certificates that the CA signed, by serial number, its CRLs, and the rows of its index.

    `last_crl_number` is the number of its last CRL according to the file crlnumber, or 0.
    """

    certificates: dict[int, ScannedCertificate]
    crls: list[x509.CertificateRevocationList]
    rows: list[openssl_index.IndexRow]
    last_crl_number: int
    left_out: list[str]


def read(authorities: Authorities, ledger_view: LedgerView, name: str, folder: Path, shown: str) -> ImportResult:
    """Return the records in a folder of the adopted authority `name` that the ledger lacks.

    `shown` is the name of the folder in messages. Raises PkiError with every fault of its files. A file that another CA
    signed is not a fault: it is left out.
    """
    ca = authorities.generation(name)
    assert ca is not None, "`generation` raises where the folder contains no certificate"
    sorted_files = _sorted(ca, folder, shown)
    recorded_certificates = ledger_view.ledger.certificates(issuer=name) if ledger_view.has_ledger else []
    _check_same_ca(ca, recorded_certificates)
    new_certificates = list(_certificates(ca, sorted_files, recorded_certificates))
    revoked_entries = ledger_view.ledger.revoked_entries(name, expiring_after=NEVER) if ledger_view.has_ledger else []
    revoked_serials = {revocation.serial for revocation in revoked_entries}
    revocations, no_longer_revoked = import_ca_revocations.compare(
        sorted_files.rows, sorted_files.crls, [*recorded_certificates, *new_certificates], revoked_serials, ca
    )
    last_crl = ledger_view.ledger.last_crl(name) if ledger_view.has_ledger else None
    crl = _last_crl(sorted_files)
    newer_crl = crl if crl and (last_crl is None or crl.number > last_crl.number) else None
    issuance_records = IssuanceRecords(name, tuple(new_certificates), tuple(revocations), newer_crl)
    return ImportResult(issuance_records, len(recorded_certificates), (*sorted_files.left_out, *no_longer_revoked))


def _sorted(ca: Generation, folder: Path, shown: str) -> _SortedFiles:
    """Return the files of a folder that belong to the CA. Raises PkiError with every fault of the files."""
    scanned_files, rows, faults, last_crl_number = find(folder, shown), list[openssl_index.IndexRow](), list[str](), 0
    place = next((folder_name for folder_name in PLACES if (folder / folder_name / "index.txt").is_file()), None)
    if place is not None:
        name = "/".join(part for part in (shown, place, "index.txt") if part)
        rows, faults = openssl_index.parse(filesystem.read(folder / place / "index.txt") or b"", name)
        last_crl_number = _last_crl_number(folder / place / "crlnumber", name.replace("index.txt", "crlnumber"), faults)
    certificates: dict[int, ScannedCertificate] = {}
    foreign, left_out = set[tuple[int, datetime]](), dict[bytes, str]()
    for scanned in scanned_files.certificates:
        file, cert = scanned
        if reason := _foreign_reason(ca, cert):
            foreign.add((cert.serial_number, cert.not_valid_after_utc))
            if reason.code is not Why.CA_ITSELF:
                left_out.setdefault(cert.fingerprint(hashes.SHA256()), f"{file}: {reason}")
            continue
        first = certificates.setdefault(cert.serial_number, scanned)
        if first.certificate != cert:
            faults.append(
                f"{file}: serial {cert.serial_number:02X} also belongs to another certificate, in {first.file}"
            )
    crls = [crl for _, crl in scanned_files.crls if has_signed(ca.certificate, crl)]
    _check_files(
        ca, scanned_files, shown, faults=[*scanned_files.faults, *faults], has_own_files=bool(certificates or crls)
    )
    foreign_crls = [f"{file}: {ca.name} did not sign this CRL" for file, crl in scanned_files.crls if crl not in crls]
    # an index may also name certificates of another CA: their files show it
    rows = [row for row in rows if (row.serial, row.not_after) not in foreign or row.serial in certificates]
    zero_serials = [
        f"{shown}: line {row.line} of index.txt has serial 00, which no CRL can list" for row in rows if not row.serial
    ]
    return _SortedFiles(
        certificates,
        crls,
        [row for row in rows if row.serial],
        last_crl_number,
        [*left_out.values(), *foreign_crls, *zero_serials],
    )


def _foreign_reason(ca: Generation, cert: x509.Certificate) -> Reason | None:
    """Return why a certificate is left out; None when the CA issued it to another subject."""
    subject, issuer = cert.subject.rfc4514_string(), cert.issuer.rfc4514_string()
    if cert.subject == ca.certificate.subject and public_der(cert.public_key()) == public_der(
        ca.certificate.public_key()
    ):
        return Why.CA_ITSELF()
    if cert.issuer != ca.certificate.subject:
        return Why.SIGNED_ELSEWHERE(subject=subject, issuer=issuer, ca=ca.name)
    if not has_signed(ca.certificate, cert):
        return Why.NOT_SIGNED(subject=subject, ca=ca.name)
    return Why.BAD_SERIAL(subject=subject, serial=cert.serial_number) if cert.serial_number <= 0 else None


def _check_files(
    ca: Generation, scanned_files: ScannedFiles, shown: str, *, faults: list[str], has_own_files: bool
) -> None:
    """Raise PkiError with all faults of the files, or if none of the files is from the CA."""
    if faults:
        raise PkiError(
            "\n".join(["nothing was imported; faults:", *faults]),
            "fix them, then repeat the command",
        )
    if not has_own_files:
        count = (
            f"{len(scanned_files.certificates)} certificates found"
            if scanned_files.certificates
            else "no certificate found"
        )
        raise PkiError(
            f"{shown}: contains nothing that {ca.name} signed ({ca.certificate.subject.rfc4514_string()}); {count}",
            "name the folder with its index.txt, or with the certificates that it issued; if it never issued one, nobody "
            f"needs its CRL: remove authorities.{ca.name} from pki.yaml",
        )


def _check_same_ca(ca: Generation, recorded: list[Issued]) -> None:
    """Raise PkiError if the ledger records another CA under this name.

    A CA name must never be reused: revocations are keyed by it.
    """
    first_certificate = next((certificate for certificate in recorded if certificate.pem), None)
    if first_certificate and not has_signed(
        ca.certificate, x509.load_pem_x509_certificate(first_certificate.pem.encode())
    ):
        raise PkiError(
            f"{ca.name}: the ledger records another CA under this name, which issued {first_certificate.artifact}",
            "adopt this one under another name in pki.yaml",
        )


def _certificates(ca: Generation, sorted_files: _SortedFiles, recorded: list[Issued]) -> Iterator[Issued]:
    """Yield what the ledger lacks, oldest first: certificates, and rows of the index without a certificate file."""
    recorded_serials = {certificate.serial for certificate in recorded}
    used_artifacts = {certificate.artifact for certificate in recorded}
    records = [_of_certificate(ca.name, scanned) for scanned in sorted_files.certificates.values()]
    records += [_of_row(ca, row) for row in sorted_files.rows if row.serial not in sorted_files.certificates]
    for name, issued in sorted(records, key=lambda record: (record.issued.not_before, record.issued.serial)):
        if issued.serial not in recorded_serials:
            artifact = naming.artifact(ca.name, name, issued.serial, used_artifacts)
            used_artifacts.add(artifact)
            yield naming.renamed(issued, artifact)


def _of_certificate(ca_name: str, scanned: ScannedCertificate) -> _NamedRecord:
    cert = scanned.certificate
    names: tuple[str, ...] = ()
    with suppress(ValueError):  # other programs may have written unreadable extensions
        names = alternative_names(cert)
    issued = Issued(
        serial=cert.serial_number,
        issuer=GenerationName.parse(ca_name),
        artifact=UNNAMED,
        profile=naming.profile(cert),
        subject=cert.subject.rfc4514_string(),
        names=names,
        not_before=cert.not_valid_before_utc,
        not_after=cert.not_valid_after_utc,
        reason="imported: issued by the adopted CA",
        revoked="",
        pem=cert.public_bytes(Encoding.PEM).decode(),
    )
    return _NamedRecord(common_name(cert.subject) or next(iter(names), "") or Path(scanned.file).stem, issued)


def _of_row(ca: Generation, row: openssl_index.IndexRow) -> _NamedRecord:
    issued = Issued(
        serial=row.serial,
        issuer=GenerationName.parse(ca.name),
        artifact=UNNAMED,
        profile="unknown",
        subject=row.subject,
        names=(),
        not_before=min(ca.not_before, row.not_after),  # the index has no start of validity
        not_after=row.not_after,
        reason="imported from index.txt: its certificate was not in the folder",
        revoked="",
        pem="",
    )
    return _NamedRecord(row.common_name, issued)


# -- the last CRL -----------------------------------------------------------------------------------------------------


def _last_crl_number(path: Path, shown: str, faults: list[str]) -> int:
    """Return the number of the last CRL: one less than in the file `crlnumber`, which contains the next number.

    Returns 0 without the file. Adds a text to `faults` when the file cannot be read.
    """
    text = (filesystem.read(path) or b"").decode(errors="replace").strip()
    if not text:
        return 0
    try:
        return max(int(text, 16) - 1, 0)
    except ValueError:
        faults.append(f"{shown}:1: expected a number in hexadecimal, got {text!r}")
        return 0


def _last_crl(sorted_files: _SortedFiles) -> LastCrl | None:
    """Return the newest CRL; without a CRL file, a record with the number from crlnumber."""
    newest = max(sorted_files.crls, key=lambda crl: crl.last_update_utc, default=None)
    number = max([sorted_files.last_crl_number, *map(crl_number, sorted_files.crls)])
    if number >= NUMBER_LIMIT:
        raise PkiError(
            f"the number of the last CRL, {number}, is larger than the ledger can store",
            "no CRL with a higher number can be issued: keep issuing this authority's CRLs where you do now",
        )
    if newest is None:
        return LastCrl(number, NEVER, NEVER, 0, "imported: the number from crlnumber", "") if number else None
    return LastCrl(
        number=number,
        this_update=newest.last_update_utc,
        next_update=newest.next_update_utc or NEVER,
        entries=len(newest),
        reason="imported: the newest CRL of the adopted CA",
        pem=newest.public_bytes(Encoding.PEM).decode(),
    )
