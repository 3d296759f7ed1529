"""Projects that trials start from, made once in each process, and programs that are started on copies of them."""

from __future__ import annotations

import atexit
import gc
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from tests.campaigns.campaign import CampaignError
from tests.integration.conftest import LiveHome, LiveRealHome, moved_clock
from tests.support.projects import PROJECT, Report, bare_home

HANGS = (
    300  # seconds after which a program hangs: what is awaited takes a hundredth of it on a machine that is not busy
)
FOLDER = "project"
PASSPHRASE = "trumpet velvet cactus orbit mango thistle"


@cache
def scratch() -> Path:
    """A folder of this process, removed with it."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-projects-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked process leaves it alone
            shutil.rmtree(folder, ignore_errors=True)

    Finalize(None, remove, exitpriority=0)  # a process of a pool calls these alone
    atexit.register(remove)
    return folder


def _new(desk: Path) -> None:
    bare_home(desk / FOLDER)


def _built(desk: Path) -> None:
    _new(desk)
    in_process(LiveHome(desk / FOLDER))


def _answered(desk: Path) -> None:
    """Outside the sandbox: the first ceremony was performed, and its response waits in `out`."""
    home = LiveRealHome(bare_home(desk / FOLDER).path)
    home.edit("sandbox: true", "sandbox: false")
    for folder in (home.vault.folder, home.out):
        folder.mkdir()
    home.answer(home.ask().path)


BASES: Mapping[str, Callable[[Path], None]] = {"new": _new, "built": _built, "answered": _answered}


@cache
def base(kind: str) -> Path:
    """The folder that holds a project of a kind, and what belongs beside it."""
    desk = scratch() / kind
    desk.mkdir()
    BASES[kind](desk)
    (desk / "words").write_text(f"{PASSPHRASE}\n")
    return desk


def copied(kind: str, desk: Path) -> LiveRealHome:
    """A copy of a project in the folder `desk`."""
    shutil.copytree(base(kind), desk, symlinks=True, dirs_exist_ok=True)
    return LiveRealHome(desk / FOLDER)


def in_process(home: LiveHome, *arguments: str, days: float = 0) -> Report:
    """Run doit in this process, which starts no Python; it must end well, and no traceback be printed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            report = home.doit(*arguments, days=days)
        finally:
            gc.unfreeze()  # a run is the last thing in its process, and collects no garbage
            gc.enable()
    text = said.getvalue()
    if report.status or "Traceback" in text:
        raise CampaignError("a run fails", f"{report.failed}\n{text}")
    return report


def environment(home: LiveHome, days: int = 0, **more: str) -> dict[str, str]:
    """What programs are given: the project, the clock, the folder where they are typed."""
    moved = moved_clock(days) if days else {}
    return {**home.environment, "PKI_CALLED_FROM": str(home.path.parent), **moved, **more}


def started(command: Sequence[str], given: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`python -m COMMAND` in a session of its own; what it says goes to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=PROJECT,
            env=dict(given),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def ended(process: subprocess.Popen[bytes], what: str) -> int:
    """Its exit status. A program that does not end, and what it started, is a fault."""
    try:
        return process.wait(HANGS)
    except subprocess.TimeoutExpired:
        raise CampaignError("a program hangs", f"{what}:\n{shown(process.pid)}") from None


def shown(session: int) -> str:
    """The processes that still live in a session."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=,wchan=,args=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in listed.stdout.splitlines() if " Z" not in line)


def insist_on_none_left(session: int) -> None:
    """Raise CampaignError where a process outlives the one that started it, the moment aside that it needs."""
    end = time.monotonic() + HANGS
    while left := shown(session):
        if time.monotonic() > end:
            raise CampaignError("a process is left", left)
        time.sleep(0.02)


def insist_on_sentences(said: str, what: str) -> None:
    """Raise CampaignError where a program printed a traceback."""
    if "Traceback (most recent call last)" in said:
        raise CampaignError("a traceback", f"{what}:\n{said}")
