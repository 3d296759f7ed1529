"""What an adopted CA issued and revoked: its index, certificates and CRLs put together, held against the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.import_ca import naming, openssl_index
from pki.authority.import_ca import revocations as import_ca_revocations
from pki.authority.import_ca.scan import ScannedFiles, find
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.types import IssuanceRecords, Issued, LastCrl
from pki.project.external_ca import has_signed
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509.keys import public_der

NEVER = datetime.fromtimestamp(0, UTC)
PLACES = ("", "pki", "demoCA")  # below the folder that somebody names
COUNTABLE = 1 << 62  # what the ledger's databases can count to, with room for years of CRLs


UNNAMED = ArtifactId("", "")  # before all of them are known: see `naming`


@dataclass(frozen=True, slots=True)
class Found:
    """What is new in a folder, how much of it was known already, and what was left out, with the reason."""

    issuance_records: IssuanceRecords
    known: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shelf:
    """A folder sorted out: what the CA signed, by serial number, and the rows of its index."""

    certificates: dict[int, tuple[str, x509.Certificate]]
    crls: list[x509.CertificateRevocationList]
    rows: list[openssl_index.Row]
    number: int
    left_out: list[str]


def read(project: Project, name: str, folder: Path, shown: str) -> Found:
    """What a folder holds of the adopted authority `name`, as far as the ledger lacks it.

    Raises PkiError with everything that is wrong in it; files that another CA signed are no fault, and left out.
    """
    ca = project.generation(name)
    assert ca is not None  # its folder holds a certificate, or said that it does not
    shelf = _sorted(ca, folder, shown)
    known = project.ledger.certificates(issuer=name) if project.has_ledger else []
    _check_same_ca(ca, known)
    new = list(_certificates(ca, shelf, known))
    gone = project.ledger.revoked_entries(name, NEVER) if project.has_ledger else []
    revocations, stays = import_ca_revocations.compare(
        shelf.rows, shelf.crls, [*known, *new], {one.serial for one in gone}, ca
    )
    last = project.ledger.last_crl(name) if project.has_ledger else None
    crl = _last_crl(shelf)
    newer = crl if crl and (last is None or crl.number > last[0]) else None
    issuance_records = IssuanceRecords(name, tuple(new), tuple(revocations), newer)
    return Found(issuance_records, len(known), (*shelf.left_out, *stays))


def _sorted(ca: Generation, folder: Path, shown: str) -> _Shelf:
    scanned_files, rows, faults, number = find(folder, shown), list[openssl_index.Row](), list[str](), 0
    place = next((one for one in PLACES if (folder / one / "index.txt").is_file()), None)
    if place is not None:
        name = "/".join(part for part in (shown, place, "index.txt") if part)
        rows, faults = openssl_index.parse(filesystem.read(folder / place / "index.txt") or b"", name)
        number = _number(folder / place / "crlnumber", name.replace("index.txt", "crlnumber"), faults)
    certificates: dict[int, tuple[str, x509.Certificate]] = {}
    strange, left_out = set[tuple[int, datetime]](), dict[bytes, str]()
    for file, cert in scanned_files.certificates:
        if why := _strange(ca, cert):
            strange.add((cert.serial_number, cert.not_valid_after_utc))
            if why.code is not Why.CA_ITSELF:
                left_out.setdefault(cert.fingerprint(hashes.SHA256()), f"{file}: {why}")
        elif certificates.setdefault(cert.serial_number, (file, cert))[1] != cert:
            first = certificates[cert.serial_number][0]
            faults.append(f"{file}: serial {cert.serial_number:02X} is that of another certificate too, in {first}")
    crls = [crl for _, crl in scanned_files.crls if has_signed(ca.certificate, crl)]
    _check_found(
        ca, scanned_files, shown, faults=[*scanned_files.faults, *faults], is_its_own=bool(certificates or crls)
    )
    others = [f"{file}: is a CRL that {ca.name} did not sign" for file, crl in scanned_files.crls if crl not in crls]
    rows = [row for row in rows if (row.serial, row.end) not in strange or row.serial in certificates]
    zero = [
        f"{shown}: line {row.line} of index.txt has serial 00, which no CRL can list" for row in rows if not row.serial
    ]
    return _Shelf(certificates, crls, [row for row in rows if row.serial], number, [*left_out.values(), *others, *zero])


def _strange(ca: Generation, cert: x509.Certificate) -> Reason | None:
    """Why a certificate is none of those that the CA issued to others; None when it is one."""
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


def _check_found(
    ca: Generation, scanned_files: ScannedFiles, shown: str, *, faults: list[str], is_its_own: bool
) -> None:
    if faults:
        raise PkiError(
            "\n".join(["nothing was taken in, because of what is wrong there:", *faults]),
            "fix it, then type the same line again",
        )
    if not is_its_own:
        there = (
            f"{len(scanned_files.certificates)} certificates are there"
            if scanned_files.certificates
            else "no certificate is there"
        )
        raise PkiError(
            f"{shown}: holds nothing that {ca.name} signed ({ca.certificate.subject.rfc4514_string()}); {there}",
            "name the folder with its index.txt, or with the certificates that it issued",
        )


def _check_same_ca(ca: Generation, known: list[Issued]) -> None:
    """A name stands for one CA for ever: its revocations are looked up by it."""
    first = next((one for one in known if one.pem), None)
    if first and not has_signed(ca.certificate, x509.load_pem_x509_certificate(first.pem.encode())):
        raise PkiError(
            f"{ca.name}: another CA has this name in the ledger, one that issued {first.artifact}",
            "adopt this one under another name in pki.yaml",
        )


def _certificates(ca: Generation, shelf: _Shelf, known: list[Issued]) -> Iterator[Issued]:
    """What the ledger lacks, oldest first: certificates, and rows of the index whose certificate is not there."""
    recorded, taken = {one.serial for one in known}, {one.artifact for one in known}
    new = [_of_certificate(ca.name, file, cert) for file, cert in shelf.certificates.values()]
    new += [_of_row(ca, row) for row in shelf.rows if row.serial not in shelf.certificates]
    for plain, issued in sorted(new, key=lambda pair: (pair[1].not_before, pair[1].serial)):
        if issued.serial not in recorded:
            artifact = naming.artifact(ca.name, plain, issued.serial, taken)
            taken.add(artifact)
            yield naming.renamed(issued, artifact)


def _of_certificate(name: str, file: str, cert: x509.Certificate) -> tuple[str, Issued]:
    names = naming.alternative_names(cert)
    issued = Issued(
        serial=cert.serial_number,
        issuer=GenerationName.parse(name),
        artifact=UNNAMED,
        profile=naming.profile(cert),
        subject=cert.subject.rfc4514_string(),
        names=names,
        not_before=cert.not_valid_before_utc,
        not_after=cert.not_valid_after_utc,
        reason="taken in: the adopted authority issued it",
        revoked="",
        pem=cert.public_bytes(Encoding.PEM).decode(),
    )
    return naming.common_name(cert) or next(iter(names), "") or Path(file).stem, issued


def _of_row(ca: Generation, row: openssl_index.Row) -> tuple[str, Issued]:
    issued = Issued(
        serial=row.serial,
        issuer=GenerationName.parse(ca.name),
        artifact=UNNAMED,
        profile="unknown",
        subject=row.subject,
        names=(),
        not_before=min(ca.certificate.not_valid_before_utc, row.end),
        not_after=row.end,
        reason="taken in from index.txt alone: its certificate is not there",
        revoked="",
        pem="",
    )
    return row.common_name, issued


# -- the last CRL -----------------------------------------------------------------------------------------------------


def _number(path: Path, shown: str, faults: list[str]) -> int:
    """The number of the last CRL, as `crlnumber` tells it: that file holds the next one."""
    text = (filesystem.read(path) or b"").decode(errors="replace").strip()
    if not text:
        return 0
    try:
        return max(int(text, 16) - 1, 0)
    except ValueError:
        faults.append(f"{shown}:1: expected a number in hexadecimal, got {text!r}")
        return 0


def _last_crl(shelf: _Shelf) -> LastCrl | None:
    """The newest CRL; where there is none, what is known of its number."""
    newest = max(shelf.crls, key=lambda crl: crl.last_update_utc, default=None)
    number = max([shelf.number, *(import_ca_revocations.number(crl) for crl in shelf.crls)])
    if number >= COUNTABLE:
        raise PkiError(
            f"the number of the last CRL, {number}, is more than the ledger can count",
            "no CRL with a higher number can be made: keep issuing this authority's CRLs where you do now",
        )
    if newest is None:
        return LastCrl(number, NEVER, NEVER, 0, "taken in: the number that crlnumber tells", "") if number else None
    return LastCrl(
        number=number,
        this_update=newest.last_update_utc,
        next_update=newest.next_update_utc or NEVER,
        entries=len(newest),
        reason="taken in: the newest of those that the adopted authority issued",
        pem=newest.public_bytes(Encoding.PEM).decode(),
    )
