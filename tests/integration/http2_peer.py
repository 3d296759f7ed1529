"""HTTP/2 without a browser, as server and as client: run by the environment `.venv-proxies`, which has the package h2.

serve PORT             cleartext HTTP/2 by prior knowledge or by `Upgrade: h2c`; answers each request with its headers as
                       JSON, and requests of HTTP/1.1 without an upgrade likewise
tunnel ARGUMENTS       upgrade a connection behind a proxy, then ask in it with forged headers
ask ARGUMENTS          ask a proxy in HTTP/2, negotiated by ALPN, or by prior knowledge where that is asked for

ARGUMENTS is JSON; what a client prints is JSON too.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from contextlib import suppress
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

PREFACE = b"PRI * HTTP/2.0"
PATIENCE = 60.0  # seconds


def answer(connection: H2Connection, stream: int, headers: list[tuple[str, str]]) -> None:
    body = json.dumps({"protocol": "h2", "headers": headers}).encode()
    connection.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
    connection.send_data(stream, body, end_stream=True)


def text(headers: list[tuple[Any, Any]]) -> list[tuple[str, str]]:
    return [
        (
            name if isinstance(name, str) else name.decode("latin-1"),
            value if isinstance(value, str) else value.decode("latin-1"),
        )
        for name, value in headers
    ]


def read_head(wire: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if data.startswith(PREFACE) or not (more := wire.recv(65536)):
            break
        data += more
    return data


def speak(wire: socket.socket) -> None:
    with wire, suppress(OSError, ProtocolError):
        while True:
            head, _, rest = read_head(wire).partition(b"\r\n\r\n")
            if not head:
                return
            if head.startswith(PREFACE):
                speak_h2(wire, None, head + b"\r\n\r\n" + rest)
                return
            lines = head.decode("latin-1").split("\r\n")[1:]
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if "h2c" in headers.get("upgrade", "").lower():
                wire.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                speak_h2(wire, headers.get("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"), rest)
                return
            body = json.dumps(
                {"protocol": "http/1.1", "headers": [line.partition(": ")[::2] for line in lines]}
            ).encode()
            wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def speak_h2(wire: socket.socket, settings: str | None, data: bytes) -> None:
    connection = H2Connection(H2Configuration(client_side=False, validate_inbound_headers=False))
    if settings is None:
        connection.initiate_connection()
    else:
        connection.initiate_upgrade_connection(settings.encode())
        answer(connection, 1, [(":upgraded", "yes")])
    wire.sendall(connection.data_to_send())
    while True:
        for event in connection.receive_data(data) if data else ():
            if isinstance(event, RequestReceived):
                answer(connection, event.stream_id, text(event.headers))
        wire.sendall(connection.data_to_send())
        data = wire.recv(65536)
        if not data:
            return


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            wire, _ = listening.accept()
            wire.settimeout(PATIENCE)
            threading.Thread(target=speak, args=(wire,), daemon=True).start()


def connect(said: dict[str, Any], protocols: list[str]) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=said["cafile"])
    if said["cert"]:
        context.load_cert_chain(said["cert"])
    context.set_alpn_protocols(protocols)
    plain = socket.create_connection(("127.0.0.1", said["port"]), timeout=PATIENCE)
    return context.wrap_socket(plain, server_hostname=said["name"])


def converse(wire: ssl.SSLSocket, connection: H2Connection, stream: int) -> dict[str, Any]:
    """Read what comes to one stream, until it ends."""
    found: dict[str, Any] = {"status": 0, "body": "", "end": ""}
    while True:
        wire.sendall(connection.data_to_send())
        data = wire.recv(65536)
        if not data:
            return {**found, "end": "the connection ended"}
        for event in connection.receive_data(data):
            if isinstance(event, ConnectionTerminated):
                return {**found, "end": "the connection was ended"}
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, ResponseReceived):
                found["status"] = int(dict(text(event.headers))[":status"])
            elif isinstance(event, DataReceived):
                found["body"] += event.data.decode("latin-1")
            elif isinstance(event, StreamReset):
                return {**found, "end": "the stream was reset"}
            elif isinstance(event, StreamEnded):
                return found


def client() -> H2Connection:
    return H2Connection(
        H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="latin-1")
    )


def ask(said: dict[str, Any]) -> dict[str, Any]:
    """One request; `headers` are sent as they are, pseudo-headers among them."""
    with connect(said, ["h2"] if said["alpn"] else ["http/1.1"]) as wire:
        if said["alpn"] and wire.selected_alpn_protocol() != "h2":
            return {"status": 0, "body": "", "end": "no h2"}
        connection = client()
        connection.initiate_connection()
        connection.send_headers(1, [tuple(pair) for pair in said["headers"]], end_stream=True)
        return converse(wire, connection, 1)


def tunnel(said: dict[str, Any]) -> dict[str, Any]:
    """Ask for an upgrade in HTTP/1.1, and when it comes, for `/forged` in HTTP/2 with forged headers."""
    with connect(said, ["http/1.1"]) as wire:
        wire.sendall("".join(f"{line}\r\n" for line in [*said["lines"], ""]).encode("latin-1"))
        head, _, rest = read_head(wire).partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head else 0
        if status != 101:
            return {"status": status, "body": rest.decode("latin-1"), "end": "no upgrade"}
        connection = client()
        connection.initiate_upgrade_connection()
        for _ in connection.receive_data(rest):
            pass
        forged = [(":method", "GET"), (":scheme", "http"), (":authority", said["name"]), (":path", "/forged")]
        connection.send_headers(3, forged + [tuple(pair) for pair in said["headers"]], end_stream=True)
        return {**converse(wire, connection, 3), "end": "upgraded"}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    with suppress(KeyboardInterrupt):
        work = {"ask": ask, "tunnel": tunnel}[sys.argv[1]]
        try:
            result = work(json.loads(sys.argv[2]))
        except (OSError, ProtocolError) as error:
            result = {"status": 0, "body": "", "end": f"{type(error).__name__}: {error}"}
        print(json.dumps(result))
