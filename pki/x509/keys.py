"""Generate, encode, decrypt and identify keys in memory."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)

from pki.common.errors import ErrorCode, PkiError
from pki.common.remedies import RESTORE
from pki.x509.pem_encoding import encode_pem
from pki.x509.pkcs8 import encrypted_der

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey  # of CAs, and of leaves
LeafKey = PrivateKey | mldsa.MLDSA65PrivateKey
ML_DSA = "ml-dsa-65"  # FIPS 204; in certificates: RFC 9881
CERTIFIABLE = ("rsa-", "ec-p256", "ec-p384", "ed25519", ML_DSA)
_ML_DSA_KINDS: dict[str, tuple[type, type]] = {
    "ml-dsa-44": (mldsa.MLDSA44PublicKey, mldsa.MLDSA44PrivateKey),
    ML_DSA: (mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey),
    "ml-dsa-87": (mldsa.MLDSA87PublicKey, mldsa.MLDSA87PrivateKey),
}


def new_leaf_key(kind: str) -> LeafKey:
    """Generate the private key of a leaf; `kind` is one of `new_key`, or ml-dsa-65, which no CA has yet."""
    return mldsa.MLDSA65PrivateKey.generate() if kind == ML_DSA else new_key(kind)


def new_key(kind: str) -> PrivateKey:
    """Generate a private key; `kind` is as in pki.yaml: ec-p256, ec-p384, ed25519, rsa-2048 to rsa-4096."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa-"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[4:]))
    return ec.generate_private_key({"ec-p256": ec.SECP256R1(), "ec-p384": ec.SECP384R1()}[kind])


def key_kind(key: CertificatePublicKeyTypes | PrivateKeyTypes) -> str:
    """Return the kind of a public or private key as pki.yaml names it, such as `ec-p256`, `rsa-2048` or `ed25519`."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        name = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}.get(key.curve.name, key.curve.name)
        return f"ec-{name}"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return "ed25519"
    return next((kind for kind, types in _ML_DSA_KINDS.items() if isinstance(key, types)), type(key).__name__)


def private_pem(key: LeafKey) -> bytes:
    """Return the unencrypted key as PKCS#8 PEM (RFC 5958); an ML-DSA key as its seed (RFC 9881 §6)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pkcs1_pem(data: bytes) -> bytes | None:
    """Convert a PKCS#8 RSA key to `BEGIN RSA PRIVATE KEY` (RFC 8017 §A.1.2), which some devices need.

    Returns None for a key of another kind.
    """
    key = serialization.load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()) if is_rsa else None


def encrypted_pem(key: PrivateKey, passphrase: str) -> bytes:
    """Return the key as encrypted PKCS#8 PEM (see `pkcs8.encrypted_der`)."""
    return encode_pem("ENCRYPTED PRIVATE KEY", encrypted_der(key, passphrase))


def open_key(data: bytes, passphrase: str | None, name: str, source: str) -> PrivateKey:
    """Return the private key of a PEM file, decrypted with `passphrase` if it is encrypted.

    `name` is the name of the key in messages, `source` is where the passphrase comes from. Raises PkiError; its code is
    KEY_NOT_OPENED if the passphrase is missing or wrong.
    """
    key = _load(data, passphrase, name, source)
    if not isinstance(key, PrivateKey):
        what = f"a key of kind {ML_DSA} is for leaves only" if isinstance(key, LeafKey) else ""
        raise PkiError(f"{name}: {what or 'its key is of a kind that cannot sign'}")
    return key


def open_leaf_key(data: bytes, name: str) -> LeafKey:
    """Return the private key of a leaf from a PEM file, where it is not encrypted. Raises PkiError as `open_key`."""
    key = _load(data, None, name, "")
    if not isinstance(key, LeafKey):
        raise PkiError(f"{name}: a key of kind {key_kind(key)}")
    return key


def _load(data: bytes, passphrase: str | None, name: str, source: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError:
        if passphrase:
            raise PkiError(f"{name}: its key is not encrypted", RESTORE) from None
        what = f"{name}: its key is encrypted and {source} holds no passphrase for it"
        raise PkiError(what, code=ErrorCode.KEY_NOT_OPENED) from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError(
            f"{name}: its key cannot be opened",
            f"the passphrase from {source} is wrong, or the file is damaged",
            ErrorCode.KEY_NOT_OPENED,
        ) from None


def public_der(key: PublicKeyTypes) -> bytes:
    """Return the SubjectPublicKeyInfo of the key in DER (RFC 5280 §4.1.2.7)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_fingerprint(key: CertificatePublicKeyTypes) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in hexadecimal."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_der(key))
    return digest.finalize().hex()


def read_request_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """Return the public key of a PEM certificate request (RFC 2986); nothing else in the request is used.

    Raises PkiError if the request cannot be read, its signature does not verify, or the key is not certifiable.
    """
    try:
        request = x509.load_pem_x509_csr(data)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise PkiError(f"{name}: not a PEM certificate request: {error}") from None
    if not valid:
        raise PkiError(f"{name}: the request's signature does not verify", "make the request again on the device")
    require_certifiable_key(key, name)
    return key


def require_certifiable_key(key: CertificatePublicKeyTypes, name: str) -> None:
    """Raise PkiError unless the key is RSA with 2048 to 4096 bits, P-256, P-384, Ed25519 or ML-DSA-65; `name` is the request."""
    kind = key_kind(key)
    if kind.startswith("rsa-") and not 2048 <= int(kind[4:]) <= 4096:
        raise PkiError(f"{name}: an RSA key of {kind[4:]} bits", "use 2048 to 4096 bits")
    if not kind.startswith(CERTIFIABLE):
        raise PkiError(f"{name}: a key of kind {kind}", "use RSA, P-256, P-384, Ed25519 or ML-DSA-65")


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """Return the hash to sign with: SHA-384 for P-384, else SHA-256 (RFC 5758 §3.2); None for Ed25519, which has its own."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None
