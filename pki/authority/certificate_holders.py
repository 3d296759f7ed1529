"""Valid certificates by name, from the ledger: names that move between leaves, and the certificates of one client."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pki.authority.certificates import LeafCertificates
from pki.common.cache import digest_of
from pki.config.model import Leaf
from pki.config.name_claims import Key, comparison_key
from pki.ledger.types import Issued
from pki.project.ledger_revocations import Revocations
from pki.project.project import Project


class Move(NamedTuple):
    """A name that moves to `leaf` in pki.yaml, while a certificate of `previous_leaf` has it until `not_after`."""

    leaf: str
    name: str
    previous_leaf: str
    not_after: datetime


def valid_certificates(revocations: Revocations) -> Iterator[Issued]:
    """Yield the leaf certificates of this project that are neither expired nor revoked."""
    for certificate in revocations.unexpired():
        if certificate.artifact.kind == "cert" and not certificate.revoked:
            yield certificate


def holders(revocations: Revocations) -> frozenset[tuple[str, Key]]:
    """Return each leaf that has a valid certificate, with each name in it that must be unique."""
    return frozenset(
        (certificate.artifact.name, comparison_key(certificate.profile, name))
        for certificate in valid_certificates(revocations)
        for name in _unique_names(certificate)
    )


def certificates_of_client(issued: Collection[Issued], common_name: str) -> list[Issued]:
    """Return the client certificates among `issued` that have this CN, whatever the name of their leaf."""
    key = comparison_key("client", common_name)
    return [
        certificate
        for certificate in issued
        if certificate.profile == "client"
        and certificate.artifact.kind == "cert"
        and comparison_key("client", certificate.common_name) == key
    ]


def moves(project: Project, leaves: Mapping[str, Leaf]) -> list[Move]:
    """Return the names that the next run moves from one leaf to another."""
    # a leaf whose certificate is as pki.yaml declares it gets no name from another leaf
    uncached_leaves = (leaf for leaf in leaves.values() if project.cache.checked_in_this_run(leaf.artifact) is None)
    changed_leaves = [leaf for leaf in uncached_leaves if not LeafCertificates(project).is_cached(leaf)]
    if not changed_leaves or not project.ledger_view.has_ledger:
        return []
    key = digest_of([(leaf.name, _declared_names(leaf)) for leaf in changed_leaves], sorted(leaves))

    def rows_of_moves() -> list[tuple[str, str, str, int]]:
        return [
            (move.leaf, move.name, move.previous_leaf, int(move.not_after.timestamp()))
            for move in _moves(project.revocations, leaves, changed_leaves)
        ]

    rows = project.ledger_view.cached("moves", key, rows_of_moves, as_of=project.now)
    return [
        Move(leaf, name, previous_leaf, datetime.fromtimestamp(not_after, UTC))
        for leaf, name, previous_leaf, not_after in rows
    ]


def _moves(revocations: Revocations, leaves: Mapping[str, Leaf], changed: Collection[Leaf]) -> Iterator[Move]:
    """Yield a move for each name of a changed leaf that only certificates of other leaves have, which gave it up."""
    holders_by_name: dict[Key, dict[str, datetime]] = {}  # for each name, the expiry by leaf
    for certificate in valid_certificates(revocations):
        for name in _unique_names(certificate):
            expiries = holders_by_name.setdefault(comparison_key(certificate.profile, name), {})
            expiries[certificate.artifact.name] = certificate.not_after
    for leaf in changed:
        for name in _declared_names(leaf):
            key = comparison_key(leaf.profile, name)
            expiries = holders_by_name.get(key, {})
            if leaf.name in expiries:
                continue  # the leaf has the name already
            for holder, not_after in expiries.items():
                if not _declares(leaves.get(holder), key):
                    yield Move(leaf.name, name, holder, not_after)


def _unique_names(certificate: Issued) -> tuple[str, ...]:
    """Return the names of a certificate that no other leaf may have: of a client all but its e-mail address, of a server all."""
    if certificate.profile != "client":
        return certificate.names
    return tuple(dict.fromkeys((certificate.common_name, *(name for name in certificate.names if "@" not in name))))


def _declared_names(leaf: Leaf) -> tuple[str, ...]:
    """Return the names that pki.yaml declares for a leaf, of the kind of `_unique_names`."""
    if leaf.profile != "client":
        return leaf.dns + leaf.addresses
    return tuple(dict.fromkeys((leaf.common_name, *leaf.dns, *leaf.addresses, *leaf.uris)))


def _declares(leaf: Leaf | None, key: Key) -> bool:
    """Return whether pki.yaml declares the name with this comparison key for a leaf; False if the leaf is gone."""
    return leaf is not None and key in {comparison_key(leaf.profile, name) for name in _declared_names(leaf)}
