"""Check that the CRL lists a revoked certificate, and which hosts have the release with that CRL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pki.authority import crls
from pki.common.cache import Cache
from pki.common.errors import ErrorCode, PkiError
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.ledger.types import Issued
from pki.monitor import forecast
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.plan import Plan
from pki.project.authorities import Authorities
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """What a run published: artifacts that failed, each with its code, and the hosts that have their newest release."""

    failures: Mapping[str, ErrorCode]
    delivered: frozenset[str]


def check(project: Project, revoked: Sequence[Issued], failures: Mapping[str, ErrorCode]) -> PublicationResult:
    """Read back what a run left in `build/` after a revocation.

    `failures` are the failures that the run reported; `project` was opened after the run. An aborted run reports nothing,
    so a missing failure proves nothing: the CRLs, releases and receipts are read.
    """
    unlisted: dict[str, ErrorCode] = dict.fromkeys(_unlisted(project, revoked), ErrorCode.OTHER)
    try:
        plan = pipeline_plan.plan(project)
    except PkiError as error:
        return PublicationResult({**unlisted, **failures, "doit": error.code}, frozenset())
    delivered = [] if unlisted else _delivered(project.cache, plan)  # no host can have a CRL that does not exist
    return PublicationResult({**unlisted, **failures}, frozenset(delivered))


def root_that_revoked(inventory: Inventory, authorities: Authorities, name: str) -> str:
    """Return the root whose CRLs list the intermediate `name`; "" if it is not revoked, or is an adopted CA."""
    intermediate = authorities.generation(name)
    if intermediate is None or inventory.authorities.is_adopted(name):
        return ""
    if not authorities.is_revoked_by_root(intermediate):
        return ""
    root = authorities.root_of(intermediate.certificate)
    return root.name if root else ""


def _unlisted(project: Project, revoked: Sequence[Issued]) -> Iterator[ArtifactId]:
    """Yield the CRLs that cannot be read, or do not list a certificate that they must list.

    An intermediate that is itself revoked issues no CRL any more: the CRL of its root must list the intermediate.
    """
    expected_serials: dict[str, set[int]] = {}
    for certificate in revoked:
        if root := root_that_revoked(project.inventory, project.authorities, certificate.issuer):
            intermediate = project.authorities.existing(certificate.issuer)
            expected_serials.setdefault(root, set()).add(intermediate.certificate.serial_number)
        else:
            expected_serials.setdefault(certificate.issuer, set()).add(certificate.serial)
    for issuer, serials in sorted(expected_serials.items()):
        try:
            crl = crls.Crls(project).published_crl(issuer, ignore_cache=True)
            if crl is None or not all(map(crl.get_revoked_certificate_by_serial_number, serials)):
                yield ArtifactId("crl", issuer)
        except (PkiError, ValueError):
            yield ArtifactId("crl", issuer)


def _delivered(cache: Cache, plan: Plan) -> Iterator[str]:
    """Yield the hosts whose release is up to date and whose receipt is for that release."""
    due_artifacts = {artifact.id for artifact, _ in forecast.due_artifacts(plan)}
    for host, delivery in plan.deliveries.items():
        if ArtifactId("release", host) not in due_artifacts and not delivery.is_behind(cache):
            yield host
