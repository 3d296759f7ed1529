"""Alerting: what health says of a project: how bad each thing is, since when, until when, and what to type."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pki.authority import crls
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.templating import FIX_OR_RAW
from pki.common.timestamps import instant
from pki.deploy.contact import Contact
from pki.deploy.protocol import HostRefusal
from pki.deploy.receipt import load as receipt_of
from pki.deploy.receipt import save as keep_receipt
from pki.deploy.ssh import UnreachableError
from pki.deploy.verification import Verdict, Verification
from pki.ledger.types import EMPTY_TEXT, FILE_MISSING_TEXT, RESTORE_FILE, RESTORE_FILE_OR_ACCEPT_LOSS
from pki.monitor import probes
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_authorities, disk_space
from pki.monitor.checks.check_context import Failure, LastRun
from pki.monitor.probes import ProbeFault, ProbeResult
from pki.monitor.report import health_report, status_table
from pki.pipeline import plan
from pki.project.clock_guard import Evidence
from tests.support.ceremonies import RealHome
from tests.support.commands import Invoke, Said
from tests.support.invoked import break_template, invoke, lose_passphrase
from tests.support.projects import START, Home
from tests.support.remote_hosts import _with, remote

__all__ = ["invoke", "remote"]  # the fixture

BACK = "put ca/root/root-1/crl/ back from a backup (./run invoke restore FILE --to DIR)"


def checked(home: Home, days: float = 0, *, thorough: bool = False) -> dict[str, Finding]:
    """What is not well, by subject; keys are opened and the ledger read only when `thorough`."""
    project = home.project(days)
    found = health_report.run_checks(project, home.plan(days), LastRun.load(project.store), thorough=thorough)
    assert [one.level for one in found] == sorted((one.level for one in found), reverse=True)
    return {one.subject: one for one in found if one.level}


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (0, "no ceremony is requested before 2028-03-27 (client-1)"),
        (500, "a ceremony is requested since 2028-03-27 (client-1)"),
    ],
)
def test_health_says_which_authority_needs_a_successor_first_and_from_when(
    real: RealHome, days: int, said: str
) -> None:
    project = real.project(days)
    found = health_report.run_checks(project, real.plan(days), LastRun.load(project.store), thorough=False)
    [text] = [str(one.message) for one in found if one.subject == "authorities" and one.level is Level.OK]
    assert text == f"root-1, server-1, client-1; {said}"


def level_of(home: Home, subject: str, days: float) -> str:
    found = checked(home, days).get(subject)
    return found.level.word if found else "ok"


def test_a_fresh_project_is_well(home: Home) -> None:
    assert checked(home, thorough=True) == {}


# -- certificates and CRLs --------------------------------------------------------------------------------------------


def test_a_renewal_that_fails_is_a_warning_and_in_its_last_week_critical(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit("cert:media", days=61)
    found = checked(home, 61)["cert:media"]
    assert found.level is Level.WARNING
    assert found.message.startswith("28 of 90 days left, renewal starts at 30; cannot be renewed: ca/server/server-1")
    assert found.remedy
    assert found.until is not None
    assert f"{found.until:%Y-%m-%d}" == "2027-02-21"
    assert level_of(home, "cert:media", 82) == "warning"
    assert level_of(home, "cert:media", 83) == "critical"
    assert level_of(home, "cert:media", 95) == "critical"
    assert "expired on 2027-02-21" in checked(home, 95)["cert:media"].message


def test_a_renewal_that_is_due_is_left_to_the_next_run_for_two_days(home: Home) -> None:
    assert [level_of(home, "cert:media", days) for days in (59, 60, 61.5, 62)] == ["ok", "ok", "ok", "warning"]
    assert "was not renewed" in checked(home, 62)["cert:media"].message
    assert str(checked(home, 62)["cert:media"].remedy) == "./run doit cert:media"


def test_what_is_lost_or_damaged_in_build_is_a_notice_until_the_next_run(home: Home) -> None:
    home.write("build/certs/media/tls.pem", "x")
    home.project().store.crl("server-1").unlink()
    found = checked(home, thorough=True)
    assert {name: (one.level, str(one.remedy)) for name, one in found.items()} == {
        name: (Level.NOTICE, f"./run doit {name}") for name in ("cert:media", "crl:server-1", "page:trust")
    }
    assert found["cert:media"].message == "tls.pem is damaged; the next run makes it again"
    home.doit()
    assert checked(home, thorough=True) == {}


def test_a_run_reads_no_certificate_again_that_it_found_sound(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    truths = {home.project().store.bundle(leaf) for leaf in home.plan().leaves.values()}
    assert home.doit().status == 0
    looked, read = [], filesystem.read

    def reads(path: str | Path) -> bytes | None:
        if Path(path) in truths:
            looked.append(Path(path))
        return read(path)

    monkeypatch.setattr(filesystem, "read", reads)
    assert home.doit().status == 0
    checked(home)
    assert looked == []
    (home.path / "build/.seen.json").unlink()
    checked(home)
    assert set(looked) == truths  # a command that has seen nothing looks at all of them
    assert len(truths) == 4


def test_a_crl_that_cannot_be_renewed_is_a_warning_and_in_its_last_days_critical(home: Home) -> None:
    lose_passphrase(home, "client-1")
    home.doit("crl", days=8)
    found = checked(home, 8)["crl:client-1"]
    assert found.level is Level.WARNING
    assert found.message.startswith(
        "expires in 12 days, on 2026-12-14, and cannot be renewed: ca/client/client-1/key.pem"
    )
    assert [level_of(home, "crl:client-1", days) for days in (17, 18, 22)] == ["warning", "critical", "critical"]


def test_a_crl_that_no_run_renewed_is_told_two_days_late(home: Home) -> None:
    assert [level_of(home, "crl:client-1", days) for days in (8, 9)] == ["ok", "warning"]
    assert checked(home, 9)["crl:client-1"].message == "expires in 11 days, on 2026-12-14, and was not renewed"


def presigned_crls(home: Home) -> list[Any]:
    return sorted((home.path / "ca/root/root-1/crl").glob("*.pem"), key=lambda path: int(path.stem))


def test_a_last_rung_that_is_missing_is_told_long_before_it_is_needed(home: Home) -> None:
    last = presigned_crls(home)[-1]
    last.unlink()
    found = checked(home)["crl:root-1"]
    assert (found.level, found.remedy) == (Level.WARNING, BACK)
    assert found.message == f"its last pre-signed CRL, {last.stem}, is not in ca/"
    assert home.doit().status == 0  # which has all that it needs today


def test_a_gap_in_the_ladder_is_told(fresh: Home) -> None:
    fresh.edit("presigned: 2", "presigned: 3")
    assert fresh.doit().status == 0
    assert checked(fresh) == {}
    first, gone, _ = presigned_crls(fresh)
    gone.unlink()
    found = checked(fresh)["crl:root-1"]
    assert (found.level, found.remedy.partition(";")[0]) == (Level.WARNING, BACK)
    assert found.message == "none of its pre-signed CRLs covers 2027-12-18 to 2028-11-12"
    assert level_of(fresh, "crl:root-1", 361) == "critical"  # thirty days before
    assert first.exists()


def test_without_a_valid_rung_every_server_refuses_every_client_when_the_last_one_has_ended(home: Home) -> None:
    for path in presigned_crls(home):
        path.unlink()
    found = checked(home)["crl:root-1"]
    said = "none of its pre-signed CRLs is valid now; needs a ceremony; every server refuses every client"
    assert (found.level, found.until) == (Level.CRITICAL, home.moment(390) - timedelta(hours=1))
    assert found.message == f"{said} from 2027-12-18 on, when the CRL that they have expires"
    assert found.remedy == f"{BACK}; or: PKI_HOME={home.path} ./run invoke ceremony.request --crls"
    assert checked(home, 391)["crl:root-1"].message == said


# -- authorities and keys ---------------------------------------------------------------------------------------------


def test_the_end_of_the_root_is_told_two_years_ahead(home: Home) -> None:
    years = (0, 8.1, 9.1, 9.7)
    levels = [level_of(home, "authority:root-1", 365 * year) for year in years]
    assert levels == ["ok", "notice", "warning", "critical"]


@pytest.mark.parametrize(("days", "level"), [(799, Level.OK), (800, Level.NOTICE), (900, Level.WARNING)])
def test_the_marks_of_a_short_root_are_shorter(days: int, level: Level) -> None:
    root: Any = SimpleNamespace(not_before=START, not_after=START + timedelta(days=1000))
    view: Any = SimpleNamespace(now=START + timedelta(days=days))
    assert check_authorities.root_level(view, root) is level


def test_a_project_without_authorities_says_what_to_type(fresh: Home) -> None:
    found = checked(fresh)
    assert found["authority:server"].level is Level.CRITICAL
    assert found["authority:server"].remedy == "./run doit"
    fresh.edit("sandbox: true", "sandbox: false")
    found = checked(fresh)
    assert found.keys() == {"ceremony"}
    assert found["ceremony"].remedy == "./run invoke ceremony.request"
    assert found["ceremony"].level is Level.NOTICE


def test_a_wrong_passphrase_is_found_before_it_is_needed(home: Home) -> None:
    secrets = home.read("secrets.yaml").decode()
    home.write("secrets.yaml", secrets.replace("server-1: ", "server-1: x"))
    (home.path / "secrets.yaml").chmod(0o600)
    found = checked(home, thorough=True)
    assert list(found) == ["key:server-1"]
    assert found["key:server-1"].level is Level.CRITICAL
    cause = "cannot be used: ca/server/server-1/key.pem: its key cannot be opened"
    assert found["key:server-1"].message == f"{cause}; nothing can be renewed or revoked with it"
    assert found["key:server-1"].remedy.startswith("the passphrase from secrets.yaml is wrong")
    assert "./run invoke restore FILE; if no backup has the key, " in str(found["key:server-1"].remedy)
    assert checked(home).keys() == {"key:server-1"}


def test_a_ceremony_gets_more_urgent_as_its_day_comes(real: Home) -> None:
    """client-1 is usable for 490 days, and can issue certificates of full lifetime for 550."""
    levels = [level_of(real, "ceremony", days) for days in (489, 490, 521, 544)]
    assert levels == ["ok", "notice", "warning", "critical"]
    found = checked(real, 521)["ceremony"]
    assert found.remedy == "./run invoke ceremony.request; see docs/how-to/ceremony.md"
    assert found.until is not None


# -- hosts ------------------------------------------------------------------------------------------------------------


def test_a_host_that_does_not_answer_is_told_since_when_and_how_long_there_is_time(remote: Home) -> None:
    project = remote.project()
    taken = receipt_of(project.store.receipt("media"))
    ends = START + timedelta(days=40)
    keep_receipt(project.store.receipt("media"), _with(taken, first_expiry=instant(ends)))
    Contact().failed(START, UnreachableError("cannot be reached: no route")).save(project.store.contact("media"))
    found = checked(remote, 3)["deploy:media"]
    assert (found.level, found.since, found.until) == (Level.WARNING, START, ends)
    assert found.message == "deployment failed: cannot be reached: no route"
    assert found.remedy == "./run invoke deploy.run media"
    assert level_of(remote, "deploy:media", 34) == "critical"


def test_a_host_that_has_taken_nothing_yet_is_not_counted_as_well(home: Home) -> None:
    home.project().store.receipt("media").unlink()
    found = health_report.run_checks(home.project(), home.plan(), LastRun(), thorough=True)
    said = [(one.level, one.message) for one in found if one.subject == "hosts"]
    assert said == [
        (Level.NOTICE, "2 of 3 deployed as declared in pki.yaml; not deployed yet: media"),
    ]


def test_a_host_that_does_not_get_its_release_is_named_with_the_place_of_the_reason(home: Home) -> None:
    break_template(home)
    home.doit(days=1)
    run = LastRun.load(home.project().store)
    found = health_report.run_checks(home.project(), home.plan(), run, thorough=True)
    [line] = [one for one in found if one.subject == "hosts"]
    text = "2 deployed as declared in pki.yaml; reported above: media (release:media)"
    assert (line.level, line.message) == (Level.OK, text)
    assert "release:media" in {one.subject for one in found if one.level > Level.NOTICE}, "where the reason is"
    of_run = health_report.run_checks(home.project(), home.plan(), run, thorough=False)
    assert [(one.level, one.message) for one in of_run if one.subject == "hosts"] == [(Level.OK, text)]


def test_a_host_that_is_held_or_unproven_is_a_notice(remote: Home) -> None:
    project = remote.project()
    payload = remote.plan().deliveries["media"].payloads.desired()
    assert payload is not None
    project.ledger.record_decision("deploy:media", "pinned", payload.release.digest, START)
    project.ledger.close()
    taken = receipt_of(project.store.receipt("media"))
    keep_receipt(
        project.store.receipt("media"),
        _with(taken, verification={"jellyfin": Verification(Verdict.UNDECIDED, "not verified: could not be reached")}),
    )
    found = checked(remote)
    assert found["pinned:media"].remedy == "./run invoke deploy.push media"
    assert found["pinned:media"].since == START
    assert found["verification:media"].level is Level.NOTICE
    assert found["verification:media"].message == "jellyfin not verified: could not be reached"


def test_what_receipts_say_is_read_once_and_again_when_one_is_written(
    remote: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, plan = remote.project(), remote.plan()
    assert not [
        one
        for one in health_report.run_checks(project, plan, LastRun(), thorough=False)
        if one.subject == "deploy:media"
    ]
    Contact().failed(START, PkiError("down")).save(project.store.contact("media"))
    assert [
        one
        for one in health_report.run_checks(project, plan, LastRun(), thorough=False)
        if one.subject == "deploy:media"
    ]
    monkeypatch.setattr("pki.monitor.checks.check_hosts._state", None)
    assert [
        one
        for one in health_report.run_checks(project, plan, LastRun(), thorough=False)
        if one.subject == "deploy:media"
    ]


def test_drift_in_a_folder_is_found_before_the_run_that_repairs_it(home: Home) -> None:
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")
    found = checked(home, thorough=True)["drift:media"]
    assert (found.level, found.message) == (Level.NOTICE, "was changed: /etc/caddy/Caddyfile was edited")
    assert found.remedy.startswith("./run doit restores it")


# -- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mode", "wanted", "closed"),
    [
        ("secrets.yaml", 0o640, "600", "server-1 and client-1"),
        ("ca", 0o755, "700", ""),
        ("ca/server/server-1/key.pem", 0o604, "600", "server-1"),
    ],
)
def test_a_secret_that_others_can_read_is_critical(home: Home, path: str, mode: int, wanted: str, closed: str) -> None:
    (home.path / path).chmod(mode)
    found = checked(home)[path]
    assert (found.level, found.remedy) == (Level.CRITICAL, f"chmod {wanted} {path}")
    then = f"; until that is corrected, nothing can be renewed or revoked with {closed}" if closed else ""
    assert found.message == f"can be read by others: its mode is {mode:04o}{then}"
    assert found.headline == f"others can read {path}"


@pytest.mark.parametrize(("days", "far"), [(-1, "1 day before"), (181, "181 days after")])
def test_a_clock_that_nobody_confirms_is_critical(home: Home, days: float, far: str) -> None:
    project = home.project(days, lambda _: Evidence())
    (found,) = (
        one for one in health_report.run_checks(project, plan.plan(project), LastRun()) if one.subject == "clock"
    )
    assert found.level is Level.CRITICAL
    assert f", {far} the last event in the ledger, 2026-11-23 06:00; nothing is signed: " in found.message
    assert found.remedy.endswith("./run doit --clock-is-right")


@pytest.mark.parametrize("days", [-1, 181])
def test_a_clock_that_others_confirm_is_well(home: Home, days: float) -> None:
    (found,) = (
        one
        for one in health_report.run_checks(home.project(days), home.plan(days), LastRun())
        if one.subject == "clock"
    )
    assert (found.level, found.message.endswith("; confirmed: forge and media agree")) == (Level.OK, True)


def test_a_clock_near_the_last_event_asks_nobody(home: Home) -> None:
    for days in (-0.08, 0, 120, 180):
        project = home.project(days, lambda _: pytest.fail("somebody was asked"))
        (found,) = (
            one for one in health_report.run_checks(project, plan.plan(project), LastRun()) if one.subject == "clock"
        )
        assert (found.level, found.message) == (Level.OK, "agrees with the last event in the ledger")


def test_a_ledger_that_is_gone_is_critical(home: Home) -> None:
    (home.path / "ca/ledger.db").unlink()
    report = home.doit(days=1)  # nothing is due, and nothing asks for the ledger
    found = checked(home, 1)["ledger"]
    assert (found.level, found.message, found.remedy) == (
        Level.CRITICAL,
        FILE_MISSING_TEXT,
        RESTORE_FILE_OR_ACCEPT_LOSS,
    )
    assert (report.status, report.failed) == (1, {"ledger": f"{FILE_MISSING_TEXT} → {RESTORE_FILE_OR_ACCEPT_LOSS}"})


def test_a_ledger_that_was_emptied_is_critical_and_no_crl_is_made(home: Home) -> None:
    os.truncate(home.path / "ca/ledger.db", 0)
    assert "crl:client-1" in home.doit(days=8).failed
    found = checked(home, 8)["ledger"]
    assert (found.level, found.remedy) == (Level.CRITICAL, RESTORE_FILE_OR_ACCEPT_LOSS)
    assert found.message == f"nothing can be issued or revoked: ca/ledger.db: {EMPTY_TEXT}"


def test_a_ledger_that_was_changed_is_critical(home: Home) -> None:
    with sqlite3.connect(home.path / "ca/ledger.db") as db:
        db.execute("UPDATE certificates SET reason = 'because' WHERE artifact = 'cert:media'")
    db.close()
    found = checked(home, thorough=True)["ledger"]
    assert found.level is Level.CRITICAL
    assert "its certificate of cert:media was changed" in found.message


def test_a_ledger_that_lost_its_newest_event_is_found_by_a_mere_run(home: Home) -> None:
    with sqlite3.connect(home.path / "ca/ledger.db") as db:
        db.execute("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)")
    db.close()
    found = checked(home)["ledger"]
    assert found.level is Level.CRITICAL
    assert found.message == "nothing can be issued or revoked: ca/ledger.db: its newest events are missing"
    assert found.remedy == RESTORE_FILE


def test_a_ledger_that_cannot_be_read_is_critical_and_says_what_to_type(home: Home, invoke: Invoke) -> None:
    home.write("ca/ledger.db", "no database" * 100)
    home.doit(days=1)
    found = checked(home, 1)["ledger"]
    assert found.level is Level.CRITICAL
    assert found.message == "nothing can be issued or revoked: ca/ledger.db: file is not a database"
    assert found.remedy == RESTORE_FILE
    assert RESTORE_FILE in invoke(home, "ledger.verify").error


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [(50, 10**6, "critical"), (400, 10**6, "warning"), (600, 10**6, "ok"), (600, 100, "critical")],
)
def test_a_disk_that_fills_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, level: str
) -> None:
    disk = SimpleNamespace(f_bavail=free, f_frsize=1 << 20, f_blocks=10_000, f_files=10**6, f_favail=inodes, f_flag=0)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    found = {one.subject: one for one in checked(home).values()}.get(f"disk:{home.path}")
    assert (found.level.word if found else "ok") == level
    assert found is None or found.remedy.startswith(f"free some space: df -h {home.path}")


def test_a_disk_that_cannot_be_written_is_critical(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ext4 becomes after an error: there is room enough."""
    disk = {"f_bavail": 10**6, "f_frsize": 1 << 20, "f_blocks": 10**6, "f_files": 10**6, "f_favail": 10**6}
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**disk, f_flag=os.ST_RDONLY))
    found = checked(home)[f"disk:{home.path}"]
    assert (found.level, found.message) == (Level.CRITICAL, "mounted read-only: nothing can be renewed or recorded")
    assert found.remedy == f"sudo mount -o remount,rw $(findmnt -nro TARGET -T {home.path}); for the cause: sudo dmesg"


def test_a_backup_that_was_never_made_or_is_old_is_told(real: Home) -> None:
    assert checked(real)["backup"].message.startswith("no backup was ever made")
    newest = real.project().ledger.newest_event()
    assert newest is not None
    record = {"at": instant(START), "file": "x", "ledger": {"events": newest.seq, "head": newest.hash}}
    real.write("ca/.last-backup.json", json.dumps(record))
    assert level_of(real, "backup", 400) == "ok"  # nothing came since
    real.write("ca/.last-backup.json", json.dumps(record | {"ledger": {"events": 1, "head": "x"}}))
    assert [level_of(real, "backup", days) for days in (8, 9, 32)] == ["ok", "notice", "warning"]


def test_a_sandbox_needs_no_backup(home: Home) -> None:
    assert "backup" not in checked(home, 400)


# -- runs -------------------------------------------------------------------------------------------------------------


def test_what_the_last_run_failed_at_is_a_warning(home: Home) -> None:
    broken = break_template(home)
    home.doit()
    found = checked(home)["release:media"]
    assert (found.level, found.message, found.remedy) == (
        Level.WARNING,
        broken,
        FIX_OR_RAW,
    )


def test_runs_that_stay_away_are_a_warning(home: Home) -> None:
    assert "doit" not in checked(home, 2, thorough=True)
    assert checked(home, 2.1, thorough=True)["doit"].message.startswith("last ran on 2026-11-23: is its cron job")


@pytest.mark.parametrize("topic", health_report.CHECKS)
def test_a_look_that_breaks_is_told_and_hides_no_other(home: Home, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    def bug(_view: object) -> Any:
        yield Finding("before", Level.NOTICE, "was seen before")
        raise RuntimeError("our own bug")

    monkeypatch.setitem(health_report.CHECKS, topic, bug)
    (home.path / "secrets.yaml").chmod(0o644)
    found = checked(home)
    assert found.pop(topic).message == f"could not check {topic}: RuntimeError('our own bug')"
    assert found.pop("before").level is Level.NOTICE
    assert set(found) == (set() if topic == "permissions" else {"secrets.yaml"})


def test_a_project_that_cannot_be_read_breaks_no_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> Any:
        raise RuntimeError("our own bug")

    monkeypatch.setattr(crls.Crls, "due_presigned", bug)
    found = checked(home)
    assert "could not check crls" in found["crls"].message


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda _home: None, 0),
        (lambda home: (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x"), 2),
        (lambda home: presigned_crls(home)[-1].unlink(), 3),
        (lambda home: (home.path / "secrets.yaml").chmod(0o644), 4),
        (lambda home: home.edit("proxy: caddy", "proxy: cady"), 1),
    ],
    ids=["well", "notice", "warning", "critical", "not checked"],
)
def test_the_exit_status_says_how_bad_it_is(
    home: Home, invoke: Invoke, change: Callable[[Home], object], status: int
) -> None:
    change(home)
    said: Said = invoke(home, "health")
    assert said.status == status, said.out
    assert said.out.endswith("all OK\n") == (status == 0)


def test_a_look_that_breaks_is_exit_status_one(home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "MEGABYTE", 0)
    said = invoke(home, "health")
    assert said.status == 1
    assert "warning   disk                     could not check disk: ZeroDivisionError(" in said.out


SILENT = "cannot be reached: Connection refused"
FAILED = 'deployment failed: "systemctl reload caddy" failed with exit status 1; rolled back'


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ProbeFault.SILENT, {"deploy:media": FAILED, "service:media/jellyfin": SILENT}),
        ("", {"deploy:media": FAILED, "verification:media": "jellyfin not verified: both get 403"}),
    ],
)
def test_what_a_delivery_saw_of_a_service_is_not_told_beside_what_is_wrong_now(
    remote: Home, fault: str, told: dict[str, str]
) -> None:
    """A dead proxy has no third card, of another level, with what an earlier delivery saw of its service."""
    store = remote.project().store
    taken = receipt_of(store.receipt("media"))
    seen = {"jellyfin": Verification(Verdict.UNDECIDED, "not verified: both get 403")}
    keep_receipt(store.receipt("media"), _with(taken, verification=seen))
    refusal = HostRefusal('"systemctl reload caddy" failed with exit status 1; rolled back', "job failed")
    Contact().failed(START, refusal).save(store.contact("media"))
    wrong = SILENT if fault else ""
    probe = ProbeResult("media", "jellyfin", "jellyfin.lab.internal", 443, "tls", wrong=wrong, fault=fault)
    view = (remote.project(), remote.plan(), LastRun())
    found = {one.subject: one for one in health_report.run_checks(*view, probes=[probe], thorough=False) if one.level}
    assert {name: one.message for name, one in found.items()} == told


@pytest.mark.parametrize("services", [(), (ProbeResult("media", "jellyfin", "jellyfin.lab.internal", 443, "tls"),)])
def test_a_project_that_cannot_be_written_is_looked_at_all_the_same(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, services: tuple[ProbeResult, ...]
) -> None:
    """The other looks say what they find, and one line says that what was seen of services is not kept."""
    path = home.path / "build/report/probes.json"
    path.write_text("of an earlier look")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(probes, "probe_services", lambda *_: services)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "open", _closed_for_writing(os.open))
    said = invoke(home, "health", "--json")
    found = {one["subject"]: one for one in json.loads(said.out)["checks"]}
    kept = found["build/report"]
    assert (said.status, kept["level"], kept["remedy"]) == (
        2,
        "notice",
        f"mount it read-write: findmnt -T {path.parent}",
    )
    assert kept["message"].startswith("the results for services cannot be cached for later commands: ")
    assert kept["message"].endswith(": Read-only file system")
    assert found.keys() >= {"authorities", "keys", "crls", "certificates", "hosts"}
    assert path.read_text() == "of an earlier look"


def _closed_for_writing(opened: Callable[..., int]) -> Callable[..., int]:
    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and "build/report" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **options)

    return refuse


def test_json_says_all_that_the_lines_say(home: Home, invoke: Invoke) -> None:
    (home.path / "ca").chmod(0o750)
    said = json.loads(invoke(home, "health", "--json").out)
    assert (said["at"], said["worst"]) == ("2026-11-23T06:00:00Z", "critical")
    assert said["checks"][0] == {
        "subject": "ca",
        "topic": "permissions",
        "level": "critical",
        "message": "can be read by others: its mode is 0750",
        "code": "STATED",
        "remedy": "chmod 700 ca",
        "since": None,
        "until": None,
    }
    assert {one["topic"] for one in said["checks"]} >= {"authorities", "keys", "crls", "certificates", "disk", "alerts"}


def test_json_says_too_what_keeps_health_from_looking(home: Home, invoke: Invoke) -> None:
    home.edit("proxy: caddy", "proxy: cady")
    said = invoke(home, "health", "--json")
    assert said.status == 1
    found = json.loads(said.out)
    assert (found["at"], found["worst"]) == ("2026-11-23T06:00:00Z", "critical")
    [check] = found["checks"]
    assert (check["subject"], check["remedy"]) == ("pki.yaml", "fix pki.yaml, then: ./run invoke plan")
    assert check["message"].startswith(
        "is invalid; nothing is run or renewed: pki.yaml:40: hosts.media.proxy: expected"
    )
    plain = invoke(home, "health")
    assert (plain.status, plain.error.splitlines()[-1]) == (1, "→ fix pki.yaml, then: ./run invoke plan")


def test_health_knows_since_when_from_those_who_were_told(home: Home, invoke: Invoke) -> None:
    break_template(home)
    home.doit(days=1)
    assert "release:media" in invoke(home, "health", days=3).out
    [line] = [one for one in invoke(home, "health", days=3).out.splitlines() if one.split()[1:2] == ["release:media"]]
    assert line.endswith("(since 2026-11-24)")


@pytest.mark.parametrize(
    ("result", "failures", "level", "text"),
    [
        ("ok", 0, Level.OK, "ran on time, on 2026-11-23 06:00 UTC"),
        ("failed", 1, Level.OK, "ran on time, on 2026-11-23 06:00 UTC, with 1 failure, reported above"),
        ("failed", 2, Level.OK, "ran on time, on 2026-11-23 06:00 UTC, with 2 failures, reported above"),
        ("interrupted", 0, Level.NOTICE, "the last run, on 2026-11-23 06:00 UTC, was interrupted"),
    ],
)
def test_the_line_about_the_last_run_does_not_call_a_failed_run_ok(
    home: Home, result: str, failures: int, level: Level, text: str
) -> None:
    failed = {f"cert:{number}": Failure("failed", "") for number in range(failures)}
    run = LastRun(at=home.project().now.replace(hour=6, minute=0), result=result, failed=failed)
    project = home.project()
    [line] = [one for one in health_report.run_checks(project, home.plan(), run) if one.subject == "doit"]
    assert (line.level, str(line.message)) == (level, text)


@pytest.mark.parametrize(("megabytes", "text"), [(512, "512 MB"), (9_999, "9999 MB"), (41_177, "41 GB")])
def test_much_free_space_is_given_in_gigabytes(megabytes: int, text: str) -> None:
    assert disk_space.in_megabytes(megabytes) == text


def test_a_status_row_names_the_ceremony_that_must_follow_what_doit_does(real: RealHome) -> None:
    rows = {row.name: row for row in status_table.StatusTable(real.project()).rows(real.plan())}
    row = rows["crl:root-1"]
    assert (row.by, "a ceremony must sign more before" in row.next) == ("doit, then a ceremony", True)
