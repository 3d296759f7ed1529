"""Describe a request in plain words, for the operator to read aloud before confirming it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pki.ceremony.request_response import Request, RequestedIntermediate, RequestedSeries
from pki.ceremony.vault_contents import VaultContents
from pki.x509 import keys

PURPOSES = {
    "server": "certificates of servers",
    "client": "certificates of clients",
    "peer": "certificates of servers and of clients",
}


def in_paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines with an empty line before each item. The first line of an item is not indented, its other lines are."""
    for line in lines:
        if not line.startswith(" "):
            yield ""
        yield line


def root_lines(request: Request) -> Iterator[str]:
    """Yield what `ceremony.root` will do."""
    for root in request.roots:
        yield f"make {root.name}, “{root.common_name}”: a new {root.key} key and a certificate for it"
        yield f"  valid {root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}"
        if root.domains:
            yield "  a root for clusters alone: nobody else trusts it"
            yield f"  for names under {', '.join(root.domains)}; for addresses in {', '.join(map(str, root.addresses)) or 'none'}"


def signature_lines(request: Request, contents: VaultContents) -> Iterator[str]:
    """Yield what `ceremony.sign` will do."""
    for intermediate in request.intermediates:
        yield from _intermediate(request, intermediate, contents)
    for cross in request.cross_certificates:
        yield f"certify the key of {cross.name} with {cross.issuer}, for those who trust only {cross.issuer}"
        yield f"  valid {cross.not_before:%Y-%m-%d} to {cross.not_after:%Y-%m-%d}"
    for series in request.crl_series:
        yield from _series(series, contents)
    for name in request.destroy:
        yield f"DESTROY the key of {name}, here and for ever; its certificate stays"


def _intermediate(request: Request, intermediate: RequestedIntermediate, contents: VaultContents) -> Iterator[str]:
    """Describe an intermediate, and how its permitted names differ from those of the generation before."""
    yield f"certify {intermediate.name}, “{intermediate.common_name}”, with {intermediate.issuer}: it may sign {PURPOSES[intermediate.purpose]}"
    if intermediate.is_external:
        yield "  its key is NOT in this project: another server has it, and decides alone what it signs"
    yield f"  valid {intermediate.not_before:%Y-%m-%d} to {intermediate.not_after:%Y-%m-%d}"
    yield f"  for names under {', '.join(intermediate.domains)}; for addresses in {', '.join(map(str, intermediate.addresses)) or 'none'}"
    yield f"  CRLs and certificates are published at {request.publish}"
    yield f"  its key: SHA-256 {keys.key_fingerprint(keys.read_request_key(intermediate.request.encode(), intermediate.name))}"
    previous = _previous_generation(intermediate, contents)
    if previous is None:
        return
    for what, old_value, new_value in (
        ("names", previous.domains, intermediate.domains),
        ("addresses", previous.addresses, intermediate.addresses),
    ):
        added = [str(item) for item in new_value if item not in old_value]
        removed = [str(item) for item in old_value if item not in new_value]
        if added or removed:
            parts = [f"MORE {what}: {', '.join(added)}"] if added else []
            parts += [f"fewer {what}: {', '.join(removed)}"] if removed else []
            yield f"  against {previous.name}: {'; '.join(parts)}"


def _previous_generation(intermediate: RequestedIntermediate, contents: VaultContents) -> RequestedIntermediate | None:
    """Return the previous generation as it was requested, or None."""
    earlier_requests = [requested for past in contents.history for requested in past.request.intermediates]
    return next(
        (requested for requested in reversed(earlier_requests) if requested.authority == intermediate.authority), None
    )


def _series(series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Describe the CRLs of a root, with new revocations in capitals."""
    first_crl, last_crl = series.presigned_crls[0], series.presigned_crls[-1]
    count = f"{len(series.presigned_crls)} CRLs" if len(series.presigned_crls) > 1 else "one CRL"
    yield f"sign {count} of {series.root}, good from {first_crl.this_update:%Y-%m-%d} to {last_crl.next_update:%Y-%m-%d}"
    earlier_series = contents.last_series(series.root)
    listed_serials = {entry.serial for entry in earlier_series.revoked} if earlier_series else set[int]()
    for entry in series.revoked:
        prefix = "" if entry.serial in listed_serials else "REVOKE "
        yield f"  listing {prefix}{entry.generation}, serial {entry.serial:x}, since {entry.at:%Y-%m-%d}: {entry.reason}"
    if earlier_series:
        yield "  they replace every earlier CRL of it; earlier ones that have not begun must be destroyed"
