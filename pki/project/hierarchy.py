"""Interfaces of authorities and pre-signed CRLs by their dates: all that decides when a ceremony is needed.

`Authorities` implements them for the present; the timeline implements them for the time after future ceremonies. The same
functions use both, so nothing is signed to learn a date.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pki.config.identifiers import GenerationName
from pki.config.model import Inventory
from pki.x509.name_constraints import PermittedNames


class Ca(Protocol):
    """One generation of an authority: its name, the validity of its certificate, and the names that it may certify."""

    @property
    def name(self) -> GenerationName: ...

    @property
    def authority(self) -> str: ...

    @property
    def not_before(self) -> datetime: ...

    @property
    def not_after(self) -> datetime: ...

    @property
    def permitted(self) -> PermittedNames:
        """Return what the name constraints of an intermediate, or a root of clusters, permit (RFC 5280 §4.2.1.10)."""
        ...


class DatedCrl(Protocol):
    """One pre-signed CRL of a root: its number and dates (RFC 5280 §5.1.2, §5.2.3), and the serial numbers on it."""

    @property
    def number(self) -> int: ...

    @property
    def this_update(self) -> datetime: ...

    @property
    def next_update(self) -> datetime: ...

    @property
    def serials(self) -> frozenset[int]: ...


class Hierarchy(Protocol):
    """All authorities at the moment `now`, and the configuration."""

    @property
    def inventory(self) -> Inventory: ...

    @property
    def now(self) -> datetime: ...

    def generations(self, authority: str) -> Sequence[GenerationName]:
        """Return the names of the generations that have a certificate, oldest first."""
        ...

    def generation(self, name: str) -> Ca | None:
        """Return a generation by name; None while it has no certificate."""
        ...

    def issuing(self, authority: str) -> Ca | None:
        """Return the newest generation that is valid already and not revoked."""
        ...

    def has_new_request(self, authority: str) -> bool:
        """Return whether the request of an external authority has a key that was never certified."""
        ...

    def presigned_crls(self, root: str) -> Sequence[DatedCrl]:
        """Return the pre-signed CRLs of a root, lowest number first."""
        ...

    def has_lost_crls(self, root: str) -> bool:
        """Return whether a pre-signed CRL is damaged: it must be restored from a backup, and needs no ceremony."""
        ...
