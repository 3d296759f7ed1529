"""What every command shares: the project that it works on, and how it says that something went wrong."""

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

from pki.cli import argument_parser, option_help
from pki.common import filesystem
from pki.common.errors import InventoryError, PkiError, of_bug, of_system
from pki.common.terminal import say_nothing_more
from pki.project.clock_guard import Evidence
from pki.project.project import Project

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # of standard output, where no file is named


def command(function: Callable[..., None], *, may_lack: str = "", many: tuple[str, ...] = ()) -> Any:
    """An invoke task that says what went wrong in one sentence and a hint: exit 1, or 3 when pki.yaml is wrong.

    `may_lack` names an argument that may be left out, `many` options that may be given several times.
    """

    @wraps(function)
    def spoken(context: Context, *args: Any, **options: Any) -> None:
        try:
            function(context, *args, **options)
            sys.stdout.flush()  # while somebody is there to say that it fails
        except InventoryError as error:
            raise Exit(str(error), code=3) from None
        except PkiError as error:
            raise _exit(error) from None
        except (
            BrokenPipeError
        ):  # `… | head` has seen enough: https://docs.python.org/3/library/signal.html#note-on-sigpipe
            say_nothing_more()
            raise Exit(code=1) from None
        except OSError as error:
            if error.errno not in UNWRITABLE or error.filename:
                raise _exit(of_system(error)) from None
            say_nothing_more()
            hint = "make room: df -h" if error.errno == errno.ENOSPC else "send it elsewhere"
            raise Exit(f"what this command says cannot be written: {error.strerror}\n→ {hint}", code=1) from None
        except Exit:
            raise
        except Exception as error:  # noqa: BLE001 - a traceback is of no use to whoever typed the command
            raise _exit(of_bug(error)) from None

    names = list(inspect.signature(function).parameters)[1:]
    called = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    setattr(spoken, option_help.MEANING, option_help.help_of(called, names))
    if not may_lack:
        return task(spoken, iterable=many, auto_shortflags=False)
    return task(spoken, iterable=many, positional=[may_lack], optional=[may_lack], auto_shortflags=False)


def _exit(error: PkiError) -> Exit:
    return Exit(f"{error.message}\n→ {error.hint}" if error.hint else error.message, code=1)


def command_with(*, may_lack: str = "", many: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Any]:
    """A command one argument of which may be left out, or options of which may be given several times."""
    return partial(command, may_lack=may_lack, many=many)


def _line(error: PkiError) -> str:
    return f"{error.message}\n→ {error.hint}" if error.hint else error.message


argument_parser.teach()


def home_of(context: Context) -> Path:
    return Path(context.config.pki_home)


def now_of(context: Context) -> datetime:
    now: datetime = context.config.pki_now
    return now


def evidence_of(context: Context) -> Callable[[Project], Evidence]:
    """What is asked about the time where the clock alone cannot be believed."""
    asked: Callable[[Project], Evidence] = context.config.pki_evidence
    return asked


def project_of(context: Context) -> Project:
    """The project that a command works on, at the moment that the door took.

    Raises PkiError where a root of it is missing, before anything is written.
    """
    project = project_as_it_is(context)
    project.check_roots()
    return project


@contextmanager
def held_project_of(context: Context) -> Iterator[Project]:
    """Hold the project alone, and read it only then: what an edit or another command changed while this one waited counts.

    Whatever is written follows from what was read here. Raises PkiError as `project_of` does, before it waits and after.
    """
    before = project_of(context)
    before.close_ledger()
    with before.store.lock():
        project = project_of(context)
        try:
            yield project
        finally:
            project.close_ledger()


def project_as_it_is(context: Context) -> Project:
    """The project as it is, even where a root is missing: for commands that write nothing into it."""
    return Project.open(home_of(context), now_of(context), evidence_of(context))


def path_of(context: Context, text: str) -> Path:
    """A path as the user typed it, where the user typed it: `run` changes the folder before it starts a command."""
    return Path(os.path.normpath(Path(context.config.pki_called_from) / text))


def passphrase_in(context: Context, file: str) -> str | None:
    """The first line of a file that holds a passphrase, None when no file is named."""
    if not file:
        return None
    data = filesystem.read(path_of(context, file))
    if data is None:
        raise PkiError(f"{file}: is not there", "name a file that holds the passphrase in its first line")
    line = data.decode(errors="replace").partition("\n")[0].rstrip("\r")
    if not line or "\ufffd" in line:
        raise PkiError(f"{file}: its first line is no passphrase", "expected text in UTF-8")
    return line
