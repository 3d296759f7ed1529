"""The command ledger.restore: the ledger of a restored backup, back into the database that pki.yaml names."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from invoke.context import Context

from pki.backup.write_backup import LEDGER_COPY
from pki.cli.decorator import command, project_of
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import here
from pki.common.terminal import Screen


@command
def restore_database(context: Context) -> None:
    """Put the ledger of a restored backup into the empty database that pki.yaml names as ledger.

    A backup of a project whose ledger is on PostgreSQL contains a copy of it: ca/ledger-copy.db. A database that has
    events is left as it is. The copy is removed at the end.
    """
    project = project_of(context)
    if project.inventory.ledger == "sqlite":
        raise PkiError("the ledger is ca/ledger.db, which a restore of the backup places", "./run invoke ledger.verify")
    with project.store.lock():
        path = project.store.home / LEDGER_COPY
        data = filesystem.read(path)
        if data is None:
            raise PkiError(f"{LEDGER_COPY}: is not there", "./run invoke restore FILE --to DIR, then again in DIR")
        ledger = project.ledger
        with TemporaryDirectory() as folder:
            filesystem.write(Path(folder) / "ledger.db", data, filesystem.SECRET)
            ledger.recovery.create_empty()
            ledger.load_from(Path(folder))
        project.forget_ledger_state()
        events = ledger.head().seq
        ledger.close()
        path.unlink()
    screen = Screen()
    screen.done("restored", "ledger", f"{events} events, into the database that pki.yaml names")
    screen.line(f"what was recorded after the backup: {here('invoke', 'ledger.recover', '--all')}")
