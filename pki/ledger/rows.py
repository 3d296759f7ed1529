"""Convert certificates, revocations and CRLs to rows, and rows to values. Times are whole seconds since 1970, UTC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.tables import certificates, crls, revocations
from pki.ledger.types import IssuanceRecords, Issued, LastCrl, Revocation
from pki.x509.certificate_names import alternative_names
from pki.x509.keys import key_fingerprint
from pki.x509.pem_encoding import pem_of
from pki.x509.revocation import crl_number

Row = dict[str, Any]
Record = tuple[str, str, Row]  # kind of the event, its subject, and the row


def certificate_row(certificate: x509.Certificate, issuer: str, artifact: str, profile: str, reason: str) -> Row:
    """Return the row of a certificate."""
    return {
        "serial": as_hex(certificate.serial_number),
        "issuer": issuer,
        "artifact": artifact,
        "profile": profile,
        "subject": certificate.subject.rfc4514_string(),
        "names": json.dumps(alternative_names(certificate)),
        "key_sha256": key_fingerprint(certificate.public_key()),
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "reason": reason,
        "pem": pem_of([certificate]).decode(),
    }


def crl_row(
    crl: x509.CertificateRevocationList, issuer: str, reason: str, previous_serials: Collection[int], der: bytes = b""
) -> Row:
    """Return the row of a CRL.

    `previous_serials` are the serial numbers on the CRL that was recorded before. `der` is the encoded CRL if it is
    available.
    """
    next_update = crl.next_update_utc
    assert next_update is not None
    record = LastCrl(crl_number(crl), crl.last_update_utc, next_update, len(crl), reason, "")
    return _row(crls, record, issuer=issuer, **crl_content(crl, previous_serials, der))


def crl_content(crl: x509.CertificateRevocationList | None, previous_serials: Collection[int], der: bytes = b"") -> Row:
    """Return the columns for the content of a CRL: its digest, and how its serial numbers differ from the previous ones.

    The columns are empty without a CRL: an adopted CA may have only a CRL number.
    """
    if crl is None:
        return {"pem": "", "sha256": "", "added": "", "removed": ""}
    listed_serials, previous = {entry.serial_number for entry in crl}, set(previous_serials)
    digest = hashlib.sha256(der or crl.public_bytes(Encoding.DER)).hexdigest()
    return {
        "pem": "",
        "sha256": digest,
        "added": format_serials(listed_serials - previous),
        "removed": format_serials(previous - listed_serials),
    }


def format_serials(serials: Iterable[int]) -> str:
    """Return serial numbers as one text, in hexadecimal and sorted."""
    return " ".join(f"{serial:x}" for serial in sorted(serials))


def parse_serials(text: str | None) -> set[int]:
    """Parse the text of `format_serials`; None gives an empty set. Raises ValueError."""
    return {int(serial, 16) for serial in (text or "").split()}


def issuance_rows(issuance_records: IssuanceRecords, listed: Collection[int]) -> Iterator[Record]:
    """Yield kind, subject and row of all issuance records of an adopted CA, in the order of recording.

    `listed` are the serial numbers on the last recorded CRL of that CA.
    """
    issuer = issuance_records.issuer
    for certificate in issuance_records.certificates:
        columns = {"names": json.dumps(list(certificate.names)), "key_sha256": _key_fingerprint(certificate.pem)}
        row = _row(certificates, certificate, serial=as_hex(certificate.serial), issuer=issuer, **columns)
        yield "certificate", certificate.artifact, row
    for revocation in issuance_records.revocations:
        yield "revocation", revocation.artifact, revocation_row(revocation, issuer)
    if last_crl := issuance_records.last_crl:
        crl = x509.load_pem_x509_crl(last_crl.pem.encode()) if last_crl.pem else None
        row = _row(crls, last_crl, issuer=issuer, **crl_content(crl, listed))
        yield "crl", ArtifactId("crl", issuer), row


def revocation_row(revoked: Revocation, issuer: str) -> Row:
    """Return the row of a revocation."""
    return _row(revocations, revoked, serial=as_hex(revoked.serial), issuer=issuer)


def decision_row(artifact: str, decision: str, detail: str, at: datetime) -> Row:
    """Return the row of a decision."""
    return {"artifact": artifact, "decision": decision, "detail": detail, "at": int(at.timestamp())}


def _row(table: sql.Table, record: Issued | Revocation | LastCrl, **columns: str) -> Row:
    """Return the fields of a record that are columns of its table, times in seconds.

    `columns` are the values of those columns that have another form in the table than in the record.
    """
    names = [column.name for column in table.c if column.name != "seq"]
    values = {name: columns.get(name, getattr(record, name, None)) for name in names}
    return {name: int(value.timestamp()) if isinstance(value, datetime) else value for name, value in values.items()}


def _key_fingerprint(pem: str) -> str:
    """Return the fingerprint of a certificate's key, or "" without a certificate or for an unsupported key."""
    try:
        return key_fingerprint(x509.load_pem_x509_certificate(pem.encode()).public_key())
    except (ValueError, UnsupportedAlgorithm):
        return ""


def issued_from_row(row: Mapping[str, Any]) -> Issued:
    """Return the certificate in a row. Raises ValueError for a value that was never recorded."""
    return Issued(
        serial=int(row["serial"], 16),
        issuer=GenerationName.parse(checked_text(row["issuer"])),
        artifact=ArtifactId.parse(checked_text(row["artifact"])),
        profile=checked_text(row["profile"]),
        subject=checked_text(row["subject"]),
        names=tuple(map(checked_text, json.loads(row["names"]))),
        not_before=instant(row["not_before"]),
        not_after=instant(row["not_after"]),
        reason=checked_text(row["reason"]),
        revoked=checked_text(row["revoked"] or ""),
        pem=checked_text(row["pem"]),
        by=checked_text(row["actor"] or ""),
        revoked_by=checked_text(row["revoker"] or ""),
    )


def as_hex(serial: int) -> str:
    """Return a serial number as 40 hexadecimal digits (RFC 5280 §4.1.2.2: at most 20 octets)."""
    return f"{serial:040x}"


def instant(seconds: int) -> datetime:
    """Return the UTC time of seconds since 1970. Raises ValueError for another value: SQLite stores any type anywhere."""
    try:
        return datetime.fromtimestamp(checked_integer(seconds), UTC)
    except (OverflowError, OSError):
        raise ValueError(f"{seconds} is not a time") from None


def checked_text(value: Any) -> str:
    """Return the text of a column. Raises ValueError if it is not a text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004 - the value is wrong, not the type of an argument
    return value


def checked_integer(value: Any) -> int:
    """Return the number of a column. Raises ValueError if it is not a number."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - the value is wrong, not the type of an argument
    return value
