"""Asking a person at a terminal."""

from __future__ import annotations

import sys
from getpass import getpass

from pki.errors import PkiError


def typed(question: str, *, hidden: bool = False) -> str:
    """What a person types. Raises PkiError where nobody can: a script names what it means as an option."""
    if not sys.stdin.isatty():
        raise PkiError(
            f"nobody is there to be asked: {question.strip().rstrip(':')}", "start it at a terminal, or see --help"
        )
    try:
        return getpass(question) if hidden else input(question)
    except (EOFError, KeyboardInterrupt):
        raise PkiError("stopped; nothing was written") from None
