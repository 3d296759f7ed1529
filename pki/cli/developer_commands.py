"""For those who work on doit-pki itself."""

from __future__ import annotations

import os
import shlex
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from pki.cli.decorator import path_of

MEMORY, ROOM = "/dev/shm", 2 << 30  # noqa: S108 - pytest makes a folder of its own there


def _all_of(context: Context, *commands: str) -> None:
    """Run every command, even after one failed; exit with the first failure's status."""
    codes = [context.run(line, warn=True, pty=False, echo=len(commands) > 1).return_code for line in commands]
    if code := next((code for code in codes if code), 0):
        raise Exit(code=code)


@task(auto_shortflags=False)
def run_tests(context: Context, args: str = "") -> None:
    """The seven test categories: no root, no network, no Debian package. --args goes to pytest.

    Each process takes a block of tests and what another one has left over, so that most shared fixtures are built once.
    Projects are copied in memory where there is room. PKI_SAMPLES makes samples larger.
    """
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _has_room(MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = MEMORY
    _all_of(context, f"python -m pytest -n auto --dist worksteal {args}".rstrip())


def _has_room(folder: str) -> bool:
    """Whether a folder has room for the files of the tests, which run some of them."""
    try:
        place = os.statvfs(folder)
    except OSError:
        return False
    return place.f_bavail * place.f_frsize > ROOM and not place.f_flag & os.ST_NOEXEC and os.access(folder, os.W_OK)


@task(auto_shortflags=False)
def integration(context: Context, args: str = "") -> None:
    """The tests with programs that we did not write: openssl, NSS, Java, nginx, Apache, testssl.sh and more.

    They wait for servers most of the time: two at once for each processor, those of a file in one process, which
    builds its machines once. Of long lists of cases a sample is run; PKI_SAMPLES=100 runs all, with larger samples.
    """
    at_once = f"-n {2 * (os.cpu_count() or 1)} --dist loadfile --no-loadscope-reorder"
    _all_of(context, f"python -m pytest tests/integration {at_once} -o addopts='-ra --strict-markers' {args}".rstrip())


@task(auto_shortflags=False)
def lint(context: Context) -> None:
    """Style, types and shell: ruff, mypy strict, shellcheck where it is installed."""
    _all_of(
        context,
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "! command -v shellcheck >/dev/null || shellcheck run .ci/run pki/demo/*.sh pki/deploy/host/*",
    )


@task(auto_shortflags=False)
def bench(context: Context, args: str = "") -> None:
    """Benchmarks that print ratios against peers in the same run. --args chooses (see tests/bench/README.md)."""
    _all_of(context, f"python -m tests.bench {args}".rstrip())


@task(auto_shortflags=False)
def run_campaign(context: Context, campaign: str, seed: str = "", hours: str = "", case: str = "") -> None:
    """Look for faults with seeded trials: years, kills, inputs, together, surroundings, growth (tests/campaigns/README.md)."""
    asked = {"--seed": seed, "--hours": hours, "--case": str(path_of(context, case)) if case else ""}
    options = [f"{option}={value}" for option, value in asked.items() if value]
    _all_of(context, shlex.join(["python", "-m", "tests.campaigns", campaign, *options]))


@task(auto_shortflags=False, iterable=["modules"], positional=["modules"], optional=["modules"])
def try_mutants(context: Context, modules: list[str], seed: str = "", at_most: str = "") -> None:
    """Change the program in one place after another and name what no test notices (tests/mutants/README.md)."""
    asked = {"--seed": seed, "--at-most": at_most}
    options = [part for option, value in asked.items() if value for part in (option, value)]
    _all_of(context, shlex.join(["python", "-m", "tests.mutants", *modules, *options]))


TASKS: dict[str, Any] = {
    "test": run_tests,
    "integration": integration,
    "lint": lint,
    "bench": bench,
    "campaign": run_campaign,
    "mutants": try_mutants,
}
