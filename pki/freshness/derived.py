"""Why files that follow from others must be written."""

from __future__ import annotations

from collections.abc import Callable

from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.project.project import House


def derived(house: House, expected: dict[str, bytes]) -> list[Reason]:
    """Why files that are a pure function of others must be written; `expected` maps paths below the home to contents."""
    found = {path: filesystem.read(house.store.home / path) for path in expected}
    if all(content is None for content in found.values()):
        return [Why.NOT_CREATED()]
    return [
        (Why.MISSING_FILE if found[path] is None else Why.NOT_FROM_SOURCES)(file=path)
        for path, content in expected.items()
        if found[path] != content
    ]


def remembered(
    house: House, name: str, known: str, files: list[str], expected: Callable[[], dict[str, bytes]]
) -> list[Reason]:
    """The same for what is costly to make: it is spared while `known` and `files`, what is made among them, are as they were."""
    if house.memo.recall(name, known):
        return []
    reasons = derived(house, expected())
    if not reasons:
        house.memo.remember(name, known, files, True)
    return reasons
