"""The desired state of a project: hosts, leaves, managed files, and the values for the templates of each host.

Services, names and leaves that the name constraints of the present authorities do not permit are left out. For each of
them the user must perform a ceremony, which is among the `actions_required`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from pki.authority.certificate_holders import holders
from pki.common import filesystem, yaml_text
from pki.common.errors import PkiError
from pki.common.limited_process import Begin, LimitedProcess, LimitExceededError
from pki.common.notice import Notice
from pki.common.remedies import in_project
from pki.common.templating import FIX
from pki.config import upstreams
from pki.config.fields import Access
from pki.config.identifiers import ArtifactId
from pki.config.ip_addresses import url_host
from pki.config.leaf_certificates import (
    CANARY,
    PROBE,
    leaf_name,
    listens_on_ipv6,
    peer_leaf_name,
    service_names,
)
from pki.config.model import Host, Leaf
from pki.config.name_claims import Place
from pki.config.proxies import reload_of, validate_of
from pki.deploy import managed_file_reader
from pki.deploy.gnutls_trust import trust_faults
from pki.deploy.managed_files import CA_HOST, Library, ManagedFile, UnassignedFile
from pki.deploy.release import ReleaseSpec, RenderedFiles, load, render_files
from pki.pipeline.artifact_files import LEAF_FILES, PEER_ARTIFACTS, ArtifactFiles, leaf_paths
from pki.pipeline.cnf_certificates import request_leaves
from pki.pipeline.permitted_leaves import (
    has_clients,
    has_unchecked_names,
    leaves_without_permitted_names,
    permitted_hosts,
    split_by_constraints,
)
from pki.pipeline.template_context import Generations, InventoryView, Revoked, TooLarge, recipe_views
from pki.project.authorities import own_authorities
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical


class _CommonSources(NamedTuple):
    """The sources that hosts with the same managed files share, and artifacts whose names differ between these hosts."""

    paths: tuple[str, ...]
    templated_artifacts: tuple[str, ...]


@dataclass
class DesiredState:
    """Everything that artifacts are made from. `awaiting_ceremony` are leaves that need a ceremony first.

    Caches for all hosts: `_shared`, the template values that do not depend on the host; `_subnets` of each network;
    `_exceeded`, the fault of each template that exceeded a limit; `_common_sources`, the sources that hosts with the
    same managed files share, by the identity of their selection.
    """

    project: Project
    hosts: dict[str, Host]
    leaves: dict[str, Leaf]
    library: Library
    awaiting_ceremony: frozenset[ArtifactId]
    actions_required: list[Notice]
    _shared: dict[str, Any] = field(default_factory=dict)
    _subnets: dict[str, list[str]] = field(default_factory=dict)
    _no_revocations: Revoked | None = None
    _no_size_limit: TooLarge | None = None
    _exceeded: dict[str, PkiError] = field(default_factory=dict)
    _common_sources: dict[int, _CommonSources] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> DesiredState:
        """Return the desired state, by pki.yaml, templates/ and the name constraints of the issuing intermediates."""
        config, actions_required = project.inventory, list[Notice]()
        hosts, leaves = permitted_hosts(config, project.authorities, actions_required)
        awaiting_ceremony = leaves_without_permitted_names(config, hosts, leaves)
        library = managed_file_reader.read_library(
            project.templates, {"inventory": InventoryView(config)}, config.hosts, config.networks, project.cache
        )
        library = _with_fault_of_missing_folder(project.store, library)
        names = {*leaves, *(artifact.name for artifact in awaiting_ceremony)}
        declared_by_files = request_leaves(
            config, library, names, partial(_line, project.store), partial(holders, project.revocations)
        )
        unchecked_leaves = [leaf for leaf in leaves.values() if has_unchecked_names(config, leaf)]
        permitted_leaves, forbidden_leaves = split_by_constraints(
            project.authorities, (*unchecked_leaves, *declared_by_files.leaves), actions_required
        )
        awaiting_ceremony |= {leaf.artifact for leaf in forbidden_leaves}
        leaves = {name: leaf for name, leaf in leaves.items() if leaf.artifact not in awaiting_ceremony}
        leaves |= {leaf.name: leaf for leaf in permitted_leaves}
        actions_required += [
            Notice(f"templates/{file.name}", *remark)
            for file in declared_by_files.library.files
            for remark in file.remarks
        ]
        return cls(project, hosts, leaves, declared_by_files.library, frozenset(awaiting_ceremony), actions_required)

    # Templates are text of others: they are rendered in a process whose time and memory are limited.

    @cached_property
    def _rendering(self) -> LimitedProcess[tuple[str, tuple[str, ...]], RenderedFiles]:
        return self.project.close_at_end(LimitedProcess(self._render_files))

    @cached_property
    def _header_rendering(self) -> LimitedProcess[tuple[str, str], str]:
        return self.project.close_at_end(LimitedProcess(self._render_header))

    @cached_property
    def stopped_serials(self) -> frozenset[int]:
        """Return the serial numbers of revoked leaves that stay on their hosts until the user renews them."""
        serials = set[int]()
        for name, leaf in self.leaves.items() if self.project.revocations.replacement_stopped else ():
            if ArtifactId("cert", name) in self.project.revocations.replacement_stopped:
                certificate = canonical.read_first_certificate(filesystem.read(self.project.store.bundle(leaf)) or b"")
                if certificate is not None:  # a missing or damaged one was not deployed by this run
                    serials.add(certificate.serial_number)
        return frozenset(serials)

    def is_revoked_for_hosts(self, serial: int) -> bool:
        """Return whether a certificate is revoked and must not be deployed.

        A revoked certificate whose replacement is stopped stays on its host.
        """
        is_revoked = self.project.revocations.is_revoked(serial, certificate_unchanged=False)
        return is_revoked and serial not in self.stopped_serials

    # -- releases --

    @cached_property
    def _artifacts_awaiting_ceremony(self) -> tuple[ArtifactId, ...]:
        """Return the artifacts of leaves that do not exist before the next ceremony; managed files may name them."""
        artifacts = [ArtifactId(kind, leaf.name) for leaf in self.awaiting_ceremony for kind in LEAF_FILES]
        if self.project.inventory.authorities.peer and "peer" not in own_authorities(self.project.authorities):
            artifacts += PEER_ARTIFACTS
        return tuple(sorted(artifacts))

    def release_spec(self, name: str) -> ReleaseSpec:
        """Return the specification of a host's release; `name` may be that of the machine that runs doit."""
        host = self.hosts.get(name)
        selection = self.library.for_host(name, host)
        return ReleaseSpec(
            host=name,
            selection=selection,
            templates=self.library.templates,
            context=self.context(name),
            sources=self.artifact_files,
            awaiting_ceremony=self._artifacts_awaiting_ceremony,
            faults=(
                *selection.faults,
                *(trust_faults(host, selection.files) if host else ()),
                *self.blocked_hosts.get(name, ()),
            ),
        )

    @cached_property
    def blocked_hosts(self) -> dict[str, list[PkiError]]:
        """Return the hosts that may have a file which can no longer be assigned to hosts, with the faults of such files.

        The releases of these hosts stay as they are, so that the file is not removed from them.
        """
        faults: dict[str, list[PkiError]] = {}
        store = self.project.store
        for name in (*self.hosts, CA_HOST) if self.library.unassigned else ():
            release = load(store.release(name))
            managed = {file.managed for file in release.files} if release else None
            for unassigned in self.library.unassigned:
                if managed is None:  # without the release, a host with a receipt may have any file
                    may_be_present = store.receipt(name).exists()
                else:
                    may_be_present = any(map(unassigned.covers, managed))
                if may_be_present:
                    faults.setdefault(name, []).append(unassigned.fault)
        return faults

    @cached_property
    def leaves_of_invalid_files(self) -> dict[str, PkiError]:
        """Return the names of leaves that invalid files may declare, with the fault of the file; their issued files stay."""
        faults = {file.leaf_name: file.fault for file in self.library.files if file.fault and file.may_declare}
        for unassigned in self.library.unassigned:
            if unassigned.is_folder:  # any leaf that was ever issued may be declared in it
                folder = self.project.store.build / "certs"
                faults |= {path.name: unassigned.fault for path in (folder.iterdir() if folder.is_dir() else ())}
            else:
                faults[Path(unassigned.name).stem] = unassigned.fault
        return {name: fault for name, fault in faults.items() if name not in self.leaves}

    def render_within_limits(self, name: str) -> RenderedFiles:
        """Render every file of a host's release, within limits of time and memory.

        A template that exceeds a limit ends the process that renders. Then all files are rendered again without it.
        """
        while True:
            try:
                rendered = self._rendering.ask((name, tuple(self._exceeded)))
            except LimitExceededError as error:
                if not error.piece:
                    raise PkiError(f"release {error.what}", "./run doit") from None
                place = self.library.templates.place_of(error.piece, error.frames)
                self._exceeded[error.piece] = PkiError(f"{place}: {error.what}", FIX)
            else:
                used_templates = {file.name for file in self.library.for_host(name, self.hosts.get(name)).files}
                rendered.faults |= {
                    template: fault for template, fault in self._exceeded.items() if template in used_templates
                }
                return rendered

    def _render_files(self, request: tuple[str, tuple[str, ...]], begin: Begin) -> RenderedFiles:
        host, skipped_templates = request
        return render_files(self.release_spec(host), begin, skipped_templates)

    def context(self, name: str) -> dict[str, Any]:
        """Return the values for the templates of a host.

        Each is plain data or a SharedValue, so that its digest shows whether it changed.
        """
        config, host = self.project.inventory, self.hosts.get(name)
        if not self._shared:
            self._shared = {
                "inventory": InventoryView(config),
                "authority": Generations(self.project),
                "revoked": Revoked(self.project),
                "too_large": TooLarge(self.project),
                "probes": [PROBE, CANARY],
            }
            self._no_revocations, self._no_size_limit = Revoked(None), TooLarge(None)
            self._subnets = {network: [str(block) for block in config.blocks(network)] for network in config.networks}
        shared_values = self._shared
        # A value that the files of a host cannot need is empty there: a change of it then makes no new release.
        if not has_clients(host):
            shared_values = {**shared_values, "revoked": self._no_revocations}
        if name != config.publish.host:
            shared_values = {**shared_values, "too_large": self._no_size_limit}
        if host is None:
            return {**shared_values, "host": {"name": name}, "services": [], "recipes": {}, "leaf": {}}
        view = {
            "name": name,
            "network": host.network,
            "subnet": self._subnets[host.network][0],
            "subnets": self._subnets[host.network],
            "address": str(host.addresses[0]) if host.addresses else "",
            "addresses": [str(address) for address in host.addresses],
            "listens_on_ipv6": listens_on_ipv6(config, name),
            "port": host.port,
            "proxy": host.proxy or "",
            "reload": reload_of(host),
            "validate": validate_of(host),
        }
        levels: tuple[Access, ...] = ("tls", "mtls")
        names_of_leaves: dict[str, str] = {access: leaf_name(name, access) for access in levels}
        names_of_leaves["peer"] = peer_leaf_name(name)
        leaf = {kind: leaf_of_kind for kind, leaf_of_kind in names_of_leaves.items() if leaf_of_kind in self.leaves}
        services, recipes = self._services(name, host), recipe_views(config, name)
        return {**shared_values, "host": view, "services": services, "recipes": recipes, "leaf": leaf}

    def _services(self, name: str, host: Host) -> list[dict[str, Any]]:
        """Return the services behind the proxy of a host as its templates see them, those with wildcards last."""
        services: list[dict[str, Any]] = [
            {
                "name": service_name,
                "names": service_names(self.project.inventory, host, service_name),
                "url_hosts": list(map(url_host, service_names(self.project.inventory, host, service_name))),
                "upstream": upstream.url,
                "upstream_address": upstreams.upstream_host_and_port(upstream),
                "upstream_tls": tls.view() if (tls := upstreams.upstream_tls(host, service_name)) else None,
                "access": service.access,
                "upgrades": service.upgrades,
                "leaf": leaf_name(name, service.access),
            }
            for service_name, service in host.services.items()
            if (upstream := service.upstream) is not None
        ]
        return sorted(services, key=lambda view: _breadth(view["names"]))

    def release_sources(self, name: str) -> tuple[str, ...]:
        """Return the paths of the files that a host's release depends on.

        Those are its managed files and the files of the artifacts that they name.
        """
        host = self.hosts.get(name)
        selection = self.library.for_host(name, host)
        if id(selection) not in self._common_sources:
            self._common_sources[id(selection)] = self._sources_of(selection.files, has_clients=has_clients(host))
        common = self._common_sources[id(selection)]
        artifacts = [self._artifact_name(artifact, name) for artifact in common.templated_artifacts]
        return (*common.paths, *(path for artifact in artifacts if artifact for path in self._paths_of(artifact)))

    def _artifact_name(self, text: str, name: str) -> str:
        """Return the artifact that a header with variables names for one host; "" where the release reports a fault."""
        plain = text.replace("{{ host.name }}", name)
        if "{" not in plain:
            return plain
        templates = self.library.templates
        try:
            if templates.is_harmless(plain):
                return templates.render_text(plain, self.context(name))
            return self._header_rendering.ask((plain, name))
        except (PkiError, LimitExceededError):
            return ""

    def _render_header(self, request: tuple[str, str], _begin: Begin) -> str:
        text, host = request
        return self.library.templates.render_text(text, self.context(host))

    def _sources_of(self, files: tuple[ManagedFile, ...], *, has_clients: bool) -> _CommonSources:
        """Return the sources of all hosts that have exactly these managed files."""
        artifacts = {artifact for file in files for artifact in file.artifacts}
        reads = frozenset[str]().union(*(file.reads for file in files))
        if any(name.startswith("authority") for name in reads):
            artifacts.add("trust:roots")  # changes with every authority
        if has_clients and any(name.startswith("revoked") for name in reads):
            artifacts.add("crl:client")
        fixed = [path for artifact in artifacts if "{" not in artifact for path in self._paths_of(artifact)]
        templates = [str(self.project.templates.path(file.name)) for file in files]
        return _CommonSources((*templates, *fixed), tuple(artifact for artifact in artifacts if "{" in artifact))

    def _paths_of(self, artifact: str) -> list[str]:
        kind, name = ArtifactId.parse(artifact).parts
        if kind in LEAF_FILES and name in self.leaves:
            return leaf_paths(self.project.store, kind, self.leaves[name])
        try:
            return [str(path) for _, path in self.artifact_files(artifact)]
        except PkiError:
            return []  # an unknown artifact, which the release reports

    # -- artifacts that templates name --

    @cached_property
    def _files(self) -> ArtifactFiles:
        templates = {f"templates/{file.name}" for file in self.library.files}
        return ArtifactFiles(self.project, self.hosts, self.leaves, lambda: self.leaves_of_invalid_files, templates)

    def artifact_files(self, name: str) -> list[tuple[str, Path]]:
        """Return the files of an artifact that a managed file names, each with its generation or "".

        Raises PkiError for an unknown artifact.
        """
        return self._files.of(name)


def _with_fault_of_missing_folder(store: Store, library: Library) -> Library:
    """Return the library, with a fault if templates/ is missing although releases exist.

    Then the folder was lost. The fault prevents that every deployed file is removed from the hosts.
    """
    if store.templates.is_dir() or not (store.build / "release").is_dir():
        return library
    fault = PkiError(
        "templates/ is missing",
        f"restore it, or create it empty to deliver no file of your own: mkdir {in_project('templates')}",
    )
    return replace(library, unassigned=(UnassignedFile(".", fault, is_folder=True),))


def _breadth(names: Sequence[str]) -> float:
    """Return a sort key for services: 0 without wildcards; the fewer labels a wildcard has, the higher the key.

    Some proxies use the first service whose name matches, so the broadest names must be last.
    """
    return max((1 / name.count(".") for name in names if name.startswith("*.")), default=0)


def _line(store: Store, place: Place) -> str:
    """Return the line of a place in pki.yaml, as text to append to a message."""
    text = (filesystem.read(store.home / "pki.yaml") or b"").decode(errors="replace")
    return f" (pki.yaml:{yaml_text.line_of(text, place)})"
