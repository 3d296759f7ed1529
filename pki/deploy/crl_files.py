"""CRLs as files hold them, read once for all hosts, and whether one would take back what another one says."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from cryptography import x509

from pki.common import pem

SHOWN = 4  # serial numbers in a sentence
TOLERANCE = timedelta(minutes=5)  # between two clocks that are both right
HasEnded = Callable[[int], bool]


@dataclass(frozen=True)
class ParsedCrl:
    """One CRL, taken apart as far as it was asked."""

    der: bytes
    crl: x509.CertificateRevocationList

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    @cached_property
    def issuer(self) -> bytes:
        return self.crl.issuer.public_bytes()

    @cached_property
    def number(self) -> int:
        try:
            return int(self.crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        except x509.ExtensionNotFound:
            return 0

    @cached_property
    def serials(self) -> frozenset[int]:
        return frozenset(entry.serial_number for entry in self.crl)

    def describe(self, path: str) -> str:
        """What messages call it."""
        return f"the CRL of {self.crl.issuer.rfc4514_string()} in {path}"


def parse_crls(content: bytes) -> tuple[ParsedCrl, ...]:
    """The CRLs of a file: PEM, one or several, or DER; none when it holds something else."""
    try:
        found = [a2b_base64(section.body) for section in pem.sections(content, "X509 CRL")]
        return tuple(map(_parse_crl, found or [content]))
    except (ValueError, x509.InvalidVersion):
        return ()


@lru_cache(maxsize=6)  # many hosts get the same, in one form or the other; a hundred thousand entries take their time
def _parse_crl(der: bytes) -> ParsedCrl:
    listed = ParsedCrl(der, x509.load_der_x509_crl(der))
    _ = listed.issuer  # is read late, and may be damaged
    return listed


def regression_faults(new: ParsedCrl, old: ParsedCrl, has_ended: HasEnded, now: datetime) -> Iterator[str]:
    """Return why a CRL must not replace another one of its issuer: it is older, or lacks a revocation.

    No server can use a CRL whose thisUpdate is in the future: a clock that was ahead signed or published it. An older
    CRL may replace it if it lists all of its entries. Of the others, servers believe the newest thisUpdate and ignore
    the number.
    """
    since, before = new.crl.last_update_utc, old.crl.last_update_utc
    is_from_the_future = before > now + TOLERANCE
    if new.number < old.number and not is_from_the_future:
        yield f"has number {new.number}, the host has {old.number}: revocation never goes back"
    if since < before <= now:
        yield f"begins at {since:%Y-%m-%d %H:%M:%S}, that on the host at {before:%Y-%m-%d %H:%M:%S}"
    # An entry may leave one CRL after its certificate ended: https://www.rfc-editor.org/rfc/rfc5280#section-3.3
    if lost := [serial for serial in old.serials - new.serials if not has_ended(serial)]:
        yield f"lacks the revoked {format_serials(lost)}, which number {old.number} on the host lists"


def format_serials(serials: Iterable[int]) -> str:
    """Serial numbers in hexadecimal, as many of them as can be taken in at a glance."""
    found = [f"{serial:x}" for serial in sorted(serials)]
    return ", ".join(found if len(found) <= SHOWN else [*found[:SHOWN], f"and {len(found) - SHOWN} more"])
