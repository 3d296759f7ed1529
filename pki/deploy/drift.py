"""Drift: how the files on a host differ from what was deployed there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from pki.common.reasons import Reason, Why
from pki.common.remedies import Place, Remedy, at, here
from pki.deploy.host_output import FileStatus
from pki.deploy.protocol import FileState
from pki.deploy.receipt import Receipt


def drift_reasons(states: Iterable[FileState], receipt: Receipt | None) -> tuple[Reason, ...]:
    """Return how the files differ from the receipt. A file that only waits for its delivery does not count."""
    deployed_files = {file["path"]: file for file in receipt.files} if receipt else {}
    return tuple(reason for state in states for reason in _file_drift(state, deployed_files.get(state.row.file.path)))


def _file_drift(state: FileState, deployed: Mapping[str, str] | None) -> Iterator[Reason]:
    """Yield how a file differs. pki-apply compares mode and owner with the present release only."""
    if deployed is None:
        return
    file = state.row.file
    is_unchanged = (file.mode, file.owner) == (deployed["mode"], deployed["owner"])
    match state.status:
        case FileStatus.OTHER_CONTENT if state.sha256 != deployed["sha256"]:
            yield Why.EDITED(file=file.path)
        case FileStatus.ABSENT:
            yield Why.DELETED(file=file.path)
        case FileStatus.NO_FILE | FileStatus.LINK:
            yield state.reason
        case FileStatus.OTHER_MODE if is_unchanged:
            yield Why.FILE_OTHER_MODE(file=file.path, expected=deployed["mode"])
        case FileStatus.OTHER_OWNER if is_unchanged:
            yield Why.FILE_OWNER(file=file.path, owner=deployed["owner"])


def permission_remedy(writable: Iterable[Reason], host: str) -> Remedy:
    """Return the commands that leave some folders of a host writable by root alone, and the check after them."""
    commands = dict[str, list[str]]()
    for reason in writable:
        data = dict(reason.data)
        command = (
            "ls -ld" if reason.code is Why.FOLDER_LINK else "chown root" if data["sort"] == "owner" else "chmod go-w"
        )
        commands.setdefault(command, []).append(shlex.quote(str(data["folder"])))
    lines = "; ".join(" ".join([command, *folders]) for command, folders in commands.items())
    return at(Place.HOST, lines, host, after=f"; then: {here('invoke', 'deploy.drift', host)}")


def reasons_from_json(rows: object) -> tuple[Reason, ...]:
    """Return reasons from JSON. Raises KeyError, TypeError and ValueError."""
    return tuple(map(Reason.from_json, rows)) if isinstance(rows, list) else ()
