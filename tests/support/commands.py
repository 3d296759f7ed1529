"""`./run invoke …` in this process, as tests type it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

import tasks
from pki.cli.program import Program
from tests.support.projects import two_hosts_agree


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    error: str


Invoke = Callable[..., Said]


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str, **settings: object) -> Said:
    """Run one command; `settings` are what the door would set: the project, the moment, where it was typed."""
    tasks.ns.configure({"pki_evidence": two_hosts_agree, **settings})
    capsys.readouterr()
    code = 0
    try:
        Program(tasks.ns).run(["invoke", *arguments])
    except SystemExit as left:
        code = int(left.code or 0)
    output = capsys.readouterr()
    return Said(code, output.out, output.err)
