"""A pytest plugin for `coverage run`: each line is recorded with the test or shared fixture that executed it.

The context of a test is its node id, that of a fixture which several tests share is `fixture NAME`. What takes how long,
and which tests ask for which shared fixture, is written to the file that MUTANTS_TESTS names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import coverage
import pytest

_tests: dict[str, dict[str, Any]] = {}
_context = ""


def _switch(context: str) -> None:
    measuring = coverage.Coverage.current()
    assert measuring is not None, "start it with `coverage run`"
    measuring.switch_context(context)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function) -> Any:
    global _context  # noqa: PLW0603 - hooks of pytest share nothing else
    _context = item.nodeid
    fixtures = item._fixtureinfo.name2fixturedefs  # noqa: SLF001 - pytest tells it nowhere else
    shared = [name for name, found in fixtures.items() if found[-1].scope != "function"]
    _tests[item.nodeid] = {"seconds": 0.0, "passed": True, "fixtures": [f"fixture {name}" for name in shared]}
    _switch(_context)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Any:
    global _context  # noqa: PLW0603
    if fixturedef.scope == "function":
        return (yield)
    before, _context = _context, f"fixture {fixturedef.argname}"
    _switch(_context)
    try:
        return (yield)
    finally:
        _context = before
        _switch(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    test = _tests[report.nodeid]
    test["seconds"] += report.duration
    test["passed"] &= not report.failed


def pytest_sessionfinish() -> None:
    Path(os.environ["MUTANTS_TESTS"]).write_text(json.dumps(_tests), encoding="utf-8")
