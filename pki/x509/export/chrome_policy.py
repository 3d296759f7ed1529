"""A managed policy for Chrome, Chromium and Edge: which certificate to present where, and whom to trust for what.

https://chromeenterprise.google/policies/#AutoSelectCertificateForUrls and #CACertificatesWithConstraints, from 132 on.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from ipaddress import IPv4Network

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.export.client_identity import common_name

PLACES: tuple[tuple[str, ...], ...] = (
    ("Linux: Chromium", "/etc/chromium/policies/managed/"),
    ("Linux: Chrome", "/etc/opt/chrome/policies/managed/"),
    ("Linux: Edge", "/etc/opt/edge/policies/managed/"),
    ("Windows: Chrome", "values below HKLM\\SOFTWARE\\Policies\\Google\\Chrome, by group policy"),
    ("macOS: Chrome", "keys of the domain com.google.Chrome in a configuration profile"),
)


def policy(
    services: Sequence[str],
    clients: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    domains: Sequence[str],
    networks: Sequence[IPv4Network],
) -> bytes:
    """What belongs into a file of managed policies.

    `services` are names behind mutual TLS; `clients` the client authorities, of which any may have issued what is
    installed; `roots` are trusted for these `domains` and `networks` alone.
    """
    choices = [
        {"pattern": _pattern(name), "filter": {"ISSUER": {"CN": common_name(ca)}}}
        for name in services
        for ca in clients
    ]
    within = {"permitted_dns_names": list(domains), "permitted_cidrs": [str(network) for network in networks]}
    trusted = [{"certificate": _base64(root), "constraints": within} for root in roots]
    # each choice is text that holds JSON
    said = {
        "AutoSelectCertificateForUrls": [json.dumps(choice) for choice in choices],
        "CACertificatesWithConstraints": trusted,
    }
    return f"{json.dumps(said, indent=2)}\n".encode()


def _pattern(name: str) -> str:
    """A name as a pattern of content settings, on any port: `[*.]` stands for a wildcard."""
    return f"https://{name.replace('*.', '[*.]')}"


def _base64(certificate: x509.Certificate) -> str:
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()
