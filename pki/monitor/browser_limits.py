"""Server certificates that no browser takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.check_result import named
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project
from pki.x509.device_requests import read_unverified_key
from pki.x509.keys import key_kind

REFUSED = "ed25519"  # Chrome, Firefox and Safari offer no such signature in the handshake (RFC 8446 §4.2.3)


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """One note of all server certificates whose key browsers refuse."""
    found = [leaf for leaf in plan.leaves.values() if leaf.profile == "server" and _kind(project, leaf) == REFUSED]
    if found:
        names = [leaf.name for leaf in found]
        text = f"Chrome, Firefox and Safari refuse the {REFUSED} key of {named(names)}"
        places = dict.fromkeys(leaf.declared for leaf in found)
        where = f"under {next(iter(places))}" if len(places) == 1 else "under each of them, or under profiles.server"
        remedy = f"key: ec-p256 {where}; where no browser visits them it may stay"
        if any(leaf.request for leaf in found):
            remedy += "; on a device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"
        yield Notice(ArtifactId("cert", names[0]) if len(names) == 1 else "certificates", text, remedy)


def _kind(project: Project, leaf: Leaf) -> str:
    """The kind of key that a leaf has: as pki.yaml says, or as its request says."""
    if leaf.request is None:
        return leaf.key
    with suppress(PkiError):  # which its certificate tells
        return key_kind(read_unverified_key(filesystem.read(project.store.home / leaf.request) or b"", leaf.request))
    return ""
