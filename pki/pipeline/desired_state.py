"""The project as its present authorities permit it: hosts, leaves, managed files, and what each host's templates may know.

What waits for a ceremony is noted, and left out of everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pki.authority.certificate_holders import holders
from pki.common import filesystem, yaml_text
from pki.common.errors import PkiError
from pki.common.limited_process import Begin, Confined, ExceededError
from pki.common.remedies import in_project
from pki.common.templating import FIX
from pki.config import upstreams
from pki.config.fields import Access
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import (
    CANARY,
    PROBE,
    canary_leaf,
    client_leaf,
    host_leaves,
    leaf_name,
    probe_leaf,
    service_names,
)
from pki.config.model import Host, Inventory, Leaf
from pki.config.name_claims import Place
from pki.config.proxies import PROGRAMS
from pki.deploy import managed_files
from pki.deploy.managed_files import CA_HOST, Library, ManagedFile, UnassignedFile
from pki.deploy.release import ReleaseSpec, RenderedFiles, load, render_files
from pki.pipeline.artifact_files import LEAF_FILES, ArtifactFiles
from pki.pipeline.cnf_certificates import request_leaves
from pki.pipeline.template_context import Generations, Revoked, Said, TooLarge
from pki.project.project import Project
from pki.x509 import canonical
from pki.x509.name_constraints import PermittedNames


@dataclass(frozen=True, slots=True)
class Note:
    """Something that only a person can do: what it is about, what is so, and the command to type."""

    subject: str
    text: str
    remedy: str


@dataclass
class World:
    """Everything that artifacts are made from. `waiting` are artifacts that need a ceremony first."""

    project: Project
    hosts: dict[str, Host]
    leaves: dict[str, Leaf]
    library: Library
    waiting: frozenset[ArtifactId]
    notes: list[Note]
    _shared: dict[str, Any] = field(default_factory=dict)
    _subnets: dict[str, str] = field(default_factory=dict)
    _nobody: Revoked | None = None
    _all_fit: TooLarge | None = None
    _exceeded: dict[str, PkiError] = field(default_factory=dict)
    _common: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> World:
        """What there is, by pki.yaml, templates/ and the name constraints of the intermediates that issue now."""
        said, notes = project.inventory, list[Note]()
        hosts, leaves = _permitted_hosts(project, notes)
        waiting = {
            leaf.artifact
            for name, host in said.hosts.items()
            if hosts[name] is not host
            for leaf in host_leaves(said, name, host)
            if leaf.name not in leaves
        }
        library = managed_files.read_library(
            project.store.templates, {"inventory": Said(said)}, said.hosts, said.networks, project.cache
        )
        library = _with_what_is_gone(project, library)
        taken = {*leaves, *(one.name for one in waiting)}
        declared = request_leaves(said, library, taken, partial(_line, project), partial(holders, project))
        ours = {name: leaf for name, leaf in leaves.items() if leaf.is_named_like_dns}
        for leaf in (*ours.values(), *declared.leaves):
            ca = project.issuing(leaf.authority)
            constrained = (*leaf.dns, *leaf.addresses, *([leaf.common_name] if leaf.is_named_like_dns else []))
            refused = [n for n in constrained if ca and not PermittedNames.of_ca(ca.certificate).permits(n.lower())]
            leaves[leaf.name] = leaf
            if ca and refused:
                notes.append(_needs_ceremony(leaf.artifact, list(dict.fromkeys(refused)), ca.name))
                waiting.add(leaf.artifact)
                del leaves[leaf.name]
        notes += [Note(f"templates/{one.name}", *remark) for one in declared.library.files for remark in one.remarks]
        return cls(project, hosts, leaves, declared.library, frozenset(waiting), notes)

    @cached_property
    def _rendering(self) -> Confined[tuple[str, tuple[str, ...]], RenderedFiles]:
        return self.project.ended_with(Confined(self._gather))

    @cached_property
    def _naming(self) -> Confined[tuple[str, str], str]:
        return self.project.ended_with(Confined(self._render_name))

    @cached_property
    def withheld_serials(self) -> frozenset[int]:
        """Serial numbers of leaves that were revoked, and that their hosts keep until a person renews them."""
        serials = set[int]()
        for name, leaf in self.leaves.items() if self.project.withheld else ():
            if ArtifactId("cert", name) in self.project.withheld:
                held = canonical.read_first_certificate(filesystem.read(self.project.store.bundle(leaf)) or b"")
                if held is not None:  # one that is missing or damaged is on no host because of us
                    serials.add(held.serial_number)
        return frozenset(serials)

    # -- releases --

    @cached_property
    def _waiting_files(self) -> tuple[ArtifactId, ...]:
        """Artifacts that managed files may name and that will not be there until a ceremony has been held."""
        return tuple(sorted(ArtifactId(kind, leaf.name) for leaf in self.waiting for kind in LEAF_FILES))

    def release_spec(self, name: str) -> ReleaseSpec:
        """What a host's release is made of; `name` may be that of the machine that runs doit."""
        host = self.hosts.get(name)
        selection = self.library.for_host(name, host)
        return ReleaseSpec(
            host=name,
            selection=selection,
            templates=self.library.templates,
            context=self.context(name),
            sources=self.artifact_files,
            waiting=self._waiting_files,
            faults=(*selection.faults, *self.kept_back.get(name, ())),
        )

    @cached_property
    def kept_back(self) -> dict[str, list[PkiError]]:
        """Hosts that may have something of a file of which nobody can tell for which hosts it is, with what is wrong.

        It must not be taken away from them, so their releases stay as they are.
        """
        found: dict[str, list[PkiError]] = {}
        disk = self.project.store
        for name in (*self.hosts, CA_HOST) if self.library.unassigned else ():
            release = load(disk.release(name))
            has = {file.managed for file in release.files} if release else None
            for lost in self.library.unassigned:
                is_there = any(map(lost.covers, has)) if has is not None else disk.receipt(name).exists()
                if is_there:
                    found.setdefault(name, []).append(lost.fault)
        return found

    @cached_property
    def undeclared(self) -> dict[str, PkiError]:
        """Leaves that files may declare which cannot be read now, with what is wrong: what there is of them stays."""
        found = {file.leaf_name: file.fault for file in self.library.files if file.fault and file.may_declare}
        for lost in self.library.unassigned:
            if lost.is_folder:
                there = self.project.store.build / "certs"
                found |= {path.name: lost.fault for path in (there.iterdir() if there.is_dir() else ())}
            else:  # whose headers nobody knows
                found[Path(lost.name).stem] = lost.fault
        return {name: fault for name, fault in found.items() if name not in self.leaves}

    def gather(self, name: str) -> RenderedFiles:
        """Render every file of a host's release within limits. A template that exceeded them is not tried again."""
        while True:
            try:
                gathered = self._rendering.ask((name, tuple(self._exceeded)))
            except ExceededError as error:
                if not error.piece:
                    raise PkiError(f"release {error.what}", "./run doit") from None
                place = self.library.templates.place_of(error.piece, error.frames)
                self._exceeded[error.piece] = PkiError(f"{place}: {error.what}", FIX)
            else:
                used = {file.name for file in self.library.for_host(name, self.hosts.get(name)).files}
                gathered.faults |= {one: fault for one, fault in self._exceeded.items() if one in used}
                return gathered

    def _gather(self, what: tuple[str, tuple[str, ...]], begin: Begin) -> RenderedFiles:
        return render_files(self.release_spec(what[0]), begin, what[1])

    def context(self, name: str) -> dict[str, Any]:
        """The values that a host's templates may use; plain, so that a digest tells whether they changed."""
        said, host = self.project.inventory, self.hosts.get(name)
        if not self._shared:
            self._shared = {
                "inventory": Said(said),
                "authority": Generations(self.project),
                "revoked": Revoked(self.project),
                "too_large": TooLarge(self.project),
                "probes": [PROBE, CANARY],
            }
            self._nobody, self._all_fit = Revoked(None), TooLarge(None)
            self._subnets = {network: str(block) for network, block in said.networks.items()}
        shared = self._shared
        if not _has_clients(host):
            shared = {**shared, "revoked": self._nobody}
        if name != said.publish.host:
            shared = {**shared, "too_large": self._all_fit}
        if host is None:
            return {**shared, "host": {"name": name}, "services": [], "leaf": {}}
        view = {
            "name": name,
            "network": host.network,
            "subnet": self._subnets[host.network],
            "address": str(host.address) if host.address else "",
            "port": host.port,
            "proxy": host.proxy or "",
            "reload": PROGRAMS[host.proxy].reload if host.proxy else "",
        }
        levels: tuple[Access, ...] = ("tls", "mtls")
        leaf = {access: found for access in levels if (found := leaf_name(name, access)) in self.leaves}
        return {**shared, "host": view, "services": self._services(name, host), "leaf": leaf}

    def _services(self, name: str, host: Host) -> list[dict[str, Any]]:
        """The services of a host as its templates see them, those with wildcards last."""
        services: list[dict[str, Any]] = [
            {
                "name": service_name,
                "names": service_names(self.project.inventory, host, service_name),
                "upstream": service.upstream.url,
                "upstream_address": upstreams.upstream_host_and_port(service.upstream),
                "upstream_tls": tls.view() if (tls := upstreams.upstream_tls(host, service_name)) else None,
                "access": service.access,
                "upgrades": service.upgrades,
                "leaf": leaf_name(name, service.access),
            }
            for service_name, service in host.services.items()
        ]
        return sorted(services, key=lambda one: _breadth(one["names"]))

    def release_sources(self, name: str) -> tuple[str, ...]:
        """The files that a host's release is made of: its managed files, and those of the artifacts they name."""
        host = self.hosts.get(name)
        selection = self.library.for_host(name, host)
        if id(selection) not in self._common:
            self._common[id(selection)] = self._common_sources(selection.files, has_clients=_has_clients(host))
        common, varying = self._common[id(selection)]
        named = [self._artifact_name(artifact, name) for artifact in varying]
        return (*common, *(path for artifact in named if artifact for path in self._paths_of(artifact)))

    def _artifact_name(self, text: str, name: str) -> str:
        """What a header with variables names on one host; empty when it cannot be told, as the release then says."""
        plain = text.replace("{{ host.name }}", name)
        if "{" not in plain:
            return plain
        templates = self.library.templates
        try:
            if templates.is_harmless(plain):
                return templates.render_text(plain, self.context(name))
            return self._naming.ask((plain, name))
        except (PkiError, ExceededError):
            return ""

    def _render_name(self, what: tuple[str, str], _begin: Begin) -> str:
        return self.library.templates.render_text(what[0], self.context(what[1]))

    def _common_sources(
        self, files: tuple[ManagedFile, ...], *, has_clients: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sources that hosts of one selection share, and the artifacts that they do not."""
        named = {artifact for file in files for artifact in file.artifacts}
        reads = frozenset[str]().union(*(file.reads for file in files))
        if any(name.startswith("authority") for name in reads):
            named.add("trust:roots")  # which is made after every authority
        if has_clients and any(name.startswith("revoked") for name in reads):
            named.add("crl:client")
        fixed = [path for artifact in named if "{" not in artifact for path in self._paths_of(artifact)]
        templates = [f"{self.project.store.templates}/{file.name}" for file in files]
        return (*templates, *fixed), tuple(artifact for artifact in named if "{" in artifact)

    def _paths_of(self, artifact: str) -> list[str]:
        kind, what = ArtifactId.parse(artifact).parts
        if kind in LEAF_FILES and what in self.leaves:
            return [self.project.store.leaf_file(self.leaves[what], LEAF_FILES[kind])]
        try:
            return [str(path) for _, path in self.artifact_files(artifact)]
        except PkiError:
            return []  # the release itself says what is wrong

    # -- artifacts that templates name --

    @cached_property
    def _files(self) -> ArtifactFiles:
        templates = {f"templates/{file.name}" for file in self.library.files}
        return ArtifactFiles(self.project, self.hosts, self.leaves, lambda: self.undeclared, templates)

    def artifact_files(self, name: str) -> list[tuple[str, Path]]:
        """The files of an artifact that a managed file names, each with its generation, or an empty text."""
        return self._files.of(name)


def _with_what_is_gone(project: Project, library: Library) -> Library:
    """A templates/ that is gone as a whole, while there are releases made of it, was lost: nothing is taken away."""
    if project.store.templates.is_dir() or not (project.store.build / "release").is_dir():
        return library
    fault = PkiError(
        "templates/ is not there",
        f"put it back, or make it empty to take away what was delivered: mkdir {in_project('templates')}",
    )
    return replace(library, unassigned=(UnassignedFile(".", fault, is_folder=True),))


def _breadth(names: Sequence[str]) -> float:
    """How much the wildcards among some names take in: first match wins with some proxies, so the broadest go last."""
    return max((1 / name.count(".") for name in names if name.startswith("*.")), default=0)


def domain_of_clients(project: Project) -> str:
    """The first domain below which the present client authority may name anything; empty while there is none."""
    issuer = project.issuing("client")
    permitted = PermittedNames.of_ca(issuer.certificate) if issuer else None
    return next((one for one in project.inventory.domains if permitted is None or permitted.permits(one)), "")


def _line(project: Project, place: Place) -> str:
    """Where a place in pki.yaml stands, as a text behind it."""
    text = (filesystem.read(project.store.home / "pki.yaml") or b"").decode(errors="replace")
    return f" (pki.yaml:{yaml_text.line_of(text, place)})"


def _has_clients(host: Host | None) -> bool:
    return host is not None and any(service.access == "mtls" for service in host.services.values())


def _permitted_hosts(project: Project, notes: list[Note]) -> tuple[dict[str, Host], dict[str, Leaf]]:
    """Hosts without the services and names that wait for a ceremony, and the leaves of hosts and clients."""
    said, server = project.inventory, project.issuing("server")
    permitted = PermittedNames.of_ca(server.certificate) if server else None
    hosts: dict[str, Host] = {}
    leaves: dict[str, Leaf] = {}
    for name, host in said.hosts.items():
        hosts[name] = host
        if permitted and server:
            hosts[name] = _permitted_host(said, name, host, permitted, server.name, notes)
        leaves |= {leaf.name: leaf for leaf in host_leaves(said, name, hosts[name])}
    domain = domain_of_clients(project)
    for name, client in said.clients.items():
        leaf = client_leaf(said, name, client, domain)
        leaves[leaf.name] = leaf
    if any((host.deliver in {"ssh", "local"} or host.is_probed) and _has_clients(host) for host in hosts.values()):
        leaves |= {PROBE: probe_leaf(said), CANARY: canary_leaf(said)}
    return hosts, leaves


def _permitted_host(
    said: Inventory, name: str, host: Host, permitted: PermittedNames, ca: str, notes: list[Note]
) -> Host:
    """The host without the services and names that the present intermediate does not permit."""
    refused = [n for n in host.names if not permitted.permits(n)]
    services = {}
    for service_name, service in host.services.items():
        lacking = [n for n in service_names(said, host, service_name) if not permitted.permits(n)]
        refused += lacking
        if not lacking:
            services[service_name] = service
    if not refused:
        return host
    notes.append(_needs_ceremony(ArtifactId("host", name), refused, ca))
    names = tuple(n for n in host.names if permitted.permits(n))
    return host.model_copy(update={"services": services, "names": names})


def _needs_ceremony(subject: str, refused: list[str], ca: str) -> Note:
    verb = "wait" if len(refused) > 1 else "waits"
    return Note(
        subject,
        f"{', '.join(refused)} {verb}: {ca} does not permit {'them' if len(refused) > 1 else 'it'}; needs a ceremony",
        f"./run invoke ceremony.request, for a new generation of {GenerationName.parse(ca).authority} with wider name constraints",
    )
