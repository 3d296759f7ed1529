"""Request and response: what crosses the air gap, as strict YAML that a person can read, one file with one digest.

Every date is absolute and every value is said, so that what will be made can be reviewed before the day. A document is
taken only in the very form in which it was written: not a byte in it is without meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, TypeVar

from cryptography import x509
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError

from pki.common import yaml_text
from pki.common.errors import PkiError
from pki.config.error_messages import dotted_path, message_of, place_of
from pki.config.fields import AuthorityKeyKind, Domain, Organisation, PublishUrl
from pki.config.identifiers import GenerationName
from pki.config.model import StrictModel
from pki.x509.revocation import REASONS, CrlEntry

INSTANT = "%Y-%m-%dT%H:%M:%SZ"
GENERATION = r"(root|server|client)-[1-9][0-9]{0,3}"
ROOT = r"root-[1-9][0-9]{0,3}"
DIGEST = r"[0-9a-f]{64}"
NOTHING = "none"
SLACK = timedelta(hours=1)  # between the clocks of two machines
YEARS = range(2000, 2200)  # X.509 begins in 1950, and sums of dates must stay within what a calendar knows
SERIAL_BITS = 159  # RFC 5280, 4.1.2.2: 20 octets, and the first bit is the sign
DEEPEST = 8  # levels: the CRLs of each series have six
LARGEST = 1 << 20  # bytes of a bundle: ten times what a ceremony with everything in it takes

HEADER = {
    "request": "# What this asks a root ceremony to do. Its SHA-256 is confirmed there: do not change a byte.\n",
    "response": "# What a root ceremony made. Its SHA-256 is confirmed on acceptance: do not change a byte.\n",
}


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        at = datetime.strptime(value, INSTANT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("expected a date and time such as 2026-11-23T06:00:00Z") from None
    if at.year not in YEARS:
        raise ValueError(f"expected a year from {YEARS[0]} to {YEARS[-1]}")
    return at


def _serial(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        serial = int(value, 16)
    except ValueError:
        raise ValueError("expected a serial number in hexadecimal") from None
    if serial <= 0 or serial.bit_length() > SERIAL_BITS:
        raise ValueError(f"expected a serial number of 1 to {SERIAL_BITS} bits")
    return serial


def _reason(value: str) -> str:
    if value not in REASONS:
        raise ValueError(f"expected one of {', '.join(REASONS)}")
    return value


def _printable(value: str) -> str:
    if not value or not value.isprintable() or len(value) > 200:
        raise ValueError("expected 1 to 200 printable characters")
    return value


Instant = Annotated[datetime, BeforeValidator(_instant), PlainSerializer(lambda at: at.strftime(INSTANT))]
Serial = Annotated[int, BeforeValidator(_serial), PlainSerializer(lambda serial: f"{serial:x}")]
Digest = Annotated[str, Field(pattern=rf"^{DIGEST}$")]
Generation = Annotated[str, Field(pattern=rf"^{GENERATION}$")]
RootName = Annotated[str, Field(pattern=rf"^{ROOT}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63), PlainSerializer(str)]
Number = Annotated[int, Field(ge=1, le=9999), PlainSerializer(str)]  # of a ceremony: four digits name its folder
Line = Annotated[str, AfterValidator(_printable)]
Network = Annotated[IPv4Network, PlainSerializer(str)]


class LedgerHead(StrictModel):
    """Where the ledger stood when the request was prepared."""

    events: Count
    head: Digest


class Revocation(StrictModel):
    """A certificate of a root that its CRLs must list."""

    generation: Generation
    serial: Serial
    reason: Annotated[str, AfterValidator(_reason)]
    at: Instant

    @property
    def entry(self) -> CrlEntry:
        return CrlEntry(self.serial, self.at, self.reason)


class AskedRoot(StrictModel):
    """A root to be made."""

    name: RootName
    common_name: Line
    key: AuthorityKeyKind
    not_before: Instant
    not_after: Instant


class AskedIntermediate(StrictModel):
    """An intermediate to be signed; of its request, only the public key is taken."""

    name: Annotated[str, Field(pattern=r"^(server|client)-[1-9][0-9]{0,3}$")]
    issuer: RootName
    common_name: Line
    not_before: Instant
    not_after: Instant
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]
    addresses: tuple[Network, ...]
    request: str

    @property
    def authority(self) -> str:
        return GenerationName.parse(self.name).authority


class AskedCross(StrictModel):
    """A new root's key, certified by the old root, for those who trust only the old one."""

    name: RootName
    issuer: RootName
    not_before: Instant
    not_after: Instant


class RequestedCrl(StrictModel):
    """One pre-signed root CRL."""

    number: Count
    this_update: Instant
    next_update: Instant


class RequestedSeries(StrictModel):
    """All root CRLs from now on, with everything that they must list; they replace every earlier one."""

    root: RootName
    revoked: tuple[Revocation, ...]
    presigned_crls: Annotated[tuple[RequestedCrl, ...], Field(min_length=1)]


class Request(StrictModel):
    """What the online side asks for: one ceremony."""

    format: Literal["doit-pki ceremony request 1"]
    number: Number
    prepared: Instant
    organisation: Organisation
    publish: PublishUrl
    sandbox: bool
    because: tuple[Line, ...]
    previous: Annotated[str, Field(pattern=rf"^({DIGEST}|{NOTHING})$")]  # the response that was accepted last
    ledger: LedgerHead
    pinned: dict[RootName, Digest]  # roots that exist, by the SHA-256 of their certificates
    roots: tuple[AskedRoot, ...]
    intermediates: tuple[AskedIntermediate, ...]
    cross_certificates: tuple[AskedCross, ...]
    crl_series: tuple[RequestedSeries, ...]
    destroy: tuple[RootName, ...]

    @property
    def root_names(self) -> tuple[str, ...]:
        """Every root whose key this needs, made before the day or on it."""
        signing = [asked.issuer for asked in self.intermediates] + [asked.issuer for asked in self.cross_certificates]
        return tuple(dict.fromkeys([*signing, *(series.root for series in self.crl_series)]))


class SignedCertificate(StrictModel):
    """A certificate that was made; a cross-certificate has another root's name as its issuer."""

    name: Generation
    issuer: RootName
    pem: str

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem.encode())


class SignedCrl(StrictModel):
    """A root CRL that was made, in a file of its own beside the response: it may have to be destroyed one day."""

    root: RootName
    number: Count
    file: Annotated[str, Field(pattern=r"^root-[0-9]+-crl-[0-9]+\.pem$")]
    sha256: Digest


class Response(StrictModel):
    """What a ceremony made; it answers exactly one request."""

    format: Literal["doit-pki ceremony response 1"]
    number: Number
    request: Digest
    signed: Instant
    transcript: Digest  # the head of the transcript before this response was written
    certificates: tuple[SignedCertificate, ...]
    presigned_crls: tuple[SignedCrl, ...]
    destroyed: tuple[RootName, ...]

    def find(self, name: str, issuer: str) -> SignedCertificate | None:
        return next((one for one in self.certificates if (one.name, one.issuer) == (name, issuer)), None)


Document = TypeVar("Document", Request, Response)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def dump(document: Request | Response) -> bytes:
    """The one form in which a document is written."""
    tree = document.model_dump(mode="json", by_alias=True)
    return (HEADER[_kind(type(document))] + yaml_text.dump(_as_text(tree))).encode()


def load(data: bytes, name: str, kind: type[Document]) -> Document:
    """Read a document; `name` is what messages call the file. Raises PkiError with every fault in it."""
    what = f"a ceremony {_kind(kind)}"
    if len(data) > LARGEST:
        raise PkiError(f"{name}: is too large to be {what}", "copy it again from where it was written")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise PkiError(f"{name}: is not {what}: not text", "copy it again from where it was written") from None
    try:
        found = kind.model_validate(_tree(text, name, what))
    except ValidationError as error:
        raise PkiError("\n".join(_faults(error, text, name, kind)), "copy it again from where it was written") from None
    except PkiError as error:
        raise PkiError(error.message, f"this is not {what}, or it was damaged: copy it again") from None
    if dump(found) != data:
        raise PkiError(
            f"{name}: is not as it was written: somebody changed its form", "copy it again from where it was written"
        )
    return found


def _tree(text: str, name: str, what: str) -> Any:
    """A document before its fields are looked at. What is none may be a file of passphrases: nothing of it is said."""
    tree = yaml_text.load(text, name, DEEPEST)
    if not isinstance(tree, dict) or "format" not in tree:
        raise PkiError(f"{name}: is not {what}")
    return tree


def _faults(error: ValidationError, text: str, name: str, kind: type[StrictModel]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        where = place_of(detail)
        yield f"{name}:{yaml_text.line_of(text, where)}: {dotted_path(where)}{message_of(detail, kind)}"


def _kind(kind: type[StrictModel]) -> Literal["request", "response"]:
    return "request" if kind is Request else "response"


def _as_text(value: Any) -> Any:
    """Scalars as text, because that is how documents are read."""
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
