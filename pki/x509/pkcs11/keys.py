"""Keys in a PKCS#11 token: made there, opened, destroyed."""

from __future__ import annotations

from contextlib import suppress
from fcntl import LOCK_EX
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki.common.errors import PkiError
from pki.x509.pkcs11.private_key import EllipticCurveTokenKey, RsaTokenKey, TokenKey
from pki.x509.pkcs11.sessions import library, session_on, told
from pki.x509.pkcs11.uri import TokenUri

ANSWER = "your answer"

CURVES: dict[str, tuple[bytes, ec.EllipticCurve]] = {  # with CKA_EC_PARAMS, the curve's OID in DER
    "ec-p256": (bytes.fromhex("06082a8648ce3d030107"), ec.SECP256R1()),
    "ec-p384": (bytes.fromhex("06052b81040022"), ec.SECP384R1()),
}
RSA_BITS = {"rsa-3072": 3072, "rsa-4096": 4096}
ASKED = {"PRIVATE": True, "SENSITIVE": True, "EXTRACTABLE": False}
KEPT = {**ASKED, "TOKEN": True, "ALWAYS_SENSITIVE": True, "NEVER_EXTRACTABLE": True}


def generate(uri: TokenUri, pin: str | None, kind: str, source: str = ANSWER) -> TokenKey:
    """Make a key inside the token, never to leave it; `source` is where the PIN comes from."""
    if kind not in CURVES.keys() | RSA_BITS.keys():
        raise PkiError(f"a token makes no {kind} key", f"choose {', '.join([*CURVES, *RSA_BITS])}")
    _require_name(uri.object, uri)
    session = session_on(uri, pin, source)
    with told(uri, LOCK_EX) as pkcs11:
        if _objects(session, uri.with_object(uri.object)):
            raise PkiError(
                f"token {uri.token}: {uri.key} is there already",
                "no key is overwritten; what an interrupted ceremony left is deleted by hand: docs/ceremony.md",
            )
        public, private = _pair(pkcs11, session, uri, kind)
        kept = False
        try:
            kept = {name: private[pkcs11.Attribute[name]] for name in KEPT} == KEPT
        finally:
            if not kept:
                private.destroy()
                public.destroy()
    if not kept:
        raise PkiError(f"token {uri.token}: it would give the key {uri.key} away", "use another token")
    return open_key(uri, pin, source)


def open_key(uri: TokenUri, pin: str | None, source: str) -> TokenKey:
    """The private key that `uri` names; `source` is where its PIN comes from."""
    _require_name(uri.key, uri)
    session, name = session_on(uri, pin, source), f"{uri.key} in token {uri.token}"
    with told(uri) as pkcs11:
        private = _one(session, uri, "private")
        if not private[pkcs11.Attribute.SENSITIVE]:
            raise PkiError(f"{name}: the token would show this private key to anybody with the PIN", "make it again")
        if not private[pkcs11.Attribute.SIGN]:
            raise PkiError(f"{name}: a key that may not sign (CKA_SIGN)", "make it again")
        public = _public(pkcs11, _one(session, uri, "public"), name)

    def sign(data: bytes) -> bytes:
        ours = session_on(uri, pin, source)
        with told(uri) as pkcs11:
            mechanism = pkcs11.Mechanism.RSA_PKCS if isinstance(public, rsa.RSAPublicKey) else pkcs11.Mechanism.ECDSA
            return bytes(_one(ours, uri, "private").sign(data, mechanism=mechanism))

    if isinstance(public, rsa.RSAPublicKey):
        return RsaTokenKey(name, public, sign)
    return EllipticCurveTokenKey(name, public, sign)


def destroy(uri: TokenUri, pin: str | None, source: str = ANSWER) -> None:
    """Destroy a key, private and public half, beyond recall."""
    _require_name(uri.key, uri)
    session = session_on(uri, pin, source)
    with told(uri, LOCK_EX):
        halves = {kind: _objects(session, uri, kind) for kind in ("private", "public")}
        if not any(halves.values()):
            _one(session, uri, "private")
        for kind, found in halves.items():
            if len(found) > 1:
                _one(session, uri, kind)
        for half in [*halves["private"], *halves["public"]]:
            half.destroy()
        if _objects(session, uri, "private") or _objects(session, uri, "public"):
            raise PkiError(f"token {uri.token}: {uri.key} is still there", "destroy it with the token's own tools")


def _pair(pkcs11: Any, session: Any, uri: TokenUri, kind: str) -> Any:
    wanted = {
        "label": uri.object,
        "id": uri.id or None,
        "store": True,
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "private_template": {pkcs11.Attribute[name]: value for name, value in ASKED.items()},
    }
    if kind in RSA_BITS:
        return session.generate_keypair(pkcs11.KeyType.RSA, RSA_BITS[kind], **wanted)
    curve = {pkcs11.Attribute.EC_PARAMS: CURVES[kind][0]}
    return session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(**wanted)


def _public(pkcs11: Any, key: Any, name: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    said = pkcs11.Attribute
    with suppress(ValueError):
        if key[said.KEY_TYPE] == pkcs11.KeyType.RSA:
            exponent, modulus = (int.from_bytes(key[part]) for part in (said.PUBLIC_EXPONENT, said.MODULUS))
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if key[said.KEY_TYPE] == pkcs11.KeyType.EC:
            curve = dict(CURVES.values()).get(key[said.EC_PARAMS])
            if curve:  # CKA_EC_POINT is an OCTET STRING, and bare in some tokens: the point is what it ends with
                return ec.EllipticCurvePublicKey.from_encoded_point(
                    curve, key[said.EC_POINT][-(1 + 2 * curve.key_size // 8) :]
                )
    raise PkiError(f"{name}: a key of a kind that signs no certificates here", "use RSA, P-256 or P-384")


def _require_name(name: str, uri: TokenUri) -> None:
    if not name:
        raise PkiError(f"{uri} names no key", "add ;object= and the key's name to the token's part")


def _objects(session: Any, uri: TokenUri, kind: str = "") -> list[Any]:
    """What `uri` names in the token: keys of a kind, or objects of every class; the token alone names all."""
    pkcs11 = library()
    wanted: dict[Any, Any] = {}
    if kind:
        wanted[pkcs11.Attribute.CLASS] = pkcs11.ObjectClass[f"{kind.upper()}_KEY"]
    if uri.object:
        wanted[pkcs11.Attribute.LABEL] = uri.object
    if uri.id:
        wanted[pkcs11.Attribute.ID] = uri.id
    return list(session.get_objects(wanted))


def _one(session: Any, uri: TokenUri, kind: str) -> Any:
    """The one private or public key that `uri` names."""
    found = _objects(session, uri, kind)
    if len(found) == 1:
        return found[0]
    if found:
        raise PkiError(f"token {uri.token}: {len(found)} {kind} keys answer to {uri.key}", "say which: id= in the URI")
    session.token.slot.get_token()  # raises when it was taken out: SoftHSM then finds nothing, and says nothing
    there = ", ".join(sorted(key.label for key in _objects(session, uri.place, kind)))
    raise PkiError(f"token {uri.token}: it has no {kind} key {uri.key}", f"it shows {there or 'none at all'}")
