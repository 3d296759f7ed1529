"""Each command that the program prints can be typed: the parser of the commands takes it as it stands."""

from __future__ import annotations

import re
import shlex
from functools import cache

import pytest
from invoke.exceptions import ParseError
from invoke.parser import ParserContext

import tasks
from pki.cli.argument_parser import ArgumentParser
from pki.cli.completion import SCRIPTS
from pki.cli.launch import TEXTS
from pki.cli.program import Program
from tests.support.printed_commands import UNKNOWN, in_source, printed
from tests.support.projects import PROJECT

DOIT = {"list", "info"}
OF_DOIT = {"--clock-is-right", "--take-over"}
PROGRAMS = {"pip": ["install", "--require-hashes", "-r"], "badkeys": ["--update-bl"]}
COMMANDS = set(tasks.ns.task_names)
KINDS = {
    kind
    for name in ("plan.py", "authority_artifacts.py")
    for kind in re.findall(r'ArtifactId\("(\w+)"', (PROJECT / "pki/pipeline" / name).read_text())
}
GROUPS = {name.partition(".")[0] for name in COMMANDS if "." in name}


@cache
def _contexts() -> dict[str, ParserContext]:
    return {str(one.name): one for one in tasks.ns.to_contexts()}


@cache
def fault(words: tuple[str, ...]) -> str:
    """Return why a command cannot be typed, "" where it can."""
    program, *rest = words
    if program == "invoke":
        return _invoke(rest)
    if program == "doit":
        return _doit(rest)
    if program in {*TEXTS, UNKNOWN}:
        return ""
    if program == "--completion":
        return "" if {word.strip(",") for word in rest[:1]} <= {*SCRIPTS, UNKNOWN} else f"no completion for {rest[0]}"
    expected = PROGRAMS.get(program)
    if expected is None or rest[: len(expected)] != expected:
        return f"unknown program {program}"
    return next((f"{one} is not there" for one in rest[len(expected) :] if not (PROJECT / one).is_file()), "")


def _invoke(words: list[str]) -> str:
    if not words or words[0] in {UNKNOWN, "COMMAND", "--help"}:
        return ""
    if words[0] == "--list" or words == ["COMMAND", "[ARGUMENTS]"]:
        return "" if set(words[1:]) <= {*GROUPS, UNKNOWN} else f"unknown group {words[1]}"
    if words[0] not in COMMANDS:
        return f"unknown command {words[0]}"
    parser = ArgumentParser(contexts=[_contexts()[words[0]]], initial=Program(tasks.ns).initial_context)
    try:
        found = parser.parse_argv(words)[1:]
    except ParseError as error:
        return str(error).splitlines()[0]
    if len(found) != 1:
        return f"{len(found)} commands: {' '.join(words)}"
    return ""


def _doit(words: list[str]) -> str:
    for number, word in enumerate(words):
        kind, _, name = word.partition(":")
        is_task = kind in KINDS or word in {UNKNOWN, "[NAME]"}
        is_said = word in OF_DOIT or (number == 0 and word in DOIT) or (number == 1 and words[0] in DOIT)
        if not (is_task or is_said):
            return f"doit knows no {word} {name}"
    return ""


def test_no_printed_command_leaves_a_value_as_an_ellipsis() -> None:
    assert [f"{one.place}: {' '.join(one.words)}" for one in printed() if "…" in one.words] == []


def test_each_command_that_is_printed_can_be_typed() -> None:
    found = printed()
    assert len(found) > 200
    assert [f"{one.place}: {' '.join(one.words)}: {why}" for one in found if (why := fault(one.words))] == []


def test_each_command_in_a_console_of_the_documents_can_be_typed() -> None:
    pages = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    found = [
        (path.name, tuple(shlex.split(line, comments=True)))
        for path in (*pages, *sorted((PROJECT / "docs").rglob("*.md")))
        for block in re.findall(r"```console\n(.*?)```", path.read_text(), re.DOTALL)
        for line in re.findall(r"(?m)^[$#] (?:sudo )?(?:\./run|sh run) (.*)$", block)
    ]
    assert len(found) > 40
    of_developers = {words for name, words in found if name == "CONTRIBUTING.md" and words[0] in {"pytest", "ruff"}}
    assert of_developers == {
        ("pytest", "tests/monitor/test_alerting_health.py", "-q", "-n0", "-k", "disk_that_fills"),
        ("ruff", "format", "."),
    }
    assert [(name, words, why) for name, words in found if words not in of_developers and (why := fault(words))] == []


@pytest.mark.parametrize(
    "planted",
    [
        'raise PkiError("x", "./run invoke renw NAME")',
        'raise PkiError("x", f"repair it, then: ./run invoke renew {name} {other}")',
        'raise PkiError("x", "./run invoke renew")',
        'raise PkiError("x", f"./run invoke revoke {name} --reson superseded")',
        'raise PkiError("x", f"./run invoke revoke {name} --reason")',
        'raise PkiError("x", "repair it; ./run invoke deploy.bootstrap prepares the host")',
        'raise PkiError("x", "./run doit certificates:media")',
        'raise PkiError("x", "./run doit --clock-is-wrong")',
        'raise PkiError("x", "./run renew NAME")',
        'raise PkiError("x", "./run pip install --require-hashes -r requirements-lost.lock")',
        'hint = here("invoke", "deploy.pull", host)',
        'hint = here("doit", ArtifactId("certificate", name))',
        'def f():\n    run = run_for(home)\n    return f"{run} invoke ceremony.begin"',
        'RENEW = "./run invoke renew"\nraise PkiError("x", RENEW)',
        'RENEW = "./run invoke renew"\nraise PkiError("x", f"{RENEW} {name} again")',
        'raise PkiError("x", "./run invoke plan " + "--now")',
        "raise PkiError('x', f\"./run invoke ledger.accept-loss {' '.join(f'--except {name}' for name in silent)}\")",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(planted: str) -> None:
    assert [why for one in in_source(planted, "planted.py") if (why := fault(one.words))] != []


@pytest.mark.parametrize(
    "harmless",
    [
        'raise PkiError("x", f"./run invoke renew {name}, and docs/how-to/ceremony.md; or ./run doit: it renews")',
        'raise PkiError("x", "put it back (./run invoke restore FILE --to DIR), then: ./run invoke ledger.verify")',
        'hint = here("invoke", "restore", "FILE", placeholders=["FILE"])',
        'def f() -> None:\n    """Print ./run invoke nothing."""',
        'RENEW = "./run invoke renew {}"\nraise PkiError("x", RENEW.format(name))',
    ],
)
def test_a_command_that_can_be_typed_is_not_found(harmless: str) -> None:
    assert [why for one in in_source(harmless, "planted.py") if (why := fault(one.words))] == []


# Where each command that a remedy names is typed for its fault, below tests/.
TYPED = {
    "doit": "cli/test_remedy_lab.py",
    "doit --clock-is-right": "cli/test_remedy_lab.py",
    "doit --take-over": "integration/test_ledger_postgresql.py",
    "doit authority": "cli/test_remedy_lab.py",
    "doit crl": "cli/test_remedy_lab.py",
    "doit deploy": "integration/test_remedies_typed.py",
    "doit release": "deploy/test_delivery.py",
    "backup": "cli/test_remedy_lab.py",
    "ca.change-passphrase": "backup/test_keeping.py",
    "ceremony.accept": "ceremony/test_ceremony_online.py",
    "ceremony.copy": "ceremony/test_ceremony_drives.py",
    "ceremony.kit": "ceremony/test_ceremony_online.py",
    "ceremony.rehearse": "ceremony/test_ceremonies.py",
    "ceremony.request": "cli/test_remedy_lab.py",
    "ceremony.root": "ceremony/test_ceremony_again.py",
    "ceremony.sign": "ceremony/test_ceremony_again.py",
    "ceremony.verify": "ceremony/test_ceremonies.py",
    "client.add": "cli/test_remedy_lab.py",
    "client.installed": "cli/test_remedy_lab.py",
    "client.revoke": "monitor/test_revocation.py",
    "deploy.accept-root": "ceremony/test_new_root.py",
    "deploy.bootstrap": "integration/test_remedies_typed.py",
    "deploy.collect": "integration/test_ansible.py",
    "deploy.drift": "integration/test_remedies_typed.py",
    "deploy.push": "cli/test_remedy_lab.py",
    "deploy.rollback": "deploy/test_delivery.py",
    "deploy.run": "cli/test_remedy_lab.py",
    "explain": "cli/test_remedy_lab.py",
    "ledger.accept-loss": "cli/test_remedy_lab.py",
    "ledger.import": "cli/test_remedy_lab.py",
    "ledger.list": "cli/test_remedy_lab.py",
    "ledger.restore": "integration/test_ledger_postgresql.py",
    "ledger.recover": "cli/test_remedy_lab.py",
    "ledger.verify": "ledger/test_ledger.py",
    "renew": "cli/test_remedy_lab.py",
    "restore": "cli/test_remedy_lab.py",
    "retire": "cli/test_remedy_lab.py",
    "revoke": "cli/test_remedy_lab.py",
    "schedule": "integration/test_schedule.py",
    "templates.accept": "cli/test_templates.py",
    "templates.diff": "cli/test_templates.py",
    "templates.eject": "cli/test_templates.py",
    "templates.remove-copies": "cli/test_templates.py",
    "timeline": "cli/test_remedy_lab.py",
}
SHOWS_MORE = {
    "health",
    "plan",
    "status",
    "init",
    "doit info",
    "doit list",
    "templates.list",
}  # changes nothing, or begins
ELSEWHERE = {  # what needs more than a project
    "demo.vlans": "machines of its own",
    "pip install": "a package registry",
    "badkeys --update-bl": "a list on another machine",
}


def test_each_command_of_a_remedy_is_typed_in_a_lab_or_says_why_not() -> None:
    commands = {name for one in printed() if (name := _named(one.words)) is not None}
    assert commands == {*TYPED, *SHOWS_MORE, *ELSEWHERE}
    texts = {file: (PROJECT / "tests" / file).read_text() for file in TYPED.values()}
    assert [name for name, file in TYPED.items() if name.split()[-1] not in texts[file]] == []


def _named(words: tuple[str, ...]) -> str | None:
    """Return the command of a printed line without its arguments; None where the line says only how to type."""
    program, *rest = words
    first = rest[0].partition(":")[0] if rest else ""
    if program == "doit":
        return f"doit {first}" if first in KINDS | DOIT | OF_DOIT else "doit"
    if program == "invoke":
        return first if first in COMMANDS else None
    return f"{program} {first}" if program in PROGRAMS else None
