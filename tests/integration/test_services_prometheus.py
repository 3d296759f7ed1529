"""Prometheus with files of its recipe: it refuses unknown clients, reads new files itself, and reads no CRL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation_without_crl,
    check_who_is_let_in,
    service_host,
    started,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"metrics": "https"}, monkeypatch, "root:prometheus", recipe="prometheus") as host:
        port = host.ports["metrics"]
        (host.folder / "prometheus.yml").write_text("global: {}\n")
        options = {
            "config.file": host.folder / "prometheus.yml",
            "web.config.file": host.file("web.yml"),
            "web.listen-address": f"127.0.0.1:{port}",
            "storage.tsdb.path": host.folder / "data",
        }
        given = (f"--{name}={value}" for name, value in options.items())
        with started(host.folder, "prometheus", *given, port=port):
            yield host


def test_prometheus_lets_in_whom_it_should_and_a_revocation_says_that_it_reads_no_crl(
    served: ServiceHost, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_who_is_let_in(served, invoke, "metrics")
    check_renewal(served, invoke, "metrics")
    check_revocation_without_crl(served, invoke, "read no CRL", monkeypatch, "metrics")
