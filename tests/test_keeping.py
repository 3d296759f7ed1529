"""Keeping a house: founded whole or not at all, backed up, and restored after everything else is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke import Program

import tasks
from pki import founding, inventory
from tests.conftest import PROJECT, START, Home


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    error: str


Invoke = Callable[..., Said]


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path | None = None, days: float = 0) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        tasks.ns.configure({"pki_home": str(home or tmp_path), **moment})
        capsys.readouterr()
        code = 0
        try:
            Program(namespace=tasks.ns).run(["invoke", *arguments])
        except SystemExit as left:
            code = int(left.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# -- founding ---------------------------------------------------------------------------------------------------------

WHOLE = {"pki.yaml", "templates", "secrets.yaml", ".gitignore", "README.md"}


@pytest.fixture
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git, which a house does not need."""
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What a person types, in order; an answer that is an exception is raised. Returns the questions, as they come."""

    def give(*texts: str | BaseException) -> list[str]:
        asked: list[str] = []
        waiting = iter(texts)

        def answer(question: str) -> str:
            asked.append(question)
            text = next(waiting, EOFError())
            if isinstance(text, BaseException):
                raise text
            return text

        monkeypatch.setattr("builtins.input", answer)
        return asked

    return give


@pytest.mark.usefixtures("no_git")
def test_founded_try_out_runs_and_then_has_nothing_to_do(tmp_path: Path, invoke: Invoke) -> None:
    said = invoke("init", "house", "--yes", "--sandbox")
    assert said.status == 0, said.error
    assert f"PKI_HOME={tmp_path}/house ./run doit" in said.out
    assert names(tmp_path / "house") == WHOLE
    home = Home(tmp_path / "house")
    assert home.doit().status == 0
    assert home.doit().made == {}


@pytest.mark.usefixtures("no_git")
def test_founded_house_holds_its_own_templates_and_keeps_secrets_to_its_owner(tmp_path: Path, invoke: Invoke) -> None:
    assert invoke("init", "a/b", "--yes").status == 0
    folder = tmp_path / "a/b"
    ours = {
        path.relative_to(PROJECT): path.read_bytes() for path in (PROJECT / "templates").rglob("*") if path.is_file()
    }
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("templates/*/*")} == ours
    assert mode(folder / "secrets.yaml") == 0o600
    assert all(line.startswith("#") for line in (folder / "secrets.yaml").read_text().splitlines())
    kept_out = (folder / ".gitignore").read_text().splitlines()
    assert {"/ca/", "/build/", "/offline/", "secrets.yaml", ".*.new"} <= set(kept_out)
    assert set(kept_out) - {kept_out[0]} <= set((PROJECT / ".gitignore").read_text().splitlines())
    assert not inventory.load(folder / "pki.yaml").sandbox


OPTIONS = (
    *("--organisation", "Müller & Söhne", "--domain", "lab.example", "--domain", "av.example"),
    *("--network", "lan=10.1.0.0/16", "--network", "dmz=10.2.0.0/24", "--publish", "http://crl.lab.example=gate"),
    *("--host", "web,network=dmz,address=10.2.0.3,proxy=nginx", "--host", "gate,deliver=none"),
    *("--service", "web/wiki=http://127.0.0.1:3000", "--service", "web/blog=https://10.2.0.9:8443,tls"),
    *("--client", "ann=ann@lab.example", "--client", "ann@phone=ann@lab.example"),
)


@pytest.mark.usefixtures("no_git")
def test_options_say_what_the_house_should_be(tmp_path: Path, invoke: Invoke) -> None:
    said = invoke("init", "--yes", *OPTIONS, "house")
    assert said.status == 0, said.error
    assert "ceremony.request" in said.out
    found = inventory.load(tmp_path / "house/pki.yaml")
    assert (found.organisation, found.domains) == ("Müller & Söhne", ("lab.example", "av.example"))
    assert {name: str(network) for name, network in found.networks.items()} == {
        "lan": "10.1.0.0/16",
        "dmz": "10.2.0.0/24",
    }
    assert (found.publish.url, found.publish.host) == ("http://crl.lab.example", "gate")
    assert (found.hosts["gate"].network, found.hosts["gate"].proxy, found.hosts["gate"].deliver) == (
        "lan",
        None,
        "none",
    )
    services = found.hosts["web"].services
    assert {name: (one.upstream, one.access) for name, one in services.items()} == {
        "wiki": ("http://127.0.0.1:3000", "mtls"),
        "blog": ("https://10.2.0.9:8443", "tls"),
    }
    assert set(found.clients) == {"ann", "ann@phone"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--domain", "Lab"], ["domains[0]: write host names in lower case: lab, got 'Lab'"]),
        (["--network", "lan"], ["expected NAME=NETWORK such as lan=192.168.1.0/24, got 'lan'"]),
        (["--network", "lan=192.168.1.0/33"], ["networks.lan: expected an IPv4 network"]),
        (["--host", "web,colour=red"], ["hosts.web.colour: unknown key"]),
        (["--host", "web,address=10.9.9.9"], ["hosts.web.address: 10.9.9.9 lies outside network lan (192.168.1.0/24)"]),
        (["--service", "web/wiki=http://x:1"], ["there is no host 'web'", "→ name it too: --host web"]),
        (["--service", "pki/wiki=ftp://x"], ["hosts.pki.services.wiki.upstream: expected an address such as"]),
        (["--client", "ann=ann"], ["clients.ann.email: expected an e-mail address"]),
        (
            ["--publish", "https://pki.lab.internal=gone"],
            ["publish.url: expected plain http", "'gone' is not one of the"],
        ),
    ],
)
def test_faults_in_the_options_are_said_at_once_and_nothing_is_written(
    tmp_path: Path, invoke: Invoke, options: list[str], expected: list[str]
) -> None:
    said = invoke("init", "house", "--yes", *options)
    assert said.status == 1
    assert [text for text in expected if text not in said.error] == []
    assert names(tmp_path) == set()


ANSWERS = {
    "organisation": ["Example Lab"],
    "domains": ["lab.example av.example"],
    "networks": ["lan=10.1.0.0/16, dmz=10.2.0.0/24"],
    "hosts": [
        *("web", "dmz", "10.2.0.3", "caddy", "wiki", "http://127.0.0.1:8080", "tls", ""),
        *("gate", "", "", "none", ""),
        "",
    ],
    "publish": ["http://crl.lab.example", "gate"],
    "clients": ["ann", ""],
    "sandbox": ["yes"],
}
TYPED = [text for part in ANSWERS.values() for text in part]


@pytest.mark.usefixtures("no_git")
def test_answers_say_what_the_house_should_be(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]]
) -> None:
    asked = answers(*TYPED)
    said = invoke("init", "house")
    assert said.status == 0, said.error
    assert asked[0] == "organisation [Home Lab]: "
    assert "e-mail address of ann [ann@lab.example]: " in asked
    found = inventory.load(tmp_path / "house/pki.yaml")
    assert found.sandbox
    assert (found.hosts["web"].proxy, found.hosts["gate"].proxy) == ("caddy", None)
    assert (found.hosts["web"].services["wiki"].access, str(found.hosts["web"].address)) == ("tls", "10.2.0.3")
    assert (found.publish.host, found.clients["ann"].email) == ("gate", "ann@lab.example")


@pytest.mark.usefixtures("no_git")
def test_empty_answers_take_the_defaults(tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]]) -> None:
    answers(*[""] * 12)
    assert invoke("init", "house").status == 0
    asked = inventory.load(tmp_path / "house/pki.yaml")
    assert invoke("init", "other", "--yes").status == 0
    assert inventory.load(tmp_path / "other/pki.yaml") == asked


@pytest.mark.usefixtures("no_git")
@pytest.mark.parametrize(
    ("section", "wrong", "sentence"),
    [
        ("organisation", "My SANDBOX", "the word SANDBOX is kept for try-out authorities"),
        ("domains", "*.lab.example", "expected a domain without a wildcard"),
        ("networks", "lan", "expected NAME=NETWORK such as lan=192.168.1.0/24, got 'lan'"),
        ("networks", "lan=10.1.0.0/33", "expected an IPv4 network such as 10.10.0.0/24"),
        ("hosts", "Web", "expected lower-case letters, digits and hyphens, got 'Web'"),
        ("publish", "https://crl.lab.example", "expected plain http"),
        ("clients", "ann.smith", "looks like a DNS name"),
        ("sandbox", "perhaps", "expected yes or no, got 'perhaps'"),
    ],
)
def test_answer_that_is_wrong_is_asked_for_again_in_the_words_of_the_model(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]], section: str, wrong: str, sentence: str
) -> None:
    asked = answers(*[text for name, part in ANSWERS.items() for text in ([wrong] if name == section else []) + part])
    said = invoke("init", "house")
    assert said.status == 0, said.error
    assert sentence in said.out
    assert len(asked) == len(TYPED) + 1
    assert inventory.load(tmp_path / "house/pki.yaml").domains == ("lab.example", "av.example")


@pytest.mark.parametrize("stop", [EOFError(), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1, 9, len(TYPED) - 1])
def test_whoever_stops_answering_leaves_nothing_behind(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]], after: int, stop: BaseException
) -> None:
    answers(*TYPED[:after], stop)
    said = invoke("init", "house")
    assert said.status == 1
    assert "nothing was written" in said.error
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("no_git")
def test_what_a_new_repository_holds_stays_as_it_is(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "LICENSE").write_text("mine too")
    assert invoke("init", "--yes").status == 0
    assert names(tmp_path) == WHOLE | {".git", "LICENSE"}
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("present", "said"),
    [
        ("pki.yaml", "pki.yaml: is there already → a house is founded once; edit its pki.yaml"),
        ("notes.txt", "is not empty: notes.txt → name a new folder"),
        (".gitignore", "is not empty: .gitignore → name a new folder"),
    ],
)
def test_folder_that_holds_something_is_refused_before_the_first_question(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]], present: str, said: str
) -> None:
    (tmp_path / present).write_text("mine")
    asked = answers()
    found = invoke("init")
    assert found.status == 1
    assert said in found.error.replace("\n", " ")
    assert asked == []
    assert names(tmp_path) == {present}


@pytest.mark.parametrize("place", [".", "houses/mine", "tests/../pki"])
def test_house_is_never_founded_in_the_folder_of_the_program(invoke: Invoke, place: str) -> None:
    said = invoke("init", str(PROJECT / place), "--yes")
    assert said.status == 1
    assert "lies in the program's own folder" in said.error
    assert not (PROJECT / "houses").exists()


def test_file_in_the_place_of_a_folder_is_said(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        said = invoke("init", place, "--yes")
        assert (said.status, "Not a directory" in said.error) == (1, True)
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("moment", range(1, 6))
@pytest.mark.parametrize("there", [True, False])
def test_founding_that_fails_leaves_what_was_there(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, moment: int, there: bool
) -> None:
    if there:
        (tmp_path / "new/house/.git").mkdir(parents=True)
        (tmp_path / "new/house/LICENSE").write_text("mine")
    before = {str(path) for path in tmp_path.rglob("*")}
    failing(monkeypatch, founding.store.os, moment)
    said = invoke("init", "new/house", "--yes")
    assert said.status == 1
    assert "No space left on device" in said.error
    assert {str(path) for path in tmp_path.rglob("*")} == before


def failing(monkeypatch: pytest.MonkeyPatch, module: Any, moment: int) -> None:
    """The disk is full at the n-th rename."""
    replace, left = module.replace, [moment]

    def full(old: Path, new: Path) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        replace(old, new)

    monkeypatch.setattr(module, "replace", full)


@pytest.mark.parametrize("text", ["yes", "null", "1e3", "12", "O'Brien & Co", "(x)", "Ärzte +", "a - b", "x,y", "on"])
def test_whatever_an_organisation_is_called_pki_yaml_says_it(tmp_path: Path, text: str) -> None:
    tree = {
        "organisation": text,
        "domains": ["lab.internal"],
        "publish": {"url": "http://pki.lab.internal", "host": "on"},
        "networks": {"no": "10.0.0.0/24"},
        "hosts": {"on": {"network": "no"}},
        "clients": {"y": {"email": "y@lab.internal"}},
    }
    (tmp_path / "pki.yaml").write_text(founding.pki_yaml(tree))
    found = inventory.load(tmp_path / "pki.yaml")
    assert (found.organisation, list(found.hosts), list(found.networks)) == (text, ["on"], ["no"])
    assert yaml.safe_load((tmp_path / "pki.yaml").read_text()) == tree | {"secrets": "secrets.yaml"}


def test_help_is_shown_where_an_argument_is_expected(invoke: Invoke) -> None:
    for name in ("init", "renew", "ca.rewrap"):
        said = invoke(name, "--help")
        assert (said.status, f"{name} [--options]" in said.out) == (0, True)
