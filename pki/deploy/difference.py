"""What the next delivery would change in a file, as a person may see it: never a private key."""

from __future__ import annotations

import difflib

from pki.deploy.parcel import Parcel
from pki.deploy.release import PRIVATE
from pki.deploy.session import Seen, Session
from pki.issue import key_fingerprint, open_key
from pki.store import CERTIFICATE_MARK


def lines(session: Session, seen: Seen, parcel: Parcel, delivered: Parcel | None) -> list[str]:
    """A unified diff from what the host has to what is to come; none when nothing differs.

    `delivered` is what the host took last: it stands in for files that not everybody on the host may read.
    """
    file, path = seen.row.file, seen.row.file.path
    if seen.state in {"same", "set"}:
        return []
    new = b"" if seen.row.gone else parcel.content(file)
    old = session.show(seen) or _remembered(delivered, seen)
    if PRIVATE.search(new + old):
        return [f"--- {path}: {seen.phrase}", f"-private key {_fingerprint(old)}", f"+private key {_fingerprint(new)}"]
    if old == new or seen.state in {"mode", "owner"}:
        return [f"--- {path}: {seen.phrase}"]
    try:
        was, becomes = old.decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return [f"--- {path}: binary", f"-SHA-256 {seen.sha256 or 'none'}", f"+SHA-256 {file.sha256}"]
    return list(difflib.unified_diff(was, becomes, f"{path} there", f"{path} to come", lineterm=""))


def _remembered(delivered: Parcel | None, seen: Seen) -> bytes:
    """What we delivered, if that is still what the host has."""
    for file in delivered.release.files if delivered else ():
        if delivered and (file.path, file.sha256) == (seen.row.file.path, seen.sha256):
            return delivered.content(file)
    return b""


def _fingerprint(content: bytes) -> str:
    """That of a private key's public half."""
    if not PRIVATE.search(content):
        return "none, or not known here"
    return (
        f"SHA-256 {key_fingerprint(open_key(content.partition(CERTIFICATE_MARK)[0], None, 'the key', '').public_key())}"
    )
