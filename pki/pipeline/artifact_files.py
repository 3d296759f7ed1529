"""Paths of the files that a managed file can name as an artifact: `tls:media`, `crl:all`, `trust:roots`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import get_args

from pki.common.errors import PkiError
from pki.config import upstreams
from pki.config.fields import KeyKind
from pki.config.identifiers import AUTHORITIES, PEER_AUTHORITIES, ArtifactId
from pki.config.model import Host, Leaf
from pki.config.name_fields import CLIENT_PREFIX
from pki.deploy.artifact_content import FULLCHAIN_ROOT, PKCS12_KINDS
from pki.project.authorities import own_authorities
from pki.project.build_files import pkcs12_path
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509.keys import ML_DSA

LEAF_FILES = {  # kind of artifact → the file of a leaf that contains it, or that it is converted from
    "tls": "tls.pem",
    "key": "key.pem",
    "key-pkcs1": "key.pem",
    "cert": "cert.pem",
    "chain": "chain.pem",
    "fullchain": "fullchain.pem",
    FULLCHAIN_ROOT: "fullchain.pem",
    **dict.fromkeys(PKCS12_KINDS, "tls.pem"),
}
RSA_KINDS = {kind for kind in get_args(KeyKind) if kind.partition("-")[0] == "rsa"}
WITH_PRIVATE_KEY = {"tls", "key", "key-pkcs1", *PKCS12_KINDS}
AUTHORITY_KINDS = ("crl", "crl-pem", "ca", "ca-pem")
PEER_ARTIFACTS = (  # of clusters; they exist after the first ceremony with `authorities.peer`
    ArtifactId("trust", "peer"),
    ArtifactId("crl", "bundle-peer"),
    *(ArtifactId(kind, name) for kind in AUTHORITY_KINDS for name in PEER_AUTHORITIES),
)
CONTENTS = {  # artifact → its content; AUTHORITY is root, server, client, root-peer, peer, all, or the name of an adopted CA
    "tls:LEAF": "private key, certificate and intermediate",
    "key:LEAF": "private key, PKCS#8",
    "key-pkcs1:LEAF": "private key, PKCS#1; RSA keys only",
    "cert:LEAF": "certificate",
    "chain:LEAF": "intermediate",
    "fullchain:LEAF": "certificate and intermediate",
    "fullchain-root:LEAF": "certificate, intermediate and root",
    "p12:LEAF": "private key, certificate and intermediate, PKCS#12; its passphrase is a secret",
    "p12-legacy:LEAF": "the same in the old format: Triple DES and SHA-1",
    "crl:AUTHORITY": "CRL of each live generation, DER",
    "crl-pem:AUTHORITY": "CRL of each live generation, PEM",
    "ca:AUTHORITY": "certificate of each live generation, DER; not of an adopted CA",
    "ca-pem:AUTHORITY": "certificate of each live generation, PEM; `all` is without those of clusters",
    "crl:bundle-client": "CRLs of every client chain in one PEM file, root included",
    "trust:roots": "roots, PEM",
    "trust:client-ca": "client authorities, PEM",
    "trust:client-chain": "client authorities and roots, PEM",
    "trust:client-openssl": "what a server that verifies with OpenSSL needs: the same as `trust:client-chain`",
    "trust:client-gnutls": "what a server that verifies with GnuTLS may get: the same as `trust:client-ca`",
    "trust:peer": "roots of clusters, PEM: for their members alone",
    "crl:bundle-peer": "CRLs of every chain of clusters in one PEM file, their root included",
    "trust:profile": "roots as a configuration profile for Apple's systems",
    "page:trust": "trust page, HTML",
    "external-chain:AUTHORITY": "external authority, and its chain to the root, PEM: for the server with its key",
    "external-trust:AUTHORITY": "external authority and roots, PEM: to verify the certificates that it issued",
    f"{upstreams.ARTIFACT}:HOST": "file `ca` of each upstream of a host, PEM",
}


def leaf_paths(store: Store, kind: str, leaf: Leaf) -> list[str]:
    """Return the paths of the files that an artifact of a leaf is made from, the leaf's own first."""
    if kind in PKCS12_KINDS:
        return [str(pkcs12_path(store, kind, leaf.name))]
    own = store.leaf_file(leaf, LEAF_FILES[kind])
    roots = "peer.pem" if leaf.profile == "peer" else "roots.pem"
    return [own, str(store.trust(roots))] if kind == FULLCHAIN_ROOT else [own]


class ArtifactFiles:
    """The paths of each artifact.

    `leaves_of_invalid_files` returns leaves whose declaration is invalid now, each with the fault: their issued files
    are still deployed. `templates` are the files that may declare a leaf, as messages name them.
    """

    def __init__(
        self,
        project: Project,
        hosts: Mapping[str, Host],
        leaves: Mapping[str, Leaf],
        leaves_of_invalid_files: Callable[[], Mapping[str, PkiError]],
        templates: Collection[str] = (),
    ) -> None:
        self._project = project
        self._hosts = hosts
        self._leaves = leaves
        self._leaves_of_invalid_files = leaves_of_invalid_files
        self._templates = templates
        self._paths: dict[str, list[tuple[str, Path]]] = {}

    def of(self, name: str) -> list[tuple[str, Path]]:
        """Return the files of an artifact, each with its generation or "". Raises PkiError for an unknown artifact."""
        if name in self._paths:
            return self._paths[name]
        kind, target = ArtifactId.parse(name).parts
        if kind in LEAF_FILES and target in self._leaves:
            return [("", path) for path in self._leaf_files(name, kind, self._leaves[target])]
        if kind in LEAF_FILES and target in self._leaves_of_invalid_files():
            return [("", path) for path in self._issued_files(kind, target)]
        if kind == upstreams.ARTIFACT and target in self._hosts:
            return [(service, self._upstream_ca(ca)) for service, ca in upstreams.cas(self._hosts[target]).items()]
        files = self._authority_files(kind, target)
        if not files:
            raise PkiError(f"unknown artifact {name!r}", ", ".join(CONTENTS))
        self._paths[name] = files
        return files

    def _upstream_ca(self, ca: str) -> Path:
        """Return the file with the CA of an upstream: of an external authority, or a file of the project."""
        store = self._project.store
        return store.external_trust(ca) if ca in self._project.inventory.authorities.externals else store.home / ca

    def _leaf_files(self, name: str, kind: str, leaf: Leaf) -> list[Path]:
        """Return the files of an artifact of a leaf. Raises PkiError if the artifact `name` cannot exist for the key of the leaf."""
        if leaf.request and kind in WITH_PRIVATE_KEY:
            raise PkiError(f"{name}: the key of {leaf.name} is on its device", f"deliver fullchain:{leaf.name}")
        if kind in PKCS12_KINDS and leaf.key == ML_DSA:
            raise PkiError(
                f"{name}: no PKCS#12 file can be written with the key of {leaf.name}, which is {leaf.key}",
                f"deliver tls:{leaf.name}, or request another key: key: ec-p256 under {leaf.declared} in pki.yaml",
            )
        if kind == "key-pkcs1" and leaf.key not in RSA_KINDS:
            place = f"key: rsa-2048 under {leaf.declared} in pki.yaml"
            if leaf.declared in self._templates:
                place = f"default_bits = 2048 in the section [ req ] of {leaf.declared}"
            raise PkiError(
                f"{name}: PKCS#1 supports only RSA keys, and the key of {leaf.name} is {leaf.key}",
                f"deliver key:{leaf.name}, or request an RSA key: {place}",
            )
        return list(map(Path, leaf_paths(self._project.store, kind, leaf)))

    def _issued_files(self, kind: str, leaf: str) -> list[Path]:
        """Return files that were issued before the declaration of their leaf became invalid; they are still deployed."""
        store, fault = self._project.store, self._leaves_of_invalid_files()[leaf]
        for folder in (store.build / "certs" / leaf, store.ca / "clients" / leaf.removeprefix(CLIENT_PREFIX)):
            path = pkcs12_path(store, kind, leaf) if kind in PKCS12_KINDS else folder / LEAF_FILES[kind]
            if path.exists():
                return [path, store.trust("roots.pem")] if kind == FULLCHAIN_ROOT else [path]
        raise PkiError(f"{ArtifactId(kind, leaf)}: {fault.message}", fault.hint)

    def _authority_files(self, kind: str, target: str) -> list[tuple[str, Path]]:
        store = self._project.store
        if kind in AUTHORITY_KINDS and target in {*own_authorities(self._project.authorities), "all"}:
            names = own_authorities(self._project.authorities)
            # ca-pem:all is published as what people may trust, and ca:all as the issuers of certificates
            authorities = {"all": AUTHORITIES if kind == "ca-pem" else names}.get(target, (target,))
            path_of: dict[str, Callable[[str], Path]] = {
                "crl": store.crl,
                "crl-pem": partial(store.crl, form="pem"),
                "ca": store.ca_der,
                "ca-pem": partial(store.authority_file, name="cert.pem"),
            }
            return [
                (name, path_of[kind](name))
                for authority in authorities
                for name in self._project.authorities.live(authority)
            ]
        if target in self._project.inventory.authorities.externals:
            return self._external_files(kind, target)
        if self._project.inventory.authorities.is_adopted(target):
            return self._adopted_file(kind, target)
        path_makers: dict[str, Callable[[], Path]] = {
            "crl:bundle-client": store.client_crl_bundle,
            "trust:roots": partial(store.trust, "roots.pem"),
            "trust:client-ca": partial(store.trust, "client-ca.pem"),
            "trust:client-chain": partial(store.trust, "client-chain.pem"),
            "trust:client-openssl": partial(store.trust, "client-chain.pem"),
            "trust:client-gnutls": partial(store.trust, "client-ca.pem"),
            "trust:peer": partial(store.trust, "peer.pem"),
            "crl:bundle-peer": partial(store.crl, "bundle-peer", "pem"),
            "trust:profile": partial(store.trust, "roots.mobileconfig"),
            "page:trust": partial(store.trust, "index.html"),
        }
        if ArtifactId(kind, target) in PEER_ARTIFACTS and "peer" not in own_authorities(self._project.authorities):
            return []  # `authorities.peer` is not in pki.yaml
        path_maker = path_makers.get(ArtifactId(kind, target))
        return [("", path_maker())] if path_maker else []

    def _external_files(self, kind: str, name: str) -> list[tuple[str, Path]]:
        """Return the files of an external authority: its chain, or what verifies its certificates."""
        store = self._project.store
        paths = {"external-chain": store.external_chain(name), "external-trust": store.external_trust(name)}
        return [("", paths[kind])] if kind in paths else []

    def _adopted_file(self, kind: str, name: str) -> list[tuple[str, Path]]:
        """Return the published files of an adopted CA: its CRL, and its certificate in its own folder."""
        if kind in {"crl", "crl-pem"}:
            return [(name, self._project.store.crl(name, "pem" if kind == "crl-pem" else "crl"))]
        if kind == "ca-pem":
            certificate_file, _ = self._project.keys.adopted_files(name)
            return [(name, certificate_file)]
        return []
