"""Leaves with one address each, below intermediates that permit different networks, and the programs that judge them."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from pki.config.model import Leaf
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from tests.integration.conftest import now, run
from tests.integration.gnutls_judge import USAGE
from tests.integration.proxies import free_port, listens, wait_until

PERMITTED = {  # what an intermediate permits
    "v4": ("10.0.0.0/8",),
    "v6": ("fc00::/7",),
    "both": ("10.0.0.0/8", "fc00::/7"),
    "none": (),
    "two-v6": ("fd00:10::/32", "2001:db8::/32"),
}
ADDRESSES = ("10.1.2.3", "11.0.0.1", "fd00:10::1", "fe80:1::1", "2001:db8::1")
JAVA = Path(__file__).parent / "NamesPermitted.java"


@dataclass(frozen=True)
class Case:
    """One leaf and its chain in files, and whether its intermediate permits its address."""

    permitted: str
    address: str
    folder: Path

    @property
    def is_permitted(self) -> bool:
        return any(ip_address(self.address) in ip_network(block) for block in PERMITTED[self.permitted])

    @property
    def name(self) -> str:
        return f"{self.permitted}-{self.address.replace(':', '_')}"

    def file(self, kind: str) -> Path:
        return self.folder / f"{self.name}.{kind}"


def write_cases(folder: Path) -> list[Case]:
    """Sign everything below one root: `root.pem`, and for each case its leaf, chain and key."""
    dates = certificate_signing.validity_dates(now(), timedelta(days=2), None)
    subject, key = certificate_signing.subject_name("Example Lab", "Root 1"), keys.new_key("ec-p256")
    root_certificate = certificate_signing.sign_certificate(
        subject, key.public_key(), dates, profiles.root_extensions(), key
    )
    root = Issuer(root_certificate, key)
    (folder / "root.pem").write_bytes(pem_encoding.pem_of([root_certificate]))
    return [
        case
        for permitted in PERMITTED
        for issuer in [_intermediate(root, permitted, dates)]
        for address in ADDRESSES
        for case in [_leaf(Case(permitted, address, folder), issuer, dates)]
    ]


def _intermediate(root: Issuer, permitted: str, dates: Any) -> Issuer:
    key, subject = keys.new_key("ec-p256"), certificate_signing.subject_name("Example Lab", f"Server {permitted}")
    blocks = tuple(map(ip_network, PERMITTED[permitted]))
    extensions = profiles.intermediate_extensions("server", ("lab.internal",), blocks)
    return Issuer(certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, root), key)


def _leaf(case: Case, issuer: Issuer, dates: Any) -> Case:
    key, day = keys.new_key("ec-p256"), timedelta(days=1)
    names = ("web.lab.internal",), (case.address,), ()
    leaf = Leaf("web", "server", "web.lab.internal", *names, "ec-p256", True, day, day, None, "hosts")
    certificate = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Example Lab", "web.lab.internal"),
        key.public_key(),
        dates,
        profiles.leaf_extensions(leaf, key.public_key()),
        issuer,
    )
    case.file("cert").write_bytes(pem_encoding.pem_of([certificate]))
    case.file("ca").write_bytes(pem_encoding.pem_of([issuer.certificate]))
    case.file("chain").write_bytes(pem_encoding.pem_of([certificate, issuer.certificate]))
    case.file("tls").write_bytes(keys.private_pem(key) + case.file("chain").read_bytes())
    return case


# -- judges: case → whether it is accepted ------------------------------------------------------------------------------


def openssl(cases: Sequence[Case], root: Path) -> Mapping[Case, bool]:
    """`openssl verify` at its strictest."""
    command = ("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore")
    return {
        case: ": OK" in run(*command, "-CAfile", root, "-untrusted", case.file("ca"), case.file("cert"), ok=None)
        for case in cases
    }


def gnutls(cases: Sequence[Case], root: Path) -> Mapping[Case, bool]:
    """`certtool --verify`."""
    command = ("certtool", "--verify", "--verify-purpose", USAGE["sslserver"], "--load-ca-certificate", root)
    return {
        case: "Chain verification output: Verified." in run(*command, "--infile", case.file("chain"), ok=None)
        for case in cases
    }


def java(cases: Sequence[Case], root: Path) -> Mapping[Case, bool]:
    """The trust manager that every Java client has."""
    verdicts = run("java", JAVA, root, *(case.file("chain") for case in cases)).split()
    return {case: verdict == "permitted" for case, verdict in zip(cases, verdicts, strict=True)}


def nss(cases: Sequence[Case], root: Path) -> Mapping[Case, bool]:
    """`certutil -V`, as Firefox."""
    database, verdicts = root.parent / "nss", dict[Case, bool]()
    database.mkdir()
    run("certutil", "-N", "-d", database, "--empty-password")
    run("certutil", "-A", "-d", database, "-n", "root", "-t", "CT,,", "-i", root)
    for case in cases:
        for kind in ("ca", "cert"):
            run("certutil", "-A", "-d", database, "-n", f"{case.name}.{kind}", "-t", ",,", "-i", case.file(kind))
        said = run("certutil", "-V", "-e", "-d", database, "-n", f"{case.name}.cert", "-u", "V", ok=None)
        verdicts[case] = "certificate is valid" in said
    return verdicts


def go(cases: Sequence[Case], root: Path) -> Mapping[Case, bool]:
    """Caddy as a client of servers with these leaves: it answers 502 for one that it does not accept."""
    with ExitStack() as stack:
        door = free_port()
        routes = "".join(
            f" handle /{case.name} {{\n reverse_proxy https://127.0.0.1:{stack.enter_context(_server(case))} {{\n"
            f" transport http {{\n tls_trusted_ca_certs {root}\n tls_server_name web.lab.internal\n }}\n }}\n }}\n"
            for case in cases
        )
        file = root.parent / "Caddyfile"
        file.write_text(f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{door} {{\n{routes}}}\n")
        homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(root.parent))
        caddy = subprocess.Popen(
            ["caddy", "run", "--adapter", "caddyfile", "--config", file],
            env={**os.environ, **homes},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(caddy.wait)
        stack.callback(caddy.terminate)
        wait_until(lambda: listens(door), "Caddy answers")
        return {case: _status(door, f"/{case.name}") == 200 for case in cases}


@contextmanager
def _server(case: Case) -> Iterator[int]:
    """An https server with the leaf of a case, at the port that is yielded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(case.file("tls"))
    with _QuietServer(("127.0.0.1", 0), _Ok) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that refuses the certificate."""


class _Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _status(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    return connection.getresponse().status
