"""Commands in the process of the tests, and faults that alerts report."""

from __future__ import annotations

import pytest

from pki.monitor import forecast
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import Home


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, with the clock `days` after the first run."""

    def call(home: Home, *arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


def notes(home: Home, days: float = 0) -> dict[str, tuple[str, str]]:
    project = home.project(days)
    return {note.subject: (note.text, note.remedy) for note in forecast.required_actions(project, home.plan(days))}


def break_template(home: Home) -> str:
    """Break a template of `media` in its last line; returns what is said of it."""
    text = (home.path / "templates/caddy/Caddyfile").read_text().rstrip("\n")
    home.write("templates/caddy/Caddyfile", f"{text}\n{{{{ nothing }}}}\n")
    return f"templates/caddy/Caddyfile:{len(text.splitlines()) + 1}: 'nothing' is undefined"


def lose_passphrase(home: Home, name: str) -> None:
    lines = (home.path / "secrets.yaml").read_text().splitlines(keepends=True)
    home.write("secrets.yaml", "".join(line for line in lines if not line.startswith(name)))
