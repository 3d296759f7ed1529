"""Accept a ledger whose events are lost for good: recover what is known elsewhere, and record the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509

from pki.backup import restore
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.ledger.types import EMPTY, MISSING, OLDER, UNKNOWN_AUTHORITIES, Head, LedgerFault
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.project.project import Project

ACCEPTABLE = {MISSING, EMPTY, OLDER, UNKNOWN_AUTHORITIES}


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """The events that the ledger lost, and what was recorded again: generations, and serial numbers of revocations."""

    lost: list[Head]
    authorities: list[str]
    revocations: list[str]


def acceptable(ledger_view: LedgerView) -> LedgerFault:
    """Return the loss of the ledger. Raises PkiError if nothing is lost, or if the fault must not be accepted."""
    fault = ledger_view.fault
    if fault is None:
        raise PkiError("the ledger lacks no event that was seen", "nothing to accept: ./run doit")
    if fault.kind not in ACCEPTABLE:
        raise fault.error
    return fault


def accept(project: Project, why: str) -> AcceptedLoss:
    """Record the loss in the ledger, with the reason `why`, so that it can be used again.

    Before that, creates the ledger if it is missing, and records the authorities in `ca/` and the revocations in published
    CRLs. It can be repeated after it was killed.
    """
    fault = acceptable(project.ledger_view)
    if is_new := fault.kind in {MISSING, EMPTY}:
        project.ledger.recovery.create_empty()
        project.forget_ledger_state()
    lost = list(project.ledger_view.guard.observed_heads) if is_new else project.ledger_view.guard.lost_heads()
    authorities = list(_unrecorded_authorities(project.store, project.authorities, project.ledger_view))
    project.ledger.recovery.record_authorities(authorities, reason=f"recorded again: {why}", at=project.now)
    _, revocations = restore.recover_from_published_crls(project)
    project.ledger.recovery.record_acceptance(lost, why, at=project.now)
    project.forget_ledger_state()
    return AcceptedLoss(lost, list(dict.fromkeys(name for _, name, _ in authorities)), revocations)


def accept_if_covered(project: Project) -> bool:
    """Accept a ledger that lacks events but records as many revocations as were seen; return whether it can be used.

    The caller has read every known CRL before.
    """
    project.forget_ledger_state()
    fault = project.ledger_view.fault
    if fault is None or fault.kind != OLDER or project.ledger_view.guard.has_unrecorded_crls:
        return False
    lost = project.ledger_view.guard.lost_heads()
    recorded_count = project.ledger.counts().revocations
    expected_count = lost[-1].revocations if lost else None
    if expected_count is None or recorded_count < expected_count:
        return False
    project.ledger.recovery.record_acceptance(
        lost, f"recovered: {recorded_count} revocations are recorded, {expected_count} were seen", at=project.now
    )
    project.forget_ledger_state()
    return project.ledger_view.fault is None


def _unrecorded_authorities(
    store: Store, authorities: Authorities, ledger_view: LedgerView
) -> Iterator[tuple[x509.Certificate, str, str]]:
    """Yield each authority certificate in `ca/` that the ledger lacks, with the names of its generation and issuer."""
    for name in (name for authority in store.authorities() for name in store.generations(authority)):
        with suppress(PkiError):  # a damaged certificate is reported where the authority is read
            if (generation := authorities.generation(name)) is None:
                continue
            root = authorities.root_of(generation.certificate)
            certificates = [(generation.certificate, root.name if root else "")]
            for path in store.cross_certificates(name):
                cross = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
                certificates.append((cross, path.stem.removeprefix("cross-")))
            for cert, issuer in certificates:
                if not ledger_view.ledger.certificates(serial=cert.serial_number):
                    yield cert, name, issuer
