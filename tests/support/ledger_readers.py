"""Everything that reads a ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pki.ledger.ledger import SqlLedger
from tests.support.copies import copy_project
from tests.support.projects import START, Home

Read = Callable[[SqlLedger], object]
READERS: dict[str, Read] = {
    "certificates": lambda ledger: ledger.certificates(),
    "decisions": lambda ledger: ledger.decisions(),
    "events": lambda ledger: ledger.events(),
    "newest": lambda ledger: ledger.newest_event(),
    "head": lambda ledger: ledger.head(),
    "counts": lambda ledger: ledger.counts(),
    "revoked serials": lambda ledger: ledger.revoked_serials(expiring_after=START),
    "ended serials": lambda ledger: ledger.expired_serials(expired_before=START),
    "revoked": lambda ledger: ledger.revoked_entries("client-1", expiring_after=START),
    "last CRL": lambda ledger: ledger.last_crl("client-1"),
    "lacks": lambda ledger: ledger.missing_heads([ledger.head()]),
    "recorded": lambda ledger: ledger.has_recorded("client-1", b"0"),
}


@pytest.fixture(scope="module")
def rows_once(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A project whose ledger has rows of each kind."""
    home = Home(tmp_path_factory.mktemp("rows") / "home")
    copy_project(built_once, home.path)
    project = home.project()
    issued = project.ledger.certificates(artifact="cert:client-admin")[-1]
    project.ledger.record_revocation(issued, reason="superseded", at=project.now)
    project.ledger.record_decision("deploy:media", "pinned", "f" * 24, project.now)
    project.ledger.close()
    assert home.doit().status == 0
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    return home


@pytest.fixture
def home(rows_once: Home, tmp_path: Path) -> Home:
    copy_project(rows_once.path, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def ledger(home: Home) -> Path:
    """The file of a ledger that has rows of each kind."""
    return home.path / "ca/ledger.db"
