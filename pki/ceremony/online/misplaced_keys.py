"""Private keys that came with a response: whoever finds them beside it had the exchange drive for the vault, or cards on it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pki.ceremony import drives
from pki.common.errors import PkiError

OF_KEYS = ("root-*/key.*", ".root-*.new/key.*", "share-*-of-*.html")
KEY = re.compile(
    rb"^-----BEGIN ([A-Z0-9]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9]", re.MULTILINE
)  # not where a program names it
LARGEST = 1 << 20  # bytes: a key has a few thousand
SHOWN = 6


def insist_on_no_keys(folder: Path, *own: Path) -> None:
    """Raise PkiError, naming what to destroy, where private keys or cards are next to a response.

    `own` are the folders of this project that have keys of their own, as the offline folder of the sandbox.
    """
    ours = [one.resolve() for one in own]
    found = sorted({path for path in _private(folder) if not any(map(path.is_relative_to, ours))})
    if found:
        shown = ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        line = " ".join(shlex.quote(str(path)) for path in found[:SHOWN])
        raise PkiError(
            f"private keys are next to the response, in a machine with a network: {shown}",
            f"nothing was filed; destroy them: shred -u {line}\n"
            "if this drive was the vault, its root must not be trusted: hold the ceremony again, with an empty drive as the vault",
        )


def _private(folder: Path) -> Iterator[Path]:
    place = folder.resolve()
    place = place.parent if place.is_file() else place
    for path in place.rglob("*"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_size <= LARGEST and KEY.search(path.read_bytes()):
                yield path
    around = {place, place.parent, drives.mount_of(place).point}
    for outer in around - {Path("/")}:
        for pattern in OF_KEYS:
            with suppress(OSError):
                yield from outer.glob(pattern)
                yield from outer.glob(f"*/{pattern}")
