"""The bundles of CA certificates and CRLs, and other files that follow from others alone."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives import serialization

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.config import identifiers
from pki.config.identifiers import GenerationName
from pki.project.project import Project


def stale_reasons(project: Project, expected: dict[str, bytes]) -> list[Reason]:
    """Why files that are a pure function of others must be written; `expected` maps paths below the home to contents."""
    found = {path: filesystem.read(project.store.home / path) for path in expected}
    if all(content is None for content in found.values()):
        return [Why.NOT_CREATED()]
    return [
        (Why.MISSING_FILE if found[path] is None else Why.NOT_FROM_SOURCES)(file=path)
        for path, content in expected.items()
        if found[path] != content
    ]


def remembered(
    project: Project, name: str, known: str, files: list[str], expected: Callable[[], dict[str, bytes]]
) -> list[Reason]:
    """The same for what is costly to make: it is spared while `known` and `files`, what is made among them, are as they were."""
    if project.cache.recall(name, known):
        return []
    reasons = stale_reasons(project, expected())
    if not reasons:
        project.cache.remember(name, known, files, True)
    return reasons


def trust_files(project: Project) -> dict[str, bytes]:
    """Roots, intermediates and client trust, by path below the home."""
    live = {name: project.live(name) for name in identifiers.AUTHORITIES}
    pems: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    folder = project.store.shown(project.store.build / "trust")
    for generation in [g for generations in live.values() for g in generations]:
        found = project.generation(generation)
        if found is None:
            raise project.missing_authority(GenerationName.parse(generation).authority)
        pems[generation] = found.pem
        files[f"{folder}/{generation}.crt"] = found.certificate.public_bytes(serialization.Encoding.DER)
    roots = b"".join(pems[name] for name in reversed(live["root"]))
    clients = b"".join(pems[name] for name in reversed(live["client"]))
    return {
        **files,
        f"{folder}/roots.pem": roots,
        f"{folder}/client-ca.pem": clients,
        f"{folder}/client-chain.pem": clients + roots,
    }


def client_crl_bundle(project: Project) -> dict[str, bytes]:
    """The CRL of every CA in every live client chain, in one file: what nginx, HAProxy and Apache need."""
    parts = []
    for generation in [*project.live("client"), *project.live("root")]:
        text = filesystem.read(project.store.crl(generation, "pem"))
        if text is None:
            raise PkiError(f"the CRL of {generation} is not there", "./run doit")
        parts.append(text)
    return {project.store.shown(project.store.client_crl_bundle()): b"".join(parts)}


def write(project: Project, expected: dict[str, bytes]) -> Outcome:
    verb = Verb.UPDATED if any((project.store.home / path).exists() for path in expected) else Verb.CREATED
    for path, content in expected.items():
        if filesystem.read(project.store.home / path) != content:
            filesystem.write(project.store.home / path, content)
    return Outcome(verb)
