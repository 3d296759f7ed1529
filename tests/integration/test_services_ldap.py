"""OpenLDAP as Debian builds it, with GnuTLS: LDAP with StartTLS and LDAPS, a revocation, and the trap of its trust file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pki.deploy import access
from tests.integration.conftest import run
from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation,
    check_who_is_let_in,
    service_host,
    wait_for,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SERVICES = {"directory": "ldap", "directories": "ldaps"}


@contextmanager
def slapd(host: ServiceHost, ldif: str) -> Iterator[None]:
    """A server that is restarted whenever a file has changed: slapd reads them only when it starts."""
    folder, ports = host.folder / "slapd", [host.ports[service] for service in SERVICES]
    for name in ("db", "config"):
        (folder / name).mkdir(parents=True)
    lines = {
        "include": "/etc/ldap/schema/core.schema",
        "pidfile": folder / "pid",
        "modulepath": "/usr/lib/ldap",
        "moduleload": "back_mdb",
        "database": "mdb",
        "suffix": "dc=lab",
        "directory": folder / "db",
    }
    (folder / "slapd.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    run("slaptest", "-f", folder / "slapd.conf", "-F", folder / "config", ok=None)  # complains of the new database
    (folder / "tls.ldif").write_text(ldif)
    run("slapmodify", "-F", folder / "config", "-n", "0", "-l", folder / "tls.ldif")
    run("chown", "-R", "openldap", folder)
    stop = f"pid=$(cat {folder}/pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
    listening = f"'ldap://127.0.0.1:{ports[0]} ldaps://127.0.0.1:{ports[1]}'"
    start = f"slapd -u openldap -g openldap -F {folder}/config -h {listening}"
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
    with service_host(SERVICES, monkeypatch, owner="root:openldap", recipe="openldap") as host:
        yield host


def test_slapd_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    ldif = served.file("tls.ldif").read_text()
    with slapd(served, ldif):
        check_who_is_let_in(served, invoke, *SERVICES)
        check_renewal(served, invoke, *SERVICES)
        check_revocation(served, invoke, *SERVICES)


def test_slapd_takes_the_certificate_of_a_server_for_a_client_where_it_has_the_root_which_doit_never_delivers(
    served: ServiceHost,
) -> None:
    chain = served.folder / "chain.pem"
    chain.write_bytes((served.home.path / "build/trust/client-chain.pem").read_bytes())
    ldif = served.file("tls.ldif").read_text()
    with slapd(served, ldif.replace(str(served.file("client-ca.pem")), str(chain))):
        entry = access.acceptance_text(served.endpoint("directories"), served.roots, served.identity("server-mtls"))
        assert entry == "lets it in: it answers a search"
    name = "templates/recipes/openldap/client-ca.pem"
    text = served.home.read(name).decode()
    served.home.write(name, text.replace("trust:client-gnutls", "trust:client-chain"))
    report = served.home.doit()
    assert "trust:client-chain has the root, and directory uses GnuTLS" in report.failed["release:server"]
    headers = "".join(line for line in text.splitlines(keepends=True) if "deploy-artifact" not in line)
    served.home.write(name, headers + chain.read_text())
    report = served.home.doit()
    assert "client-ca.pem has the root, and is for a server that uses GnuTLS" in report.failed["deploy:server"]
    assert served.file("client-ca.pem").read_bytes() != chain.read_bytes()
