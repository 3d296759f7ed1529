"""What the next delivery would change in a file, as a person may see it: never a private key."""

from __future__ import annotations

import difflib

from pki.common.visible import shorten
from pki.deploy.payload import Payload
from pki.deploy.protocol import MAX_FILE_BYTES, FileState, Session
from pki.deploy.release import PRIVATE
from pki.x509.canonical import BEGIN
from pki.x509.keys import key_fingerprint, open_key

LONGEST_LINE = 4000  # characters that are shown
MOST_LINES = 10_000  # of both files: what is compared takes the square of them, where a host wants it to


def diff_lines(session: Session, seen: FileState, payload: Payload, delivered: Payload | None) -> list[str]:
    """A unified diff from what the host has to what is to come; none when nothing differs.

    `delivered` is what the host took last: it stands in for files that not everybody on the host may read.
    """
    file, path = seen.row.file, seen.row.file.path
    if seen.state in {"same", "set", "held"}:
        return [f"--- {seen.reason}"] if seen.state == "held" else []
    new = b"" if seen.row.gone else payload.content(file)
    old = session.show(seen, max(MAX_FILE_BYTES, 2 * len(new))) or _delivered_content(delivered, seen)
    if PRIVATE.search(new + old):
        return [f"--- {path}: {seen.reason}", f"-private key {_fingerprint(old)}", f"+private key {_fingerprint(new)}"]
    if old == new or seen.state in {"mode", "owner"}:
        return [f"--- {path}: {seen.reason}"]
    try:
        was, becomes = _lines(old), _lines(new)
    except UnicodeDecodeError:
        return _digest_lines(f"{path}: binary", seen)
    if len(was) + len(becomes) > MOST_LINES:
        return _digest_lines(f"{path}: {len(was)} lines there, {len(becomes)} to come", seen)
    found = [*difflib.unified_diff(was, becomes, f"{path} there", f"{path} to come", lineterm="")]
    found = [f"--- {path}: {seen.reason}", *found] if seen.state == "link" else found
    return [shorten(line.expandtabs(4), LONGEST_LINE) for line in found]


def _lines(content: bytes) -> list[str]:
    """Only a line feed ends a line: whatever else does so for some readers is to be seen."""
    return content.decode().removesuffix("\n").split("\n") if content else []


def _digest_lines(what: str, seen: FileState) -> list[str]:
    return [f"--- {what}", f"-SHA-256 {seen.sha256 or 'none'}", f"+SHA-256 {seen.row.file.sha256}"]


def _delivered_content(delivered: Payload | None, seen: FileState) -> bytes:
    """What we delivered, if that is still what the host has."""
    for file in delivered.release.files if delivered else ():
        if delivered and (file.path, file.sha256) == (seen.row.file.path, seen.sha256):
            return delivered.content(file)
    return b""


def _fingerprint(content: bytes) -> str:
    """That of a private key's public half."""
    if not PRIVATE.search(content):
        return "none, or not known here"
    return f"SHA-256 {key_fingerprint(open_key(content.partition(BEGIN)[0], None, 'the key', '').public_key())}"
