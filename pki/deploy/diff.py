"""The difference that the next delivery makes in a file, for the screen: never a private key."""

from __future__ import annotations

import difflib

from pki.common.visible import shorten
from pki.deploy.host_output import FileStatus
from pki.deploy.host_session import MAX_FILE_BYTES, Session
from pki.deploy.payload import Payload
from pki.deploy.protocol import FileState
from pki.deploy.release import PRIVATE
from pki.x509.canonical import split_bundle
from pki.x509.keys import key_fingerprint, open_leaf_key

LONGEST_LINE = 4000  # characters
MOST_LINES = 10_000  # of both files together: difflib takes quadratic time, and a host chooses its file


def diff_lines(session: Session, state: FileState, payload: Payload, delivered: Payload | None) -> list[str]:
    """Return a unified diff from the file on the host to the file of the release; empty when nothing differs.

    `delivered` is what was delivered last; it is used for files that only root on the host can read.
    """
    file, path = state.row.file, state.row.file.path
    if state.status is FileStatus.HELD_BACK or not state.status.differs:
        return [f"--- {state.reason}"] if state.status is FileStatus.HELD_BACK else []
    new_content = b"" if state.row.is_removal else payload.content(file)
    old_content = session.show(state, max(MAX_FILE_BYTES, 2 * len(new_content))) or _delivered_content(delivered, state)
    if PRIVATE.search(new_content + old_content):
        return [
            f"--- {path}: {state.reason}",
            f"-private key {_fingerprint(old_content)}",
            f"+private key {_fingerprint(new_content)}",
        ]
    if old_content == new_content or state.status in {FileStatus.OTHER_MODE, FileStatus.OTHER_OWNER}:
        return [f"--- {path}: {state.reason}"]
    try:
        old_lines, new_lines = _lines(old_content), _lines(new_content)
    except UnicodeDecodeError:
        return _digest_lines(f"{path}: binary", state)
    if len(old_lines) + len(new_lines) > MOST_LINES:
        return _digest_lines(f"{path}: {len(old_lines)} lines on the host, {len(new_lines)} in the release", state)
    diff = [*difflib.unified_diff(old_lines, new_lines, f"{path} (host)", f"{path} (release)", lineterm="")]
    diff = [f"--- {path}: {state.reason}", *diff] if state.status is FileStatus.LINK else diff
    return [shorten(line.expandtabs(4), LONGEST_LINE) for line in diff]


def _lines(content: bytes) -> list[str]:
    """Split at line feeds alone: other characters that some programs take for line ends must be visible."""
    return content.decode().removesuffix("\n").split("\n") if content else []


def _digest_lines(title: str, state: FileState) -> list[str]:
    return [f"--- {title}", f"-SHA-256 {state.sha256 or 'none'}", f"+SHA-256 {state.row.file.sha256}"]


def _delivered_content(delivered: Payload | None, state: FileState) -> bytes:
    """Return the content that was delivered, if the host still has it."""
    for file in delivered.release.files if delivered else ():
        if delivered and (file.path, file.sha256) == (state.row.file.path, state.sha256):
            return delivered.content(file)
    return b""


def _fingerprint(content: bytes) -> str:
    """Return the SHA-256 of a private key's public half."""
    if not PRIVATE.search(content):
        return "none, or unknown"
    key = open_leaf_key(split_bundle(content).get("key.pem", b""), "the key")
    return f"SHA-256 {key_fingerprint(key.public_key())}"
