"""Connections of NetworkManager with EAP-TLS, as one file.

https://networkmanager.dev/docs/api/latest/nm-settings-keyfile.html
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from uuid import NAMESPACE_DNS, uuid5

from pki.x509.export.client_identity import ClientIdentity
from pki.x509.export.wifi import WirelessNetwork
from pki.x509.keys import private_pem
from pki.x509.pem_encoding import pem_of

PLAIN_SSID = re.compile(r"[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*")
NOT_REQUIRED = 4  # NM_SETTING_SECRET_FLAG_NOT_REQUIRED: the key is not encrypted


def connection(identity: ClientIdentity, network: WirelessNetwork, domain: str) -> bytes:
    """Return the connection of one client with a wireless network; the key in it is not encrypted.

    `domain` is the first domain of the project: the UUID is computed from names only, so that a renewed connection
    replaces the earlier one. Of several roots, the oldest is in it: wpa_supplicant reads only one from a file like
    this, and the chain of each server leads to the oldest root until that root is retired.
    """
    sections: dict[str, dict[str, str]] = {
        "connection": {
            "id": _escaped(network.ssid),
            "uuid": str(uuid5(NAMESPACE_DNS, f"wifi {network.ssid} {identity.name} {domain}")),
            "type": "wifi",
        },
        "wifi": {"mode": "infrastructure", "ssid": _ssid(network.ssid)},
        "wifi-security": {"key-mgmt": "wpa-eap"},
        "802-1x": {
            "eap": "tls;",
            "identity": identity.name,
            "ca-cert": _inline(pem_of(identity.roots[-1:])),
            "domain-suffix-match": ";".join(network.server_names),
            "client-cert": _inline(pem_of([identity.certificate, *identity.chain])),
            "private-key": _inline(private_pem(identity.key)),
            "private-key-password-flags": str(NOT_REQUIRED),
        },
        "ipv4": {"method": "auto"},
        "ipv6": {"method": "auto"},
    }
    return "\n".join(_section(name, values) for name, values in sections.items()).encode()


def _section(name: str, values: Mapping[str, str]) -> str:
    return "".join([f"[{name}]\n", *(f"{key}={value}\n" for key, value in values.items())])


def _inline(pem: bytes) -> str:
    return f"data:;base64,{b64encode(pem).decode()}"


def _escaped(text: str) -> str:
    r"""Return a text as a value of GLib's key files, in which `\` begins an escape and blanks at the start are skipped."""
    escaped_text = text.replace("\\", "\\\\")
    return "\\s" * (len(escaped_text) - len(escaped_text.lstrip(" "))) + escaped_text.lstrip(" ")


def _ssid(ssid: str) -> str:
    """Return the SSID as text, or as a list of bytes if NetworkManager could read the text as another SSID."""
    return ssid if PLAIN_SSID.fullmatch(ssid) else "".join(f"{byte};" for byte in ssid.encode())
