"""What a person types at a ceremony: slips are said and may be fixed, and nothing else is taken."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from pki.ceremony import shares, words
from pki.ceremony.offline import key_storage, root_passphrase, steps
from pki.ceremony.vault import Vault
from pki.cli import custodians, prompt
from pki.common.errors import PkiError
from pki.x509 import keys
from tests.support.ceremonies import real_home
from tests.support.projects import START

DIGEST = "ab" * 32
RIGHT = words.first(DIGEST)
MADE = "decrease-tofu-grumpy-evening-scholar-cover-away-belong-platform-scroll-frozen-learn-pleasure"
Typing = Callable[..., list[str]]


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Let a person type these lines; returns what was asked."""

    def types(*lines: str) -> list[str]:
        asked: list[str] = []
        left: Iterator[str] = iter(lines)

        def answer(question: str) -> str:
            asked.append(question)
            return next(left)

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr(prompt, "getpass", answer)
        return asked

    return types


def first_words() -> str:
    return prompt.ask_first_words("request", "the online side", DIGEST)


def test_slip_in_the_words_of_a_digest_is_said_and_mended(typing: Typing, capsys: Any) -> None:
    asked = typing(f"x{RIGHT}", RIGHT)
    assert first_words() == RIGHT
    assert len(asked) == 2
    assert asked[0] == "first 8 words of the request, from the paper of the online side: "
    assert "word 1" in capsys.readouterr().out


def test_third_attempt_is_the_last_and_is_judged_by_the_ceremony(typing: Typing) -> None:
    asked = typing("one", "two", "three", "four")
    assert first_words() == "three"
    assert len(asked) == 3


def test_nobody_at_the_terminal_is_said_with_the_question() -> None:
    with pytest.raises(PkiError, match="there is no terminal to ask: PIN of the token"):
        prompt.ask("PIN of the token: ")


@pytest.mark.parametrize("spelt", ["{0}", "  {1} ", "{2}", "{3}"])
def test_generated_passphrase_is_taken_however_its_words_are_separated(spelt: str) -> None:
    made = words.new_passphrase()
    parts = made.split("-")
    forms = made, " ".join(parts), ", ".join(parts).upper(), " ".join(part[:4] for part in parts)
    assert words.passphrase(spelt.format(*forms)) == made


@pytest.mark.parametrize("own", ["six random words of my own", "Tr0ub4dor & 3", "acid " * 12, "acid " * 14])
def test_passphrase_of_ones_own_is_taken_as_it_is(own: str) -> None:
    assert words.passphrase(own) == own


# -- at a vault -------------------------------------------------------------------------------------------------------


def vault_with(tmp_path: Path, passphrase: str, rule: str = "") -> Vault:
    home = real_home(tmp_path)
    held = home.open(home.ask().path)
    steps.make_roots(held, lambda _, kind: key_storage.store_in_file(keys.new_key(kind), passphrase, rule))
    return home.vault


def secret(vault: Vault) -> str:
    return custodians.secret_reader(Context(), vault, "", [])("root-1")


def test_mistyped_passphrase_is_asked_for_again(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    asked = typing("mistaken", made.replace("-", " "))
    assert secret(vault) == made
    assert len(asked) == 2
    said = capsys.readouterr().out
    assert "check it" in said
    assert "mistaken" not in said
    assert made not in said


def test_no_number_of_slips_in_a_passphrase_ends_the_command(tmp_path: Path, typing: Typing) -> None:
    """Who types on after the command has ended types into a terminal that shows it."""
    made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    asked = typing(*["mistaken"] * 7, made)
    assert secret(vault) == made
    assert len(asked) == 8


def slipped(passphrase: str, place: int) -> str:
    """A passphrase with another word of the list at one place, counted from 1."""
    given = passphrase.split("-")
    given[place - 1] = "acid" if given[place - 1] != "acid" else "acne"
    return " ".join(given)


@pytest.mark.parametrize("place", [1, 7, 13])
def test_wrong_word_of_a_passphrase_is_told_by_its_place_and_the_right_one_is_not(
    tmp_path: Path, typing: Typing, capsys: Any, place: int
) -> None:
    made = MADE
    vault = vault_with(tmp_path, made)
    typing(slipped(made, place), made)
    assert secret(vault) == made
    said = capsys.readouterr().out
    assert f"the passphrase of root-1 is wrong: word {place} is wrong" in said
    assert made.split("-")[place - 1] not in said


def test_words_of_a_passphrase_that_changed_places_are_told(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    made = words.new_passphrase()
    while made.split("-")[3] == made.split("-")[4]:
        made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    given = made.split("-")
    given[3], given[4] = given[4], given[3]
    typing(" ".join(given), made)
    assert secret(vault) == made
    assert "words 4 and 5 are in the wrong order" in capsys.readouterr().out


def test_word_of_a_passphrase_that_is_not_in_the_list_is_told_with_its_neighbour(
    tmp_path: Path, typing: Typing, capsys: Any
) -> None:
    made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    given = made.split("-")
    given[5] = "acidd"
    typing(" ".join(given), " ".join(given[:12]), made)
    assert secret(vault) == made
    said = capsys.readouterr().out
    assert "word 6, 'acidd', is not in the list (did you mean acid?)" in said
    assert "12 of 13 words; continue with word 13, or begin again with an empty line" not in said, (
        "one of them is misspelt"
    )
    assert "word 6 is not in the list; check it, and type all words again" in said


def test_words_of_a_passphrase_and_of_a_share_may_come_in_several_lines(
    tmp_path: Path, typing: Typing, capsys: Any
) -> None:
    made = words.new_passphrase()
    vault = vault_with(tmp_path / "one", made)
    given = made.split("-")
    asked = typing("acid", "", *[" ".join(given[start : start + 5]) for start in (0, 5, 10)])
    assert secret(vault) == made
    assert len(asked) == 5
    said = capsys.readouterr().out
    assert "1 of 13 words; continue with word 2, or begin again with an empty line" in said
    assert "10 of 13 words; continue with word 11" in said
    passphrase, parts = shares.split(2, 3)
    vault = vault_with(tmp_path / "two", passphrase, "2of3")
    rows = [" ".join(parts[0].split()[start : start + 10]) for start in (0, 10)]
    typing(*rows, parts[1])
    assert secret(vault) == passphrase


def test_wrong_passphrase_of_ones_own_is_never_shown(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    vault = vault_with(tmp_path, "six random words of my own choice")
    typing("acid beam cage dance eagle fact game hair idea jump kidney lair madam", "six random words of my own choice")
    assert secret(vault) == "six random words of my own choice"
    said = capsys.readouterr().out
    assert "the passphrase from the operator is wrong; the file is intact" in said
    assert "acid" not in said


def test_damaged_key_file_is_told_from_a_wrong_passphrase_and_nobody_is_asked_again(
    tmp_path: Path, typing: Typing
) -> None:
    made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    path = vault.folder / "root-1/key.pem"
    data = path.read_bytes()
    place = data.index(b"\n", data.index(b"-----BEGIN")) + 300
    path.write_bytes(data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :])
    asked = typing(made)
    with pytest.raises(PkiError, match=r"key\.pem: is damaged: its digest does not match"):
        secret(vault)
    assert len(asked) == 1


def test_slip_in_a_share_costs_that_share_and_no_other(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    passphrase, parts = shares.split(2, 3)
    vault = vault_with(tmp_path, passphrase, "2of3")
    first, *rest = parts[0].split()
    swapped = " ".join([rest[0], first, *rest[1:]])
    asked = typing(swapped, parts[0], parts[2])
    assert secret(vault) == passphrase
    assert [question[:7] for question in asked] == ["share 1", "share 1", "share 2"]
    assert "first card: has a wrong checksum" in capsys.readouterr().out


def test_share_that_does_not_go_with_the_others_costs_that_share_and_no_other(
    tmp_path: Path, typing: Typing, capsys: Any
) -> None:
    """The same card twice, and a card of another ceremony."""
    passphrase, parts = shares.split(2, 3)
    _, foreign = shares.split(2, 3)
    vault = vault_with(tmp_path, passphrase, "2of3")
    asked = typing(parts[0], parts[0], foreign[1], parts[2])
    assert secret(vault) == passphrase
    assert [question[:7] for question in asked] == ["share 1", "share 2", "share 2", "share 2"]
    said = capsys.readouterr().out
    assert "share 2 is the same as share 1" in said
    assert "shares 1 and 2 are of different ceremonies" in said


def test_shares_of_another_root_are_told_and_asked_for_again(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    passphrase, parts = shares.split(2, 3)
    _, foreign = shares.split(2, 3)
    vault = vault_with(tmp_path, passphrase, "2of3")
    asked = typing(foreign[0], foreign[1], parts[1], parts[2])
    assert secret(vault) == passphrase
    assert len(asked) == 4
    assert "these shares do not open root-1" in capsys.readouterr().out


# -- typed back -------------------------------------------------------------------------------------------------------


def test_every_custodian_types_the_card_back_and_the_third_too(
    typing: Typing, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    passphrase, parts = shares.split(2, 3)
    monkeypatch.setattr(shares, "split", lambda *_: (passphrase, parts))
    third = parts[2].split()
    wrong = [*third[:4], "acid" if third[4] != "acid" else "acne", *third[5:]]
    asked = typing(
        *("", "", parts[0]),
        *("", "", parts[1]),
        *("", "", " ".join(wrong), "", "", " ".join(third[:5]), " ".join(third[5:10]), " ".join(third[10:])),
    )
    custody_of = custodians.Custody(Context(), "", own=False, shares="2of3", cards="", token="")
    key = keys.new_key("ec-p256")
    assert custodians.encrypt_again(custody_of, "root-1", key).passphrase == passphrase
    assert len([question for question in asked if "typed back" in question]) == 7
    said = capsys.readouterr().out
    assert "word 5 is wrong; check it" in said
    assert "10 of 20 words are right so far; continue with word 11" in said
    assert said.count(f"20 {third[19]}") == 2, "shown once more after Enter alone"


def test_enter_alone_points_to_the_card_where_there_is_one(
    typing: Typing, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    passphrase, parts = shares.split(2, 3)
    monkeypatch.setattr(shares, "split", lambda *_: (passphrase, parts))
    typing(*("", "", parts[0]), *("", parts[1]), *("", parts[2]))
    context = Context()
    context.config.update(pki_called_from=str(tmp_path), pki_now=START)
    custody_of = custodians.Custody(context, "", own=False, shares="2of3", cards="cards", token="")
    assert custodians.encrypt_again(custody_of, "root-1", keys.new_key("ec-p256")).passphrase == passphrase
    assert capsys.readouterr().out.count("share 1 of 3 is on its card: type it from there") == 1


def test_generated_passphrase_is_asked_for_until_it_is_typed_back(
    typing: Typing, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made = words.new_passphrase()
    monkeypatch.setattr(words, "new_passphrase", lambda: made)
    rows = [" ".join(made.split("-")[start : start + 5]) for start in (0, 5, 10)]
    asked = typing("yes", "", *[slipped(made, 2)] * 4, *rows)
    custody_of = custodians.Custody(Context(), "", own=False, shares="", cards="", token="")
    assert custodians.encrypt_again(custody_of, "root-1", keys.new_key("ec-p256")).passphrase == made
    assert len(asked) == 9
    assert capsys.readouterr().out.count("word 2 is wrong; check it") == 4


def test_nobody_is_asked_to_open_a_key_that_is_not_there(tmp_path: Path, typing: Typing) -> None:
    vault = vault_with(tmp_path, words.new_passphrase())
    (vault.folder / "root-1/key.pem").unlink()
    asked = typing()
    assert not secret(vault)
    with pytest.raises(PkiError, match="is missing"):
        vault.open_key("root-1", "", "the operator")
    with pytest.raises(PkiError, match="root-2 is not in this vault"):
        root_passphrase.check_has_passphrase(vault, "root-2")
    assert not asked


# -- stopped with Ctrl-Z ----------------------------------------------------------------------------------------------


def shell(terminal: int, ask: Callable[[], str]) -> None:
    """What a shell does with one job: it takes the terminal when the job is stopped, and gives it back at `fg`."""
    os.login_tty(terminal)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    own, (ready, go) = termios.tcgetattr(0), os.pipe()
    job = os.fork()
    if not job:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.read(ready, 1)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        print(f"taken: {ask().upper()}", flush=True)
        os._exit(0)
    os.setpgid(job, job)
    os.tcsetpgrp(0, job)
    os.write(go, b"!")
    while os.WIFSTOPPED(os.waitpid(job, os.WUNTRACED)[1]):
        echoes = bool(termios.tcgetattr(0)[3] & termios.ECHO)
        os.tcsetpgrp(0, os.getpgrp())
        os.write(1, f"[1]+ Stopped, echo {'on' if echoes else 'off'} $ ".encode())
        os.read(0, 100)
        termios.tcsetattr(0, termios.TCSADRAIN, own)
        os.tcsetpgrp(0, job)
        os.kill(job, signal.SIGCONT)
    os._exit(0)


def seen_until(keyboard: int, text: str) -> str:
    shown = ""
    while text not in shown:
        assert select.select([keyboard], [], [], 120)[0], shown
        shown += os.read(keyboard, 1000).decode()
    return shown


@pytest.mark.parametrize("stop", ["Ctrl-Z", "SIGSTOP"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda: prompt.ask("PIN: ", hidden=True),
        lambda: prompt.ask_hidden("PIN: ", str),
        lambda: nested(lambda: prompt.ask_hidden("PIN: ", str)),
        lambda: beside(lambda: prompt.ask_hidden("PIN: ", str)),
    ],
    ids=["typed", "hidden", "nested", "beside"],
)
def test_question_is_shown_again_and_its_answer_unseen_after_the_command_was_stopped(
    ask: Callable[[], str], stop: str
) -> None:
    keyboard, terminal = os.openpty()
    process = os.fork()
    if not process:
        try:
            os.close(keyboard)
            shell(terminal, ask)
        finally:
            os._exit(70)
    try:
        for _ in range(2):
            seen_until(keyboard, "PIN: ")
            if stop == "Ctrl-Z":
                os.write(keyboard, b"half\x1a")
            else:
                os.kill(os.tcgetpgrp(keyboard), signal.SIGSTOP)
            shown = seen_until(keyboard, " $ ")
            assert "half" not in shown
            assert f"echo {'on' if stop == 'Ctrl-Z' else 'off'}" in shown, "the shell gets its terminal as it was"
            os.write(keyboard, b"fg\n")
        seen_until(keyboard, "PIN: ")
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        os.write(keyboard, b"secret\n")
        assert "secret" not in seen_until(keyboard, "taken: SECRET")
        assert os.waitpid(process, 0)[1] == 0
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
    finally:
        for handle in (keyboard, terminal):
            os.close(handle)  # which hangs up on whoever is left


def nested(ask: Callable[[], str]) -> str:
    with prompt.without_echo():
        return ask()


def beside(ask: Callable[[], str]) -> str:
    """Ask while another thread takes SIGCONT: a read that waits already is not interrupted then.

    The same happens when the signal arrives right before the read.
    """
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
    return ask()
