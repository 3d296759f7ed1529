"""Exim as Debian builds it, with GnuTLS, and files of a project: submission with STARTTLS and with TLS, and a revocation."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import run
from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation,
    check_who_is_let_in,
    service_host,
    started,
    wait_for,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SERVICES = {"mail": "smtp", "mails": "smtps"}
PACKAGES = Path("/opt/exim4")  # unpacked by .ci/run: Debian permits no Exim beside Postfix
ACCOUNT = "Debian-exim:x:64999:65534::/nonexistent:/usr/sbin/nologin\n"
GROUP = "Debian-exim:x:65534:\n"
DEBCONF = "dc_eximconfig_configtype='local'\ndc_local_interfaces='127.0.0.1'\ndc_use_split_config='false'\ndc_localdelivery='mail_spool'\n"
CHANGES = {"daemon_smtp_ports = 25 : ": "daemon_smtp_ports = ", "root:Debian-exim": "root:nogroup"}
START = """set -e
mount -t overlay -o lowerdir={folder}/etc:{packages}/etc:/etc overlay /etc
mount -t overlay -o lowerdir={packages}/usr:/usr overlay /usr
mount --bind {folder}/var /var
update-exim4.conf
exec exim4 -bdf
"""


@contextmanager
def exim(host: ServiceHost) -> Iterator[None]:
    """Exim in a name space of mounts in which its packages are installed, with its account and an empty /var."""
    etc, var = host.folder / "etc", host.folder / "var"
    (etc / "exim4").mkdir(parents=True)
    for name, line in {"passwd": ACCOUNT, "group": GROUP}.items():
        (etc / name).write_text(Path("/etc", name).read_text() + line)
    (etc / "exim4/update-exim4.conf.conf").write_text(DEBCONF)
    (etc / "exim4/exim4.conf.localmacros").write_text(f".include {host.file('exim4.conf')}\n")
    (etc / "mailname").write_text("lab.internal\n")
    for name in ("spool/exim4", "log/exim4", "lib/exim4", "mail"):
        (var / name).mkdir(parents=True)
    run("chown", "-R", "64999:65534", var)
    command = ("unshare", "--mount", "sh", "-c", START.format(folder=host.folder, packages=PACKAGES))
    first, second = (host.ports[service] for service in SERVICES)
    with started(host.folder, *command, port=first) as process:
        wait_for(second)
        host.reloads_by(f"nsenter -t {process.pid} -m update-exim4.conf\nkill -HUP {process.pid}")
        yield


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host(SERVICES, monkeypatch, "root:nogroup", recipe="exim", changes=CHANGES) as host, exim(host):
        yield host


def test_exim_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    check_who_is_let_in(served, invoke, *SERVICES)
    check_renewal(served, invoke, *SERVICES)
    said = check_revocation(served, invoke, *SERVICES)
    assert "systemctl restart exim4" in said
    assert "Postfix" not in said + invoke(served.home, "status").out
    assert mail_without_tls(served) == (550, b"5.7.0 a client certificate is required on this port")


def mail_without_tls(served: ServiceHost) -> tuple[int, bytes]:
    """What the server answers to a sender that does not begin TLS at the port of submission."""
    with smtplib.SMTP("127.0.0.1", served.ports["mail"], timeout=30) as client:
        client.ehlo()
        return client.mail("anna@lab.internal")


def test_exim_takes_the_certificate_of_a_server_for_a_client_where_it_has_the_root(served: ServiceHost) -> None:
    assert served.entry("mails", served.identity("server-mtls")) == ""
    served.file("client-ca.pem").write_bytes((served.home.path / "build/trust/client-chain.pem").read_bytes())
    run("sh", served.folder / "reload")
    wait_for(served.ports["mails"])
    assert served.entry("mails", served.identity("server-mtls")).startswith("lets it in")
