"""Secrets that came in environment variables: who still has them, and what other programs are started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pki.common import child_processes
from pki.deploy import bootstrap
from pki.ledger.database import Database
from tests.support.projects import Home

SECRETS = {"PKI_CLIENT_WORDS": "", "PKI_MAIL_WORDS": "the password of a mail account", "PKI_UNUSED": "words of no use"}
MARK = "PKI_NOT_SECRET"


def passphrase_of(home: Home, name: str) -> str:
    lines = home.read("secrets.yaml").decode().splitlines()
    return next(line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")).strip("'\"")


class Programs:
    """Programs in PATH that write down their environment, one file for each time that one is started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._seen = folder / "bin", folder / "seen"
        for one in (self.folder, self._seen):
            one.mkdir()

    def add(self, name: str, then: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nenv >{self._seen}/{name}.$$\n{then}\n")
        path.chmod(0o755)
        return path

    def environments(self, name: str) -> list[str]:
        return [path.read_text() for path in self._seen.glob(f"{name}.*")]

    def insist(self, name: str) -> None:
        """The program was started, with an environment of its own, in which none of the secrets is."""
        assert self.environments(name), f"{name} was not started"
        for text in self.environments(name):
            assert "PATH=" in text
            assert not [one for one in SECRETS if f"{one}=" in text]
            assert not [one for one in SECRETS.values() if one in text]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs(tmp_path)
    monkeypatch.setenv("PATH", str(found.folder), prepend=":")
    return found


@pytest.fixture
def sourced(home: Home, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A project whose passphrases come from variables, and one from a command; `media` is deployed to by ssh."""
    monkeypatch.setitem(SECRETS, "PKI_CLIENT_WORDS", passphrase_of(home, "client-1"))
    for name, value in {**SECRETS, MARK: "x"}.items():
        monkeypatch.setenv(name, value)
    ask = programs.add("ask", f"echo '{passphrase_of(home, 'server-1')}'")
    programs.add("ssh", "exit 255")
    home.write("secrets.yaml", f"root-1: {passphrase_of(home, 'root-1')}\n").chmod(0o600)
    home.edit(
        "secrets: secrets.yaml",
        f"secrets: {{client: {{env: PKI_CLIENT_WORDS}}, smtp: {{env: PKI_MAIL_WORDS}}, "
        f"notify-ops: {{env: PKI_UNUSED}}, server: {{command: {ask}}}}}",
    )
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    deliver: ssh\n")
    return home


@pytest.mark.parametrize("arguments", [(), ("-n", "4")])
def test_no_program_that_a_run_starts_has_the_secrets_and_the_run_has_them(
    sourced: Home, programs: Programs, arguments: tuple[str, ...]
) -> None:
    report = sourced.doit(*arguments, days=61)
    assert {"cert:media", "crl:client-1"} <= report.made.keys(), report.failed
    assert report.failed.keys() == {"deploy:media"}
    programs.insist("ssh")
    programs.insist("ask")
    assert all(f"{MARK}=x" in text for name in ("ssh", "ask") for text in programs.environments(name))


def test_ansible_is_started_without_the_secrets(sourced: Home, programs: Programs) -> None:
    runner = programs.add("ansible-runner", "exit 1")
    sourced.edit("\nhosts:\n", f"\ndeploy: {{engine: ansible, ansible: {{command: {runner}}}}}\nhosts:\n")
    assert "deploy:media" in sourced.doit(days=61).failed
    programs.insist("ansible-runner")


def test_ssh_keygen_is_started_without_the_secrets(sourced: Home, programs: Programs) -> None:
    programs.add("ssh-keygen", 'for last; do :; done; touch "$last" && echo key >"$last.pub"')
    assert bootstrap.deploy_key(sourced.project().store.ca) == "key"
    programs.insist("ssh-keygen")


def test_whatever_else_is_started_after_pki_yaml_was_read_has_no_secret(sourced: Home) -> None:
    """Libraries that start programs, and those that ask the C library for a variable, get none either."""
    sourced.project()
    code = "import os; print(sorted(os.environ))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert MARK in said
    assert not [name for name in SECRETS if name in said]
    assert not SECRETS.keys() & os.environ.keys()


def test_secret_is_known_to_everything_that_opens_the_project_later_in_the_same_process(sourced: Home) -> None:
    for _ in range(2):
        assert [one.value for one in sourced.project().passphrases.candidates("smtp")] == [SECRETS["PKI_MAIL_WORDS"]]


def test_variable_that_is_set_again_has_its_new_value(sourced: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sourced.project()
    monkeypatch.setenv("PKI_MAIL_WORDS", "another password of that account")
    assert sourced.project().passphrases.candidates("smtp")[0].value == "another password of that account"


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("postgresql+psycopg://pki@db.lab.internal/pki", {"password": "words of a database"}),
        ("postgresql+psycopg://pki:in-the-url@db.lab.internal/pki", {}),
        ("sqlite", {"timeout": 60}),
    ],
)
def test_password_that_libpq_would_take_from_the_environment_is_handed_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, given: dict[str, object]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "words of a database")
    child_processes.remove_from_environment([child_processes.LIBPQ_PASSWORD])
    found: list[object] = []

    class StopError(Exception):
        pass

    def engine(_url: str, **arguments: object) -> None:
        found.append(arguments.get("connect_args", {}))
        raise StopError

    monkeypatch.setattr("sqlalchemy.create_engine", engine)
    with pytest.raises(StopError), Database(address, tmp_path, lambda: None).reading():
        pass
    assert found == [given]
    assert "PGPASSWORD" not in os.environ


def test_password_of_the_database_leaves_the_environment_only_where_the_ledger_is_there(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "words of a database")
    home.project()
    assert "PGPASSWORD" in os.environ
    home.edit("ledger: sqlite ", 'ledger: "postgresql+psycopg://pki@db.lab.internal/pki" ')
    home.project()
    assert "PGPASSWORD" not in os.environ
