"""Postfix with files of a project: it refuses unknown clients, and reads no CRL, which `revoke` reports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

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

SERVICES = {"mail": "smtp", "mails": "smtps"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host(SERVICES, monkeypatch, recipe="postfix", changes={"inet n - y": "inet n - n"}) as host:
        config = host.folder / "postfix"
        for name in ("queue", "data"):
            (config / name).mkdir(parents=True)
        run("chown", "postfix", config / "data")
        master = Path("/etc/postfix/master.cf.proto").read_text()
        master = re.sub(r"(?m)^(\S+ +(?:unix|inet) +[-ny] +[-ny] +)y", r"\1n", master)  # no chroot
        master = re.sub(r"(?m)^smtp +inet .*$", "", master)
        (config / "master.cf").write_text(master)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": config / "queue",
            "data_directory": config / "data",
            "inet_interfaces": "127.0.0.1",
            "myhostname": "mail.lab.internal",
            "mydestination": "",
            "maillog_file": "/var/log/pki-services-postfix.log",
        }
        (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        host.reloads_by(f"postfix -c {config} reload")
        run("sh", host.file("setup.sh"), env={**os.environ, "MAIL_CONFIG": str(config)})
        run("postfix", "-c", config, "start")
        try:
            for port in host.ports.values():
                wait_for(port)
            yield host
        finally:
            run("postfix", "-c", config, "stop")
            Path("/var/log/pki-services-postfix.log").unlink(missing_ok=True)


def test_postfix_lets_in_whom_it_should_and_a_revocation_says_that_it_reads_no_crl(
    served: ServiceHost, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_who_is_let_in(served, invoke, *SERVICES)
    check_renewal(served, invoke, *SERVICES)
    check_revocation_without_crl(served, invoke, "Postfix reads no CRL", monkeypatch, *SERVICES)
