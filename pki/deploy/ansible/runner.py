"""Start Ansible with ansible-runner, and read the result of each host from its events."""

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
from pki.common.child_processes import end_with_parent
from pki.common.errors import PkiError

ACTION = "doit.pki.deliver"
FINDINGS = {"runner_on_ok", "runner_on_failed", "runner_on_unreachable"}
# Ansible stores its environment with its logs: pass on no other variable, which may hold a passphrase.
PASSED_VARIABLES = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR")
RUNS_KEPT = 5
MAX_EVENT_BYTES = 1 << 25  # our action returns a few kB for each file of a release
OUTPUT_BYTES = 1 << 16


@dataclass
class Report:
    """The result of a run: the result of each host, and the last message where the run did not finish."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    complaint: str = ""


def run(project: Path, command: str, ident: str) -> Report:
    """Run the playbook of a project; its log and events are kept in `runs/` beside it.

    Raises PkiError when the program does not exist.
    """
    runs = project.parent / "runs"
    program = find_program(command)
    filesystem.make_folder(runs, 0o700)
    options = ("--project-dir", project, "--inventory", project / "inventory.yaml", "--artifact-dir", runs)
    more = ("--ident", ident, "--rotate-artifacts", str(RUNS_KEPT), "--quiet", "--playbook", "playbook.yaml")
    with tempfile.TemporaryFile() as error_file:
        process = subprocess.run(
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
            stderr=error_file,
            check=False,
            # Ansible must not outlive this process and deliver beside the next run. preexec_fn is safe without threads.
            preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
        )
        output = _end_of(error_file)
    events = list(_events_of(runs / ident / "job_events", []))
    report = Report(host_results(events))
    if not any(event.get("event") == "playbook_on_stats" for event in events):
        report.complaint = _last_line(runs / ident, output) or f"exit status {process.returncode}"
    return report


def find_program(command: str) -> str:
    """Return the path of a program of Ansible. Raises PkiError when it does not exist."""
    path = shutil.which(command)
    if not path:
        raise PkiError(
            f"{command}: not found",
            "./run pip install --require-hashes -r requirements-ansible.lock; or name yours: deploy.ansible.command",
        )
    return str(Path(path).absolute())


def read_events(path: Path, invalid: list[str]) -> list[dict[str, Any]]:
    """Return events from elsewhere: of a folder that ansible-runner wrote, or of a JSON list from AWX.

    The names of events that are not valid are added to `invalid`. Raises PkiError where the path is neither.
    """
    try:
        if path.is_dir():
            return list(_events_of(path, invalid))
        data = json.loads(path.read_bytes())
        items = data.get("results", []) if isinstance(data, dict) else data
        invalid += [
            f"number {number} of {path.name}" for number, item in enumerate(items, 1) if not isinstance(item, dict)
        ]
        return [event for event in items if isinstance(event, dict)]
    except (OSError, ValueError, TypeError, RecursionError):
        raise PkiError(
            f"{path.name}: contains no events of Ansible",
            "name ansible-runner's folder job_events, or what `awx job_events list --job N --all -f json` printed",
        ) from None


def host_results(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the result of our action for each host; `unreachable` and `msg` for a host that was not reached."""
    by_host = {}
    for event in events:
        data = event.get("event_data")
        if event.get("event") in FINDINGS and isinstance(data, dict) and data.get("task_action") == ACTION:
            failure_key = {"failed": True} if event["event"] == "runner_on_failed" else {}
            result = data.get("res")
            by_host[str(data.get("host"))] = {**(result if isinstance(result, dict) else {}), **failure_key}
    return by_host


def _events_of(folder: Path, invalid: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a run in their order, without those that are too large or incomplete."""
    # ansible-runner names the files NUMBER-UUID.json
    paths = [path for path in folder.glob("*.json") if path.name.partition("-")[0].isdecimal()]
    for path in sorted(paths, key=lambda path: int(path.name.partition("-")[0])):
        try:
            event = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_EVENT_BYTES else None
        except (OSError, ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            yield event
        else:
            invalid.append(path.name)


def _end_of(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_BYTES))
    return file.read()


def _last_line(folder: Path, errors: bytes) -> str:
    try:
        with (folder / "stdout").open("rb") as stdout:
            output = _end_of(stdout) + b"\n" + errors
    except FileNotFoundError:
        output = errors
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
