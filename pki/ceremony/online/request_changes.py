"""Find settings of pki.yaml that changed since an open request was prepared; such a request is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pki.ceremony.online.crl_schedule import plan_presigned_crls
from pki.ceremony.online.needs import PRESIGNED_CRL_OVERLAP
from pki.ceremony.request_response import Request, RequestedIntermediate, RequestedSeries
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.config.identifiers import GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.config.model import Inventory
from pki.project import external_requests
from pki.project.authorities import Authorities
from pki.x509 import certificate_signing

ROUNDING = timedelta(seconds=2)  # a request has dates in whole seconds


def changed_settings(inventory: Inventory, authorities: Authorities, request: Request) -> list[Reason]:
    """Return a reason for each changed key of pki.yaml that the content of a request depends on."""
    config = inventory
    reasons = [
        Why.REQUEST_CHANGED(field=key, before=was, after=now)
        for key, was, now in (
            ("organisation", request.organisation, config.organisation),
            ("publish.url", request.publish, config.publish.url),
            ("sandbox", str(request.sandbox).lower(), str(config.sandbox).lower()),
        )
        if was != now
    ]
    permitted = tuple(config.domains), tuple(permitted_addresses(config))
    own_intermediates = [intermediate for intermediate in request.intermediates if not intermediate.is_external]
    own_limits = [(requested.domains, requested.addresses) for requested in own_intermediates]
    own_limits += [(root.domains, root.addresses) for root in request.roots if root.domains]
    if any(limits != permitted for limits in own_limits):
        reasons.append(Why.REQUEST_PERMITTED())
    keys = [
        *_roots(inventory, request),
        *_intermediates(inventory, authorities, request),
        *_externals(inventory, authorities, request),
        *_crl_series(inventory, authorities, request),
    ]
    return reasons + [Why.REQUEST_SETTING(field=f"authorities.{key}") for key in dict.fromkeys(keys)]


def _roots(inventory: Inventory, request: Request) -> Iterator[str]:
    """Yield changed keys of the new roots."""
    rule = inventory.authorities.root
    for root in request.roots:
        if root.key != rule.key:
            yield "root.key"
        if not _agree(
            (root.not_before, root.not_after), certificate_signing.validity_dates(request.prepared, rule.lifetime, None)
        ):
            yield "root.lifetime"


def _intermediates(inventory: Inventory, authorities: Authorities, request: Request) -> Iterator[str]:
    """Yield changed keys of the intermediates; a lifetime that ends with the issuer's is not a change."""
    for intermediate in request.intermediates:
        if intermediate.is_external and intermediate.authority not in inventory.authorities.externals:
            continue  # `_externals` reports it
        if intermediate.authority == "peer" and inventory.authorities.peer is None:
            yield "peer"
            continue
        lifetime = inventory.authorities.lifetime(intermediate.authority)
        start, end = certificate_signing.validity_dates(request.prepared, lifetime, None)
        issuer_start, issuer_expiry = _issuer_lifetime(authorities, request, intermediate)
        if not _agree(
            (intermediate.not_before, intermediate.not_after), (max(start, issuer_start), min(end, issuer_expiry))
        ):
            yield f"{intermediate.authority}.lifetime"


def _externals(inventory: Inventory, authorities: Authorities, request: Request) -> Iterator[str]:
    """Yield changed keys of the external authorities: no longer declared, other domains, or another request."""
    for intermediate in (requested for requested in request.intermediates if requested.is_external):
        authority = intermediate.authority
        rule = inventory.authorities.externals.get(authority)
        if rule is None:
            yield authority
            continue
        if rule.domains != intermediate.domains:
            yield f"{authority}.domains"
        try:
            present = external_requests.read(authorities.store.home, rule).pem
        except PkiError:
            present = ""
        if present != intermediate.request:
            yield f"{authority}.external"


def _issuer_lifetime(
    authorities: Authorities, request: Request, intermediate: RequestedIntermediate
) -> tuple[datetime, datetime]:
    new_roots = {root.name: (root.not_before, root.not_after) for root in request.roots}
    if intermediate.issuer in new_roots:
        return new_roots[intermediate.issuer]
    certificate = authorities.existing(intermediate.issuer).certificate
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _crl_series(inventory: Inventory, authorities: Authorities, request: Request) -> Iterator[str]:
    """Yield changed keys of the root CRLs."""
    rule, new_roots = inventory.authorities.root.crl, {root.name: root.not_after for root in request.roots}
    for series in request.crl_series:
        if any(
            not _agree((presigned_crl.next_update,), (presigned_crl.this_update + rule.lifetime,))
            for presigned_crl in series.presigned_crls
        ):
            yield "root.crl.lifetime"
        elif series.root in new_roots:
            planned = plan_presigned_crls(
                authorities, series.root, until=None, previous_number=0, root_expiry=new_roots[series.root]
            )
            if len(series.presigned_crls) != len(list(planned)):
                yield "root.crl.presigned"
        elif not _has_successor(request, series) and _ends_too_early(inventory, authorities, request, series):
            yield "root.crl.presigned"


def _has_successor(request: Request, series: RequestedSeries) -> bool:
    """Return whether a request creates a root that replaces that of a series."""
    return any(root.authority == GenerationName.parse(series.root).authority for root in request.roots)


def _ends_too_early(inventory: Inventory, authorities: Authorities, request: Request, series: RequestedSeries) -> bool:
    """Return whether the CRLs of the signing root end before the configured period; a longer series is no change."""
    rule, root = inventory.authorities.root.crl, authorities.issuing(GenerationName.parse(series.root).authority)
    if root is None or root.name != series.root or series.root in request.destroy:
        return False
    covered_until = min(request.prepared + rule.presigned * (rule.lifetime - PRESIGNED_CRL_OVERLAP), root.not_after)
    return series.presigned_crls[-1].next_update + ROUNDING < covered_until


def _agree(dates: tuple[datetime, ...], others: tuple[datetime, ...]) -> bool:
    """Return whether each date differs from the other date in its place by at most ROUNDING."""
    return all(abs(date - other_date) <= ROUNDING for date, other_date in zip(dates, others, strict=True))
