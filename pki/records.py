"""What the ledger knows, in plain values, and what it can be asked: the shape that the rest of the house sees."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
DECISIONS = ("withheld", "released", "exported", "installed")
PUT_BACK = (  # what helps a ledger that cannot be trusted or read any more
    "put ca/ledger.db back from a backup (./run invoke restore FILE --to DIR), then: ./run invoke ledger.recover --all"
)
GONE = "ca/ledger.db: is gone, and with it what was issued and revoked"
BEGIN_ANEW = f"{PUT_BACK}; where there is no backup: docs/backup.md#a-ledger-that-is-lost"
OLD_REASONS = (*REASONS, "cACompromise", "aACompromise", "certificateHold")  # which adopted CAs may have given


class Entry(NamedTuple):
    """One revoked certificate on a CRL; `reason` is one of OLD_REASONS."""

    serial: int
    revoked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate as the ledger holds it; `revoked` is a reason or empty."""

    serial: int
    issuer: str
    artifact: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    reason: str
    revoked: str
    pem: str

    @property
    def common_name(self) -> str:
        """The CN of the subject; empty where there is none, or where an adopted CA wrote a subject that cannot be read."""
        try:
            found = x509.Name.from_rfc4514_string(self.subject).get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return ""
        return str(found[0].value) if found else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided or did about an artifact; `decision` is one of DECISIONS.

    `withheld` and `released`: whether a revoked leaf is replaced. `exported` and `installed`: how far an identity got on
    its way to a device; their `detail` begins with the serial number in hexadecimal.
    """

    artifact: str
    decision: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation that an adopted CA recorded itself; its certificate may be lost."""

    serial: int
    artifact: str
    reason: str
    revoked_at: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class LastCrl:
    """The last CRL that an adopted CA issued; `pem` is empty where only its number is known."""

    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    reason: str
    pem: str


@dataclass(frozen=True, slots=True)
class Books:
    """What an adopted CA issued and revoked before it was adopted, as far as the ledger does not hold it yet."""

    issuer: str
    certificates: tuple[Issued, ...]
    revocations: tuple[Revocation, ...]
    last_crl: LastCrl | None


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    at: datetime
    kind: str
    subject: str
    hash: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the ledger learnt from a CRL of our own: serial numbers, and whether the CRL `is_newer` than all it knew."""

    generation: str
    number: int
    serials: tuple[int, ...]
    is_newer: bool


class Ledger(Protocol):
    """Every certificate issued and revoked, every CRL number, every decision. See `ledger/` for what each call promises."""

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None: ...

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None: ...

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, text: bytes = b""
    ) -> None:
        """`text` is the CRL as PEM, where that is known: to encode a large one takes as long as to sign it."""
        ...

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None: ...

    def decisions(self, *, artifact: str | None = None) -> list[Decision]: ...

    def take_in(self, books: Books, *, at: datetime) -> None: ...

    def record_recovered(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered: ...

    def certificates(
        self,
        *,
        artifact: str | None = None,
        serial: int | None = None,
        since: datetime | None = None,
        issuer: str | None = None,
    ) -> list[Issued]: ...

    def has_books(self, issuer: str) -> bool: ...

    def revoked_serials(self, since: datetime, *, issuer: str = "") -> frozenset[int]: ...

    def ended_serials(self, before: datetime) -> frozenset[int]: ...

    def revoked(self, issuer: str, still_valid_at: datetime, *, only: Collection[int] | None = None) -> list[Entry]: ...

    def last_crl(self, issuer: str) -> tuple[int, datetime] | None: ...

    def has_crl(self, issuer: str, number: int) -> bool: ...

    def events(self, last: int | None = None) -> list[Event]: ...

    def newest(self) -> Event | None: ...

    def latest(self) -> datetime | None: ...

    def counts(self) -> tuple[int, int]: ...

    def verify(self) -> list[str]: ...

    def close(self) -> None: ...
