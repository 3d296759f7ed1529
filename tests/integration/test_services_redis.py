"""Redis with files of its recipe: it refuses unknown clients, and reads no CRL, which `revoke` reports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import run
from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation_without_crl,
    check_who_is_let_in,
    service_host,
    wait_for,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"cache": "tls"}, monkeypatch, "root:redis", recipe="redis") as host:
        config, port, pid = host.folder / "redis.conf", host.ports["cache"], host.folder / "pid"
        config.write_text(f'bind 127.0.0.1\nsave ""\npidfile {pid}\ndaemonize yes\ninclude {host.file("redis.conf")}\n')
        # the recipe restarts the server: it reads its certificate only then
        stop = f"kill $(cat {pid}); while [ -e {pid} ]; do sleep 0.05; done"
        start = f"redis-server {config}; while ! [ -s {pid} ]; do sleep 0.05; done"
        host.reloads_by(f"{stop}\n{start}")
        run("sh", "-c", start)
        try:
            wait_for(port)
            yield host
        finally:
            run("sh", "-c", stop)


def test_redis_lets_in_whom_it_should_and_a_revocation_says_that_it_reads_no_crl(
    served: ServiceHost, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_who_is_let_in(served, invoke, "cache")
    check_renewal(served, invoke, "cache")
    check_revocation_without_crl(served, invoke, "some servers, such as Redis, read no CRL", monkeypatch, "cache")
