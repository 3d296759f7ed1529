"""PEM files for curl and scripts, with an unencrypted key."""

from __future__ import annotations

from pki.x509.export.client_identity import ClientIdentity
from pki.x509.keys import private_pem
from pki.x509.pem_encoding import pem_of


def files(identity: ClientIdentity) -> dict[str, bytes]:
    """Return the files for curl, Python's requests and OpenSSL by name: key, certificates, and the roots to trust."""
    key = private_pem(identity.key)
    chain = pem_of([identity.certificate, *identity.chain])
    return {"tls.pem": key + chain, "key.pem": key, "fullchain.pem": chain, "roots.pem": pem_of(identity.roots)}
