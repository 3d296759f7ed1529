"""Asking a person at a terminal."""

from __future__ import annotations

import sys
from getpass import getpass

from pki.ceremony import words
from pki.errors import PkiError

TRIES = 3


def first_words(of: str, paper: str, hex_digest: str) -> str:
    """The first words of a digest as a person types them from paper; a slip is said, and may be mended twice."""
    for _ in range(TRIES - 1):
        given = typed(f"first {words.ASKED} words of the {of}, from the paper of {paper}: ")
        if not (wrong := words.fault(given, hex_digest)):
            return given
        print(f"{wrong}; look again")
    return typed(f"first {words.ASKED} words of the {of}: ")


def typed(question: str, *, hidden: bool = False) -> str:
    """What a person types. Raises PkiError where nobody can: a script names what it means as an option."""
    if not sys.stdin.isatty():
        raise PkiError(f"nobody is there to be asked: {question.strip(': ')}", "start it at a terminal, or see --help")
    try:
        return getpass(question) if hidden else input(question)
    except (EOFError, KeyboardInterrupt):
        raise PkiError("stopped; nothing was written") from None
