"""CA rollovers: the generations of the authorities, their CRLs, and which of them issues when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from pki.ceremony.online.needs import ISSUING
from pki.common import filesystem
from pki.common.durations import backdate
from pki.config.identifiers import ALL_AUTHORITIES, ROOTS, GenerationName
from pki.config.model import Inventory
from pki.monitor.timeline.planned_ceremonies import Ceremony, ceremonies, open_request_date
from pki.monitor.timeline.planned_hierarchy import PlannedCa, PlannedHierarchy
from pki.monitor.timeline.renewals import IssuingPeriod
from pki.monitor.timeline.runs import DAY, Runs
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical
from pki.x509.certificate_signing import SECOND


@dataclass(frozen=True, slots=True)
class PlannedPublication:
    """A pre-signed CRL of a root that doit publishes at `at`, valid until `end`."""

    root: str
    at: datetime
    end: datetime
    number: int


class CrlGap(NamedTuple):
    """A time in which a trusted root has no valid CRL; `until` is None if nothing planned ends it."""

    root: str
    since: datetime
    until: datetime | None


@dataclass
class CaRollovers:
    """All rollovers up to `until`.

    `issuing_periods` are the issuers of each authority in the order of time. `crl_gaps` are the times without a valid CRL
    of a root.
    """

    hierarchy: PlannedHierarchy
    runs: Runs
    until: datetime
    ceremonies: list[Ceremony] = field(default_factory=list)
    issuing_periods: dict[str, list[IssuingPeriod]] = field(default_factory=dict)
    presigned_crls: list[PlannedPublication] = field(default_factory=list)
    crl_gaps: list[CrlGap] = field(default_factory=list)

    @classmethod
    def of(cls, project: Project, runs: Runs, until: datetime, *, with_ceremonies: bool = True) -> CaRollovers:
        """Compute all rollovers; without `with_ceremonies`, the first requested ceremony is never performed."""
        rollovers = cls(PlannedHierarchy.of(project), runs, until)
        for authority in ISSUING:
            issuing = rollovers.hierarchy.issuing(authority)
            rollovers.issuing_periods[authority] = [_issuing_period(runs.now - DAY, issuing)] if issuing else []
        since = runs.now
        waiting_since = partial(open_request_date, project.inventory, project.store, project.now, project.authorities)
        for ceremony, after in ceremonies(rollovers.hierarchy, runs, until, waiting_since):
            rollovers.ceremonies.append(ceremony)
            if not with_ceremonies:
                break
            rollovers._add_publications(since, ceremony.performed)
            since, rollovers.hierarchy = ceremony.performed, after
        rollovers._add_publications(since, until)
        rollovers._add_issuing_periods()
        rollovers._find_crl_gaps()
        return rollovers

    def generations(self) -> list[PlannedCa]:
        """Return the existing and the planned generations, by authority."""
        order = [*ALL_AUTHORITIES, *self.hierarchy.inventory.authorities.externals]
        return sorted(self.hierarchy.cas, key=lambda ca: order.index(ca.authority))

    def _roots(self) -> list[GenerationName]:
        return [name for authority in ROOTS for name in self.hierarchy.generations(authority)]

    # -- who issues --

    def _add_issuing_periods(self) -> None:
        """Add the periods of generations from ceremonies, and of chains that lose a cross-certificate."""
        for authority in ISSUING:
            created = {
                name: ceremony.performed
                for ceremony in self.ceremonies
                for name in ceremony.generations
                if name.authority == authority
            }
            names = self.hierarchy.generations(authority)
            later = [_issuing_period(created[name], self.hierarchy.existing(name)) for name in names if name in created]
            issuing_periods = sorted([*self.issuing_periods[authority], *later], key=_when)
            if not issuing_periods:
                continue  # of clusters, in a project that has none
            # When a cross-certificate of its root expires during a period, the leaves are issued again with a shorter chain.
            shorter_chains = list[IssuingPeriod]()
            for period, next_start in zip(
                issuing_periods, [*(later_periods.at for later_periods in issuing_periods[1:]), self.until], strict=True
            ):
                root = self.hierarchy.existing(period.generation).root
                for expiry in self.hierarchy.cross_ends.get(root, ()):
                    start = self.runs.at(expiry + SECOND)
                    if period.at < start < next_start:
                        shorter_chains.append(IssuingPeriod(start, period.generation, period.ca_expiry))
            self.issuing_periods[authority] = sorted([*issuing_periods, *shorter_chains], key=_when)

    # -- root CRLs --

    def _add_publications(self, since: datetime, before: datetime) -> None:
        """Add the pre-signed CRLs that doit publishes from one ceremony to the next."""
        for root in self._roots():
            crls = self.hierarchy.presigned_crls(root)
            current_crls = [crl for crl in crls if crl.this_update <= since < crl.next_update]
            later_crls = [crl for crl in crls if since < crl.this_update and self.runs.at(crl.this_update) < before]
            for presigned_crl in [*current_crls[-1:], *later_crls]:
                at = max(since, self.runs.at(presigned_crl.this_update))
                self.presigned_crls.append(
                    PlannedPublication(root, at, presigned_crl.next_update, presigned_crl.number)
                )

    def _find_crl_gaps(self) -> None:
        """Find the times in which a trusted root has no valid CRL: then every client is refused."""
        for root in self._roots():
            created = next(
                (ceremony.performed for ceremony in self.ceremonies if root in ceremony.generations), self.runs.first
            )
            end = min(self.hierarchy.existing(root).not_after, self.until)
            covered_until = created
            for presigned_crl in (crl for crl in self.presigned_crls if crl.root == root):
                if presigned_crl.at > covered_until:
                    self.crl_gaps.append(CrlGap(root, covered_until, presigned_crl.at))
                covered_until = max(covered_until, presigned_crl.end)
            if covered_until < end:
                self.crl_gaps.append(CrlGap(root, covered_until, None))


def crl_rhythm(
    inventory: Inventory, store: Store, generation: str, runs: Runs, created: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield when each later CRL of an intermediate is issued, and its nextUpdate; `created` is when the CA was created."""
    rule = inventory.authorities.crl_rule(generation)
    data = filesystem.read(store.crl(generation))
    published = canonical.read_crl(data, Encoding.DER) if data else None
    due_time = created if published is None else published.last_update_utc + rule.refresh
    while True:
        issued = runs.at(due_time)
        begins = issued - backdate(rule.refresh)
        yield issued, begins + rule.lifetime
        due_time = max(begins + rule.refresh, issued + SECOND)


def _issuing_period(at: datetime, ca: PlannedCa) -> IssuingPeriod:
    return IssuingPeriod(at, ca.name, ca.not_after)


def _when(period: IssuingPeriod) -> datetime:
    return period.at
