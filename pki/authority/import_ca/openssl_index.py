"""The `index.txt` of `openssl ca` and easy-rsa: one line for each certificate, six fields between tabs.

The fields are: state (V, R, E), expiry, revocation (`date[,reason[,more]]`), serial number, file name, subject.
https://docs.openssl.org/3.0/man1/openssl-ca/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pki.common.errors import PkiError

FIELDS = 6
TAB = re.compile(r"(?<!\\)\t")  # a tab within a field is escaped by a backslash
DATE = re.compile(r"(\d{12}|\d{14})Z")
ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")
COMMON_NAME = re.compile(r"/CN=(.*?)(?=/[A-Za-z][A-Za-z0-9.]*=|\Z)", re.DOTALL)

# the words of OpenSSL in lower case, and the reason (RFC 5280 §5.3.1) that its CRLs then contain
REASONS = {
    "unspecified": "unspecified",
    "keycompromise": "keyCompromise",
    "cacompromise": "cACompromise",
    "affiliationchanged": "affiliationChanged",
    "superseded": "superseded",
    "cessationofoperation": "cessationOfOperation",
    "certificatehold": "certificateHold",
    "privilegewithdrawn": "privilegeWithdrawn",
    "aacompromise": "aACompromise",
    "holdinstruction": "certificateHold",
    "keytime": "keyCompromise",
    "cakeytime": "cACompromise",
}


class ImportedRevocation(NamedTuple):
    """Time and reason of a revocation, from index.txt or from a CRL."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One line of index.txt: a certificate, and its revocation if it is revoked."""

    line: int
    serial: int
    not_after: datetime
    subject: str
    revocation: ImportedRevocation | None

    @property
    def common_name(self) -> str:
        """Return the last CN of the subject; "" without one."""
        names = COMMON_NAME.findall(self.subject)
        return names[-1] if names else ""


def parse(data: bytes, name: str) -> tuple[list[IndexRow], list[str]]:
    """Return the rows of an index, and a fault (`FILE:LINE: text`) for each line that cannot be read.

    `name` is the name of the file in messages.
    """
    rows, faults, lines_by_serial = list[IndexRow](), list[str](), dict[int, int]()
    for line, text in _lines(data):
        try:
            row = _row(line, text)
        except PkiError as error:
            faults.append(f"{name}:{line}: {error.message}")
            continue
        first = lines_by_serial.setdefault(row.serial, line)
        if first != line:
            faults.append(f"{name}:{line}: serial {row.serial:02X} is on line {first} too")
        rows.append(row)
    return rows, faults


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    for line, raw in enumerate(data.split(b"\n"), 1):
        text = raw.rstrip(b"\r")
        if text.strip() and not text.startswith(b"#"):
            yield line, text.decode(errors="replace")


def _row(line: int, text: str) -> IndexRow:
    fields = TAB.split(text)
    if len(fields) != FIELDS:
        raise PkiError(f"expected {FIELDS} fields between tabs, got {len(fields)}")
    state, expiry, revocation, serial, _, subject = fields
    if state not in {"V", "R", "E"}:
        raise PkiError(f"expected V, R or E, got {state!r}")
    if not re.fullmatch(r"[0-9A-Fa-f]+", serial):
        raise PkiError(f"expected a serial number in hexadecimal, got {serial!r}")
    if (state == "R") != bool(revocation):
        raise PkiError("is revoked without a date" if state == "R" else f"is {state} and has a revocation date")
    return IndexRow(
        line=line,
        serial=int(serial, 16),
        not_after=_date(expiry),
        subject=_readable(subject),
        revocation=_revocation(revocation) if revocation else None,
    )


def _revocation(text: str) -> ImportedRevocation:
    date, _, rest = text.partition(",")
    word = rest.partition(",")[0]
    if word.lower() == "removefromcrl":
        raise PkiError("is revoked with removeFromCRL, which undoes a revocation; write V, or another reason")
    if word and word.lower() not in REASONS:
        raise PkiError(f"{word!r} is not a revocation reason")
    return ImportedRevocation(_date(date), REASONS[word.lower()] if word else "unspecified")


def _date(text: str) -> datetime:
    """Parse UTCTime or GeneralizedTime; a two-digit year below 50 is in this century (RFC 5280 §4.1.2.5.1)."""
    match = DATE.fullmatch(text)
    digits = match[1] if match else ""
    if len(digits) == len("YYMMDDHHMMSS"):
        digits = ("20" if digits < "50" else "19") + digits
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise PkiError(f"expected a date such as 270228130208Z, got {text!r}") from None


def _readable(subject: str) -> str:
    r"""Decode the escapes of OpenSSL in a subject.

    A byte beyond printable ASCII is `\x` and two hexadecimal digits; a tab has a backslash before it.
    """
    plain = ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), subject.replace("\\\t", "\t").encode())
    return plain.decode(errors="replace")
