"""`Inventory` → artifacts: what is made, of what, in which order. All decisions are taken here, ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pki import freshness, inventory, managed, recipes, tidy
from pki.ceremony import authorities
from pki.deploy import delivery, release
from pki.deploy.folder import FolderTransport
from pki.errors import PkiError
from pki.house import House, missing_authority
from pki.managed import CA_HOST, Library, ManagedFile
from pki.memo import token
from pki.model import Host, Inventory, Leaf
from pki.profiles import Permitted
from pki.requests import request_leaves
from pki.store import AUTHORITIES

LEAF_FILES = ("tls", "key", "cert", "chain", "fullchain")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing that doit keeps: `make` is idempotent and raises PkiError, `stale` says why it must run.

    `targets` and `sources` are paths as text, because doit wants them so.
    """

    name: str
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    make: Callable[[], None]
    stale: Callable[[], list[str]]
    doc: str

    def reasons(self) -> list[str]:
        """Why it must be made; a look that fails is a reason too."""
        try:
            return self.stale()
        except PkiError as error:
            return [error.message]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that only a person can do: what it is about, what is so, and the command to type."""

    subject: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    artifacts: tuple[Artifact, ...]
    notes: tuple[Note, ...]
    leaves: Mapping[str, Leaf]


@dataclass
class World:
    """The house as the present authorities permit it: what waits for a ceremony is noted and left out."""

    house: House
    hosts: dict[str, Host]
    library: Library
    leaves: dict[str, Leaf]
    by_host: dict[str, list[Leaf]]
    waiting: frozenset[str]
    notes: list[Note]
    shared: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, list[tuple[str, Path]]] = field(default_factory=dict)


def plan(house: House) -> Plan:
    """Every artifact of the house, sources before what is made of them."""
    world = _world(house)
    artifacts = (
        *_authorities(house),
        *_crls(house),
        *_bundles(house),
        *(_leaf_artifact(house, leaf) for leaf in world.leaves.values()),
        *_host_artifacts(world),
    )
    known = {artifact.name for artifact in artifacts}
    kept = world.leaves.keys() | {name.removeprefix("cert:") for name in world.waiting}
    return Plan((*artifacts, _tidy(house, known, kept)), tuple(world.notes), world.leaves)


# -- what there is ----------------------------------------------------------------------------------------------------


def _world(house: House) -> World:
    said, notes, waiting = house.inventory, list[Note](), set[str]()
    server = house.issuing("server")
    permitted = Permitted.by(server.certificate) if server else None
    hosts = dict(said.hosts)
    if permitted and server:
        for name, host in said.hosts.items():
            hosts[name] = _permitted_host(said, name, host, permitted, server.name, notes)
    shown = said if hosts == said.hosts else said.model_copy(update={"hosts": hosts})
    context = {"inventory": said}
    library = managed.find(house.store.templates, context, said.hosts, said.networks)
    by_host = {name: list(inventory.host_leaves(shown, name)) for name in hosts}
    leaves = {leaf.name: leaf for found in by_host.values() for leaf in found}
    for name, client in said.clients.items():
        leaf = inventory.client_leaf(said, name, client)
        leaves[leaf.name] = leaf
    for name in said.hosts if shown is not said else ():
        waiting |= {f"cert:{leaf.name}" for leaf in inventory.host_leaves(said, name) if leaf.name not in leaves}
    library, declared = request_leaves(said, library, leaves.keys())
    for leaf in declared:
        ca = house.issuing(leaf.authority)
        refused = [n for n in (*leaf.dns, *leaf.addresses) if ca and not Permitted.by(ca.certificate).admits(n)]
        if ca and refused:
            notes.append(_needs_ceremony(f"cert:{leaf.name}", refused, ca.name))
            waiting.add(f"cert:{leaf.name}")
        else:
            leaves[leaf.name] = leaf
    return World(house, hosts, library, leaves, by_host, frozenset(waiting), notes)


def _permitted_host(said: Inventory, name: str, host: Host, permitted: Permitted, ca: str, notes: list[Note]) -> Host:
    """The host without the services and names that the present intermediate does not permit."""
    refused = [n for n in host.names if not permitted.admits(n)]
    services = {}
    for service_name, service in host.services.items():
        lacking = [n for n in inventory.service_names(said, host, service_name) if not permitted.admits(n)]
        refused += lacking
        if not lacking:
            services[service_name] = service
    if not refused:
        return host
    notes.append(_needs_ceremony(f"host:{name}", refused, ca))
    names = tuple(n for n in host.names if permitted.admits(n))
    return host.model_copy(update={"services": services, "names": names})


def _needs_ceremony(subject: str, refused: list[str], ca: str) -> Note:
    verb = "wait" if len(refused) > 1 else "waits"
    return Note(
        subject,
        f"{', '.join(refused)} {verb}: {ca} does not permit {'them' if len(refused) > 1 else 'it'}; needs a ceremony",
        f"a new generation of {ca.rpartition('-')[0]} with wider name constraints",
    )


# -- authorities, CRLs, bundles ---------------------------------------------------------------------------------------


def _authorities(house: House) -> Iterator[Artifact]:
    for name in AUTHORITIES:
        generation = house.issuing(name)
        newest = generation.name if generation else f"{name}-1"
        files = ("cert.pem",) if name == "root" else ("cert.pem", "key.pem")
        yield Artifact(
            name=f"authority:{name}",
            targets=tuple(str(house.store.authority_file(newest, file)) for file in files),
            sources=() if name == "root" else (_certificate_path(house, "root"),),
            make=partial(_make_authority, house, name),
            stale=partial(freshness.authority, house, name),
            doc=f"the {name} authority: a source, which only a ceremony (or the sandbox) makes",
        )


def _make_authority(house: House, name: str) -> None:
    reasons = freshness.authority(house, name)
    if not reasons:
        return
    if house.issuing(name) is not None:
        raise PkiError(f"{reasons[0]}; needs a ceremony", "put it back from a backup, or hold a ceremony for a new one")
    if not house.inventory.sandbox:
        raise missing_authority(name)
    authorities.sandbox(house, name)


def _certificate_path(house: House, authority: str) -> str:
    generation = house.issuing(authority)
    return str(house.store.authority_file(generation.name if generation else f"{authority}-1", "cert.pem"))


def _crls(house: House) -> Iterator[Artifact]:
    for authority in AUTHORITIES:
        for generation in house.live(authority):
            is_root = authority == "root"
            yield Artifact(
                name=f"crl:{generation}",
                targets=tuple(str(house.store.crl(generation, form)) for form in ("crl", "pem")),
                sources=(str(house.store.authority_file(generation, "cert.pem")),),
                make=partial(recipes.root_crl if is_root else recipes.crl, house, generation),
                stale=partial(freshness.root_crl if is_root else freshness.crl, house, generation),
                doc=f"the CRL of {generation}, DER and PEM",
            )


def _bundles(house: House) -> Iterator[Artifact]:
    live = {name: house.live(name) for name in AUTHORITIES}
    generations = [generation for found in live.values() for generation in found]
    files = [
        *(f"{generation}.crt" for generation in generations),
        "roots.pem",
        "client-ca.pem",
        "client-chain.pem",
    ]
    yield Artifact(
        name="bundle:trust",
        targets=tuple(str(house.store.trust(file)) for file in files),
        sources=tuple(str(house.store.authority_file(generation, "cert.pem")) for generation in generations),
        make=partial(_write_derived, house, recipes.trust_files),
        stale=partial(_derived_stale, house, recipes.trust_files),
        doc="what others trust: roots, client authorities, every live certificate authority in DER",
    )
    yield Artifact(
        name="bundle:client",
        targets=(str(house.store.client_crl_bundle()),),
        sources=tuple(str(house.store.crl(name, "pem")) for name in (*live["client"], *live["root"])),
        make=partial(_write_derived, house, recipes.client_crl_bundle),
        stale=partial(_derived_stale, house, recipes.client_crl_bundle),
        doc="the CRLs of every live client chain in one file, as nginx, HAProxy and Apache want them",
    )


def _write_derived(house: House, contents: Callable[[House], dict[str, bytes]]) -> None:
    recipes.write_derived(house, contents(house))


def _derived_stale(house: House, contents: Callable[[House], dict[str, bytes]]) -> list[str]:
    return freshness.derived(house, contents(house))


# -- leaves -----------------------------------------------------------------------------------------------------------


def _leaf_artifact(house: House, leaf: Leaf) -> Artifact:
    request = (str(house.store.home / leaf.request),) if leaf.request else ()
    return Artifact(
        name=f"cert:{leaf.name}",
        targets=tuple(freshness.leaf_files(house, leaf)),
        sources=(_certificate_path(house, leaf.authority), *request),
        make=partial(recipes.leaf, house, leaf),
        stale=partial(freshness.leaf, house, leaf),
        doc=leaf.doc,
    )


# -- hosts ------------------------------------------------------------------------------------------------------------


def _host_artifacts(world: World) -> Iterator[Artifact]:
    """Release and delivery of every host that some managed file is for."""
    house, store = world.house, world.house.store
    hosts: dict[str, Host | None] = {n: h for n, h in world.hosts.items() if h.deliver != "none"}
    hosts[CA_HOST] = None
    for name, host in hosts.items():
        files = world.library.for_host(name, host)
        faults = world.library.lost if host is None else ()
        if not files and not faults:
            continue
        folder, receipt = store.release(name), store.receipt(name)
        transport = FolderTransport(store.host_root(name))
        manifest = str(folder / "manifest.json")
        blueprint = partial(_blueprint, world, name, host, files)
        yield Artifact(
            name=f"release:{name}",
            targets=(manifest,),
            sources=tuple(_release_sources(world, name, host, files)),
            make=partial(_build_release, blueprint, folder),
            stale=partial(_release_stale, house, blueprint, folder),
            doc=f"every file of {name}, with a manifest",
        )
        yield Artifact(
            name=f"deploy:{name}",
            targets=(str(receipt),),
            sources=(manifest,),
            make=partial(delivery.deliver, folder, receipt, transport, house.now),
            stale=partial(delivery.stale, name, folder, receipt, transport, house.memo),
            doc=f"the release of {name}, delivered, with a receipt",
        )


def _build_release(blueprint: Callable[[], release.Blueprint], folder: Path) -> None:
    release.build(blueprint(), folder)


def _release_stale(house: House, blueprint: Callable[[], release.Blueprint], folder: Path) -> list[str]:
    return release.stale(blueprint(), folder, house.memo)


def _blueprint(world: World, name: str, host: Host | None, files: tuple[ManagedFile, ...]) -> release.Blueprint:
    faults = tuple(file.fault for file in files if file.fault) + (world.library.lost if host is None else ())
    waiting = {f"{kind}:{leaf.removeprefix('cert:')}" for leaf in world.waiting for kind in LEAF_FILES}
    return release.Blueprint(
        host=name,
        files=files,
        library=world.library,
        context=_context(world, name, host),
        sources=partial(_artifact_files, world),
        waiting=frozenset(waiting),
        faults=faults,
    )


def _context(world: World, name: str, host: Host | None) -> dict[str, Any]:
    """The values that templates may use; plain, so that a digest tells whether they changed."""
    said = world.house.inventory
    if not world.shared:
        world.shared = {"inventory": Said(said), "authority": _authority_names(world.house)}
    if host is None:
        return {**world.shared, "host": {"name": name}, "services": [], "leaf": {}}
    services = [
        {
            "name": service_name,
            "names": inventory.service_names(said, host, service_name),
            "upstream": service.upstream,
            "access": service.access,
            "leaf": inventory.leaf_name(name, service.access),
        }
        for service_name, service in host.services.items()
    ]
    view = {
        "name": name,
        "network": host.network,
        "subnet": str(said.networks[host.network]),
        "address": str(host.address) if host.address else "",
        "proxy": host.proxy or "",
    }
    leaf = {("mtls" if found.name.endswith("-mtls") else "tls"): found.name for found in world.by_host[name]}
    return {**world.shared, "host": view, "services": services, "leaf": leaf}


class Said:
    """The inventory as templates see it; each section of it has a digest of its own."""

    def __init__(self, said: Inventory) -> None:
        self._said = said
        self._digests: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._said, name)

    def digest(self, section: str) -> str:
        if section not in self._digests:
            dumped = self._said.model_dump(mode="json")
            self._digests[section] = token(dumped.get(section) if section else dumped)
        return self._digests[section]


def _authority_names(house: House) -> dict[str, list[dict[str, str]]]:
    """Live generations by authority, newest first, with their subjects: what issuer pins are made of."""
    found = {}
    for authority in AUTHORITIES:
        generations = [house.generation(name) for name in reversed(house.live(authority))]
        found[authority] = [
            {"name": g.name, "subject": g.subject, "common_name": g.common_name, "base64": g.base64}
            for g in generations
            if g is not None
        ]
    return found


def _release_sources(world: World, name: str, host: Host | None, files: tuple[ManagedFile, ...]) -> Iterator[str]:
    """What a release is made of: its managed files, and the artifacts that these name."""
    folder = str(world.house.store.templates)
    for file in files:
        yield f"{folder}/{file.name}"
        for artifact in file.artifacts:
            text = artifact.replace("{{ host.name }}", name)
            if "{" in text:
                try:
                    text = world.library.templates.render_text(text, _context(world, name, host))
                except PkiError:
                    continue  # the release itself says what is wrong
            try:
                yield from (str(path) for _, path in _artifact_files(world, text))
            except PkiError:
                continue


def _artifact_files(world: World, name: str) -> list[tuple[str, Path]]:
    """The files of an artifact that a managed file names, each with its generation, or an empty text."""
    store, (kind, _, what) = world.house.store, name.partition(":")
    if kind in LEAF_FILES and what in world.leaves:
        wanted = world.leaves[what]
        if wanted.request and kind in {"tls", "key"}:
            raise PkiError(f"{name}: the key of {what} never was here", f"deliver fullchain:{what}")
        return [("", store.leaf_folder(wanted) / f"{kind}.pem")]
    if name in world.paths:
        return world.paths[name]
    if kind in {"crl", "crl-pem", "ca", "ca-pem"} and what in {*AUTHORITIES, "all"}:
        generations = [g for a in (AUTHORITIES if what == "all" else (what,)) for g in world.house.live(a)]
        place: Callable[[str], Path] = {
            "crl": store.crl,
            "crl-pem": lambda g: store.crl(g, "pem"),
            "ca": lambda g: store.trust(f"{g}.crt"),
            "ca-pem": lambda g: store.authority_file(g, "cert.pem"),
        }[kind]
        found = [(generation, place(generation)) for generation in generations]
    elif name == "crl:bundle-client":
        found = [("", store.client_crl_bundle())]
    elif kind == "trust" and what in {"roots", "client-ca", "client-chain"}:
        found = [("", store.trust(f"{what}.pem"))]
    else:
        raise PkiError(
            f"{name!r} is no artifact",
            "tls:LEAF, key:, cert:, chain:, fullchain:; crl:AUTHORITY or crl:all, crl-pem:, ca:, ca-pem:; "
            "crl:bundle-client; trust:roots, trust:client-ca, trust:client-chain",
        )
    world.paths[name] = found
    return found


# -- what left --------------------------------------------------------------------------------------------------------


def _tidy(house: House, known: set[str], leaves: set[str]) -> Artifact:
    return Artifact(
        name="tidy:build",
        targets=(),
        sources=(),
        make=partial(tidy.sweep, house, known, leaves),
        stale=partial(tidy.stale, house, known, leaves),
        doc="takes away what left pki.yaml and templates/",
    )
