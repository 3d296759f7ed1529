"""Plan a project: which artifacts there are, of which sources, in which order.

Each artifact has a function that decides later whether it is out of date, and one that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from pki.authority import certificates, crls, leaf_files, trust_bundles, trust_page
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.common.reasons import Outcome, Reason, stated
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.model import Leaf
from pki.deploy import release
from pki.deploy.delivery import Delivery
from pki.pipeline import cleanup, delivery_targets, full_check, notices
from pki.pipeline.artifact import Artifact
from pki.pipeline.authority_artifacts import AuthorityArtifacts, planned_generations
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.desired_state import DesiredState
from pki.project.layout import Store
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Plan:
    """The artifacts of a project, the actions required of the user, and the hosts.

    `waiting` are certificates that need a ceremony first. `refused` are names of leaves that an invalid file in
    templates/ may declare: their issued files stay as they are. Neither are in `leaves`. The callables compute their
    result when called.
    """

    artifacts: tuple[Artifact, ...]
    actions_required: tuple[Notice, ...]
    leaves: Mapping[str, Leaf]
    waiting: frozenset[ArtifactId]
    refused: frozenset[str]
    deliveries: Mapping[str, Delivery]
    probe_targets: Callable[[], Iterator[ProbeTarget]]
    template_faults: Callable[[], tuple[PkiError, ...]]  # of all templates, used or not
    unused_template_faults: Callable[[], tuple[PkiError, ...]]  # of templates that are in no release
    notices: Callable[[], Iterator[Notice]]  # useful before the next run; nothing is wrong


def plan(project: Project) -> Plan:
    """Return the plan of a project, sources before what is made of them."""
    project.authorities.expect(planned_generations(project.authorities) if project.inventory.sandbox else ())
    desired = DesiredState.of(project)
    deliveries = {delivery.host: delivery for delivery in delivery_targets.deliveries(desired)}
    canary = [leaf for leaf in desired.leaves.values() if leaf.is_canary]
    of_authorities, issued = AuthorityArtifacts(project), IssuedArtifacts(project)
    artifacts = (
        *of_authorities.authorities(),
        *of_authorities.requests(),
        # The canary is issued and revoked first, because the client CRL must list it.
        *issued.leaves(canary),
        *issued.crls(canary),
        *issued.bundles(),
        issued.trust_page(),
        *issued.leaves(leaf for leaf in desired.leaves.values() if not leaf.is_canary),
        *_unreadable_templates(desired),
        *_host_artifacts(desired, deliveries.values()),
    )
    artifact_ids = {artifact.name for artifact in artifacts}
    leaf_names = desired.leaves.keys() | desired.undeclared.keys() | {artifact.name for artifact in desired.waiting}
    return Plan(
        artifacts=(*artifacts, _cleanup(project.store, artifact_ids, leaf_names)),
        actions_required=(*desired.notices, *_unused_notices(desired, deliveries)),
        leaves=desired.leaves,
        waiting=desired.waiting,
        refused=frozenset(desired.undeclared),
        deliveries=deliveries,
        probe_targets=partial(delivery_targets.probe_targets, desired, deliveries),
        template_faults=partial(_template_faults, desired, deliveries),
        unused_template_faults=partial(_unused_template_faults, desired, deliveries),
        notices=partial(notices.notices, desired, deliveries),
    )


# -- certificates, CRLs, bundles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssuedArtifacts:
    """The artifacts that the authorities issue, and what is derived from them: bundles and the trust page."""

    project: Project

    def crls(self, canary: Iterable[Leaf]) -> Iterator[Artifact]:
        """Yield the CRL of each live generation. Those of the client authority follow the canary, which they must list."""
        crl = crls.Crls(self.project)
        canary_bundles = {leaf.authority: str(self.project.store.bundle(leaf)) for leaf in canary}
        for authority in AUTHORITIES:
            prerequisites = (canary_bundles[authority],) if authority in canary_bundles else ()
            for generation in self.project.authorities.live(authority):
                is_root = authority == "root"
                yield Artifact(
                    id=ArtifactId("crl", generation),
                    targets=tuple(str(self.project.store.crl(generation, form)) for form in ("crl", "pem")),
                    sources=(str(self.project.store.authority_file(generation, "cert.pem")), *prerequisites),
                    make=partial(crl.publish_root if is_root else crl.issue, generation),
                    stale=partial(crl.stale_root_reasons if is_root else crl.stale_reasons, generation),
                    doc=f"the CRL of {generation}, DER and PEM",
                )
        for name in self.project.inventory.authorities.adopted:
            yield Artifact(
                id=ArtifactId("crl", name),
                targets=tuple(str(self.project.store.crl(name, form)) for form in ("crl", "pem")),
                sources=(),
                make=partial(crl.issue_adopted, name),
                stale=partial(crl.stale_adopted_reasons, name),
                doc=f"the CRL of the adopted authority {name}, DER and PEM",
            )

    def leaves(self, leaves: Iterable[Leaf]) -> Iterator[Artifact]:
        """Yield an artifact for each leaf: its certificate with key and chain."""
        of_authorities = AuthorityArtifacts(self.project)
        issuers = {authority: of_authorities.certificate_path(authority) for authority in AUTHORITIES}
        certificate = certificates.LeafCertificates(self.project)
        for leaf in leaves:
            request = (str(self.project.store.home / leaf.request),) if leaf.request else ()
            yield Artifact(
                id=ArtifactId("cert", leaf.name),
                targets=tuple(leaf_files.file_names(self.project.store, leaf)),
                sources=(issuers[leaf.authority], *request),
                make=partial(certificate.issue_if_due, leaf),
                stale=partial(certificate.stale_reasons, leaf),
                doc=leaf.doc,
            )

    def bundles(self) -> Iterator[Artifact]:
        """Yield the bundles of CA certificates and of CRLs."""
        store, authorities = self.project.store, self.project.authorities
        live = {name: authorities.live(name) for name in AUTHORITIES}
        generations = [generation for names in live.values() for generation in names]
        # An existing certificate is not a source: an authority that can no longer sign must not block the bundle.
        missing = [generation for generation in generations if authorities.generation(generation) is None]
        files = [f"{generation}.crt" for generation in generations]
        trust_files = partial(trust_bundles.trust_files, store, authorities)
        client_crl_bundle = partial(trust_bundles.client_crl_bundle, store, authorities)
        yield Artifact(
            id=ArtifactId("bundle", "trust"),
            targets=tuple(
                str(store.trust(file)) for file in (*files, "roots.pem", "client-ca.pem", "client-chain.pem")
            ),
            sources=tuple(str(store.authority_file(generation, "cert.pem")) for generation in missing),
            make=partial(_write_derived, store, trust_files),
            stale=partial(_derived_stale, store, trust_files),
            doc="trust files: roots, client authorities, every live CA certificate in DER",
        )
        yield Artifact(
            id=ArtifactId("bundle", "client"),
            targets=(str(store.client_crl_bundle()),),
            sources=tuple(str(store.crl(name, "pem")) for name in (*live["client"], *live["root"])),
            make=partial(_write_derived, store, client_crl_bundle),
            stale=partial(_derived_stale, store, client_crl_bundle),
            doc="the CRLs of every live client chain in one file, for nginx, HAProxy and Apache",
        )

    def trust_page(self) -> Artifact:
        """Return the artifact of the trust page and of the profile that it offers."""
        store = self.project.store
        targets = [str(store.trust(file)) for file in ("index.html", "roots.mobileconfig")]
        generations = [name for authority in AUTHORITIES for name in self.project.authorities.live(authority)]
        sources = [str(store.trust("roots.pem")), *(str(store.crl(name)) for name in generations)]
        return Artifact(
            id=ArtifactId("page", "trust"),
            targets=tuple(targets),
            sources=tuple(sources),
            make=partial(_write_derived, store, self._trust_page_files),
            stale=partial(self._trust_page_stale, [*targets, *sources]),
            doc="the trust page for the publishing address, and a profile for Apple's systems",
        )

    def _trust_page_stale(self, files: list[str]) -> list[Reason]:
        key = trust_page.cache_key(self.project.inventory, self.project.authorities)
        return trust_bundles.cached_stale_reasons(
            self.project.store, self.project.cache, "page:trust", key, files, self._trust_page_files
        )

    def _trust_page_files(self) -> dict[str, bytes]:
        """Return the contents of page and profile. Their module is slow to import, so it is loaded when needed."""
        from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

        return page.files(self.project.inventory, self.project.store, self.project.authorities)


def _write_derived(store: Store, contents: Callable[[], dict[str, bytes]]) -> Outcome:
    return trust_bundles.write(store, contents())


def _derived_stale(store: Store, contents: Callable[[], dict[str, bytes]]) -> list[Reason]:
    return trust_bundles.stale_reasons(store, contents())


# -- templates that cannot be read ------------------------------------------------------------------------------------


def _unreadable_templates(desired: DesiredState) -> Iterator[Artifact]:
    """Yield an artifact that always fails for each unassigned file in templates/: one whose hosts cannot be determined.

    No release reports such a file.
    """
    for unassigned in desired.library.unassigned:
        yield Artifact(
            id=ArtifactId("template", quote(unassigned.name, safe="/", errors="surrogateescape")),
            targets=(),
            sources=(),
            make=partial(_raise, unassigned.fault),
            stale=partial(stated, unassigned.fault.message),
            doc="cannot be read, so its hosts are unknown",
        )


def _raise(fault: PkiError) -> Outcome:
    raise fault


def _template_faults(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> tuple[PkiError, ...]:
    """Return the faults of all templates, each once."""
    faults = [unassigned.fault for unassigned in desired.library.unassigned]
    faults += [file.fault for file in desired.library.files if file.fault]
    faults += [fault for name in deliveries for fault in desired.release_spec(name).faults]
    return tuple({fault.message: fault for fault in faults}.values())


def _unused_template_faults(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> tuple[PkiError, ...]:
    """Return the faults of templates that are in no release at present: the unassigned ones, then the unused ones."""
    faults = [unassigned.fault for unassigned in desired.library.unassigned]
    return (*faults, *(fault for _, fault in _unused_faults(desired, deliveries)))


def _unused_notices(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[Notice]:
    """Yield a notice for each fault of a template that no release uses at present."""
    for name, fault in _unused_faults(desired, deliveries):
        yield Notice(f"templates/{name}", fault.message, fault.hint or "fix it, then: ./run doit")


def _unused_faults(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[tuple[str, PkiError]]:
    """Yield name and fault of each unused file: its hosts are known, and no host of this project is among them."""
    for file in desired.library.files:
        if file.fault and not any(file.is_for(name, desired.hosts.get(name)) for name in deliveries):
            yield file.name, file.fault


# -- hosts ------------------------------------------------------------------------------------------------------------


def _host_artifacts(desired: DesiredState, deliveries: Iterable[Delivery]) -> Iterator[Artifact]:
    """Yield release and deployment of each host that a managed file is for."""
    project, build = desired.project, desired.project.store.build
    fleet_deployments: list[Artifact] = []  # last, so that one Ansible run deploys to all hosts
    for delivery in deliveries:
        name = delivery.host
        manifest = f"{build}/release/{name}/manifest.json"
        yield Artifact(
            id=ArtifactId("release", name),
            targets=(manifest,),
            sources=desired.release_sources(name),
            make=partial(_build_release, desired, name),
            stale=partial(_release_stale, desired, name),
            doc=f"all files of {name}, with a manifest",
        )
        deploy = Artifact(
            id=ArtifactId("deploy", name),
            targets=(f"{build}/receipts/{name}.json",),
            sources=(manifest, *delivery_targets.sources(desired, delivery)),
            make=partial(delivery.deliver, project.now),
            stale=partial(delivery.stale, project.cache, project.now),
            doc=f"the release of {name} on the host, with a receipt",
        )
        if delivery.engine:
            fleet_deployments.append(deploy)
        else:
            yield deploy
    yield from fleet_deployments


def _build_release(desired: DesiredState, name: str) -> Outcome:
    faults_of = partial(full_check.faults, desired)
    return release.build(
        desired.release_spec(name),
        desired.project.store.release(name),
        partial(desired.render_within_limits, name),
        faults_of,
    )


def _release_stale(desired: DesiredState, name: str) -> list[Reason]:
    return release.stale_reasons(
        desired.release_spec(name), f"{desired.project.store.build}/release/{name}", desired.project.cache
    )


# -- cleanup --------------------------------------------------------------------------------------------------------


def _cleanup(store: Store, artifact_ids: set[ArtifactId], leaves: set[str]) -> Artifact:
    return Artifact(
        id=ArtifactId("cleanup", "build"),
        targets=(),
        sources=(),
        make=partial(cleanup.remove_leftovers, store, artifact_ids, leaves),
        stale=partial(cleanup.stale, store, artifact_ids, leaves),
        doc="removes what is no longer in pki.yaml and templates/",
    )
