"""Upstreams that show what came through a proxy: byte for byte, as a CGI program is told, in HTTP/2, over a WebSocket.

Each serves on loopback until `Behind.stop`. `ask` sends to a proxy the bytes of a request that no ordinary client sends.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.proxies import PATIENCE, Proxy, free_port, listens, wait_until
from tests.support.environments import environment

HERE = Path(__file__).parent
CGI = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
env
"""
LIGHTTPD = """
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ("mod_cgi")
server.errorlog = "{folder}/error.log"
server.upload-dirs = ("{folder}")
cgi.assign = (".sh" => "/bin/sh")
index-file.names = ("show.sh")
"""
LAST_CHUNK = re.compile(rb"(?:^|\r\n)0[^\r\n]*\r\n(?:.*\r\n)?\r\n$", re.DOTALL)


@dataclass
class Behind:
    """Real upstreams, each of its own kind; `ports` has them by what they are."""

    work: Path
    ports: dict[str, int] = field(default_factory=dict)
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)

    def start(self) -> Behind:
        self._start_raw()
        self._start_lighttpd()
        python = environment("proxies") / "bin/python"
        for what, script in (("h2c", "http2_peer.py"), ("ws", "websocket_peer.py")):
            port = free_port()
            self._launch(what, port, python, HERE / script, "serve", str(port))
        return self

    def stop(self) -> None:
        for program in self._programs:
            program.terminate()
            program.wait(PATIENCE)
        for listening in self._sockets:
            listening.close()

    def _launch(self, what: str, port: int, *command: str | Path) -> None:
        with (self.work / f"{what}.log").open("wb") as log:
            program = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        self._programs.append(program)
        self.ports[what] = port
        wait_until(lambda: listens(port), f"{what} listens")

    def _start_lighttpd(self) -> None:
        """A server that tells a CGI program every header by a name in which all but letters and digits are `_`."""
        folder, port = self.work / "cgi", free_port()
        folder.mkdir()
        (folder / "show.sh").write_text(CGI)
        (folder / "lighttpd.conf").write_text(LIGHTTPD.format(folder=folder, port=port))
        self._launch("cgi", port, "/usr/sbin/lighttpd", "-D", "-f", folder / "lighttpd.conf")

    def _start_raw(self) -> None:
        """A server that answers each request with the bytes that arrived, and agrees to any upgrade for `/switch`."""
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)
        self.ports["raw"] = listening.getsockname()[1]
        threading.Thread(target=_accept, args=(listening,), daemon=True).start()


def _accept(listening: socket.socket) -> None:
    with suppress(OSError):
        while True:
            wire, _ = listening.accept()
            wire.settimeout(PATIENCE)
            threading.Thread(target=_show, args=(wire,), daemon=True).start()


def _show(wire: socket.socket) -> None:
    with wire, suppress(OSError):
        data = _read_request(wire)
        asked = re.search(rb"(?i)\r\nupgrade: ([^\r\n]+)", data)
        if asked and data.startswith(b"GET /switch "):
            wire.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n" % asked[1])
            wire.sendall(b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n")  # for a key of AAAA…
            while more := wire.recv(65536):
                wire.sendall(more.swapcase())
        elif data:
            wire.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))


def _read_request(wire: socket.socket) -> bytes:
    """A head, and a body with its trailers where it comes in chunks."""
    data = b""
    while more := wire.recv(65536):
        data += more
        head, end, body = data.partition(b"\r\n\r\n")
        if end and (b"transfer-encoding" not in head.lower() or LAST_CHUNK.search(body)):
            break
    return data


@dataclass(frozen=True)
class Reply:
    """What a client got: status 0 where the connection ended without an answer."""

    status: int
    body: bytes

    @property
    def reached(self) -> bool:
        """Whether the raw upstream or the CGI program answered."""
        return self.status == 200

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that the raw upstream saw, trailers among them."""
        lines = self.body.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]

    @property
    def told(self) -> dict[str, str]:
        """The headers as the CGI program was told them, by name: `HTTP_X_CLIENT_SUBJECT`."""
        lines = self.body.decode("latin-1").splitlines()
        return dict(line.partition("=")[::2] for line in lines if line.startswith("HTTP_"))


@contextmanager
def connected(proxy: Proxy, service: str, cert: Path | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection to a service through its proxy, over which HTTP/1.1 is spoken."""
    context = ssl.create_default_context(cafile=proxy.home.path / "build/trust/roots.pem")
    if cert:
        context.load_cert_chain(cert)
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=f"{service}.lab.internal") as wire,
    ):
        yield wire


def ask(
    proxy: Proxy, service: str, lines: list[bytes], body: bytes = b"", *, cert: Path | None = None, host: bytes = b""
) -> Reply:
    """Send a request whose head has these lines after its Host; `body` is sent as it is."""
    named = b"Host: " + (host or f"{service}.lab.internal".encode())
    return send(proxy, service, [b"POST / HTTP/1.1" if body else b"GET / HTTP/1.1", named, *lines], body, cert=cert)


def send(proxy: Proxy, service: str, head: list[bytes], body: bytes = b"", *, cert: Path | None = None) -> Reply:
    """Send these lines as the head of a request, or of something that looks like one."""
    data = b""
    with suppress(ssl.SSLError, ConnectionError), connected(proxy, service, cert) as wire:
        wire.sendall(b"\r\n".join([*head, b"", b""]) + body)
        while data[:5] in b"HTTP/" and _is_cut_short(data) and (more := wire.recv(65536)):
            data += more
    head_of_answer, _, rest = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1[.][01] ([0-9]{3})", head_of_answer)
    return Reply(int(found[1]), _unchunked(head_of_answer, rest)) if found else Reply(0, data)


def _is_cut_short(data: bytes) -> bool:
    """Whether more of an answer is to come."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return True
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        return len(body) < int(length[1])
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return not body.endswith(b"0\r\n\r\n")
    return not re.match(rb"HTTP/1[.][01] (101|204)", head)


def _unchunked(head: bytes, body: bytes) -> bytes:
    if not re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return body
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        whole, body = whole + rest[:length], rest[length + 2 :] if length else b""
    return whole


def peer(script: str, work: str, proxy: Proxy, service: str, *, cert: Path | None, **said: Any) -> dict[str, Any]:
    """What a client in the environment of its own saw of a proxy."""
    said |= {
        "port": proxy.port,
        "name": f"{service}.lab.internal",
        "cafile": str(proxy.home.path / "build/trust/roots.pem"),
        "cert": str(cert) if cert else "",
    }
    done = subprocess.run(
        [environment("proxies") / "bin/python", HERE / script, work, json.dumps(said)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
