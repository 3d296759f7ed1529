"""What makes a backup unusable before anything of it is written."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pki.backup.archive_format import Archive, BackupFile, is_restorable, ledger_head
from pki.backup.restore import Restore
from pki.common.errors import PkiError
from pki.ledger.ledger import SqlLedger
from tests.support.projects import START


@pytest.fixture
def ledger(tmp_path: Path) -> bytes:
    """A ledger with one event."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    with closing(SqlLedger("sqlite", folder)) as opened:
        opened.record_decision("project", "restored", "backup of May", START)
    return (folder / "ledger.db").read_bytes()


def read(monkeypatch: pytest.MonkeyPatch, target: Path, ledger: bytes, head: dict[str, Any]) -> PkiError:
    about = {"at": "2026-11-23T06:00:00Z", "organisation": "Example Lab", "ledger": head}
    files = {"ca/ledger.db": BackupFile(ledger, 0o600), "pki.yaml": BackupFile(b"{}", 0o644)}
    monkeypatch.setattr("pki.backup.restore.age.decrypt", lambda *_: b"")
    monkeypatch.setattr("pki.backup.restore.unpack", lambda *_: Archive(about, files))
    with pytest.raises(PkiError) as caught:
        Restore.read(b"", "", "x.age", target, START)
    assert not target.exists()
    return caught.value


def test_a_backup_whose_ledger_is_another_one_than_it_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: bytes
) -> None:
    """An older ledger in a newer backup would take revocations back."""
    head = ledger_head(ledger, "x")
    assert head["events"] == 1
    for other in ({**head, "events": 2}, {**head, "head": "0" * 64}):
        said = read(monkeypatch, tmp_path / "new", ledger, other)
        assert said.message == "x.age: its ledger is not the one that its manifest names"
        assert said.hint == "use another copy of the backup"
    assert "its ledger" not in read(monkeypatch, tmp_path / "new", ledger, head).message


def test_a_backup_with_a_damaged_ledger_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: bytes
) -> None:
    damaged = ledger.replace(b"backup of May", b"backup of Jun")
    assert damaged != ledger
    said = read(monkeypatch, tmp_path / "new", damaged, ledger_head(ledger, "x"))
    assert said.message.startswith("x.age: its ledger: is not intact: ")
    said = read(monkeypatch, tmp_path / "new", b"no database" * 100, ledger_head(ledger, "x"))
    assert said.message.startswith("x.age: its ledger: cannot be read: ")


@pytest.mark.parametrize(
    ("path", "is_written"),
    [
        ("pki.yaml", True),
        (".gitignore", True),
        ("templates/.hidden", True),
        ("ca/ledger.db", True),
        (".gitignore/x", False),
        (".bashrc", False),
        ("ca/.git/config", False),
        ("build/x", False),
        ("offline/x", False),
        ("/etc/passwd", False),
        ("ca/../x", False),
        ("ca//x", False),
        ("./x", False),
        ("", False),
        ("ca/\0x", False),
        ("ca\\x", False),
    ],
)
def test_only_files_of_a_project_are_restored(path: str, is_written: bool) -> None:
    assert is_restorable(path) is is_written
