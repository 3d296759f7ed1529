"""Ansible started through ansible-runner, and what its events say of each host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from pki.common import filesystem
from pki.common.child_processes import end_with
from pki.common.errors import PkiError

ACTION = "doit.pki.deliver"
FINDINGS = {"runner_on_ok", "runner_on_failed", "runner_on_unreachable"}
# What else is in the environment, a passphrase perhaps, is none of Ansible's business: it keeps a copy with its logs.
PASSED_VARIABLES = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR")
RUNS_KEPT = 5
MAX_EVENT_BYTES = 1 << 25  # bytes of an event that is read: our action returns a few kB for each file of a release
OUTPUT_BYTES = 1 << 16


@dataclass
class Report:
    """What came of a run: host → how it went, and its last words, where it did not come to its end."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    complaint: str = ""


def run(project: Path, command: str, ident: str) -> Report:
    """Run the playbook of a project; its log and its events are kept beside it, in `runs/`.

    Raises PkiError when there is no such program.
    """
    runs = project.parent / "runs"
    program = find_program(command)
    filesystem.make_folder(runs, 0o700)
    options = ("--project-dir", project, "--inventory", project / "inventory.yaml", "--artifact-dir", runs)
    more = ("--ident", ident, "--rotate-artifacts", str(RUNS_KEPT), "--quiet", "--playbook", "playbook.yaml")
    with tempfile.TemporaryFile() as complaint:
        done = subprocess.run(
            [str(part) for part in (program, "run", *options, *more, project.parent)],
            env={
                **{name: value for name, value in os.environ.items() if name in PASSED_VARIABLES},
                "PATH": f"{Path(program).parent}:{os.environ.get('PATH', os.defpath)}",
                "LC_ALL": "C.UTF-8",  # Ansible takes no other encoding: https://docs.python.org/3/library/os.html#utf8-mode
                "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaint,
            check=False,
            # One that outlives its run would deliver beside the next one; no thread is there that could hold a lock.
            preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
        )
        said = _end_of(complaint)
    events = list(_events_of(runs / ident / "job_events", []))
    report = Report(host_results(events))
    if not any(event.get("event") == "playbook_on_stats" for event in events):
        report.complaint = _last_line(runs / ident, said) or f"it ended with {done.returncode}"
    return report


def find_program(command: str) -> str:
    """Where a program of Ansible's is. Raises PkiError when it is nowhere."""
    found = shutil.which(command)
    if not found:
        raise PkiError(
            f"{command}: not found",
            "./run pip install --require-hashes -r requirements-ansible.lock; or name yours: deploy.ansible.command",
        )
    return str(Path(found).absolute())


def read_events(path: Path, left_out: list[str]) -> list[dict[str, Any]]:
    """Return events from elsewhere: of a folder as ansible-runner leaves it, or of a list as AWX hands it out.

    `left_out` gets the names of what is no event. Raises PkiError where it is neither of both.
    """
    try:
        if path.is_dir():
            return list(_events_of(path, left_out))
        data = json.loads(path.read_bytes())
        found = data.get("results", []) if isinstance(data, dict) else data
        left_out += [
            f"number {number} of {path.name}" for number, one in enumerate(found, 1) if not isinstance(one, dict)
        ]
        return [event for event in found if isinstance(event, dict)]
    except (OSError, ValueError, TypeError, RecursionError):
        raise PkiError(
            f"{path.name}: holds no events of Ansible",
            "name ansible-runner's folder job_events, or what `awx job_events list --job N --all -f json` printed",
        ) from None


def host_results(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Host → what our action returned there; of one that could not be reached `unreachable` and `msg`."""
    found = {}
    for event in events:
        data = event.get("event_data")
        if event.get("event") in FINDINGS and isinstance(data, dict) and data.get("task_action") == ACTION:
            failed = {"failed": True} if event["event"] == "runner_on_failed" else {}
            result = data.get("res")
            found[str(data.get("host"))] = {**(result if isinstance(result, dict) else {}), **failed}
    return found


def _events_of(folder: Path, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a run, in their order; one that is too large, or was not written whole, is left out."""
    names = [path for path in folder.glob("*.json") if path.name.partition("-")[0].isdecimal()]
    for path in sorted(names, key=lambda path: int(path.name.partition("-")[0])):
        try:
            event = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_EVENT_BYTES else None
        except (OSError, ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            yield event
        else:
            left_out.append(path.name)


def _end_of(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_BYTES))
    return file.read()


def _last_line(folder: Path, complaint: bytes) -> str:
    try:
        with (folder / "stdout").open("rb") as stdout:
            said = _end_of(stdout) + b"\n" + complaint
    except FileNotFoundError:
        said = complaint
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
