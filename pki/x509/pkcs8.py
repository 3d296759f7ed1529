"""Encrypt private keys as PKCS#8 with PBES2, PBKDF2-HMAC-SHA256 and AES-256-CBC (RFC 8018).

`cryptography` writes the same format, but always with 2 048 rounds. This module combines its ASN.1 encoder and its
primitives; `cryptography` and the openssl command read the result.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.x509 import ObjectIdentifier

ROUNDS = 600_000  # of PBKDF2: the recommendation of OWASP for HMAC-SHA256

BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----\r?\n(.*?)-----END \1-----\s*", re.DOTALL)

PBES2 = ObjectIdentifier("1.2.840.113549.1.5.13")
PBKDF2 = ObjectIdentifier("1.2.840.113549.1.5.12")
HMAC_SHA256 = ObjectIdentifier("1.2.840.113549.2.9")
AES256_CBC = ObjectIdentifier("2.16.840.1.101.3.4.1.42")


@asn1.sequence
class _Prf:
    algorithm: ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class _Pbkdf2Parameters:
    salt: bytes
    iterations: int
    prf: _Prf


@asn1.sequence
class _KeyDerivation:
    algorithm: ObjectIdentifier
    parameters: _Pbkdf2Parameters


@asn1.sequence
class _EncryptionScheme:
    algorithm: ObjectIdentifier
    initialisation_vector: bytes


@asn1.sequence
class _Pbes2Parameters:
    key_derivation: _KeyDerivation
    encryption: _EncryptionScheme


@asn1.sequence
class _EncryptionAlgorithm:
    algorithm: ObjectIdentifier
    parameters: _Pbes2Parameters


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _EncryptionAlgorithm
    encrypted_data: bytes


def encrypted_der(key: PrivateKeyTypes, passphrase: str) -> bytes:
    """Return the key as a DER EncryptedPrivateKeyInfo (RFC 5958 §3) with a random salt and initialisation vector."""
    salt, vector = os.urandom(16), os.urandom(16)
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    padder = padding.PKCS7(128).padder()
    padded_key = padder.update(plain) + padder.finalize()
    secret = PBKDF2HMAC(hashes.SHA256(), 32, salt, ROUNDS).derive(passphrase.encode())
    encryptor = Cipher(algorithms.AES256(secret), modes.CBC(vector)).encryptor()
    prf = _Prf(algorithm=HMAC_SHA256, parameters=asn1.Null())
    derivation = _KeyDerivation(algorithm=PBKDF2, parameters=_Pbkdf2Parameters(salt=salt, iterations=ROUNDS, prf=prf))
    scheme = _EncryptionScheme(algorithm=AES256_CBC, initialisation_vector=vector)
    parameters = _Pbes2Parameters(key_derivation=derivation, encryption=scheme)
    return asn1.encode_der(
        _EncryptedPrivateKeyInfo(
            algorithm=_EncryptionAlgorithm(algorithm=PBES2, parameters=parameters),
            encrypted_data=encryptor.update(padded_key) + encryptor.finalize(),
        )
    )


def is_whole(pem: bytes) -> bool:
    """Return whether a file is one private key in PEM, and its DER has the length in its header. Needs no passphrase."""
    block = BLOCK.fullmatch(pem)
    if block is None or b":" in block[2]:  # OpenSSL's older format has headers and encrypted contents
        return block is not None
    try:
        der = base64.b64decode(b"".join(block[2].split()), validate=True)
    except binascii.Error:
        return False
    return _encoded_length(der) == len(der)


def _encoded_length(der: bytes) -> int:
    """Return the length in bytes of a DER SEQUENCE with its header (X.690 §8.1.3); 0 for anything else."""
    if len(der) < 2 or der[0] != 0x30:
        return 0
    if der[1] < 0x80:
        return 2 + der[1]
    octets = der[1] & 0x7F
    return 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")
