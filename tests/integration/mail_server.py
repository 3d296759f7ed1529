"""A mail server of another project."""

from __future__ import annotations

import email
import email.policy
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.integration.conftest import TIMEOUT, LiveHome, moved_clock
from tests.integration.proxies import free_port
from tests.support.projects import PROJECT

PASSWORD = "correct-horse-battery-staple"


@dataclass
class Server:
    """A mail server that keeps what it takes; `refuses` is a recipient that it does not know."""

    port: int = 0
    refuses: str = ""
    taken: list[EmailMessage] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address == self.refuses:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self.taken.append(parsed)
        self.secured.append(server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"

    def login(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)


@contextmanager
def serving(certificate: Path | None, *, is_smtps: bool = False, refuses: str = "") -> Iterator[Server]:
    """The server on loopback with the certificate of a leaf: behind STARTTLS, or from the first byte."""
    server, context = Server(free_port(), refuses), None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    login = {"authenticator": server.login, "auth_required": True} if certificate else {}
    tls = {"ssl_context": context, "auth_require_tls": False} if is_smtps else {"tls_context": context}
    controller = Controller(server, hostname="127.0.0.1", port=server.port, ready_timeout=300, **login, **tls)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


def address(home: LiveHome, said: str, to: str = "admin@lab.internal") -> None:
    text = home.read("pki.yaml").decode()
    head, _, _ = text.partition("  email: {to:")
    home.write("pki.yaml", f"{head}  email: {{to: {to}, from: pki@lab.internal, smtp: {said}, user: pki}}\n")


def certificate(home: LiveHome) -> Path:
    return home.path / "build/certs/mail/tls.pem"


def said(home: LiveHome, days: int = 0) -> tuple[str, str]:
    """One whole run of doit, as cron starts it: its output, and why a message could not be sent."""
    done = subprocess.run(
        [sys.executable, "-m", "doit"],
        cwd=PROJECT,
        env={**home.environment, **(moved_clock(days) if days else {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    errors = [one["error"] for one in json.loads(home.read("build/report/status.json"))["alerts"] if one["error"]]
    return done.stdout + done.stderr, errors[0] if errors else ""
