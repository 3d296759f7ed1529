"""Many services of mixed kinds on loopback, checked by us and by a bare loop that makes the same connections."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import measure, project
from tests.bench.measure import Broken, Cost, Side
from tests.bench.project import PROJECT
from tests.bench.table import Bound, Findings, Row, seconds

SPEAKS = ("https", "tls", "postgres", "mysql", "smtp", "smtps", "imap", "imaps", "ldap", "ldaps", "mqtts")
FIRST_PORT = 20440
ROUNDS = 3
HEAD = """\
organisation: Example Lab
domains: [lab.internal]
publish: {url: "http://pki.lab.internal", host: host-000}
sandbox: true
templates: {without: all}
networks: {loop: 127.0.0.0/8}
hosts:
"""
HOST = "  {name}: {{network: loop, address: {address}, deliver: none, probe: direct, services: {{{services}}}}}\n"


class Service(NamedTuple):
    """One service; each host has one of every kind, and its services have one `access`."""

    host: str
    address: str
    port: int
    speaks: str
    access: str

    @classmethod
    def number(cls, number: int) -> Service:
        """Return a service by its number."""
        host, kind = divmod(number, len(SPEAKS))
        address = f"127.{1 + host // 250}.0.{1 + host % 250}"
        return cls(f"host-{host:03}", address, FIRST_PORT + kind, SPEAKS[kind], "tls" if host % 2 else "mtls")

    @property
    def name(self) -> str:
        return f"{self.host}-{self.speaks}"

    @property
    def leaf(self) -> str:
        return f"{self.host}-mtls" if self.access == "mtls" else self.host

    @property
    def settings(self) -> str:
        return f"{self.name}: {{speaks: {self.speaks}, port: {self.port}, access: {self.access}}}"


def measured(folder: Path, count: int) -> Findings:
    """Check so many services, and let a bare loop make as many connections to the same servers."""
    services = [Service.number(number) for number in range(count)]
    home = project.lay_said(folder / "home", HEAD + "".join(_hosts(services)))
    measure.run([sys.executable, "-m", "doit"], PROJECT, {"PKI_HOME": home})
    listing = folder / "services"
    listing.write_text("".join(f"{s.address} {s.port} {s.speaks} {s.access} {s.name}.lab.internal\n" for s in services))
    with _servers(home, services) as connections:
        counts = list[int]()

        def counted(module: str, *arguments: str | Path) -> Side:
            def side() -> Cost:
                before = connections()
                cost = _timed([sys.executable, "-m", module, *map(str, arguments)])
                counts.append(connections() - before)
                return cost

            return side

        ours, bare = measure.in_turn(
            ROUNDS,
            counted("tests.bench.sweep", home, str(count)),
            counted("tests.bench.mixed_loop", home, listing),
        )
    if len(set(counts)) > 1:
        raise Broken(f"the numbers of connections differ, ours and the loop's in turn: {counts}")
    row = Row(
        f"{count} services, {len(SPEAKS)} protocols / bare loop of ssl",
        seconds(ours.seconds),
        seconds(bare.seconds),
        ours.seconds / bare.seconds,
        Bound(1.5),
        cpu=ours.cpu / bare.cpu,
    )
    return Findings(
        "mixed-services", [row], [f"{counts[0]} connections each; the start of Python and the plan are not in it"]
    )


def _hosts(services: Sequence[Service]) -> Iterator[str]:
    for first in range(0, len(services), len(SPEAKS)):
        of_host = services[first : first + len(SPEAKS)]
        settings = ", ".join(service.settings for service in of_host)
        yield HOST.format(name=of_host[0].host, address=of_host[0].address, services=settings)


def _timed(command: list[str]) -> Cost:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(done.stderr[-2000:])
    return Cost(*map(float, done.stdout.split()))


@contextmanager
def _servers(home: Path, services: Sequence[Service]) -> Iterator[Callable[[], int]]:
    """Serve all services, and yield a function that returns the number of connections so far."""
    command = [sys.executable, "-m", "tests.bench.mixed_servers", str(home)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def ask(text: str) -> str:
            stdin.write(text)
            stdin.flush()
            return stdout.readline()

        lines = [f"{s.address} {s.port} {s.speaks} {s.access} {s.leaf}\n" for s in services]
        if not ask("".join(lines) + "\n"):
            raise Broken("the servers do not start")
        yield lambda: int(ask("\n"))
