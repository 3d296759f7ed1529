"""Certificates and CRLs as readable text for review."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.x509.revocation import crl_number


def certificate_text(certificate: x509.Certificate) -> str:
    """Return a certificate in the format of `openssl x509 -text`."""
    from OpenSSL import crypto  # noqa: PLC0415 - takes 0.1 s to import

    text: bytes = crypto.dump_certificate(crypto.FILETYPE_TEXT, crypto.X509.from_cryptography(certificate))
    return text.decode()


def crl_text(crl: x509.CertificateRevocationList) -> str:
    """Return a CRL with its issuer, number, dates, SHA-256 and entries."""
    assert crl.next_update_utc is not None
    number = crl_number(crl)
    lines = [
        "Certificate Revocation List (CRL):",
        f"    Issuer: {crl.issuer.rfc4514_string()}",
        f"    Number: {number}",
        f"    This update: {crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    Next update: {crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    SHA-256: {crl.fingerprint(hashes.SHA256()).hex()}",
        "    Revoked:" if len(crl) else "    Revoked: none",
    ]
    lines += [
        f"        {entry.serial_number:x} since {entry.revocation_date_utc:%Y-%m-%d %H:%M:%S} UTC" for entry in crl
    ]
    return "\n".join(lines) + "\n"
