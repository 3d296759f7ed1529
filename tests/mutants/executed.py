"""Which tests execute which line of the program: measured once for each test file, and stored below `.mutants/`.

The lines of a test file are measured again when the file changes. When a module of the program changes, the lines are
carried over to where they are now: a line that is new counts as executed by the tests that execute the line above it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from coverage import CoverageData
from coverage.numbits import numbits_to_nums, nums_to_numbits

PROJECT = Path(__file__).parents[2]
STORE = PROJECT / ".mutants"
PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.contexts")
MEASURED = (sys.executable, "-m", "coverage", "run", "--source=pki", "-m", *PYTEST)


@dataclass(frozen=True)
class Timed:
    """A test that passes: its node id, how long it takes, and the fixtures that it shares with others."""

    name: str
    seconds: float
    fixtures: tuple[str, ...]


@dataclass
class Executed:
    """The tests of some test files, and for each module and line the tests and shared fixtures that execute it."""

    tests: dict[str, Timed] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def contexts(self, path: str, first: int, last: int) -> set[str]:
        """The tests and shared fixtures that execute one of these lines of a module."""
        lines = self.lines.get(path, {})
        return set().union(*(lines.get(number, ()) for number in range(first, last + 1)))

    def of_module(self, path: str) -> set[str]:
        """The tests and shared fixtures that execute any line of a module after its import."""
        return set().union(*self.lines.get(path, {}).values())

    def of_files(self, files: tuple[str, ...]) -> list[Timed]:
        """All tests of some files, fastest first."""
        tests = (test for test in self.tests.values() if test.name.startswith(tuple(f"{file}::" for file in files)))
        return sorted(tests, key=lambda test: (test.seconds, test.name))

    def chosen(self, contexts: set[str]) -> list[Timed]:
        """The tests of these contexts, fastest first."""
        tests = (test for test in self.tests.values() if test.name in contexts or contexts.intersection(test.fixtures))
        return sorted(tests, key=lambda test: (test.seconds, test.name))


def read(modules: Iterable[str]) -> Executed:
    """What is stored about these modules, at the lines that they have now."""
    executed, test_files = Executed(), {path.stem for path in _fast_tests()}
    for stored in sorted(STORE.glob("*.json")):
        if stored.stem not in test_files:
            continue
        data = json.loads(stored.read_text(encoding="utf-8"))
        for name, test in data["tests"].items():
            if test["passed"]:
                executed.tests[name] = Timed(name, test["seconds"], tuple(test["fixtures"]))
        for path in modules:
            _add(executed.lines.setdefault(path, {}), path, data)
    return executed


def _add(lines: dict[int, set[str]], path: str, data: dict[str, Any]) -> None:
    if path not in data["lines"]:
        return
    moved = _moved(data["sources"][path], path)
    for context, bits in data["lines"][path].items():
        for number in numbits_to_nums(bytes.fromhex(bits)):
            for now in moved.get(number, ()):
                lines.setdefault(now, set()).add(context)


@cache
def _moved(digest: str, path: str) -> dict[int, list[int]]:
    """Where each line of an earlier state of a module is today: also the new lines that follow it."""
    before = (STORE / "sources" / digest).read_text(encoding="utf-8").splitlines()
    after = (PROJECT / path).read_text(encoding="utf-8").splitlines()
    moved: dict[int, list[int]] = {}
    for kind, first, last, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            for offset in range(last - first):
                moved.setdefault(first + offset + 1, []).append(start + offset + 1)
        else:
            for number in range(start + 1, end + 1):
                moved.setdefault(max(first, 1), []).append(number)
    return moved


def measure(jobs: int) -> None:
    """Run each test file once that has changed since it was measured, and store what it executes."""
    STORE.mkdir(exist_ok=True)
    (STORE / "sources").mkdir(exist_ok=True)
    stale = [path for path in _fast_tests() if not _is_measured(path)]
    if stale:
        print(f"measuring which lines {len(stale)} test files execute", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(_measure, stale))


def _fast_tests() -> list[Path]:
    paths = (PROJECT / "tests").rglob("test_*.py")
    return sorted(path for path in paths if "integration" not in path.parts)


def _stored(path: Path) -> Path:
    return STORE / f"{path.stem}.json"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_measured(path: Path) -> bool:
    stored = _stored(path)
    return stored.exists() and json.loads(stored.read_text(encoding="utf-8"))["digest"] == _digest(path)


def _measure(path: Path) -> None:
    digest = _digest(path)
    data_file, tests_file = _stored(path).with_suffix(".coverage"), _stored(path).with_suffix(".tests")
    environment = {**os.environ, "COVERAGE_FILE": str(data_file), "MUTANTS_TESTS": str(tests_file)}
    subprocess.run(
        [*MEASURED, str(path)],
        cwd=PROJECT, env=environment, check=False, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines, sources = _lines(data_file)
    tests = json.loads(tests_file.read_text(encoding="utf-8"))
    data = {"digest": digest, "tests": tests, "lines": lines, "sources": sources}
    data_file.unlink()
    tests_file.unlink()
    _stored(path).write_text(json.dumps(data), encoding="utf-8")


def _lines(data_file: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Of each module the lines of each context, packed, and the digest of the source that they refer to."""
    data = CoverageData(str(data_file))
    data.read()
    lines: dict[str, dict[str, str]] = {}
    sources: dict[str, str] = {}
    for name, context, bits in _rows(data):
        path = Path(name).relative_to(PROJECT).as_posix()
        lines.setdefault(path, {})[context] = bits.hex()
        if path not in sources:
            sources[path] = _digest(Path(name))
            (STORE / "sources" / sources[path]).write_bytes(Path(name).read_bytes())
    return lines, sources


def _rows(data: CoverageData) -> Iterator[tuple[str, str, bytes]]:
    for name in data.measured_files():
        contexts: dict[str, list[int]] = {}
        for number, named in data.contexts_by_lineno(name).items():
            for context in named:
                if context:  # the import of a module belongs to no test
                    contexts.setdefault(context, []).append(number)
        for context, numbers in contexts.items():
            yield name, context, nums_to_numbits(numbers)
