"""The options --wifi, --openvpn and --server of client.export: which network an export is for."""

from __future__ import annotations

from typing import NamedTuple

from pki.common.errors import PkiError
from pki.config.model import Inventory
from pki.config.network_servers import NetworkServer, find_server
from pki.x509.export import networkmanager, openvpn
from pki.x509.export.client_identity import ClientIdentity
from pki.x509.export.wifi import WirelessNetwork, check_ssid

WIFI_FORMATS = ("mobileconfig", "networkmanager")
OPENVPN = "openvpn"  # the format of --openvpn, as the ledger names it
SUFFIXES = {"networkmanager": "nmconnection", OPENVPN: "ovpn"}  # of files with an unencrypted key
WHERE_TO_PUT = {
    "networkmanager": "/etc/NetworkManager/system-connections/ of the device, owned by root; then: nmcli connection reload",
    OPENVPN: "/etc/openvpn/client/NAME.conf of the device, owned by root; or import it into an OpenVPN app",
}


class NetworkRequest(NamedTuple):
    """The format of an export, and the network that it is for: `wifi`, or the server of OpenVPN in `vpn`, or neither."""

    format: str
    wifi: WirelessNetwork | None = None
    vpn: NetworkServer | None = None

    @property
    def label(self) -> str:
        """Return the network as part of a file name, "" without one."""
        if self.wifi is not None:
            return self.wifi.ssid
        return "vpn" if self.vpn else ""

    def open_file(self, identity: ClientIdentity, domain: str) -> bytes:
        """Return the content of a file of one of `SUFFIXES`."""
        if self.wifi is not None:
            return networkmanager.connection(identity, self.wifi, domain)
        assert self.vpn is not None, "only formats of networks have an open file"
        return openvpn.configuration(
            identity, (*self.vpn.dns[:1], *self.vpn.addresses), self.vpn.port, self.vpn.common_name
        )


def requested_network(inventory: Inventory, kind: str, wifi: str, server: str, *, with_openvpn: bool) -> NetworkRequest:
    """Return the network that the options ask for. Raises PkiError if they exclude each other, or no server is declared."""
    if wifi and with_openvpn:
        raise PkiError("--wifi and --openvpn exclude each other", "export two files, one after the other")
    if with_openvpn:
        if kind:
            raise PkiError("--openvpn: has a format of its own, a file .ovpn", "leave out --format")
        vpn = find_server(inventory, "openvpn", server)
        if not vpn.common_name:
            text = f"{vpn.place}: its certificate has no common name, by which OpenVPN recognises the server"
            raise PkiError(text, "write a first name of at most 64 characters in pki.yaml")
        return NetworkRequest(OPENVPN, vpn=vpn)
    if wifi:
        if kind not in WIFI_FORMATS:
            raise PkiError(
                f"--wifi: {f'{kind} describes no network' if kind else '--format is missing'}",
                "--format mobileconfig (iPhone, iPad, Mac), or networkmanager (Linux)",
            )
        names = find_server(inventory, "radius", server).dns
        return NetworkRequest(kind, wifi=WirelessNetwork(check_ssid(wifi), names))
    if kind == "networkmanager":
        raise PkiError("networkmanager: no network is named", "--wifi SSID, with the name of the network")
    if server:
        raise PkiError("--server: only --wifi and --openvpn use it", "leave it out")
    return NetworkRequest(kind)
