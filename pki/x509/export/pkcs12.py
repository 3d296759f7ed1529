"""PKCS#12 files (RFC 7292): key, certificate, intermediates and roots in one encrypted file."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    serialize_key_and_certificates,
)

from pki.x509.certificate_names import common_name
from pki.x509.export.client_identity import ClientIdentity

ROUNDS = 100_000  # the MAC always has 2 048 rounds, so the strength is that of the passphrase
OLD_ROUNDS = 2_048  # systems that need the legacy format may be slow


def modern(identity: ClientIdentity, passphrase: str) -> bytes:
    """Return a file with AES-256 and SHA-256, for OpenSSL, NSS, GnuTLS, Java, Windows 10, Android 13 and newer."""
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return _encode(identity, builder.build(passphrase.encode("ascii")), with_roots=True)


def legacy(identity: ClientIdentity, passphrase: str, *, with_roots: bool = True) -> bytes:
    """Return a file with Triple DES and SHA-1: macOS, iOS and older Android and Windows read no other format."""
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(OLD_ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())  # noqa: S303 - what they take
    return _encode(identity, builder.build(passphrase.encode("ascii")), with_roots=with_roots)


def _encode(identity: ClientIdentity, encryption: KeySerializationEncryption, *, with_roots: bool) -> bytes:
    authorities = (*identity.chain, *(identity.roots if with_roots else ()))
    named = [PKCS12Certificate(ca, common_name(ca.subject).encode()) for ca in authorities]
    return serialize_key_and_certificates(
        identity.label.encode(), identity.key, identity.certificate, named, encryption
    )
