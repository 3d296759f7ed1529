"""PKCS#12: key, certificate, chain and roots in one encrypted file."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    serialize_key_and_certificates,
)

from pki.x509.export.client_identity import Identity, common_name

ROUNDS = 100_000  # the MAC stays at 2 048, which is what a guess costs: the passphrase is long enough without them
OLD_ROUNDS = 2_048  # systems that want the old format may be as slow as they are old


def modern(identity: Identity, passphrase: str) -> bytes:
    """AES-256 and SHA-256: OpenSSL, NSS, GnuTLS, Java, Windows 10, Android 13 and newer."""
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return _sealed(identity, builder.build(passphrase.encode("ascii")), with_roots=True)


def legacy(identity: Identity, passphrase: str, *, with_roots: bool = True) -> bytes:
    """Triple DES and SHA-1: macOS, iOS, and older Android and Windows take nothing else."""
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(OLD_ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())  # noqa: S303 - what they take
    return _sealed(identity, builder.build(passphrase.encode("ascii")), with_roots=with_roots)


def _sealed(identity: Identity, encryption: KeySerializationEncryption, *, with_roots: bool) -> bytes:
    others = (*identity.chain, *(identity.roots if with_roots else ()))
    named = [PKCS12Certificate(one, common_name(one).encode()) for one in others]
    return serialize_key_and_certificates(
        identity.label.encode(), identity.key, identity.certificate, named, encryption
    )
