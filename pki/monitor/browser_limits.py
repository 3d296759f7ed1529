"""Server certificates whose key type browsers do not support."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.check_result import join_names
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.x509.device_requests import read_unverified_key
from pki.x509.keys import key_kind

UNSUPPORTED = "ed25519"  # Chrome, Firefox and Safari do not offer it in signature_algorithms (RFC 8446 §4.2.3)


def notes(store: Store, plan: Plan) -> Iterator[Notice]:
    """Yield one notice for all server certificates whose key browsers do not support."""
    leaves = [leaf for leaf in plan.leaves.values() if leaf.profile == "server" and _kind(store, leaf) == UNSUPPORTED]
    if leaves:
        names = [leaf.name for leaf in leaves]
        text = f"Chrome, Firefox and Safari refuse the {UNSUPPORTED} key of {join_names(names)}"
        declarations = dict.fromkeys(leaf.declared for leaf in leaves)
        where = (
            f"under {next(iter(declarations))}"
            if len(declarations) == 1
            else "under each of them, or under profiles.server"
        )
        remedy = f"key: ec-p256 {where}; it may stay if no browser connects to them"
        if any(leaf.request for leaf in leaves):
            remedy += "; on a device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"
        yield Notice(ArtifactId("cert", names[0]) if len(names) == 1 else "certificates", text, remedy)


def _kind(store: Store, leaf: Leaf) -> str:
    """Return the key type of a leaf: from pki.yaml, or from its certificate request; "" if that cannot be read."""
    if leaf.request is None:
        return leaf.key
    with suppress(PkiError):  # the check of its certificate reports it
        return key_kind(read_unverified_key(filesystem.read(store.home / leaf.request) or b"", leaf.request))
    return ""
