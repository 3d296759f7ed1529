"""The key of a generation that is yet to be certified: made here, kept encrypted, shown to the root as a request."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki import issue, store
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
    """A new key under a passphrase of its own, opened again before it is believed."""
    if house.store.authority_file(name, "cert.pem").exists():
        raise PkiError(f"{name}: has a certificate already")  # its key is in use: never make another one in its place
    rule = house.inventory.authorities.intermediate(name.rpartition("-")[0])
    path = house.store.authority_file(name, "key.pem")
    passphrase = house.store.new_passphrase(name)
    key = issue.new_key(rule.key)
    store.write(path, issue.encrypted_pem(key, passphrase), store.SECRET)
    return issue.open_key(store.read(path) or b"", passphrase, house.shown(path), house.inventory.secrets)
