"""Certificates, revocations and CRLs as rows, and back. Instants are whole seconds since 1970, UTC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.types import IssuanceRecords, Issued
from pki.x509.keys import key_fingerprint
from pki.x509.pem_encoding import pem_of
from pki.x509.revocation import IMPORTED_REASONS

Row = dict[str, Any]


def certificate_row(cert: x509.Certificate, issuer: str, artifact: str, profile: str, reason: str) -> Row:
    return {
        "serial": as_hex(cert.serial_number),
        "issuer": issuer,
        "artifact": artifact,
        "profile": profile,
        "subject": cert.subject.rfc4514_string(),
        "names": json.dumps(_names(cert)),
        "key_sha256": key_fingerprint(cert.public_key()),
        "not_before": int(cert.not_valid_before_utc.timestamp()),
        "not_after": int(cert.not_valid_after_utc.timestamp()),
        "reason": reason,
        "pem": pem_of([cert]).decode(),
    }


def crl_row(
    crl: x509.CertificateRevocationList, issuer: str, reason: str, before: Collection[int], der: bytes = b""
) -> Row:
    """`before` are the serial numbers on the CRL that was recorded before this one."""
    next_update = crl.next_update_utc
    assert next_update is not None
    return {
        "issuer": issuer,
        "number": crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "this_update": int(crl.last_update_utc.timestamp()),
        "next_update": int(next_update.timestamp()),
        "entries": len(crl),
        "reason": reason,
        **content_of(crl, before, der),
    }


def content_of(crl: x509.CertificateRevocationList | None, before: Collection[int], der: bytes = b"") -> Row:
    """What a row says of a CRL's content: its digest and how its entries differ from those `before`, not its text.

    Nothing of that where the CRL itself is not known, as of an adopted CA that left only a number.
    """
    if crl is None:
        return {"pem": "", "sha256": "", "added": "", "removed": ""}
    listed, known = {entry.serial_number for entry in crl}, set(before)
    digest = hashlib.sha256(der or crl.public_bytes(Encoding.DER)).hexdigest()
    return {"pem": "", "sha256": digest, "added": joined(listed - known), "removed": joined(known - listed)}


def joined(serials: Iterable[int]) -> str:
    return " ".join(f"{serial:x}" for serial in sorted(serials))


def parted(text: str | None) -> set[int]:
    """The reverse of `joined`."""
    return {int(serial, 16) for serial in (text or "").split()}


def rows_of(issuance_records: IssuanceRecords, listed: Collection[int]) -> Iterator[tuple[str, str, Row]]:
    """Kind, subject and row of everything in an adopted CA's books, in the order in which it is recorded.

    `listed` are the serial numbers on the CRL of that CA that was recorded last.
    """
    for issued in issuance_records.certificates:
        row = {
            "serial": as_hex(issued.serial),
            "issuer": issuance_records.issuer,
            "artifact": issued.artifact,
            "profile": issued.profile,
            "subject": issued.subject,
            "names": json.dumps(list(issued.names)),
            "key_sha256": _key_of(issued.pem),
            "not_before": int(issued.not_before.timestamp()),
            "not_after": int(issued.not_after.timestamp()),
            "reason": issued.reason,
            "pem": issued.pem,
        }
        yield "certificate", issued.artifact, row
    for one in issuance_records.revocations:
        row = {
            "serial": as_hex(one.serial),
            "issuer": issuance_records.issuer,
            "reason": one.reason,
            "revoked_at": int(one.revoked_at.timestamp()),
            "not_after": int(one.not_after.timestamp()),
        }
        yield "revocation", one.artifact, row
    if last := issuance_records.last_crl:
        row = {
            "issuer": issuance_records.issuer,
            "number": last.number,
            "this_update": int(last.this_update.timestamp()),
            "next_update": int(last.next_update.timestamp()),
            "entries": last.entries,
            "reason": last.reason,
            **content_of(x509.load_pem_x509_crl(last.pem.encode()) if last.pem else None, listed),
        }
        yield "crl", ArtifactId("crl", issuance_records.issuer), row


def _key_of(pem: str) -> str:
    """The fingerprint of a certificate's key; empty where there is no certificate, or its key is of no known kind."""
    try:
        return key_fingerprint(x509.load_pem_x509_certificate(pem.encode()).public_key())
    except (ValueError, UnsupportedAlgorithm):
        return ""


def reason_of(entry: x509.RevokedCertificate) -> str:
    """Why a certificate is on a CRL, as far as it is a reason that the ledger knows."""
    try:
        reason = str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"
    return reason if reason in IMPORTED_REASONS else "unspecified"


def number_of(crl: x509.CertificateRevocationList) -> int:
    """0 for a CRL of an adopted CA that counted none."""
    try:
        return int(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    except x509.ExtensionNotFound:
        return 0


def issued_of(row: Mapping[str, Any]) -> Issued:
    return Issued(
        serial=int(row["serial"], 16),
        issuer=GenerationName.parse(text_of(row["issuer"])),
        artifact=ArtifactId.parse(text_of(row["artifact"])),
        profile=text_of(row["profile"]),
        subject=text_of(row["subject"]),
        names=tuple(map(text_of, json.loads(row["names"]))),
        not_before=instant(row["not_before"]),
        not_after=instant(row["not_after"]),
        reason=text_of(row["reason"]),
        revoked=text_of(row["revoked"] or ""),
        pem=text_of(row["pem"]),
        by=text_of(row["actor"] or ""),
        revoked_by=text_of(row["revoker"] or ""),
    )


def _names(cert: x509.Certificate) -> list[str]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def as_hex(serial: int) -> str:
    return f"{serial:040x}"


def instant(seconds: int) -> datetime:
    """Raises ValueError where that is no time of ours: SQLite keeps any value in any column."""
    try:
        return datetime.fromtimestamp(integer_of(seconds), UTC)
    except (OverflowError, OSError):
        raise ValueError(f"{seconds} is not a time") from None


def text_of(value: Any) -> str:
    """A column's text. Raises ValueError where it is something else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004 - a value, not a type of ours
    return value


def integer_of(value: Any) -> int:
    """A column's number. Raises ValueError where it is something else."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - a value, not a type of ours
    return value
