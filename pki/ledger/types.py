"""The values in the ledger, and its interface for the other packages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from cryptography import x509

from pki.common.errors import LedgerError
from pki.common.remedies import in_project
from pki.config.identifiers import ArtifactId, GenerationName
from pki.x509.certificate_names import common_name
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
    "taken-over",
    ACCEPTED,
)

# Kinds of LedgerFault: reasons why nothing may be signed or recorded. The remedies and texts follow below.
MISSING, EMPTY, FOREIGN, OLDER = "missing", "empty", "foreign", "older"
UNKNOWN_AUTHORITIES, NEWEST_MISSING, UNREADABLE = "unknown-authorities", "newest-missing", "unreadable"
TRANSIENT = "passing"  # a temporary condition such as a full disk: the ledger itself may be intact

RESTORE_FILE = (  # for a ledger that is unreadable or not trustworthy
    "restore ca/ledger.db from a backup (./run invoke restore FILE --to DIR), then: ./run invoke ledger.recover --all"
)
RESTORE_DATABASE = (
    "restore the ledger's database from its newest dump, or from a backup: ./run invoke ledger.restore; "
    "if there is none: ./run invoke ledger.accept-loss"
)
CHECK_DISK = f"ls -l {in_project('ca/ledger.db')}* and df -h {in_project('ca')}, then: ./run invoke ledger.verify"
FILE_MISSING_TEXT = "ca/ledger.db: is missing, and with it the record of what was issued and revoked"
RESTORE_FILE_OR_ACCEPT_LOSS = f"{RESTORE_FILE}; if there is no backup: ./run invoke ledger.accept-loss"
EMPTY_TEXT = "is empty, but ca/ contains authorities, which a ledger must know"
RESTORE_NEWEST_FILE = "restore the newest ca/ledger.db (./run invoke restore FILE --to DIR); if it is lost: ./run invoke ledger.accept-loss"


class Head(NamedTuple):
    """The head of the ledger at one time: number and hash of the event that was the newest one then.

    `where` names the file or host that recorded the head. `revocations` is the number of revocations at that time, if it
    was recorded.
    """

    seq: int
    hash: str
    where: str = ""
    revocations: int | None = None


class RecordedCrl(NamedTuple):
    """A CRL in the ledger: its number and its thisUpdate."""

    number: int
    this_update: datetime


class LedgerCounts(NamedTuple):
    """How many certificates and how many revocations the ledger contains."""

    certificates: int
    revocations: int


class Runner(NamedTuple):
    """The machine that runs doit, "" if none did yet, and since when."""

    machine: str
    since: datetime


class Pin(NamedTuple):
    """The release at which a host is pinned, by digest ("" if unknown), and the time of pinning."""

    release: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LedgerFault:
    """The reason why nothing may be signed or recorded: kind, evidence and remedy."""

    kind: str
    evidence: str
    remedy: str

    @property
    def consequence(self) -> str:
        """Return the consequence with the evidence, for messages."""
        if self.kind in {MISSING, UNKNOWN_AUTHORITIES}:
            return self.evidence
        return f"nothing can be issued or revoked: {self.evidence}"

    @property
    def error(self) -> LedgerError:
        """Return the error to raise."""
        return LedgerError(self.evidence, self.remedy, self.kind)


@dataclass(frozen=True, slots=True)
class Issued:
    """One recorded certificate; `revoked` is the reason of its revocation, or "".

    `by` and `revoked_by` are the actors who recorded the certificate and the revocation; "" before schema 3.
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
        """Return the CN of the subject, or "" if it has none or an adopted CA wrote an unreadable subject."""
        try:
            return common_name(x509.Name.from_rfc4514_string(self.subject))
        except ValueError:
            return ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about an artifact or about the `project`; `decision` is one of DECISIONS.

    - `withheld`, `released`: the replacement of a revoked leaf is stopped, resumed.
    - `exported`, `installed`: an identity was exported, was installed on a device; `detail` begins with the serial number
      in hexadecimal.
    - `pinned`, `unpinned`: a host (`deploy:HOST`) stays at the release whose digest is `detail`.
    - `ledger-accepted`: the loss of observed events was accepted; `detail` has the hash of each.
    - `clock-confirmed`: the clock was right although it was far from the last event; `detail` has both times.
    - `taken-over`: another machine runs doit from now on; `detail` has both, each with the digest of its machine-id.
    - `restored`: the `project` was restored from a backup.
    - `root-accepted`: a host (`deploy:HOST`) may get a new root; `detail` is its SHA-256.
    - `roots-permitted`: a host was bootstrapped; `detail` is the SHA-256 of each root that it accepts, `none` or `any`.
    """

    artifact: ArtifactId
    decision: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation; its certificate may be lost."""

    serial: int
    artifact: str
    reason: str
    revoked_at: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class LastCrl:
    """The last CRL of an adopted CA; `pem` is "" if only its number is known."""

    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    reason: str
    pem: str


@dataclass(frozen=True, slots=True)
class IssuanceRecords:
    """What an adopted CA issued and revoked before its adoption, without what the ledger already contains."""

    issuer: str
    certificates: tuple[Issued, ...]
    revocations: tuple[Revocation, ...]
    last_crl: LastCrl | None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the hash chain: what was recorded (`kind`, `subject`), when, and by whom."""

    seq: int
    at: datetime
    kind: str
    subject: str
    hash: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class RecoveredRevocations:
    """The result of a recovery from a CRL: the added serial numbers; `is_newer` if its number is the highest one."""

    generation: GenerationName
    number: int
    serials: tuple[int, ...]
    is_newer: bool


class Recorder(Protocol):
    """Records what is issued, revoked and decided; `recorder.SqlRecorder` documents each method."""

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None: ...

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None: ...

    def record_revocations(
        self,
        revoked: Sequence[Issued],
        *,
        reason: str,
        at: datetime,
        stop_replacement: Mapping[str, str] = MappingProxyType({}),
    ) -> None: ...

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, der: bytes = b""
    ) -> None:
        """Record a CRL; `der` is its encoding if it is available: encoding a large CRL takes as long as signing it."""
        ...

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None: ...

    def record_adopted_ca(self, issuance_records: IssuanceRecords, *, at: datetime) -> None: ...


class CertificateQueries(Protocol):
    """Reads certificates, revocations and decisions; `certificate_queries.SqlCertificateQueries` documents each method."""

    def certificates(
        self,
        *,
        artifact: str | None = None,
        serial: int | None = None,
        expiring_after: datetime | None = None,
        issuer: str | None = None,
    ) -> list[Issued]: ...

    def revoked_serials(self, *, expiring_after: datetime, issuer: str = "") -> frozenset[int]: ...

    def expired_serials(self, *, expired_before: datetime) -> frozenset[int]: ...

    def decisions(self, *, artifact: str | None = None) -> list[Decision]: ...

    def counts(self) -> LedgerCounts: ...


class CrlQueries(Protocol):
    """Reads recorded CRLs and the entries of the next ones; `crl_queries.SqlCrlQueries` documents each method."""

    def revoked_entries(
        self, issuer: str, *, expiring_after: datetime, only: Collection[int] | None = None
    ) -> list[CrlEntry]: ...

    def revocations(self, issuer: str) -> list[Revocation]: ...

    def last_crl(self, issuer: str, *, this_update_until: datetime | None = None) -> RecordedCrl | None: ...

    def has_crl(self, issuer: str, number: int) -> bool: ...

    def has_recorded(self, issuer: str, der: bytes) -> bool: ...

    def has_issuance_records(self, issuer: str) -> bool: ...


class EventLog(Protocol):
    """Reads the events and verifies their hash chain; `event_log.SqlEventLog` documents each method."""

    def events(self, last: int | None = None) -> list[Event]: ...

    def newest_event(self) -> Event | None: ...

    def head(self) -> Head: ...

    def missing_heads(self, observed: Sequence[Head]) -> list[Head]: ...

    def verify(self) -> list[str]: ...


class Recovery(Protocol):
    """Records again what a ledger lost; `recovery.SqlRecovery` documents each method."""

    def create_empty(self) -> None: ...

    def record_authorities(
        self, authorities: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime
    ) -> None: ...

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, default_expiry: datetime, source: str, at: datetime
    ) -> RecoveredRevocations: ...

    def record_older_revocations(
        self, revoked: Collection[Revocation], *, issuer: str, source: str, at: datetime
    ) -> tuple[int, ...]: ...

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None: ...


class Ledger(Recorder, CertificateQueries, CrlQueries, EventLog, Protocol):
    """The ledger of a project (`ledger.SqlLedger`). A function takes the part that it needs."""

    @property
    def recovery(self) -> Recovery: ...

    def runner(self) -> Runner: ...

    def set_runner(self, machine: str, at: datetime) -> None: ...

    def copy_to(self, folder: Path) -> None: ...

    def load_from(self, folder: Path) -> None: ...

    def write_head(self) -> None: ...

    def close(self) -> None: ...
