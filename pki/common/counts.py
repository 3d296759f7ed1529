"""Numbers with their nouns, and lists of names, in messages."""

from __future__ import annotations

from collections.abc import Sequence

NAMES_SHOWN = 6


def counted(number: int, noun: str) -> str:
    """Return `1 certificate` or `3 certificates`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def join_names(names: Sequence[str]) -> str:
    """Return `a, b`, and of many names the first ones and how many more there are."""
    first_names = ", ".join(names[:NAMES_SHOWN])
    return f"{first_names} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else first_names
