"""PKCS#12 files (RFC 7292): key and certificates in one encrypted file, of a client or of a server."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    PKCS12KeyAndCertificates,
    load_pkcs12,
    serialize_key_and_certificates,
)

from pki.common.errors import PkiError
from pki.x509.canonical import UNREADABLE
from pki.x509.certificate_names import common_name
from pki.x509.export.client_identity import ClientIdentity
from pki.x509.keys import LeafKey, PrivateKey, key_kind

MODERN, LEGACY = "p12", "p12-legacy"  # the names of both formats: artifacts, and formats of client.export
ROUNDS = 100_000  # the MAC always has 2 048 rounds, so the strength is that of the passphrase
OLD_ROUNDS = 2_048  # systems that need the legacy format may be slow


def writable_key(key: LeafKey, name: str) -> PrivateKey:
    """Return a key that a file can contain. Raises PkiError for an ML-DSA key: the library of this program writes none."""
    if isinstance(key, PrivateKey):
        return key
    hint = "use its PEM files, or write in pki.yaml for it: key: ec-p256"
    raise PkiError(f"{name}: no PKCS#12 file can be written with a key of kind {key_kind(key)}", hint)


def modern(identity: ClientIdentity, passphrase: str) -> bytes:
    """Return a file with AES-256 and SHA-256, for OpenSSL, NSS, GnuTLS, Java, Windows 10, Android 13 and newer."""
    return _of_client(identity, _modern_encryption(passphrase), with_roots=True)


def legacy(identity: ClientIdentity, passphrase: str, *, with_roots: bool = True) -> bytes:
    """Return a file with Triple DES and SHA-1: macOS, iOS and older Android and Windows read no other format."""
    return _of_client(identity, _legacy_encryption(passphrase), with_roots=with_roots)


def of_server(
    kind: str, alias: str, key: PrivateKey, certificates: Iterable[x509.Certificate], passphrase: str
) -> bytes:
    """Return the file of a server; `kind` is MODERN or LEGACY, `certificates` are the leaf and its intermediates.

    `alias` is what Java calls the entry. The file has no root: clients have it, and a server does not send it.
    """
    certificate, *chain = certificates
    encryption = _modern_encryption(passphrase) if kind == MODERN else _legacy_encryption(passphrase)
    return _encode(alias, key, certificate, chain, encryption)


def read(content: bytes, passphrase: str) -> PKCS12KeyAndCertificates | None:
    """Return what a file contains; None if the passphrase does not open it, or if it has no key or certificate."""
    try:
        archive = load_pkcs12(content, passphrase.encode("ascii"))
    except (*UNREADABLE, UnicodeEncodeError):
        return None
    return archive if isinstance(archive.key, PrivateKey) and archive.cert is not None else None


def _modern_encryption(passphrase: str) -> KeySerializationEncryption:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return builder.build(passphrase.encode("ascii"))


def _legacy_encryption(passphrase: str) -> KeySerializationEncryption:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(OLD_ROUNDS)
    builder = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())  # noqa: S303 - what they take
    return builder.build(passphrase.encode("ascii"))


def _of_client(identity: ClientIdentity, encryption: KeySerializationEncryption, *, with_roots: bool) -> bytes:
    authorities = (*identity.chain, *(identity.roots if with_roots else ()))
    key = writable_key(identity.key, identity.name)
    return _encode(identity.label, key, identity.certificate, authorities, encryption)


def _encode(
    label: str,
    key: PrivateKey,
    certificate: x509.Certificate,
    authorities: Iterable[x509.Certificate],
    encryption: KeySerializationEncryption,
) -> bytes:
    named_authorities = [PKCS12Certificate(ca, common_name(ca.subject).encode()) for ca in authorities]
    return serialize_key_and_certificates(label.encode(), key, certificate, named_authorities, encryption)
