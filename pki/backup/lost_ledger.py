"""A ledger of which events are lost for good: what is known elsewhere is recovered, and the loss is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509

from pki.backup import restore
from pki.common import filesystem
from pki.common.errors import LedgerError, PkiError
from pki.config.identifiers import AUTHORITIES
from pki.ledger.types import EMPTY, MISSING, OLDER, UNKNOWN_AUTHORITIES, Head, LedgerFault
from pki.project.project import Project

ACCEPTABLE = {MISSING, EMPTY, OLDER, UNKNOWN_AUTHORITIES}


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the ledger goes on without, and what it learnt: generations, and serial numbers of revocations."""

    lost: list[Head]
    authorities: list[str]
    revocations: list[str]


def acceptable(project: Project) -> LedgerFault:
    """Return what is lost. Raises PkiError where nothing is, or where accepting it would be wrong."""
    fault = project.ledger_fault
    if fault is None:
        raise PkiError("the ledger lacks nothing that was seen", "nothing is left to do: ./run doit")
    if fault.kind not in ACCEPTABLE:
        raise LedgerError.of(fault)
    return fault


def accept(project: Project, why: str) -> Accepted:
    """Let the ledger go on without what it lost, which `why` is recorded with.

    First it is created where it is missing, and learns the authorities of `ca/` and what the CRLs in `build/` revoke.
    Killed anywhere, it can be begun again.
    """
    fault = acceptable(project)
    if is_new := fault.kind in {MISSING, EMPTY}:
        project.ledger.begin_again()
        project.forget_ledger_state()
    lost = list(project.guard.seen) if is_new else project.guard.lost_heads()
    unknown = list(_unknown(project))
    project.ledger.record_known(unknown, reason=f"recorded again: {why}", at=project.now)
    _, revocations = restore.carry_revocations(project)
    project.ledger.record_acceptance(lost, why, at=project.now)
    project.forget_ledger_state()
    return Accepted(lost, list(dict.fromkeys(name for _, name, _ in unknown)), revocations)


def accept_if_covered(project: Project) -> bool:
    """Let a ledger go on that lacks events, and holds as many revocations as were seen; returns whether it does.

    Every CRL that is known anywhere was read for it.
    """
    project.forget_ledger_state()
    if project.ledger_fault is None or project.ledger_fault.kind != OLDER or project.guard.has_unrecorded_crls:
        return False
    lost = project.guard.lost_heads()
    held, seen = project.ledger.counts()[1], lost[-1].revocations if lost else None
    if seen is None or held < seen:
        return False
    project.ledger.record_acceptance(lost, f"recovered: {held} revocations are known, {seen} were seen", at=project.now)
    project.forget_ledger_state()
    return project.ledger_fault is None


def _unknown(project: Project) -> Iterator[tuple[x509.Certificate, str, str]]:
    """Every certificate of an authority in `ca/` that the ledger lacks, with the names of its generation and issuer."""
    for name in (name for authority in AUTHORITIES for name in project.store.generations(authority)):
        with suppress(PkiError):  # a damaged certificate: said where the authority is read
            if (found := project.generation(name)) is None:
                continue
            root = project.root_of(found.certificate)
            there = [(found.certificate, root.name if root else "")]
            for path in project.store.cross_certificates(name):
                cross = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
                there.append((cross, path.stem.removeprefix("cross-")))
            for cert, issuer in there:
                if not project.ledger.certificates(serial=cert.serial_number):
                    yield cert, name, issuer
