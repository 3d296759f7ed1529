"""The decorator of every command (errors become one sentence and an exit status), and the project that it works on."""

from __future__ import annotations

import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from pki.cli import option_help
from pki.common import filesystem
from pki.common.errors import NO_PROJECT, InventoryError, PkiError, from_bug, from_os_error
from pki.common.terminal import discard_output, error_text
from pki.pipeline.delivery_targets import clock_evidence
from pki.project import machine_guard, version_change
from pki.project.clock_guard import Evidence
from pki.project.project import Project

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # of standard output, if the error names no file


def command(function: Callable[..., None], *, may_lack: str = "", many: tuple[str, ...] = ()) -> Any:
    """Return a function as a task of invoke that prints an error as one sentence and a hint.

    Exit status 1 for errors, 3 if pki.yaml is invalid. `may_lack` names an argument that may be left out, `many` the
    options that may be given several times.
    """

    @wraps(function)
    def reporting(context: Context, *args: Any, **options: Any) -> None:
        try:
            function(context, *args, **options)
            sys.stdout.flush()  # a failure of the last write is reported here, not at exit
        except InventoryError as error:
            raise Exit(str(error), code=3) from None
        except PkiError as error:
            raise _exit(error) from None
        except BrokenPipeError:  # `… | head`: https://docs.python.org/3/library/signal.html#note-on-sigpipe
            discard_output()
            raise Exit(code=1) from None
        except OSError as error:
            if error.errno not in UNWRITABLE or error.filename:
                raise _exit(from_os_error(error)) from None
            discard_output()
            hint = "make room: df -h" if error.errno == errno.ENOSPC else "redirect it elsewhere"
            raise Exit(f"the output cannot be written: {error.strerror}\n→ {hint}", code=1) from None
        except Exit:
            raise
        except Exception as error:  # noqa: BLE001 - users get a sentence, never a traceback
            raise _exit(from_bug(error)) from None

    names = list(inspect.signature(function).parameters)[1:]
    command_name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    setattr(reporting, option_help.MEANING, option_help.help_of(command_name, names))
    if not may_lack:
        return task(reporting, iterable=many, auto_shortflags=False)
    return task(reporting, iterable=many, positional=[may_lack], optional=[may_lack], auto_shortflags=False)


def _exit(error: PkiError) -> Exit:
    return Exit(error_text(error.message, error.hint), code=1)


def command_with(*, may_lack: str = "", many: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Any]:
    """Return the decorator of a command with an argument that may be left out, or repeatable options: see `command`."""
    return partial(command, may_lack=may_lack, many=many)


def home_of(context: Context) -> Path:
    """Return the project's folder. Raises PkiError where a command was typed outside any project."""
    if not context.config.pki_home:
        raise PkiError(NO_PROJECT.message, NO_PROJECT.hint)
    return Path(context.config.pki_home)


def now_of(context: Context) -> datetime:
    """Return the time at which the command was started, in UTC and whole seconds."""
    now: datetime = context.config.pki_now
    return now


def evidence_of(context: Context) -> Callable[[Project], Evidence]:
    """Return the function that collects evidence about the time, if the clock of this machine is in doubt."""
    evidence: Callable[[Project], Evidence] = context.config.get("pki_evidence", clock_evidence)
    return evidence


def project_of(context: Context) -> Project:
    """Return the project that a command works on. Raises PkiError if one of its roots is missing."""
    project = project_as_it_is(context)
    project.roots.check()
    return project


@contextmanager
def held_project_of(context: Context) -> Iterator[Project]:
    """Lock the project, then read it, so that changes by other commands before the lock count.

    Everything that a command writes must be computed from the project that this function yields. Raises PkiError as
    `project_of` does, before and after the lock.
    """
    unlocked = project_of(context)
    unlocked.ledger_view.close()
    with unlocked.store.lock():
        project = project_of(context)  # opened again: another command may have changed it before the lock
        machine_guard.guard_of(project.ledger_view, project.now).check()
        version_change.begin(project.store)
        try:
            yield project
        finally:
            project.ledger_view.close()


def project_as_it_is(context: Context) -> Project:
    """Return the project even if a root is missing: for commands that write nothing into it."""
    return Project.open(home_of(context), now_of(context), evidence_of(context))


def path_of(context: Context, text: str) -> Path:
    """Return a typed path relative to the folder in which it was typed: `run` changes the working directory."""
    return Path(os.path.normpath(Path(context.config.pki_called_from) / text))


def passphrase_in(context: Context, file: str) -> str | None:
    """Return the passphrase in the first line of a file; None if no file is named. Raises PkiError."""
    if not file:
        return None
    data = filesystem.read(path_of(context, file))
    if data is None:
        raise PkiError(f"{file}: is not there", "name a file with the passphrase in its first line")
    line = data.decode(errors="replace").partition("\n")[0].rstrip("\r")
    if not line or "\ufffd" in line:
        raise PkiError(f"{file}: the first line contains no passphrase", "expected text in UTF-8")
    return line
