"""Nothing is signed or recorded under a clock that cannot be believed, and everything under one that others confirm."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from pki.common.errors import PkiError
from pki.ledger.types import Event
from pki.monitor.report.run import Run
from pki.project.clock_guard import CONFIRM, ClockVerdict, Evidence, doubt
from pki.project.project import Project
from tests.support.ceremonies import RealHome
from tests.support.clocks import hosts, nobody
from tests.support.commands import said_by
from tests.support.judges import DAY, HOUR
from tests.support.live_host import delivered, delivered_once, kind
from tests.support.projects import START, Ask, Home, two_hosts_agree

__all__ = ["delivered", "delivered_once", "kind"]

MINUTE, SECOND, NONE = timedelta(minutes=1), timedelta(seconds=1), timedelta()
KERNEL = Evidence(kernel_ahead=NONE)


# -- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "said"),
    [
        (NONE, ""),
        (-2 * HOUR, ""),
        (-2 * HOUR - SECOND, "2 hours before the last event in the ledger, 2026-11-23 06:00"),
        (-DAY, "1 day before"),
        (-400 * DAY, "400 days before"),
        (120 * DAY, ""),
        (180 * DAY, ""),
        (180 * DAY + SECOND, "180 days after the last event in the ledger, 2026-11-23 06:00"),
        (600 * DAY, "600 days after"),
    ],
)
def test_a_clock_is_in_doubt_more_than_180_days_after_the_last_event_or_two_hours_before_it(
    since: timedelta, said: str
) -> None:
    assert doubt(START + since, START).startswith(said)
    assert bool(doubt(START + since, START)) == bool(said)
    assert doubt(START + since, None) == ""


@pytest.mark.parametrize(
    ("evidence", "is_enough"),
    [
        (Evidence(), False),
        (KERNEL, True),
        (Evidence(kernel_ahead=5 * MINUTE), True),
        (Evidence(kernel_ahead=-5 * MINUTE - SECOND), False),
        (hosts(None, None, None), False),
        (hosts(NONE), False),
        (hosts(NONE, None, 400 * DAY), False),
        (hosts(NONE, -400 * DAY, 5 * MINUTE), True),
        (hosts(NONE, 5 * MINUTE + SECOND), False),
        (hosts(-400 * DAY, -400 * DAY, -400 * DAY), False),
        (hosts(NONE, kernel_ahead=-400 * DAY), False),
        (hosts(-400 * DAY, -400 * DAY, kernel_ahead=NONE), True),
    ],
)
def test_two_hosts_or_a_synchronised_kernel_clock_confirm_a_clock_to_within_five_minutes(
    evidence: Evidence, is_enough: bool
) -> None:
    assert evidence.is_enough is is_enough
    assert ClockVerdict(START, START - 400 * DAY, evidence).may_sign is is_enough
    assert ClockVerdict(START, START, evidence).may_sign
    assert ClockVerdict(START, None, evidence).may_sign


def test_a_refusal_says_what_clock_ledger_hosts_and_kernel_say_and_what_to_type() -> None:
    refusal = ClockVerdict(START, START - 400 * DAY, hosts(-400 * DAY, None, kernel_ahead=None)).refusal
    assert refusal.message == (
        "the clock says 2026-11-23 06:00 UTC, 400 days after the last event in the ledger, 2025-10-19 06:00; "
        "nothing is signed: host-0 says 2025-10-19 06:00; host-1 does not answer; the kernel clock is not synchronised"
    )
    assert refusal.hint.endswith(": ./run doit --clock-is-right")
    alone = ClockVerdict(START, START - 400 * DAY, Evidence(kernel_ahead=HOUR)).refusal
    assert alone.message.endswith(
        "nothing is signed: there is no host to ask over ssh; the synchronised kernel clock says 2026-11-23 07:00"
    )


# -- whole runs -------------------------------------------------------------------------------------------------------


def one_agrees(_project: Project) -> Evidence:
    return hosts(NONE, -400 * DAY, kernel_ahead=-400 * DAY)


def signed(home: Home) -> dict[str, bytes]:
    """Every file that a signature stands behind, or that says one is wanted."""
    places = ("ca/[!.]*/**/*.*", "build/certs/**/*", "build/crl/*", "build/hosts/**/*", "offline/**/*")
    return {str(path): path.read_bytes() for place in places for path in home.path.glob(place) if path.is_file()}


def events(home: Home) -> list[Event]:
    project = home.project()
    found = project.ledger.events()
    project.ledger.close()
    return found


def assert_refused(home: Home, days: float, evidence: Ask = nobody) -> None:
    """A run that would sign something signs, records and publishes nothing, and names the command."""
    before = signed(home), events(home)
    report = home.doit(days=days, evidence=evidence)
    assert report.status in {1, 2}
    assert {one.rpartition(" → ")[2].rpartition(": ")[2] for one in report.failed.values()} == {CONFIRM}
    assert (signed(home), events(home)) == before


@pytest.mark.parametrize("days", [-20000, -400, -1, 181, 330, 400, 700])
@pytest.mark.parametrize("evidence", [nobody, one_agrees])
def test_nothing_is_signed_under_a_clock_that_nobody_confirms(home: Home, days: float, evidence: Ask) -> None:
    """Not by a ceremony of the sandbox either, which is due on day 700."""
    assert_refused(home, days, evidence)
    report = home.doit(days=1, evidence=nobody)
    assert (report.status, report.made) == (0, {})


@pytest.mark.parametrize("days", [-400, 330, 700])
def test_no_request_for_a_ceremony_is_dated_by_a_clock_that_nobody_confirms(real: RealHome, days: float) -> None:
    assert_refused(real, days)
    assert len(list((real.path / "ca/ceremonies").iterdir())) == 1


@pytest.mark.parametrize("days", [100, 120, 179])
def test_a_machine_that_was_off_for_months_recovers_by_itself(home: Home, days: float) -> None:
    report = home.doit(days=days, evidence=nobody)
    assert report.status == 0, report.failed
    assert "cert:media" in report.made


def test_a_new_project_has_no_last_event(fresh: Home) -> None:
    assert fresh.doit(days=-3000, evidence=nobody).status == 0


def test_a_run_under_a_clock_that_was_ahead_is_followed_by_one_that_needs_evidence_once(home: Home) -> None:
    assert home.doit(days=40, evidence=nobody).status == 0
    assert_refused(home, 1)
    assert home.doit(days=1).status == 0
    report = home.doit(days=1, evidence=nobody)
    assert (report.status, report.made) == (0, {})
    assert home.doit(days=20, evidence=nobody).status == 0


def test_work_that_needs_no_signature_goes_on(home: Home) -> None:
    assert home.doit(days=7).status == 0
    home.write("templates/extra/motd", "# deploy-target: /etc/motd\n# deploy-hosts: media\nhello\n")
    report = home.doit("deploy:media", days=6.5, evidence=nobody)
    assert report.status == 0, report.failed
    assert home.read("build/hosts/media/etc/motd").endswith(b"hello\n")


def test_nothing_is_recorded_under_a_clock_that_nobody_confirms(home: Home) -> None:
    """It would be the last event then, and the clock no longer in doubt."""
    project = home.project(-20000, nobody)
    with pytest.raises(PkiError, match="nothing is signed"):
        project.ledger.record_decision("cert:client-admin", "installed", "", project.now)
    assert home.project().ledger.decisions() == []


@pytest.mark.parametrize("words", [("renew", "media"), ("revoke", "media", "--reason", "superseded", "--yes")])
def test_commands_that_sign_name_the_confirmation_and_change_nothing(
    home: Home, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    before = signed(home), events(home)
    said = said_by(capsys, *words, pki_home=str(home.path), pki_now=home.moment(-1), pki_evidence=nobody)
    assert said.status == 1
    assert said.error.rstrip().endswith(CONFIRM)
    assert (signed(home), events(home)) == before


def test_an_old_backup_is_restored_without_evidence(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text("tuna-river-cabin-moss-kettle-orbit")
    said = {"pki_called_from": str(tmp_path), "pki_evidence": nobody}
    options = ("--passphrase-file", "words")
    assert not said_by(
        capsys, "backup", "old.age", *options, pki_home=str(home.path), pki_now=home.moment(), **said
    ).status
    project = home.project()
    issued = project.ledger.certificates(artifact="cert:client-admin")[-1]
    project.ledger.record_revocation(issued, reason="superseded", at=project.now)
    project.close(run_succeeded=False)
    assert home.doit().status == 0
    for name in ("ca", "secrets.yaml"):
        (home.path / name).rename(tmp_path / name)
    told = said_by(capsys, "restore", "old.age", *options, pki_home=str(home.path), pki_now=home.moment(300), **said)
    assert told.status == 0, told
    assert f"{issued.serial:x}" in told.out


# -- the confirmation -------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], list[str]]:
    """Let somebody at a terminal type this at every question, or end the input; returns the questions."""

    def type_(answer: str | None) -> list[str]:
        asked = list[str]()

        def answered(question: str) -> str:
            asked.append(question)
            if answer is None:
                raise EOFError
            return answer

        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", answered)
        return asked

    return type_


Typed = Callable[[str | None], list[str]]


@pytest.mark.parametrize(("ahead", "days"), [(0, 200), (40, 1), (0, 600)])
def test_a_confirmation_at_a_terminal_lets_this_run_sign_and_is_recorded(
    home: Home, typed: Typed, capsys: pytest.CaptureFixture[str], ahead: int, days: int
) -> None:
    home.doit(days=ahead)
    assert_refused(home, days)
    asked = typed("yes")
    capsys.readouterr()
    report = home.doit("--clock-is-right", days=days, evidence=nobody)
    assert report.status == 0, report.failed
    assert asked == [f"is it {home.moment(days):%A, %Y-%m-%d %H:%M} UTC now? (yes or no) "]
    assert "host-0 does not answer; the kernel clock is not synchronised" in capsys.readouterr().out
    (decision,) = home.project(days).ledger.decisions(artifact="project")
    assert (decision.decision, decision.at) == ("clock-confirmed", home.moment(days))
    assert (
        decision.detail == f"{home.moment(days):%Y-%m-%d %H:%M} UTC, last event {home.moment(ahead):%Y-%m-%d %H:%M} UTC"
    )
    assert home.project(days).ledger.verify() == []
    assert home.doit(days=days, evidence=nobody).made == {}
    assert home.doit(days=days + 10, evidence=nobody).status == 0


@pytest.mark.parametrize("answer", ["no", "", "of course", None])
def test_any_other_answer_than_yes_runs_nothing(home: Home, typed: Typed, answer: str | None) -> None:
    before = signed(home), events(home)
    typed(answer)
    assert Run(home.path, home.moment(400), nobody).main(["--clock-is-right"]) == 3
    assert (signed(home), events(home)) == before


@pytest.mark.parametrize("days", [1, 400])
def test_a_confirmation_without_a_terminal_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], days: int
) -> None:
    """Also where there is nothing to confirm: in a crontab it would confirm every clock."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    assert Run(home.path, home.moment(days), nobody).main(["-n", "2", "--clock-is-right"]) == 3
    assert "the clock must be confirmed at a terminal" in capsys.readouterr().err


@pytest.mark.parametrize(("days", "evidence"), [(7, nobody), (400, two_hosts_agree)])
def test_a_clock_that_is_in_no_doubt_is_not_asked_about(home: Home, typed: Typed, days: int, evidence: Ask) -> None:
    asked = typed("no")
    assert home.doit("--clock-is-right", days=days, evidence=evidence).status == 0
    assert asked == []
    assert home.project(days).ledger.decisions(artifact="project") == []
