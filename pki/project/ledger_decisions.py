"""Results of the decisions in the ledger: stopped replacements, pinned hosts, accepted and permitted roots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pki.ledger.types import Decision

# details of the decision roots-permitted: a host accepts every root in its folders, or none by its digest
ANY, NONE = "any", "none"


def replacement_stopped(decisions: Iterable[Decision]) -> dict[str, int]:
    """Return the artifacts whose replacement is stopped, each with its time in seconds since 1970."""
    stopped: dict[str, int] = {}
    for decision in decisions:
        if decision.decision == "withheld":
            stopped.setdefault(decision.artifact, int(decision.at.timestamp()))
        elif decision.decision == "released":
            stopped.pop(decision.artifact, None)
    return stopped


def pins(decisions: Iterable[Decision]) -> dict[str, list[str | int]]:
    """Return the pinned hosts, each with its release and its time in seconds since 1970."""
    pinned: dict[str, list[str | int]] = {}
    for decision in decisions:
        host = decision.artifact.name
        if decision.decision == "pinned":
            release, _, since = decision.detail.partition(" since ")
            at = datetime.fromisoformat(since) if since else decision.at
            pinned[host] = [release, int(at.timestamp())]
        elif decision.decision == "unpinned":
            pinned.pop(host, None)
    return pinned


def accepted_roots(decisions: Iterable[Decision]) -> dict[str, list[str]]:
    """Return the SHA-256 of the roots that were accepted for hosts that trusted another one, by host."""
    roots: dict[str, list[str]] = {}
    for decision in decisions:
        if decision.decision == "root-accepted":
            roots.setdefault(decision.artifact.name, []).append(decision.detail)
    return roots


def permitted_roots(decisions: Iterable[Decision]) -> dict[str, list[str]]:
    """Return the SHA-256 of the roots that a host accepts since its bootstrap, by host.

    Hosts that accept every root are left out.
    """
    roots: dict[str, list[str]] = {}
    for decision in decisions:
        host = decision.artifact.name
        if decision.decision == "roots-permitted" and decision.detail == ANY:
            roots.pop(host, None)
        elif decision.decision == "roots-permitted":
            roots[host] = [] if decision.detail == NONE else decision.detail.split()
    return roots
