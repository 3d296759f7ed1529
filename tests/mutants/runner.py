"""Run tests against one change after another: pytest collects once, and a fork of it has each change.

A change within functions is put into the functions of the fork. A change of what a module does at its import (a constant,
a field of a class) needs a new process, into which `loader.py` loads the changed module.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.changes import Change, is_shell
from tests.mutants.executed import PROJECT, Executed, Timed
from tests.support import hosts

ENOUGH = 60.0
"""Seconds of tests, fastest first, after which a change counts as unnoticed."""

SCRIPTED = ("tests/test_pki_apply.py",)
"""The test files that run the script of a host."""

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
QUIETLY = ("-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:xdist", "--capture=sys")

PATIENCE, START = 10.0, 30.0
"""A fork may take so many times as long as its tests take unchanged, and seconds more."""


@dataclass(frozen=True)
class Verdict:
    """Whether a change was noticed: `killed`, `timeout` and `survived`, or `not executed` by any test."""

    change: Change
    how: str
    tests: int
    seconds: float

    @property
    def noticed(self) -> bool:
        return self.how in ("killed", "timeout")


@dataclass
class Job:
    """A change and the tests that may notice it."""

    change: Change
    tests: list[Timed]
    limit: float
    pid: int = 0
    folder: str = ""
    started: float = 0.0


def job(change: Change, executed: Executed) -> Job:
    """Choose the tests that execute the changed lines, up to ENOUGH seconds, the fastest first."""
    if is_shell(change.path):
        return Job(change, executed.of_files(SCRIPTED), START + PATIENCE * ENOUGH)
    contexts = executed.contexts(change.path, change.first, change.last)
    if is_import(change):  # the test that happens to import the module first says nothing about who depends on the line
        contexts = executed.of_module(change.path)
    tests: list[Timed] = []
    seconds = 0.0
    for test in executed.chosen(contexts):
        if tests and seconds + test.seconds > ENOUGH:
            break
        tests.append(test)
        seconds += test.seconds
    return Job(change, tests, START + PATIENCE * seconds)


def _codes(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    counted: dict[str, int] = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            number = counted[constant.co_name] = counted.get(constant.co_name, 0) + 1
            name = f"{prefix}/{constant.co_name}.{number}"
            yield name, constant
            yield from _codes(constant, name)


def _shell(code: CodeType) -> tuple[object, ...]:
    """What a module or class does by itself, apart from what its functions do."""
    inner = []
    for constant in code.co_consts:
        if not isinstance(constant, CodeType):
            inner.append(repr(constant))
        elif constant.co_flags & 0x1:  # optimised: a function, whose code is replaced by itself
            inner.append(constant.co_name)
        else:
            inner.append(_shell(constant))
    return code.co_code, code.co_names, tuple(inner)


def _compiled(change: Change) -> tuple[CodeType, CodeType]:
    file = str(PROJECT / change.path)
    before = compile(Path(file).read_text(encoding="utf-8"), file, "exec", dont_inherit=True)
    return before, compile(change.source, file, "exec", dont_inherit=True)


def is_import(change: Change) -> bool:
    """Whether a change concerns what happens when the module is imported."""
    if is_shell(change.path):
        return False
    before, after = _compiled(change)
    return _shell(before) != _shell(after)


def put_in(change: Change, functions: dict[CodeType, list[FunctionType]]) -> None:
    before, after = _compiled(change)
    changed = dict(_codes(after))
    for name, code in _codes(before):
        if name in changed and changed[name] != code:
            for function in functions.get(code, ()):
                function.__code__ = changed[name]


def _functions() -> dict[CodeType, list[FunctionType]]:
    found: dict[CodeType, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__module__ and thing.__module__.split(".")[0] == "pki":
            found.setdefault(thing.__code__, []).append(thing)
    return found


@dataclass
class Forks:
    """A pytest plugin that runs jobs in place of its tests."""

    jobs: list[Job]
    executed: Executed
    at_once: int
    tell: Callable[[Verdict], None]
    functions: dict[CodeType, list[FunctionType]] = field(default_factory=dict)
    items: dict[str, pytest.Item] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.functions = _functions()
        shared, others = self._by_shared()
        self._all(session, shared)
        if others:  # what no change of these concerns is prepared once, by tests that need it
            self._prepare(others)
            self._all(session, others)
        return True

    def _by_shared(self) -> tuple[list[Job], list[Job]]:
        shared: list[Job] = []
        others: list[Job] = []
        for one in self.jobs:
            contexts = self.executed.contexts(one.change.path, one.change.first, one.change.last)
            (shared if any(name.startswith("fixture ") for name in contexts) else others).append(one)
        return shared, others

    def _prepare(self, jobs: list[Job]) -> None:
        tests = {test.name: test for one in jobs for test in one.tests}.values()
        for fixture in ("fixture built_once", "fixture real_once"):
            names = [test.name for test in tests if fixture in test.fixtures and test.name in self.items]
            if names:
                item = self.items[names[0]]
                runtestprotocol(item, log=False, nextitem=item)

    def _all(self, session: pytest.Session, jobs: list[Job]) -> None:
        running: list[Job] = []
        waiting = list(jobs)
        while waiting or running:
            while waiting and len(running) < self.at_once:
                one = waiting.pop(0)
                self._start(session, one)
                running.append(one)
            running = [one for one in running if not self._ended(one)]
            time.sleep(0.02)

    def _start(self, session: pytest.Session, one: Job) -> None:
        one.folder, one.started = tempfile.mkdtemp(prefix="mutant-"), time.monotonic()
        sys.stdout.flush()
        one.pid = os.fork()
        if one.pid:
            return
        code = 3
        try:
            os.setsid()
            code = self._tried(session, one)
        finally:
            os._exit(code)

    def _tried(self, session: pytest.Session, one: Job) -> int:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        session.config._tmp_path_factory._basetemp = Path(one.folder)  # noqa: SLF001 - each fork has its own
        if is_shell(one.change.path):
            hosts.SCRIPT = Path(one.folder) / "script"
            hosts.SCRIPT.write_text(one.change.source, encoding="utf-8")
        else:
            put_in(one.change, self.functions)
        items = [self.items[test.name] for test in one.tests if test.name in self.items]
        for item, following in zip(items, [*items[1:], items[0]], strict=True):
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                return 1
        return 0

    def _ended(self, one: Job) -> bool:
        pid, status = os.waitpid(one.pid, os.WNOHANG)
        seconds = time.monotonic() - one.started
        if not pid and seconds < one.limit:
            return False
        _kill_group(one.pid)
        if not pid:
            os.waitpid(one.pid, 0)
        shutil.rmtree(one.folder, ignore_errors=True)
        how = "timeout" if not pid else "survived" if status == 0 else "killed"
        self.tell(Verdict(one.change, how, len(one.tests), seconds))
        return True


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def run_anew(one: Job) -> Verdict:
    """Run the tests of a change in a process that imports the changed module."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        (Path(folder) / "changed.py").write_text(one.change.source, encoding="utf-8")
        environment = {**os.environ, "MUTANT": f"{PROJECT / one.change.path}={folder}/changed.py"}
        process = subprocess.Popen(
            [*PYTEST, "-x", "-p", "tests.mutants.loader", f"--basetemp={folder}/tests", *(test.name for test in one.tests)],
            cwd=PROJECT, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            how = "survived" if process.wait(one.limit) == 0 else "killed"
        except subprocess.TimeoutExpired:
            how = "timeout"
        _kill_group(process.pid)
        process.wait()
    return Verdict(one.change, how, len(one.tests), time.monotonic() - started)


def run(jobs: Iterable[Job], executed: Executed, at_once: int, tell: Callable[[Verdict], None]) -> list[Verdict]:
    """Try all changes; tell the verdict on each as soon as it is known, and return them all."""
    verdicts: list[Verdict] = []

    def said(verdict: Verdict) -> None:
        verdicts.append(verdict)
        tell(verdict)

    within, at_import = list[Job](), list[Job]()
    for one in jobs:
        if not one.tests:
            said(Verdict(one.change, "not executed", 0, 0.0))
        else:
            (at_import if is_import(one.change) else within).append(one)
    if within:
        files = sorted({test.name.split("::")[0] for one in within for test in one.tests})
        status = pytest.main([*QUIETLY, *files], plugins=[Forks(within, executed, at_once, said)])
        assert status == pytest.ExitCode.OK, f"the tests cannot be collected: {status}"
    with ThreadPoolExecutor(at_once) as pool:
        for verdict in pool.map(run_anew, at_import):
            said(verdict)
    return verdicts
