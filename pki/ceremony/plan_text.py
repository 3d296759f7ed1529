"""A request in plain words: what an operator reads aloud before confirming it."""

from __future__ import annotations

from collections.abc import Iterator

from pki.ceremony.policy import Known
from pki.ceremony.request_response import AskedIntermediate, Request, RequestedSeries
from pki.x509 import keys

PURPOSES = {"server": "certificates of servers", "client": "certificates of clients"}


def roots(request: Request) -> Iterator[str]:
    """What `ceremony.root` will do."""
    for root in request.roots:
        yield f"make {root.name}, “{root.common_name}”: a new {root.key} key and a certificate for it"
        yield f"  valid {root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}"


def signatures(request: Request, known: Known) -> Iterator[str]:
    """What `ceremony.sign` will do."""
    for one in request.intermediates:
        yield from _intermediate(request, one, known)
    for cross in request.cross_certificates:
        yield f"certify the key of {cross.name} with {cross.issuer}, for those who trust only {cross.issuer}"
        yield f"  valid {cross.not_before:%Y-%m-%d} to {cross.not_after:%Y-%m-%d}"
    for series in request.crl_series:
        yield from _series(series, known)
    for name in request.destroy:
        yield f"DESTROY the key of {name}, here and for ever; its certificate stays"


def _intermediate(request: Request, one: AskedIntermediate, known: Known) -> Iterator[str]:
    yield f"certify {one.name}, “{one.common_name}”, with {one.issuer}: it may sign {PURPOSES[one.authority]}"
    yield f"  valid {one.not_before:%Y-%m-%d} to {one.not_after:%Y-%m-%d}"
    yield f"  for names under {', '.join(one.domains)}; for addresses in {', '.join(map(str, one.addresses)) or 'none'}"
    yield f"  CRLs and certificates are published at {request.publish}"
    yield f"  its key: SHA-256 {keys.key_fingerprint(keys.read_request_key(one.request.encode(), one.name))}"
    before = _before(one, known)
    if before is None:
        return
    for what, old, new in (("names", before.domains, one.domains), ("addresses", before.addresses, one.addresses)):
        more = [str(item) for item in new if item not in old]
        less = [str(item) for item in old if item not in new]
        if more or less:
            parts = [f"MORE {what}: {', '.join(more)}"] if more else []
            parts += [f"fewer {what}: {', '.join(less)}"] if less else []
            yield f"  against {before.name}: {'; '.join(parts)}"


def _before(one: AskedIntermediate, known: Known) -> AskedIntermediate | None:
    """The generation before, as it was asked for."""
    earlier = [asked for past in known.history for asked in past.request.intermediates]
    return next((asked for asked in reversed(earlier) if asked.authority == one.authority), None)


def _series(series: RequestedSeries, known: Known) -> Iterator[str]:
    first, last = series.presigned_crls[0], series.presigned_crls[-1]
    count = f"{len(series.presigned_crls)} CRLs" if len(series.presigned_crls) > 1 else "one CRL"
    yield f"sign {count} of {series.root}, good from {first.this_update:%Y-%m-%d} to {last.next_update:%Y-%m-%d}"
    earlier = known.last_series(series.root)
    listed = {one.serial for one in earlier.revoked} if earlier else set[int]()
    for one in series.revoked:
        new = "" if one.serial in listed else "REVOKE "
        yield f"  listing {new}{one.generation}, serial {one.serial:x}, since {one.at:%Y-%m-%d}: {one.reason}"
    if earlier:
        yield "  they replace every earlier CRL of it; earlier ones that have not begun must be destroyed"
