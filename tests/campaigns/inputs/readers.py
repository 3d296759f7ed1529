"""Readers of each kind of file, called directly: thousands of damaged contents in the time of one command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pki.authority.import_ca import importer
from pki.backup import archive_format
from pki.ceremony import audit, request_response, transcript_chain, verify_response
from pki.ceremony.online import accept_response
from pki.common import errors
from pki.common.errors import PkiError
from pki.config import loader
from pki.deploy.ansible import fleet, runner
from pki.ledger.ledger import SqlLedger
from pki.monitor import probes
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from pki.pipeline import plan
from pki.project.project import Project
from pki.x509.device_requests import read_device_key
from tests.campaigns.campaign import CampaignError, Step
from tests.campaigns.inputs import mutations, projects
from tests.support import every_bit
from tests.support.ceremonies import RealHome
from tests.support.ledger_readers import READERS as OF_LEDGER
from tests.support.projects import Home

SECONDS = 20  # of processor time, for one content
Read = Callable[[Home, Path], object]


@dataclass(frozen=True)
class Reader:
    """What reads the files of some globs. `is_strict`: other bytes than those that were written are never taken."""

    project: str
    globs: tuple[str, ...]
    kinds: tuple[str, ...]
    read: Read
    is_strict: bool = False


class BugError(BaseException):
    """An exception that nobody expected, where the program would tell it as a fault of its own."""


def _bug(error: BaseException) -> PkiError:
    raise BugError from error


def _planned(home: Home, _path: Path) -> None:
    """Everything that a run asks before it makes anything."""
    project = Project.open(home.path, home.moment())
    try:
        for artifact in plan.plan(project).artifacts:
            artifact.reasons()
    finally:
        project.close(run_succeeded=False)


def _healthy(home: Home, _path: Path) -> None:
    project = Project.open(home.path, home.moment())
    try:
        health_report.run_checks(
            project,
            plan.plan(project),
            LastRun.load(project.store),
            probes=probes.load(project.inventory, project.store),
        )
    finally:
        project.close(run_succeeded=False)


def _ledger(_home: Home, path: Path) -> None:
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    found: list[PkiError] = []
    for read in (*OF_LEDGER.values(), SqlLedger.verify):
        ledger = SqlLedger("sqlite", path.parent, lambda: None, lambda: None)
        try:
            read(ledger)
        except PkiError as error:
            found.append(error)
        finally:
            ledger.close()


def _books(home: Home, _path: Path) -> None:
    project = home.project()
    try:
        importer.read(
            project.authorities,
            project.ledger_view,
            "legacy",
            home.path.parent / "issuance_records",
            "issuance_records",
        )
    finally:
        project.close(run_succeeded=False)


def _collected(home: Home, _path: Path) -> None:
    found = runner.host_results(runner.read_events(home.path.parent / "events", []))
    project = home.project()
    try:
        deliveries = plan.plan(project).deliveries
        for host, result in found.items():
            if host == "monitoring":
                fleet.collect(deliveries[host], result, project.now)
    finally:
        project.close(run_succeeded=False)


def _brought(home: Home, _path: Path) -> None:
    project = home.project()
    try:
        accept_response.ResponseAcceptance(project).verify(home.path.parent / "out/response-0002")
    finally:
        project.close(run_succeeded=False)


READERS: dict[str, Reader] = {
    "pki.yaml": Reader(
        "lab", ("project/pki.yaml",), ("yaml", "yaml", "text", "bytes"), lambda _, path: loader.load(path)
    ),
    "a project by pki.yaml": Reader("lab", ("project/pki.yaml",), ("yaml", "yaml", "text"), _planned),
    "templates": Reader(
        "lab", ("project/templates/*", "project/templates/*/*"), ("template", "template", "text", "bytes"), _planned
    ),
    "configurations": Reader("lab", ("project/templates/*.cnf",), ("cnf",), _planned),
    "CSR": Reader(
        "lab",
        ("project/requests/*",),
        ("pem", "pem", "bytes"),
        lambda _, path: read_device_key(path.read_bytes(), path.name),
    ),
    "build and ca": Reader(
        "lab",
        ("project/build/*/*.json", "project/build/*/*/*", "project/ca/*/*", "project/ca/*/*/*", "project/ca/.*"),
        ("pem", "json", "text", "bytes"),
        _planned,
    ),
    "what health looks at": Reader(
        "lab",
        (
            "project/build/*/*.json",
            "project/build/*/*/*",
            "project/ca/.*",
            "project/ca/transcript.jsonl",
            "project/secrets.yaml",
        ),
        ("json", "yaml", "pem", "text", "bytes"),
        _healthy,
    ),
    "ledger": Reader("lab", ("project/ca/ledger.db",), ("sqlite", "sqlite", "bytes"), _ledger),
    "issuance_records": Reader("lab", ("books/*", "books/newcerts/*"), ("text", "text", "pem", "bytes"), _books),
    "events": Reader("fleet", ("events/2*.json",), ("json", "json", "json", "bytes"), _collected),
    "request": Reader(
        "offline",
        ("request.yaml",),
        ("yaml", "yaml", "text"),
        lambda _, path: request_response.load(path.read_bytes(), path.name, request_response.Request),
    ),
    "response": Reader(
        "offline",
        ("out/response-0002/*", "out/response-0002/*/*"),
        ("yaml", "json", "pem", "text", "bytes"),
        lambda _, path: verify_response.read_response(path.parent if path.suffix == ".yaml" else path.parents[0]),
    ),
    "response before it is accepted": Reader(
        "offline", ("out/response-0002/*", "out/response-0002/*/*"), ("yaml", "json", "pem", "bytes"), _brought
    ),
    "transcript": Reader(
        "offline",
        ("vault/transcript.jsonl", "project/ca/transcript.jsonl"),
        ("json", "json", "text", "bytes"),
        lambda _, path: transcript_chain.load(path.read_bytes(), path.name),
    ),
    "vault": Reader(
        "offline",
        ("vault/*", "vault/*/*", "vault/*/*/*"),
        ("yaml", "json", "pem", "text", "bytes"),
        lambda home, _: audit.verify(home.path.parent / "vault"),
    ),
    "archive": Reader(
        "lab",
        ("archive",),
        ("json", "text", "bytes", "bytes"),
        lambda _, path: archive_format.unpack(path.read_bytes(), "x"),
    ),
}


def _strict(kind: str) -> Read:
    def read(home: Home, _path: Path) -> object:
        assert isinstance(home, RealHome)
        return every_bit.KINDS[kind](home)[1]()

    return read


LINE_BY_LINE = {"history"}  # what is added there is passed over, and the rest is read
STRICT = {
    kind: Reader("offline", (), ("pem", "text", "bytes"), _strict(kind), is_strict=True)
    for kind in every_bit.KINDS
    if kind not in LINE_BY_LINE
}


def read(place: Path, homes: dict[str, Home], step: Step) -> str:
    """Damage a file, let its reader read it, and put it back; returns whether it was taken or refused.

    Raises CampaignError for any exception but PkiError, and where a strict reader takes what was not written.
    """
    _, name, number, mutation, spot, other, value = step
    reader = STRICT.get(name) or READERS[name]
    home = homes.get(reader.project) or homes.setdefault(
        reader.project, projects.copied(reader.project, place / reader.project)
    )
    path, data, judge = _of(reader, name, home, place / reader.project, number)
    if path is None:
        return "no such file"
    new = mutations.ALL[mutation](data, spot, other, value)
    if new == data:
        return "unchanged"
    path.write_bytes(new)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        taken = judge()
    except PkiError:
        return "refused"
    except BugError as bug:
        raise CampaignError(*_told(name, bug.__cause__ or bug)) from bug
    except Exception as error:  # any of them is a failure
        raise CampaignError(*_told(name, error)) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.write_bytes(data)
    if reader.is_strict and taken is not None and taken is not False and path.exists():
        raise CampaignError(f"{name} takes what was not written", f"{mutation} of {path}")
    return "taken"


def _of(
    reader: Reader, name: str, home: Home, place: Path, number: int
) -> tuple[Path | None, bytes, Callable[[], Any]]:
    """The file that is damaged, its content, and what reads it."""
    if reader.is_strict:
        assert isinstance(home, RealHome)
        path, judge = every_bit.KINDS[name](home)
        return path, path.read_bytes(), judge
    files = sorted({path for glob in reader.globs for path in place.glob(glob) if path.is_file()})
    if not files:
        return None, b"", lambda: None
    path = files[number % len(files)]
    return path, path.read_bytes(), lambda: reader.read(home, path)


def _told(name: str, error: BaseException) -> tuple[str, str]:
    """The kind of a failure by where it was raised, and what it says."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if "/pki/" in file or not place:
            place = f"{file.rpartition('/pki/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} of {name} at {place}", str(error)[:500]


def let_bugs_out() -> None:
    """Let what the program would tell as a fault of its own be raised."""
    errors.from_bug = _bug
