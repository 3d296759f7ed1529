"""Exports for networks with the programs that read them: OpenVPN through a tunnel, FreeRADIUS and wpa_supplicant, nmcli, libplist."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, LiveHome, built, run

SERVER, TUNNEL = "10.77.9.1", "10.99.0.1"
SSID = "Lab 5 GHz; café"
RADIUS_SECRET = "only-between-these-two"
PROJECT = f"""organisation: Example Lab
domains: lab.internal
publish: {{url: "http://pki.lab.internal", host: gate}}
networks: {{lan: 10.77.9.0/24}}
sandbox: true
hosts:
  gate:
    network: lan
    address: {SERVER}
    services:
      vpn: {{speaks: openvpn, access: mtls}}
      wifi: {{speaks: radius, access: mtls, names: radius.lab.internal}}
clients: {{anna@laptop: {{email: anna@lab.internal}}, ben@phone: {{email: ben@lab.internal}}}}
templates: {{without: all}}
"""
CONFIGURATION = """\
dev tun
topology subnet
server 10.99.0.0 255.255.255.0
proto udp
ca {home}/build/trust/client-chain.pem
cert {home}/build/certs/gate-mtls/fullchain.pem
key {home}/build/certs/gate-mtls/key.pem
crl-verify {home}/build/crl/bundle-client.pem
dh none
remote-cert-tls client
verb 3
"""
FREERADIUS = """\
prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = {folder}
logdir = {folder}
run_dir = {folder}
log {{ destination = stdout }}
security {{ allow_vulnerable_openssl = yes }}
listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
    virtual_server = default
}}
client access-point {{
    ipaddr = 127.0.0.1
    secret = {secret}
}}
modules {{
    eap {{
        default_eap_type = tls
        tls-config common {{
            private_key_file = {home}/build/certs/gate-mtls/key.pem
            certificate_file = {home}/build/certs/gate-mtls/fullchain.pem
            ca_file = {folder}/clients.pem
            check_crl = yes
        }}
        tls {{
            tls = common
        }}
    }}
}}
server default {{
    authorize {{
        eap
    }}
    authenticate {{
        eap
    }}
}}
"""


@dataclass(frozen=True)
class Handed:
    """A project, and a folder for what it exports."""

    home: LiveHome
    folder: Path

    def export(self, client: str, file: str, *options: str) -> Path:
        target = self.folder / file
        self.home.invoke("client.export", client, *options, "--yes", "--output", str(target))
        return target


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Handed:
    folder = tmp_path_factory.mktemp("networks")
    home = LiveHome(folder / "home")
    home.write("pki.yaml", PROJECT)
    return Handed(built(home), folder)


@contextmanager
def started(log: Path, *command: str | Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program until the block ends, from the moment when its log has the text `ready`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
        )
    try:
        logged(log, ready, process)
        yield process
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def logged(log: Path, text: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a log has a text."""
    end = time.monotonic() + TIMEOUT
    while text not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        assert process is None or process.poll() is None, log.read_text()
        time.sleep(0.05)


# -- OpenVPN ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """Two machines in namespaces of their own, with an OpenVPN server on the first one."""

    client: str
    log: Path

    def command(self, configuration: Path) -> tuple[str | Path, ...]:
        return ("ip", "netns", "exec", self.client, "openvpn", "--config", configuration, "--verb", "3")


@pytest.fixture
def gate(handed: Handed, tmp_path: Path) -> Iterator[Gate]:
    server, client = (f"pki-{os.getpid()}-{name}" for name in ("gate", "laptop"))
    for name in (server, client):
        run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "eth0", "netns", server, "type", "veth", "peer", "name", "eth0", "netns", client)
        for name, address in ((server, SERVER), (client, "10.77.9.2")):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        (tmp_path / "server.conf").write_text(CONFIGURATION.format(home=handed.home.path))
        command = ("ip", "netns", "exec", server, "openvpn", "--config", tmp_path / "server.conf")
        with started(tmp_path / "server.log", *command, ready="Initialization Sequence Completed"):
            yield Gate(client, tmp_path / "server.log")
    finally:
        for name in (server, client):
            run("ip", "netns", "delete", name)


def test_openvpn_opens_a_tunnel_with_the_exported_file_alone_and_a_revoked_client_none(
    handed: Handed, gate: Gate, tmp_path: Path
) -> None:
    """The name of the server is known to no resolver here: the client goes on to its address."""
    anna, ben = (handed.export(name, f"{name}.ovpn", "--openvpn") for name in ("anna@laptop", "ben@phone"))
    for file in (anna, ben):
        with started(tmp_path / "log", *gate.command(file), ready="Initialization Sequence Completed"):
            assert "VERIFY X509NAME OK" in (tmp_path / "log").read_text()
            assert " 0% packet loss" in run("ip", "netns", "exec", gate.client, "ping", "-c", "1", TUNNEL)
    other = tmp_path / "other.ovpn"
    other.write_text(anna.read_text().replace("verify-x509-name vpn.", "verify-x509-name web."))
    with started(tmp_path / "log", *gate.command(other), ready="VERIFY X509NAME ERROR"):
        assert "Initialization Sequence Completed" not in (tmp_path / "log").read_text()

    handed.home.revoke("anna@laptop", "--reason", "key-compromise", "--yes")
    with started(tmp_path / "log", *gate.command(anna), ready="UDPv4 link remote"):
        logged(gate.log, "certificate revoked")
        assert "Initialization Sequence Completed" not in (tmp_path / "log").read_text()
    with started(tmp_path / "log", *gate.command(ben), ready="Initialization Sequence Completed"):
        pass


# -- wireless networks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Radius:
    """A RADIUS server, and what an access point asks it for the device with a connection of NetworkManager."""

    port: int
    folder: Path

    def admits(self, connection: Path, **changes: str) -> tuple[bool, str]:
        """Return whether wpa_supplicant and the server accept each other, and the log of wpa_supplicant."""
        file = self.folder / "device.conf"
        file.write_text(as_wpa_supplicant(connection, **changes))
        server = ("-a", "127.0.0.1", "-p", str(self.port), "-s", RADIUS_SECRET)
        output = run("eapol_test", "-c", file, *server, "-t", "30", ok=None)
        assert output.rstrip().endswith(("SUCCESS", "FAILURE")), output
        return output.rstrip().endswith("SUCCESS"), output


def as_wpa_supplicant(connection: Path, **changes: str) -> str:
    """Return a connection as NetworkManager passes it on: the files in it as blobs."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read(connection)
    eap = parser["802-1x"]
    files = {name.replace("-", "_"): eap[name].removeprefix("data:;base64,") for name in eap if "data:" in eap[name]}
    assert set(files) == {"ca_cert", "client_cert", "private_key"}
    texts = {"identity": eap["identity"], "domain_suffix_match": eap["domain-suffix-match"], **changes}
    quoted = texts | {name: f"blob://{name}" for name in files}
    network = "".join(f'    {name}="{text}"\n' for name, text in quoted.items())
    blobs = "".join(f"blob-base64-{name}={{\n{wrapped(text)}\n}}\n" for name, text in files.items())
    return f"network={{\n    key_mgmt=WPA-EAP\n    eap=TLS\n{network}}}\n{blobs}"


def wrapped(text: str) -> str:
    return "\n".join(text[start : start + 64] for start in range(0, len(text), 64))


@contextmanager
def radius(home: LiveHome) -> Iterator[Radius]:
    folder = Path(tempfile.mkdtemp(prefix="pki-radius-"))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (folder / "clients.pem").write_bytes(
            home.read("build/trust/client-chain.pem") + home.read("build/crl/bundle-client.pem")
        )
        text = FREERADIUS.format(folder=folder, home=home.path, port=port, secret=RADIUS_SECRET)
        (folder / "radiusd.conf").write_text(text)
        command = ("freeradius", "-d", folder, "-f", "-l", "stdout", "-x")
        with started(folder / "log", *command, ready="Ready to process requests"):
            yield Radius(port, folder)
    finally:
        shutil.rmtree(folder)


def test_a_device_joins_with_the_exported_connection_and_no_other_server_and_no_revoked_client_gets_in(
    handed: Handed,
) -> None:
    wifi = ("--wifi", SSID, "--format", "networkmanager")
    ben = handed.export("ben@phone", "ben.nmconnection", *wifi)
    with radius(handed.home) as server:
        assert server.admits(ben)[0]
        is_admitted, output = server.admits(ben, domain_suffix_match="web.lab.internal")
        assert not is_admitted
        assert "Domain suffix mismatch" in output
    handed.home.revoke("ben@phone", "--reason", "key-compromise", "--yes")
    new = handed.export("ben@phone", "ben-2.nmconnection", *wifi)
    with radius(handed.home) as server:
        assert not server.admits(ben)[0]
        assert "certificate revoked" in (server.folder / "log").read_text()
        assert server.admits(new)[0]


def test_nmcli_reads_the_exported_connection_as_it_was_meant(handed: Handed) -> None:
    file = handed.export("ben@phone", "read.nmconnection", "--wifi", SSID, "--format", "networkmanager")
    assert file.stat().st_mode & 0o777 == 0o600
    text = run("nmcli", "--offline", "connection", "modify", "ipv6.method", "disabled", stdin=file.read_text())
    before, after = (configparser.ConfigParser(interpolation=None, delimiters=("=",)) for _ in range(2))
    before.read(file)
    after.read_string(text)
    assert dict(after["802-1x"]) == dict(before["802-1x"])
    assert after["wifi"]["ssid"] == before["wifi"]["ssid"] == "".join(f"{byte};" for byte in SSID.encode())
    assert after["ipv6"]["method"] == "disabled"


def test_libplist_reads_a_profile_with_a_network_whose_parts_refer_to_each_other(handed: Handed) -> None:
    secret = ("--passphrase-to", str(handed.folder / "pw"))
    file = handed.export("ben@phone", "ben.mobileconfig", "--wifi", SSID, "--format", "mobileconfig", *secret)
    text = run("plistutil", "-i", file, "-f", "xml")
    content = plistlib.loads(text[text.index("<?xml") :].encode())["PayloadContent"]
    parts = {payload["PayloadType"]: payload for payload in content}
    wifi, bundle, root = (parts[f"com.apple.{name}"] for name in ("wifi.managed", "security.pkcs12", "security.root"))
    assert wifi["SSID_STR"] == SSID
    assert wifi["PayloadCertificateUUID"] == bundle["PayloadUUID"]
    assert wifi["EAPClientConfiguration"]["PayloadCertificateAnchorUUID"] == [root["PayloadUUID"]]
    assert wifi["EAPClientConfiguration"]["TLSTrustedServerNames"] == ["radius.lab.internal"]
