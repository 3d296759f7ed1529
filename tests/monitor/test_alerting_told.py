"""Alerting: who is told what, and when: new, worse, nearer, solved, once a week; never the same twice a day."""

from __future__ import annotations

import email
import email.policy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.templating import FIX_OR_RAW
from pki.common.timestamps import instant
from pki.monitor.alerts import mail_text, smtp
from pki.monitor.alerts.decisions import ChannelHistory, decide
from pki.monitor.alerts.notification_history import NotificationHistory
from pki.monitor.check_result import Finding, Level, rerun
from pki.monitor.report import end_of_run
from pki.monitor.report.run import Run
from tests.support.mails import text_of
from tests.support.projects import PROJECT, START, Home

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
DOWN = Finding("deploy:media", Level.WARNING, "does not answer", "look at it", topic="hosts")


def everything(_key: str) -> bool:
    return True


def told(
    found: Callable[[datetime], list[Finding]], moments: list[datetime], looked_at: Callable[[str], bool] = everything
) -> list[tuple[int, list[str], bool]]:
    """What one channel hears in runs at some moments: the day of each message, its news, whether it is the weekly one."""
    past, heard = ChannelHistory(), []
    for now in moments:
        decision = decide(past, found(now), looked_at, now)
        past = decision.new_history
        if decision.is_worth_sending:
            news = [f"{one.cause} {one.finding.subject}" for one in decision.notifications]
            heard.append(((now - START) // DAY, news, decision.is_weekly))
    return heard


def daily(days: int) -> list[datetime]:
    return [START + number * DAY for number in range(days)]


def hourly(hours: int) -> list[datetime]:
    return [START + number * HOUR for number in range(hours)]


# -- what is worth a message ------------------------------------------------------------------------------------------


def test_a_healthy_month_is_one_message_a_week() -> None:
    well = [Finding("disk", Level.OK, "is empty", topic="disk")]
    assert told(lambda _: well, daily(28)) == [(0, [], True), (7, [], True), (14, [], True), (21, [], True)]


def test_a_job_that_is_not_punctual_keeps_its_day_of_the_week() -> None:
    early = [START + number * DAY - number * timedelta(seconds=20) for number in range(15)]
    assert [day for day, _, _ in told(lambda _: [], early)] == [0, 6, 13]
    assert len(told(lambda _: [], hourly(24 * 14))) == 3


def test_what_lasts_a_week_is_told_once_and_stands_in_the_weekly_message() -> None:
    assert told(lambda _: [DOWN], daily(8)) == [(0, ["new deploy:media"], True), (7, [], True)]


def test_what_nears_its_end_is_told_again_at_thirty_fourteen_seven_three_one_and_no_days() -> None:
    end = START + 40 * DAY
    found = [Finding("cert:media", Level.WARNING, "ends", until=end, topic="certificates")]
    heard = [(day, news) for day, news, _ in told(lambda _: found, daily(45)) if news]
    assert heard == [(day, [f"{'nearer' if day else 'new'} cert:media"]) for day in (0, 10, 26, 33, 37, 39, 40)]


def test_what_gets_worse_is_told_and_what_gets_better_waits_until_it_is_solved() -> None:
    levels = {0: Level.NOTICE, 1: Level.WARNING, 2: Level.CRITICAL, 3: Level.NOTICE, 4: Level.OK, 5: Level.OK}

    def found(now: datetime) -> list[Finding]:
        return [Finding("clock", levels[(now - START) // DAY], "is odd", topic="clock")]

    heard = [(day, news) for day, news, _ in told(found, daily(6))]
    assert heard == [(0, ["new clock"]), (1, ["worse clock"]), (2, ["worse clock"]), (4, ["solved clock"])]


def test_what_comes_and_goes_every_hour_is_told_at_most_once_a_day() -> None:
    def found(now: datetime) -> list[Finding]:
        return [DOWN] if (now - START) // HOUR % 2 else []

    heard = [news for _, news, _ in told(found, hourly(24 * 5)) if news]
    for kind in ("new deploy:media", "solved deploy:media"):
        assert 4 <= sum(kind in news for news in heard) <= 6


def test_a_level_that_comes_and_goes_every_hour_is_told_at_most_once_a_day() -> None:
    def found(now: datetime) -> list[Finding]:
        level = Level.CRITICAL if (now - START) // HOUR % 2 else Level.WARNING
        return [Finding("disk", level, "is full", topic="disk")]

    assert 3 <= len([news for _, news, _ in told(found, hourly(24 * 5)) if news]) <= 7


def test_what_happened_once_is_told_once_and_never_solved() -> None:
    drift = Finding("drift:media", Level.NOTICE, "was edited", topic="hosts", is_over=True)
    heard = told(lambda now: [drift] if now == START + DAY else [], daily(5))
    assert [(day, news) for day, news, _ in heard if news] == [(1, ["new drift:media"])]


def test_what_was_not_looked_at_is_not_solved() -> None:
    past = decide(ChannelHistory(), [DOWN], everything, START).new_history
    later = decide(past, [], lambda _key: False, START + DAY)
    assert (later.notifications, later.new_history.notified) == ((), past.notified)


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    past = decide(ChannelHistory(), [DOWN], everything, START + 365 * DAY).new_history
    before = decide(past, [], everything, START)
    assert [one.cause for one in before.notifications] == ["solved"]
    assert before.is_weekly


def letter_of(found: list[Finding], past: ChannelHistory | None = None) -> mail_text.MailText:
    decision = decide(past or ChannelHistory(), found, everything, START)
    return mail_text.render_mail(
        decision, found, mail_text.MailFacts("Example Lab", "ca, in the folder /srv/pki", "", "", START), ""
    )


def test_what_a_host_says_is_text_in_every_form_of_a_letter() -> None:
    hostile = "went\r\nBcc: x@evil.example\r\n\x1b[2J<script>alert(1)</script>"
    said = letter_of([Finding("deploy:media", Level.CRITICAL, hostile, "look", topic="hosts")])
    assert "\n" not in said.subject
    assert "\r" not in said.subject
    assert "\x1b" not in said.subject + said.text + said.html + said.brief
    assert "<script>" not in said.html
    assert "&lt;script&gt;" in said.html
    assert "\nBcc:" not in said.text


def test_the_worst_stands_in_the_subject_and_first_and_a_thousand_problems_are_no_long_letter() -> None:
    found = [
        Finding(f"deploy:h{n}", Level.WARNING, f"is down for {n} days", "look", topic="hosts") for n in range(1000)
    ]
    found.insert(500, Finding("clock", Level.CRITICAL, "is wrong", "set it", topic="clock"))
    said = letter_of(found)
    assert said.subject == "[Example Lab] CRITICAL clock: is wrong (and 1000 more)"
    assert said.text.startswith(
        "Example Lab: 1 critical, 1000 warnings\n"
        "Sent because 1001 findings are new.\n"
        "Type the commands on the machine ca, in the folder /srv/pki.\n\n"
        "CRITICAL  clock   (new)\n    is wrong\n"
    )
    assert "and 971 more: ./run invoke health" in said.text
    assert "and 971 more" in said.html
    assert len(said.brief) < 5000
    solved = letter_of([], decide(ChannelHistory(), found, everything, START - DAY).new_history)
    assert solved.subject.startswith("[Example Lab] solved: clock and 1000 more")
    assert len(solved.subject) < 160
    assert "and 971 more" in solved.text


def test_subject_says_still_where_the_worst_finding_is_not_the_new_one() -> None:
    clock = Finding("clock", Level.CRITICAL, "is wrong", "set it", topic="clock")
    media = Finding("deploy:media", Level.WARNING, "is down", "look", topic="hosts")
    past = decide(ChannelHistory(), [clock], everything, START - HOUR).new_history
    assert letter_of([clock, media], past).subject == "[Example Lab] still CRITICAL clock: is wrong (and 1 more)"
    past = decide(ChannelHistory(), [media], everything, START - HOUR).new_history
    assert letter_of([clock, media], past).subject == "[Example Lab] CRITICAL clock: is wrong (and 1 more)"


def test_what_several_things_have_in_common_is_said_once() -> None:
    """One wrong passphrase is one thing to fix, however many certificates wait for it."""
    old = Finding("cert:old", Level.WARNING, "cannot be renewed", rerun("cert:old"), topic="certificates")
    past = decide(ChannelHistory(), [old], everything, START - DAY).new_history
    names = [f"cert:c{n}" for n in range(8)]
    new = [Finding(name, Level.WARNING, "cannot be renewed", rerun(name), topic="certificates") for name in names]
    said = letter_of([old, *new], past)
    shown = said.text.split("\n\n")
    assert shown[0].splitlines() == [
        "Example Lab: 9 warnings",
        "Sent because 8 findings are new.",
        "Type the commands on the machine ca, in the folder /srv/pki.",
    ]
    assert shown[1].splitlines() == [
        "WARNING   cert:c0, cert:c1, cert:c2, cert:c3, cert:c4, cert:c5 and 2 more",
        "          (new)",
        "    cannot be renewed",
        "    \u2192 ./run doit",
    ]
    assert shown[2].splitlines()[0] == "WARNING   cert:old"
    assert "./run doit cert:old" in shown[2]
    assert said.html.count("cannot be renewed") == 2
    assert said.brief.splitlines() == [
        "WARNING cert:c0, cert:c1, cert:c2, cert:c3, cert:c4, cert:c5 and 2 more: cannot be renewed",
        "    \u2192 ./run doit",
    ]


def test_a_long_remedy_is_written_once_and_named_where_it_is_the_same() -> None:
    remedy = f"write {'x' * 50} into the file, then: ./run doit"
    found = [Finding(f"release:h{n}", Level.WARNING, f"fails for {n}", remedy, topic="run") for n in range(3)]
    found.append(Finding("clock", Level.WARNING, "is wrong", "./run doit", topic="clock"))
    found.append(Finding("disk", Level.WARNING, "is full", "./run doit", topic="disk"))
    said = letter_of(found)
    assert said.text.split("\n\n")[1:6] == [
        f"WARNING   release:h0   (new)\n    fails for 0\n    \u2192 write {'x' * 50} into the file, then: ./run doit",
        "WARNING   release:h1   (new)\n    fails for 1\n    \u2192 as for release:h0",
        "WARNING   release:h2   (new)\n    fails for 2\n    \u2192 as for release:h0",
        "WARNING   clock   (new)\n    is wrong\n    \u2192 ./run doit",
        "WARNING   disk   (new)\n    is full\n    \u2192 ./run doit",
    ]
    assert (said.html.count("x" * 50), said.html.count("as for release:h0")) == (1, 2)
    assert (said.brief.count("x" * 50), said.brief.count("as for release:h0")) == (1, 2)


def test_a_short_message_names_no_remedy_of_a_finding_that_it_leaves_out() -> None:
    found = [
        Finding(f"release:h{n}", Level.WARNING, f"fails for {n}", f"write {'x' * 80}", topic="run") for n in range(2)
    ]
    past = decide(ChannelHistory(), found[:1], everything, START - DAY).new_history
    said = letter_of(found, past)
    assert "as for" not in said.brief
    assert "x" * 80 in said.brief


def test_what_was_solved_is_not_told_as_if_it_were_still_so() -> None:
    """The text of a finding is in the present tense."""
    bad = Finding("deploy:media", Level.WARNING, "is down", "look", topic="hosts")
    said = letter_of([], decide(ChannelHistory(), [bad], everything, START - DAY).new_history)
    assert "\n\nSOLVED (no longer true)\n    deploy:media: is down\n" in said.text
    assert ">Solved: no longer true</h2>" in said.html


def test_what_is_in_order_has_a_heading_that_is_true_beside_problems() -> None:
    hosts = Finding("hosts", Level.OK, "1 of 3 deployed; the others are reported", topic="hosts")
    bad = Finding("deploy:media", Level.WARNING, "is down", "look", topic="hosts")
    said = letter_of([bad, hosts])
    assert "\n\nNO OTHER PROBLEMS (checked in every run)\n    hosts:  " in said.text
    assert ">No other problems</h2>" in said.html
    said = letter_of([hosts])
    assert "\n\nNO PROBLEMS (checked in every run)\n    hosts:  " in said.text
    assert ">No problems</h2>" in said.html


# -- what runs send ---------------------------------------------------------------------------------------------------


@pytest.fixture
def outbox(home: Home) -> Iterator[Callable[[], list[EmailMessage]]]:
    """The messages that came since the last call, oldest first; that of the first run is not among them."""
    seen = {path.name for path in home.path.glob("build/report/outbox/*")}

    def new() -> list[EmailMessage]:
        paths = [path for path in home.path.glob("build/report/outbox/*") if path.name not in seen]
        seen.update(path.name for path in paths)
        parsed = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in sorted(paths)]
        assert all(isinstance(one, EmailMessage) for one in parsed)
        return parsed  # type: ignore[return-value]

    yield new
    assert not list(home.path.glob("build/report/outbox/.*"))


Outbox = Callable[[], list[EmailMessage]]


def break_template(home: Home) -> None:
    home.write("templates/caddy/Caddyfile", home.read("templates/caddy/Caddyfile").decode() + "{{ nothing }}\n")


def test_the_first_run_says_that_messages_arrive(built_once: Path) -> None:
    [path] = built_once.glob("build/report/outbox/*.eml")
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert message["Subject"] == "SANDBOX [Example Lab] weekly: all OK"
    assert (message["To"], message["From"]) == ("admin@lab.internal", "pki@lab.internal")


def test_the_outbox_keeps_the_newest_messages_and_no_file_of_others(tmp_path: Path) -> None:
    written, note = EmailMessage(), tmp_path / "note.txt"
    note.write_text("mine")
    days = [START + timedelta(days=number) for number in range(smtp.OUTBOX_SIZE + 2)]
    paths = [smtp.put(written, tmp_path, day) for day in [*days, days[5]]]  # the last one by a clock that was set back
    assert sorted(tmp_path.iterdir()) == sorted([*paths[3:], note])


def test_a_quiet_week_sends_nothing_and_then_one_message_with_the_ledgers_head(home: Home, outbox: Outbox) -> None:
    for day in range(7):
        home.doit(days=day)
    assert outbox() == []
    home.doit(days=7)
    [weekly] = outbox()
    newest = home.project().ledger.events(last=1)[0]
    assert weekly["Subject"] == "SANDBOX [Example Lab] weekly: all OK"
    assert "This is the weekly message. If it stops coming, doit no longer runs" in text_of(weekly)
    assert "\n    ./run invoke ledger.verify\n" in text_of(weekly), "a command is not broken over lines"
    assert newest.hash in re.sub(r"\s", "", text_of(weekly))
    assert newest.hash in text_of(weekly, "html")


def test_a_failure_is_told_once_with_what_to_type_and_once_when_it_is_solved(home: Home, outbox: Outbox) -> None:
    good = home.read("templates/caddy/Caddyfile").decode()
    break_template(home)
    report = home.doit(days=1)
    [message] = outbox()
    assert message["Subject"].startswith("SANDBOX [Example Lab] WARNING release:media: templates/caddy/Caddyfile:")
    assert f"    → {FIX_OR_RAW}\n" in text_of(message)
    assert "    media keeps its present files\n" in text_of(message)
    assert report.data["alerts"] == [{"channel": "email", "subject": message["Subject"], "error": "", "hint": ""}]
    home.doit(days=2)
    assert outbox() == []
    home.write("templates/caddy/Caddyfile", good)
    home.doit(days=3)
    [message] = outbox()
    assert message["Subject"] == "SANDBOX [Example Lab] solved: release:media; all OK"
    assert "since" not in text_of(message)


def test_a_run_of_one_task_solves_nothing_that_it_did_not_look_at(home: Home, outbox: Outbox) -> None:
    break_template(home)
    home.doit(days=1)
    assert len(outbox()) == 1
    home.doit("cert:media", days=2)
    assert outbox() == []


def test_what_needs_a_person_is_a_notice(home: Home, outbox: Outbox) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    home.edit("network: av\n", "network: av\n    names: [a.new.internal]\n")
    home.doit(days=1)
    [message] = outbox()
    assert message["Subject"].startswith("SANDBOX [Example Lab] NOTICE host:media: a.new.internal waits")
    assert "    → ./run invoke ceremony.request, for a new generation of server" in text_of(message)


def test_somebody_elses_edit_on_a_host_is_told_and_never_solved(home: Home, outbox: Outbox) -> None:
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")
    home.doit(days=1)
    [message] = outbox()
    assert "drift:media: was changed on the host; restored: /etc/caddy/Caddyfile was" in message["Subject"]
    home.doit(days=2)
    assert outbox() == []


def test_an_interrupted_run_tells_nothing(home: Home, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pki.pipeline.reporter.Reporter._result", lambda _self: "interrupted")
    break_template(home)
    home.doit(days=1)
    assert outbox() == []


def test_a_message_that_a_killed_run_began_is_gone_after_the_next(home: Home, outbox: Outbox) -> None:
    home.write("build/report/outbox/.20261129T060000Z.eml.new", "Subject: [Exam")
    home.doit(days=7)
    assert len(outbox()) == 1
    assert not list(home.path.glob("build/report/outbox/.*"))


def test_who_takes_the_addresses_out_is_forgotten(home: Home, outbox: Outbox) -> None:
    text = home.read("pki.yaml").decode()
    home.write("pki.yaml", text.partition("alerts:")[0])
    break_template(home)
    home.doit(days=1)
    assert outbox() == []
    assert not (home.path / "ca/.alerts.json").exists()


def test_a_run_without_news_changes_no_record_and_loads_nothing_for_it(home: Home) -> None:
    home.doit()
    before = (home.path / "ca/.alerts.json").stat().st_mtime_ns
    code = (
        "import sys; from datetime import datetime; from pathlib import Path; from pki.monitor.report.run import Run\n"
        f"Run(Path({str(home.path)!r}), datetime.fromisoformat({instant(START)!r})).main([])\n"
        "loaded = {'smtplib', 'pki.monitor.alerts.mail_text', 'sqlalchemy', 'apprise', 'rich'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (home.path / "ca/.alerts.json").stat().st_mtime_ns == before


# -- a wrong pki.yaml -------------------------------------------------------------------------------------------------


def test_a_wrong_inventory_is_told_to_whom_was_told_last(home: Home, outbox: Outbox) -> None:
    home.edit("proxy: caddy", "proxy: cady")
    assert Run(home.path, home.moment(1)).main([]) == 3
    [message] = outbox()
    assert message["Subject"].startswith(
        "SANDBOX [Example Lab] CRITICAL pki.yaml: is invalid; nothing is run or renewed: pki.yaml:40"
    )
    assert "pki.yaml:40: hosts.media.proxy: expected nginx" in " ".join(text_of(message).split())
    assert "deadline 2026-12-14, in 19 days" in text_of(message)  # when the first CRL ends
    assert "→ fix pki.yaml, then: ./run invoke plan" in text_of(message)
    for day in (2, 3, 4):
        assert Run(home.path, home.moment(day)).main([]) == 3
    assert outbox() == []
    assert Run(home.path, home.moment(7)).main([]) == 3  # the weekly one, and fourteen days are left
    assert len(outbox()) == 1
    home.edit("proxy: cady", "proxy: caddy")
    home.doit(days=8)
    [message] = outbox()
    assert message["Subject"] == "SANDBOX [Example Lab] solved: pki.yaml; all OK"


def test_an_authority_that_cannot_be_read_is_told_as_what_it_is(home: Home, outbox: Outbox) -> None:
    """Nothing is wrong with pki.yaml."""
    right = home.read("ca/server/server-1/cert.pem")
    home.write("ca/server/server-1/cert.pem", "x")
    assert Run(home.path, home.moment(1)).main([]) == 3
    [message] = outbox()
    said = "doit: cannot run; nothing is renewed: ca/server/server-1/cert.pem: is not a certificate"
    assert message["Subject"] == f"SANDBOX [Example Lab] CRITICAL {said}"
    home.write("ca/server/server-1/cert.pem", right.decode())
    home.doit(days=2)
    [message] = outbox()
    assert message["Subject"] == "SANDBOX [Example Lab] solved: doit; all OK"


def test_a_wrong_inventory_at_a_terminal_is_said_there_alone(
    home: Home, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.edit("proxy: caddy", "proxy: cady")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert Run(home.path, home.moment(1)).main([]) == 3
    assert outbox() == []


def test_nobody_is_told_of_a_wrong_inventory_who_was_never_told_anything(fresh: Home) -> None:
    assert end_of_run.nothing_was_run(fresh.path, START, PkiError("x")) == []
    assert not (fresh.path / "ca").exists()


# -- a channel that fails ---------------------------------------------------------------------------------------------


def test_what_could_not_be_sent_is_said_and_sent_by_the_next_run(
    home: Home, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home.path / "build/report/outbox"
    place.rename(home.path / "aside")
    place.write_text("in the way")
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")
    report = home.doit(days=1)
    assert (report.status, report.data["result"]) == (0, "ok")
    assert "cannot be written" in report.data["alerts"][0]["error"]
    assert capsys.readouterr().out.endswith("\n1 message could not be sent; the next run tries again\n")
    place.unlink()
    (home.path / "aside").rename(place)
    home.doit(days=2)
    [message] = outbox()
    assert "drift:media" in message["Subject"]
    assert "Earlier messages could not be sent since 2026-11-24" in text_of(message)
    home.doit(days=3)
    assert outbox() == []


def test_one_channel_is_told_of_another_that_fails(home: Home, outbox: Outbox) -> None:
    home.edit("smtp: outbox}", "smtp: outbox}\n  notify: notify-nowhere")
    home.doit(days=1)
    assert outbox() == []
    home.doit(days=2)
    [message] = outbox()
    assert (
        "alerts:notify-nowhere: messages cannot be sent: secrets.yaml: has no entry notify-nowhere"
        in message["Subject"]
    )
    assert "→ add it there: notify-nowhere: …; every run retries" in text_of(message)


def test_a_record_that_no_disk_has_room_for_repeats_nothing_within_the_day(
    home: Home, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = filesystem.write

    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.name == ".alerts.json":
            raise PkiError(f"{path}: cannot be written: No space left on device")
        write(path, data, mode)

    monkeypatch.setattr("pki.common.filesystem.write", full)
    break_template(home)
    report = home.doit(days=1)
    assert report.data["alerts"][-1]["error"].endswith("No space left on device")
    assert len(outbox()) == 1
    home.doit(days=1.5)
    assert outbox() == []
    home.doit(days=2)
    assert len(outbox()) == 1


def test_a_record_that_somebody_damaged_costs_one_message(home: Home, outbox: Outbox) -> None:
    for text in ("{", "[]", '{"format": 1, "addresses": null, "channels": {}}', '{"format": 9}'):
        home.write("ca/.alerts.json", text)
        home.doit()
        assert len(outbox()) == 1
        assert NotificationHistory.load(home.path / "ca", START).addresses is not None
