"""Plan a project: its artifacts, the sources of each artifact, and their order.

An artifact contains two functions, which are called later: `stale` decides whether it is out of date, `make` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from pki.authority import certificates, crls, leaf_files, trust_bundles, trust_page
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.common.reasons import Outcome, Reason, reasons_from_text
from pki.config.identifiers import ALL_AUTHORITIES, AUTHORITIES, ROOTS, ArtifactId
from pki.config.model import Leaf
from pki.deploy import release
from pki.deploy.artifact_content import PKCS12_KINDS
from pki.deploy.delivery import Delivery
from pki.pipeline import cleanup, delivery_targets, full_check, remarks, unsupported_keys
from pki.pipeline.artifact import Artifact
from pki.pipeline.authority_artifacts import AuthorityArtifacts, planned_generations
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.desired_state import DesiredState
from pki.pipeline.pkcs12_artifacts import pkcs12_artifacts
from pki.project.authorities import own_authorities
from pki.project.layout import Store
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Plan:
    """The artifacts of a project, the actions required of the user, and the hosts.

    `leaves` are the leaves that can be issued now. Two kinds of leaves are not among them: those `awaiting_ceremony`, and
    `leaves_of_invalid_files`, which an invalid file in templates/ may declare. The issued files of both stay as they are.
    The callables compute their result when they are called, because most commands need only some of the results.
    """

    artifacts: tuple[Artifact, ...]
    actions_required: tuple[Notice, ...]
    leaves: Mapping[str, Leaf]
    awaiting_ceremony: frozenset[ArtifactId]
    leaves_of_invalid_files: frozenset[str]
    deliveries: Mapping[str, Delivery]
    probe_targets: Callable[[], Iterator[ProbeTarget]]
    template_faults: Callable[[], tuple[PkiError, ...]]  # of all templates, also of those that are in no release
    faults_outside_releases: Callable[[], tuple[PkiError, ...]]  # of the templates that are in no release
    remarks: Callable[[], Iterator[Notice]]  # useful to read before the next run; no action is required


def plan(project: Project) -> Plan:
    """Return the plan of a project. Every artifact follows the artifacts that it is made from."""
    # A sandbox creates missing authorities in the same run, so their CRLs and leaves are planned as if they existed.
    project.authorities.expect(planned_generations(project.authorities) if project.inventory.sandbox else ())
    desired = DesiredState.of(project)
    deliveries = {delivery.host: delivery for delivery in delivery_targets.deliveries(desired)}
    canary_leaves = [leaf for leaf in desired.leaves.values() if leaf.is_canary]  # empty without mutual TLS
    authority_artifacts, issued_artifacts = AuthorityArtifacts(project), IssuedArtifacts(project)
    artifacts = (
        *authority_artifacts.authorities(),
        *authority_artifacts.requests(),
        # The canary is issued and revoked first, because the client CRL must list it.
        *issued_artifacts.leaves(canary_leaves),
        *issued_artifacts.crls(canary_leaves),
        *issued_artifacts.bundles(),
        issued_artifacts.trust_page(),
        *issued_artifacts.leaves(leaf for leaf in desired.leaves.values() if not leaf.is_canary),
        *pkcs12_artifacts(desired, deliveries),
        *_unreadable_templates(desired),
        *_host_artifacts(desired, deliveries.values()),
    )
    return Plan(
        artifacts=(*artifacts, _cleanup(desired, artifacts)),
        actions_required=(*desired.actions_required, *_actions_for_no_host(desired, deliveries)),
        leaves=desired.leaves,
        awaiting_ceremony=desired.awaiting_ceremony,
        leaves_of_invalid_files=frozenset(desired.leaves_of_invalid_files),
        deliveries=deliveries,
        probe_targets=partial(delivery_targets.probe_targets, desired, deliveries),
        template_faults=partial(_template_faults, desired, deliveries),
        faults_outside_releases=partial(_faults_outside_releases, desired, deliveries),
        remarks=partial(remarks.remarks, desired, deliveries),
    )


# -- certificates, CRLs, bundles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssuedArtifacts:
    """The artifacts that the authorities issue, and what is derived from them: bundles and the trust page."""

    project: Project

    def crls(self, canary_leaves: Iterable[Leaf]) -> Iterator[Artifact]:
        """Yield the CRL of each live generation, and of each adopted CA.

        The canary is a source of the client authority's CRLs, because these CRLs must list it.
        """
        crl_maker = crls.Crls(self.project)
        canary_bundles = {leaf.authority: str(self.project.store.bundle(leaf)) for leaf in canary_leaves}
        for authority in own_authorities(self.project.authorities):
            canary_sources = (canary_bundles[authority],) if authority in canary_bundles else ()
            for generation in self.project.authorities.live(authority):
                is_root = authority in ROOTS  # its CRLs were signed in advance, by a ceremony
                yield Artifact(
                    id=ArtifactId("crl", generation),
                    targets=tuple(str(self.project.store.crl(generation, form)) for form in ("crl", "pem")),
                    sources=(str(self.project.store.authority_file(generation, "cert.pem")), *canary_sources),
                    make=partial(crl_maker.publish_root if is_root else crl_maker.issue, generation),
                    stale=partial(crl_maker.stale_root_reasons if is_root else crl_maker.stale_reasons, generation),
                    doc=f"the CRL of {generation}, DER and PEM",
                )
        for name in self.project.inventory.authorities.adopted:
            yield Artifact(
                id=ArtifactId("crl", name),
                targets=tuple(str(self.project.store.crl(name, form)) for form in ("crl", "pem")),
                sources=(),
                make=partial(crl_maker.issue_adopted, name),
                stale=partial(crl_maker.stale_adopted_reasons, name),
                doc=f"the CRL of the adopted authority {name}, DER and PEM",
            )

    def leaves(self, leaves: Iterable[Leaf]) -> Iterator[Artifact]:
        """Yield an artifact for each leaf: its certificate with key and chain."""
        authority_artifacts = AuthorityArtifacts(self.project)
        issuers = {authority: authority_artifacts.certificate_path(authority) for authority in ALL_AUTHORITIES}
        certificate_maker = certificates.LeafCertificates(self.project)
        for leaf in leaves:
            csr = (str(self.project.store.home / leaf.request),) if leaf.request else ()
            yield Artifact(
                id=ArtifactId("cert", leaf.name),
                targets=tuple(leaf_files.file_names(self.project.store, leaf)),
                sources=(issuers[leaf.authority], *csr),
                make=partial(unsupported_keys.issue_with_warning, certificate_maker, leaf),
                stale=partial(certificate_maker.stale_reasons, leaf),
                doc=leaf.doc,
            )

    def bundles(self) -> Iterator[Artifact]:
        """Yield the bundles of CA certificates and of CRLs."""
        store, authorities = self.project.store, self.project.authorities
        live_generations = {name: authorities.live(name) for name in AUTHORITIES}
        generations = [generation for names in live_generations.values() for generation in names]
        # Only a certificate that this run creates is a source. If an existing one were a source too, an authority that
        # can no longer sign would fail its task and block the bundle.
        uncreated_generations = [generation for generation in generations if authorities.generation(generation) is None]
        der_files = [f"{generation}.crt" for generation in generations]
        trust_files = partial(trust_bundles.trust_files, store, authorities)
        client_crl_bundle = partial(trust_bundles.client_crl_bundle, store, authorities)
        yield _derived_bundle(
            store,
            "trust",
            targets=map(store.trust, (*der_files, "roots.pem", "client-ca.pem", "client-chain.pem")),
            sources=(store.authority_file(generation, "cert.pem") for generation in uncreated_generations),
            contents=trust_files,
            doc="trust files: roots, client authorities, every live CA certificate in DER",
        )
        yield _derived_bundle(
            store,
            "client-crls",
            targets=[store.client_crl_bundle()],
            sources=(store.crl(name, "pem") for name in (*live_generations["client"], *live_generations["root"])),
            contents=client_crl_bundle,
            doc="the CRLs of every live client chain in one file, for nginx, HAProxy and Apache",
        )
        if "peer" in own_authorities(authorities):
            yield from self._peer_bundles()
        for authority in self.project.inventory.authorities.externals:
            yield self._external_bundle(authority)

    def _peer_bundles(self) -> Iterator[Artifact]:
        """Yield the trust file and the CRLs of clusters, for their members alone."""
        store, authorities = self.project.store, self.project.authorities
        generations = [name for authority in ("peer", "root-peer") for name in authorities.live(authority)]
        uncreated = [name for name in generations if authorities.generation(name) is None]
        files = partial(trust_bundles.peer_files, store, authorities)
        crl_bundle = partial(trust_bundles.peer_crl_bundle, store, authorities)
        yield _derived_bundle(
            store,
            "peer",
            targets=(*map(store.ca_der, generations), store.trust("peer.pem")),
            sources=(store.authority_file(name, "cert.pem") for name in uncreated),
            contents=files,
            doc="the trust file of clusters, and every live CA certificate of clusters in DER",
        )
        yield _derived_bundle(
            store,
            "peer-crls",
            targets=[store.crl("bundle-peer", "pem")],
            sources=(store.crl(name, "pem") for name in generations),
            contents=crl_bundle,
            doc="the CRLs of every live chain of clusters in one file",
        )

    def _external_bundle(self, authority: str) -> Artifact:
        """Return the artifact of the files of an external authority; it has a chain once a ceremony certified it."""
        store, authorities = self.project.store, self.project.authorities
        names = [*authorities.live("root"), *authorities.live(authority)]
        uncreated_generations = [name for name in names if name in authorities.planned]
        files = partial(trust_bundles.external_files, store, authorities, authority)
        has_chain = bool(authorities.generations(authority)) or any(
            name.authority == authority for name in uncreated_generations
        )
        targets = (store.external_trust(authority), *([store.external_chain(authority)] if has_chain else []))
        return _derived_bundle(
            store,
            authority,
            targets=targets,
            sources=(store.authority_file(name, "cert.pem") for name in uncreated_generations),
            contents=files,
            doc=f"files of the external authority {authority}: its chain for its server, and trust in it",
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
        """Return the contents of the page and of the profile, by path."""
        from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

        return page.files(self.project.inventory, self.project.store, self.project.authorities)


def _derived_bundle(
    store: Store,
    name: str,
    *,
    targets: Iterable[Path],
    sources: Iterable[Path],
    contents: Callable[[], dict[str, bytes]],
    doc: str,
) -> Artifact:
    """Return the artifact of files whose content follows from certificates and CRLs alone."""
    return Artifact(
        id=ArtifactId("bundle", name),
        targets=tuple(map(str, targets)),
        sources=tuple(map(str, sources)),
        make=partial(_write_derived, store, contents),
        stale=partial(_derived_stale, store, contents),
        doc=doc,
    )


def _write_derived(store: Store, contents: Callable[[], dict[str, bytes]]) -> Outcome:
    return trust_bundles.write(store, contents())


def _derived_stale(store: Store, contents: Callable[[], dict[str, bytes]]) -> list[Reason]:
    return trust_bundles.stale_reasons(store, contents())


# -- templates that cannot be read ------------------------------------------------------------------------------------


def _unreadable_templates(desired: DesiredState) -> Iterator[Artifact]:
    """Yield an artifact that always fails for each file in templates/ whose hosts cannot be determined.

    Without this artifact nothing would report the file, because it belongs to no release.
    """
    for unassigned in desired.library.unassigned:
        yield Artifact(
            id=ArtifactId("template", quote(unassigned.name, safe="/", errors="surrogateescape")),
            targets=(),
            sources=(),
            make=partial(_raise, unassigned.fault),
            # always out of date, so that every run reports the fault
            stale=partial(reasons_from_text, unassigned.fault.message),
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


def _faults_outside_releases(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> tuple[PkiError, ...]:
    """Return the faults of templates that are in no release at present, which therefore no release reports.

    Those are the files whose hosts cannot be determined, then the files that are for no host of this project.
    """
    faults = [unassigned.fault for unassigned in desired.library.unassigned]
    return (*faults, *(fault for _, fault in _faults_for_no_host(desired, deliveries)))


def _actions_for_no_host(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[Notice]:
    """Yield the action that is required for each faulty template that is for no host of this project."""
    for name, fault in _faults_for_no_host(desired, deliveries):
        yield Notice(f"templates/{name}", fault.message, fault.hint or "fix it, then: ./run doit")


def _faults_for_no_host(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[tuple[str, PkiError]]:
    """Yield the name and the fault of each faulty file that is for no host of this project."""
    for file in desired.library.files:
        if file.fault and not any(file.is_for(name, desired.hosts.get(name)) for name in deliveries):
            yield file.name, file.fault


# -- hosts ------------------------------------------------------------------------------------------------------------


def _host_artifacts(desired: DesiredState, deliveries: Iterable[Delivery]) -> Iterator[Artifact]:
    """Yield the release and the deployment of each host that a managed file is for.

    The deployments by Ansible are last: the first of them deploys to all hosts whose releases are up to date by then.
    """
    project, build = desired.project, desired.project.store.build
    ansible_deployments: list[Artifact] = []
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
        is_by_ansible = delivery.engine is not None
        if is_by_ansible:
            ansible_deployments.append(deploy)
        else:
            yield deploy
    yield from ansible_deployments


def _build_release(desired: DesiredState, name: str) -> Outcome:
    desired.project.store.create_templates_folder()
    return release.build(
        desired.release_spec(name),
        desired.project.store.release(name),
        partial(desired.render_within_limits, name),
        partial(full_check.undeliverable_reasons, desired),
    )


def _release_stale(desired: DesiredState, name: str) -> list[Reason]:
    return release.stale_reasons(
        desired.release_spec(name), f"{desired.project.store.build}/release/{name}", desired.project.cache
    )


# -- cleanup --------------------------------------------------------------------------------------------------------


def _cleanup(desired: DesiredState, artifacts: Iterable[Artifact]) -> Artifact:
    """Return the artifact that removes every file in build/ that belongs to none of the artifacts."""
    store, artifact_ids = desired.project.store, {artifact.id for artifact in artifacts}
    unplanned_leaves = {*desired.leaves_of_invalid_files, *(leaf.name for leaf in desired.awaiting_ceremony)}
    leaves = {*desired.leaves, *unplanned_leaves}
    artifact_ids |= {ArtifactId(kind, leaf) for kind in PKCS12_KINDS for leaf in unplanned_leaves}
    return Artifact(
        id=ArtifactId("cleanup", "build"),
        targets=(),
        sources=(),
        make=partial(cleanup.remove_leftovers, store, artifact_ids, leaves),
        stale=partial(cleanup.stale, store, artifact_ids, leaves),
        doc="removes what is no longer in pki.yaml and templates/",
    )
