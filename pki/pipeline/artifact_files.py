"""The files of the artifacts that managed files name: `tls:media`, `crl:all`, `trust:roots`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import get_args

from pki.common.errors import PkiError
from pki.config import upstreams
from pki.config.fields import CLIENT_PREFIX, KeyKind
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.model import Host, Leaf
from pki.project.project import Project

LEAF_FILES = {  # artifact → the file of a leaf that it is, or is made of
    "tls": "tls.pem",
    "key": "key.pem",
    "key-pkcs1": "key.pem",
    "cert": "cert.pem",
    "chain": "chain.pem",
    "fullchain": "fullchain.pem",
}
RSA = {kind for kind in get_args(KeyKind) if kind.partition("-")[0] == "rsa"}
PRIVATE = {"tls", "key", "key-pkcs1"}
NAMES = (
    "tls:LEAF, key:, key-pkcs1:, cert:, chain:, fullchain:; crl:AUTHORITY or crl:all, crl-pem:, ca:, ca-pem:; "
    "crl:bundle-client; trust:roots, trust:client-ca, trust:client-chain, trust:profile; page:trust; upstream-ca:HOST"
)


class ArtifactFiles:
    """Where each artifact lies.

    `undeclared` are leaves whose declaration is wrong now: what there is of them stays. `templates` are the files that
    may declare one, as messages call them.
    """

    def __init__(
        self,
        project: Project,
        hosts: Mapping[str, Host],
        leaves: Mapping[str, Leaf],
        undeclared: Callable[[], Mapping[str, PkiError]],
        templates: Collection[str] = (),
    ) -> None:
        self._project = project
        self._hosts = hosts
        self._leaves = leaves
        self._undeclared = undeclared
        self._templates = templates
        self._paths: dict[str, list[tuple[str, Path]]] = {}

    def of(self, name: str) -> list[tuple[str, Path]]:
        """The files of an artifact, each with its generation, or an empty text. Raises PkiError for a name that is none."""
        if name in self._paths:
            return self._paths[name]
        kind, what = ArtifactId.parse(name).parts
        if kind in LEAF_FILES and what in self._leaves:
            return [("", self._leaf_file(name, kind, self._leaves[what]))]
        if kind in LEAF_FILES and what in self._undeclared():
            return [("", self._kept_file(kind, what))]
        if kind == upstreams.ARTIFACT and what in self._hosts:
            home = self._project.store.home
            return [(service, home / file) for service, file in upstreams.ca_files(self._hosts[what]).items()]
        found = self._authority_files(kind, what)
        if not found:
            raise PkiError(f"unknown artifact {name!r}", NAMES)
        self._paths[name] = found
        return found

    def _leaf_file(self, name: str, kind: str, leaf: Leaf) -> Path:
        if leaf.request and kind in PRIVATE:
            raise PkiError(f"{name}: the key of {leaf.name} never was here", f"deliver fullchain:{leaf.name}")
        if kind == "key-pkcs1" and leaf.key not in RSA:
            place = f"key: rsa-2048 under {leaf.declared} in pki.yaml"
            if leaf.declared in self._templates:
                place = f"default_bits = 2048 in the section [ req ] of {leaf.declared}"
            raise PkiError(
                f"{name}: PKCS#1 has RSA keys alone, and the key of {leaf.name} is {leaf.key}",
                f"deliver key:{leaf.name}, or ask for an RSA key: {place}",
            )
        return Path(self._project.store.leaf_file(leaf, LEAF_FILES[kind]))

    def _kept_file(self, kind: str, leaf: str) -> Path:
        """A file that was issued before the declaration of its leaf went wrong: it goes on being delivered."""
        disk, fault = self._project.store, self._undeclared()[leaf]
        for folder in (disk.build / "certs" / leaf, disk.ca / "clients" / leaf.removeprefix(CLIENT_PREFIX)):
            if (path := folder / LEAF_FILES[kind]).exists():
                return path
        raise PkiError(f"{ArtifactId(kind, leaf)}: {fault.message}", fault.hint)

    def _authority_files(self, kind: str, what: str) -> list[tuple[str, Path]]:
        disk = self._project.store
        if kind in {"crl", "crl-pem", "ca", "ca-pem"} and what in {*AUTHORITIES, "all"}:
            authorities = AUTHORITIES if what == "all" else (what,)
            place: dict[str, Callable[[str], Path]] = {
                "crl": disk.crl,
                "crl-pem": partial(disk.crl, form="pem"),
                "ca": disk.ca_der,
                "ca-pem": partial(disk.authority_file, name="cert.pem"),
            }
            return [(name, place[kind](name)) for authority in authorities for name in self._project.live(authority)]
        if self._project.is_adopted(what):
            return self._adopted_file(kind, what)
        single: dict[str, Callable[[], Path]] = {
            "crl:bundle-client": disk.client_crl_bundle,
            "trust:roots": partial(disk.trust, "roots.pem"),
            "trust:client-ca": partial(disk.trust, "client-ca.pem"),
            "trust:client-chain": partial(disk.trust, "client-chain.pem"),
            "trust:profile": partial(disk.trust, "roots.mobileconfig"),
            "page:trust": partial(disk.trust, "index.html"),
        }
        return [("", find())] if (find := single.get(ArtifactId(kind, what))) else []

    def _adopted_file(self, kind: str, name: str) -> list[tuple[str, Path]]:
        """What is delivered of an adopted authority: its CRL, and its certificate as it lies in its folder."""
        if kind in {"crl", "crl-pem"}:
            return [(name, self._project.store.crl(name, "pem" if kind == "crl-pem" else "crl"))]
        return [(name, self._project.keys.adopted_files(name)[0])] if kind == "ca-pem" else []
