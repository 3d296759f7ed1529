"""What became of a revocation: whether its CRL lists it, and which hosts have all that followed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pki.authority import crls
from pki.common import filesystem
from pki.common.errors import ErrorCode, PkiError
from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued
from pki.monitor import forecast
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.plan import Plan
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Published:
    """`failures` are what went wrong: artifacts, each with a code. `delivered` are the hosts that took their newest release."""

    failures: Mapping[str, ErrorCode]
    delivered: frozenset[str]


def check(project: Project, going: Sequence[Issued], failures: Mapping[str, ErrorCode]) -> Published:
    """Read back what a run left; `failures` are those that it reported, `project` was opened after it.

    A run that broke off reports nothing, so silence is no evidence: CRLs, releases and receipts are.
    """
    unlisted: dict[str, ErrorCode] = dict.fromkeys(_unlisted(project, going), ErrorCode.OTHER)
    try:
        plan = pipeline_plan.plan(project)
    except PkiError as error:
        return Published({**unlisted, **failures, "doit": error.code}, frozenset())
    return Published({**unlisted, **failures}, frozenset() if unlisted else frozenset(_delivered(project, plan)))


def _unlisted(project: Project, going: Sequence[Issued]) -> Iterator[ArtifactId]:
    """The CRLs that do not list what they must, or cannot be read."""
    for issuer in sorted({one.issuer for one in going}):
        try:
            entries = crls.signed_crl(project, issuer, filesystem.read(project.store.crl(issuer)) or b"", again=True)
            serials = [one.serial for one in going if one.issuer == issuer]
            if entries is None or not all(map(entries.get_revoked_certificate_by_serial_number, serials)):
                yield ArtifactId("crl", issuer)
        except (PkiError, ValueError):
            yield ArtifactId("crl", issuer)


def _delivered(project: Project, plan: Plan) -> Iterator[str]:
    """Hosts for whose release nothing is to be made any more, and whose receipt is of that release."""
    due = {artifact.name for artifact, _ in forecast.forecast(plan)}
    for host, delivery in plan.deliveries.items():
        if ArtifactId("release", host) not in due and not delivery.is_behind(project.cache):
            yield host
