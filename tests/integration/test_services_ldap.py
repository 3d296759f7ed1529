"""OpenLDAP as Debian builds it, with GnuTLS: LDAP with StartTLS and LDAPS, a revocation, and the trap of its trust file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pki.deploy import access
from tests.integration.conftest import run
from tests.integration.services import ServiceHost, check_revocation, check_who_is_let_in, service_host, wait_for
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SERVICES = {"directory": "ldap", "directories": "ldaps"}


@contextmanager
def slapd(host: ServiceHost, trust: str) -> Iterator[None]:
    """A server that is restarted whenever a file has changed: slapd reads them only when it starts."""
    folder, ports = host.folder / "slapd", [host.ports[service] for service in SERVICES]
    (folder / "db").mkdir(parents=True)
    lines = {
        "include": "/etc/ldap/schema/core.schema",
        "pidfile": folder / "pid",
        "modulepath": "/usr/lib/ldap",
        "moduleload": "back_mdb",
        "TLSCACertificateFile": host.file(trust),
        "TLSCertificateFile": host.file("tls.pem"),
        "TLSCertificateKeyFile": host.file("tls.pem"),
        "TLSCRLFile": host.file("client-crl.pem"),
        "TLSVerifyClient": "demand",
        "database": "mdb",
        "suffix": "dc=lab",
        "directory": folder / "db",
    }
    (folder / "slapd.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    stop = f"pid=$(cat {folder}/pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
    start = f"slapd -f {folder}/slapd.conf -h 'ldap://127.0.0.1:{ports[0]} ldaps://127.0.0.1:{ports[1]}'"
    host.reloads_by(f"{stop}\n{start}")
    run("sh", "-c", start)
    try:
        for port in ports:
            wait_for(port)
        yield
    finally:
        run("sh", "-c", stop)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host(SERVICES, monkeypatch) as host:
        yield host


def test_slapd_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    with slapd(served, "client-ca.pem"):
        check_who_is_let_in(served, invoke, *SERVICES)
        check_revocation(served, invoke, *SERVICES)
    with slapd_again(served):  # with the root in its trust file, GnuTLS takes a server's certificate for a client's
        entry = access.improper_access(served.endpoint("directories"), served.roots, served.identity("server-mtls"))
        assert entry == "lets it in: it answers a search"


@contextmanager
def slapd_again(served: ServiceHost) -> Iterator[None]:
    run("rm", "-r", served.folder / "slapd")
    with slapd(served, "client-chain.pem"):
        yield
