"""The key of a generation that is yet to be certified: made here, kept encrypted, shown to the root as a request."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki import issue, store, tokens
from pki.errors import PkiError
from pki.house import House


def requested(house: House, name: str, common_name: str) -> bytes:
    """The certificate request of a coming generation, in PEM; its key is made when there is none yet."""
    kept = store.read(house.store.authority_file(name, "request.pem"))
    has_key = any(house.store.authority_file(name, file).exists() for file in ("key.pem", "key.uri"))
    if kept is not None and has_key and _is_for(kept, common_name):
        return kept
    key = _new_key(house, name)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        issue.subject(house.inventory.organisation, common_name)
    )
    request = builder.sign(key, issue.signature_hash(key)).public_bytes(Encoding.PEM)
    store.write(house.store.authority_file(name, "request.pem"), request)
    return request


def _is_for(request: bytes, common_name: str) -> bool:
    try:
        found = x509.load_pem_x509_csr(request)
    except ValueError:
        return False
    return any(attribute.value == common_name for attribute in found.subject)


def _new_key(house: House, name: str) -> issue.PrivateKey:
    """A new key: in a token, or in a file under a passphrase of its own that is opened again before it is believed."""
    if house.store.authority_file(name, "cert.pem").exists():
        raise PkiError(
            f"{name}: has a certificate already", "./run invoke status"
        )  # its key is in use: never make another one in its place
    rule = house.inventory.authorities.intermediate(name.rpartition("-")[0])
    if rule.token:
        return _in_token(house, name, rule.token, rule.key)
    path = house.store.authority_file(name, "key.pem")
    passphrase = house.passphrases.new(name)
    store.write(path, issue.encrypted_pem(issue.new_key(rule.key), passphrase), store.SECRET)
    return house.keys.from_pem(name, store.read(path) or b"", house.store.shown(path))


def _in_token(house: House, name: str, address: str, kind: str) -> issue.PrivateKey:
    """A key that is made in a token and never leaves it; `key.uri` says where."""
    uri = tokens.parse(address).with_object(name)
    pin = house.keys.pin(name)
    store.write(house.store.authority_file(name, "key.uri"), f"{uri}\n".encode())
    try:
        return tokens.open_key(uri, pin.value, pin.source)  # of a run that was killed before the request was written
    except PkiError:
        return tokens.generate(uri, pin.value, kind, pin.source)
