"""What the ledger knows, in plain values, and what it can be asked: the shape that the rest of the project sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.common.remedies import in_project
from pki.config.identifiers import ArtifactId, GenerationName
from pki.x509.revocation import CrlEntry

ACCEPTED = "ledger-accepted"
DECISIONS = (
    "withheld",
    "released",
    "exported",
    "installed",
    "pinned",
    "unpinned",
    "restored",
    "root-accepted",
    "roots-permitted",
    "clock-confirmed",
    ACCEPTED,
)

# Why nothing may be signed or recorded, as kinds of LedgerFault.
MISSING, EMPTY, FOREIGN, OLDER = "missing", "empty", "foreign", "older"
UNKNOWN_AUTHORITIES, NEWEST_MISSING, UNREADABLE = "unknown-authorities", "newest-missing", "unreadable"
PASSING = "passing"  # what comes and goes, as on a full disk: it says nothing about the content of the ledger

PUT_BACK = (  # what helps a ledger that cannot be trusted or read any more
    "put ca/ledger.db back from a backup (./run invoke restore FILE --to DIR), then: ./run invoke ledger.recover --all"
)
PUT_BACK_DATABASE = (
    "restore the ledger's database from its newest dump; where there is none: ./run invoke ledger.accept-loss"
)
LOOK_AT_DISK = f"ls -l {in_project('ca/ledger.db')}* and df -h {in_project('ca')}, then: ./run invoke ledger.verify"  # of what comes and goes
GONE = "ca/ledger.db: is gone, and with it what was issued and revoked"
BEGIN_AGAIN = f"{PUT_BACK}; where there is no backup: ./run invoke ledger.accept-loss"
IS_EMPTY = "is empty, and ca/ holds what only a ledger with entries goes with"
NEWEST_IS_BACK = "put the newest ca/ledger.db back (./run invoke restore FILE --to DIR); where it is lost: ./run invoke ledger.accept-loss"


class Head(NamedTuple):
    """Number and hash of an event that was once the newest one; `where` says what remembers it.

    `revocations` is how many there were, where that was remembered too.
    """

    seq: int
    hash: str
    where: str = ""
    revocations: int | None = None


class Pin(NamedTuple):
    """The release at which a host is pinned, by digest, and since when; an empty digest where only that is known."""

    release: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LedgerFault:
    """Why nothing may be signed or recorded: a kind, what speaks for it, and what to type."""

    kind: str
    evidence: str
    remedy: str

    @property
    def consequence(self) -> str:
        """What it means, with the evidence."""
        if self.kind in {MISSING, UNKNOWN_AUTHORITIES}:
            return self.evidence
        return f"nothing can be issued or revoked: {self.evidence}"


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate as the ledger holds it; `revoked` is a reason or empty.

    `by` and `revoked_by` are who recorded it and its revocation; empty where that was before schema 3.
    """

    serial: int
    issuer: GenerationName
    artifact: ArtifactId
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    reason: str
    revoked: str
    pem: str
    by: str = ""
    revoked_by: str = ""

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
    """What a person decided or did about an artifact, or about the `project`; `decision` is one of DECISIONS.

    `withheld` and `released`: whether a revoked leaf is replaced. `exported` and `installed`: how far an identity got on
    its way to a device; their `detail` begins with the serial number in hexadecimal. `pinned` and `unpinned`: whether
    a host, as `deploy:HOST`, stays at the release whose digest is the `detail`. `ledger-accepted`: that events which
    were seen once are lost, with the hash of each. `clock-confirmed`: the clock was right although it was far
    from the last event; `detail` names both. `restored`: the `project` was restored from a backup. `root-accepted`: a host
    (`deploy:NAME`) may get a new root; `detail` is its SHA-256. `roots-permitted`: a host was bootstrapped; `detail` is the SHA-256
    of each root that it accepts, `none`, or `any`.
    """

    artifact: ArtifactId
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
class IssuanceRecords:
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
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the ledger learnt from a CRL of our own: serial numbers, and whether the CRL `is_newer` than all it knew."""

    generation: GenerationName
    number: int
    serials: tuple[int, ...]
    is_newer: bool


class Ledger(Protocol):
    """Every certificate issued and revoked, every CRL number, every decision. See `ledger/` for what each call promises."""

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None: ...

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None: ...

    def record_revocations(
        self, going: Sequence[Issued], *, reason: str, at: datetime, withhold: Mapping[str, str]
    ) -> None: ...

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, der: bytes = b""
    ) -> None:
        """`der` is the CRL in that form, where it is known: to encode a large one takes as long as to sign it."""
        ...

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None: ...

    def decisions(self, *, artifact: str | None = None) -> list[Decision]: ...

    def take_in(self, issuance_records: IssuanceRecords, *, at: datetime) -> None: ...

    def record_recovered(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered: ...

    def record_entries(
        self, entries: Collection[CrlEntry], *, issuer: str, until: datetime, source: str, at: datetime
    ) -> tuple[int, ...]: ...

    def certificates(
        self,
        *,
        artifact: str | None = None,
        serial: int | None = None,
        since: datetime | None = None,
        issuer: str | None = None,
    ) -> list[Issued]: ...

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None: ...

    def record_known(
        self, found: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime
    ) -> None: ...

    def begin_again(self) -> None: ...

    def head(self) -> Head: ...

    def note(self) -> None: ...

    def lacks(self, seen: Sequence[Head]) -> list[Head]: ...

    def has_recorded(self, issuer: str, der: bytes) -> bool: ...

    def has_issuance_records(self, issuer: str) -> bool: ...

    def revoked_serials(self, since: datetime, *, issuer: str = "") -> frozenset[int]: ...

    def ended_serials(self, before: datetime) -> frozenset[int]: ...

    def revoked(
        self, issuer: str, still_valid_at: datetime, *, only: Collection[int] | None = None
    ) -> list[CrlEntry]: ...

    def last_crl(self, issuer: str, *, begun: datetime | None = None) -> tuple[int, datetime] | None: ...

    def has_crl(self, issuer: str, number: int) -> bool: ...

    def events(self, last: int | None = None) -> list[Event]: ...

    def newest(self) -> Event | None: ...

    def counts(self) -> tuple[int, int]: ...

    def verify(self) -> list[str]: ...

    def close(self) -> None: ...
