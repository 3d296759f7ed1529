"""Each proxy as a program: how it is reloaded, how it learns of revocations, and what a revoked client still can.

What each of them can and cannot do, at length, stands in docs/proxies.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pki.common.durations import in_words
from pki.config.fields import Proxy
from pki.config.model import Inventory


@dataclass(frozen=True, slots=True)
class Program:
    """`unit` is what systemd calls it, empty where the program looks for changes itself.

    `learns` says what tells it of revocations, empty where nothing does, and `is_dated` whether that runs out, so that
    an old one ends by itself. `caveat` is what a revoked client can still do after a reload, empty where that is
    nothing beyond five minutes.
    `largest_file` is the size of the largest file that it serves, 0 where any will do. `has_patterns` says whether it can
    remove headers by a pattern, and so every header that an upstream could take for ours.
    """

    unit: str
    learns: str = "the CRL bundle"
    caveat: str = ""
    is_dated: bool = True
    serves_files: bool = True
    largest_file: int = 0
    has_patterns: bool = True

    @property
    def reload(self) -> str:
        return f"systemctl reload {self.unit}" if self.unit else ""

    @property
    def revokes(self) -> bool:
        """Whether it can refuse a client before its certificate ends."""
        return bool(self.learns)

    def exposure(self, certificates: timedelta) -> str:
        """What a revoked client can do once the host is up to date; `certificates` is the time that one may live on."""
        if self.revokes:
            return self.caveat
        return f"revoked clients get in until their certificates end, within {in_words(certificates)}: {self.caveat}"

    def exposure_unreached(self, crls: timedelta, certificates: timedelta) -> str:
        """What a client can do that was revoked since the host was last up to date; `crls` is the lifetime of a CRL."""
        if self.is_dated:
            return f"clients revoked since then get in until its CRLs end, within {in_words(crls)}"
        return f"clients revoked since then get in until their certificates end, within {in_words(certificates)}"


PROGRAMS: Mapping[Proxy, Program] = {
    "nginx": Program("nginx"),
    "haproxy": Program("haproxy", largest_file=15 * 1024),  # tune.bufsize without tune.maxrewrite
    "caddy": Program(
        "caddy",
        learns="serial numbers in its configuration",
        caveat="what a revoked client is being sent goes on until it ends, or caddy is restarted",
        is_dated=False,
    ),
    "apache": Program("apache2", caveat="open connections of a revoked client live on until apache2 is restarted"),
    "traefik": Program(
        "", learns="", caveat="traefik reads no CRLs", is_dated=False, serves_files=False, has_patterns=False
    ),
}


def largest_published(said: Inventory) -> int:
    """The size of the largest file that the publishing host's proxy serves, 0 where any will do."""
    publisher = said.hosts.get(said.publish.host)
    return PROGRAMS[publisher.proxy].largest_file if publisher and publisher.proxy else 0
