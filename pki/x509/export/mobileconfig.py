"""Apple configuration profiles: iPhone, iPad and Mac install what is in one after a few taps.

A newer profile replaces the one with the same identifier, so identifiers follow from names alone:
https://support.apple.com/guide/deployment/intro-to-device-management-profiles-depc0aadd3fe/web
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.export import pkcs12
from pki.x509.export.client_identity import Identity, common_name, file_name


def with_identity(identity: Identity, domain: str, passphrase: str) -> bytes:
    """The roots and one client's identity; the passphrase is not in it, so the device asks for it.

    `domain` is the project's first one: identifiers are made of it.
    """
    bundle = {
        "PayloadType": "com.apple.security.pkcs12",
        "PayloadCertificateFileName": f"{identity.file_name}.p12",
        "PayloadContent": pkcs12.legacy(identity, passphrase, with_roots=False),
        "PayloadDisplayName": identity.label,
        "PayloadDescription": f"The key and certificate with which this device shows that it belongs to {identity.name}.",
    }
    client = f"client.{uuid5(NAMESPACE_DNS, identity.name)}"  # admin@laptop and admin-laptop are two
    payloads = [*_roots(identity.organisation, identity.roots), ("identity", bundle)]
    return _profile(
        identity.organisation,
        domain,
        client,
        f"{identity.organisation}: {identity.name}",
        f"Opens the internal services of {identity.organisation} on this device, as {identity.name}. "
        "Take the profile away, and the key goes with it.",
        payloads,
    )


def trust_only(organisation: str, domain: str, roots: Sequence[x509.Certificate]) -> bytes:
    """The roots alone: the device then trusts the project's services, and can show no identity of its own."""
    return _profile(
        organisation,
        domain,
        "trust",
        f"{organisation}: trust",
        f"Lets this device recognise the internal services of {organisation}. It holds no key and no password.",
        _roots(organisation, roots),
    )


def _roots(organisation: str, roots: Sequence[x509.Certificate]) -> list[tuple[str, dict[str, Any]]]:
    """One payload for each root, named after its fingerprint: a new root stands beside the old one."""
    return [
        (
            f"root.{root.fingerprint(hashes.SHA256()).hex()[:16]}",
            {
                "PayloadType": "com.apple.security.root",
                "PayloadCertificateFileName": f"{file_name(common_name(root))}.cer",
                "PayloadContent": root.public_bytes(Encoding.DER),
                "PayloadDisplayName": common_name(root),
                "PayloadDescription": f"The certificate authority by which this device recognises services of {organisation}.",
            },
        )
        for root in roots
    ]


def _profile(
    organisation: str, domain: str, name: str, title: str, text: str, payloads: Sequence[tuple[str, dict[str, Any]]]
) -> bytes:
    identifier = f"{'.'.join(reversed(domain.split('.')))}.doit-pki.{name}"
    content = [payload | _identified(f"{identifier}.{part}", organisation) for part, payload in payloads]
    profile = {
        "PayloadType": "Configuration",
        "PayloadScope": "User",
        "PayloadDisplayName": title,
        "PayloadDescription": text,
        "PayloadRemovalDisallowed": False,
        "PayloadContent": content,
    }
    return plistlib.dumps(profile | _identified(identifier, organisation))


def _identified(identifier: str, organisation: str) -> dict[str, Any]:
    return {
        "PayloadIdentifier": identifier,
        "PayloadUUID": str(uuid5(NAMESPACE_DNS, identifier)).upper(),
        "PayloadOrganization": organisation,
        "PayloadVersion": 1,
    }
