"""Drift: what a host has otherwise than it was deployed there, by whatever hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from pki.common.reasons import Reason, Why
from pki.common.remedies import Place, Remedy, at, here
from pki.deploy.protocol import FileState
from pki.deploy.receipt import Receipt


def drift_reasons(seen: Iterable[FileState], receipt: Receipt | None) -> tuple[Reason, ...]:
    """What differs from what was deployed; what only waits for its delivery does not."""
    deployed = {file["path"]: file for file in receipt.files} if receipt else {}
    return tuple(reason for one in seen for reason in _file_drift(one, deployed.get(one.row.file.path)))


def _file_drift(one: FileState, before: Mapping[str, str] | None) -> Iterator[Reason]:
    """How a file differs. Its mode and owner are known to differ from the present release only."""
    if before is None:
        return
    path, is_as_wanted = one.row.file.path, (one.row.file.mode, one.row.file.owner) == (before["mode"], before["owner"])
    match one.state:
        case "edited" if one.sha256 != before["sha256"]:
            yield Why.EDITED(file=path)
        case "absent":
            yield Why.DELETED(file=path)
        case "special" | "link":
            yield one.reason
        case "mode" if is_as_wanted:
            yield Why.FILE_OTHER_MODE(file=path, expected=before["mode"])
        case "owner" if is_as_wanted:
            yield Why.FILE_OWNER(file=path, owner=before["owner"])


def permission_remedy(writable: Iterable[Reason], host: str) -> Remedy:
    """Return what is typed on a host so that root alone can write in some folders there; then it is looked at again."""
    commands = dict[str, list[str]]()
    for one in writable:
        data = dict(one.data)
        command = "ls -ld" if one.code is Why.FOLDER_LINK else "chown root" if data["sort"] == "owner" else "chmod go-w"
        commands.setdefault(command, []).append(shlex.quote(str(data["folder"])))
    lines = "; ".join(" ".join([command, *folders]) for command, folders in commands.items())
    return at(Place.HOST, lines, host, after=f"; then: {here('invoke', 'deploy.drift', host)}")


def reasons_from_json(rows: object) -> tuple[Reason, ...]:
    """Read back what was kept. Raises KeyError, TypeError and ValueError."""
    return tuple(map(Reason.from_json, rows)) if isinstance(rows, list) else ()
