"""Drift: what a host has otherwise than it was deployed there, by whatever hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pki.deploy.receipt import Receipt
from pki.deploy.session import Seen

CHANGED = {
    "edited",
    "absent",
    "mode",
    "owner",
    "special",
}  # states of a file; others are not changes of what was deployed


class Drift(NamedTuple):
    """One file or folder that is not as it was deployed: `state` is edited, absent, mode, owner, special, folder or list.

    `detail` is what the state alone does not say: modes and owners.
    """

    path: str
    state: str
    detail: str = ""

    @property
    def phrase(self) -> str:
        words = {
            "edited": "was edited",
            "absent": "was deleted",
            "mode": f"has {self.detail}",
            "owner": f"does not belong to {self.detail}",
            "special": "is no regular file",
            "folder": f"can be written by others: it has mode {self.detail}",
            "list": self.detail,
        }
        return f"{self.path} {words[self.state]}".strip()


def of(seen: Iterable[Seen], receipt: Receipt | None) -> tuple[Drift, ...]:
    """What differs from what was deployed; what only waits for its delivery does not."""
    deployed = {file["path"]: file for file in receipt.files} if receipt else {}
    return tuple(
        Drift(one.row.file.path, one.state, _detail(one, before))
        for one in seen
        if (before := deployed.get(one.row.file.path)) is not None and _is_changed(one, before)
    )


def _is_changed(one: Seen, before: Mapping[str, str]) -> bool:
    """Whether a file is not as it was deployed. Its mode and owner are known to differ from the present release only."""
    file = one.row.file
    if one.state not in CHANGED:
        return False
    if one.state == "edited":
        return one.sha256 != before["sha256"]
    return one.state in {"absent", "special"} or (file.mode, file.owner) == (before["mode"], before["owner"])


def _detail(one: Seen, before: Mapping[str, str]) -> str:
    return {"mode": f"another mode than {before['mode']}", "owner": before["owner"]}.get(one.state, "")


def from_json(rows: object) -> tuple[Drift, ...]:
    """Read back what was kept as lists of texts. Raises TypeError and ValueError."""
    return tuple(Drift(*(str(one) for one in row)) for row in rows) if isinstance(rows, list) else ()
