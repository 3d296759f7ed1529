"""Request and response: the two YAML files that cross the air gap, their models, reader and writer.

All dates are absolute and there are no defaults, so that everything that a ceremony signs can be reviewed beforehand.
The reader accepts only the exact bytes that the writer produces, so that each content has exactly one SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from cryptography import x509
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from pki.common import yaml_text
from pki.common.errors import PkiError
from pki.common.timestamps import instant, strict_moment
from pki.config.error_messages import message_of, path_prefix, place_of
from pki.config.fields import AUTHORITY_NAME, AuthorityKeyKind, Organisation, PublishUrl
from pki.config.identifiers import GenerationName
from pki.config.ip_addresses import Network
from pki.config.name_fields import Domain
from pki.config.strict_model import StrictModel
from pki.x509.revocation import REASONS, CrlEntry

GENERATION = (
    rf"{AUTHORITY_NAME}-[1-9][0-9]{{0,3}}"  # of root, root-peer, server, client, peer, or an external authority
)
ROOT = r"root(-peer)?-[1-9][0-9]{0,3}"
DIGEST = r"[0-9a-f]{64}"
NO_RESPONSE = "none"
CLOCK_TOLERANCE = timedelta(hours=1)  # difference between the clocks of two machines
YEARS = range(2000, 2200)  # X.509 dates begin in 1950 (RFC 5280 §4.1.2.5), and date arithmetic must not overflow
SERIAL_BITS = 159  # RFC 5280 §4.1.2.2: at most 20 octets, and the first bit is the sign
MAX_DEPTH = 8  # levels of nesting: the CRLs of each series have six
MAX_BYTES = 1 << 20  # bytes of a document: ten times the largest realistic one

HEADER = {
    "request": "# What this asks a root ceremony to do. Its SHA-256 is confirmed there: do not change a byte.\n",
    "response": "# What a root ceremony made. Its SHA-256 is confirmed on acceptance: do not change a byte.\n",
}


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        at = strict_moment(value)
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


def _intermediate(value: str) -> str:
    if GenerationName.parse(value).is_root:
        raise ValueError("expected the name of an intermediate such as server-2")
    return value


def _printable(value: str) -> str:
    if not value or not value.isprintable() or len(value) > 200:
        raise ValueError("expected 1 to 200 printable characters")
    return value


Instant = Annotated[datetime, BeforeValidator(_instant), PlainSerializer(instant)]
Serial = Annotated[int, BeforeValidator(_serial), PlainSerializer(lambda serial: f"{serial:x}")]
Digest = Annotated[str, Field(pattern=rf"^{DIGEST}$")]
Generation = Annotated[str, Field(pattern=rf"^{GENERATION}$")]
RootName = Annotated[str, Field(pattern=rf"^{ROOT}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63), PlainSerializer(str)]
Number = Annotated[int, Field(ge=1, le=9999), PlainSerializer(str)]  # of a ceremony: its folder has four digits
Line = Annotated[str, AfterValidator(_printable)]
PermittedNetwork = Annotated[Network, PlainSerializer(str)]


class LedgerHead(StrictModel):
    """The number of ledger events and the hash of the last one, when the request was prepared."""

    events: Count
    head: Digest


class RevokedCa(StrictModel):
    """A revoked certificate that the CRLs of its root must list."""

    generation: Generation
    serial: Serial
    reason: Annotated[str, AfterValidator(_reason)]
    at: Instant

    @property
    def entry(self) -> CrlEntry:
        """Return the CRL entry for this certificate."""
        return CrlEntry(self.serial, self.at, self.reason)


class RequestedRoot(StrictModel):
    """A root certificate to create; only that of clusters, such as root-peer-1, is limited to `domains` and `addresses`."""

    name: RootName
    common_name: Line
    key: AuthorityKeyKind
    not_before: Instant
    not_after: Instant
    domains: tuple[Domain, ...] = ()
    addresses: tuple[PermittedNetwork, ...] = ()

    @property
    def authority(self) -> str:
        """Return `root` or `root-peer`."""
        return GenerationName.parse(self.name).authority

    @model_serializer(mode="wrap")
    def _without_empty_limits(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the limits out of a root that has none: requests of earlier versions stay valid byte for byte."""
        limits = {"domains", "addresses"} if not self.domains else set[str]()
        return {key: value for key, value in serialize(self).items() if key not in limits}


class RequestedIntermediate(StrictModel):
    """An intermediate certificate to sign; only the public key of its certificate request (PEM) is used."""

    name: Annotated[Generation, AfterValidator(_intermediate)]
    issuer: RootName
    common_name: Line
    not_before: Instant
    not_after: Instant
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]
    addresses: tuple[PermittedNetwork, ...]
    request: str

    @property
    def authority(self) -> str:
        """Return `server`, `client`, `peer`, or the name of an external authority."""
        return GenerationName.parse(self.name).authority

    @property
    def is_external(self) -> bool:
        """Return whether the key is on the server of somebody else; such an intermediate certifies servers only."""
        return GenerationName.parse(self.name).is_external

    @property
    def purpose(self) -> Literal["server", "client", "peer"]:
        """Return for what the certificates of this intermediate are; `peer` is for both."""
        if self.authority == "peer":
            return "peer"
        return "client" if self.authority == "client" else "server"


class RequestedCrossCertificate(StrictModel):
    """A certificate by the old root for the key of a new root, for clients that trust only the old root."""

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
    """All pre-signed CRLs of a root from now on, with their entries; they replace every earlier one."""

    root: RootName
    revoked: tuple[RevokedCa, ...]
    presigned_crls: Annotated[tuple[RequestedCrl, ...], Field(min_length=1)]


class Request(StrictModel):
    """Everything that one ceremony is requested to do."""

    format: Literal["doit-pki ceremony request 1"]
    number: Number
    prepared: Instant
    organisation: Organisation
    publish: PublishUrl
    sandbox: bool
    because: tuple[Line, ...]
    previous: Annotated[str, Field(pattern=rf"^({DIGEST}|{NO_RESPONSE})$")]  # SHA-256 of the last accepted response
    ledger: LedgerHead
    pinned: dict[RootName, Digest]  # existing roots with the SHA-256 of their certificates
    roots: tuple[RequestedRoot, ...]
    intermediates: tuple[RequestedIntermediate, ...]
    cross_certificates: tuple[RequestedCrossCertificate, ...]
    crl_series: tuple[RequestedSeries, ...]
    destroy: tuple[RootName, ...]

    @property
    def root_names(self) -> tuple[str, ...]:
        """Return the roots that sign something, including those that this request creates."""
        issuers = [requested.issuer for requested in self.intermediates]
        issuers += [requested.issuer for requested in self.cross_certificates]
        return tuple(dict.fromkeys([*issuers, *(series.root for series in self.crl_series)]))


class SignedCertificate(StrictModel):
    """A signed certificate; the issuer of a cross-certificate is another root."""

    name: Generation
    issuer: RootName
    pem: str

    @property
    def certificate(self) -> x509.Certificate:
        """Return the parsed certificate. Raises ValueError when the PEM text is damaged."""
        return x509.load_pem_x509_certificate(self.pem.encode())


class SignedCrl(StrictModel):
    """A signed root CRL. It has a file of its own, so that the CRL can be destroyed when a later ceremony replaces it."""

    root: RootName
    number: Count
    file: Annotated[str, Field(pattern=r"^root(-peer)?-[0-9]+-crl-[0-9]+\.pem$")]
    sha256: Digest


class Response(StrictModel):
    """The result of a ceremony: the answer to exactly one request."""

    format: Literal["doit-pki ceremony response 1"]
    number: Number
    request: Digest
    signed: Instant
    transcript: Digest  # hash of the last transcript record before this response was written
    certificates: tuple[SignedCertificate, ...]
    presigned_crls: tuple[SignedCrl, ...]
    destroyed: tuple[RootName, ...]

    def find(self, name: str, issuer: str) -> SignedCertificate | None:
        """Return the certificate of `name` that `issuer` signed, or None."""
        return next(
            (
                certificate
                for certificate in self.certificates
                if (certificate.name, certificate.issuer) == (name, issuer)
            ),
            None,
        )


Document = TypeVar("Document", Request, Response)

# version 0.1.0 wrote these words; its ceremonies are records that stay valid
EARLIER_KEYS = {"ladders": "crl_series", "rungs": "presigned_crls"}


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def dump(document: Request | Response) -> bytes:
    """Return the only valid encoding of a document: UTF-8 YAML with a header comment."""
    tree = document.model_dump(mode="json", by_alias=True)
    return (HEADER[_kind(type(document))] + yaml_text.dump(_as_text(tree))).encode()


def load(data: bytes, name: str, kind: type[Document]) -> Document:
    """Parse a document; messages call the file `name`. Raises PkiError that lists every fault."""
    what = f"a ceremony {_kind(kind)}"
    if len(data) > MAX_BYTES:
        raise PkiError(f"{name}: is too large for {what}", "copy it again from where it was written")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise PkiError(f"{name}: is not {what}: not text", "copy it again from where it was written") from None
    try:
        tree = _tree(text, name, what)
        document = kind.model_validate(_in_present_words(tree))
    except ValidationError as error:
        raise PkiError("\n".join(_faults(error, text, name, kind)), "copy it again from where it was written") from None
    except PkiError as error:
        raise PkiError(error.message, f"this is not {what}, or it was damaged: copy it again") from None
    if data not in {dump(document), _dump_as_earlier(document)}:
        raise PkiError(
            f"{name}: was changed after it was written: its form differs", "copy it again from where it was written"
        )
    return document


def _tree(text: str, name: str, what: str) -> Any:
    """Return the parsed YAML.

    The error quotes nothing from the file, because the user may have named a file with passphrases by mistake.
    """
    tree = yaml_text.load(text, name, MAX_DEPTH)
    if not isinstance(tree, dict) or "format" not in tree:
        raise PkiError(f"{name}: is not {what}")
    return tree


def _in_present_words(tree: Any) -> Any:
    """Return the tree of a document with the present keys, wherever it has those of version 0.1.0."""
    if isinstance(tree, dict):
        return {EARLIER_KEYS.get(key, key): _in_present_words(value) for key, value in tree.items()}
    return [_in_present_words(value) for value in tree] if isinstance(tree, list) else tree


def _dump_as_earlier(document: Request | Response) -> bytes:
    """Return the encoding of a document by version 0.1.0."""
    text = dump(document).decode()
    for earlier, key in EARLIER_KEYS.items():
        text = re.sub(rf"^(  )?{key}:", rf"\g<1>{earlier}:", text, flags=re.MULTILINE)
    return text.encode()


def _faults(error: ValidationError, text: str, name: str, kind: type[StrictModel]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        where = place_of(detail)
        yield f"{name}:{yaml_text.line_of(text, where)}: {path_prefix(where)}{message_of(detail, kind)}"


def _kind(kind: type[StrictModel]) -> Literal["request", "response"]:
    return "request" if kind is Request else "response"


def _as_text(value: Any) -> Any:
    """Return the tree with all scalars as text, because the reader reads them as text."""
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
