"""Certificates and CRLs as text, for people who review them."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes


def of_certificate(cert: x509.Certificate) -> str:
    """A certificate as `openssl x509 -text` prints it."""
    from OpenSSL import crypto  # noqa: PLC0415 - 0.1 s, which only a ceremony spends

    text: bytes = crypto.dump_certificate(crypto.FILETYPE_TEXT, crypto.X509.from_cryptography(cert))
    return text.decode()


def of_crl(crl: x509.CertificateRevocationList) -> str:
    """A CRL with everything that it says."""
    assert crl.next_update_utc is not None
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    lines = [
        "Certificate Revocation List (CRL):",
        f"    Issuer: {crl.issuer.rfc4514_string()}",
        f"    Number: {number}",
        f"    This update: {crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    Next update: {crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC",
        f"    SHA-256: {crl.fingerprint(hashes.SHA256()).hex()}",
        "    Revoked:" if len(crl) else "    Revoked: none",
    ]
    lines += [f"        {one.serial_number:x} since {one.revocation_date_utc:%Y-%m-%d %H:%M:%S} UTC" for one in crl]
    return "\n".join(lines) + "\n"
