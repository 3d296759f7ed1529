"""What every command shares: the house that it works on, and how it says that something went wrong."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from pki import store
from pki.commands import parsing
from pki.errors import InventoryError, PkiError, of_system
from pki.house import House
from pki.screen import say_nothing_more

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
            raise Exit(_line(error), code=1) from None
        except (
            BrokenPipeError
        ):  # `… | head` has seen enough: https://docs.python.org/3/library/signal.html#note-on-sigpipe
            say_nothing_more()
            raise Exit(code=1) from None
        except OSError as error:
            if error.filename:
                raise Exit(_line(of_system(error)), code=1) from None
            if error.errno not in UNWRITABLE:
                raise
            say_nothing_more()
            hint = "make room: df -h" if error.errno == errno.ENOSPC else "send it elsewhere"
            raise Exit(f"what this command says cannot be written: {error.strerror}\n→ {hint}", code=1) from None

    if not may_lack:
        return task(spoken, iterable=many)
    return task(spoken, iterable=many, positional=[may_lack], optional=[may_lack])


def command_with(*, may_lack: str = "", many: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Any]:
    """A command one argument of which may be left out, or options of which may be given several times."""
    return partial(command, may_lack=may_lack, many=many)


def _line(error: PkiError) -> str:
    return f"{error.message}\n→ {error.hint}" if error.hint else error.message


parsing.teach()


def home_of(context: Context) -> Path:
    return Path(context.config.pki_home)


def now_of(context: Context) -> datetime:
    now: datetime = context.config.pki_now
    return now


def house_of(context: Context) -> House:
    """The house that a command works on, at the moment that the door took."""
    return House.open(home_of(context), now_of(context))


def path_of(context: Context, text: str) -> Path:
    """A path as the user typed it, where the user typed it: `run` changes the folder before it starts a command."""
    return Path(os.path.normpath(Path(context.config.pki_called_from) / text))


def passphrase_in(context: Context, file: str) -> str | None:
    """The first line of a file that holds a passphrase, None when no file is named."""
    if not file:
        return None
    data = store.read(path_of(context, file))
    if data is None:
        raise PkiError(f"{file}: is not there", "name a file that holds the passphrase in its first line")
    line = data.decode(errors="replace").partition("\n")[0].rstrip("\r")
    if not line or "\ufffd" in line:
        raise PkiError(f"{file}: its first line is no passphrase", "expected text in UTF-8")
    return line
