"""Dovecot with files of a project: it judges the certificate at the login, and not in TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation,
    check_who_is_let_in,
    service_host,
    started,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SERVICES = {"mail": "imap", "mails": "imaps"}
CONFIG = """
protocols = imap
listen = 127.0.0.1
base_dir = FOLDER/run
state_dir = FOLDER/state
log_path = FOLDER/log
auth_mechanisms = plain
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
service imap-login {
  inet_listener imap {
    port = PORT1
  }
  inet_listener imaps {
    port = PORT2
    ssl = yes
  }
}
!include ETC/99-doit-pki.conf
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host(SERVICES, monkeypatch, recipe="dovecot") as host:
        text, ports = CONFIG.replace("FOLDER", str(host.folder)).replace("ETC", str(host.host.etc)), host.ports
        for number, service in enumerate(SERVICES, 1):
            text = text.replace(f"PORT{number}", str(ports[service]))
        (host.folder / "dovecot.conf").write_text(text)
        host.reloads_by(f"doveadm -c {host.folder}/dovecot.conf reload")
        with started(host.folder, "dovecot", "-F", "-c", host.folder / "dovecot.conf", port=ports["mails"]):
            yield host


def test_dovecot_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    check_who_is_let_in(served, invoke, *SERVICES)
    check_renewal(served, invoke, *SERVICES)
    check_revocation(served, invoke, *SERVICES)
