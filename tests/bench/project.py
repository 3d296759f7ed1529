"""Projects of any size: a generated pki.yaml beside the project's own templates."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PROXIES = ("nginx", "haproxy", "caddy")
FIRST_ADDRESS = IPv4Address("10.0.0.10")

HEAD = """\
organisation: Example Lab
domains: [lab.internal]
permit_addresses: [10.0.0.0/8]
publish: {url: "http://pki.lab.internal", host: host-00000}
sandbox: true
alerts: {email: {to: admin@lab.internal, from: pki@lab.internal, smtp: outbox}}
networks: {lan: 10.0.0.0/8}
hosts:
"""


def lay(home: Path, hosts: int) -> Path:
    """A new project with that many hosts, nothing in it built yet."""
    return lay_said(home, HEAD + "".join(_host(number) for number in range(hosts)))


def lay_said(home: Path, said: str) -> Path:
    """The same with a pki.yaml of one's own."""
    home.mkdir(parents=True)
    (home / "pki.yaml").write_text(said)
    shutil.copytree(PROJECT / "templates", home / "templates")
    return home


def names(hosts: int) -> Iterator[str]:
    """The hosts' names, which are their leaves' names too."""
    return (f"host-{number:05}" for number in range(hosts))


def written(home: Path) -> list[str]:
    """Every file below a project that a run wrote, relative to it, sorted."""
    kept = ("templates/", "pki.yaml")
    found = (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(kept))


def _host(number: int) -> str:
    service = f'app-{number:05}: {{upstream: "http://127.0.0.1:8080", access: tls}}'
    return (
        f"  host-{number:05}: {{network: lan, address: {FIRST_ADDRESS + number}, "
        f"proxy: {PROXIES[number % len(PROXIES)]}, services: {{{service}}}}}\n"
    )
