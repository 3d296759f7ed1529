"""MariaDB with files of a project: accounts that demand a certificate, and a revocation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import run
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

ACCOUNTS = ("doit-pki-probe", "anna@laptop", "app@server")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"db": "mysql"}, monkeypatch, "root:mysql", recipe="mariadb") as host:
        data, port = host.folder / "data", host.ports["db"]
        run("mariadb-install-db", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal")
        run("chown", "-R", "mysql", data)
        options = {
            "user": "mysql",
            "datadir": data,
            "bind-address": "127.0.0.1",
            "port": port,
            "socket": data / "socket",
        }
        host.reloads_by(f"mariadb-admin --socket={data}/socket -u root flush-ssl")
        given = (f"--{name}={value}" for name, value in options.items())
        with started(host.folder, "mariadbd", f"--defaults-file={host.file('99-doit-pki.cnf')}", *given, port=port):
            yield host


def sql(served: ServiceHost, statement: str) -> None:
    run("mariadb", f"--socket={served.folder}/data/socket", "-u", "root", "-e", statement)


def test_mariadb_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    for account in ACCOUNTS:
        sql(
            served,
            f"CREATE USER '{account}'@'127.0.0.1' REQUIRE X509; CREATE USER '{account}'@'localhost' REQUIRE X509",
        )
    check_who_is_let_in(served, invoke, "db")
    check_renewal(served, invoke, "db")
    check_revocation(served, invoke, "db")
    sql(served, "KILL USER 'app@server'")
