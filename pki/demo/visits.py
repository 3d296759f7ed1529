"""Visits: somebody asks for a page, in curl's words, and what was promised about it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pki.demo.namespace_machine import Machine

ROOTS = "/root/roots.pem"
REFUSED_STATUS = {400, 403, 421}
REFUSED_BY_TLS = {16, 35, 52, 55, 56}  # HTTP/2 broke off, handshake failed, empty reply, send or receive failed
NO_WAY = {7, 28}  # could not connect, timed out: https://curl.se/libcurl/c/libcurl-errors.html
PLACES = re.compile(r"OpenSSL.*:: ?|, errno 0$|Failed to connect to .*: ")  # where, beside what
LINE = (
    *("curl", "--disable", "--silent", "--show-error", "--max-time", "5", "--connect-timeout", "3", "--cacert", ROOTS),
    *("--write-out", "\n%{http_code}"),
)
ANSWERED, REFUSED, NO_WAY_THERE = "answered", "refused by the proxy", "no way there"


@dataclass(frozen=True)
class Visit:
    """Who asks for which page, with which certificate (a file, or none), and what must come of it."""

    visitor: Machine
    url: str
    promised: str
    certificate: str = ""

    def pay(self) -> Seen:
        """Ask, and tell what came back."""
        shown = ("--cert", f"/root/{self.certificate}.pem") if self.certificate else ()
        done = self.visitor.run(*LINE, *shown, self.url, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return Seen(self, done.returncode, int(status), body, done.stderr.strip())


@dataclass(frozen=True)
class Seen:
    """What curl saw: its exit status, the HTTP status, the page, what it complained of."""

    visit: Visit
    code: int
    status: int
    body: str
    complaint: str

    @property
    def outcome(self) -> str:
        if self.code in NO_WAY:
            return NO_WAY_THERE
        if self.code == 0 and self.status == 200:
            return ANSWERED
        if self.status in REFUSED_STATUS if self.code == 0 else self.code in REFUSED_BY_TLS:
            return REFUSED
        return "something else"

    @property
    def kept(self) -> bool:
        return self.outcome == self.visit.promised

    @property
    def came_back(self) -> str:
        """The page in short, or curl's own words."""
        if self.code:
            return PLACES.sub("", self.complaint.splitlines()[0])
        if not self.body.startswith("{"):
            title = re.search("<title>(.*?)</title>", self.body)
            return f"HTTP {title[1] if title else self.status}"
        page = json.loads(self.body)
        return f"HTTP 200 from {page['service']}{' for ' + page['client'].partition(',')[0] if page['client'] else ''}"

    @property
    def row(self) -> tuple[str, ...]:
        """As the table shows it."""
        visit = self.visit
        return (
            "ok" if self.kept else f"NOT {visit.promised}",
            f"{visit.visitor.name} ({visit.visitor.vlan})",
            visit.url.removesuffix("/"),
            visit.certificate or "-",
            self.came_back,
        )
