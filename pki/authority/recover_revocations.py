"""Recover revocations that the ledger lost, from CRLs and from older ledgers. A revocation is never undone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import ALL_AUTHORITIES
from pki.config.model import Inventory
from pki.ledger.types import CertificateQueries, Ledger, RecoveredRevocations, Revocation
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical
from pki.x509.certificate_signing import ca_public_key
from pki.x509.pem_encoding import pem_of


def signer_of(
    inventory: Inventory, store: Store, authorities: Authorities, crl: x509.CertificateRevocationList
) -> Generation | None:
    """Return the generation of this project, or the adopted CA, that signed a CRL; None for any other CRL."""
    own_names = [name for authority in ALL_AUTHORITIES for name in store.generations(authority)]
    for generation in filter(None, map(authorities.generation, [*own_names, *inventory.authorities.adopted])):
        certificate = generation.certificate
        if certificate.subject == crl.issuer and canonical.is_signed_by(crl, ca_public_key(certificate)):
            return generation
    return None


def recover_from_crl(project: Project, crl: x509.CertificateRevocationList, source: str) -> RecoveredRevocations | None:
    """Record the revocations that a CRL lists and the ledger lacks, and the number of the CRL.

    Returns None for a CRL that no CA of the project signed. If only the serial number of a certificate is known, its
    record says that it expires with its CA.
    """
    issuer = signer_of(project.inventory, project.store, project.authorities, crl)
    if issuer is None or crl.next_update_utc is None:
        return None
    recovered = project.ledger.recovery.record_crl(
        crl, issuer=issuer.name, default_expiry=issuer.not_after, source=source, at=project.now
    )
    if issuer.name.is_root:
        _file_presigned_crl(project.store, project.now, project.authorities, issuer.name, recovered.number, crl)
    return recovered


def _file_presigned_crl(
    store: Store, now: datetime, authorities: Authorities, root: str, number: int, crl: x509.CertificateRevocationList
) -> None:
    """Store a root's CRL as a pre-signed CRL if it is newer than the present one, because no run can sign it again."""
    presigned_crls = authorities.presigned_crls(root)
    stored_numbers = {presigned.number for presigned in presigned_crls}
    present_numbers = [presigned.number for presigned in presigned_crls if presigned.this_update <= now]
    if number not in stored_numbers and number > max(present_numbers, default=0):
        filesystem.write(store.authority_file(root, "crl") / f"{number}.pem", pem_of([crl]))


# -- from older ledgers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BackupCa:
    """A CA of the backup.

    `adopted_path` is the path of the certificate of an adopted CA, relative to the project; "" for a CA of the project.
    """

    certificate: x509.Certificate
    adopted_path: str = ""

    def is_in(self, ledger: CertificateQueries, home: Path) -> bool:
        """Return whether an older ledger, of the project in `home`, contains this CA.

        The name of the CA does not show it, because another CA may have the same name.
        """
        if self.adopted_path:
            path = home / self.adopted_path
            # a ledger does not contain the certificate of an adopted CA: without the file, the name decides
            return not path.is_file() or _is_same_certificate(filesystem.read(path) or b"", self.certificate)
        issued = ledger.certificates(serial=self.certificate.serial_number)
        return any(_is_same_certificate(certificate.pem.encode(), self.certificate) for certificate in issued)


def _is_same_certificate(pem: bytes, certificate: x509.Certificate) -> bool:
    with suppress(ValueError):
        return x509.load_pem_x509_certificate(pem) == certificate
    return False


def recover_from_ledgers(
    folder: Path, cas: Mapping[str, BackupCa], older_ledgers: Sequence[Path], detail: str, now: datetime
) -> tuple[list[int], list[PkiError]]:
    """Record in the ledger in `folder` the revocations of older ledgers, and that the project was restored.

    Returns the serial numbers that were recorded, and an error for each ledger that cannot be read.
    """
    ledger, serials, read_errors = _open(folder), list[int](), list[PkiError]()
    try:
        for path in older_ledgers:
            project_folder = path.parent.parent.name
            # PROJECT/ca.before-restore-TIME/ca/ledger.db, or PROJECT/ca/ledger.db
            source = f"{project_folder}/ca/ledger.db" if project_folder.startswith("ca.") else "ca/ledger.db"
            try:
                revoked = _revoked(path, cas)
            except (PkiError, OSError, ValueError, TypeError) as error:
                why = error.message if isinstance(error, PkiError) else str(error)
                read_errors.append(PkiError(f"{source}: cannot be read: {why}", "./run invoke ledger.recover --all"))
                continue
            for issuer, revocations in revoked.items():
                serials += ledger.recovery.record_older_revocations(revocations, issuer=issuer, source=source, at=now)
        ledger.record_decision("project", "restored", detail, now)
    finally:
        ledger.close()
    return serials, read_errors


def _revoked(path: Path, cas: Mapping[str, BackupCa]) -> dict[str, list[Revocation]]:
    """Return all revocations in an older ledger, by the name of the CA.

    Those of expired certificates are included: a wrong clock must not decide which certificates have expired.
    """
    with copied_ledger(path) as folder:
        ledger = _open(folder, is_copy=True)
        try:
            if ledger.newest_event() is None:
                raise PkiError("the ledger is empty")
            return {name: ledger.revocations(name) for name, ca in cas.items() if ca.is_in(ledger, path.parent.parent)}
        finally:
            ledger.close()


@contextmanager
def copied_ledger(path: Path) -> Iterator[Path]:
    """Yield a folder with a copy of a ledger and of its write-ahead log, because opening a ledger changes it."""
    if not path.is_file():
        raise PkiError(f"{path.name}: is not a file")
    with tempfile.TemporaryDirectory() as scratch:
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.is_file():
                shutil.copyfile(file, Path(scratch) / file.name)
        yield Path(scratch)


def _open(folder: Path, *, is_copy: bool = False) -> Ledger:
    from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes long to import

    return SqlLedger("sqlite", folder, is_copy=is_copy)
