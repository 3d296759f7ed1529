"""The capabilities of each reverse proxy: reload, revocation checks, and the exposure to revoked clients.

docs/how-to/proxies.md describes them in detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pki.common.durations import in_words
from pki.config.fields import Proxy
from pki.config.model import Host, Inventory


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """The capabilities of one reverse proxy.

    `unit`: its systemd unit, "" if it detects changes itself. `validate`: the command that checks its configuration, "" for
    none. `learns`: what it reads revocations from, "" for none.
    `is_dated`: whether that source expires, so that an old one ends access. `caveat`: what a revoked client can still do
    more than five minutes after a reload, "" for nothing. `largest_file`: the largest file that it serves, in bytes, 0
    for no limit. `has_patterns`: whether it can remove request headers by a pattern. `is_known`: false for a server of
    which only the protocol is known, so that it may read CRLs after all.
    """

    unit: str
    validate: str = ""
    learns: str = "the CRL bundle"
    caveat: str = ""
    is_dated: bool = True
    serves_files: bool = True
    largest_file: int = 0
    has_patterns: bool = True
    is_known: bool = True

    @property
    def reload(self) -> str:
        """Return the command that reloads the proxy, or "" if it needs none."""
        return f"systemctl reload {self.unit}" if self.unit else ""

    @property
    def revokes(self) -> bool:
        """Return whether it can refuse a revoked client before the certificate expires."""
        return bool(self.learns)

    def exposure(self, certificates: timedelta) -> str:
        """Return what a revoked client can do on a host that is up to date, or "" for nothing.

        `certificates` is the longest remaining lifetime of a client certificate.
        """
        if self.revokes:
            return self.caveat
        verb = "are" if self.is_known else "may be"
        return f"revoked clients {verb} accepted until their certificates expire, within {in_words(certificates)}: {self.caveat}"

    def exposure_unreached(self, crls: timedelta, certificates: timedelta) -> str:
        """Return what a client can do that was revoked after the last deployment to a host.

        `crls` is the lifetime of a CRL, `certificates` the longest remaining lifetime of a client certificate.
        """
        if self.is_dated:
            return f"clients revoked since then are accepted until its CRLs expire, within {in_words(crls)}"
        return (
            f"clients revoked since then are accepted until their certificates expire, within {in_words(certificates)}"
        )


PROGRAMS: Mapping[Proxy, ServerProgram] = {
    "nginx": ServerProgram("nginx", "nginx -t"),
    "haproxy": ServerProgram(
        "haproxy", "haproxy -c -f /etc/haproxy/haproxy.cfg", largest_file=15 * 1024
    ),  # tune.bufsize without tune.maxrewrite
    "caddy": ServerProgram(
        "caddy",
        "caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile",
        learns="serial numbers in its configuration",
        caveat="open responses to a revoked client continue until they end or caddy is restarted",
        is_dated=False,
    ),
    "apache": ServerProgram(
        "apache2",
        "apache2ctl configtest",
        caveat="open connections of a revoked client stay open until apache2 is restarted",
    ),
    "traefik": ServerProgram(
        "", learns="", caveat="traefik reads no CRLs", is_dated=False, serves_files=False, has_patterns=False
    ),
}


def reload_of(host: Host) -> str:
    """Return the command that reloads the proxy of a host: that of pki.yaml, else the usual one; "" for none."""
    return host.reload or (PROGRAMS[host.proxy].reload if host.proxy else "")


def validate_of(host: Host) -> str:
    """Return the command that checks the configuration of a host's proxy; "" for none.

    With `reload` in pki.yaml the proxy may be in a container. The command then checks only where the program is
    installed.
    """
    validate = PROGRAMS[host.proxy].validate if host.proxy else ""
    program = validate.partition(" ")[0]
    return f"! command -v {program} >/dev/null || {validate}" if validate and host.reload else validate


def largest_published(config: Inventory) -> int:
    """Return the size in bytes of the largest file that the publishing host's proxy serves, 0 for no limit."""
    publisher = config.hosts.get(config.publish.host)
    return PROGRAMS[publisher.proxy].largest_file if publisher and publisher.proxy else 0
