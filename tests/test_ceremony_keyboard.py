"""What a person types at a ceremony: slips are said and may be mended, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from pki import issue
from pki.ceremony import custody, hold, rewrapping, shares, words
from pki.ceremony.vault import Vault
from pki.commands import asking, custodians
from pki.errors import PkiError
from tests.ceremonies import real_home

DIGEST = "ab" * 32
RIGHT = words.first(DIGEST)
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
        monkeypatch.setattr(asking, "getpass", answer)
        return asked

    return types


def first_words() -> str:
    return asking.first_words("request", "the online side", DIGEST)


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
    with pytest.raises(PkiError, match="nobody is there to be asked: PIN of the token"):
        asking.typed("PIN of the token: ")


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
    hold.make_roots(held, lambda _, kind: custody.in_file(issue.new_key(kind), passphrase, rule))
    return home.vault


def secret(vault: Vault) -> str:
    return custodians.opening(Context(), vault, "", [])("root-1")


def test_mistyped_passphrase_is_asked_for_again(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    made = words.new_passphrase()
    vault = vault_with(tmp_path, made)
    asked = typing("wrong", made.replace("-", " "))
    assert secret(vault) == made
    assert len(asked) == 2
    said = capsys.readouterr().out
    assert "look again" in said
    assert "wrong" not in said
    assert made not in said


def test_passphrase_that_is_wrong_three_times_ends_the_command(tmp_path: Path, typing: Typing) -> None:
    asked = typing(*["wrong"] * 4)
    with pytest.raises(PkiError, match="cannot be opened"):
        secret(vault_with(tmp_path, words.new_passphrase()))
    assert len(asked) == 3


def test_slip_in_a_share_costs_that_share_and_no_other(tmp_path: Path, typing: Typing, capsys: Any) -> None:
    passphrase, parts = shares.split(2, 3)
    vault = vault_with(tmp_path, passphrase, "2of3")
    first, *rest = parts[0].split()
    swapped = " ".join([rest[0], first, *rest[1:]])
    asked = typing(swapped, parts[0], parts[2])
    assert secret(vault) == passphrase
    assert [question[:7] for question in asked] == ["share 1", "share 1", "share 2"]
    assert "wrong checksum" in capsys.readouterr().out


def test_nobody_is_asked_to_open_a_key_that_is_not_there(tmp_path: Path, typing: Typing) -> None:
    vault = vault_with(tmp_path, words.new_passphrase())
    (vault.folder / "root-1/key.pem").unlink()
    asked = typing()
    assert not secret(vault)
    with pytest.raises(PkiError, match="is not there"):
        vault.open_key("root-1", "", "the operator")
    with pytest.raises(PkiError, match="root-2 is not in this vault"):
        rewrapping.check(vault, "root-2")
    assert not asked
