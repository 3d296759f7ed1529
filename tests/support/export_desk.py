"""Somebody who exports what a project holds: the command client.export in this process, and the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import tasks
from pki.cli.program import Program
from tests.support.projects import START, Home


@dataclass(frozen=True)
class Desk:
    """Somebody in the folder `here` who hands out what the project holds."""

    home: Home
    here: Path
    capsys: pytest.CaptureFixture[str]

    def export(self, *arguments: str, days: float = 0) -> tuple[int, str]:
        """The exit status of `./run invoke client.export …`, and what it said."""
        places = {"pki_home": str(self.home.path), "pki_called_from": str(self.here)}
        tasks.ns.configure({**places, "pki_now": START + timedelta(days=days)})
        self.capsys.readouterr()
        code = 0
        try:
            Program(tasks.ns).run(["invoke", "client.export", *arguments])
        except SystemExit as left:
            code = int(left.code or 0)
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def sealed(self, kind: str, name: str = "admin", file: str = "it", days: float = 0) -> tuple[bytes, str]:
        """A bundle and the passphrase that was written beside it."""
        code, said = self.export(
            *(name, "--format", kind, "--yes", "--output", file, "--passphrase-to", f"{file}.txt"), days=days
        )
        assert code == 0, said
        return (self.here / file).read_bytes(), (self.here / f"{file}.txt").read_text().rstrip("\n")

    @property
    def there(self) -> set[str]:
        """Every file in the folder, by its path below it."""
        return {str(path.relative_to(self.here)) for path in self.here.rglob("*") if path.is_file()}


@pytest.fixture
def desk(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    home.edit("  admin: {", "  admin@laptop: {email: admin@lab.internal}\n  admin: {")
    return Desk(home, folder(tmp_path), capsys)


def folder(tmp_path: Path) -> Path:
    here = tmp_path / "desk"
    here.mkdir()
    here.chmod(0o755)
    return here
