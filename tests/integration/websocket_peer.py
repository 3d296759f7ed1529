"""A WebSocket server and a client of it: run by the environment `.venv-proxies`, which has the package websockets.

serve PORT             send every message back, after the headers of the handshake as JSON
talk ARGUMENTS         exchange messages through a proxy; ARGUMENTS is JSON, what is printed too
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

PATIENCE = 60.0  # seconds, for a machine that does much else


def echo(connection: ServerConnection) -> None:
    assert connection.request is not None
    connection.send(json.dumps(list(connection.request.headers.raw_items())))
    for message in connection:
        connection.send(message)


def talk(said: dict[str, Any]) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=said["cafile"])
    if said["cert"]:
        context.load_cert_chain(said["cert"])
    try:
        plain = socket.create_connection(("127.0.0.1", said["port"]), timeout=PATIENCE)
        with connect(f"wss://{said['name']}/", sock=plain, ssl=context, proxy=None, open_timeout=PATIENCE) as wire:
            headers = json.loads(wire.recv(PATIENCE))
            back = []
            for message in ("hello", "x" * 100_000):
                wire.send(message)
                back.append(wire.recv(PATIENCE) == message)
            return {"headers": headers, "back": back}
    except (OSError, WebSocketException) as error:
        return {"headers": [], "back": [], "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with serve(echo, "127.0.0.1", int(sys.argv[2])) as server:
            server.serve_forever()
    print(json.dumps(talk(json.loads(sys.argv[2]))))
