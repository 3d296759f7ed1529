"""A server with an ML-DSA-65 certificate: OpenSSL 4 serves and verifies it, older programs do not, and doit says so."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from pki.deploy import tls_client
from tests.integration.conftest import LiveHome, built, live_home, run

NAME = "vault.lab.internal"
OID = "2.16.840.1.101.3.4.3.18"  # id-ml-dsa-65, RFC 9881 §2
HOST = """\
  vault:
    network: loopback
    address: 127.0.0.1
    deliver: none
    probe: direct
    key: ml-dsa-65
    services:
      vault: {{access: tls, speaks: tls, port: {port}}}
"""


@contextmanager
def served(bundle: Path, listener: socket.socket) -> Iterator[None]:
    """A TLS server of OpenSSL 3.5 or newer, the one in the package `cryptography`, with the files of a leaf."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(bundle))
    context.use_privatekey_file(str(bundle))
    context.check_privatekey()

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with accepted, suppress(SSL.Error, OSError):
                connection = SSL.Connection(context, accepted)
                connection.set_accept_state()
                connection.do_handshake()
                connection.sendall(b"hello")
                connection.shutdown()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveHome, int]]:
    """A project with such a server, which runs at a port of the loopback interface."""
    home = live_home(tmp_path_factory.mktemp("ml-dsa") / "home")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        home.edit("networks: {", "networks: {loopback: 127.0.0.0/8, ")
        home.edit("\nclients:\n", f"\n{HOST.format(port=port)}clients:\n")
        built(home)
        with served(home.path / "build/certs/vault/tls.pem", listener):
            yield home, port


def connected(root: Path, port: int) -> tuple[x509.Certificate, str]:
    """The certificate of the server and the TLS version, as OpenSSL verifies the chain and the name."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(root))
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.settimeout(None)
        connection = SSL.Connection(context, plain)
        connection.set_verify(SSL.VERIFY_PEER)
        connection.set_tlsext_host_name(NAME.encode())
        connection.set_connect_state()
        connection.do_handshake()
        assert connection.recv(5) == b"hello"
        certificate = connection.get_peer_certificate()
        assert certificate is not None
        return certificate.to_cryptography(), connection.get_protocol_version_name()


def test_openssl_serves_and_verifies_the_certificate(vault: tuple[LiveHome, int]) -> None:
    home, port = vault
    certificate, version = connected(home.path / "build/trust/roots.pem", port)
    assert version == "TLSv1.3"
    assert certificate.public_key_algorithm_oid.dotted_string == OID
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [NAME]
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        connected(home.path / "build/certs/media/chain.pem", port)


def test_the_openssl_command_sees_the_algorithm_without_parameters(vault: tuple[LiveHome, int]) -> None:
    home, _ = vault
    lines = run("openssl", "asn1parse", "-in", home.path / "build/certs/vault/cert.pem").splitlines()
    [line] = [number for number, text in enumerate(lines) if text.endswith((f":{OID}", ":ML-DSA-65"))]
    assert "l=  11 cons: SEQUENCE" in lines[line - 1]  # the OID alone
    assert "BIT STRING" in lines[line + 1]


def test_doit_names_the_programs_once_and_calls_nothing_verified_that_it_cannot_read(
    vault: tuple[LiveHome, int],
) -> None:
    """Only the TLS library of Python decides whether the service is verified; an old one gives no false alarm."""
    home, _ = vault
    text = "cannot use the ml-dsa-65 key of vault"
    plan = home.invoke("plan")
    assert " ".join(plan.split()).count(text) == 1, plan
    health = subprocess.run(
        [sys.executable, "-m", "invoke", "health"],
        cwd=Path(__file__).parents[2],
        env=home.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = " ".join(health.stdout.split())
    unreadable = f"its key is ml-dsa-65, which OpenSSL 3.5 or newer reads; here: {ssl.OPENSSL_VERSION}"
    assert (unreadable in shown) != tls_client.READS_ML_DSA, health.stdout
    assert "critical" not in shown
    status = " ".join(home.invoke("status").split())
    assert (f"service:vault/vault unknown not verifiable from here: {unreadable}" in status) != tls_client.READS_ML_DSA
