"""Apple configuration profiles for iPhone, iPad and Mac.

A profile replaces the installed one with the same identifier, so identifiers are computed from names only:
https://support.apple.com/guide/deployment/intro-to-device-management-profiles-depc0aadd3fe/web
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.canonical import fingerprint
from pki.x509.certificate_names import common_name
from pki.x509.export import pkcs12
from pki.x509.export.client_identity import ClientIdentity, file_name
from pki.x509.export.wifi import WirelessNetwork

EAP_TLS = 13  # the number of the method at IANA
Payload = tuple[str, dict[str, Any]]  # the last part of its identifier, and its content


def with_identity(
    identity: ClientIdentity, domain: str, passphrase: str, network: WirelessNetwork | None = None
) -> bytes:
    """Return a profile with the roots and one client's identity. The device asks for the passphrase.

    `domain` is the first domain of the project, the prefix of the profile's identifiers. With a network, the device joins
    it with this identity. The profile of a network is another one than that of the identity alone.
    """
    bundle = {
        "PayloadType": "com.apple.security.pkcs12",
        "PayloadCertificateFileName": f"{identity.file_name}.p12",
        "PayloadContent": pkcs12.legacy(identity, passphrase, with_roots=False),
        "PayloadDisplayName": identity.label,
        "PayloadDescription": f"The key and certificate with which this device shows that it belongs to {identity.name}.",
    }
    client = f"client.{uuid5(NAMESPACE_DNS, identity.name)}"  # a UUID, because admin@laptop and admin-laptop are different clients
    payloads = [*_roots(identity.organisation, identity.roots), ("identity", bundle)]
    title, purpose = (
        f"{identity.organisation}: {identity.name}",
        f"Opens the internal services of {identity.organisation}",
    )
    if network is not None:
        client = f"{client}.wifi.{uuid5(NAMESPACE_DNS, network.ssid)}"
        payloads.append(("wifi", _wifi(identity, network, _identifier(domain, client))))
        title, purpose = f"{title}, {network.ssid}", f"Joins the network {network.ssid} of {identity.organisation}"
    text = f"{purpose} on this device, as {identity.name}. Removing the profile removes the key too."
    return _profile(identity.organisation, domain, client, title, text, payloads)


def trust_only(organisation: str, domain: str, roots: Sequence[x509.Certificate]) -> bytes:
    """Return a profile with the roots only: the device trusts the services, and has no client certificate."""
    return _profile(
        organisation,
        domain,
        "trust",
        f"{organisation}: trust",
        f"Lets this device recognise the internal services of {organisation}. It holds no key and no password.",
        _roots(organisation, roots),
    )


def _wifi(identity: ClientIdentity, network: WirelessNetwork, identifier: str) -> dict[str, Any]:
    """Return the payload of a network. It refers to the other payloads of the profile by their UUIDs.

    https://developer.apple.com/documentation/devicemanagement/wifi
    """
    return {
        "PayloadType": "com.apple.wifi.managed",
        "PayloadDisplayName": network.ssid,
        "PayloadDescription": f"The wireless network {network.ssid}.",
        "SSID_STR": network.ssid,
        "HIDDEN_NETWORK": False,
        "AutoJoin": True,
        "EncryptionType": "WPA2",
        "PayloadCertificateUUID": _uuid(f"{identifier}.identity"),
        "EAPClientConfiguration": {
            "AcceptEAPTypes": [EAP_TLS],
            "UserName": identity.name,
            "TLSCertificateIsRequired": True,
            "TLSMinimumVersion": "1.2",
            # Both: a device that trusts every certificate of a root would accept any server of the project as the RADIUS server.
            "TLSTrustedServerNames": list(network.server_names),
            "PayloadCertificateAnchorUUID": [_uuid(f"{identifier}.{_root_part(root)}") for root in identity.roots],
        },
    }


def _root_part(root: x509.Certificate) -> str:
    """Return the last part of the identifier of a root's payload; it has the fingerprint, so roots are independent."""
    return f"root.{fingerprint(root)[:16]}"


def _roots(organisation: str, roots: Sequence[x509.Certificate]) -> list[Payload]:
    """Return a payload for each root."""
    return [
        (
            _root_part(root),
            {
                "PayloadType": "com.apple.security.root",
                "PayloadCertificateFileName": f"{file_name(common_name(root.subject))}.cer",
                "PayloadContent": root.public_bytes(Encoding.DER),
                "PayloadDisplayName": common_name(root.subject),
                "PayloadDescription": f"The certificate authority by which this device recognises services of {organisation}.",
            },
        )
        for root in roots
    ]


def _identifier(domain: str, name: str) -> str:
    return f"{'.'.join(reversed(domain.split('.')))}.doit-pki.{name}"


def _uuid(identifier: str) -> str:
    return str(uuid5(NAMESPACE_DNS, identifier)).upper()


def _profile(organisation: str, domain: str, name: str, title: str, text: str, payloads: Sequence[Payload]) -> bytes:
    """Return a configuration profile as a property list."""
    identifier = _identifier(domain, name)
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
    """Return the keys that every payload has. The UUID follows from the identifier."""
    return {
        "PayloadIdentifier": identifier,
        "PayloadUUID": _uuid(identifier),
        "PayloadOrganization": organisation,
        "PayloadVersion": 1,
    }
