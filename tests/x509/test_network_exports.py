"""What is handed out for networks: the wireless one with EAP-TLS, and OpenVPN; and when nothing is."""

from __future__ import annotations

import configparser
import plistlib
import re
from base64 import b64decode
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.x509.export import mobileconfig, networkmanager, openvpn
from pki.x509.export.client_identity import ClientIdentity
from pki.x509.export.wifi import WirelessNetwork
from tests.support import judges
from tests.support.export_desk import Desk, desk
from tests.support.projects import Home

__all__ = ["desk"]

RADIUS = (
    "      wifi: {speaks: radius, access: mtls, names: [radius.lab.internal, 10.10.0.11, '*.radius.lab.internal']}\n"
)
VPN = "      vpn: {speaks: openvpn, access: mtls, names: vpn.lab.internal, port: 1195}\n"
SERVICES = "    services:\n      grafana:"


def declare(home: Home, *services: str) -> None:
    home.edit(SERVICES, f"    services:\n{''.join(services)}      grafana:")


def identity(home: Home, name: str = "admin") -> ClientIdentity:
    return ClientIdentity.read(
        name, "Example Lab", home.read("ca/clients/admin/tls.pem"), home.read("build/trust/roots.pem")
    )


def payloads(data: bytes) -> dict[str, dict[str, Any]]:
    """The only payload of each type."""
    content = plistlib.loads(data)["PayloadContent"]
    by_type = {payload["PayloadType"]: payload for payload in content}
    assert len(by_type) == len(content)
    return by_type


# -- Apple's profile --------------------------------------------------------------------------------------------------


def test_a_profile_of_a_network_pins_the_radius_server_by_name_and_root_and_uses_the_identity(desk: Desk) -> None:
    declare(desk.home, RADIUS)
    status, output = desk.export(
        "admin", "--wifi", "Lab 5 GHz", "--format", "mobileconfig", "--yes", "--passphrase-to", "pw"
    )
    assert status == 0, output
    parts = payloads((desk.here / "admin-lab-5-ghz.mobileconfig").read_bytes())
    wifi = parts["com.apple.wifi.managed"]
    assert (wifi["SSID_STR"], wifi["EncryptionType"], wifi["AutoJoin"]) == ("Lab 5 GHz", "WPA2", True)
    assert wifi["PayloadCertificateUUID"] == parts["com.apple.security.pkcs12"]["PayloadUUID"]
    eap = wifi["EAPClientConfiguration"]
    assert eap["AcceptEAPTypes"] == [13]
    assert eap["UserName"] == "admin"
    assert eap["TLSTrustedServerNames"] == ["radius.lab.internal"]
    assert eap["PayloadCertificateAnchorUUID"] == [parts["com.apple.security.root"]["PayloadUUID"]]


def test_profiles_of_two_networks_and_of_none_do_not_replace_each_other(home: Home) -> None:
    networks = [None, *(WirelessNetwork(ssid, ("radius.lab.internal",)) for ssid in ("office", "Office"))]
    profiles = [
        plistlib.loads(mobileconfig.with_identity(identity(home), "lab.internal", "abcd", one)) for one in networks
    ]
    assert len({profile["PayloadIdentifier"] for profile in profiles}) == 3
    every = [payload["PayloadUUID"] for profile in profiles for payload in profile["PayloadContent"]]
    assert len(every) == len(set(every))


# -- NetworkManager ---------------------------------------------------------------------------------------------------


def sections(data: bytes) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(data.decode())
    return parser


def inline(value: str) -> bytes:
    assert value.startswith("data:;base64,")
    return b64decode(value.removeprefix("data:;base64,"))


def test_a_connection_of_networkmanager_pins_the_radius_server_and_holds_the_identity(desk: Desk) -> None:
    declare(desk.home, RADIUS)
    status, output = desk.export("admin", "--wifi", "office", "--format", "networkmanager", "--yes")
    assert status == 0, output
    assert "is not encrypted" in output
    target = desk.here / "admin-office.nmconnection"
    assert target.stat().st_mode & 0o777 == 0o600
    parser = sections(target.read_bytes())
    eap = parser["802-1x"]
    assert (eap["eap"], eap["identity"], eap["domain-suffix-match"]) == ("tls;", "admin", "radius.lab.internal")
    assert parser["wifi"]["ssid"] == "office"
    assert parser["wifi-security"]["key-mgmt"] == "wpa-eap"
    bundle = desk.home.path / "ca/clients/admin/tls.pem"
    assert judges.certificates(inline(eap["client-cert"])) == judges.certificates(bundle.read_bytes())
    assert inline(eap["ca-cert"]) == desk.home.read("build/trust/roots.pem")
    key = serialization.load_pem_private_key(inline(eap["private-key"]), None)
    assert key.public_key() == judges.Identity.read(bundle).leaf.public_key()
    decisions = [(entry.decision, entry.detail.partition(" ")[2]) for entry in desk.home.project().ledger.decisions()]
    assert decisions == [("exported", "networkmanager")]


def test_of_two_roots_a_connection_has_the_oldest(home: Home) -> None:
    base = identity(home)
    old, new = base.roots[0], base.chain[0]
    both = ClientIdentity(base.name, base.organisation, base.key, base.certificate, base.chain, (new, old))
    data = networkmanager.connection(both, WirelessNetwork("office", ("radius.lab.internal",)), "lab.internal")
    assert x509.load_pem_x509_certificates(inline(sections(data)["802-1x"]["ca-cert"])) == [old]


@pytest.mark.parametrize("ssid", ["65;66;", " office", "a\\b", "café", "[x]"])
def test_a_name_that_could_be_read_as_another_one_is_written_as_bytes(home: Home, ssid: str) -> None:
    data = networkmanager.connection(identity(home), WirelessNetwork(ssid, ("a.b",)), "lab.internal")
    listed = sections(data)["wifi"]["ssid"].rstrip(";").split(";")
    assert bytes(map(int, listed)).decode() == ssid


def test_the_connection_of_a_renewed_certificate_replaces_the_one_before(home: Home) -> None:
    network, base = WirelessNetwork("office", ("a.b",)), identity(home)
    uuids = [
        sections(networkmanager.connection(identity(home, name), network, "lab.internal"))["connection"]["uuid"]
        for name in ("admin", "admin", "admin@laptop")
    ]
    assert uuids[0] == uuids[1] != uuids[2]
    assert base.name == "admin"


# -- OpenVPN ----------------------------------------------------------------------------------------------------------


def block(text: str, name: str) -> bytes:
    match = re.search(rf"<{name}>\n(.*?)</{name}>", text, re.DOTALL)
    assert match, name
    return match[1].encode()


def test_a_configuration_of_openvpn_names_the_server_and_pins_its_certificate(desk: Desk) -> None:
    declare(desk.home, VPN, RADIUS)
    status, output = desk.export("admin", "--openvpn", "--yes")
    assert status == 0, output
    target = desk.here / "admin-vpn.ovpn"
    assert target.stat().st_mode & 0o777 == 0o600
    text = target.read_text()
    lines = text.partition("<ca>")[0].splitlines()
    assert [line for line in lines if line.startswith("remote ")] == [
        "remote vpn.lab.internal 1195 udp",
        "remote 10.10.0.10 1195 udp",
    ]
    assert "remote-cert-tls server" in lines
    assert "verify-x509-name vpn.lab.internal name" in lines
    assert block(text, "ca") == desk.home.read("build/trust/roots.pem")
    bundle = judges.Identity.read(desk.home.path / "ca/clients/admin/tls.pem")
    assert judges.certificates(block(text, "cert")) == [bundle.leaf]
    assert judges.certificates(block(text, "extra-certs")) == [bundle.intermediate]
    assert serialization.load_pem_private_key(block(text, "key"), None).public_key() == bundle.leaf.public_key()
    assert [entry.detail.partition(" ")[2] for entry in desk.home.project().ledger.decisions()] == ["openvpn"]


def test_the_pinned_name_is_the_common_name_of_the_certificate_whatever_service_it_is_of(desk: Desk) -> None:
    """One certificate serves all services of a host with mutual TLS: its CN is the first name of the first service."""
    desk.home.edit("      loki:", f"{VPN}      loki:")
    assert desk.export("admin", "--openvpn", "--yes", "--output", "x.ovpn")[0] == 0
    text = (desk.here / "x.ovpn").read_text()
    assert desk.home.doit().status == 0
    served = judges.certificates(desk.home.read("build/certs/monitoring-mtls/tls.pem"))[0]
    assert "remote vpn.lab.internal 1195 udp\n" in text
    assert f"verify-x509-name {judges.common_name(served)} name\n" in text
    assert judges.common_name(served) == "grafana.lab.internal"


def test_an_address_of_ipv6_is_reached_over_udp6(home: Home) -> None:
    data = openvpn.configuration(identity(home), ["vpn.lab.internal", "fd00:10::1"], 1194, "vpn.lab.internal")
    assert b"remote fd00:10::1 1194 udp6\n" in data


# -- refusals ---------------------------------------------------------------------------------------------------------

LONG = f"{'a' * 55}.lab.internal"
REFUSED: dict[str, tuple[tuple[str, ...], list[str], str]] = {
    "no server of OpenVPN": ((RADIUS,), ["--openvpn"], "no service with speaks: openvpn and access: mtls"),
    "no RADIUS server": ((VPN,), ["--wifi", "x", "--format", "networkmanager"], "no service with speaks: radius"),
    "a server that asks for no certificate": (
        (VPN.replace("mtls", "tls"),),
        ["--openvpn"],
        "no service with speaks: openvpn and access: mtls",
    ),
    "two servers": (
        (VPN, "      spare: {speaks: openvpn, access: mtls}\n"),
        ["--openvpn"],
        "--server monitoring/vpn",
    ),
    "a service that is not one": (
        (VPN,),
        ["--openvpn", "--server", "monitoring/grafana"],
        "is one of: monitoring/vpn",
    ),
    "a service for nothing": ((VPN,), ["--format", "pem", "--server", "monitoring/vpn"], "only --wifi and --openvpn"),
    "two networks": ((VPN, RADIUS), ["--openvpn", "--wifi", "x"], "exclude each other"),
    "a format of OpenVPN": ((VPN,), ["--openvpn", "--format", "pem"], "leave out --format"),
    "a network without format": ((RADIUS,), ["--wifi", "x"], "--format mobileconfig"),
    "a network in a format without networks": (
        (RADIUS,),
        ["--wifi", "x", "--format", "p12"],
        "p12 describes no network",
    ),
    "a connection without network": ((RADIUS,), ["--format", "networkmanager"], "--wifi SSID"),
    "a name of a network that is too long": (
        (RADIUS,),
        ["--wifi", "é" * 17, "--format", "networkmanager"],
        "1 to 32 bytes",
    ),
    "a name of a network in two lines": ((RADIUS,), ["--wifi", "a\nb", "--format", "networkmanager"], "printable"),
    "a RADIUS server with addresses alone": (
        ("      wifi: {speaks: radius, access: mtls, names: [10.10.0.11, '*.radius.lab.internal']}\n",),
        ["--wifi", "x", "--format", "networkmanager"],
        "hosts.monitoring.services.wifi.names: has no DNS name",
    ),
    "a server without a common name": (
        (f"      vpn: {{speaks: openvpn, access: mtls, names: {LONG}}}\n",),
        ["--openvpn"],
        "has no common name",
    ),
    "a passphrase for an open file": ((VPN,), ["--openvpn", "--sheet", "s"], "openvpn: has no passphrase"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_exported_for_a_network(desk: Desk, case: str) -> None:
    services, arguments, reason = REFUSED[case]
    declare(desk.home, *services)
    status, output = desk.export("admin", *arguments, "--yes")
    assert (status, "Traceback" in output) == (1, False), output
    assert reason in output
    assert "→" in output
    assert desk.there == set()
    assert desk.home.project().ledger.decisions() == []


def test_of_two_servers_one_is_named(desk: Desk) -> None:
    declare(desk.home, VPN, "      spare: {speaks: openvpn, access: mtls, port: 1200}\n")
    assert desk.export("admin", "--openvpn", "--server", "monitoring/spare", "--yes", "--output", "x.ovpn")[0] == 0
    assert "remote spare.lab.internal 1200 udp\n" in (desk.here / "x.ovpn").read_text()


def test_a_name_of_a_network_may_have_32_bytes(desk: Desk) -> None:
    declare(desk.home, RADIUS)
    status, output = desk.export("admin", "--wifi", "é" * 16, "--format", "networkmanager", "--yes", "--output", "x")
    assert status == 0, output
    assert sections((desk.here / "x").read_bytes())["wifi"]["ssid"] == "195;169;" * 16
