"""What every command shares: the house that it works on, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from pki.errors import InventoryError, PkiError
from pki.house import House


def command(function: Callable[..., None]) -> Any:
    """An invoke task that says what went wrong in one sentence and a hint: exit 1, or 3 when pki.yaml is wrong."""

    @wraps(function)
    def spoken(context: Context, *args: Any, **options: Any) -> None:
        try:
            function(context, *args, **options)
        except InventoryError as error:
            raise Exit(str(error), code=3) from None
        except PkiError as error:
            raise Exit(f"{error.message}\n→ {error.hint}" if error.hint else error.message, code=1) from None

    return task(spoken)


def home_of(context: Context) -> Path:
    return Path(context.config.pki_home)


def now_of(context: Context) -> datetime:
    now: datetime = context.config.pki_now
    return now


def house_of(context: Context) -> House:
    """The house that a command works on, at the moment that the door took."""
    return House.open(home_of(context), now_of(context))
