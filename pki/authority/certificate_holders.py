"""Who has a valid certificate with which name, by the ledger: names that move, and certificates of one client."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pki.authority import certificates
from pki.common.cache import token
from pki.config.model import Leaf
from pki.config.name_claims import Key, comparison_key
from pki.ledger.types import Issued
from pki.project.project import Project


class Move(NamedTuple):
    """A name that a leaf asks for and that another leaf, which gave it up, still has in a certificate until `end`."""

    leaf: str
    name: str
    before: str
    end: datetime


def valid(project: Project) -> Iterator[Issued]:
    """The certificates of leaves of this project that neither ended nor were revoked."""
    for one in project.unexpired():
        if one.artifact.kind == "cert" and not one.revoked:
            yield one


def holders(project: Project) -> frozenset[tuple[str, Key]]:
    """Every leaf that has a valid certificate, with each name in it that can belong to one alone."""
    return frozenset(
        (one.artifact.name, comparison_key(one.profile, name)) for one in valid(project) for name in _owned(one)
    )


def of_client(issued: Collection[Issued], common_name: str) -> list[Issued]:
    """The client certificates with this CN, whatever their leaf is called."""
    wanted = comparison_key("client", common_name)
    return [
        one
        for one in issued
        if one.profile == "client"
        and one.artifact.kind == "cert"
        and comparison_key("client", one.common_name) == wanted
    ]


def moves(project: Project, leaves: Mapping[str, Leaf]) -> list[Move]:
    """The names that go from one leaf to another with the next run, with where they come from."""
    unseen = (leaf for leaf in leaves.values() if project.cache.seen(leaf.artifact) is None)
    coming = [leaf for leaf in unseen if not certificates.is_known(project, leaf)]
    if not coming or not project.has_ledger:
        return []
    known = token([(leaf.name, _wanted(leaf)) for leaf in coming], sorted(leaves))
    kept = project.recall_from_ledger("moves", known)
    if kept is None:
        kept = [[*one[:3], int(one.end.timestamp())] for one in _moves(project, leaves, coming)]
        project.remember_from_ledger("moves", known, kept)
    return [Move(leaf, name, before, datetime.fromtimestamp(end, UTC)) for leaf, name, before, end in kept]


def _moves(project: Project, leaves: Mapping[str, Leaf], coming: Collection[Leaf]) -> Iterator[Move]:
    having: dict[Key, dict[str, datetime]] = {}
    for one in valid(project):
        for name in _owned(one):
            ends = having.setdefault(comparison_key(one.profile, name), {})
            ends[one.artifact.name] = one.not_after
    for leaf in coming:
        for name in _wanted(leaf):
            key = comparison_key(leaf.profile, name)
            ends = having.get(key, {})
            for before, end in ends.items() if leaf.name not in ends else ():
                other = leaves.get(before)
                if other is None or key not in {comparison_key(other.profile, one) for one in _wanted(other)}:
                    yield Move(leaf.name, name, before, end)


def _owned(issued: Issued) -> tuple[str, ...]:
    return (issued.common_name,) if issued.profile == "client" else issued.names


def _wanted(leaf: Leaf) -> tuple[str, ...]:
    return (leaf.common_name,) if leaf.profile == "client" else leaf.dns + leaf.addresses
