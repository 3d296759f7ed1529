"""TLS servers that behave in one way each."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from pki.config.model import Leaf
from pki.deploy.tls_client import Endpoint
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer

NAME = "grafana.lab.internal"
Behaviour = Callable[[ssl.SSLContext, socket.socket], None]


@dataclass(frozen=True)
class Pairs:
    """Files: the root that signed the server's pair and the client's, and a root that signed neither."""

    root: Path
    server: Path
    client: Path
    stranger: Path


def _leaf(kind: Literal["server", "client"]) -> Leaf:
    day = timedelta(days=1)
    return Leaf("x", kind, NAME, (NAME,), (), (), "ec-p256", True, 2 * day, day, None, "hosts")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    folder = tmp_path_factory.mktemp("pairs")
    dates = certificate_signing.validity_dates(datetime.now(UTC).replace(microsecond=0), timedelta(days=2), None)

    def authority(name: str) -> Issuer:
        key = keys.new_key("ec-p256")
        subject = certificate_signing.subject_name("Example Lab", name)
        return Issuer(
            certificate_signing.sign_certificate(subject, key.public_key(), dates, profiles.root_extensions(), key), key
        )

    ours, other = authority("Root 1"), authority("Other Root")
    kinds: tuple[Literal["server", "client"], ...] = ("server", "client")
    for kind in kinds:
        key, subject = keys.new_key("ec-p256"), certificate_signing.subject_name("Example Lab", NAME)
        certificate = certificate_signing.sign_certificate(
            subject, key.public_key(), dates, profiles.leaf_extensions(_leaf(kind), key.public_key()), ours
        )
        (folder / kind).write_bytes(keys.private_pem(key) + pem_encoding.pem_of([certificate]))
    (folder / "root").write_bytes(pem_encoding.pem_of([ours.certificate]))
    (folder / "stranger").write_bytes(pem_encoding.pem_of([other.certificate]))
    return Pairs(*(folder / name for name in ("root", "server", "client", "stranger")))


def says(status: str) -> Behaviour:
    """A server that finishes every handshake and answers with a status."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            if inside.recv(4096):
                inside.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return behave


def trusts(place: str, status: str = "200 OK") -> Behaviour:
    """A server that lets clients in whom a root signed: one of the files of `Pairs`."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(Path(place))
        says(status)(context, connection)

    return behave


def hangs_up(context: ssl.SSLContext, connection: socket.socket) -> None:
    """Without a word, once the handshake is done."""
    with context.wrap_socket(connection, server_side=True) as inside:
        inside.recv(4096)


def speaks_no_tls(_: ssl.SSLContext, connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")


def is_silent(_: ssl.SSLContext, connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(4096):
            pass


@contextmanager
def serving(pairs: Pairs, *behaviours: Behaviour) -> Iterator[Endpoint]:
    """A server that behaves so, connection by connection, and as the last one from then on; it keeps its sessions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pairs.server)
    left = list(behaviours)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                behave = left.pop(0) if len(left) > 1 else left[0]
                with suppress(OSError), connection:
                    behave(context, connection)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Endpoint("grafana", NAME, "127.0.0.1", listener.getsockname()[1], "mtls")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
