"""What of an open request is no longer as pki.yaml has it: such a request is made again, and not held."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pki.ceremony.online.crl_schedule import presigned_crls
from pki.ceremony.online.needs import OVERLAP
from pki.ceremony.request_response import AskedIntermediate, Request, RequestedSeries
from pki.common.reasons import Reason, Why
from pki.config.leaf_certificates import permitted_addresses
from pki.project.project import Project
from pki.x509 import certificate_signing

ROUNDING = timedelta(seconds=2)  # a request has whole seconds


def changed(project: Project, request: Request) -> list[Reason]:
    """Return each change of pki.yaml since a request was prepared that its content depends on, by key."""
    said = project.inventory
    found = [
        Why.REQUEST_CHANGED(field=key, before=was, after=now)
        for key, was, now in (
            ("organisation", request.organisation, said.organisation),
            ("publish.url", request.publish, said.publish.url),
            ("sandbox", str(request.sandbox).lower(), str(said.sandbox).lower()),
        )
        if was != now
    ]
    permitted = tuple(said.domains), tuple(permitted_addresses(said))
    if any((one.domains, one.addresses) != permitted for one in request.intermediates):
        found.append(Why.REQUEST_PERMITTED())
    keys = [*_roots(project, request), *_intermediates(project, request), *_crl_series(project, request)]
    return found + [Why.REQUEST_SETTING(field=f"authorities.{key}") for key in dict.fromkeys(keys)]


def _roots(project: Project, request: Request) -> Iterator[str]:
    rule = project.inventory.authorities.root
    for root in request.roots:
        if root.key != rule.key:
            yield "root.key"
        if not _agree(
            (root.not_before, root.not_after), certificate_signing.validity_dates(request.prepared, rule.lifetime, None)
        ):
            yield "root.lifetime"


def _intermediates(project: Project, request: Request) -> Iterator[str]:
    """Keys of pki.yaml; a life that is cut to that of the issuer is no change."""
    for one in request.intermediates:
        start, end = certificate_signing.validity_dates(
            request.prepared, project.inventory.authorities.intermediate(one.authority).lifetime, None
        )
        first, last = _life(project, request, one)
        if not _agree((one.not_before, one.not_after), (max(start, first), min(end, last))):
            yield f"{one.authority}.lifetime"


def _life(project: Project, request: Request, one: AskedIntermediate) -> tuple[datetime, datetime]:
    made = {root.name: (root.not_before, root.not_after) for root in request.roots}
    if one.issuer in made:
        return made[one.issuer]
    cert = project.existing(one.issuer).certificate
    return cert.not_valid_before_utc, cert.not_valid_after_utc


def _crl_series(project: Project, request: Request) -> Iterator[str]:
    rule, new_roots = project.inventory.authorities.root.crl, {root.name: root.not_after for root in request.roots}
    for series in request.crl_series:
        if any(
            not _agree((presigned_crl.next_update,), (presigned_crl.this_update + rule.lifetime,))
            for presigned_crl in series.presigned_crls
        ):
            yield "root.crl.lifetime"
        elif series.root in new_roots:
            if len(series.presigned_crls) != len(
                list(presigned_crls(project, series.root, None, 0, new_roots[series.root]))
            ):
                yield "root.crl.pre-signed CRLs"
        elif not new_roots and _is_short(project, request, series):
            yield "root.crl.pre-signed CRLs"


def _is_short(project: Project, request: Request, series: RequestedSeries) -> bool:
    """Whether the CRLs of the root that goes on end before their goal; those that follow earlier ones may be more."""
    rule, present = project.inventory.authorities.root.crl, project.issuing("root")
    if present is None or present.name != series.root or series.root in request.destroy:
        return False
    goal = min(request.prepared + rule.presigned * (rule.lifetime - OVERLAP), present.certificate.not_valid_after_utc)
    return series.presigned_crls[-1].next_update + ROUNDING < goal


def _agree(dates: tuple[datetime, ...], others: tuple[datetime, ...]) -> bool:
    return all(abs(one - other) <= ROUNDING for one, other in zip(dates, others, strict=True))
