"""Each proxy as a program: how it is reloaded, and what a revocation does to its clients.

What each of them can and cannot do, at length, stands in docs/proxies.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pki.scalars import Proxy


@dataclass(frozen=True, slots=True)
class Program:
    """`unit` is what systemd calls it, empty where the program looks for changes itself.

    `caveat` says what a revoked client can still do after a reload, empty where that is nothing beyond five minutes.
    `largest_file` is the size of the largest file that it serves, 0 where any will do.
    """

    unit: str
    caveat: str = ""
    serves_files: bool = True
    largest_file: int = 0

    @property
    def reload(self) -> str:
        return f"systemctl reload {self.unit}" if self.unit else ""


PROGRAMS: Mapping[Proxy, Program] = {
    "nginx": Program("nginx"),
    "haproxy": Program("haproxy", largest_file=15 * 1024),  # tune.bufsize without tune.maxrewrite
    "caddy": Program("caddy", "what a revoked client is being sent goes on until it ends, or caddy is restarted"),
    "apache": Program("apache2", "open connections of a revoked client live on until apache2 is restarted"),
    "traefik": Program(
        "", "revoked clients get in until their certificates end: traefik reads no CRLs", serves_files=False
    ),
}
