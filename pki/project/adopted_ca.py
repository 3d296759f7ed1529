"""An adopted CA: where its files are, whether it may sign CRLs, and whether it signed a certificate or CRL."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from pki.common.errors import PkiError
from pki.config.authority_rules import AdoptedRule
from pki.project.layout import Store

# certificate and key of easy-rsa, of `openssl ca`, and of a folder made by hand; the first that exists counts
LAYOUTS = (
    ("ca.crt", "private/ca.key"),
    ("pki/ca.crt", "pki/private/ca.key"),
    ("cacert.pem", "private/cakey.pem"),
    ("demoCA/cacert.pem", "demoCA/private/cakey.pem"),
    ("cert.pem", "key.pem"),
)

Signed = x509.Certificate | x509.CertificateRevocationList


def files(folder: Path, shown: str) -> tuple[Path, Path]:
    """Return the paths of certificate and key of an adopted CA. Raises PkiError where `folder` has no known layout.

    `shown` is the name of the folder in messages.
    """
    for certificate, key in LAYOUTS:
        if (folder / certificate).is_file():
            return folder / certificate, folder / key
    raise PkiError(
        f"{shown}: contains no CA certificate",
        "expected ca.crt and private/ca.key (easy-rsa), cacert.pem and private/cakey.pem (openssl ca), "
        "or cert.pem and key.pem",
    )


def adopted_files(store: Store, rule: AdoptedRule) -> tuple[Path, Path]:
    """Return certificate and key file of the adopted CA that a rule of pki.yaml declares. Raises PkiError as `files`."""
    folder = store.home / rule.adopt
    return files(folder, store.shown(folder))


def check(certificate: x509.Certificate, shown: str) -> None:
    """Raise PkiError unless other programs accept a CRL that this CA signs (RFC 5280 §4.2.1.3, §4.2.1.9)."""
    try:
        extensions = certificate.extensions
    except ValueError as error:
        raise PkiError(f"{shown}: its extensions cannot be read: {error}") from None
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and not value.ca:
            raise PkiError(f"{shown}: is not a CA certificate", "put the certificate of the CA itself there")
        if isinstance(value, x509.KeyUsage) and not value.crl_sign:
            raise PkiError(
                f"{shown}: does not permit its key to sign CRLs (key usage lacks cRLSign), and programs refuse its CRLs",
                "issue a certificate with cRLSign for the same key and subject there: docs/how-to/adopt.md",
            )


def has_signed(ca: x509.Certificate, signed: Signed) -> bool:
    """Return whether a certificate or CRL has the name and a valid signature of a CA.

    SHA-1 and MD5 signatures count: old CAs used them.
    """
    key, text = ca.public_key(), _signed_text(signed)
    if signed.issuer != ca.subject:
        return False
    try:
        parameters, digest = signed.signature_algorithm_parameters, signed.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey):
            # cryptography returns no padding for MD5, which always uses this one: RFC 8017, appendix A.2.4
            key.verify(signed.signature, text, parameters or PKCS1v15(), digest)  # type: ignore[arg-type]
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed.signature, text, parameters)  # type: ignore[arg-type]
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signed.signature, text)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, AttributeError):
        return False
    return True


def _signed_text(signed: Signed) -> bytes:
    return signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
