"""Requests: a machine requests a page with curl, and the response is compared with the expected outcome."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pki.demo.namespace_machine import NamespaceMachine

ROOTS = "/root/roots.pem"
REFUSED_STATUS = {400, 403, 421}
REFUSED_BY_TLS = {16, 35, 52, 55, 56}  # HTTP/2 error, failed handshake, empty reply, send or receive error
CONNECT_FAILED = {7, 28}  # could not connect, timed out: https://curl.se/libcurl/c/libcurl-errors.html
ERROR_PLACES = re.compile(r"OpenSSL.*:: ?|, errno 0$|Failed to connect to .*: ")  # the place in an error message
LINE = (
    *("curl", "--disable", "--silent", "--show-error", "--max-time", "5", "--connect-timeout", "3", "--cacert", ROOTS),
    *("--write-out", "\n%{http_code}"),
)
ANSWERED, REFUSED, NOT_REACHABLE = "answered", "refused by the proxy", "not reachable"


@dataclass(frozen=True)
class PageRequest:
    """A request for a page: the visitor that sends it, its certificate (a file, or none), and the expected outcome."""

    visitor: NamespaceMachine
    url: str
    expected: str
    certificate: str = ""

    def send(self) -> PageResponse:
        """Send the request and return the response."""
        certificate = ("--cert", f"/root/{self.certificate}.pem") if self.certificate else ()
        process = self.visitor.run(*LINE, *certificate, self.url, check=False)
        body, _, status = process.stdout.rpartition("\n")
        return PageResponse(self, process.returncode, int(status), body, process.stderr.strip())


@dataclass(frozen=True)
class PageResponse:
    """What curl returned: exit status, HTTP status, page, error text."""

    request: PageRequest
    code: int
    status: int
    body: str
    error: str

    @property
    def outcome(self) -> str:
        """Return whether the service answered, the proxy refused, or there was no connection."""
        if self.code in CONNECT_FAILED:
            return NOT_REACHABLE
        if self.code == 0 and self.status == 200:
            return ANSWERED
        is_refused = self.status in REFUSED_STATUS if self.code == 0 else self.code in REFUSED_BY_TLS
        if is_refused:
            return REFUSED
        return "something else"

    @property
    def is_expected(self) -> bool:
        """Return whether the outcome is the expected one."""
        return self.outcome == self.request.expected

    @property
    def summary(self) -> str:
        """Return the page in short, or curl's error message."""
        if self.code:
            return ERROR_PLACES.sub("", self.error.splitlines()[0])
        if not self.body.startswith("{"):
            title = re.search("<title>(.*?)</title>", self.body)
            return f"HTTP {title[1] if title else self.status}"
        page = json.loads(self.body)
        client = page["client"].partition(",")[0]
        return f"HTTP 200 from {page['service']}{f' for {client}' if client else ''}"

    @property
    def row(self) -> tuple[str, ...]:
        """Return the row of the result table."""
        request = self.request
        return (
            "ok" if self.is_expected else f"NOT {request.expected}",
            f"{request.visitor.name} ({request.visitor.vlan})",
            request.url.removesuffix("/"),
            request.certificate or "-",
            self.summary,
        )
