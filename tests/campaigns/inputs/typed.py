"""Commands as they are typed, each in a forked process with limits of processor time, waiting time and memory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import libfaketime

import tasks
from pki.cli.program import Program
from pki.monitor.report.run import Run
from tests.support.projects import PROJECT, START, two_hosts_agree

PROCESSOR = 20  # seconds of processor time
WAITING = 150  # seconds until a process that waits for something is ended; other trials run meanwhile
MEMORY = 500 << 20  # bytes in memory
ADDRESSES = 4 << 30  # bytes of addresses: protects the machine
FAKETIME = str(Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1")
SHOWN = 1 << 20  # characters of output that are judged


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended: `status` is its exit status, or minus the number of a signal."""

    words: tuple[str, ...]
    status: int
    out: str
    memory: int

    @property
    def line(self) -> str:
        return " ".join(self.words)


def typed(words: Sequence[str], home: Path, days: float) -> Said:
    """Run `doit …` or `invoke …` over a project, in a fork of this process."""
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os._exit(_inside(words, home, days, output.fileno()))
        _, ended, used = os.wait4(child, 0)
        output.seek(0)
        said = output.read(SHOWN).decode(errors="replace")
    return Said(tuple(words), os.waitstatus_to_exitcode(ended), said, used.ru_maxrss << 10)


def really_typed(words: Sequence[str], home: Path, days: float) -> Said:
    """Run the same as a program of its own, as `run` starts it, at the same moment of a false clock."""
    moment = START + timedelta(days=days)
    clock = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME": f"@{moment:%Y-%m-%d %H:%M:%S}",
        "TZ": "UTC",
        "DONT_FAKE_MONOTONIC": "1",
    }
    places = {"PKI_HOME": str(home), "PKI_CALLED_FROM": str(home.parent)}
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-S", "-P", "pki/cli/start.py", *map(os.fsencode, words)]
        started = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **clock, **places},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_limit,  # noqa: PLW1509 - this process has no threads
        )
        _, ended, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(ended)
        output.seek(0)
        said = output.read(SHOWN).decode(errors="replace")
    return Said(tuple(words), started.returncode, said, used.ru_maxrss << 10)


def _inside(words: Sequence[str], home: Path, days: float, output: int) -> int:
    """Everything that happens in the forked process; returns its exit status."""
    status = 70
    try:
        _limit()
        null = os.open(os.devnull, os.O_RDONLY)
        for number, target in enumerate((null, output, output)):
            os.dup2(target, number)
        os.chdir(home.parent)
        status = PROGRAMS[words[0]](words[1:], home, days)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - whatever a command lets out is what the judge is to see
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def _limit() -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR + 5))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WAITING)


def _doit(words: Sequence[str], home: Path, days: float) -> int:
    return Run(home, START + timedelta(days=days), two_hosts_agree).main(words)


def _invoke(words: Sequence[str], home: Path, days: float) -> int:
    moment = {"pki_home": str(home), "pki_now": START + timedelta(days=days), "pki_called_from": str(home.parent)}
    tasks.ns.configure({"pki_evidence": two_hosts_agree, **moment})
    Program(tasks.ns).run(["invoke", *words])
    return 0


PROGRAMS: dict[str, Callable[[Sequence[str], Path, float], int]] = {"doit": _doit, "invoke": _invoke}
