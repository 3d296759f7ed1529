"""The command check: pki.yaml and templates/ in a bare clone, by a trial build in a temporary folder."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command, evidence_of, home_of, now_of
from pki.cli.json_output import CheckOutput, Remark
from pki.common import filesystem, yaml_text
from pki.common.counts import counted
from pki.common.notice import Notice
from pki.common.terminal import Screen
from pki.config import loader, upstreams
from pki.config.model import Inventory
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report.run import Run
from pki.project.layout import Store
from pki.project.safe_directories import check_owner

INVALID = 3  # exit status of doit: nothing was planned
LEFT_OUT = ("roots", "secrets", "ledger", "alerts", "metrics", "deploy")  # keys that depend on the real machine


@command
def check(context: Context, json: bool = False) -> None:
    """Check pki.yaml, templates/ and the files that they name, for a pull request; needs no ca/, build/ or secrets.

    Builds all releases in a temporary folder, with throw-away keys, and delivers nothing. --json is for programs.
    """
    home = home_of(context)
    check_owner(home)
    data = loader.read(home / "pki.yaml")
    config, tree = loader.load_with_tree(home / "pki.yaml", data)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "trial"
        _copy(home, copy, config, tree)
        run = Run(copy, now_of(context), evidence_of(context))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as printed:
            status = run.main(["cert", "release"])
        faults = list(_faults(LastRun.load(Store(copy)), status, printed.getvalue()))
        template_faults = run.plan.faults_outside_releases() if status < INVALID else ()
        faults += [Notice("templates", fault.message, fault.hint) for fault in template_faults]
    if json:
        remarks = [Remark(subject=fault.subject, text=fault.text, remedy=fault.remedy) for fault in faults]
        CheckOutput(at=now_of(context), hosts=len(config.hosts), faults=remarks).show()
    else:
        screen = Screen()
        for fault in faults:
            screen.failed(fault.subject, fault.text, fault.remedy)
        counts = f"{counted(len(config.hosts), 'host')}, {counted(len(config.clients), 'client')}"
        screen.line(f"{counted(len(faults), 'fault')}" if faults else f"pki.yaml and templates/ are valid: {counts}")
    if faults:
        raise Exit(code=1)


def _copy(home: Path, trial: Path, config: Inventory, tree: dict[str, Any]) -> None:
    """Copy templates and named files into a trial: a sandbox with default secrets and ledger, and without adopted CAs."""
    trial.mkdir(mode=0o700)
    (trial / "templates").mkdir()  # git does not store an empty one
    if (home / "templates").is_dir():
        shutil.copytree(home / "templates", trial / "templates", symlinks=True, dirs_exist_ok=True)
    hosts = config.hosts.values()
    requests = {*(host.request for host in hosts), *(client.request for client in config.clients.values())}
    externals = config.authorities.externals.values()
    files = {*filter(None, requests), *(rule.external for rule in externals)}
    for name in files.union(*(upstreams.ca_files(config, host).values() for host in hosts)):
        if (content := filesystem.read(home / name)) is not None:
            filesystem.make_folder((trial / name).parent)
            filesystem.write(trial / name, content)
    tree = {key: value for key, value in tree.items() if key not in LEFT_OUT}
    rules = tree.get("authorities") or {}
    tree["authorities"] = {
        name: {key: value for key, value in rule.items() if key != "token"} if isinstance(rule, dict) else rule
        for name, rule in rules.items()
        if name not in config.authorities.adopted
    }
    filesystem.write(
        trial / "secrets.yaml", b"p12: throw-away\n", filesystem.SECRET
    )  # of PKCS#12 files, if there are any
    filesystem.write(trial / "pki.yaml", yaml_text.dump({**tree, "sandbox": "true"}).encode())


def _faults(run: LastRun, status: int, printed: str) -> Iterator[Notice]:
    """Yield what failed in the trial; its output, if it ended before a report was written."""
    for name, failure in run.failed.items():
        yield Notice(name, failure.message, failure.hint)
    if status and not run.failed:
        yield Notice("trial", printed.strip() or f"ended with exit status {status}", "")
