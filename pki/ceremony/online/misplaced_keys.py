"""Find private keys next to a response: the exchange drive was used as the vault, or has custodians' cards on it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pki.ceremony import drives
from pki.common.errors import PkiError

KEY_PATTERNS = ("root-*/key.*", ".root-*.new/key.*", "share-*-of-*.html")
KEY = re.compile(
    rb"^-----BEGIN ([A-Z0-9]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9]", re.MULTILINE
)  # with content: a program may contain the first line only
MAX_KEY_FILE_BYTES = 1 << 20  # a key file has a few thousand
SHOWN = 6  # files in the message


def check_no_keys(folder: Path, *own: Path) -> None:
    """Raise PkiError with the files to destroy when private keys or cards are next to a response.

    `own` are folders of this project that may have keys, such as the offline folder of the sandbox.
    """
    own_folders = [folder.resolve() for folder in own]
    files = sorted({path for path in _private_files(folder) if not any(map(path.is_relative_to, own_folders))})
    if files:
        shown = ", ".join(map(str, files[:SHOWN]))
        shown += f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        line = " ".join(shlex.quote(str(path)) for path in files[:SHOWN])
        raise PkiError(
            f"private keys are next to the response, on a machine with a network: {shown}",
            f"nothing was accepted; destroy them: shred -u {line}\n"
            "if this drive was the vault, its root must not be trusted: perform the ceremony again, with an empty drive as the vault",
        )


def _private_files(folder: Path) -> Iterator[Path]:
    """Yield files with private keys in a folder, and files with the names of key files and cards around it."""
    place = folder.resolve()
    place = place.parent if place.is_file() else place
    for path in place.rglob("*"):
        with suppress(OSError):  # the user cannot read it
            if path.is_file() and path.stat().st_size <= MAX_KEY_FILE_BYTES and KEY.search(path.read_bytes()):
                yield path
    surrounding_folders = {place, place.parent, drives.mount_of(place).point} - {Path("/")}
    for surrounding in surrounding_folders:
        for pattern in KEY_PATTERNS:
            with suppress(OSError):
                yield from surrounding.glob(pattern)
                yield from surrounding.glob(f"*/{pattern}")
