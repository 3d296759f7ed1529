"""The kit for the offline machine: what is in it, what is not, and what a medium that is not fit leads to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from pki.ceremony import bundle, words
from pki.ceremony.policy import Known
from pki.ceremony.script import script
from pki.errors import PkiError
from pki.handover import kit
from pki.handover.asking import Wish
from pki.handover.kit import Machine
from tests.ceremonies import RealHome, real_home
from tests.conftest import PROJECT

HERE = Machine()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A checkout in which somebody lives: with a house, keys, an environment and what runs leave behind."""
    folder = tmp_path / "checkout"
    (folder / "pki/__pycache__").mkdir(parents=True)
    for name in (*kit.SINGLE, *kit.LOCKS):
        shutil.copy(PROJECT / name, folder)
    for name in ("docs/a.md", "templates/nginx/site.conf", "pki/issue.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("program")
    for name in ("pki/__pycache__/issue.pyc", "pki/.issue.py.new", "pki.yaml", "secrets.yaml", "key.pem"):
        (folder / name).write_text("PRIVATE")
    for name in (".venv", "ca", "build", "offline", "tests", ".git", "rehearsal", "wheels"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("PRIVATE")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels come from pip elsewhere; here one stands for all."""

    def downloaded(_program: Path, folder: Path, _machine: Machine, *, hsm: bool) -> list[Path]:
        wheel = folder / f"one-{hsm}.whl"
        wheel.write_bytes(b"wheel")
        return [wheel]

    monkeypatch.setattr(kit, "download", downloaded)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_kit_holds_the_program_and_nothing_of_the_house(program: Path, tmp_path: Path) -> None:
    target = kit.check_place(tmp_path)
    kit.write(target, program, HERE, {"request-0001.yaml": b"asked"}, hsm=False)
    assert files_of(target) == {
        *kit.SINGLE,
        *kit.LOCKS,
        "docs/a.md",
        "templates/nginx/site.conf",
        "pki/issue.py",
        "wheels/one-False.whl",
        "wheels/made-for",
        "request-0001.yaml",
        "SHA256SUMS",
    }
    assert os.access(target / "run", os.X_OK)


def test_kit_lists_the_digest_of_every_file_and_is_named_by_that_of_the_list(program: Path, tmp_path: Path) -> None:
    target = kit.check_place(tmp_path)
    digest = kit.write(target, program, HERE, {}, hsm=True)
    said = (target / "SHA256SUMS").read_bytes()
    assert hashlib.sha256(said).hexdigest() == digest
    listed = dict(reversed(line.split("  ", 1)) for line in said.decode().splitlines())
    assert listed.keys() == files_of(target) - {"SHA256SUMS"}
    assert all(hashlib.sha256((target / name).read_bytes()).hexdigest() == found for name, found in listed.items())


def test_same_program_and_request_give_the_same_kit(program: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        target = kit.check_place(tmp_path / name)
        digests.add(kit.write(target, program, HERE, {"request-0001.yaml": b"asked"}, hsm=False))
    assert len(digests) == 1


def test_kit_is_never_overwritten(program: Path, tmp_path: Path) -> None:
    kit.write(kit.check_place(tmp_path), program, HERE, {}, hsm=False)
    with pytest.raises(PkiError, match="is there already"):
        kit.check_place(tmp_path)


def test_kit_that_cannot_be_written_leaves_nothing_behind(program: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    medium.mkdir()
    (program / "run").unlink()
    with pytest.raises(PkiError, match="cannot be written"):
        kit.write(kit.check_place(medium), program, HERE, {}, hsm=False)
    assert not list(medium.iterdir())


@pytest.mark.parametrize("said", [("3.10", ""), ("3", ""), ("py3", ""), ("", "win_amd64"), ("", "x86_64")])
def test_machine_that_nothing_fits_is_refused_with_an_example(said: tuple[str, str]) -> None:
    with pytest.raises(PkiError, match=r"such as (3\.13|manylinux_2_28_x86_64)"):
        Machine(*said)


def test_newer_system_takes_the_wheels_of_older_ones_too() -> None:
    options = list(Machine("3.13", "manylinux_2_28_aarch64").options())
    assert options[0] == "--python-version=3.13"
    assert "--platform=manylinux_2_28_aarch64" in options
    assert "--platform=manylinux2014_aarch64" in options
    assert not [option for option in options if "2_29" in option or "x86" in option]
    assert not list(HERE.options())


# -- the printed script -----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> RealHome:
    return real_home(tmp_path)


def printed(home: RealHome, wish: Wish = Wish(), days: float = 0, *, hsm: bool = False) -> tuple[str, str]:  # noqa: B008
    """The script for the next request, and the digest of that request."""
    asked = home.ask(wish, days)
    vault = home.vault
    text = script(asked.request, asked.digest, Known(vault.roots(), vault.history()), "Python 3.11 on x86_64", hsm=hsm)
    return text.decode(), asked.digest


def test_script_names_the_request_by_digest_and_words_and_says_what_it_asks(home: RealHome) -> None:
    text, digest = printed(home)
    assert digest in re.sub(r"\s", "", text)
    assert all(line in text for line in words.shown(digest))
    assert "make root-1, “Example Lab Root CA 1”" in text
    assert "ceremony.sign request-0001.yaml" in text


def test_script_fits_a_page_and_leaves_no_hole(home: RealHome) -> None:
    text, _ = printed(home, hsm=True)
    assert "{" not in text
    assert "\n\n\n" not in text
    plan = re.compile(r"^ {2,4}(make|certify|valid|for names|CRLs|sign)")
    assert not [line for line in text.splitlines() if len(line) > 88 and not plan.match(line)]


def test_script_of_a_later_ceremony_makes_no_root_and_wants_the_old_vault(home: RealHome) -> None:
    first, _ = printed(home)
    home.ceremony()
    later, _ = printed(home, Wish(generations=("server",)), days=1)
    assert "ceremony.root" in first
    assert "ceremony.root" not in later
    assert "stick `vault`, of ceremony 1" in later
    assert "Earlier CRLs of root-1 are replaced" in later
    assert "replaced" not in first


def test_script_says_where_else_a_key_that_is_destroyed_must_be_destroyed(home: RealHome) -> None:
    home.ceremony()
    home.ceremony(Wish(generations=("root",)), days=1)
    text, _ = printed(home, Wish(destroy=("root-1",)), days=2)
    assert "shred -u /mnt/copy/root-1/key.*" in text


def test_request_in_the_kit_is_the_file_that_was_asked_to_the_byte(home: RealHome) -> None:
    asked = home.ask()
    assert bundle.dump(asked.request) == asked.path.read_bytes()
