"""CRL files, parsed once for all hosts, and the comparison that refuses a CRL which would undo a revocation."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from cryptography import x509

from pki.common import pem
from pki.x509.revocation import crl_number

MAX_SHOWN_SERIALS = 4  # serial numbers that a message names
TOLERANCE = timedelta(minutes=5)  # between two correct clocks
HasExpired = Callable[[int], bool]


@dataclass(frozen=True)
class ParsedCrl:
    """One CRL; its parts are parsed on first use."""

    der: bytes
    crl: x509.CertificateRevocationList

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the DER."""
        return hashlib.sha256(self.der).digest()

    @cached_property
    def issuer(self) -> bytes:
        """The issuer's name (DER)."""
        return self.crl.issuer.public_bytes()

    @cached_property
    def number(self) -> int:
        """The CRL number (RFC 5280 §5.2.3), 0 if there is none."""
        return crl_number(self.crl)

    @cached_property
    def serials(self) -> frozenset[int]:
        """The serial numbers of all entries."""
        return frozenset(entry.serial_number for entry in self.crl)

    def describe(self, path: str) -> str:
        """Return the name of this CRL for messages."""
        return f"the CRL of {self.crl.issuer.rfc4514_string()} in {path}"


def parse_crls(content: bytes) -> tuple[ParsedCrl, ...]:
    """Return the CRLs of a file: one or several in PEM, or one in DER; empty if it contains something else."""
    try:
        ders = [a2b_base64(section.body) for section in pem.sections(content, "X509 CRL")]
        return tuple(map(_parse_crl, ders or [content]))
    except (ValueError, x509.InvalidVersion):
        return ()


@lru_cache(maxsize=6)  # many hosts get the same CRL, and one with 100 000 entries is slow to parse
def _parse_crl(der: bytes) -> ParsedCrl:
    parsed = ParsedCrl(der, x509.load_der_x509_crl(der))
    _ = parsed.issuer  # cryptography parses it on first use, and it may be damaged
    return parsed


def regression_faults(new: ParsedCrl, old: ParsedCrl, has_expired: HasExpired, now: datetime) -> Iterator[str]:
    """Yield why a CRL must not replace an installed CRL of the same issuer: it is older, or lacks a revocation.

    There is one exception. Servers reject a CRL whose thisUpdate is in the future (it was signed or published while the
    clock was ahead). An older CRL may replace such a CRL if it lists all of its entries. Among other CRLs, servers use
    the one with the newest thisUpdate and ignore the number.
    """
    this_update, old_this_update = new.crl.last_update_utc, old.crl.last_update_utc
    is_from_the_future = old_this_update > now + TOLERANCE
    if new.number < old.number and not is_from_the_future:
        yield f"has number {new.number}, the host has {old.number}: revocation never goes back"
    if this_update < old_this_update <= now:
        yield f"has thisUpdate {this_update:%Y-%m-%d %H:%M:%S}, the one on the host {old_this_update:%Y-%m-%d %H:%M:%S}"
    # RFC 5280 §3.3: an entry may leave the CRL once it was on one issued after its certificate expired.
    missing_serials = [serial for serial in old.serials - new.serials if not has_expired(serial)]
    if missing_serials:
        yield f"lacks the revoked {format_serials(missing_serials)}, which number {old.number} on the host lists"


def format_serials(serials: Iterable[int]) -> str:
    """Return serial numbers in hexadecimal, the first few by name and the others counted."""
    texts = [f"{serial:x}" for serial in sorted(serials)]
    if len(texts) > MAX_SHOWN_SERIALS:
        texts[MAX_SHOWN_SERIALS:] = [f"and {len(texts) - MAX_SHOWN_SERIALS} more"]
    return ", ".join(texts)
