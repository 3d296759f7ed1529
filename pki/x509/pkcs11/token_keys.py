"""Generate, open and destroy keys in a PKCS#11 token."""

from __future__ import annotations

from contextlib import suppress
from fcntl import LOCK_EX
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki.common.errors import PkiError
from pki.x509.pkcs11.private_key import EllipticCurveTokenKey, RsaTokenKey, TokenKey
from pki.x509.pkcs11.sessions import library, reporting_errors, session_on
from pki.x509.pkcs11.uri import TokenUri

ANSWER = "your answer"

CURVES: dict[str, tuple[bytes, ec.EllipticCurve]] = {  # with CKA_EC_PARAMS, the curve's OID in DER
    "ec-p256": (bytes.fromhex("06082a8648ce3d030107"), ec.SECP256R1()),
    "ec-p384": (bytes.fromhex("06052b81040022"), ec.SECP384R1()),
}
RSA_BITS = {"rsa-3072": 3072, "rsa-4096": 4096}
KEY_TEMPLATE = {"PRIVATE": True, "SENSITIVE": True, "EXTRACTABLE": False}
REQUIRED_ATTRIBUTES = {**KEY_TEMPLATE, "TOKEN": True, "ALWAYS_SENSITIVE": True, "NEVER_EXTRACTABLE": True}


def generate(uri: TokenUri, pin: str | None, kind: str, source: str = ANSWER) -> TokenKey:
    """Generate a key in the token that can never be exported; `source` is where the PIN comes from, for messages.

    Raises PkiError if the name is already used in the token, or if the token would allow exporting the key.
    """
    if kind not in CURVES.keys() | RSA_BITS.keys():
        raise PkiError(f"a token cannot generate a key of kind {kind}", f"choose {', '.join([*CURVES, *RSA_BITS])}")
    _require_name(uri.object, uri)
    session = session_on(uri, pin, source)
    with reporting_errors(uri, LOCK_EX) as pkcs11:
        if _find_objects(session, uri.with_object(uri.object)):
            raise PkiError(
                f"token {uri.token}: {uri.key} exists already",
                "keys are never overwritten; delete the key of an interrupted ceremony by hand: docs/how-to/ceremony.md",
            )
        public, private = _generate_pair(pkcs11, session, uri, kind)
        is_protected = False
        try:
            is_protected = {
                name: private[pkcs11.Attribute[name]] for name in REQUIRED_ATTRIBUTES
            } == REQUIRED_ATTRIBUTES
        finally:
            if not is_protected:
                private.destroy()
                public.destroy()
    if not is_protected:
        raise PkiError(f"token {uri.token}: it allows exporting the key {uri.key}", "use another token")
    return open_key(uri, pin, source)


def open_key(uri: TokenUri, pin: str | None, source: str) -> TokenKey:
    """Return the private key that `uri` names; `source` is where the PIN comes from, for messages.

    Raises PkiError if the key does not exist, can be exported, or must not sign.
    """
    _require_name(uri.key, uri)
    session, name = session_on(uri, pin, source), f"{uri.key} in token {uri.token}"
    with reporting_errors(uri) as pkcs11:
        private = _find_one(session, uri, "private")
        if not private[pkcs11.Attribute.SENSITIVE]:
            raise PkiError(f"{name}: the token allows reading this private key with the PIN", "generate a new key")
        if not private[pkcs11.Attribute.SIGN]:
            raise PkiError(f"{name}: the token does not permit signing with this key (CKA_SIGN)", "generate a new key")
        public = _read_public(pkcs11, _find_one(session, uri, "public"), name)

    def sign(data: bytes) -> bytes:
        session_of_process = session_on(uri, pin, source)
        with reporting_errors(uri) as pkcs11:
            mechanism = pkcs11.Mechanism.RSA_PKCS if isinstance(public, rsa.RSAPublicKey) else pkcs11.Mechanism.ECDSA
            return bytes(_find_one(session_of_process, uri, "private").sign(data, mechanism=mechanism))

    if isinstance(public, rsa.RSAPublicKey):
        return RsaTokenKey(name, public, sign)
    return EllipticCurveTokenKey(name, public, sign)


def destroy(uri: TokenUri, pin: str | None, source: str = ANSWER) -> None:
    """Destroy the private and the public key; this cannot be undone. Raises PkiError if one of them remains."""
    _require_name(uri.key, uri)
    session = session_on(uri, pin, source)
    with reporting_errors(uri, LOCK_EX):
        halves = {kind: _find_objects(session, uri, kind) for kind in ("private", "public")}
        if not any(halves.values()):
            _find_one(session, uri, "private")  # raises: there is no such key
        for kind, objects in halves.items():
            if len(objects) > 1:
                _find_one(session, uri, kind)  # raises: the name is not unique
        for half in [*halves["private"], *halves["public"]]:
            half.destroy()
        if _find_objects(session, uri, "private") or _find_objects(session, uri, "public"):
            raise PkiError(f"token {uri.token}: {uri.key} still exists", "destroy it with the token's own tools")


def _generate_pair(pkcs11: Any, session: Any, uri: TokenUri, kind: str) -> Any:
    """Generate a key pair; returns the public and the private object."""
    options = {
        "label": uri.object,
        "id": uri.id or None,
        "store": True,
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "private_template": {pkcs11.Attribute[name]: value for name, value in KEY_TEMPLATE.items()},
    }
    if kind in RSA_BITS:
        return session.generate_keypair(pkcs11.KeyType.RSA, RSA_BITS[kind], **options)
    curve = {pkcs11.Attribute.EC_PARAMS: CURVES[kind][0]}
    return session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(**options)


def _read_public(pkcs11: Any, key: Any, name: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Return the public key of an object in the token. Raises PkiError for a kind that is not supported."""
    attribute = pkcs11.Attribute
    with suppress(ValueError):
        if key[attribute.KEY_TYPE] == pkcs11.KeyType.RSA:
            exponent, modulus = (int.from_bytes(key[part]) for part in (attribute.PUBLIC_EXPONENT, attribute.MODULUS))
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if key[attribute.KEY_TYPE] == pkcs11.KeyType.EC:
            curve = dict(CURVES.values()).get(key[attribute.EC_PARAMS])
            if curve:  # CKA_EC_POINT is an OCTET STRING, or the bare point in some tokens
                return ec.EllipticCurvePublicKey.from_encoded_point(
                    curve, key[attribute.EC_POINT][-(1 + 2 * curve.key_size // 8) :]
                )
    raise PkiError(f"{name}: this kind of key is not supported for signing certificates", "use RSA, P-256 or P-384")


def _require_name(name: str, uri: TokenUri) -> None:
    if not name:
        raise PkiError(f"{uri} names no key", "add ;object= and the key's name to the token's part")


def _find_objects(session: Any, uri: TokenUri, kind: str = "") -> list[Any]:
    """Return the objects in the token that `uri` names; of one `kind` (private, public), or of every class if empty."""
    pkcs11 = library()
    template: dict[Any, Any] = {}
    if kind:
        template[pkcs11.Attribute.CLASS] = pkcs11.ObjectClass[f"{kind.upper()}_KEY"]
    if uri.object:
        template[pkcs11.Attribute.LABEL] = uri.object
    if uri.id:
        template[pkcs11.Attribute.ID] = uri.id
    return list(session.get_objects(template))


def _find_one(session: Any, uri: TokenUri, kind: str) -> Any:
    """Return the private or public key that `uri` names. Raises PkiError if there is none, or more than one."""
    objects = _find_objects(session, uri, kind)
    if len(objects) == 1:
        return objects[0]
    if objects:
        raise PkiError(f"token {uri.token}: {len(objects)} {kind} keys are called {uri.key}", "add id= to the URI")
    session.token.slot.get_token()  # raises if the token was removed: SoftHSM then reports no error, only no objects
    labels = ", ".join(sorted(key.label for key in _find_objects(session, uri.place, kind)))
    raise PkiError(f"token {uri.token}: no {kind} key {uri.key}", f"it has {labels or 'none'}")
