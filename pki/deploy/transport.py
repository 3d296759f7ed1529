"""How a release reaches a host: the interface that every transport has."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from pki.deploy.receipt import Receipt
from pki.deploy.release import Release


class Transport(Protocol):
    """One way to a host. `folder` is the release's own folder, its files below `folder/files`."""

    def drift(self, receipt: Receipt) -> list[str]:
        """What on the host is no longer as the receipt says: one phrase for each file."""
        ...

    def watched(self, receipt: Receipt) -> list[str]:
        """Local files whose state tells whether `drift` would find anything; none when only a look can tell."""
        ...

    def deliver(self, release: Release, folder: Path, previous: Receipt | None, now: datetime) -> Receipt:
        """Make the host hold the release, and nothing that `previous` lists beyond it.

        Raises PkiError when the host could not be made to; whatever file was being written is then the old one.
        """
        ...
