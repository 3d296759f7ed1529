"""Projects for tests: the example with its clock and its runs, and what makes the tests fast."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from pki.common import age, sealed_records
from pki.common.limited_process import LimitedProcess
from pki.ledger import database
from pki.monitor.report.run import Run
from pki.pipeline import plan
from pki.pipeline.plan import Plan
from pki.project.clock_guard import Evidence, HostClock
from pki.project.project import Project
from pki.x509 import pkcs8
from pki.x509.export import pkcs12
from tests.support.asked_once import asked_once

PROJECT = Path(__file__).parents[2]


START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


ROUNDS, SYNCHRONOUS, SEAL = pkcs8.ROUNDS, database.SYNCHRONOUS, age.encrypt  # as they are for users


Ask = Callable[[Project], Evidence]


def two_hosts_agree(_project: Project) -> Evidence:
    """What is said of the clock of a test that moves it: two hosts were asked, and theirs show the same."""
    return Evidence(hosts=(HostClock("forge", timedelta()), HostClock("media", timedelta(seconds=2))))


@dataclass(frozen=True)
class Report:
    """What a run of doit did, as it wrote it down itself."""

    status: int
    data: dict[str, Any]

    @property
    def made(self) -> dict[str, str]:
        """Artifact → why it was made."""
        return {entry["name"]: "; ".join(entry["reasons"]) for entry in self.data["changed"]}

    @property
    def failed(self) -> dict[str, str]:
        """Artifact → what went wrong, with the hint."""
        return {entry["name"]: f"{entry['message']} → {entry['hint']}" for entry in self.data["failed"]}


@dataclass(frozen=True)
class Home:
    """A folder with pki.yaml and templates, and a clock that stands `days` after the first run."""

    path: Path

    def moment(self, days: float = 0) -> datetime:
        """What the clock of everybody says."""
        return START + timedelta(days=days)

    def doit(self, *arguments: str, days: float = 0, evidence: Ask = two_hosts_agree) -> Report:
        """Run doit in this process, as `dodo.py` does."""
        status = Run(self.path, self.moment(days), evidence).main(list(arguments))
        report = self.path / "build" / "report" / "status.json"
        data = sealed_records.decode_sealed(report.read_bytes())
        assert data is not None, "the report is not as it was written"
        return Report(status, data)

    def project(self, days: float = 0, evidence: Ask = two_hosts_agree) -> Project:
        return Project.open(self.path, self.moment(days), evidence)

    def plan(self, days: float = 0) -> Plan:
        return plan.plan(self.project(days))

    def read(self, path: str) -> bytes:
        return (self.path / path).read_bytes()

    def write(self, path: str, text: str) -> Path:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def edit(self, old: str, new: str, path: str = "pki.yaml") -> None:
        """Replace text in pki.yaml (or another file); the text must be there."""
        text = (self.path / path).read_text()
        assert old in text, f"{path} does not hold {old!r}"
        (self.path / path).write_text(text.replace(old, new))

    def leave_out(self, template: str) -> None:
        """Deliver a template to no host: neither the project's nor that of the program."""
        (self.path / "templates" / template).unlink(missing_ok=True)
        (self.path / "pki.yaml").write_text(f"{self.read('pki.yaml').decode()}templates: {{without: {template}}}\n")

    def add_service(self, name: str, host: str = "monitoring", access: str = "mtls") -> None:
        line = f'      {name}: {{upstream: "http://127.0.0.1:9999", access: {access}}}\n'
        text = (self.path / "pki.yaml").read_text()
        head, mark, rest = text.partition(f"  {host}:\n")
        before, services, after = rest.partition("    services:\n")
        (self.path / "pki.yaml").write_text(head + mark + before + services + line + after)


def bare_home(path: Path) -> Home:
    """The committed example, before its first run."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "pki.yaml", path)
    # the program has the recipes; copies of them would only take time
    shutil.copytree(PROJECT / "templates", path / "templates", ignore=shutil.ignore_patterns("recipes"))
    return Home(path)


@contextmanager
def keys_opened_once() -> Iterator[None]:
    """A key under a passphrase costs 600 000 rounds whenever it is opened: here once in a process for each of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
        yield


@contextmanager
def hasty() -> Iterator[None]:
    """Passphrases need not be slow to guess here, and nothing need outlive the machine: no test here loses power.

    What depends on nothing but what is asked is asked once in a process.
    """
    with asked_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pkcs8, "ROUNDS", 1000)
        patch.setattr(pkcs12, "ROUNDS", 1000)
        patch.setattr(age, "encrypt", _sealed_quickly)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(database, "SYNCHRONOUS", "OFF")
        yield


RENDERED_IN_A_CHILD = LimitedProcess.ask  # as it is for users


@contextmanager
def rendered_here() -> Iterator[None]:
    """Render templates in this process: to fork one as large as that of the tests takes a fifth of a run.

    The answer is pickled as it would be. Nothing limits time and memory.
    """

    def ask(process: LimitedProcess[Any, Any], argument: Any) -> Any:
        return pickle.loads(pickle.dumps(process._work(argument, lambda _: None)))  # noqa: SLF001, S301

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LimitedProcess, "ask", ask)
        yield


def _sealed_quickly(data: bytes, passphrase: str) -> bytes:
    """An age file that is opened as any other, whose key took two rounds and not a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(age, "WORK_FACTOR", 1)
        return SEAL(data, passphrase)
