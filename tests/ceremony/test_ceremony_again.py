"""A ceremony that goes on: killed, the words not written down, the paper lost; and first messages that name the right thing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki.ceremony import request_response, shares, words
from pki.ceremony.offline import key_storage, machine_check, session, steps
from pki.ceremony.online import kit
from pki.ceremony.online.make_request import RequestOptions
from pki.cli import ceremony_offline as commands
from pki.cli import prompt
from pki.common import remedies
from pki.common.errors import PkiError
from pki.x509 import keys
from tests.support.ceremonies import SECRET, RealHome, Typist, drives_at, fit_typist, real_home
from tests.support.projects import START

REQUEST = ("out/request-0001.yaml", "--vault", "vault", "--passphrase-file", "secret")
HERE = "2026-11-23 06:00 UTC"


@pytest.fixture
def typist(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    """After the request was copied to the exchange drive."""
    found = fit_typist(tmp_path, capsys, monkeypatch)
    found("ceremony.request", "--output", "out")
    return found


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let a person type these lines; returns what was asked."""

    def types(*lines: str) -> list[str]:
        asked: list[str] = []
        left: Iterator[str] = iter(lines)

        def answer(question: str) -> str:
            asked.append(question)
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None  # Ctrl-D

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr(prompt, "getpass", answer)
        return asked

    return types


def spoken(typist: Typist) -> str:
    return typist.words_of("out/request-0001.yaml")


def root(typist: Typist, *more: str) -> tuple[int, str]:
    return typist("ceremony.root", *REQUEST, "--words", spoken(typist), *more)


def sign(typist: Typist, *more: str, days: float = 0) -> tuple[int, str]:
    return typist("ceremony.sign", *REQUEST, "--output", "out", "--words", spoken(typist), *more, days=days)


def words_in(said: str) -> str:
    return " ".join(re.findall(r"\b\d+ ([a-z]+)", said.rpartition("SHA-256 ")[2])[:8])


# -- the words once more ----------------------------------------------------------------------------------------------


def test_same_line_shows_the_words_of_the_response_again_and_signs_nothing(typist: Typist) -> None:
    root(typist)
    status, first = sign(typist)
    assert status == 0, first
    response = (typist.desk / "out/response-0001/response.yaml").read_bytes()
    (typist.desk / "secret").write_text("which nobody asks for\n")
    for _ in range(2):
        status, said = sign(typist)
        assert status == 0, said
        assert words_in(said) == words_in(first) == words.first(request_response.digest(response))
        assert "nothing is signed again" in said
    assert (typist.desk / "out/response-0001/response.yaml").read_bytes() == response
    status, said = typist("ceremony.accept", "out/response-0001", "--words", words_in(first))
    assert status == 0, said
    heads = [re.findall(r"head (\w+)", typist("ceremony.verify", *place)[1]) for place in ((), ("vault",))]
    assert heads[0] == heads[1] != []


def test_same_line_records_nothing_for_the_page_with_the_head_is_signed(typist: Typist) -> None:
    root(typist)
    sign(typist)
    out, vault = typist.desk / "out/response-0001", typist.desk / "vault"

    def all_of_it() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for place in (out, vault) for path in place.rglob("*") if path.is_file()}

    before = all_of_it()
    status, said = sign(typist)
    assert status == 0, said
    assert all_of_it() == before
    (out / "transcript.html").unlink()
    (out / "response.yaml").write_text("of somebody else\n")
    status, said = sign(typist)
    assert (status, f"{out}: exists already" in said) == (1, True)
    shutil.rmtree(out)
    (vault / "ceremonies/0001/transcript.html").unlink()
    assert sign(typist, "--despite", "nobody asks")[0] == 0
    assert all_of_it() == before


def test_hint_of_the_parser_is_typed_as_in_a_kit(
    typist: Typist, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "→ ./run invoke ceremony.sign --help" in typist("ceremony.sign", "--nonsense")[1]
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/made-for").write_text("3.11 x86_64\n")
    monkeypatch.setattr(remedies, "PROGRAM", tmp_path)
    assert "→ sh run invoke ceremony.sign --help" in typist("ceremony.sign", "--nonsense")[1]


# -- the paper is lost ------------------------------------------------------------------------------------------------


def test_paper_that_is_lost_before_anything_is_signed_costs_a_new_root_and_no_new_drive(typist: Typist) -> None:
    root(typist)
    before = (typist.desk / "vault/root-1/cert.pem").read_bytes()
    (typist.desk / "secret").write_text("another-very-long-passphrase-of-words\n")
    status, said = sign(typist)
    assert (status, "the passphrase from secret is wrong" in said or "is wrong; the file is intact" in said) == (
        1,
        True,
    )
    line = re.findall(r'can be created again: sh run invoke (.+ --again "the paper is lost")', said)
    assert line == ['ceremony.root out/request-0001.yaml --vault vault --again "the paper is lost"'], said
    status, said = root(typist)
    assert status == 1
    assert "root-1 was created already, for this request" in said
    assert 'the same command with --again "the paper is lost"' in said
    status, said = root(typist, "--again", "the paper is lost")
    assert status == 0, said
    assert "DESTROY the key of root-1 on this drive, which signed nothing: the paper is lost" in said
    assert (typist.desk / "vault/root-1/cert.pem").read_bytes() != before
    destroyed = [record.facts for record in typist.records() if record.step == "destroyed"]
    assert destroyed == [{"name": "root-1/key.pem", "reason": "the paper is lost"}]
    status, said = sign(typist)
    assert status == 0, said
    assert typist("ceremony.accept", "out/response-0001", "--words", words_in(said))[0] == 0
    assert typist("ceremony.verify", "vault")[0] == 0


def test_shared_root_is_made_anew_by_the_line_that_is_told_and_kept_by_who_stops_there(
    typist: Typist, at_terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the line lacked the rule, and destroyed the shared key before it asked for a passphrase instead."""
    passphrase, parts = shares.split(2, 3)
    monkeypatch.setattr(shares, "split", lambda *_: (passphrase, parts))
    order = ("out/request-0001.yaml", "--vault", "vault", "--words", spoken(typist))
    typed_back = [line for part in parts for line in ("", "", part)]
    at_terminal(*typed_back)
    assert typist("ceremony.root", *order, "--shares", "2of3")[0] == 0
    key = (typist.desk / "vault/root-1/key.pem").read_bytes()
    at_terminal()
    status, said = typist("ceremony.sign", *order, "--output", "out")
    assert status == 1
    told = re.findall(r"can be created again: sh run invoke (ceremony.root .+)", said)
    assert told == ['ceremony.root out/request-0001.yaml --vault vault --shares 2of3 --again "the paper is lost"'], said
    for answers in ((), typed_back[:1], typed_back[:-1]):
        at_terminal(spoken(typist), "", *answers)
        status, said = typist(*shlex.split(told[0]))
        assert (status, "stopped; nothing was written" in said, "is destroyed" in said) == (1, True, False), said
        assert (typist.desk / "vault/root-1/key.pem").read_bytes() == key
    at_terminal(spoken(typist), "", *typed_back)
    status, said = typist(*shlex.split(told[0]))
    assert (status, "the key of root-1 that signed nothing is destroyed" in said) == (0, True), said
    assert (typist.desk / "vault/root-1/key.pem").read_bytes() != key


def test_question_of_a_passphrase_is_answered_before_the_lost_root_is_destroyed(
    typist: Typist, at_terminal: Callable[..., list[str]]
) -> None:
    root(typist)
    before = (typist.desk / "vault/root-1/key.pem").read_bytes()
    order = ("out/request-0001.yaml", "--vault", "vault", "--words", spoken(typist), "--again", "a test")
    asked = at_terminal("no")
    status, said = typist("ceremony.root", *order)
    assert (status, "stopped; nothing was written" in said) == (1, True)
    assert len(asked) == 1
    assert (typist.desk / "vault/root-1/key.pem").read_bytes() == before


def test_again_where_there_is_nothing_to_destroy_is_told_before_anything_is_asked(
    typist: Typist, at_terminal: Callable[..., list[str]]
) -> None:
    asked = at_terminal()
    status, said = typist("ceremony.root", "out/request-0001.yaml", "--vault", "vault", "--again", "a test")
    assert (status, asked) == (1, [])
    assert "omit --again" in said
    assert "will now:" not in said


def test_root_that_has_signed_is_never_made_again(typist: Typist) -> None:
    root(typist)
    sign(typist)
    before = (typist.desk / "vault/root-1/key.pem").read_bytes()
    status, said = root(typist, "--again", "the paper is lost")
    assert status == 1
    assert "its roots exist and are not replaced" in said
    assert (typist.desk / "vault/root-1/key.pem").read_bytes() == before


@pytest.mark.parametrize("more", [(), ("--again", "the paper is lost")])
def test_root_line_after_the_signatures_says_at_once_what_comes_next(
    typist: Typist, at_terminal: Callable[..., list[str]], more: tuple[str, ...]
) -> None:
    """Also where the words of the response were not seen: the hint has both lines."""
    root(typist)
    asked = at_terminal()
    status, said = typist("ceremony.root", *REQUEST, *more)
    assert (status, asked) == (1, []) if not more else status == 1, said
    if not more:
        assert "root-1 was created already, for this request" in said
    sign(typist)
    before = (typist.desk / "vault/transcript.jsonl").read_bytes()
    status, said = typist("ceremony.root", *REQUEST, *more)
    assert status == 1
    assert "the request is signed already, in ceremony 1" in said
    assert f"continue: sh run invoke ceremony.copy --vault {typist.desk}/vault --to {typist.desk}/copy" in said
    assert "sh run invoke ceremony.sign out/request-0001.yaml --vault vault --output" in said
    assert "will now:" not in said
    assert (typist.desk / "vault/transcript.jsonl").read_bytes() == before


def test_paper_of_a_second_root_is_lost_and_the_first_root_stays(tmp_path: Path) -> None:
    home = real_home(tmp_path / "real")
    home.ceremony()
    key = (home.vault.folder / "root-1/key.pem").read_bytes()
    asked = home.ask(RequestOptions(generations=("root",)), 1)
    steps.make_roots(home.open(asked.path, 1), lambda _, kind: new_key(kind, "which-is-lost-and-never-found"))
    held = home.open(asked.path, 1)
    assert steps.unused_roots(held) == ["root-2"]
    assert steps.discard_roots(held, lambda _: "", "the paper is lost") == ["root-2"]
    assert not (home.vault.folder / "root-2").exists()
    home.accept(home.answer(asked.path, 1), 1)
    assert (home.vault.folder / "root-1/key.pem").read_bytes() == key
    held = home.open(home.ask(RequestOptions(crls=True), 2).path, 2)
    with pytest.raises(PkiError, match="this drive has no root that the request asks for"):
        steps.discard_roots(held, lambda _: "", "a test")


def new_key(kind: str, secret: str) -> steps.NewKey:
    return key_storage.store_in_file(keys.new_key(kind), secret)


# -- killed -----------------------------------------------------------------------------------------------------------


def killed(at: int, command: Callable[[], tuple[int, str]]) -> bool:
    """Run a command in a process that dies like one that is killed, at its n-th change to the disk; whether it died."""
    child = os.fork()
    if not child:
        left = iter(range(at - 1, -1, -1))

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def instead(*arguments: object, **options: object) -> object:
                if not next(left, 0):
                    os._exit(9)
                return real(*arguments, **options)

            return instead

        try:
            for name in ("write", "rename", "replace", "unlink", "rmdir", "mkdir", "truncate"):
                setattr(os, name, dying(getattr(os, name)))
            os._exit(command()[0])
        finally:
            os._exit(70)
    _, status = os.waitpid(child, 0)
    left = os.waitstatus_to_exitcode(status)
    assert left in {0, 9}, left
    return left == 9


def test_response_is_shown_again_wherever_the_command_was_killed_after_it_existed(
    typist: Typist, tmp_path: Path
) -> None:
    root(typist)
    status, said = sign(typist)
    assert status == 0, said
    expected = words_in(said)
    shutil.rmtree(typist.desk / "out/response-0001")
    once = tmp_path / "once"
    shutil.copytree(typist.desk, once)
    deaths, number = 0, 1
    while killed(number, lambda: sign(typist)):
        status, said = sign(typist)
        assert status == 0, (number, said)
        assert words_in(said) == expected
        deaths, number = deaths + 1, number + 3
        for place in ("vault", "out"):
            shutil.rmtree(typist.desk / place)
            shutil.copytree(once / place, typist.desk / place)
    assert deaths >= 5


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_clock_and_watch_are_recorded_side_by_side(typist: Typist, at_terminal: Callable[..., list[str]]) -> None:
    asked = at_terminal(spoken(typist), "08:00", "06:03")
    status, said = typist("ceremony.root", *REQUEST)
    assert status == 0, said
    assert [question for question in asked if "watch" in question] == [
        "time on the witness's watch, in UTC, as HH:MM: "
    ] * 2
    assert "2 hours apart; is one of the two local time, not UTC?; check it again" in said
    [record] = [record for record in typist.records() if record.step == "clocks"]
    assert record.facts == {"machine": HERE, "watch": "06:03 UTC"}


def test_clock_that_no_watch_confirms_makes_no_root(typist: Typist, at_terminal: Callable[..., list[str]]) -> None:
    at_terminal(spoken(typist), "08:00", "08:00", "08:00")
    status, said = typist("ceremony.root", *REQUEST)
    assert status == 1
    assert "the clock of this machine says 06:00 UTC and the watch 08:00: 2 hours apart" in said
    assert machine_check.SET_CLOCK in said
    assert not list(typist.home.vault.folder.glob("root-*"))


def test_ceremony_without_a_watch_says_so_in_the_transcript(
    typist: Typist, at_terminal: Callable[..., list[str]]
) -> None:
    at_terminal(spoken(typist), "")
    assert typist("ceremony.root", *REQUEST)[0] == 0
    [record] = [record for record in typist.records() if record.step == "clocks"]
    assert record.facts["watch"] == "not compared"


@pytest.mark.parametrize("hours", [2, 14, 24 * 400])
def test_response_from_the_future_is_told_with_both_clocks_and_never_to_be_copied_again(
    typist: Typist, hours: int
) -> None:
    """Local time that was typed as UTC is enough: the response is sound, and is taken once its hour has come."""
    root(typist)
    despite = ("--despite", "a clock that is far ahead")
    assert sign(typist, *despite, days=hours / 24)[0] == 0
    words_of_it = typist.words_of("out/response-0001/response.yaml")
    order = ("ceremony.accept", "out/response-0001", "--words", words_of_it)
    status, said = typist(*order)
    assert status == 1
    data = (typist.desk / "out/response-0001/response.yaml").read_bytes()
    signed = request_response.load(data, "response", request_response.Response).signed
    assert f"the clock of the offline machine said {signed:%Y-%m-%d %H:%M} UTC" in said
    assert f"the clock of this machine says {HERE}" in said
    assert "in UTC: date -u" in said
    assert "copy" not in said
    told = re.findall(r"the command works after (\S+ \S+) UTC", said)
    after = datetime.strptime(told[0], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert timedelta(0) <= after - (signed - timedelta(hours=1)) < timedelta(minutes=1)
    if hours < 24:
        assert typist(*order, days=(after - START) / timedelta(days=1))[0] == 0


def test_response_from_before_its_request_is_told_with_both_clocks(typist: Typist) -> None:
    root(typist)
    assert sign(typist, "--despite", "a clock that is behind", days=-1)[0] == 0
    words_of_it = typist.words_of("out/response-0001/response.yaml")
    status, said = typist("ceremony.accept", "out/response-0001", "--words", words_of_it)
    assert status == 1
    assert "was signed before the request was prepared, 2026-11-23 06:00 UTC" in said
    assert "the offline machine's clock was behind: perform the ceremony again" in said
    assert "copy" not in said


# -- first messages ---------------------------------------------------------------------------------------------------


def differing(typed: str, others: dict[str, str]) -> str:
    digest = "ab" * 32
    return session.wrong_words_error(typed, digest, others).message


def test_words_and_digits_of_something_else_are_called_by_its_name() -> None:
    kit_digest, request = "cd" * 32, "ab" * 32
    others = {"the kit": kit_digest}
    for typed, said in (
        (words.first(kit_digest), "these are the words of the kit; expected the words of the request"),
        (" ".join(words.of_digest(kit_digest)[:3]), "these are the words of the kit"),
        (kit_digest, "these are the digits of the kit"),
        (kit_digest[:16].upper(), "these are the digits of the kit"),
        (request[:8] + " " + request[8:16], "these are the digits of the request"),
        ("acid", "this is not the request that was printed: word 1, 'acid', is not word 1"),
        (" ".join(words.of_digest(request)[:7]), "this is not the request that was printed: 1 more word is needed"),
    ):
        assert said in differing(typed, others)


def test_words_of_the_kit_that_are_typed_for_the_request_are_told(
    typist: Typist, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "PROGRAM", tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes(b"the list of a kit\n")
    typed = words.first(request_response.digest(b"the list of a kit\n"))
    status, said = typist("ceremony.root", *REQUEST, "--words", typed)
    assert status == 1
    assert "these are the words of the kit; expected the words of the request" in said
    assert "from the printed output of ceremony.request" in said


def test_words_of_the_request_that_are_typed_for_the_response_are_told(typist: Typist) -> None:
    root(typist)
    sign(typist)
    status, said = typist("ceremony.accept", "out/response-0001", "--words", spoken(typist))
    assert status == 1
    assert "these are the words of request 1; expected the words of the response" in said


@pytest.mark.parametrize("with_kit", [True, False])
def test_response_of_another_project_is_told_with_the_line_to_type(
    typist: Typist, tmp_path: Path, capsys: pytest.CaptureFixture[str], with_kit: bool
) -> None:
    """As where PKI_HOME was not set, and the project is that of the clone."""
    root(typist)
    sign(typist)
    other = Typist(RealHome(real_home(tmp_path / "other desk").path), capsys)
    shutil.copytree(typist.desk / "out", other.desk / "out", dirs_exist_ok=True)
    drives_at({"sdb": other.desk / "out"}, tmp_path / "mounts")
    if with_kit:
        (other.desk / "out" / kit.NAME).mkdir()
        (other.desk / "out" / kit.NAME / kit.PROJECT).write_text(f"{typist.home.path}\n")
    status, said = other("ceremony.accept", "out/response-0001", "--words", "acid")
    assert status == 1
    assert f"than one of the project {other.home.path}, which waits for no response" in said
    project = str(typist.home.path) if with_kit else "DIR"
    response = f"'{other.desk}/out/response-0001'"
    assert f"PKI_HOME={project} ./run invoke ceremony.accept {response}" in said


def test_wrong_passphrase_and_damaged_key_are_told_apart_at_the_command_line(typist: Typist) -> None:
    root(typist)
    (typist.desk / "other").write_text("another-very-long-passphrase-of-words\n")
    order = [word if word != "secret" else "other" for word in REQUEST]
    status, said = typist("ceremony.sign", *order, "--output", "out", "--words", spoken(typist))
    assert (status, "is wrong; the file is intact" in said, "damaged" in said) == (1, True, False), said
    path = typist.desk / "vault/root-1/key.pem"
    path.write_bytes(path.read_bytes()[:-80])
    status, said = sign(typist)
    assert (status, "is damaged: its digest does not match" in said) == (1, True), said
    assert "passphrase" not in said.rpartition("root-1/key.pem")[2].partition("→")[0]
    assert SECRET not in said
