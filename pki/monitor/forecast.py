"""What the next `doit` would make, and which actions are required of the user: the contents of `invoke plan`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from pki.authority import ca_state, certificate_holders, crl_size, leaf_files
from pki.authority.certificates import LeafCertificates
from pki.ceremony.online import needs
from pki.common.cache import digest_of
from pki.common.durations import in_words
from pki.common.notice import Notice
from pki.common.reasons import Reason, Why, joined
from pki.config.identifiers import ALL_AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Inventory, Leaf
from pki.monitor import (
    adopted_cas,
    client_identities,
    damaged_files,
    pending_bootstraps,
    revocation_exposure,
    unverified_upstreams,
    waiting_roots,
)
from pki.monitor.external_authorities import ExternalAuthorities
from pki.pipeline.artifact import Artifact
from pki.pipeline.plan import Plan
from pki.project import machine_guard
from pki.project.authorities import Authorities
from pki.project.host_decisions import HostDecisions
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.missing_roots import refusal
from pki.project.project import Project

SECOND = timedelta(seconds=1)  # both ends of a validity period belong to it
PINNED = "is pinned to an earlier release; only its CRLs are updated"
REMADE = {  # reasons for which files are made again, perhaps with the content that they had
    *(Why.MISSING_FILE, Why.NOT_FROM_SOURCES, Why.CRL_NO_PEM),
    *(Why.COPY_DAMAGED, Why.MANIFEST_DAMAGED, Why.MAY_FOLLOW),
}


def due_artifacts(plan: Plan) -> Iterator[tuple[Artifact, list[Reason]]]:
    """Yield the artifacts that the next run would make, each with its reasons.

    A reason may be another artifact that changes (FOLLOWS), or that is made again, perhaps with the same content
    (MAY_FOLLOW). Files of a leaf that are split again from its PEM bundle keep their content, so an artifact only follows
    them if it differs from its sources now.
    """
    # Of the artifacts so far, the artifact by each of its paths:
    changed_by_path, remade_by_path, split_by_path = dict[str, str](), dict[str, str](), dict[str, str]()
    for artifact in plan.artifacts:
        reasons = artifact.reasons()
        if artifact.id.kind != "authority":  # an authority has no sources that doit makes
            differs_only = bool(reasons) and all(reason.code is Why.CHANGED for reason in reasons)
            follows = _following(Why.FOLLOWS, artifact, changed_by_path)
            if not reasons:
                reasons = follows or _following(Why.MAY_FOLLOW, artifact, remade_by_path)
            elif differs_only and not follows:
                reasons = _following(Why.MAY_FOLLOW, artifact, remade_by_path | split_by_path) or reasons
        if not reasons:
            continue
        if artifact.id.kind == "cert" and leaf_files.are_of_split_files(reasons):
            paths = split_by_path
        else:
            paths = remade_by_path if _is_remade(artifact.id, reasons) else changed_by_path
        paths |= dict.fromkeys(artifact.targets, artifact.id)
        yield artifact, reasons


def _following(code: Why, artifact: Artifact, artifact_by_path: Mapping[str, str]) -> list[Reason]:
    """Return the reason that an artifact changes, or may change, with the artifacts that its sources belong to."""
    sources = dict.fromkeys(artifact_by_path[source] for source in artifact.sources if source in artifact_by_path)
    return [code(artifacts=", ".join(sources))] if sources else []


def _is_remade(artifact: ArtifactId, reasons: Iterable[Reason]) -> bool:
    """Return whether the files of an artifact are made again and may get the content that they had.

    That is so for derived artifacts and for pre-signed CRLs; issuing gives new content.
    """
    is_derived = artifact.kind in {"bundle", "page", "p12", "p12-legacy", "release"}
    is_presigned = artifact.kind == "crl" and GenerationName.parse(artifact.name).is_root
    codes = REMADE | {Why.NOT_CREATED} if is_derived or is_presigned else REMADE
    return all(reason.code in codes for reason in reasons)


def may_follow(reasons: Iterable[Reason]) -> bool:
    """Return whether an artifact with these reasons of `due_artifacts` may stay as it is."""
    return any(reason.code is Why.MAY_FOLLOW for reason in reasons)


def required_actions(project: Project, plan: Plan) -> Iterator[Notice]:
    """Yield every action required of the user, with the command to type.

    If a root is missing, yields only that. Before the first ceremony, yields only a fault of the ledger and the ceremony.
    """
    if project.roots.missing:
        error = refusal(project.roots.missing, project.inventory, project.store)
        yield Notice("authority:root", error.message, error.hint)
        return
    yield from machine_guard.guard_of(project.ledger_view, project.now).notices()
    if fault := project.ledger_view.fault:
        yield Notice("ledger", fault.consequence, fault.remedy)
    if project.roots.awaits_first_ceremony:
        yield first_ceremony(project)
        return
    yield from _unnamed(project.inventory, project.store, project.authorities)
    yield from _ceremony(project.inventory, project.now, project.authorities)
    yield from waiting_roots.notes(project.store, project.cache, plan)
    yield from pending_bootstraps.notes(project, plan)
    yield from plan.actions_required
    yield from _moved_names(project, plan)
    yield from _blocked_renewals(project, plan)
    yield from _stopped(project.revocations, plan)
    yield from _pinned(project.inventory, project.host_decisions)
    yield from _changed_lifetimes(project.authorities, LeafCertificates(project), plan)
    yield from client_identities.notes(project.inventory, project.now, project.ledger_view, plan)
    yield from _undeclared(project.now, project.ledger_view, project.revocations, plan)
    yield from revocation_exposure.notes(project.inventory, project.now, project.ledger_view, project.revocations, plan)
    yield from revocation_exposure.forgeable_header_notes(project.inventory)
    yield from unverified_upstreams.notes(project.inventory, project.store, project.now, project.cache)
    yield from _oversized(project.inventory, project.store, project.authorities)
    yield from adopted_cas.notes(project.inventory, project.now, project.authorities, project.ledger_view, plan)
    yield from ExternalAuthorities(project).notes()
    yield from damaged_files.notes(project.store, project.authorities, project.cache)


def _moved_names(project: Project, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each certificate that takes a name over from another one."""
    for move in certificate_holders.moves(project, plan.leaves):
        text = f"takes {move.name} over from cert:{move.previous_leaf}, whose certificate with that name is valid until {move.not_after:%Y-%m-%d}"
        stays = move.previous_leaf in plan.leaves or move.previous_leaf in plan.leaves_of_invalid_files
        yield Notice(
            ArtifactId("cert", move.leaf), text, "./run doit" if stays else f"./run invoke retire {move.previous_leaf}"
        )


def _blocked_renewals(project: Project, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each leaf that its authority cannot renew because the authority expires too soon."""
    if not ca_state.can_shorten_renewals(project.inventory, project.now, project.authorities):
        return
    for leaf in plan.leaves.values():
        if blocker := LeafCertificates(project).no_gain_reason(leaf):
            command = f"./run invoke ceremony.request --new {leaf.authority}"
            yield Notice(leaf.artifact, str(blocker), command)


def first_ceremony(project: Project) -> Notice:
    """Return the notice for a project without any authority, in which this is the next and only step."""
    names = [requirement.what for requirement in needs.find_requirements(project.authorities)]
    text = f"the next step is the root ceremony, which creates {', '.join(names[:-1])} and {names[-1]}; nothing can be issued before it"
    return Notice("ceremony", text, "./run invoke ceremony.request")


def _stopped(revocations: Revocations, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each revoked leaf that is not replaced until the user renews it."""
    for name in plan.leaves if revocations.replacement_stopped else ():
        if reasons := leaf_files.stopped_reasons(revocations, ArtifactId("cert", name)):
            yield Notice(ArtifactId("cert", name), joined(reasons), f"./run invoke renew {name}")


def _undeclared(now: datetime, ledger_view: LedgerView, revocations: Revocations, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each valid certificate whose name is no longer in pki.yaml."""
    for artifact, end in _undeclared_certificates(ledger_view, revocations, plan):
        if end >= now:
            text = f"no longer in pki.yaml; its certificate is valid until {end:%Y-%m-%d}"
            yield Notice(artifact, text, f"./run invoke retire {artifact.short}")


def _pinned(inventory: Inventory, host_decisions: HostDecisions) -> Iterator[Notice]:
    """Yield a notice for each host that is pinned to an earlier release."""
    for host, pin in sorted((host_decisions.pins or {}).items()):
        if pin.release and host in inventory.hosts:
            yield Notice(ArtifactId("pinned", host), PINNED, f"./run invoke deploy.push {host}")


def _changed_lifetimes(authorities: Authorities, leaf_certificates: LeafCertificates, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each lifetime changed in pki.yaml: existing certificates keep theirs until they are renewed."""
    renewals_by_lifetime: dict[tuple[str, timedelta], list[datetime]] = {}
    ca_expiries = {name: ca.not_after for name in ALL_AUTHORITIES if (ca := authorities.issuing(name))}
    for leaf in plan.leaves.values():
        if dates := _dates(leaf_certificates, leaf):
            start, end = dates
            is_shortened = ca_expiries.get(leaf.authority) == end  # limited by the expiry of its authority
            if end - start + SECOND != leaf.lifetime and not is_shortened:
                renewals_by_lifetime.setdefault((leaf.profile, leaf.lifetime), []).append(leaf.renewal_start(end))
    for (profile, lifetime), renewals in renewals_by_lifetime.items():
        number = f"{len(renewals)} still {'have' if len(renewals) > 1 else 'has'} the old one"
        text = f"the new lifetime of {in_words(lifetime)} applies when a certificate is renewed: {number}"
        text += f", {'the last ' if len(renewals) > 1 else ''}until {max(renewals):%Y-%m-%d}"
        yield Notice(f"profile:{profile}", text, "./run invoke renew NAME, for each that should change now")


def _dates(leaf_certificates: LeafCertificates, leaf: Leaf) -> tuple[datetime, datetime] | None:
    """Return the dates of the certificate of a leaf, or None if it is not up to date; checks it if this run has not."""
    cache = leaf_certificates.project.cache
    if cache.checked_in_this_run(leaf.artifact) is None:
        leaf_certificates.stale_reasons(leaf)  # fills the cache if the certificate is up to date
    dates = cache.checked_in_this_run(leaf.artifact)
    return (datetime.fromtimestamp(dates[0], UTC), datetime.fromtimestamp(dates[1], UTC)) if dates else None


def _oversized(inventory: Inventory, store: Store, authorities: Authorities) -> Iterator[Notice]:
    """Yield a notice for each CRL that its publishing proxy cannot, or soon cannot, serve."""
    for size in crl_size.sizes(inventory, store, authorities):
        if size.complaint:
            yield Notice(ArtifactId("crl", size.generation), size.complaint, crl_size.REMEDY)


def _unnamed(inventory: Inventory, store: Store, authorities: Authorities) -> Iterator[Notice]:
    """Yield a notice for roots that pki.yaml does not list: a clone of the project would not know that they are missing."""
    roots = store.roots() if not inventory.sandbox else []
    digests = {name: root.fingerprint for name in roots if (root := authorities.generation(name))}
    if unnamed_roots := [name for name, digest in digests.items() if digest not in inventory.roots]:
        all_digests = [*inventory.roots, *(digests[name] for name in unnamed_roots)]
        text = f"pki.yaml does not list {', '.join(unnamed_roots)}: a clone of the project would not know that it is missing"
        yield Notice("roots", text, f"in pki.yaml: `roots: [{', '.join(all_digests)}]`")


def _ceremony(inventory: Inventory, now: datetime, authorities: Authorities) -> Iterator[Notice]:
    """Yield the notice that a root ceremony is due, by when, and for what."""
    if inventory.sandbox:
        return
    if requirements := needs.find_requirements(authorities):
        by = min(requirement.by for requirement in requirements)
        when = f"by {by:%Y-%m-%d}" if by > now else "now"
        text = f"a root ceremony is due {when}, for the root's owner and a witness: "
        text += "; ".join(f"{requirement.what} ({requirement.why})" for requirement in requirements)
        yield Notice("ceremony", text, "./run invoke ceremony.request; see docs/how-to/ceremony.md")


def _undeclared_certificates(
    ledger_view: LedgerView, revocations: Revocations, plan: Plan
) -> list[tuple[ArtifactId, datetime]]:
    """Return leaf certificates that are still valid and no longer in pki.yaml, with the last expiry of each name."""
    key = digest_of(sorted(plan.leaves), sorted(plan.awaiting_ceremony), sorted(plan.leaves_of_invalid_files))

    def read() -> dict[ArtifactId, int]:
        names = (*plan.leaves, *plan.leaves_of_invalid_files)
        declared = {ArtifactId("cert", name) for name in names} | plan.awaiting_ceremony
        last_expiries: dict[ArtifactId, int] = {}
        for certificate in revocations.unexpired():
            if certificate.artifact.kind == "cert" and certificate.artifact not in declared and not certificate.revoked:
                expiry = int(certificate.not_after.timestamp())
                last_expiries[certificate.artifact] = max(last_expiries.get(certificate.artifact, 0), expiry)
        return last_expiries

    by_artifact = ledger_view.cached("undeclared", key, read, as_of=revocations.now)
    return [(ArtifactId.parse(artifact), datetime.fromtimestamp(end, UTC)) for artifact, end in by_artifact.items()]
