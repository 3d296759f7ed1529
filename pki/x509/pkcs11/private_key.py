"""Private keys of `cryptography` whose secret is elsewhere: they hash here, and somebody else signs.

X.509 builders take them like any other key. What comes back is verified before it is used: no builder does.
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

# What is signed → its signature: r and s side by side for a digest, or PKCS#1 v1.5 for a DigestInfo.
Signer = Callable[[bytes], bytes]

DIGEST_INFO = {  # RFC 8017, 9.2, note 1
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


class _Held:
    """What keys of every kind have in common: nothing of theirs can be read."""

    name: str

    def _stays(self, *_: object, **__: object) -> NoReturn:
        raise PkiError(f"{self.name}: the key lives in its token and never leaves it")

    private_bytes = private_numbers = exchange = decrypt = __copy__ = __deepcopy__ = __reduce__ = _stays

    def _doubt(self) -> PkiError:
        return PkiError(
            f"{self.name}: what the token signs does not verify with the public key beside it",
            "the public key belongs to another one: pkcs11-tool --list-objects shows both",
        )


class EllipticCurveTokenKey(_Held, ec.EllipticCurvePrivateKey):
    """A key on P-256 or P-384."""

    def __init__(self, name: str, public: ec.EllipticCurvePublicKey, signer: Signer) -> None:
        self.name, self._public, self._signer = name, public, signer

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA in DER; a digest longer than the curve is cut here, as FIPS 186-5 6.4.1 says: some tokens refuse it."""
        both = self._signer(_digest(data, _hash(signature_algorithm.algorithm))[: self.key_size // 8])
        r, s = int.from_bytes(both[: len(both) // 2]), int.from_bytes(both[len(both) // 2 :])
        signature = encode_dss_signature(r, s)
        try:
            self._public.verify(signature, data, signature_algorithm)
        except InvalidSignature:
            raise self._doubt() from None
        return signature


class RsaTokenKey(_Held, rsa.RSAPrivateKey):
    """An RSA key that signs with PKCS#1 v1.5."""

    def __init__(self, name: str, public: rsa.RSAPublicKey, signer: Signer) -> None:
        self.name, self._public, self._signer = name, public, signer

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(
        self,
        data: Buffer,
        padding: AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | NoDigestInfo,
    ) -> bytes:
        if not isinstance(padding, PKCS1v15):
            raise TypeError(f"{self.name}: signs with PKCS#1 v1.5 only")
        hashed = _hash(algorithm)
        signature = self._signer(DIGEST_INFO[hashed.name] + _digest(data, hashed))
        try:
            self._public.verify(signature, bytes(data), padding, hashed)
        except InvalidSignature:
            raise self._doubt() from None
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
