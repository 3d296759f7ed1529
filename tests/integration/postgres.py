"""A PostgreSQL server of one's own: a private cluster in a temporary folder, on a Unix socket, gone with its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql/15/bin")  # Debian keeps them out of PATH
_numbers = count(1)


@dataclass(frozen=True)
class Postgres:
    """A running server; `folder` holds its data and its socket."""

    folder: Path

    def database(self) -> str:
        """Create an empty database; returns the address that pki.yaml names as `ledger`."""
        name = f"ledger_{next(_numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.address(name)

    def address(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def sql(self, database: str, statement: str) -> str:
        """Run SQL as the server's owner; `database` is a name or an address."""
        return self._run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", _name(database), "-c", statement
        )

    def dump(self, address: str) -> str:
        """The whole database as SQL, as an administrator saves it."""
        lines = self._run("pg_dump", "-d", _name(address)).splitlines()
        return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))) + "\n"

    def load(self, address: str, dump: str) -> None:
        """Put a dump in place of what a database holds."""
        self.empty(address)
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", _name(address), text=dump)

    def empty(self, address: str) -> None:
        self.sql(address, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def _run(self, program: str, *arguments: str, text: str = "") -> str:
        command = [str(PROGRAMS / program), "-h", str(self.folder), "-U", "postgres", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _name(address: str) -> str:
    return address.partition("@/")[2].partition("?")[0] if "://" in address else address


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that is ready; initdb refuses root, so as root it runs as the account that Debian made for it."""
    folder = Path(tempfile.mkdtemp(prefix="pki-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        _as_owner("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c unix_socket_permissions=0777"
        _as_owner("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
        try:
            folder.chmod(0o755)
            yield Postgres(folder)
        finally:
            _as_owner("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_owner(program: str, *arguments: str) -> None:
    change = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    command = [*change, str(PROGRAMS / program), *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
        cwd="/",
        text=True,
    )
    assert done.returncode == 0, done.stdout
