"""The answers of pki-apply: strict parsing, and what they mean.

Of our modules it imports only `visible`: Ansible ships both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from pki.common.visible import shorten, visible_line

Answer = dict[str, Any]
ENDED = {124, 137, 143}  # exit statuses of `timeout` for a command that it ended: GNU, GNU with -k, busybox
LINE = 1 << 16  # bytes of an answer, with its line feed
STOPPED = "stopped: it "  # begins the message about a host that reached a limit of time or size
WORDS = 4000  # characters of a program's output that are kept; pki-apply sends half of that
PERMISSIONS = "/etc/pki-apply.conf"  # on a host: what may be placed, and the commands by their names
# Shows a full disk and read-only mounts; the page explains the other messages.
PLACES = "df -h; findmnt -ro TARGET,OPTIONS (docs/how-to/deploy-problems.md)"
MORE = "more"
WRITABLE = "writable"  # key of an answer about a folder above a file that users other than root can write
STUCK = "stuck"  # key of an answer about a file that can be neither replaced nor restored
Check = Callable[[object], bool]

# -- the form of an answer --------------------------------------------------------------------------------------------


class ChangeState(StrEnum):
    """The state of a change on the host, after a message that places, keeps or undoes it."""

    NOTHING_TO_DO = "same"
    PLACED = "placed"  # in place, until it is kept or undone
    KEPT = "kept"
    UNDONE = "undone"
    STUCK = STUCK  # a file can be neither replaced nor restored
    REFUSED = "refused"  # the answer contains the reason


class FileStatus(StrEnum):
    """How a file on the host compares with the release."""

    SAME = "same"
    ABSENT = "absent"
    OTHER_CONTENT = "edited"
    OTHER_MODE = "mode"
    OTHER_OWNER = "owner"
    NO_FILE = "special"  # a folder, a device, a pipe
    LINK = "link"  # the answer contains its target
    SURPLUS = "extra"  # to be removed
    SET_CHANGES = "set"  # as in the release, but another file of its deploy-set changes
    RELOAD_DUE = "owed"  # as in the release, but its services were not reloaded since
    HELD_BACK = "held"  # not permitted until the host is bootstrapped again; the other files are deployed
    DENIED = "denied"  # not permitted at all

    @property
    def is_to_be_placed(self) -> bool:
        """Return whether a delivery sends (or removes) the file: it differs, or belongs to a set that changes."""
        return self not in {FileStatus.SAME, FileStatus.HELD_BACK}

    @property
    def differs(self) -> bool:
        """Return whether the file is not as in the release."""
        return self not in {FileStatus.SAME, FileStatus.SET_CHANGES}


SORTS = {"owner", "group", "acl", "everybody", "link"}  # why other users can write in a folder
DIGEST = re.compile(r"[0-9a-f]{64}|")
PATH = re.compile(r"/[A-Za-z0-9._/@+:,=-]{1,4095}")
NAME = re.compile(r"[A-Za-z0-9._@:+-]{1,255}")
FILES = re.compile(r"[A-Za-z0-9._/@+:,=| -]*")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _one_of(*values: object) -> Check:
    return lambda value: any(value == allowed and type(value) is type(allowed) for allowed in values)


_STATES = [state.value for state in ChangeState if state is not ChangeState.REFUSED]
_STATUSES = [status.value for status in FileStatus if status is not FileStatus.LINK]
ANSWER_SHAPES: Mapping[frozenset[str], Mapping[str, Check]] = {
    frozenset(shape): shape
    for shape in (
        {"pki-apply": _one_of(1)},
        {"pki-apply": _one_of(1), "date": _is_number},  # the clock of the host, in seconds since 1970
        {"n": _is_number, "is": _one_of(*_STATUSES), "sha256": _matches(DIGEST), "path": _matches(PATH)},
        {"n": _is_number, "is": _one_of("link"), "sha256": _matches(DIGEST), "path": _matches(PATH), "to": _is_text},
        # files of earlier releases that the manifest does not name: mode, owner, set, reload and path of each
        {MORE: _matches(FILES)},
        {WRITABLE: _is_text, "sort": _one_of(*SORTS), "who": _is_text},
        {"looked": _one_of(True)},
        {"bytes": _is_number},
        {"ran": _matches(NAME), "status": _is_number, "said": _is_text},
        {"why": _is_text},
        {STUCK: _matches(PATH), "why": _is_text, "said": _is_text},
        {"state": _one_of(*_STATES)},
        {"state": _one_of("refused"), "why": _is_text, "said": _is_text},
        {"error": _is_text},
    )
}


def read(line: str | bytes) -> Answer | None:
    """Return one line as an answer of pki-apply, None if it has another form or an unknown state."""
    if len(line) > LINE:
        return None
    try:
        return validated(json.loads(line))
    except (ValueError, RecursionError):
        return None


def validated(value: object) -> Answer | None:
    """Return a value as an answer of pki-apply with long texts shortened, None if it is none."""
    if not isinstance(value, dict):
        return None
    shape = ANSWER_SHAPES.get(frozenset(value))
    if shape is None or not all(check(value[key]) for key, check in shape.items()):
        return None
    return {
        key: shorten(field, WORDS) if isinstance(field, str) and key != MORE else field for key, field in value.items()
    }


def max_answers(files: int) -> int:
    """Return how many answers one contact may give about so many files."""
    return 10 * files + 100


def current_answers(answers: Iterable[Answer]) -> list[Answer]:
    """Return the answers about this contact: those before the greeting are about an earlier change.

    Stuck files and errors before the greeting count, because they persist.
    """
    all_answers = list(answers)
    greeting_index = next(
        (index for index, answer in enumerate(all_answers) if "pki-apply" in answer), len(all_answers)
    )
    return [
        answer
        for index, answer in enumerate(all_answers)
        if index >= greeting_index or answer.keys() & {STUCK, "error"}
    ]


# -- the meaning of answers --------------------------------------------------------------------------------------------


def last_lines(output: object, otherwise: str = "") -> str:
    """Return the last lines of a program's output, for a hint; `otherwise` if it printed nothing."""
    lines = [visible_line(line).strip() for line in str(output or "").splitlines() if line.strip()]
    return "\n".join(lines[-4:]) or otherwise


class Refusal(NamedTuple):
    """Why a change was refused or rolled back; `output` is the output of the program that failed.

    `ran` is the name of the command that failed, as in pki-apply.conf; "" where a file could not be placed.
    """

    why: str
    output: str
    ran: str = ""


def refusal(
    answers: Iterable[Answer], host: str = "the host", commands: Mapping[str, str] | None = None
) -> Refusal | None:
    """Return why a change was refused or rolled back, None if it was not.

    `commands` maps the names in pki-apply.conf to command lines. Where a program printed nothing, the output of the
    refusal is what to type on the `host` to see more.
    """
    failed_answer: Answer = {}
    stuck: list[Answer] = []
    for answer in answers:
        if STUCK in answer:
            stuck.append(answer)
        if answer.get("state") == ChangeState.REFUSED:
            return Refusal(visible_line(answer["why"]), last_lines(answer["said"], f"on {host}: {PLACES}"))
        if answer.get("status"):
            failed_answer = failed_answer or answer
        if answer.get("state") == ChangeState.UNDONE:
            return _refusal_of(failed_answer, "rolled back", host, commands or {})
    if stuck:
        return Refusal(*stuck_files(stuck))
    return _refusal_of(failed_answer, "the CRLs stay in place", host, commands or {}) if failed_answer else None


def _refusal_of(failed: Answer, after: str, host: str, commands: Mapping[str, str]) -> Refusal:
    return Refusal(_sentence(failed, after, commands), _output_of(failed, host), str(failed.get("ran", "")))


def _output_of(failed: Answer, host: str) -> str:
    if not failed:
        return f"on {host}: {PLACES}"
    line = f'sh -xc "$(sed -n \'s/^run {visible_line(failed["ran"])} //p\' {PERMISSIONS})"; echo "exit status $?"'
    return last_lines(failed["said"], f"it printed nothing; on {host}, as root: {line}")


def stuck_files(stuck: Iterable[Answer]) -> tuple[str, str]:
    """Return which files of a host can be neither replaced nor restored, and the commands that change that."""
    by_path = {answer[STUCK]: answer for answer in stuck}
    why = "; ".join(f"{path} {visible_line(answer['why'])}" for path, answer in by_path.items())
    return shorten(why, 10 * WORDS), "\n".join(
        dict.fromkeys(visible_line(answer["said"]) for answer in by_path.values())
    )


def _sentence(failed: Answer, after: str, commands: Mapping[str, str]) -> str:
    if not failed:
        return f"a file could not be placed; {after}"
    how = "did not end within 60 s" if failed["status"] in ENDED else f"failed with exit status {failed['status']}"
    return f'"{visible_line(commands.get(failed["ran"], failed["ran"]))}" {how}; {after}'
