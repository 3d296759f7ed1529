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
    """A name that a leaf asks for, and that another leaf gave up but still has in a certificate until `end`."""

    leaf: str
    name: str
    before: str
    end: datetime


def valid(revocations: Revocations) -> Iterator[Issued]:
    """Yield the leaf certificates of this project that are neither expired nor revoked."""
    for issued in revocations.unexpired():
        if issued.artifact.kind == "cert" and not issued.revoked:
            yield issued


def holders(revocations: Revocations) -> frozenset[tuple[str, Key]]:
    """Return each leaf that has a valid certificate, with each name in it that must be unique."""
    return frozenset(
        (issued.artifact.name, comparison_key(issued.profile, name))
        for issued in valid(revocations)
        for name in _owned(issued)
    )


def certificates_of_client(issued: Collection[Issued], common_name: str) -> list[Issued]:
    """Return the client certificates with this CN, whatever the name of their leaf."""
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
    uncached = (leaf for leaf in leaves.values() if project.cache.recalled(leaf.artifact) is None)
    changed = [leaf for leaf in uncached if not LeafCertificates(project).is_cached(leaf)]
    if not changed or not project.ledger_view.has_ledger:
        return []
    key = digest_of([(leaf.name, _requested(leaf)) for leaf in changed], sorted(leaves))
    rows = project.ledger_view.cached(
        "moves",
        key,
        lambda: [(*move[:3], int(move.end.timestamp())) for move in _moves(project.revocations, leaves, changed)],
    )
    return [Move(leaf, name, before, datetime.fromtimestamp(end, UTC)) for leaf, name, before, end in rows]


def _moves(revocations: Revocations, leaves: Mapping[str, Leaf], changed: Collection[Leaf]) -> Iterator[Move]:
    holders_by_name: dict[Key, dict[str, datetime]] = {}
    for certificate in valid(revocations):
        for name in _owned(certificate):
            ends = holders_by_name.setdefault(comparison_key(certificate.profile, name), {})
            ends[certificate.artifact.name] = certificate.not_after
    for leaf in changed:
        for name in _requested(leaf):
            key = comparison_key(leaf.profile, name)
            ends = holders_by_name.get(key, {})
            for before, end in ends.items() if leaf.name not in ends else ():
                other = leaves.get(before)
                if other is None or key not in {
                    comparison_key(other.profile, requested) for requested in _requested(other)
                }:
                    yield Move(leaf.name, name, before, end)


def _owned(issued: Issued) -> tuple[str, ...]:
    return (issued.common_name,) if issued.profile == "client" else issued.names


def _requested(leaf: Leaf) -> tuple[str, ...]:
    return (leaf.common_name,) if leaf.profile == "client" else leaf.dns + leaf.addresses
