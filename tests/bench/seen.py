"""Services behind mutual TLS at one real nginx, seen from outside by us and by those who make one handshake with each."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.bench import measure, project
from tests.bench.measure import Broken, Cost, Side
from tests.bench.project import PROJECT
from tests.bench.table import Bound, Findings, Row, seconds

PATIENCE = 10.0
AT_ONCE = 50
BLACKBOX = "prometheus-blackbox-exporter"
SAID = """\
organisation: Example Lab
domains: [lab.internal]
publish: {{url: "http://pki.lab.internal:{http}", host: edge}}
sandbox: true
networks: {{here: 127.0.0.0/8}}
hosts:
  edge:
    network: here
    address: 127.0.0.1
    port: {port}
    proxy: nginx
    probe: direct
    services:
"""
SERVICE = '      app-{:02}: {{upstream: "http://127.0.0.1:9", access: mtls}}\n'
NGINX = """\
{user}daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_names_hash_bucket_size 128;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/services.conf;
}}
"""
MODULES = """\
modules:
  seen:
    prober: http
    timeout: 5s
    http:
      valid_status_codes: [204]
      tls_config: {{ca_file: {roots}, cert_file: {probe}, key_file: {probe}}}
"""


def measured(folder: Path, count: int) -> Findings:
    """One look at so many services against openssl and blackbox_exporter, each as many at once."""
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin") or not shutil.which("openssl"):
        raise Broken("apt install nginx openssl")
    folder.mkdir()
    port, http, spare = _free_ports(3)
    said = SAID.format(port=port, http=http) + "".join(map(SERVICE.format, range(count)))
    home = project.lay_said(folder / "home", said)
    names = [f"app-{number:02}.lab.internal" for number in range(count)]
    measure.run([sys.executable, "-m", "doit"], PROJECT, {"PKI_HOME": home})
    with _nginx(folder, home, port), _blackbox(folder, home, spare) as blackbox:

        def ours() -> Cost:
            command = [sys.executable, "-m", "tests.bench.sweep", home, str(count)]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Broken(done.stderr[-2000:])
            return Cost(*map(float, done.stdout.split()))

        sides: list[tuple[str, Side]] = [("openssl s_client, one handshake each", _openssl(folder, home, names, port))]
        if blackbox:
            sides.append(("blackbox_exporter, one handshake each", _asked(folder, names, port, blackbox)))
        mine, *others = measure.in_turn(5, ours, *(side for _, side in sides))
    rows = [
        Row(
            f"{count} services seen / {name}",
            seconds(mine.seconds),
            seconds(peer.seconds),
            mine.seconds / peer.seconds,
            Bound(1.5) if number == 0 else None,
            cpu=mine.cpu / peer.cpu if number == 0 else None,
        )
        for number, ((name, _), peer) in enumerate(zip(sides, others, strict=True))
    ]
    remarks = [
        "ours: four clients at each: probe, nobody, canary (again where it gets a session), TLS 1.1; the start of Python and the plan are not in it"
    ]
    return Findings("services", rows, remarks if blackbox else [*remarks, f"left out: apt install {BLACKBOX}"])


# -- the others -------------------------------------------------------------------------------------------------------


def _openssl(folder: Path, home: Path, names: list[str], port: int) -> Side:
    """A handshake with each name, with the probe's certificate, as many at once as we do; a bad one fails the run."""
    listing = folder / "names"
    listing.write_text("".join(f"{name}\n" for name in names))
    one = (
        f"openssl s_client -connect 127.0.0.1:{port} -servername {{}} -verify_hostname {{}} -CAfile {_roots(home)} "
        f"-cert {_probe(home)} -key {_probe(home)} -cert_chain {_probe(home)} -verify_return_error </dev/null"
    )
    line = f"xargs -a {listing} -P {AT_ONCE} -I {{}} sh -c '{one}'"
    return lambda: measure.run(["sh", "-c", line], folder)


def _asked(folder: Path, names: list[str], port: int, blackbox: int) -> Side:
    """As Prometheus would ask, all at once; one that fails its probe is told by its metric, which must be there."""
    config, out = folder / "curl", folder / "said"
    ask = f"http://127.0.0.1:{blackbox}/probe?module=seen&target=https://127.0.0.1:{port}&hostname="
    config.write_text("".join(f'url = "{ask}{name}"\noutput = "{out}-{n}"\n' for n, name in enumerate(names)))

    def asked() -> Cost:
        cost = measure.run(["curl", "-sS", "--parallel", "--parallel-max", str(AT_ONCE), "-K", config], folder)
        said = [(folder / f"said-{number}").read_text() for number in range(len(names))]
        if failed := [one for one in said if "\nprobe_success 1\n" not in one]:
            raise Broken(f"blackbox_exporter failed {len(failed)} probes")
        return cost

    return asked


def _roots(home: Path) -> Path:
    return home / "build/trust/roots.pem"


def _probe(home: Path) -> Path:
    return home / "build/certs/doit-pki-probe/tls.pem"


# -- programs ---------------------------------------------------------------------------------------------------------


@contextmanager
def _nginx(folder: Path, home: Path, port: int) -> Iterator[None]:
    """A real one with what the host was delivered, its paths in the host's folder."""
    root = home / "build/hosts/edge"
    text = (root / "etc/nginx/conf.d/pki-services.conf").read_text()
    text = text.replace("/etc/doit-pki/", f"{root}/etc/doit-pki/").replace("/var/www/pki", f"{root}/var/www/pki")
    (folder / "services.conf").write_text(text.replace("listen ", "listen 127.0.0.1:"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user="user root;\n" if os.geteuid() == 0 else ""))
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]
    with _running(command, folder, port):
        yield


@contextmanager
def _blackbox(folder: Path, home: Path, port: int) -> Iterator[int]:
    """The port at which it listens, 0 where it is not installed."""
    if not shutil.which(BLACKBOX) or not shutil.which("curl"):
        yield 0
        return
    config = folder / "blackbox.yml"
    config.write_text(MODULES.format(roots=_roots(home), probe=_probe(home)))
    command = [BLACKBOX, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with _running(command, folder, port):
        yield port


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    path = "/usr/sbin:/usr/bin:/usr/local/bin"
    program = shutil.which(command[0], path=path) or command[0]
    with (folder / f"{command[0]}.said").open("w") as said:
        process = subprocess.Popen([program, *command[1:]], stdout=said, stderr=said)
    try:
        _await(port, process, folder / f"{command[0]}.said")
        yield
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise Broken(f"does not start: {said.read_text()}")


def _free_ports(count: int) -> list[int]:
    with closing(socket.socket()) as one, closing(socket.socket()) as two, closing(socket.socket()) as three:
        found = [one, two, three][:count]
        for taken in found:
            taken.bind(("127.0.0.1", 0))
        return [taken.getsockname()[1] for taken in found]
