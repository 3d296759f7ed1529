"""One machine runs doit on a ledger that several machines reach: which one, and how another one takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki.common.errors import LedgerError, PkiError
from pki.project import machine_guard
from pki.project.machine_guard import VARIABLE, MachineGuard, this_machine
from tests.support.projects import Home


@pytest.fixture(autouse=True)
def _on_machine_a(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "a")


def on(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """From here on, the test is on this machine."""
    monkeypatch.setenv(VARIABLE, machine)
    monkeypatch.setattr(machine_guard.socket, "gethostname", lambda: f"host-{machine}")


def guard(home: Home, *, is_shared: bool = True, days: float = 0) -> MachineGuard:
    project = home.project(days)
    return MachineGuard(project.ledger_view, project.now, is_shared=is_shared)


def test_the_first_machine_stays_the_only_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    guard(home).check()
    guard(home).check()
    on(monkeypatch, "b")
    for refuse in (guard(home).check, guard(home).check_writing):
        with pytest.raises(LedgerError) as refused:
            refuse()
        assert refused.value.message.startswith("machine host-a (")
        assert "runs doit since 2026-11-23, and this is host-b (" in refused.value.message
        assert refused.value.hint.endswith("./run doit --take-over")
    assert [notice.text for notice in guard(home).notices()] == [refused.value.message]
    on(monkeypatch, "a")
    guard(home).check()
    assert list(guard(home).notices()) == []


def test_a_machine_that_takes_over_is_recorded_and_the_former_one_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard(home).check()
    machine_a = this_machine()
    assert not guard(home).take_over(), "it runs doit already"
    on(monkeypatch, "b")
    assert guard(home, days=1).take_over()
    guard(home).check()
    (decision,) = home.project().ledger.decisions()
    assert (decision.artifact, decision.decision) == ("project", "taken-over")
    assert decision.detail == f"{this_machine()}, before {machine_a}"
    on(monkeypatch, "a")
    with pytest.raises(LedgerError, match=r"machine host-b .* runs doit since 2026-11-24, and this is host-a"):
        guard(home).check()


def test_a_ledger_in_the_project_folder_is_not_bound_to_a_machine(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    guard(home).check()
    on(monkeypatch, "b")
    alone = guard(home, is_shared=False)
    alone.check()
    alone.check_writing()
    assert not alone.take_over()
    assert list(alone.notices()) == []


def test_a_new_host_name_does_not_make_another_machine(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    guard(home).check()
    monkeypatch.setattr(machine_guard.socket, "gethostname", lambda: "renamed")
    guard(home).check()


def test_a_ledger_that_cannot_be_read_is_left_to_its_own_guard(home: Home) -> None:
    home.write("ca/ledger.db", "nothing")
    guard(home).check()


def test_a_machine_is_named_by_a_digest_that_does_not_show_its_machine_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_variable = this_machine()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(machine_guard, "MACHINE_ID", tmp_path / "machine-id")
    with pytest.raises(PkiError, match="machine-id: is missing") as refused:
        this_machine()
    assert "set PKI_MACHINE_ID" in refused.value.hint
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    by_file = this_machine()
    assert by_file != by_variable
    assert "0123456789" not in by_file
    assert by_file == this_machine()


def test_a_take_over_that_cannot_be_recorded_changes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    guard(home).check()
    on(monkeypatch, "b")
    other = guard(home)

    def fail(*_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(type(other.ledger_view.ledger), "record_decision", fail)
    with pytest.raises(LedgerError, match="the disk is full"):
        other.take_over()
    with pytest.raises(LedgerError, match="machine host-a"):
        guard(home).check()


def test_a_reader_without_a_machine_id_is_told_and_may_read(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guard(home).check()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(machine_guard, "MACHINE_ID", tmp_path / "missing")
    (notice,) = guard(home).notices()
    assert "missing: is missing" in notice.text
    with pytest.raises(LedgerError):
        guard(home).check()
