"""Commands as people type them: help, usage, options, and what may have been meant."""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from invoke.exceptions import ParseError
from invoke.parser import Parser, ParserContext
from invoke.parser.argument import Argument

import tasks
from pki import __version__
from pki.cli import entry_points, launch, option_help, program
from pki.cli.decorator import command
from pki.cli.program import Program, ProgramOfInvoke
from pki.common import locks
from pki.common.errors import from_os_error
from pki.common.terminal import Screen
from pki.monitor.report.run import Run
from pki.pipeline import doit_command_line
from tests.support.commands import Said, said_by
from tests.support.projects import PROJECT, START, Home

NAMES = sorted(tasks.ns.task_names)


def arguments_of(name: str) -> list[Argument]:
    found: list[Argument] = tasks.ns[name].get_arguments()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_command_names_its_arguments_and_says_what_each_of_them_means(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    said = said_by(capsys, name, "-h")
    assert said.status == 0, said.error
    assert said_by(capsys, name, "--help").out == said.out
    usage = said.out.splitlines()[0]
    assert usage.startswith(f"Usage: ./run invoke {name}")
    _, _, lines = said.out.partition("Arguments and options:\n")
    explained = re.findall(r"^  (\S+(?: \S+)?)  +\S", lines.partition("Exit status:\n")[0], re.MULTILINE)
    assert len(explained) >= len(arguments_of(name))
    for one in explained:
        assert one in usage


@pytest.mark.parametrize(
    ("name", "typed"),
    [("deploy.rollback", "--to RELEASE"), ("ceremony.copy", "--to DIR"), ("restore", "--to DIR")],
)
def test_a_placeholder_says_what_the_option_of_this_command_takes(
    capsys: pytest.CaptureFixture[str], name: str, typed: str
) -> None:
    usage, _, lines = said_by(capsys, name, "-h").out.partition("Arguments and options:\n")
    assert (typed in usage, typed in lines) == (True, True)


def test_the_help_lists_each_command_once_below_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    said = said_by(capsys, "--help").out
    assert sorted(re.findall(r"^  ([a-z][a-z.-]+)  +[A-Z]", said, re.MULTILINE)) == NAMES
    titles = re.findall(r"^([A-Z].*):$", said, re.MULTILINE)
    assert titles == ["Options", *program.TITLES, "Development"]
    developer = re.findall(r"^  ([a-z.-]+)  ", said.partition("Development:")[2], re.MULTILINE)
    assert sorted(developer) == ["bench", "campaign", "docs", "integration", "lint", "mutants", "test"]


def test_no_option_has_a_single_letter_by_accident() -> None:
    letters = {
        (name, one) for name in NAMES for argument in arguments_of(name) for one in argument.names if len(one) == 1
    }
    assert letters == set()
    core = {one for argument in Program(tasks.ns).core_args() for one in argument.names if len(one) == 1}
    assert core == {"h", "l", "V"}


def test_an_option_without_a_meaning_is_an_error_of_ours() -> None:
    def add(_context: object, colour: str) -> None:
        """Add something."""

    with pytest.raises(KeyError, match="colour"):
        command(add)
    assert all(option_help.MEANINGS.values())


def test_each_special_help_text_belongs_to_a_parameter_of_a_command() -> None:
    """It is found by the names of module and function, which a renaming changes."""
    bodies = [tasks.ns[name].body for name in NAMES]
    parameters = {
        f"{body.__module__.rpartition('.')[2]}.{body.__name__}": {*inspect.signature(body).parameters}
        for body in bodies
    }
    assert {name for name, texts in option_help.SPECIAL.items() if not texts.keys() <= parameters[name]} == set()


@pytest.mark.parametrize("option", ["--dry", "--echo", "--hide=out", "--config=x"])
def test_an_option_of_invoke_that_no_command_heeds_is_refused(
    home: Home, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    before = home.read("ca/ledger.db")
    said = said_by(capsys, option, "renew", "media", pki_home=str(home.path), pki_now=START)
    assert said.status == 1
    assert said.error == f"No idea what '{option.partition('=')[0]}' is!\n→ ./run invoke --help\n"
    assert home.read("ca/ledger.db") == before


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (("-hschema",), "Usage: ./run invoke schema"),
        (("-lledger",), ".accept-loss"),
        (("--list=ledger",), ".accept-loss"),
        (("schema", "--of=plan"), '"title": "plan --json"'),
        (("schema", "plan"), '"title": "plan --json"'),
    ],
)
def test_an_option_is_typed_as_other_programs_have_it(
    capsys: pytest.CaptureFixture[str], typed: tuple[str, ...], shown: str
) -> None:
    said = said_by(capsys, *typed)
    assert (said.status, said.error) == (0, "")
    assert shown in said.out


@pytest.mark.parametrize("typed", [("-",), ("--",), ("-x=",), ("schema", "-"), ("", "")])
def test_marks_without_a_name_are_answered_in_a_sentence(
    capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]
) -> None:
    said = said_by(capsys, *typed)
    assert "Traceback" not in said.error
    assert said.status == (0 if typed == ("--",) else 1)


@pytest.mark.parametrize("options", [(), ("--no-dedupe", "-c", "tasks", "-r", ".")])
def test_invoke_itself_hands_the_command_line_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "invoke.main", SimpleNamespace())
    monkeypatch.setattr(sys, "argv", ["/usr/bin/invoke", *options, "schema", "plan"])
    with pytest.raises(SystemExit) as left:
        entry_points.invoke_commands(tasks.__file__, START)
    assert left.value.code == 0
    assert '"title": "plan --json"' in capsys.readouterr().out


def test_invoke_itself_ends_without_a_traceback_where_nobody_reads_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as caught:
            ProgramOfInvoke(tasks.ns).run(["invoke", "--list"])
        monkeypatch.undo()
    assert caught.value.code == 1


def test_the_parser_of_invoke_stays_as_it_is() -> None:
    """Another program in the same process, such as one of the user's, has its own commands."""
    contexts = [ParserContext("greet", args=[Argument("name", positional=True, optional=True)])]
    with pytest.raises(ParseError, match="did not receive required positional arguments"):
        Parser(contexts, ParserContext()).parse_argv(["greet"])


@pytest.mark.parametrize("typed", [("--version",), ("-V",), ("doit", "--version"), ("doit", "-V")])
def test_the_version_is_that_of_the_program(capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]) -> None:
    assert launch.run(typed[0], list(typed[1:])) == 0
    assert capsys.readouterr().out == f"doit-pki {__version__}\n"
    assert said_by(capsys, "--version").out == f"doit-pki {__version__}\n"


@pytest.mark.parametrize("typed", [("-h",), ("--help",), ("doit", "-h"), ("doit", "--help")])
def test_help_names_what_can_be_typed(capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]) -> None:
    assert launch.run(typed[0], list(typed[1:])) == 0
    assert capsys.readouterr().out.startswith("Usage: ./run doit [NAME]...")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("status",), "did you mean ./run invoke status"),
        (("statsu", "--json"), "did you mean ./run invoke status --json"),
        (("init", "my lab"), "did you mean ./run invoke init 'my lab'"),
        (("client.add", "x"), "did you mean ./run invoke client.add x"),
        (("ledger",), "./run invoke --list ledger"),
        (("xyzzy",), "./run --help"),
    ],
)
def test_what_was_meant_is_said_with_the_line_to_type(
    capsys: pytest.CaptureFixture[str], typed: tuple[str, ...], meant: str
) -> None:
    assert launch.run(typed[0], list(typed[1:])) == 2
    assert capsys.readouterr().err == f"run: unknown command {typed[0]!r}\n→ {meant}\n"


def test_run_knows_each_command_that_may_be_a_program_of_the_system() -> None:
    listed = re.search(r"^commands='(.*)'$", (PROJECT / "run").read_text(), re.MULTILINE)
    assert listed
    assert listed[1].split() == [name for name in NAMES if "." not in name]


def test_an_old_key_never_stays_beside_the_new_one(
    home: Home, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def export(folder: Path) -> Said:
        typed = ("client.export", "admin", "--format", "pem", "--output", str(folder), "--yes")
        return said_by(capsys, *typed, pki_home=str(home.path), pki_now=START)

    folder = tmp_path / "out"
    assert export(folder).status == 0
    key = (folder / "key.pem").read_bytes()
    said_by(capsys, "renew", "admin", pki_home=str(home.path), pki_now=START)
    said = export(folder)
    assert said.status == 1
    assert said.error.startswith(f"{folder}: contains an older export with its key in key.pem")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []
    assert (folder / "key.pem").read_bytes() == key
    assert export(tmp_path / "new").status == 0
    assert (tmp_path / "new/key.pem").read_bytes() != key


def test_a_run_that_is_part_of_a_command_says_nothing_where_there_was_nothing_to_do(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Screen, "is_terminal", property(lambda _screen: True))
    for is_part in (False, True):
        capsys.readouterr()
        assert Run(home.path, START, is_part=is_part).main(["release:media"]) == 0
        assert ("up to date" in capsys.readouterr().out) is not is_part
    home.edit("jellyfin:", "films:")
    assert Run(home.path, START, is_part=True).main(["release:media"]) == 0
    assert "2 changed" in capsys.readouterr().out


def test_a_project_that_is_read_only_is_named_in_a_sentence(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> int:
        raise from_os_error(OSError(errno.EROFS, os.strerror(errno.EROFS)), path, "cannot be written")

    monkeypatch.setattr(locks, "_open", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert Run(home.path, START).main([]) == 3
    said = capsys.readouterr().err
    assert "nothing was done: " in said
    assert f"Read-only file system\n→ mount it read-write: findmnt -T {home.path}/ca" in said
    assert "Traceback" not in said
    said = said_by(capsys, "ledger.list", pki_home=str(home.path), pki_now=START).error
    assert (
        said
        == f"{home.path}/ca/ledger.db: cannot be opened: Read-only file system\n→ mount it read-write: findmnt -T {home.path}/ca\n"
    )


@pytest.mark.parametrize("name", ["forget", "ignore", "dumpdb", "reset-dep", "strace"])
def test_a_command_about_the_database_of_doit_says_that_there_is_none(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(home.path)
    assert Run(home.path, START).main([name, "cert:media"]) == 3
    assert "there is no database: doit compares each file" in capsys.readouterr().err
    assert not list(home.path.glob("build/.doit.db*"))


def test_help_of_a_command_of_doit_is_asked_for_behind_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    for typed in (["info", "-h"], ["run", "--help"], ["cert:media", "-h"]):
        assert doit_command_line.main(typed) == 0
        assert "./run doit" in capsys.readouterr().out
