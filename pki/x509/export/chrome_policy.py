"""A managed policy for Chrome, Chromium and Edge: the client certificate for each service, and constrained roots.

https://chromeenterprise.google/policies/#AutoSelectCertificateForUrls and #CACertificatesWithConstraints (version 132 and newer).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.config.ip_addresses import IpNetwork, url_host
from pki.x509.certificate_names import common_name

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
    networks: Sequence[IpNetwork],
) -> bytes:
    """Return the JSON file of the policy.

    `services` are DNS names that require mutual TLS. `clients` are the certificates of the client CAs. The browser
    trusts `roots` only for names in `domains` and addresses in `networks`.
    """
    choices = [
        {"pattern": _pattern(name), "filter": {"ISSUER": {"CN": common_name(ca.subject)}}}
        for name in services
        for ca in clients
    ]
    within = {"permitted_dns_names": list(domains), "permitted_cidrs": [str(network) for network in networks]}
    trusted_roots = [{"certificate": _base64(root), "constraints": within} for root in roots]
    # the policy is a list of strings, each with JSON
    policies = {
        "AutoSelectCertificateForUrls": [json.dumps(choice) for choice in choices],
        "CACertificatesWithConstraints": trusted_roots,
    }
    return f"{json.dumps(policies, indent=2)}\n".encode()


def _pattern(name: str) -> str:
    """Return the URL pattern of a name, on any port; Chrome writes a wildcard as `[*.]`."""
    return f"https://{url_host(name).replace('*.', '[*.]')}"


def _base64(certificate: x509.Certificate) -> str:
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()
