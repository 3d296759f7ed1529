"""Policies for Firefox: the roots, and that it need not ask which certificate to present.

Firefox cannot be told by site: https://firefox-admin-docs.mozilla.org/reference/policies/certificates/ and …/preferences/
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.export.client_identity import common_name, file_name

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
    """policies.json and the roots that it names, by file name: Firefox looks for them in folders of its own."""
    named = {f"{file_name(common_name(root))}.pem": root.public_bytes(Encoding.PEM) for root in roots}
    said = {
        "Certificates": {"ImportEnterpriseRoots": True, "Install": list(named)},
        "Preferences": {"security.default_personal_cert": {"Value": "Select Automatically", "Status": "default"}},
    }
    return {POLICIES: f"{json.dumps({'policies': said}, indent=2)}\n".encode(), **named}
