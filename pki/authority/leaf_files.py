"""The files of a leaf certificate: which are damaged, and which differ from its PEM bundle."""

from __future__ import annotations

from collections.abc import Iterable

from pki.authority.leaf_bundle import is_pair, parse_bundle
from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.x509 import canonical

SPLIT_KEY = "key.pem"  # split from the PEM bundle; the only other file with a private key


def damaged_files(store: Store, authorities: Authorities, leaf: Leaf) -> list[Reason]:
    """Return which files of a leaf are damaged; empty where the leaf has no certificate.

    What pki.yaml declares now does not matter.
    """
    data = filesystem.read(store.bundle(leaf))
    if data is None:
        return []
    return _bundle_damage(store, authorities, leaf, data) or file_faults(store, leaf)


def stopped_damage(store: Store, authorities: Authorities, revocations: Revocations, leaf: Leaf) -> list[Reason]:
    """Return why the PEM bundle of a revoked leaf that nothing replaces is missing or damaged."""
    data = filesystem.read(store.bundle(leaf))
    if data is None:
        return stopped_reasons(revocations, leaf.artifact)
    return _bundle_damage(store, authorities, leaf, data)


def _bundle_damage(store: Store, authorities: Authorities, leaf: Leaf, data: bytes) -> list[Reason]:
    """Return why a leaf's PEM bundle is not as it was written.

    It is judged by its key, signature and chain, not by what pki.yaml declares now.
    """
    bundle = parse_bundle(data, set())
    if bundle is not None and (bundle.key is None or is_pair(bundle)):
        crosses = [
            filesystem.read(path) for root in store.generations("root") for path in store.cross_certificates(root)
        ]
        for name in store.generations(leaf.authority):
            issuer = authorities.generation(name)
            if (
                issuer
                and bundle.chain.startswith(issuer.pem)
                and canonical.is_issued_by(bundle.certificate, issuer.certificate)
            ):
                cross_pems = bundle.chain.removeprefix(issuer.pem).split(canonical.BEGIN)[1:]
                if all(canonical.BEGIN + pem in crosses for pem in cross_pems):
                    return []
    return [Why.DAMAGED(file=store.bundle(leaf).name)]


def stopped_reasons(revocations: Revocations, name: str) -> list[Reason]:
    """Return since when the replacement of a revoked leaf is stopped; empty when it is not."""
    since = revocations.replacement_stopped.get(name)
    return [Why.REPLACEMENT_STOPPED(date=f"{since:%Y-%m-%d}")] if since else []


def file_names(store: Store, leaf: Leaf) -> list[str]:
    """Return the paths of all files of a leaf, its PEM bundle first."""
    names = ("fullchain", "cert", "chain") if leaf.request else ("tls", "key", "cert", "chain", "fullchain")
    return [store.leaf_file(leaf, f"{name}.pem") for name in names]


def wrong_mode(file: str, mode: int | None) -> Reason:
    """Return the reason that a file with a private key has `mode`, not 0600."""
    return Why.FILE_MODE(file=file, mode=f"{mode or 0:04o}", expected=f"{filesystem.SECRET:04o}")


def are_of_split_files(reasons: Iterable[Reason]) -> bool:
    """Return whether all these reasons are of `file_faults`: the certificate and its key stay the same."""
    return all(
        reason.code in {Why.MISSING_FILE, Why.NOT_FROM_PEM}
        or (reason.code is Why.FILE_MODE and dict(reason.data)["file"] == SPLIT_KEY)
        for reason in reasons
    )


def file_faults(store: Store, leaf: Leaf) -> list[Reason]:
    """Return which of the files that are split from the PEM bundle differ from it, or have the wrong mode."""
    reasons = []
    parts = canonical.split_bundle(filesystem.read(store.bundle(leaf)) or b"")
    for name, content in parts.items():
        path = store.leaf_file(leaf, name)
        if (present := filesystem.read(path)) != content:
            reasons.append((Why.MISSING_FILE if present is None else Why.NOT_FROM_PEM)(file=name))
        elif name == SPLIT_KEY and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(wrong_mode(name, filesystem.mode_of(path)))
    return reasons
