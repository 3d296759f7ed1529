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
    """Return which files of a leaf are damaged, whatever pki.yaml declares now; empty where it has no certificate."""
    data = filesystem.read(store.bundle(leaf))
    if data is None:
        return []
    return _damage_since_written(store, authorities, leaf, data) or split_file_damage(store, leaf)


def bundle_damage(store: Store, authorities: Authorities, revocations: Revocations, leaf: Leaf) -> list[Reason]:
    """Return why the PEM bundle of a leaf whose replacement is stopped is missing or damaged.

    If it is missing, the reason is the one of `stopped_reasons`: doit does not issue it again.
    """
    data = filesystem.read(store.bundle(leaf))
    if data is None:
        return stopped_reasons(revocations, leaf.artifact)
    return _damage_since_written(store, authorities, leaf, data)


def _damage_since_written(store: Store, authorities: Authorities, leaf: Leaf, data: bytes) -> list[Reason]:
    """Return why a leaf's PEM bundle is not as it was written.

    It is judged by its key, signature and chain, not by what pki.yaml declares now.
    """
    bundle = parse_bundle(data, set())
    if bundle is not None and (bundle.key is None or is_pair(bundle)):
        cross_certificates = [
            filesystem.read(path) for root in store.roots() for path in store.cross_certificates(root)
        ]
        for name in store.generations(leaf.authority):
            issuer = authorities.generation(name)
            if issuer is None or not bundle.chain.startswith(issuer.pem):
                continue
            # the part after BEGIN of each certificate that follows the issuer's own in the chain
            other_pems = bundle.chain.removeprefix(issuer.pem).split(canonical.BEGIN)[1:]
            is_chain_intact = all(canonical.BEGIN + pem in cross_certificates for pem in other_pems)
            if is_chain_intact and canonical.is_issued_by(bundle.certificate, issuer.certificate):
                return []
    return [Why.DAMAGED(file=store.bundle(leaf).name)]


def stopped_reasons(revocations: Revocations, name: str) -> list[Reason]:
    """Return one reason that says since when the replacement of a revoked leaf is stopped; none when it is not."""
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
    """Return whether `split_file_damage` is the source of all these reasons: certificate and key then stay the same."""
    return all(
        reason.code in {Why.MISSING_FILE, Why.NOT_FROM_PEM}
        or (reason.code is Why.FILE_MODE and dict(reason.data)["file"] == SPLIT_KEY)
        for reason in reasons
    )


def split_file_damage(store: Store, leaf: Leaf) -> list[Reason]:
    """Return which of the files that are split from the PEM bundle differ from it, or have the wrong mode."""
    reasons = []
    parts = canonical.split_bundle(filesystem.read(store.bundle(leaf)) or b"")
    for name, content in parts.items():
        path = store.leaf_file(leaf, name)
        present_content = filesystem.read(path)
        if present_content != content:
            reasons.append((Why.MISSING_FILE if present_content is None else Why.NOT_FROM_PEM)(file=name))
        elif name == SPLIT_KEY and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(wrong_mode(name, filesystem.mode_of(path)))
    return reasons
