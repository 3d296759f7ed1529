"""The certificate requests of external authorities: the key of each is on the server of somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.authority_rules import ExternalRule
from pki.config.fields import AuthorityKeyKind
from pki.x509 import keys

KEY_KINDS = get_args(AuthorityKeyKind)


class ExternalRequest(NamedTuple):
    """The certificate request (PEM) of an external authority, and its public key."""

    pem: str
    key: CertificatePublicKeyTypes


def how_to_renew(name: str, rule: ExternalRule) -> str:
    """Return what the people of an external authority must do for its next generation, as a remedy."""
    return f"on the server of {name}: make a new key and a certificate request; copy the request to {rule.external}"


def read(home: Path, rule: ExternalRule) -> ExternalRequest:
    """Return the request that pki.yaml names for an external authority; `home` is the folder of the project.

    Raises PkiError if there is none, its signature does not verify, or its key is not of a kind that a CA may have.
    """
    data = filesystem.read(home / rule.external)
    if data is None:
        hint = f"on the server that is to have the key, make a key and a certificate request, and copy the request to {rule.external}"
        raise PkiError(f"{rule.external}: does not exist", hint)
    key = keys.read_request_key(data, rule.external)
    if keys.key_kind(key) not in KEY_KINDS:
        hint = f"make a new key of another kind: {', '.join(KEY_KINDS)}"
        raise PkiError(f"{rule.external}: a key of kind {keys.key_kind(key)} is not for a CA", hint)
    return ExternalRequest(x509.load_pem_x509_csr(data).public_bytes(Encoding.PEM).decode(), key)
