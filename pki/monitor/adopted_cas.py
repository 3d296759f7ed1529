"""Adopted CAs: which of their certificates are still valid, and which expire soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pki.authority import crls
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.ledger.types import Issued
from pki.pipeline.plan import Plan
from pki.project.authorities import Authorities
from pki.project.ledger_view import LedgerView

SOON = timedelta(days=30)
THIS_MONTH_AND_SOON = timedelta(days=31) + SOON
NAMED = 5  # certificates that one note lists
REMEDY = "declare the service that uses it in pki.yaml (docs/how-to/adopt.md), or: ./run invoke revoke {} --reason superseded"


class ExpiringCertificate(NamedTuple):
    """A certificate of an adopted CA that expires soon."""

    artifact: str
    expiry: datetime
    names: tuple[str, ...]


def notes(
    inventory: Inventory, now: datetime, authorities: Authorities, ledger_view: LedgerView, plan: Plan
) -> Iterator[Notice]:
    """Yield a notice for each adopted CA that expired, or of whose certificates some expire soon."""
    for name in inventory.authorities.adopted:
        end = expiry_of(authorities, name)
        if end and end < now:
            remedy = "remove it, and the files that deploy its CRL, from pki.yaml and templates/"
            yield Notice(
                ArtifactId("authority", name), f"expired on {end:%Y-%m-%d}; its CRL is no longer issued", remedy
            )
        elif soon := _expiring(now, ledger_view, name, plan):
            shown = ", ".join(
                f"{certificate.artifact} on {certificate.expiry:%Y-%m-%d}" for certificate in soon[:NAMED]
            )
            more = f" and {len(soon) - NAMED} more" if len(soon) > NAMED else ""
            text = f"certificates of this CA expire soon: {shown}{more}"
            yield Notice(ArtifactId("authority", name), text, REMEDY.format(soon[0].artifact))


def summary(now: datetime, ledger_view: LedgerView, name: str) -> str:
    """Return in one phrase what is left of an adopted CA."""
    valid = _valid(now, ledger_view, name)
    if not valid:
        is_imported = ledger_view.has_ledger and ledger_view.ledger.has_issuance_records(name)
        left = "no certificate of it is valid any more" if is_imported else "its issuance records are not imported yet"
        return f"adopted: signs CRLs only; {left}"
    first = f"the next expires on {valid[0].not_after:%Y-%m-%d} ({valid[0].artifact.name})"
    return f"adopted: signs CRLs only; {counted(len(valid), 'valid certificate')}, {first}"


def explain(
    inventory: Inventory, now: datetime, authorities: Authorities, ledger_view: LedgerView, name: str
) -> Iterator[tuple[str, str]]:
    """Explain an adopted CA, as lines of a label and a text."""
    end = expiry_of(authorities, name)
    yield "what", "a CA that was created elsewhere; this project signs its CRLs, and no certificate"
    yield "declared", f"pki.yaml, authorities.{name}; its folder: {inventory.authorities.adopted[name].adopt}"
    yield "state", summary(now, ledger_view, name)
    if end:
        yield "valid until", f"{end:%Y-%m-%d %H:%M} UTC"
    if not ledger_view.has_ledger or not ledger_view.ledger.has_issuance_records(name):
        yield "next", crls.import_remedy(name)
    valid = _valid(now, ledger_view, name)
    if valid:
        yield "revoke it", f"one certificate at a time: ./run invoke revoke {valid[0].artifact}"


def expiry_of(authorities: Authorities, name: str) -> datetime | None:
    """Return when an adopted CA itself expires; None if its folder is invalid."""
    try:
        generation = authorities.generation(name)
    except PkiError:  # the check of its CRL reports it
        return None
    return generation.not_after if generation else None


def _valid(now: datetime, ledger_view: LedgerView, name: str) -> list[Issued]:
    """Return the certificates of an adopted CA that are neither expired nor revoked, next expiry first."""
    certificates = ledger_view.ledger.certificates(expiring_after=now, issuer=name) if ledger_view.has_ledger else []
    return sorted(
        (certificate for certificate in certificates if not certificate.revoked),
        key=lambda certificate: (certificate.not_after, certificate.artifact),
    )


def _expiring(now: datetime, ledger_view: LedgerView, name: str, plan: Plan) -> list[ExpiringCertificate]:
    """Return the certificates that expire soon, except those with a newer certificate or a leaf in this project."""

    def read() -> list[tuple[ArtifactId, int, list[str]]]:
        valid = _valid(now, ledger_view, name)
        last_expiry = {
            certificate.subject: certificate.not_after for certificate in valid
        }  # `valid` is sorted by expiry
        newest = [certificate for certificate in valid if certificate.not_after == last_expiry[certificate.subject]]
        limit = now + THIS_MONTH_AND_SOON
        return [
            (certificate.artifact, int(certificate.not_after.timestamp()), list(certificate.names))
            for certificate in newest
            if certificate.not_after <= limit
        ]

    rows = ledger_view.cached(f"adopted {name}", f"{now:%Y-%m}", read)
    expiring = [
        ExpiringCertificate(artifact, datetime.fromtimestamp(end, UTC), tuple(names)) for artifact, end, names in rows
    ]
    ours = {text for leaf in plan.leaves.values() for text in leaf.names} if expiring else set()
    soon = [certificate for certificate in expiring if now <= certificate.expiry < now + SOON]
    return [certificate for certificate in soon if not certificate.names or not ours.issuperset(certificate.names)]
