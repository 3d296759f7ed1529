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


def client_crl_bundle(store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the CRLs of every CA in every live client chain as one file, as nginx, HAProxy and Apache need it.

    Raises PkiError when one of these CRLs is missing.
    """
    crls = []
    for generation in [*authorities.live("client"), *authorities.live("root")]:
        crl = filesystem.read(store.crl(generation, "pem"))
        if crl is None:
            raise PkiError(f"the CRL of {generation} is missing", "./run doit")
        crls.append(crl)
    return {store.shown(store.client_crl_bundle()): b"".join(crls)}


def write(store: Store, expected: dict[str, bytes]) -> Outcome:
    """Write the files of `expected` (paths relative to the project) that differ."""
    verb = Verb.UPDATED if any((store.home / path).exists() for path in expected) else Verb.CREATED
    for path, content in expected.items():
        if filesystem.read(store.home / path) != content:
            filesystem.write(store.home / path, content)
    return Outcome(verb)
