"""A wireless network with EAP-TLS (IEEE 802.1X, RFC 5216), as devices are configured for it: its name, and its RADIUS server."""

from __future__ import annotations

from dataclasses import dataclass

from pki.common.errors import PkiError

MAX_SSID_BYTES = 32  # IEEE 802.11


@dataclass(frozen=True, slots=True)
class WirelessNetwork:
    """The name of a network (SSID), and the DNS names of its RADIUS server, which devices demand in its certificate."""

    ssid: str
    server_names: tuple[str, ...]


def check_ssid(ssid: str) -> str:
    """Return the name of a network. Raises PkiError if no network can have it."""
    if not ssid.isprintable() or len(ssid.encode()) > MAX_SSID_BYTES or not ssid.strip():
        raise PkiError(
            f"--wifi {ssid!r}: is no name of a network (SSID)",
            f"expected 1 to {MAX_SSID_BYTES} bytes of printable text",
        )
    return ssid
