"""A command as it is typed, in a process that is forked from this one: it starts with everything imported."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

from pki.cli import launch
from tests.support.projects import PROJECT, Home

IN_TIME = 100  # seconds: what takes longer waits for something that never comes


def typed(
    home: Home, program: str, *arguments: str, account: int = 0, out: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `doit` or `invoke` with the real clock, as cron starts it: no terminal, no input, by `account` if one is named.

    What it prints goes to the file `out` where one is named. Its environment is that of this process.
    """
    with open(out, "w") if out else tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        process = os.fork()
        if not process:
            _be(home, [program, *arguments], account, (printed, errors))
        status = _status(process)
        texts = [stream.read() for stream in (printed, errors) if stream.readable() and stream.seek(0) == 0]
    return subprocess.CompletedProcess([program, *arguments], status, "" if out else texts[0], texts[-1])


def _be(home: Home, words: list[str], account: int, channels: tuple[IO[str], IO[str]]) -> None:
    """Be the process that runs the command; never returns, whatever happens."""
    status = 1
    try:
        os.environ.update(PKI_HOME=str(home.path), HOME="/nonexistent")
        for number, channel in enumerate((open(os.devnull), *channels)):  # noqa: SIM115 - they stay open
            os.dup2(channel.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(PROJECT)
        if account:
            os.setgroups([])
            os.setresuid(account, account, account)
        for checked_endpoint in ("dodo", "tasks"):  # which take the clock
            sys.modules.pop(checked_endpoint, None)
        sys.path.insert(0, str(PROJECT))
        status = launch.run(words[0], words[1:])
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does at the end of a process
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _status(process: int) -> int:
    """Wait for a process and return its exit status, negative for a signal."""
    handle, poll = os.pidfd_open(process), select.poll()
    poll.register(handle, select.POLLIN)
    try:
        has_ended = poll.poll(IN_TIME * 1000)
    finally:
        signal.pidfd_send_signal(handle, signal.SIGKILL)  # which changes nothing where it has ended
        os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert has_ended, "it does not end"
    return status
