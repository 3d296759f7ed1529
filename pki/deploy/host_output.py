"""What pki-apply answers, read strictly, and what that means.

It imports nothing of ours but `visible`: Ansible carries both along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pki.common.visible import plain, shorten

Answer = dict[str, Any]
ENDED = {124, 137, 143}  # what timeout says of a command that it ended: GNU's, with -k, and busybox's
LINE = 1 << 16  # bytes of an answer, its end included
STOPPED = "stopped: it "  # what is said of a host that took too long, or said too much
WORDS = 4000  # characters that are kept of what a program said; pki-apply sends half of that
PERMISSIONS = "/etc/pki-apply.conf"  # on a host: the commands by their names
# A full disk, and what is mounted read-only; some words need the page.
PLACES = "df -h; findmnt -ro TARGET,OPTIONS (docs/deploy.md#when-something-is-wrong)"
MORE = "more"
WRITABLE = "writable"  # of a folder on the way to a file, which others than root can write
STUCK = "stuck"  # of a file that can be neither replaced nor put back
Check = Callable[[object], bool]

# -- what an answer may be --------------------------------------------------------------------------------------------

STATES = {"same", "placed", "kept", "undone", STUCK}  # of a change; one more is refused, which gives a reason
CHECKS = {"same", "absent", "edited", "mode", "owner", "special", "extra", "set", "owed", "held", "denied"}  # of a file
SORTS = {"owner", "group", "acl", "everybody", "link"}  # how others can write in a folder
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
    return lambda value: any(value == one and type(value) is type(one) for one in values)


ANSWER_SHAPES: Mapping[frozenset[str], Mapping[str, Check]] = {
    frozenset(shape): shape
    for shape in (
        {"pki-apply": _one_of(1)},
        {"pki-apply": _one_of(1), "date": _is_number},  # the clock of the host, in seconds since 1970
        {"n": _is_number, "is": _one_of(*CHECKS), "sha256": _matches(DIGEST), "path": _matches(PATH)},
        {"n": _is_number, "is": _one_of("link"), "sha256": _matches(DIGEST), "path": _matches(PATH), "to": _is_text},
        {
            MORE: _matches(FILES)
        },  # files from us that the manifest does not name: mode, owner, set, reload and path of each
        {WRITABLE: _is_text, "sort": _one_of(*SORTS), "who": _is_text},
        {"looked": _one_of(True)},
        {"bytes": _is_number},
        {"ran": _matches(NAME), "status": _is_number, "said": _is_text},
        {"why": _is_text},
        {STUCK: _matches(PATH), "why": _is_text, "said": _is_text},
        {"state": _one_of(*STATES)},
        {"state": _one_of("refused"), "why": _is_text, "said": _is_text},
        {"error": _is_text},
    )
}


def read(line: str | bytes) -> Answer | None:
    """Return one line as an answer of pki-apply, None when it is none: of another shape, or of an unknown state."""
    if len(line) > LINE:
        return None
    try:
        return validated(json.loads(line))
    except (ValueError, RecursionError):
        return None


def validated(value: object) -> Answer | None:
    """Return a value from elsewhere as an answer, None when it is none; long texts are cut."""
    if not isinstance(value, dict):
        return None
    shape = ANSWER_SHAPES.get(frozenset(value))
    if shape is None or not all(check(value[key]) for key, check in shape.items()):
        return None
    return {key: shorten(one, WORDS) if isinstance(one, str) and key != MORE else one for key, one in value.items()}


def max_answers(files: int) -> int:
    """How many answers one contact may give about so many files."""
    return 10 * files + 100


def current_answers(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that count: what became of an earlier change is said before the greeting, and only what is stuck stays so."""
    found = list(answers)
    greeted = next((number for number, one in enumerate(found) if "pki-apply" in one), len(found))
    return [one for number, one in enumerate(found) if number >= greeted or one.keys() & {STUCK, "error"}]


# -- what it means ----------------------------------------------------------------------------------------------------


def last_lines(said: object, otherwise: str = "") -> str:
    """What a program said, as a hint shows it: its last lines; `otherwise` where it said nothing."""
    lines = [plain(line).strip() for line in str(said or "").splitlines() if line.strip()]
    return "\n".join(lines[-4:]) or otherwise


class Refusal(NamedTuple):
    """Why a change was not taken, and the words of the program that would not have it.

    `ran` is the name of the command that failed, as pki-apply.conf has it; empty where a file could not be placed.
    """

    why: str
    said: str
    ran: str = ""


def refusal(answers: Iterable[Answer], host: str = "the host") -> Refusal | None:
    """Return why a change was not taken; None when it was.

    Of a program that printed nothing, `said` is what to type on the `host` to see more.
    """
    failed: Answer = {}
    stuck: list[Answer] = []
    for answer in answers:
        if STUCK in answer:
            stuck.append(answer)
        if answer.get("state") == "refused":
            return Refusal(plain(answer["why"]), last_lines(answer["said"], f"on {host}: {PLACES}"))
        if answer.get("status"):
            failed = failed or answer
        if answer.get("state") == "undone":
            return _refusal_of(failed, "the previous files were put back", host)
    if stuck:
        return Refusal(*stuck_files(stuck))
    return _refusal_of(failed, "CRLs stay", host) if failed else None


def _refusal_of(failed: Answer, after: str, host: str) -> Refusal:
    return Refusal(_sentence(failed, after), _output_of(failed, host), str(failed.get("ran", "")))


def _output_of(failed: Answer, host: str) -> str:
    if not failed:
        return f"on {host}: {PLACES}"
    line = f'sh -xc "$(sed -n \'s/^run {plain(failed["ran"])} //p\' {PERMISSIONS})"; echo "exit status $?"'
    return last_lines(failed["said"], f"it printed nothing; on {host}, as root: {line}")


def stuck_files(stuck: Iterable[Answer]) -> tuple[str, str]:
    """Which files of a host can be neither replaced nor put back, and the commands that change that."""
    found = {one[STUCK]: one for one in stuck}
    why = "; ".join(f"{path} {plain(one['why'])}" for path, one in found.items())
    return shorten(why, 10 * WORDS), "\n".join(dict.fromkeys(plain(one["said"]) for one in found.values()))


def _sentence(failed: Answer, after: str) -> str:
    if not failed:
        return f"a file could not be placed; {after}"
    how = "did not end within 60 s" if failed["status"] in ENDED else f"failed with {failed['status']}"
    return f"{plain(failed['ran'])} {how}; {after}"
