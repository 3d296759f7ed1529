"""Bundles of CA certificates and CRLs, and other files that are a pure function of other files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from cryptography.hazmat.primitives import serialization

from pki.common import filesystem
from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.config import identifiers
from pki.config.identifiers import GenerationName
from pki.project.authorities import Authorities
from pki.project.layout import Store


def stale_reasons(store: Store, expected: dict[str, bytes]) -> list[Reason]:
    """Return why files must be written. `expected` maps their paths, relative to the project, to their contents."""
    present_files = {path: filesystem.read(store.home / path) for path in expected}
    if all(content is None for content in present_files.values()):
        return [Why.NOT_CREATED()]
    return [
        (Why.MISSING_FILE if present_files[path] is None else Why.NOT_FROM_SOURCES)(file=path)
        for path, content in expected.items()
        if present_files[path] != content
    ]


def cached_stale_reasons(
    store: Store, cache: Cache, name: str, key: str, files: list[str], expected: Callable[[], dict[str, bytes]]
) -> list[Reason]:
    """Return what `stale_reasons` returns. Calls `expected`, which is slow, only when something changed.

    `key` is the cache key of all sources that are not files. `files` are the sources that are files, and the targets.
    """
    if cache.recall(name, key):
        return []
    reasons = stale_reasons(store, expected())
    if not reasons:
        cache.remember(name, key, files, True)
    return reasons


def trust_files(store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the contents of roots, intermediates and client trust files, by path relative to the project.

    Raises PkiError when an authority is missing.
    """
    live = {authority: authorities.live(authority) for authority in identifiers.AUTHORITIES}
    pems: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    folder = store.shown(store.build / "trust")
    for name in chain.from_iterable(live.values()):
        generation = authorities.generation(name)
        if generation is None:
            raise authorities.missing_authority(GenerationName.parse(name).authority)
        pems[name] = generation.pem
        files[f"{folder}/{name}.crt"] = generation.certificate.public_bytes(serialization.Encoding.DER)
    roots = b"".join(pems[name] for name in reversed(live["root"]))
    clients = b"".join(pems[name] for name in reversed(live["client"]))
    return {
        **files,
        f"{folder}/roots.pem": roots,
        f"{folder}/client-ca.pem": clients,
        f"{folder}/client-chain.pem": clients + roots,
    }


def external_files(store: Store, authorities: Authorities, authority: str) -> dict[str, bytes]:
    """Return the files of an external authority, by path relative to the project.

    `NAME-trust.pem` has the roots and the generations of it that are neither expired nor revoked, for programs that
    verify a server whose own chain may lack the intermediate. `NAME-chain.pem`, for the server of the authority, has the
    generation that issues, the cross-certificates of its root, and the root; there is none before the first ceremony.
    """
    live_roots = [generation for name in authorities.live("root") if (generation := authorities.generation(name))]
    existing = [generation for name in authorities.live(authority) if (generation := authorities.generation(name))]
    trusted = [generation.pem for generation in existing if authorities.is_live(generation)]
    roots = [root.pem for root in reversed(live_roots)]
    files = {store.shown(store.external_trust(authority)): b"".join([*reversed(trusted), *roots])}
    issuing = authorities.issuing(authority)
    root = authorities.root_of(issuing.certificate) if issuing else None
    if issuing and root:
        files[store.shown(store.external_chain(authority))] = issuing.chain + root.pem
    return files


def peer_files(store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the trust file of clusters and their CA certificates in DER, by path relative to the project.

    `peer.pem` has the roots of clusters and nothing else. No other file of the project has these roots: a peer
    certificate is valid for servers and for clients, so whoever trusts its root accepts each member as both.
    """
    live = [generation for name in identifiers.PEER_AUTHORITIES for generation in authorities.live(name)]
    generations = [authorities.generation(name) for name in live]
    files = {
        store.shown(store.ca_der(generation.name)): generation.certificate.public_bytes(serialization.Encoding.DER)
        for generation in generations
        if generation is not None
    }
    roots = [generation.pem for generation in reversed(generations) if generation and generation.name.is_root]
    if not roots or None in generations:
        raise authorities.missing_authority("peer")
    return {**files, store.shown(store.trust("peer.pem")): b"".join(roots)}


def peer_crl_bundle(store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the CRLs of every CA in the chains of clusters as one file. Raises PkiError when one of them is missing.

    That of the newest authority is the first one: etcd reads no other.
    """
    names = [*reversed(authorities.live("peer")), *reversed(authorities.live("root-peer"))]
    return {store.shown(store.crl("bundle-peer", "pem")): _joined_crls(store, names)}


def client_crl_bundle(store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the CRLs of every CA in every live client chain as one file, as nginx, HAProxy and Apache need it.

    Raises PkiError when one of these CRLs is missing.
    """
    names = [*authorities.live("client"), *authorities.live("root")]
    return {store.shown(store.client_crl_bundle()): _joined_crls(store, names)}


def _joined_crls(store: Store, generations: list[GenerationName]) -> bytes:
    crls = []
    for generation in generations:
        crl = filesystem.read(store.crl(generation, "pem"))
        if crl is None:
            raise PkiError(f"the CRL of {generation} is missing", "./run doit")
        crls.append(crl)
    return b"".join(crls)


def write(store: Store, expected: dict[str, bytes]) -> Outcome:
    """Write the files of `expected` (paths relative to the project) that differ."""
    verb = Verb.UPDATED if any((store.home / path).exists() for path in expected) else Verb.CREATED
    for path, content in expected.items():
        if filesystem.read(store.home / path) != content:
            filesystem.write(store.home / path, content)
    return Outcome(verb)
