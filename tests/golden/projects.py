"""The two projects whose files are compared: the example, and the same in production after two ceremonies."""

from __future__ import annotations

from pathlib import Path

from pki.ceremony.online.make_request import RequestOptions
from tests.golden.fixed import Stream, fixed
from tests.support.ceremonies import real_home
from tests.support.projects import Home, bare_home

DAYS = (0, 8, 61)  # the first run, new CRLs, renewed server certificates


def run(home: Home, stream: Stream, name: str, days: int) -> None:
    """Let doit run once, on a day."""
    stream.begin(f"{name}, day {days}")
    report = home.doit(days=days)
    assert report.status == 0, report.failed


def example(folder: Path, stream: Stream) -> None:
    """The example after runs on three days."""
    home = bare_home(folder / "example")
    for days in DAYS:
        run(home, stream, "example", days)


def production(folder: Path, stream: Stream) -> None:
    """A project whose root is in a vault: a ceremony before the first run, and one for a second server intermediate."""
    home = real_home(folder / "production")
    stream.begin("the first ceremony")
    home.ceremony()
    for days in DAYS:
        run(home, stream, "production", days)
    stream.begin("the second ceremony")
    home.ceremony(RequestOptions(generations=("server",)), days=DAYS[-1])
    run(home, stream, "production", DAYS[-1] + 1)


def built(folder: Path) -> Path:
    """Build both below a folder."""
    with fixed() as stream:
        example(folder, stream)
        production(folder, stream)
    return folder
