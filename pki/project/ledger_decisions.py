"""What follows from the decisions in the ledger: names whose replacement is withheld, pinned hosts, accepted roots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pki.ledger.types import Decision

ANY, NONE = (
    "any",
    "none",
)  # roots that a host accepts: all in its folders, as it accepts every file there; none by digest


def replacement_stopped(decisions: Iterable[Decision]) -> dict[str, int]:
    """Return the artifacts that are not to be replaced, each with the time since when, in seconds since 1970."""
    found: dict[str, int] = {}
    for one in decisions:
        if one.decision == "withheld":
            found.setdefault(one.artifact, int(one.at.timestamp()))
        elif one.decision == "released":
            found.pop(one.artifact, None)
    return found


def pins(decisions: Iterable[Decision]) -> dict[str, list[str | int]]:
    """Return the hosts that are pinned, each with its release and the time since when, in seconds since 1970."""
    found: dict[str, list[str | int]] = {}
    for one in decisions:
        host = one.artifact.name
        if one.decision == "pinned":
            release, _, since = one.detail.partition(" since ")
            at = datetime.fromisoformat(since) if since else one.at
            found[host] = [release, int(at.timestamp())]
        elif one.decision == "unpinned":
            found.pop(host, None)
    return found


def accepted_roots(decisions: Iterable[Decision]) -> dict[str, list[str]]:
    """Return the SHA-256 of the roots that were accepted for hosts that had another one, by host."""
    found: dict[str, list[str]] = {}
    for one in decisions:
        if one.decision == "root-accepted":
            found.setdefault(one.artifact.name, []).append(one.detail)
    return found


def permitted_roots(decisions: Iterable[Decision]) -> dict[str, list[str]]:
    """Return the SHA-256 of the roots that each host accepts since it was bootstrapped, for hosts that accept only some."""
    found: dict[str, list[str]] = {}
    for one in decisions:
        host = one.artifact.name
        if one.decision == "roots-permitted" and one.detail == ANY:
            found.pop(host, None)
        elif one.decision == "roots-permitted":
            found[host] = [] if one.detail == NONE else one.detail.split()
    return found
