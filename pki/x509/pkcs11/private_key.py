"""Private keys for the X.509 builders of `cryptography` that hash in this process and sign in a token.

Each signature is verified before it is returned, because the builders do not do that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed, encode_dss_signature
from cryptography.utils import Buffer

from pki.common.errors import PkiError

# Data → signature: for ECDSA a digest → r‖s; for RSA a DigestInfo → PKCS#1 v1.5.
Signer = Callable[[bytes], bytes]

DIGEST_INFO = {  # RFC 8017 §9.2, note 1
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


class _TokenKeyBase:
    """The common part of token keys: refuses every operation that reads the private key."""

    name: str

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise PkiError(f"{self.name}: the key is in a token and cannot be exported")

    private_bytes = private_numbers = exchange = decrypt = __copy__ = __deepcopy__ = __reduce__ = _refuse

    def _mismatch(self) -> PkiError:
        return PkiError(
            f"{self.name}: the signature of the token does not verify with the public key in the token",
            "the public key belongs to another private key; list them with: pkcs11-tool --list-objects",
        )


class EllipticCurveTokenKey(_TokenKeyBase, ec.EllipticCurvePrivateKey):
    """A P-256 or P-384 private key in a token."""

    def __init__(self, name: str, public: ec.EllipticCurvePublicKey, signer: Signer) -> None:
        self.name, self._public, self._signer = name, public, signer

    @property
    def curve(self) -> ec.EllipticCurve:
        """Return the curve of the key."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Return the size of the key in bits."""
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key."""
        return self._public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return an ECDSA signature in DER. Truncates the digest (FIPS 186-5 §6.4.1): some tokens refuse a long one."""
        raw = self._signer(_digest(data, _hash(signature_algorithm.algorithm))[: self.key_size // 8])
        r, s = int.from_bytes(raw[: len(raw) // 2]), int.from_bytes(raw[len(raw) // 2 :])
        signature = encode_dss_signature(r, s)
        try:
            self._public.verify(signature, data, signature_algorithm)
        except InvalidSignature:
            raise self._mismatch() from None
        return signature


class RsaTokenKey(_TokenKeyBase, rsa.RSAPrivateKey):
    """An RSA private key in a token that signs with PKCS#1 v1.5."""

    def __init__(self, name: str, public: rsa.RSAPublicKey, signer: Signer) -> None:
        self.name, self._public, self._signer = name, public, signer

    @property
    def key_size(self) -> int:
        """Return the size of the key in bits."""
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the public key."""
        return self._public

    def sign(
        self,
        data: Buffer,
        padding: AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | NoDigestInfo,
    ) -> bytes:
        """Return a PKCS#1 v1.5 signature. Raises PkiError if it does not verify with the public key."""
        if not isinstance(padding, PKCS1v15):
            raise TypeError(f"{self.name}: signs with PKCS#1 v1.5 only")
        hash_algorithm = _hash(algorithm)
        signature = self._signer(DIGEST_INFO[hash_algorithm.name] + _digest(data, hash_algorithm))
        try:
            self._public.verify(signature, bytes(data), padding, hash_algorithm)
        except InvalidSignature:
            raise self._mismatch() from None
        return signature


TokenKey = EllipticCurveTokenKey | RsaTokenKey


def _hash(algorithm: object) -> hashes.HashAlgorithm:
    if not isinstance(algorithm, hashes.HashAlgorithm) or algorithm.name not in DIGEST_INFO:
        raise TypeError(f"keys in a token sign whole messages with {', '.join(DIGEST_INFO)}")
    return algorithm


def _digest(data: Buffer, algorithm: hashes.HashAlgorithm) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(data)
    return context.finalize()
