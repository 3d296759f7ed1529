"""Dovecot with files of a project: it judges the certificate at the login, and not in TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.services import ServiceHost, check_revocation, check_who_is_let_in, service_host, started
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
ssl = required
ssl_cert = <ETC/tls.pem
ssl_key = <ETC/tls.pem
ssl_ca = <ETC/chain-with-crls.pem
ssl_verify_client_cert = yes
auth_ssl_require_client_cert = yes
auth_ssl_username_from_cert = yes
auth_mechanisms = external
passdb {
  driver = static
  args = nopassword=y
}
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
"""
BOTH = """# deploy-target: TARGET
# deploy-hosts: server
# deploy-owner: root:root
# deploy-reload: RELOAD
{{ artifact("trust:client-chain") }}{{ artifact("crl:bundle-client") }}"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host(SERVICES, monkeypatch) as host:
        text = BOTH.replace("TARGET", host.host.path("chain-with-crls.pem"))
        host.home.write("templates/services/both.pem", text.replace("RELOAD", f"sh {host.folder}/reload"))
        host.deliver()
        text, ports = CONFIG.replace("FOLDER", str(host.folder)).replace("ETC", str(host.host.etc)), host.ports
        for number, service in enumerate(SERVICES, 1):
            text = text.replace(f"PORT{number}", str(ports[service]))
        (host.folder / "dovecot.conf").write_text(text)
        host.reloads_by(f"doveadm -c {host.folder}/dovecot.conf reload")
        with started(host.folder, "dovecot", "-F", "-c", host.folder / "dovecot.conf", port=ports["mails"]):
            yield host


def test_dovecot_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    check_who_is_let_in(served, invoke, *SERVICES)
    check_revocation(served, invoke, *SERVICES)
