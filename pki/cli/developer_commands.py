"""The commands for developers of doit-pki: test, integration, lint, bench, campaign, mutants, docs."""

from __future__ import annotations

import os
import shlex
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from pki.cli.decorator import path_of

MEMORY, ROOM = "/dev/shm", 2 << 30  # bytes # noqa: S108 - pytest creates a folder of its own there


def _all_of(context: Context, *commands: str) -> None:
    """Run every command, even after one failed; exit with the first failure's status."""
    codes = [context.run(line, warn=True, pty=False, echo=len(commands) > 1).return_code for line in commands]
    if code := next((code for code in codes if code), 0):
        raise Exit(code=code)


@task(auto_shortflags=False)
def run_tests(context: Context, args: str = "") -> None:
    """Run the seven test categories: no root, no network, no Debian package. --args is passed to pytest.

    Each process takes a block of tests, then what another one has left over, so that most shared fixtures are built once.
    Projects are copied in memory if there is room. PKI_SAMPLES=N enlarges the samples.
    """
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _has_room(MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = MEMORY
    _all_of(context, f"python -m pytest -n auto --dist worksteal {args}".rstrip())


def _has_room(folder: str) -> bool:
    """Return whether a folder has room for the files of the tests, and permits to execute them."""
    try:
        place = os.statvfs(folder)
    except OSError:
        return False
    return place.f_bavail * place.f_frsize > ROOM and not place.f_flag & os.ST_NOEXEC and os.access(folder, os.W_OK)


@task(auto_shortflags=False)
def integration(context: Context, args: str = "") -> None:
    """Run the tests with other programs: openssl, NSS, Java, nginx, Apache, testssl.sh and more.

    They mostly wait for servers: two processes for each processor, and each file in one process, which builds its
    machines once. Of long lists of cases a sample is run; PKI_SAMPLES=100 runs all of them.
    """
    at_once = f"-n {2 * (os.cpu_count() or 1)} --dist loadfile --no-loadscope-reorder"
    _all_of(context, f"python -m pytest tests/integration {at_once} -o addopts='-ra --strict-markers' {args}".rstrip())


@task(auto_shortflags=False)
def lint(context: Context) -> None:
    """Check style, types and shell scripts: ruff, mypy strict, and shellcheck if it is installed."""
    _all_of(
        context,
        "ruff check .",
        "ruff format --check .",
        "mypy",
        "! command -v shellcheck >/dev/null || shellcheck run .ci/run pki/demo/*.sh pki/deploy/host/*",
    )


@task(auto_shortflags=False)
def bench(context: Context, args: str = "") -> None:
    """Run the benchmarks, which print ratios against other programs; --args chooses (tests/bench/README.md)."""
    _all_of(context, f"python -m tests.bench {args}".rstrip())


@task(auto_shortflags=False)
def run_campaign(context: Context, campaign: str, seed: str = "", hours: str = "", case: str = "") -> None:
    """Search for faults with seeded trials: years, kills, inputs, together, surroundings, growth (tests/campaigns/README.md)."""
    values = {"--seed": seed, "--hours": hours, "--case": str(path_of(context, case)) if case else ""}
    options = [f"{option}={value}" for option, value in values.items() if value]
    _all_of(context, shlex.join(["python", "-m", "tests.campaigns", campaign, *options]))


@task(auto_shortflags=False, iterable=["modules"], positional=["modules"], optional=["modules"])
def try_mutants(context: Context, modules: list[str], seed: str = "", at_most: str = "") -> None:
    """Change the program in one place at a time; list the changes that no test notices (tests/mutants/README.md)."""
    values = {"--seed": seed, "--at-most": at_most}
    options = [part for option, value in values.items() if value for part in (option, value)]
    _all_of(context, shlex.join(["python", "-m", "tests.mutants", *modules, *options]))


@task(auto_shortflags=False)
def docs(
    context: Context, output: str = "", reference: bool = False, pictures: bool = False, man: bool = False
) -> None:
    """Build the documentation site from docs/, with search, and check every link; warnings are errors.

    --reference writes the pages of docs/reference/ that are generated from the code, --pictures those in docs/images/,
    --man the man page docs/doit-pki.1 (tests/documentation/README.md); then no site is built.
    """
    options = [f"--output={path_of(context, output)}"] if output else []
    options += ["--reference"] * reference + ["--pictures"] * pictures + ["--man"] * man
    _all_of(context, shlex.join(["python", "-m", "tests.documentation", *options]))


TASKS: dict[str, Any] = {
    "test": run_tests,
    "integration": integration,
    "lint": lint,
    "bench": bench,
    "campaign": run_campaign,
    "mutants": try_mutants,
    "docs": docs,
}
