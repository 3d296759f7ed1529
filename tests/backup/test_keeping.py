"""Keeping a project: founded whole or not at all, backed up, and restored after everything else is lost."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import resource
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml
from cryptography import x509

from pki.authority import intermediate_passphrase
from pki.backup import archive_format
from pki.backup import restore as restoring
from pki.backup import write_backup as backing_up
from pki.backup.archive_format import ledger_head
from pki.cli import backup_commands, init_questions
from pki.common import age, filesystem, passphrase_strength
from pki.common.errors import PkiError
from pki.config import loader, scaffold
from tests.support import judges, peer_clusters
from tests.support.backups import invoke
from tests.support.commands import Invoke, Said
from tests.support.projects import PROJECT, SEAL, START, Home

__all__ = ["invoke"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# -- founding ---------------------------------------------------------------------------------------------------------

WHOLE = {".schema", "dodo.py", "pki.yaml", "run", "tasks.py", "templates", "secrets.yaml", ".gitignore", "README.md"}


@pytest.fixture
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git, which a project does not need."""
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
    said = invoke("init", "project", "--yes", "--sandbox")
    assert said.status == 0, said.error
    assert f"  cd {tmp_path}/project\n  ./run doit\n" in said.out
    assert names(tmp_path / "project") == WHOLE
    home = Home(tmp_path / "project")
    assert home.doit().status == 0
    assert home.doit().made == {}


@pytest.mark.usefixtures("no_git")
def test_founded_project_uses_the_program_s_templates_and_keeps_secrets_to_its_owner(
    tmp_path: Path, invoke: Invoke
) -> None:
    assert invoke("init", "a/b", "--yes").status == 0
    folder = tmp_path / "a/b"
    assert [path.name for path in (folder / "templates").iterdir()] == [".versions.json"]
    assert mode(folder / "secrets.yaml") == 0o600
    assert all(line.startswith("#") for line in (folder / "secrets.yaml").read_text().splitlines())
    kept_out = (folder / ".gitignore").read_text().splitlines()
    assert {"/ca/", "/build/", "/offline/", "secrets.yaml", ".*.new"} <= set(kept_out)
    assert set(kept_out) - {kept_out[0]} <= set((PROJECT / ".gitignore").read_text().splitlines())
    assert not loader.load(folder / "pki.yaml").sandbox


@pytest.mark.parametrize("identity", ["", "name = Ann\nemail = ann@lab.internal\n"])
def test_next_steps_set_the_author_of_commits_where_git_knows_none(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_") or name in {"EMAIL", "XDG_CONFIG_HOME"}]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(f"[user]\nuseConfigOnly = true\n{identity}")
    said = invoke("init", "project", "--yes")
    line = "  git config user.name 'YOUR NAME' && git config user.email YOUR@ADDRESS\n  git add . && git commit"
    assert (said.status, line in said.out, "git commit" in said.out) == (0, not identity, True)


OPTIONS = (
    *("--organisation", "Müller & Söhne", "--domain", "lab.example", "--domain", "av.example"),
    *("--network", "lan=10.1.0.0/16", "--network", "dmz=10.2.0.0/24", "--publish", "http://crl.lab.example=gate"),
    *("--host", "web,network=dmz,address=10.2.0.3,proxy=nginx", "--host", "gate,deliver=none"),
    *("--service", "web/wiki=http://127.0.0.1:3000", "--service", "web/blog=https://10.2.0.9:8443,tls"),
    *("--client", "ann=ann@lab.example", "--client", "ann@phone=ann@lab.example"),
)


@pytest.mark.usefixtures("no_git")
def test_options_say_what_the_project_should_be(tmp_path: Path, invoke: Invoke) -> None:
    said = invoke("init", "--yes", *OPTIONS, "project")
    assert said.status == 0, said.error
    assert "ceremony.request" in said.out
    found = loader.load(tmp_path / "project/pki.yaml")
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
    assert {name: (one.upstream.url, one.access) for name, one in services.items()} == {
        "wiki": ("http://127.0.0.1:3000", "mtls"),
        "blog": ("https://10.2.0.9:8443", "tls"),
    }
    assert set(found.clients) == {"ann", "ann@phone"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--domain", "Lab"], ["domains[0]: write host names in lower case: lab, got 'Lab'"]),
        (["--network", "lan"], ["expected NAME=NETWORK such as lan=192.168.1.0/24, got 'lan'"]),
        (["--network", "lan=192.168.1.0/33"], ["networks.lan: expected a network"]),
        (["--host", "web,colour=red"], ["hosts.web.colour: unknown key"]),
        (["--host", "web,address=10.9.9.9"], ["hosts.web.address: 10.9.9.9 is outside network lan (192.168.1.0/24)"]),
        (["--service", "web/wiki=http://x:1"], ["unknown host 'web'", "→ add --host web"]),
        (["--service", "pki/wiki=ftp://x"], ["hosts.pki.services.wiki.upstream: expected an address such as"]),
        (["--client", "ann=ann"], ["clients.ann.email: expected an e-mail address"]),
        (
            ["--publish", "https://pki.lab.internal=gone"],
            ["publish.url: expected plain http", "unknown host 'gone'"],
        ),
    ],
)
def test_faults_in_the_options_are_said_at_once_and_nothing_is_written(
    tmp_path: Path, invoke: Invoke, options: list[str], expected: list[str]
) -> None:
    said = invoke("init", "project", "--yes", *options)
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
def test_answers_say_what_the_project_should_be(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]]
) -> None:
    asked = answers(*TYPED)
    said = invoke("init", "project")
    assert said.status == 0, said.error
    assert asked[0] == "organisation [Home Lab]: "
    assert "e-mail address of ann [ann@lab.example]: " in asked
    found = loader.load(tmp_path / "project/pki.yaml")
    assert found.sandbox
    assert (found.hosts["web"].proxy, found.hosts["gate"].proxy) == ("caddy", None)
    assert (found.hosts["web"].services["wiki"].access, str(found.hosts["web"].address)) == ("tls", "10.2.0.3")
    assert (found.publish.host, found.clients["ann"].email) == ("gate", "ann@lab.example")


@pytest.mark.usefixtures("no_git")
def test_empty_answers_take_the_defaults(tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]]) -> None:
    answers(*[""] * 12)
    assert invoke("init", "project").status == 0
    asked = loader.load(tmp_path / "project/pki.yaml")
    assert invoke("init", "other", "--yes").status == 0
    assert loader.load(tmp_path / "other/pki.yaml") == asked


@pytest.mark.usefixtures("no_git")
@pytest.mark.parametrize(
    ("section", "wrong", "sentence"),
    [
        ("organisation", "My SANDBOX", "the word SANDBOX is reserved for sandbox authorities"),
        ("domains", "*.lab.example", "expected a domain without a wildcard"),
        ("networks", "lan", "expected NAME=NETWORK such as lan=192.168.1.0/24, got 'lan'"),
        ("networks", "lan=10.1.0.0/33", "expected a network such as 10.10.0.0/24 or fd00:10::/64"),
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
    said = invoke("init", "project")
    assert said.status == 0, said.error
    assert sentence in said.out
    assert len(asked) == len(TYPED) + 1
    assert loader.load(tmp_path / "project/pki.yaml").domains == ("lab.example", "av.example")


@pytest.mark.parametrize("stop", [EOFError(), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1, 9, len(TYPED) - 1])
def test_whoever_stops_answering_leaves_nothing_behind(
    tmp_path: Path, invoke: Invoke, answers: Callable[..., list[str]], after: int, stop: BaseException
) -> None:
    answers(*TYPED[:after], stop)
    said = invoke("init", "project")
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
        ("pki.yaml", "pki.yaml: exists already → a project is initialised once; edit its pki.yaml"),
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


@pytest.mark.parametrize("place", [".", "projects/mine", "tests/../pki"])
def test_project_is_never_founded_in_the_folder_of_the_program(invoke: Invoke, place: str) -> None:
    said = invoke("init", str(PROJECT / place), "--yes")
    assert said.status == 1
    assert "is in the program's own folder" in said.error
    assert not (PROJECT / "projects").exists()


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
        (tmp_path / "new/project/.git").mkdir(parents=True)
        (tmp_path / "new/project/LICENSE").write_text("mine")
    before = {str(path) for path in tmp_path.rglob("*")}
    failing(monkeypatch, filesystem.os, moment)
    said = invoke("init", "new/project", "--yes")
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
    (tmp_path / "pki.yaml").write_text(scaffold.render_pki_yaml(tree))
    found = loader.load(tmp_path / "pki.yaml")
    assert (found.organisation, list(found.hosts), list(found.networks)) == (text, ["on"], ["no"])
    assert yaml.safe_load((tmp_path / "pki.yaml").read_text()) == tree | {"secrets": "secrets.yaml"}


def test_a_new_pki_yaml_fits_a_terminal_of_80_columns() -> None:
    tree = init_questions.tree_of(init_questions.Options()) | {"sandbox": True}
    assert [line for line in scaffold.render_pki_yaml(tree).splitlines() if len(line) > 80] == []


# -- backing up -------------------------------------------------------------------------------------------------------

WORDS = "trumpet velvet cactus orbit mango thistle"
NAME = f"pki-backup-{START:%Y%m%dT%H%M%SZ}.age"


@pytest.fixture
def words(tmp_path: Path) -> str:
    (tmp_path / "words").write_text(WORDS + "\n")
    return "words"


def packed(path: Path) -> archive_format.Archive:
    return archive_format.unpack(age.decrypt(path.read_bytes(), WORDS, path.name), path.name)


@pytest.mark.usefixtures("no_git")
def test_a_project_that_init_created_is_backed_up_and_restored(tmp_path: Path, invoke: Invoke, words: str) -> None:
    assert invoke("init", "project", "--yes", "--sandbox").status == 0
    home = Home(tmp_path / "project")
    assert home.doit().status == 0
    said = invoke("backup", str(tmp_path / NAME), "--passphrase-file", words, home=home.path)
    assert said.status == 0, said.error
    shutil.rmtree(home.path / "ca")
    settle(home, tmp_path / NAME, invoke, words)
    assert home.doit().status == 0


@pytest.mark.parametrize("name", [".device.csr", ".private/device.csr", "offline/device.csr"])
def test_a_file_that_no_restore_writes_is_refused_before_the_passphrase_is_asked_for(
    home: Home, invoke: Invoke, words: str, name: str
) -> None:
    (home.path / name).parent.mkdir(exist_ok=True)
    (home.path / name).write_text("a request")
    home.edit("clients:\n", f"clients:\n  phone: {{email: phone@lab.internal, request: {name}}}\n")
    before = names(home.path.parent)
    said = invoke("backup", home=home.path)
    assert said.status == 1
    assert said.error.startswith(f"{name}: a backup contains no hidden file and nothing of build/ or offline/"), said
    assert names(home.path.parent) == before
    (home.path / "requests").mkdir()
    (home.path / name).rename(home.path / "requests/device.csr")
    home.edit(f"request: {name}", "request: requests/device.csr")
    assert invoke("backup", "--passphrase-file", words, home=home.path).status == 0


def settle(home: Home, backup: Path, invoke: Invoke, words: str) -> Said:
    """Restore into a project whose ca/ is gone."""
    said = invoke("restore", str(backup), "--passphrase-file", words, home=home.path)
    assert said.status == 0, said.error
    return said


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return SEAL(b"x" * 100_000, WORDS)


def altered(data: bytes, at: int) -> bytes:
    place = at % len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _asking(sealed: bytes, work: int) -> bytes:
    """The same file, whose header asks for other work than it was sealed with: 2^`work` rounds of scrypt."""
    first, stanza, rest = sealed.split(b"\n", 2)
    return b"\n".join((first, stanza[: stanza.rindex(b" ")] + b" %d" % work, rest))


def test_a_sealed_file_takes_the_same_memory_whatever_machine_sealed_it(sealed: bytes) -> None:
    """Derivation by scrypt takes 1 kB for each round: 256 MB here and wherever it is opened; the age command asks for as much."""
    assert sealed.split(b"\n")[1].endswith(b" 18")


@pytest.mark.parametrize("work", [19, 22, 23, 30, 63, 64, 10**30])
def test_a_file_that_asks_for_more_memory_than_ours_is_refused_before_any_work(sealed: bytes, work: int) -> None:
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        PkiError, match=r"^x\.age: opening it needs more than 256 MB of memory .*age -d x\.age \| age -p"
    ):
        age.decrypt(_asking(sealed, work), WORDS, "x.age")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started < 100_000


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072])
def test_what_is_sealed_here_opens_with_the_age_library(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(age, "WORK_FACTOR", 10)
    assert pyrage.passphrase.decrypt(age.encrypt(b"y" * size, WORDS), WORDS) == b"y" * size


def test_an_armored_file_opens_and_is_held_to_the_same_work(sealed: bytes) -> None:
    def armored(data: bytes) -> bytes:
        text = base64.b64encode(data)
        lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        return b"-----BEGIN AGE ENCRYPTED FILE-----\n" + lines + b"\n-----END AGE ENCRYPTED FILE-----\n"

    assert age.decrypt(armored(sealed), WORDS, "x.age") == b"x" * 100_000
    with pytest.raises(PkiError, match="opening it needs more than 256 MB"):
        age.decrypt(armored(_asking(sealed, 21)), WORDS, "x.age")


def test_sealed_file_opens_with_its_passphrase_alone(sealed: bytes) -> None:
    assert age.decrypt(sealed, WORDS, "x.age") == b"x" * 100_000
    with pytest.raises(PkiError, match=r"^x\.age: the passphrase is wrong "):
        age.decrypt(sealed, WORDS + "s", "x.age")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-1], "is truncated or was changed"),
        (lambda data: data[:60], "is truncated or was changed"),
        (lambda data: altered(data, -1000), "is truncated or was changed"),
        (lambda data: data[:10], "is not an age file"),
        (lambda _: b"", "is not an age file"),
        (lambda _: b"PK\x03\x04", "is not an age file"),
    ],
)
def test_file_that_is_cut_short_altered_or_something_else_is_told_apart(
    sealed: bytes, spoil: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(PkiError, match=rf"^x\.age: {said} "):
        age.decrypt(spoil(sealed), WORDS, "x.age")


def test_backup_holds_what_cannot_be_made_again_and_nothing_else(
    home: Home, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    home.write("requests/switch.csr", "a request")
    home.write(".gitignore", "/ca/")
    home.write("templates/.left.new", "of a killed run")
    home.write("ca/.left.pem.new", "of a killed run")
    said = invoke("backup", "--passphrase-file", words, home=home.path)
    assert said.status == 0, said.error
    found = packed(tmp_path / NAME).files
    assert {"pki.yaml", ".gitignore", "secrets.yaml", "requests/switch.csr", "ca/ledger.db"} <= found.keys()
    assert {"ca/server/server-1/key.pem", "ca/clients/admin/tls.pem", "ca/root/root-1/cert.pem"} <= found.keys()
    templates = {str(path.relative_to(home.path)) for path in (home.path / "templates").rglob("[!.]*.*")}
    assert len(templates) > 20
    assert templates <= found.keys()
    assert not [name for name in found if ".new" in name or ".lock" in name or "-wal" in name]
    assert {name.partition("/")[0] for name in found} & {"build", "offline"} == set()
    assert {name for name in found if name != "ca/ledger.db"} == {
        name for name in found if (home.path / name).read_bytes() == found[name].data
    }
    assert mode(tmp_path / NAME) == 0o600
    record = json.loads(home.read("ca/.last-backup.json"))
    assert (record["file"], record["at"]) == (NAME, f"{START:%Y-%m-%dT%H:%M:%SZ}")
    assert record["ledger"] == packed(tmp_path / NAME).about["ledger"]
    assert record["ledger"]["head"] == home.project().ledger.events(last=1)[-1].hash


def test_ledger_is_whole_while_somebody_writes_to_it(home: Home, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        db.execute("UPDATE head SET seq = seq + 1")
        assert (home.path / "ca/ledger.db-wal").exists()
        backing_up.BackupWriter(home.project()).write(tmp_path / "x.age", WORDS)
        db.rollback()
    assert packed(tmp_path / "x.age").about["ledger"] == archive_format.ledger_head(home.read("ca/ledger.db"), "")


def test_files_that_change_while_they_are_read_are_read_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key and its passphrase, changed together between two reads, would not belong together."""
    read, times = backing_up.BackupWriter.read_now, []

    def interrupted(self: backing_up.BackupWriter, paths: list[Path]) -> dict[str, archive_format.BackupFile]:
        found = read(self, paths)
        times.append(len(found))
        if len(times) == 1:
            intermediate_passphrase.change_passphrase(home.project(), "server-1")
        return found

    monkeypatch.setattr(backing_up.BackupWriter, "read_now", interrupted)
    found = backing_up.BackupWriter(home.project()).snapshot()
    assert len(times) == 2
    assert found["secrets.yaml"].data == home.read("secrets.yaml")
    assert found["ca/server/server-1/key.pem"].data == home.read("ca/server/server-1/key.pem")


def test_files_that_never_rest_are_read_between_two_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    read, held = backing_up.BackupWriter.read_now, list[bool]()

    def restless(self: backing_up.BackupWriter, paths: list[Path]) -> dict[str, archive_format.BackupFile]:
        held.append(bool(home.read("ca/.run.lock")) and locked(home))
        filesystem.write(home.path / "requests/x.csr", str(len(held)).encode())
        return read(self, paths)

    monkeypatch.setattr(backing_up.BackupWriter, "read_now", restless)
    assert "requests/x.csr" in backing_up.BackupWriter(home.project()).snapshot()
    assert held == [False, False, False, True]


def locked(home: Home) -> bool:
    with (home.path / "ca/.run.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_backup_that_does_not_read_back_gets_no_name(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseal = age.decrypt
    monkeypatch.setattr(age, "decrypt", lambda *given: altered(unseal(*given), -50_000))
    with pytest.raises(PkiError, match=r"x\.age"):
        backing_up.BackupWriter(home.project()).write(tmp_path / "x.age", WORDS)
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    assert not (home.path / "ca/.last-backup.json").exists()


@pytest.mark.parametrize("call", ["write", "replace"])
def test_backup_on_a_full_disk_leaves_nothing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke, words: str, call: str
) -> None:
    project = home.project()
    found = getattr(os, call)

    def full(first: Any, *others: Any) -> Any:
        if call == "replace" or bytes(others[0]).startswith(age.MARKS):
            raise OSError(28, "No space left on device")
        return found(first, *others)

    monkeypatch.setattr(os, call, full)
    said = invoke("backup", "--passphrase-file", words, home=project.store.home)
    monkeypatch.undo()
    assert said.status == 1
    assert "No space left on device" in said.error
    assert {path.name for path in tmp_path.iterdir()} == {"home", "words"}


def test_project_whose_ledger_was_changed_is_not_backed_up_as_if_it_were_whole(
    home: Home, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        db.execute("UPDATE certificates SET subject = 'CN=x' WHERE seq = 1")
        db.commit()
    said = invoke("backup", "--passphrase-file", words, home=home.path)
    assert said.status == 1
    assert "ca/ledger.db: is not intact: event 1: its certificate of" in said.error
    assert not list(tmp_path.glob("*.age"))


def test_a_copy_of_a_database_of_its_own_is_in_the_backup(
    home: Home, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    shutil.copy(home.path / "ca/ledger.db", tmp_path / "elsewhere.db")
    home.edit("ledger: sqlite ", f"ledger: sqlite:///{tmp_path}/elsewhere.db ")
    said = invoke("backup", "--passphrase-file", words, home=home.path)
    assert said.status == 0, said.error
    assert "with a copy of its ledger: ca/ledger-copy.db" in said.out
    found = packed(tmp_path / NAME)
    assert found.about["ledger"] is None
    assert "ca/ledger.db" not in found.files
    head = home.project().ledger.head()
    assert ledger_head(found.files["ca/ledger-copy.db"].data, "copy") == {"events": head.seq, "head": head.hash}
    restored = invoke("restore", NAME, "--to", "new", "--passphrase-file", words).out
    assert "its ledger is in a database; if that is lost" in restored
    assert "ledger.restore" in restored


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("home/ca/x.age", "is in ca/ and would be lost with it"),
        ("home/build/hosts/../x.age", "is in build/ and would be lost with it"),
        ("gone/x.age", "is not a folder → name a file in a folder that exists"),
        ("words/x.age", "is not a folder"),
        ("words", "exists already → name another file; a backup is never overwritten"),
    ],
)
def test_place_where_no_backup_belongs_is_refused_before_the_passphrase(
    home: Home, tmp_path: Path, invoke: Invoke, words: str, place: str, said: str
) -> None:
    found = invoke("backup", place, "--passphrase-file", "not there at all", home=home.path)
    assert (found.status, said in found.error.replace("\n", " ")) == (1, True), found.error
    assert (tmp_path / words).read_text() == WORDS + "\n"


def test_project_without_authorities_has_nothing_to_back_up(fresh: Home, invoke: Invoke) -> None:
    said = invoke("backup", home=fresh.path)
    assert (said.status, "there is nothing to back up: ca/ is missing" in said.error) == (1, True)
    assert not (fresh.path / "ca").exists()


# -- the passphrase of a backup ---------------------------------------------------------------------------------------


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def give(*texts: str | None) -> None:
        waiting = iter(texts)
        monkeypatch.setattr(backup_commands, "ask_secretly", lambda _question: next(waiting))

    return give


def test_passphrase_is_typed_twice_or_comes_from_its_source(
    home: Home, tmp_path: Path, invoke: Invoke, typed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(WORDS, WORDS)
    assert invoke("backup", "typed.age", home=home.path).status == 0
    monkeypatch.setenv("PKI_BACKUP", WORDS)
    home.edit("secrets: secrets.yaml", "secrets: {backup: {env: PKI_BACKUP}}")
    typed()
    said = invoke("backup", "sourced.age", home=home.path)
    assert said.status == 0, said.error
    assert packed(tmp_path / "typed.age").files.keys() == packed(tmp_path / "sourced.age").files.keys()
    assert WORDS not in said.out + said.error


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ((WORDS, WORDS + "s"), "the two passphrases differ → type it again"),
        (("hunter2hunter2",) * 2, "the passphrase: can be guessed in 10^"),
        (("", ""), "the passphrase: is empty → use six random words"),
        ((None,), "there is no terminal to ask for the passphrase → name a file that contains it"),
    ],
)
def test_passphrase_that_will_not_do_is_refused_and_not_shown(
    home: Home, tmp_path: Path, invoke: Invoke, typed: Callable[..., None], texts: tuple[str | None, ...], said: str
) -> None:
    typed(*texts)
    found = invoke("backup", home=home.path)
    assert (found.status, said in found.error.replace("\n", " ")) == (1, True), found.error
    assert "hunter2" not in found.error
    assert not list(tmp_path.glob("*.age"))


@pytest.mark.parametrize("text", [WORDS, "3f786850e387550fdab836ed7e6dc881de23001b9a7c5b1e" * 2, "x7#Kq9!vTz2m@W4pLr8"])
def test_strong_passphrase_is_strong_whatever_its_length(text: str) -> None:
    assert passphrase_strength.find_weakness(text) == ""


@pytest.mark.parametrize(
    "text", ["password", "correct horse", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a" * 500, " ", "1234567890" * 9]
)
def test_weak_passphrase_is_said_to_be_with_what_to_do_and_never_quoted(text: str) -> None:
    said = passphrase_strength.find_weakness(text)
    assert said
    assert text == " " or text not in said


# -- restoring --------------------------------------------------------------------------------------------------------


def test_project_that_lost_its_authorities_has_nothing_to_do_after_a_restore(
    home: Home, tmp_path: Path, invoke: Invoke, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real sealing: the whole way."""
    monkeypatch.setattr(age, "encrypt", SEAL)
    assert invoke("backup", "--passphrase-file", words, home=home.path).status == 0
    before = {path: path.read_bytes() for path in (home.path / "ca").rglob("*.pem")}
    shutil.rmtree(home.path / "ca")
    (home.path / "secrets.yaml").unlink()
    said = settle(home, tmp_path / NAME, invoke, words)
    assert "ca" in said.out
    assert {path: path.read_bytes() for path in (home.path / "ca").rglob("*.pem")} == before
    assert home.doit().made == {}
    assert home.project().ledger.verify() == []


def test_authority_of_clusters_is_restored_with_its_revocations(
    fresh: Home, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    peer_clusters.declare(fresh)
    assert fresh.doit().status == 0
    invoke("revoke", "media-peer", "--reason", "key-compromise", "--yes", home=fresh.path)
    assert invoke("backup", "--passphrase-file", words, home=fresh.path).status == 0
    before = {path: path.read_bytes() for path in (fresh.path / "ca").rglob("*.pem")}
    assert {path.parent.name for path in before} >= {"root-peer-1", "peer-1"}
    shutil.rmtree(fresh.path / "ca")
    settle(fresh, tmp_path / NAME, invoke, words)
    assert {path: path.read_bytes() for path in (fresh.path / "ca").rglob("*.pem")} == before
    assert fresh.doit().made == {}
    assert len(fresh.project().ledger.revoked_serials(expiring_after=START, issuer="peer-1")) == 1


def test_revocation_of_a_member_of_a_cluster_is_recovered_from_the_ledger_that_was_there(
    fresh: Home, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    peer_clusters.declare(fresh)
    assert fresh.doit().status == 0
    assert invoke("backup", "--passphrase-file", words, home=fresh.path).status == 0
    [leaf, *_] = x509.load_pem_x509_certificates(fresh.read("build/certs/media-peer/cert.pem"))
    invoke("revoke", "media-peer", "--reason", "key-compromise", "--yes", home=fresh.path)
    shutil.rmtree(fresh.path / "build")
    (fresh.path / "ca/peer/peer-1/key.pem").unlink()
    said = settle(fresh, tmp_path / NAME, invoke, words)
    assert f"recovered from the ledger that was there: {leaf.serial_number:x}" in said.out
    assert fresh.project().ledger.revoked_serials(expiring_after=START, issuer="peer-1") == {leaf.serial_number}


@pytest.mark.parametrize("path", ["ca/root-peer/root-peer-1/cert.pem", "ca/peer/peer-1/cert.pem"])
def test_project_without_a_certificate_of_the_authority_of_clusters_has_lost_something(
    fresh: Home, tmp_path: Path, invoke: Invoke, words: str, path: str
) -> None:
    peer_clusters.declare(fresh)
    assert fresh.doit().status == 0
    assert invoke("backup", "--passphrase-file", words, home=fresh.path).status == 0
    before = fresh.read(path)
    (fresh.path / path).unlink()
    settle(fresh, tmp_path / NAME, invoke, words)  # asks nothing: something is lost
    assert fresh.read(path) == before


@pytest.mark.parametrize("name", ["server-1", "client-1", "peer-1", "server-2"])
def test_a_backup_says_that_a_passphrase_from_elsewhere_is_not_in_it(
    fresh: Home, invoke: Invoke, words: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CA_PASSPHRASE", WORDS)
    peer_clusters.declare(fresh)
    fresh.edit("secrets: secrets.yaml", f"secrets: {{file: secrets.yaml, {name}: {{env: CA_PASSPHRASE}}}}")
    assert fresh.doit().status == 0
    if name == "server-2":
        shutil.copytree(fresh.path / "ca/server/server-1", fresh.path / "ca/server/server-2")
    said = invoke("backup", "--passphrase-file", words, home=fresh.path)
    assert (said.status, "passphrases from sources other than files are not in it" in said.out) == (0, True), said


@pytest.fixture
def backup(home: Home, tmp_path: Path, invoke: Invoke, words: str) -> Path:
    assert invoke("backup", "--passphrase-file", words, home=home.path).status == 0
    return tmp_path / NAME


def test_restored_secrets_are_their_owners_alone(backup: Path, tmp_path: Path, invoke: Invoke, words: str) -> None:
    loose = packed(backup)
    files = {name: archive_format.BackupFile(kept.data, 0o666) for name, kept in loose.files.items()}
    about = {key: value for key, value in loose.about.items() if key not in {"files", "format"}}
    backup.write_bytes(age.encrypt(archive_format.pack(files, about, START), WORDS))
    assert invoke("restore", str(backup), "--to", "a/new", "--passphrase-file", words).status == 0
    new = tmp_path / "a/new"
    assert mode(new / "ca") == 0o700
    secret = {str(path.relative_to(new)) for path in new.rglob("*") if path.is_file() and mode(path) == 0o600}
    assert {"secrets.yaml", "ca/ledger.db", "ca/server/server-1/key.pem", "ca/clients/admin/tls.pem"} <= secret
    assert mode(new / "pki.yaml") == 0o644
    assert names(new) == {"pki.yaml", "templates", "secrets.yaml", "ca"}
    assert Home(new).doit().status == 0


def test_what_is_there_already_stays_and_differences_are_named(
    home: Home, backup: Path, invoke: Invoke, words: str
) -> None:
    shutil.rmtree(home.path / "ca")
    home.add_service("wiki")
    home.write("templates/mine.conf", "# deploy-target: /etc/mine\n# deploy-hosts: forge\nmine\n")
    kept = home.read("pki.yaml")
    said = settle(home, backup, invoke, words)
    assert "not replaced, although different in the backup: pki.yaml\n" in said.out
    assert home.read("pki.yaml") == kept
    assert (home.path / "templates/mine.conf").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda home: home.edit("Example Lab", "Another Lab"),
            "pki.yaml: belongs to another project (the backup is of Example Lab)",
        ),
    ],
)
def test_folder_of_another_project_is_refused(
    home: Home, backup: Path, invoke: Invoke, words: str, change: Callable[[Home], object], said: str
) -> None:
    shutil.rmtree(home.path / "ca")
    change(home)
    found = invoke("restore", str(backup), "--passphrase-file", words, home=home.path)
    assert (found.status, said in found.error) == (1, True), found.error
    assert not (home.path / "ca").exists()


@pytest.mark.parametrize("moment", [1, 2, 9])
@pytest.mark.parametrize("there", [True, False])
def test_restore_that_fails_leaves_what_was_there(
    home: Home,
    backup: Path,
    tmp_path: Path,
    invoke: Invoke,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    there: bool,
) -> None:
    target = home.path if there else tmp_path / "a/b"
    shutil.rmtree(home.path / "ca")
    (home.path / "secrets.yaml").unlink()
    before = {str(path) for path in tmp_path.rglob("*")}
    failing(monkeypatch, os, moment)
    said = invoke("restore", str(backup), "--to", str(target), "--passphrase-file", words)
    assert (said.status, "No space left on device" in said.error) == (1, True), said.error
    assert {str(path) for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("part", ["secrets.yaml", "ca"])
def test_restore_that_fails_between_its_parts_takes_the_first_ones_back(
    home: Home, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    shutil.rmtree(home.path / "ca")
    (home.path / "secrets.yaml").unlink()
    before = {str(path) for path in tmp_path.rglob("*")}
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name == part:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(PkiError, match="cannot be moved or written: No space left on device"):
        restoring.Restore.read(backup.read_bytes(), WORDS, backup.name, home.path, START).carry_out()
    assert {str(path) for path in tmp_path.rglob("*")} == before


def test_file_in_the_place_of_the_project_is_said(backup: Path, tmp_path: Path, invoke: Invoke, words: str) -> None:
    for place in (words, f"{words}/below"):
        said = invoke("restore", str(backup), "--to", place, "--passphrase-file", words)
        assert (said.status, said.error.startswith(f"{tmp_path}/{place}: ")) == (1, True), said.error
    said = invoke("restore", "gone.age", "--to", "new", "--passphrase-file", words)
    assert (said.status, "gone.age: is not there" in said.error) == (1, True)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        *(member(name) for name in ("/etc/passwd", "../x", "ca/../../x", "ca//x", "./x", "ca/x\\y")),
        *(
            member(name)
            for name in (".git/hooks/pre-commit", "templates/.git/config", "build/x", "offline/x", ".bashrc")
        ),
        member("ca/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("ca/hard", tarfile.LNKTYPE, "pki.yaml"),
        member("ca/device", tarfile.CHRTYPE),
        member("ca/pipe", tarfile.FIFOTYPE),
        member("ca", tarfile.DIRTYPE),
        member("pki.yaml"),
    ],
    ids=lambda hostile: f"{hostile.name} {hostile.type!r}",
)
def test_archive_with_something_that_no_project_holds_is_refused(hostile: tarfile.TarInfo) -> None:
    buffer = io.BytesIO(archive_format.pack({"pki.yaml": archive_format.BackupFile(b"", 0o644)}, {}, START))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        tar.addfile(hostile)
    with pytest.raises(PkiError, match=r"x\.age: contains "):
        archive_format.unpack(buffer.getvalue(), "x.age")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.replace(b"what is", b"what if"), "a.txt differs from its manifest"),
        (lambda data: data.replace(b"b.txt", b"c.txt", 1), "differs from its manifest"),
        (lambda data: data.replace(b'"format": 1', b'"format": 2'), "has a format that this program does not read"),
        (lambda data: data.replace(b'"files"', b'"filed"'), "is not a backup of a project"),
        (lambda _: b"not a tar at all", "is not a backup of a project"),
        (lambda _: b"", "is not a backup of a project"),
    ],
)
def test_archive_that_is_not_as_its_manifest_says_is_refused(spoil: Callable[[bytes], bytes], said: str) -> None:
    files = {"a.txt": archive_format.BackupFile(b"what is", 0o644), "b.txt": archive_format.BackupFile(b"", 0o644)}
    data = archive_format.pack(files, {}, START)
    assert archive_format.unpack(data, "x").files == files
    with pytest.raises(PkiError, match=said):
        archive_format.unpack(spoil(data), "x.age")


def test_what_happened_after_the_backup_is_said_and_no_revocation_is_lost(
    home: Home, backup: Path, invoke: Invoke, words: str
) -> None:
    assert invoke("renew", "media", home=home.path, days=1).status == 0
    assert invoke("revoke", "forge-mtls", "--reason", "key-compromise", "--yes", home=home.path, days=2).status == 2
    assert invoke("renew", "admin", home=home.path, days=2).status == 0
    assert invoke("revoke", "admin", "--reason", "superseded", "--yes", home=home.path, days=3).status == 2
    revoked = {name: judges.crls(home.read(f"build/crl/{name}.pem"))[0] for name in ("server-1", "client-1")}
    assert {name: len(crl) for name, crl in revoked.items()} == {"server-1": 1, "client-1": 2}
    shutil.rmtree(home.path / "ca")
    said = invoke("restore", str(backup), "--passphrase-file", words, home=home.path, days=4)
    assert said.status == 0, said.error
    assert "build/ contains newer CRLs than the restored ledger (server-1, client-1)" in said.out
    assert "./run invoke renew media" in said.out
    assert "./run invoke renew forge-mtls" in said.out
    assert "renew monitoring-mtls" not in said.out
    assert home.doit(days=4).status == 0
    assert home.doit(days=11).status == 0
    for name, before in revoked.items():
        after = judges.crls(home.read(f"build/crl/{name}.pem"))[0]
        assert {entry.serial_number for entry in before} <= {entry.serial_number for entry in after}
        assert judges.number(after) > judges.number(before)
    assert home.project().ledger.verify() == []


def test_what_a_published_crl_revokes_comes_back_into_a_project_that_lost_all_else(
    home: Home, backup: Path, tmp_path: Path, invoke: Invoke, words: str
) -> None:
    """A backup of three months ago, and neither build/ nor a host: the CRL from its published address is enough."""
    assert invoke("revoke", "admin", "--reason", "superseded", "--yes", home=home.path, days=2).status in {0, 2}
    published = home.read("build/hosts/monitoring/var/www/pki/crl/client-1.crl")
    (tmp_path / "client-1.crl").write_bytes(published)
    for lost in ("ca", "build"):
        shutil.rmtree(home.path / lost)
    assert invoke("restore", str(backup), "--passphrase-file", words, home=home.path, days=90).status == 0
    assert home.project(90).ledger.revoked_serials(expiring_after=START) == frozenset()
    said = invoke("ledger.recover", "--file", "client-1.crl", home=home.path, days=90)
    assert said.status == 0, said
    report = home.doit(days=90)
    assert report.status == 0, report.failed
    before, after = x509.load_der_x509_crl(published), judges.crls(home.read("build/crl/client-1.pem"))[0]
    assert {entry.serial_number for entry in before} == {entry.serial_number for entry in after} != set()
    assert judges.number(after) > judges.number(before)


def test_help_is_shown_where_an_argument_is_expected(invoke: Invoke) -> None:
    for name in ("init", "renew", "ca.change-passphrase"):
        said = invoke(name, "--help")
        assert (said.status, said.out.startswith(f"Usage: ./run invoke {name} ")) == (0, True)
