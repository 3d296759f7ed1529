"""PostgreSQL with files of a project: who is let in, and a revocation that also ends open sessions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.conftest import run
from tests.integration.postgres import PROGRAMS
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

AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
HBA = "local all all trust\nhostssl all all 127.0.0.1/32 cert\n"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"postgres": "postgres"}, monkeypatch, owner="root:postgres", recipe="postgres") as host:
        data = host.folder / "data"
        data.mkdir()
        run("chown", "postgres", data)
        run(*AS_POSTGRES, PROGRAMS / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", cwd="/")
        (data / "pg_hba.conf").write_text(HBA)
        with (data / "postgresql.conf").open("a") as config:
            config.write(f"include '{host.file('postgresql.conf')}'\n")
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": data,
            "port": host.ports["postgres"],
            "fsync": "off",
        }
        settings = (part for name, value in options.items() for part in ("-c", f"{name}={value}"))
        host.reloads_by(f"kill -HUP $(head -n 1 {data}/postmaster.pid)")
        port = host.ports["postgres"]
        with started(host.folder, *AS_POSTGRES, PROGRAMS / "postgres", "-D", data, *settings, port=port):
            yield host


def sql(served: ServiceHost, statement: str) -> str:
    return run(
        "psql", "-h", served.folder / "data", "-p", str(served.ports["postgres"]), "-U", "postgres", "-XAtc", statement
    )


def test_postgresql_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    sql(served, 'CREATE ROLE "anna@laptop" LOGIN')
    check_who_is_let_in(served, invoke, "postgres")
    check_renewal(served, invoke, "postgres")
    identity = served.folder / "anna.pem"
    identity.write_bytes(served.identity("client-anna@laptop").read_bytes())
    identity.chmod(0o600)
    address = f"host=127.0.0.1 port={served.ports['postgres']} user=anna@laptop dbname=postgres sslmode=require"
    session = subprocess.Popen(
        ["psql", f"{address} sslcert={identity} sslkey={identity}", "-XAtc", "SELECT pg_sleep(600)"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not sql(
        served, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()"
    ):
        assert session.poll() is None, session.communicate()
    printed = check_revocation(served, invoke, "postgres")
    assert session.poll() is None, "a revocation ends no session"
    ending = re.search(r"SELECT pg_terminate_backend\(pid\) FROM pg_stat_ssl WHERE client_serial = [0-9]+", printed)
    assert ending, printed
    assert sql(served, ending[0]).strip() == "t"
    assert b"terminating connection due to administrator command" in session.communicate(timeout=60)[1]
