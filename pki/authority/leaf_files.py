"""The files of a leaf certificate: which are damaged, and which differ from its PEM bundle."""

from __future__ import annotations

from pki.authority.leaf_bundle import is_pair, parse_bundle
from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.project import Project
from pki.x509 import canonical


def damaged_files(project: Project, leaf: Leaf) -> list[Reason]:
    """Return which files of a leaf are damaged; empty where the leaf has no certificate.

    What pki.yaml declares now does not matter.
    """
    data = filesystem.read(project.store.bundle(leaf))
    if data is None:
        return []
    return _bundle_damage(project, leaf, data) or file_faults(project, leaf)


def stopped_damage(project: Project, leaf: Leaf) -> list[Reason]:
    """Return why the PEM bundle of a revoked leaf that nothing replaces is missing or damaged."""
    data = filesystem.read(project.store.bundle(leaf))
    if data is None:
        return stopped_reasons(project, leaf.artifact)
    return _bundle_damage(project, leaf, data)


def _bundle_damage(project: Project, leaf: Leaf, data: bytes) -> list[Reason]:
    """Return why a leaf's PEM bundle is not as it was written.

    It is judged by its key, signature and chain, not by what pki.yaml declares now.
    """
    bundle = parse_bundle(data, set())
    if bundle is not None and (bundle.key is None or is_pair(bundle)):
        crosses = [
            filesystem.read(path)
            for root in project.store.generations("root")
            for path in project.store.cross_certificates(root)
        ]
        for name in project.store.generations(leaf.authority):
            issuer = project.generation(name)
            if (
                issuer
                and bundle.chain.startswith(issuer.pem)
                and canonical.is_issued_by(bundle.certificate, issuer.certificate)
            ):
                cross_pems = bundle.chain.removeprefix(issuer.pem).split(canonical.BEGIN)[1:]
                if all(canonical.BEGIN + pem in crosses for pem in cross_pems):
                    return []
    return [Why.DAMAGED(file=project.store.bundle(leaf).name)]


def stopped_reasons(project: Project, name: str) -> list[Reason]:
    """Return since when the replacement of a revoked leaf is stopped; empty when it is not."""
    since = project.replacement_stopped.get(name)
    return [Why.REPLACEMENT_STOPPED(date=f"{since:%Y-%m-%d}")] if since else []


def file_names(project: Project, leaf: Leaf) -> list[str]:
    """Return the paths of all files of a leaf, its PEM bundle first."""
    names = ("fullchain", "cert", "chain") if leaf.request else ("tls", "key", "cert", "chain", "fullchain")
    return [project.store.leaf_file(leaf, f"{name}.pem") for name in names]


def wrong_mode(file: str, mode: int | None) -> Reason:
    """Return the reason that a file with a private key has `mode`, not 0600."""
    return Why.FILE_MODE(file=file, mode=f"{mode or 0:04o}", expected=f"{filesystem.SECRET:04o}")


def file_faults(project: Project, leaf: Leaf) -> list[Reason]:
    """Return which of the files that are split from the PEM bundle differ from it, or have the wrong mode."""
    reasons = []
    parts = canonical.split_bundle(filesystem.read(project.store.bundle(leaf)) or b"")
    for name, content in parts.items():
        path = project.store.leaf_file(leaf, name)
        if filesystem.read(path) != content:
            reasons.append(Why.NOT_FROM_PEM(file=name))
        elif name == "key.pem" and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(wrong_mode(name, filesystem.mode_of(path)))
    return reasons
