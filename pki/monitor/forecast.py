"""What the next `doit` would do, and what only a person can do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pki.authority import ca_state, certificate_holders, certificates, crl_size
from pki.ceremony.online import needs
from pki.common.cache import token
from pki.common.durations import in_words
from pki.common.reasons import Reason, Why, joined
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.model import Leaf
from pki.monitor import (
    browser_limits,
    client_identities,
    damaged_files,
    external_cas,
    pending_bootstraps,
    revocation_exposure,
    unverified_upstreams,
    waiting_roots,
)
from pki.pipeline.artifact import Artifact
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.missing_roots import refusal
from pki.project.project import Project

SECOND = timedelta(seconds=1)
PINNED = "is pinned to an earlier release; only its CRLs are updated"


def forecast(plan: Plan) -> Iterator[tuple[Artifact, list[Reason]]]:
    """Artifacts that the next run would make, with reasons: their own, or the artifact that they follow from."""
    coming: dict[str, str] = {}
    for artifact in plan.artifacts:
        reasons = artifact.reasons()
        if not reasons and artifact.id.kind != "authority":  # which are sources, and follow from nothing
            before = dict.fromkeys(coming[source] for source in artifact.sources if source in coming)
            reasons = [Why.FOLLOWS(artifacts=", ".join(before))] if before else []
        if reasons:
            coming |= dict.fromkeys(artifact.targets, artifact.name)
            yield artifact, reasons


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """What needs a person: a ledger that is lost, ceremonies and names that wait for one, leaves that left or are withheld.

    And hosts that are pinned, lifetimes that take effect later, names that move to another leaf, hosts that do not act on a revocation or cannot remove every forged header,
    keys that browsers refuse, upstreams that are not verified,
    identities that wait to be installed, CRLs that outgrow their publisher, and damaged files that must come back from a
    backup.
    """
    if project.missing_roots:
        error = refusal(project.missing_roots, project.inventory, project.store)
        yield Notice("authority:root", error.message, error.hint)
        return
    if fault := project.ledger_fault:
        yield Notice("ledger", fault.consequence, fault.remedy)
    yield from _unnamed(project)
    yield from _ceremony(project)
    yield from waiting_roots.notes(project, plan)
    yield from pending_bootstraps.notes(project, plan)
    yield from plan.actions_required
    for move in certificate_holders.moves(project, plan.leaves):
        text = f"takes {move.name} over from cert:{move.before}, whose certificate with it is valid until {move.end:%Y-%m-%d}"
        stays = move.before in plan.leaves or move.before in plan.refused
        yield Notice(
            ArtifactId("cert", move.leaf), text, "./run doit" if stays else f"./run invoke retire {move.before}"
        )
    for leaf in plan.leaves.values() if ca_state.can_shorten_renewals(project) else ():
        if waits := certificates.blocked_by(project, leaf):
            yield Notice(
                leaf.artifact, str(waits), f"./run invoke ceremony.request, for a new {leaf.authority} authority"
            )
    for name in plan.leaves if project.replacement_stopped else ():
        if why := certificates.stopped_reasons(project, ArtifactId("cert", name)):
            yield Notice(ArtifactId("cert", name), joined(why), f"./run invoke renew {name}")
    yield from _pinned(project)
    yield from _profiles(project, plan)
    yield from client_identities.reminders(project, plan)
    for artifact, end in _left(project, plan):
        if end >= project.now:
            text = f"left pki.yaml, and its certificate is valid until {end:%Y-%m-%d}"
            yield Notice(artifact, text, f"./run invoke retire {artifact.short}")
    yield from revocation_exposure.notes(project, plan)
    yield from revocation_exposure.forgeable(project)
    yield from browser_limits.notes(project, plan)
    yield from unverified_upstreams.notes(project)
    yield from _oversized(project)
    yield from external_cas.notes(project, plan)
    yield from damaged_files.notes(project)


def _pinned(project: Project) -> Iterator[Notice]:
    """Hosts that stay at an earlier release; what health says of them, too."""
    for host, pin in sorted((project.pins or {}).items()):
        if pin.release and host in project.inventory.hosts:
            yield Notice(ArtifactId("pinned", host), PINNED, f"./run invoke deploy.push {host}")


def _profiles(project: Project, plan: Plan) -> Iterator[Notice]:
    """Lifetimes that pki.yaml changed: what was issued before keeps its own until it is renewed."""
    others: dict[tuple[str, timedelta], list[datetime]] = {}
    ends = {name: one.certificate.not_valid_after_utc for name in AUTHORITIES if (one := project.issuing(name))}
    for leaf in plan.leaves.values():
        if dates := _dates(project, leaf):
            start, end = dates
            is_cut = ends.get(leaf.authority) == end  # its authority ends before the lifetime of pki.yaml would
            if end - start + SECOND != leaf.lifetime and not is_cut:
                others.setdefault((leaf.profile, leaf.lifetime), []).append(end - leaf.renew_before)
    for (profile, lifetime), renewals in others.items():
        number = f"{len(renewals)} certificate{'s' if len(renewals) > 1 else ''}"
        text = f"lifetime {in_words(lifetime)} takes effect at the next renewal: {number} issued before that"
        text += f", the last is renewed on {max(renewals):%Y-%m-%d}"
        yield Notice(f"profile:{profile}", text, "./run invoke renew NAME, for each that is to change now")


def _dates(project: Project, leaf: Leaf) -> tuple[datetime, datetime] | None:
    """The dates of a certificate, which is looked at now where it was not yet; None where it is not as it should be."""
    if project.cache.seen(leaf.artifact) is None:
        certificates.stale_reasons(project, leaf)
    kept = project.cache.seen(leaf.artifact)
    return (datetime.fromtimestamp(kept[0], UTC), datetime.fromtimestamp(kept[1], UTC)) if kept else None


def _oversized(project: Project) -> Iterator[Notice]:
    for one in crl_size.sizes(project):
        if one.complaint:
            yield Notice(ArtifactId("crl", one.generation), one.complaint, crl_size.REMEDY)


def _unnamed(project: Project) -> Iterator[Notice]:
    """Roots that pki.yaml does not name yet: a clone of it would not know that they are missing."""
    roots = project.store.generations("root") if not project.inventory.sandbox else []
    digests = {name: one.fingerprint for name in roots if (one := project.generation(name))}
    if unnamed := [name for name, digest in digests.items() if digest not in project.inventory.roots]:
        named = [*project.inventory.roots, *(digests[name] for name in unnamed)]
        text = f"pki.yaml does not name {', '.join(unnamed)}: a clone of it would not know what is missing"
        yield Notice("roots", text, f"in pki.yaml: `roots: [{', '.join(named)}]`")


def _ceremony(project: Project) -> Iterator[Notice]:
    """Who must hold a ceremony, by when, and why."""
    found = [need for need in needs.find_requirements(project) if not (project.inventory.sandbox and need.is_growth)]
    if found and not project.inventory.sandbox:
        by = min(need.by for need in found)
        when = f"by {by:%Y-%m-%d}" if by > project.now else "now"
        what = f"a root ceremony is due {when}, for the root's owner and a witness: "
        what += "; ".join(f"{need.what} ({need.why})" for need in found)
        yield Notice("ceremony", what, "./run invoke ceremony.request, and docs/ceremony.md")


def _left(project: Project, plan: Plan) -> list[tuple[ArtifactId, datetime]]:
    """Certificates that no artifact stands for any more, with the end of the last valid one of each name."""
    known = token(sorted(plan.leaves), sorted(plan.waiting), sorted(plan.refused))
    kept = project.recall_from_ledger("left", known)
    if kept is None:
        wanted = {ArtifactId("cert", name) for name in (*plan.leaves, *plan.refused)} | plan.waiting
        ends: dict[str, int] = {}
        for issued in project.unexpired():
            if issued.artifact.kind == "cert" and issued.artifact not in wanted and not issued.revoked:
                ends[issued.artifact] = max(ends.get(issued.artifact, 0), int(issued.not_after.timestamp()))
        kept = [[artifact, end] for artifact, end in ends.items()]
        project.remember_from_ledger("left", known, kept)
    return [(ArtifactId.parse(artifact), datetime.fromtimestamp(end, UTC)) for artifact, end in kept]
