"""PEM files for curl and scripts: the key lies open in them."""

from __future__ import annotations

from pki.bundles.identity import Identity
from pki.issue import pem_of, private_pem


def files(identity: Identity) -> dict[str, bytes]:
    """By file name: what curl, Python's requests and OpenSSL want, and the roots to trust."""
    key = private_pem(identity.key)
    chain = pem_of([identity.certificate, *identity.chain])
    return {"tls.pem": key + chain, "key.pem": key, "fullchain.pem": chain, "roots.pem": pem_of(identity.roots)}
