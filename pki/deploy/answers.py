"""What pki-apply answers, and what that means. It imports nothing of ours: Ansible carries it along."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Answer = dict[str, Any]
ENDED = {124, 137, 143}  # what timeout says of a command that it ended: GNU's, with -k, and busybox's
SENTENCE = 400


def read(line: str | bytes) -> Answer | None:
    """One line as an answer, None when it is none."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(answer, dict) and all(isinstance(value, str | int) for value in answer.values())
    return answer if is_one else None


def plain(text: str) -> str:
    """What a host says, at most a long sentence of it, without what a terminal would take for a command."""
    return "".join(one if one.isprintable() else " " for one in text[:SENTENCE])


def words(said: object) -> str:
    """What a program said, as a hint shows it: its last lines."""
    lines = [plain(line).strip() for line in str(said or "").splitlines() if line.strip()]
    return "\n".join(lines[-4:]) or "it said nothing"


def refusal(answers: Iterable[Answer]) -> tuple[str, str] | None:
    """Why a change was not taken, and the words of the program that would not have it; None when it was."""
    failed: Answer = {}
    for answer in answers:
        if answer.get("state") == "refused":
            return plain(str(answer.get("why"))), words(answer.get("said"))
        if answer.get("status"):
            failed = failed or answer
        if answer.get("state") == "undone":
            return _sentence(failed, "the previous files were put back"), words(failed.get("said"))
    return (_sentence(failed, "CRLs stay"), words(failed.get("said"))) if failed else None


def _sentence(failed: Answer, after: str) -> str:
    if not failed:
        return f"a file could not be placed; {after}"
    how = "did not end within 60 s" if failed["status"] in ENDED else f"failed with {failed['status']}"
    return f"{plain(str(failed.get('ran')))} {how}; {after}"
