"""What others say of the time: the real pki-apply on hosts in folders, hosts that answer anything else, and the kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pki.common.errors import PkiError
from pki.deploy import host_clocks, process
from pki.deploy.contact import Contact
from pki.pipeline import delivery_targets
from pki.project import clock_guard
from pki.project.clock_guard import Evidence
from tests.support.hosts import FolderHost, LocalTransport
from tests.support.judges import DAY
from tests.support.live_host import CRL, Live, delivered, delivered_once, kind
from tests.support.projects import START, Home

__all__ = ["delivered", "delivered_once", "kind"]

MINUTE, NONE = timedelta(minutes=1), timedelta()


@dataclass
class Fleet:
    """The example with all its hosts behind ssh; each is the real pki-apply in a folder, or any other program."""

    home: Home
    folder: Path
    transports: dict[str, LocalTransport]

    def host(self, name: str, ahead: timedelta) -> None:
        """Let a host answer whose clock is so far ahead of the test's."""
        made = FolderHost.new(self.folder / f"host-{name}")
        made.conf.write_text(made.conf.read_text().replace("host media", f"host {name}"))
        made.clock.write_text(str(int((START + ahead).timestamp())))
        self.transports[name] = LocalTransport(name, name, program=str(made.program))

    def program(self, name: str, script: str) -> None:
        """Let a host be one that answers like this."""
        path = self.folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.transports[name] = LocalTransport(name, name, program=str(path))

    def evidence(self) -> Evidence:
        return delivery_targets.clock_evidence(self.home.project())

    def said(self) -> dict[str, timedelta | None]:
        """What was heard, to the minute: a run takes its time."""
        heard = {one.host: one.ahead for one in self.evidence().hosts}
        return {name: ahead and timedelta(minutes=round(ahead / MINUTE)) for name, ahead in heard.items()}


@pytest.fixture
def fleet(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for network in ("mgmt", "dev", "av"):
        home.edit(f"    network: {network}\n", f"    network: {network}\n    deliver: ssh\n")
    found = Fleet(home, tmp_path, {})
    monkeypatch.setattr(
        delivery_targets, "transport_of", lambda _inventory, _store, name, _host: found.transports[name]
    )
    monkeypatch.setattr(clock_guard, "kernel_time", lambda: None)
    monkeypatch.setattr(host_clocks, "HOST_TIMEOUT", 5.0)
    monkeypatch.setattr(process, "EXIT_TIMEOUT", 0.2)
    for name in ("monitoring", "forge", "media"):
        found.program(name, "exit 1")
    return found


def test_hosts_tell_their_date_before_anything_else(fleet: Fleet) -> None:
    fleet.host("monitoring", -400 * DAY)
    fleet.host("media", 3 * MINUTE)
    assert fleet.said() == {"monitoring": -400 * DAY, "forge": None, "media": 3 * MINUTE}
    assert not fleet.evidence().is_enough
    fleet.host("forge", NONE)
    assert fleet.evidence().agreeing == ["forge", "media"]


@pytest.mark.parametrize(
    "answer",
    [
        "exit 1",
        "sleep 60",
        "yes",
        "head -c 3000000 /dev/zero; sleep 60",
        "echo",
        "echo '[]'",
        """echo '{"pki-apply":1}'; sleep 60""",
        """echo '{"pki-apply":1,"date":"soon"}'""",
        """echo '{"pki-apply":1,"date":true}'""",
        """echo '{"pki-apply":1,"date":-1}'""",
        """echo '{"pki-apply":1,"date":99999999999999999999}'""",
        """echo '{"error":"another pki-apply is running"}'""",
    ],
)
def test_a_host_that_answers_anything_else_neither_confirms_nor_blocks(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(host_clocks, "HOST_TIMEOUT", 0.7)
    fleet.program("monitoring", answer)
    fleet.host("forge", NONE)
    assert not fleet.evidence().is_enough
    fleet.host("media", NONE)
    assert fleet.evidence().agreeing == ["forge", "media"]


def test_one_host_under_two_names_is_one_witness(fleet: Fleet) -> None:
    fleet.host("forge", NONE)
    fleet.transports["media"] = replace(fleet.transports["forge"], host="media")
    assert fleet.evidence().agreeing == ["forge"]


def test_this_machine_is_no_witness_of_its_own_clock(fleet: Fleet) -> None:
    fleet.host("forge", NONE)
    fleet.host("media", NONE)
    fleet.home.edit("    network: av\n    deliver: ssh\n", "    network: av\n    deliver: local\n")
    assert fleet.evidence().agreeing == ["forge"]


def test_hosts_that_answered_last_time_are_asked_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_clocks, "PARALLEL", 1)
    Contact().failed(START, PkiError("cannot be reached")).save(fleet.home.project().store.contact("monitoring"))
    fleet.host("forge", NONE)
    fleet.host("media", NONE)
    assert [one.host for one in fleet.evidence().hosts] == ["forge", "media"]


def test_no_more_than_sixteen_hosts_are_asked() -> None:
    transports = [LocalTransport(f"host-{n}", f"host-{n}", program="/bin/false") for n in range(40)]
    assert len(list(host_clocks.clock_offsets(transports, lambda: START))) == 16


def test_a_synchronised_kernel_clock_asks_no_host(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_guard, "kernel_time", lambda: START + MINUTE)
    monkeypatch.setattr(host_clocks, "clock_offsets", lambda *_: pytest.fail("a host was asked"))
    assert fleet.evidence().is_kernel_right
    monkeypatch.undo()
    monkeypatch.setattr(clock_guard, "kernel_time", lambda: START + DAY)
    monkeypatch.setattr(
        delivery_targets, "transport_of", lambda _inventory, _store, name, _host: fleet.transports[name]
    )
    assert not fleet.evidence().is_kernel_right


@pytest.mark.parametrize("kernel", [NONE, 400 * DAY, None])
def test_the_kernel_is_asked_as_adjtimex_says_it(monkeypatch: pytest.MonkeyPatch, kernel: timedelta | None) -> None:
    """Its answer is laid out as in <sys/timex.h>; a clock without NTP returns TIME_ERROR, or has STA_UNSYNC set."""

    def adjtimex(found: Any) -> int:
        timex = found._obj  # noqa: SLF001 - what byref refers to
        timex.seconds = int((START + (kernel or NONE)).timestamp())
        timex.status = 0x2001 if kernel is not None else 0x40
        return 0 if kernel is not None else 5

    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(adjtimex=adjtimex))
    assert clock_guard.kernel_time() == (None if kernel is None else START + kernel)


def test_the_real_kernel_answers_or_is_not_synchronised() -> None:
    found = clock_guard.kernel_time()
    assert found is None or abs(found - datetime.now(UTC)) < 5 * MINUTE


def test_a_crl_is_from_the_future_only_if_the_clock_of_the_host_says_so_too(delivered: Live) -> None:
    """Ours is behind: it would put back an older CRL than the host can use."""
    delivered.home.edit("crl-pem:client", "crl:bundle-client", CRL)
    assert delivered.doit().status == 0
    old = delivered.home.read("build/crl/bundle-client.pem")
    assert delivered.doit(days=400).status == 0
    new = delivered.on("/etc/client-crl.pem").read_bytes()
    delivered.host.clock.write_text(str(int((START + 400 * DAY).timestamp())))
    assert "revocation never goes back" in delivered.because(delivered.doit(days=1))
    assert delivered.on("/etc/client-crl.pem").read_bytes() == new
    delivered.host.clock.write_text(str(int((START + DAY).timestamp())))
    assert delivered.doit(days=1).status == 0
    assert delivered.on("/etc/client-crl.pem").read_bytes() not in {old, new}
