"""PEM files for curl and scripts: the key lies open in them."""

from __future__ import annotations

from pki.x509.export.client_identity import Identity
from pki.x509.keys import private_pem
from pki.x509.pem_encoding import pem_of


def files(identity: Identity) -> dict[str, bytes]:
    """By file name: what curl, Python's requests and OpenSSL want, and the roots to trust."""
    key = private_pem(identity.key)
    chain = pem_of([identity.certificate, *identity.chain])
    return {"tls.pem": key + chain, "key.pem": key, "fullchain.pem": chain, "roots.pem": pem_of(identity.roots)}
