"""A ledger in SQLite of which one bit was changed: every reader says so, or reads what was recorded."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pki.common.errors import LedgerError
from pki.ledger.ledger import SqlLedger
from pki.ledger.types import CHECK_DISK, RESTORE_FILE
from tests.support.ceremonies import RealHome
from tests.support.commands import said_by
from tests.support.ledger_readers import READERS, home, ledger, rows_once
from tests.support.projects import Home

__all__ = ["home", "ledger", "rows_once"]

SAMPLES = int(os.environ.get("PKI_SAMPLES", "40"))


def opened(path: Path) -> SqlLedger:
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    return SqlLedger("sqlite", path.parent, lambda: None, lambda: None)


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
        db.execute("PRAGMA journal_mode=DELETE")


def flipped(content: bytes, bit: int) -> bytes:
    data = bytearray(content)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def test_one_changed_bit_ends_no_reader_with_another_error(ledger: Path) -> None:
    content, chance = ledger.read_bytes(), random.Random("ledger")  # noqa: S311 - one that can be repeated
    with closing(opened(ledger)) as sound:
        before = {name: read(sound) for name, read in READERS.items()}
    for _ in range(SAMPLES):
        bit = chance.randrange(8 * len(content))
        ledger.write_bytes(flipped(content, bit))
        faults, differing = ["cannot be read"], list[str]()
        with suppress(LedgerError), closing(opened(ledger)) as damaged:
            faults = damaged.verify()
            for name, read in READERS.items():
                with suppress(LedgerError):
                    differing += [name] if read(damaged) != before[name] else []
        assert faults or not differing, f"bit {bit}: {differing} differ, and the chain is whole"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE certificates SET serial = CAST(x'ff31' AS TEXT) WHERE seq = (SELECT max(seq) FROM certificates)",
        "UPDATE certificates SET serial = 'xyz'",
        "UPDATE certificates SET serial = x'31'",
        "UPDATE certificates SET names = '[\"a\"'",
        "UPDATE certificates SET names = 7",
        "UPDATE certificates SET not_after = 'soon'",
        "UPDATE certificates SET not_after = 1e300",
        "UPDATE certificates SET pem = x'00'",
        "UPDATE revocations SET serial = CAST(x'c328' AS TEXT)",
        "UPDATE revocations SET serial = ''",
        "UPDATE revocations SET revoked_at = 9223372036854775807",
        "UPDATE crls SET added = 'zz' WHERE seq = (SELECT max(seq) FROM crls)",
        "UPDATE crls SET this_update = 'now'",
        "UPDATE crls SET number = x'00'",
        "UPDATE crls SET pem = 'BEGIN'",
        "UPDATE events SET hash = CAST(x'ff' AS TEXT)",
        "UPDATE events SET at = 'x'",
        "UPDATE events SET at = -9223372036854775807",
        "UPDATE events SET kind = x'00'",
        "UPDATE decisions SET at = x'00'",
        "UPDATE head SET hash = x'00'",
        "UPDATE head SET seq = 'x'",
        "UPDATE head SET schema = 'x'",
        "UPDATE head SET schema = x'00'",
        "UPDATE head SET schema = 2.5",
    ],
)
def test_what_was_never_recorded_is_told_by_every_reader(
    ledger: Path, home: Home, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(ledger, statement.replace("UPDATE ", "UPDATE OR IGNORE ", 1))
    with closing(opened(ledger)) as damaged:
        for read in READERS.values():
            with suppress(LedgerError):
                read(damaged)
    said = said_by(capsys, "ledger.verify", pki_home=str(home.path), pki_now=home.moment())
    assert said.status == 1, said
    assert "restore" in said.out + said.error
    assert "unexpected" not in said.out + said.error


def test_a_schema_that_is_damaged_names_restore_and_not_the_disk(ledger: Path) -> None:
    content = ledger.read_bytes()
    place = content.index(b"CREATE TABLE certificates")
    for at in (place, place + 8, place + 14, place + 40):
        for bit in (0, 7):
            ledger.write_bytes(flipped(content, 8 * at + bit))
            with pytest.raises(LedgerError) as raised, closing(opened(ledger)) as damaged:  # noqa: PT012
                damaged.verify()
                damaged.certificates()
            assert raised.value.hint == RESTORE_FILE, raised.value


def test_a_ledger_that_is_locked_is_not_called_damaged(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pki.ledger.database.LOCK_TIMEOUT", 0.1)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError) as raised, closing(opened(ledger)) as waiting:
            waiting.verify()
    assert raised.value.hint == CHECK_DISK


# -- a ledger, or passphrases, that are lost ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("revoke", "admin", "--reason", "superseded", "--yes"),
        ("revoke", "media", "--reason", "superseded", "--yes"),
        ("client.revoke", "admin", "--reason", "superseded", "--yes"),
        ("retire", "gone", "--yes"),
        ("backup", "x.age", "--passphrase-file", "words"),
    ],
)
def test_a_command_that_needs_a_lost_ledger_says_that_it_is_lost_and_writes_nothing(
    real: RealHome, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A backup without it would be taken for the newest, and what the last one noted of it would be lost."""
    (tmp_path / "words").write_text("trumpet velvet cactus orbit mango thistle\n")
    real.write("ca/.last-backup.json", "noted")
    for path in (real.path / "ca").glob("ledger.db*"):
        path.unlink()
    said = said_by(capsys, *words, pki_home=str(real.path), pki_now=real.moment(), pki_called_from=str(tmp_path))
    assert said.status == 1, said
    assert "ca/ledger.db: is missing" in said.error
    assert "./run invoke restore FILE" in said.error
    assert not (tmp_path / "x.age").exists()
    assert real.read("ca/.last-backup.json") == b"noted"
    assert not (real.path / "ca/ledger.db").exists()


def test_explain_counts_no_certificates_of_a_ledger_that_is_lost(
    real: RealHome, capsys: pytest.CaptureFixture[str]
) -> None:
    (real.path / "ca/ledger.db").unlink()
    said = said_by(capsys, "explain", "server", pki_home=str(real.path), pki_now=real.moment())
    assert "ca/ledger.db: is missing" in said.out
    assert "0 certificates" not in said.out


@pytest.mark.parametrize("lost", ["secrets.yaml", "ca/server/server-1/key.pem"])
def test_a_backup_of_what_lacks_a_key_or_passphrase_says_so(
    real: RealHome, tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    (tmp_path / "words").write_text("trumpet velvet cactus orbit mango thistle\n")
    (real.path / lost).unlink()
    options = ("x.age", "--passphrase-file", "words")
    said = said_by(
        capsys, "backup", *options, pki_home=str(real.path), pki_now=real.moment(), pki_called_from=str(tmp_path)
    )
    assert said.status == 1, said
    assert (tmp_path / "x.age").exists()
    assert "key:server-1" in said.out
    assert "this backup has the same fault" in said.out
    assert "./run invoke restore FILE" in said.out


def test_a_backup_with_a_damaged_certificate_of_an_authority_says_so(
    real: RealHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text("trumpet velvet cactus orbit mango thistle\n")
    path = real.path / "ca/server/server-1/cert.pem"
    path.write_bytes(path.read_bytes() * 2)
    options = ("x.age", "--passphrase-file", "words")
    said = said_by(
        capsys, "backup", *options, pki_home=str(real.path), pki_now=real.moment(), pki_called_from=str(tmp_path)
    )
    assert said.status == 1, said
    assert (tmp_path / "x.age").exists()
    assert "ca/server/server-1/cert.pem: is damaged" in said.error
    assert "this backup has the same fault" in said.error
