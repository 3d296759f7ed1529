"""Policies for Firefox: the roots to trust, and automatic selection of the client certificate.

Firefox has no setting for each site: https://firefox-admin-docs.mozilla.org/reference/policies/certificates/ and …/preferences/
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.certificate_names import common_name
from pki.x509.export.client_identity import file_name

POLICIES = "policies.json"
PLACES: tuple[tuple[str, ...], ...] = (
    ("Linux", f"/etc/firefox/policies/{POLICIES}", "/usr/lib/mozilla/certificates/"),
    ("Windows", f"distribution\\{POLICIES} beside firefox.exe", "%APPDATA%\\Mozilla\\Certificates\\"),
    (
        "macOS",
        f"Firefox.app/Contents/Resources/distribution/{POLICIES}",
        "/Library/Application Support/Mozilla/Certificates/",
    ),
)


def files(roots: Sequence[x509.Certificate]) -> dict[str, bytes]:
    """Return policies.json and the root certificates that it names, by file name. PLACES lists their folders."""
    root_files = {f"{file_name(common_name(root.subject))}.pem": root.public_bytes(Encoding.PEM) for root in roots}
    policies = {
        "Certificates": {"ImportEnterpriseRoots": True, "Install": list(root_files)},
        "Preferences": {"security.default_personal_cert": {"Value": "Select Automatically", "Status": "default"}},
    }
    return {POLICIES: f"{json.dumps({'policies': policies}, indent=2)}\n".encode(), **root_files}
