"""The kind of key that a host or client has, or will have: from pki.yaml, or from the certificate request of its device."""

from __future__ import annotations

from contextlib import suppress

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.project.layout import Store
from pki.x509.device_requests import read_unverified_key
from pki.x509.keys import key_kind


def declared_kind(store: Store, request: str | None, kind: str) -> str:
    """Return `kind`, which pki.yaml declares, or that of the key in the file `request`; "" if that cannot be read."""
    if request is None:
        return kind
    with suppress(PkiError):  # the check of its certificate reports it
        return key_kind(read_unverified_key(filesystem.read(store.home / request) or b"", request))
    return ""
