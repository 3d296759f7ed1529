"""`Inventory` → artifacts: what is made, of what, in which order. All decisions are taken here, ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from pki.authority import ca_state, certificates, crls, trust_bundles, trust_page
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, stated
from pki.common.remedies import RESTORE, here
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.deploy import release
from pki.deploy.delivery import Delivery
from pki.pipeline import cleanup, delivery_targets, full_check, notices
from pki.pipeline.artifact import Artifact
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.desired_state import Note, World
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made, what needs a person, and what is known of hosts; `sights` are found when they are asked for.

    `refused` are the names of leaves whose `*.cnf` is wrong: what was issued for them stays as it is.
    """

    artifacts: tuple[Artifact, ...]
    notes: tuple[Note, ...]
    leaves: Mapping[str, Leaf]
    waiting: frozenset[ArtifactId]
    refused: frozenset[str]
    deliveries: Mapping[str, Delivery]
    probe_targets: Callable[[], Iterator[ProbeTarget]]
    template_faults: Callable[[], tuple[PkiError, ...]]  # of all templates, whoever uses them
    remarks: Callable[[], Iterator[Note]]  # what is to be known before the next run, and is no fault


def plan(project: Project) -> Plan:
    """Every artifact of the project, sources before what is made of them."""
    project.coming = _coming(project) if project.inventory.sandbox else ()
    world = World.of(project)
    deliveries = {one.host: one for one in delivery_targets.deliveries(world)}
    canary = [leaf for leaf in world.leaves.values() if leaf.is_revoked]
    artifacts = (
        *_authorities(project),
        *_requests(project),
        *_leaf_artifacts(project, canary),
        *_crls(project, canary),
        *_bundles(project),
        _trust_page(project),
        *_leaf_artifacts(project, (leaf for leaf in world.leaves.values() if not leaf.is_revoked)),
        *_lost_templates(world),
        *_host_artifacts(world, deliveries.values()),
    )
    known = {artifact.name for artifact in artifacts}
    kept = world.leaves.keys() | world.undeclared.keys() | {one.name for one in world.waiting}
    return Plan(
        (*artifacts, _cleanup(project, known, kept)),
        (*world.notes, *_unused_faults(world, deliveries)),
        world.leaves,
        world.waiting,
        frozenset(world.undeclared),
        deliveries,
        partial(delivery_targets.probe_targets, world, deliveries),
        partial(_template_faults, world, deliveries),
        partial(notices.remarks, world, deliveries),
    )


# -- authorities, CRLs, bundles ---------------------------------------------------------------------------------------


def _coming(project: Project) -> tuple[GenerationName, ...]:
    """The generations that the sandbox's own ceremony will bring in this run: all that follows from them is planned."""
    found = needs.needs(project)
    if all(need.is_growth for need in found):
        return ()
    return tuple(needs.new_generations(found))


def _authorities(project: Project) -> Iterator[Artifact]:
    newest = {one: found.name if (found := project.issuing(one)) else GenerationName(one, 1) for one in AUTHORITIES}
    holder = next((name for name in AUTHORITIES if project.coming and _sandbox_reasons(project, name)), "")
    for name in AUTHORITIES:
        key = "key.uri" if project.store.authority_file(newest[name], "key.uri").exists() else "key.pem"
        files = ("cert.pem",) if name == "root" else ("cert.pem", key)
        coming = [one for one in project.coming if name == holder and one not in newest.values()]
        yield Artifact(
            id=ArtifactId("authority", name),
            targets=(
                *(str(project.store.authority_file(newest[name], file)) for file in files),
                *(str(project.store.authority_file(one, "cert.pem")) for one in coming),
            ),
            sources=() if name == "root" else (_certificate_path(project, "root"),),
            make=partial(_make_authority, project, name),
            stale=partial(_authority_stale, project, name),
            doc=f"the {name} authority: a source, which only a ceremony (or the sandbox) makes",
        )


def _authority_stale(project: Project, name: str) -> list[Reason]:
    """What is wrong with an authority.

    In the sandbox also that it needs a ceremony. The run holds one for all of them, with the first that needs it.
    """
    damaged = [path for one in project.store.generations(name) if (path := _damaged(project, one))]
    if damaged:
        return [Why.RESTORED(file=path) for path in damaged]
    if not project.inventory.sandbox:
        return ca_state.stale_reasons(project, name)
    before = AUTHORITIES[: AUTHORITIES.index(name)]
    return [] if any(_sandbox_reasons(project, one) for one in before) else _sandbox_reasons(project, name)


def _sandbox_reasons(project: Project, name: str) -> list[Reason]:
    if name == "root" and needs.is_cut_short(project):
        return [Why.CEREMONY_INTERRUPTED()]
    due = [
        Why.CEREMONY_DUE(why=n.why, what=n.what)
        for n in needs.needs(project)
        if n.authority == name and not n.is_growth
    ]
    return ca_state.stale_reasons(project, name) or due


def _damaged(project: Project, generation: str) -> str:
    """The file of a generation's certificate where that is damaged and the ledger has it; else empty."""
    found = project.generation(generation)
    return (
        project.store.shown(project.store.authority_file(generation, "cert.pem"))
        if found and generation in project.recovered
        else ""
    )


def _make_authority(project: Project, name: str) -> Outcome:
    reasons = done = _authority_stale(project, name)
    for generation in project.store.generations(name):
        if _damaged(project, generation):
            filesystem.write(project.store.authority_file(generation, "cert.pem"), project.recovered[generation])
            reasons = _authority_stale(project, name)
    if not reasons:
        return Outcome(Verb.UPDATED, tuple(done))
    if project.inventory.sandbox:
        from pki.ceremony.online import sandbox_ceremony  # noqa: PLC0415 - takes long, and most runs need none

        sandbox_ceremony.ceremony(project)
        reasons = ca_state.stale_reasons(project, name)
    if reasons and (found := project.issuing(name)) is None:
        raise project.missing_authority(name)
    if reasons:
        if found and found.certificate.not_valid_after_utc < project.now:
            project.clock.insist()  # a ceremony helps nobody whose clock is wrong
        is_lost = reasons[0].code is not Why.AUTHORITY_EXPIRED  # of what ended, no backup holds a newer one
        request = here(
            "invoke", "ceremony.request", home=project.store.home, before=f"{RESTORE}, or: " if is_lost else ""
        )
        raise PkiError(f"{reasons[0]}; needs a ceremony", request)
    return Outcome(Verb.CREATED)


def _requests(project: Project) -> Iterator[Artifact]:
    """The request for the ceremony that is needed; the sandbox holds its own."""
    if not project.inventory.sandbox:
        yield Artifact(
            id=ArtifactId("ceremony", "request"),
            targets=(),
            sources=(),
            make=partial(_make_request, project),
            stale=partial(_request_stale, project),
            doc="the request for the root ceremony that is needed next, with the keys that it is to certify",
        )


def _make_request(project: Project) -> Outcome:
    from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

    if needs.needs(project):
        make_request.prepare(project)
    return Outcome(Verb.CREATED)


def _request_stale(project: Project) -> list[Reason]:
    from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

    needed = needs.needs(project)
    return make_request.uncovered(project, needed) if needed else []


def _certificate_path(project: Project, authority: str) -> str:
    generation = project.issuing(authority)
    return str(
        project.store.authority_file(generation.name if generation else GenerationName(authority, 1), "cert.pem")
    )


def _crls(project: Project, canary: Iterable[Leaf]) -> Iterator[Artifact]:
    """The CRL of every live generation; those of the client authority come after the canary, which stands on one."""
    before = {leaf.authority: str(project.store.bundle(leaf)) for leaf in canary}
    for authority in AUTHORITIES:
        first = (before[authority],) if authority in before else ()
        for generation in project.live(authority):
            is_root = authority == "root"
            yield Artifact(
                id=ArtifactId("crl", generation),
                targets=tuple(str(project.store.crl(generation, form)) for form in ("crl", "pem")),
                sources=(str(project.store.authority_file(generation, "cert.pem")), *first),
                make=partial(crls.publish_root_crl if is_root else crls.issue_crl, project, generation),
                stale=partial(crls.stale_root_reasons if is_root else crls.stale_reasons, project, generation),
                doc=f"the CRL of {generation}, DER and PEM",
            )
    for name in project.inventory.authorities.adopted:
        yield Artifact(
            id=ArtifactId("crl", name),
            targets=tuple(str(project.store.crl(name, form)) for form in ("crl", "pem")),
            sources=(),
            make=partial(crls.issue_external_crl, project, name),
            stale=partial(crls.stale_external_reasons, project, name),
            doc=f"the CRL of the adopted authority {name}, DER and PEM",
        )


def _bundles(project: Project) -> Iterator[Artifact]:
    live = {name: project.live(name) for name in AUTHORITIES}
    generations = [generation for found in live.values() for generation in found]
    # A certificate that is there waits for nobody: an authority that cannot sign any more withholds no trust.
    missing = [generation for generation in generations if project.generation(generation) is None]
    files = [
        *(f"{generation}.crt" for generation in generations),
        "roots.pem",
        "client-ca.pem",
        "client-chain.pem",
    ]
    yield Artifact(
        id=ArtifactId("bundle", "trust"),
        targets=tuple(str(project.store.trust(file)) for file in files),
        sources=tuple(str(project.store.authority_file(generation, "cert.pem")) for generation in missing),
        make=partial(_write_derived, project, trust_bundles.trust_files),
        stale=partial(_derived_stale, project, trust_bundles.trust_files),
        doc="what others trust: roots, client authorities, every live certificate authority in DER",
    )
    yield Artifact(
        id=ArtifactId("bundle", "client"),
        targets=(str(project.store.client_crl_bundle()),),
        sources=tuple(str(project.store.crl(name, "pem")) for name in (*live["client"], *live["root"])),
        make=partial(_write_derived, project, trust_bundles.client_crl_bundle),
        stale=partial(_derived_stale, project, trust_bundles.client_crl_bundle),
        doc="the CRLs of every live client chain in one file, as nginx, HAProxy and Apache want them",
    )


def _trust_page(project: Project) -> Artifact:
    """The page that tells people what to trust, and the profile that it offers."""
    targets = [str(project.store.trust(file)) for file in ("index.html", "roots.mobileconfig")]
    generations = [name for authority in AUTHORITIES for name in project.live(authority)]
    sources = [str(project.store.trust("roots.pem")), *(str(project.store.crl(name)) for name in generations)]
    return Artifact(
        id=ArtifactId("page", "trust"),
        targets=tuple(targets),
        sources=tuple(sources),
        make=partial(_write_derived, project, _trust_files),
        stale=partial(_trust_page_stale, project, [*targets, *sources]),
        doc="what people need to trust the roots: a page for the publishing address, a profile for Apple's systems",
    )


def _trust_page_stale(project: Project, files: list[str]) -> list[Reason]:
    return trust_bundles.remembered(
        project, "page:trust", trust_page.known(project), files, partial(_trust_files, project)
    )


def _trust_files(project: Project) -> dict[str, bytes]:
    """Loaded when the page may have to change: no other run spends the time."""
    from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

    return page.files(project)


def _write_derived(project: Project, contents: Callable[[Project], dict[str, bytes]]) -> Outcome:
    return trust_bundles.write(project, contents(project))


def _derived_stale(project: Project, contents: Callable[[Project], dict[str, bytes]]) -> list[Reason]:
    return trust_bundles.stale_reasons(project, contents(project))


# -- leaves -----------------------------------------------------------------------------------------------------------


def _leaf_artifacts(project: Project, leaves: Iterable[Leaf]) -> Iterator[Artifact]:
    """A certificate with its key and chain for every leaf."""
    issuers = {authority: _certificate_path(project, authority) for authority in AUTHORITIES}
    for leaf in leaves:
        request = (str(project.store.home / leaf.request),) if leaf.request else ()
        yield Artifact(
            id=ArtifactId("cert", leaf.name),
            targets=tuple(certificates.file_names(project, leaf)),
            sources=(issuers[leaf.authority], *request),
            make=partial(certificates.issue_if_due, project, leaf),
            stale=partial(certificates.stale_reasons, project, leaf),
            doc=leaf.doc,
        )


# -- templates that nobody can use ------------------------------------------------------------------------------------


def _lost_templates(world: World) -> Iterator[Artifact]:
    """A file below templates/ of which nobody can tell for which hosts it is: no release fails for it, but the run."""
    for lost in world.library.unassigned:
        yield Artifact(
            id=ArtifactId("template", quote(lost.name, safe="/", errors="surrogateescape")),
            targets=(),
            sources=(),
            make=partial(_raise, lost.fault),
            stale=partial(stated, lost.fault.message),
            doc="cannot be read, so nobody can tell for which hosts it is",
        )


def _raise(fault: PkiError) -> Outcome:
    raise fault


def _template_faults(world: World, deliveries: Mapping[str, Delivery]) -> tuple[PkiError, ...]:
    """Return what is wrong with all templates, each fault once."""
    faults = [one.fault for one in world.library.unassigned]
    faults += [file.fault for file in world.library.files if file.fault]
    faults += [fault for name in deliveries for fault in world.release_spec(name).faults]
    return tuple({fault.message: fault for fault in faults}.values())


def _unused_faults(world: World, deliveries: Mapping[str, Delivery]) -> Iterator[Note]:
    """What is wrong with files that no release uses at present."""
    for file in world.library.files:
        if file.fault and not any(file.is_for(name, world.hosts.get(name)) for name in deliveries):
            yield Note(f"templates/{file.name}", file.fault.message, file.fault.hint or "fix it, then: ./run doit")


# -- hosts ------------------------------------------------------------------------------------------------------------


def _host_artifacts(world: World, deliveries: Iterable[Delivery]) -> Iterator[Artifact]:
    """Release and delivery of every host that some managed file is for."""
    project, build = world.project, world.project.store.build
    late: list[Artifact] = []  # one contact with a fleet goes better when every release of it is there
    for delivery in deliveries:
        name = delivery.host
        manifest = f"{build}/release/{name}/manifest.json"
        yield Artifact(
            id=ArtifactId("release", name),
            targets=(manifest,),
            sources=world.release_sources(name),
            make=partial(_build_release, world, name),
            stale=partial(_release_stale, world, name),
            doc=f"every file of {name}, with a manifest",
        )
        deploy = Artifact(
            id=ArtifactId("deploy", name),
            targets=(f"{build}/receipts/{name}.json",),
            sources=(manifest, *delivery_targets.sources(world, delivery)),
            make=partial(delivery.deliver, project.now),
            stale=partial(delivery.stale, project.cache, project.now),
            doc=f"the release of {name}, delivered, with a receipt",
        )
        if delivery.engine:
            late.append(deploy)
        else:
            yield deploy
    yield from late


def _build_release(world: World, name: str) -> Outcome:
    faults_of = partial(full_check.faults, world)
    return release.build(
        world.release_spec(name), world.project.store.release(name), partial(world.gather, name), faults_of
    )


def _release_stale(world: World, name: str) -> list[Reason]:
    return release.stale_reasons(
        world.release_spec(name), f"{world.project.store.build}/release/{name}", world.project.cache
    )


# -- what left --------------------------------------------------------------------------------------------------------


def _cleanup(project: Project, known: set[ArtifactId], leaves: set[str]) -> Artifact:
    return Artifact(
        id=ArtifactId("cleanup", "build"),
        targets=(),
        sources=(),
        make=partial(cleanup.sweep, project, known, leaves),
        stale=partial(cleanup.stale, project, known, leaves),
        doc="takes away what left pki.yaml and templates/",
    )
