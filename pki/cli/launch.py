"""The first word after `./run` or `doit-pki`: doit, a command, --help, --version, --completion; a hint for anything else."""

from __future__ import annotations

import os
import shlex
import sys
from difflib import get_close_matches

from pki import __version__
from pki.cli import completion
from pki.common.child_processes import STOPPED
from pki.common.errors import NO_PROJECT, PkiError
from pki.common.program_files import has_no_project
from pki.common.remedies import as_started
from pki.common.terminal import discard_output

USAGE = """\
Usage: ./run doit [NAME]...            bring everything up to date, or what is named: cert:media, deploy:web
       ./run doit list                 the names of tasks; doit info NAME explains one of them
       ./run invoke COMMAND            plan, status, health, explain NAME, renew NAME, revoke NAME, ...
       ./run invoke --list             all commands; COMMAND -h explains one
       ./run --version
       eval "$(./run --completion bash)"      completion of commands in bash; zsh: the same with zsh
       ./run --completion fish | source       the same in fish
The project is the folder with pki.yaml: PKI_HOME, or the current folder, or one above it.
"""
TEXTS = {
    **dict.fromkeys(("-h", "--help", "help"), USAGE),
    **dict.fromkeys(("-V", "--version"), f"doit-pki {__version__}\n"),
}

PROGRAMS = ("pip", "badkeys")  # of the program's environment, which hints name


def run(program: str, arguments: list[str]) -> int:
    """Run `doit` or `invoke`, print help, or suggest a command; return the exit status."""
    try:
        if program == "doit":
            return _doit(arguments)
        if program == "invoke":
            _invoke(arguments)
            return 0
        return _other(program, arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `… | head`
        discard_output()
        return 1
    except OSError as error:
        if error.filename:
            raise
        discard_output()
        print(f"the output cannot be written: {error.strerror}\n→ redirect it elsewhere", file=sys.stderr)
        return 1


def run_installed(words: list[str]) -> int:
    """Run what follows `doit-pki`: a command with or without `invoke` before it, or doit; return the exit status."""
    program, *arguments = words
    if program in PROGRAMS:
        os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606 - no shell
    if program in {"doit", "invoke", "--completion", "--complete", *TEXTS}:
        status = run(program, arguments)
        if TEXTS.get(program) == USAGE:
            _print_commands()
        return status
    return run("invoke", words)


def _print_commands() -> None:
    from pki.cli.entry_points import program_commands  # noqa: PLC0415 - slow, and not needed for doit
    from pki.cli.program import Program  # noqa: PLC0415

    commands = program_commands()
    print()
    Program(commands).print_commands(commands)


def _doit(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        return _other("--help", [])
    if arguments[:1] in (["-V"], ["--version"]):
        return _other("--version", [])
    if has_no_project():
        print(f"nothing was done: {NO_PROJECT.message}\n→ {NO_PROJECT.hint}", file=sys.stderr)
        return 3
    from pki.pipeline import doit_command_line  # noqa: PLC0415 - slow, and not needed for invoke

    status = doit_command_line.main(arguments)
    sys.stdout.flush()
    return status


def _invoke(arguments: list[str]) -> None:
    from pki.cli.entry_points import program_commands  # noqa: PLC0415 - slow, and not needed for doit
    from pki.cli.program import Program  # noqa: PLC0415

    try:
        Program(program_commands()).run(["invoke", *arguments])
    finally:
        sys.stdout.flush()


def _other(program: str, arguments: list[str]) -> int:
    if text := TEXTS.get(program):
        print(as_started(text), end="", flush=True)
        return 0
    if program == "--completion":
        return _completion(arguments)
    if program == "--complete":
        completion.write(arguments)
        return 0
    from pki.cli.entry_points import program_commands  # noqa: PLC0415 - as above

    names = [*program_commands().task_names]
    close = [program] if program in names else get_close_matches(program, names, n=1)
    line = f"did you mean ./run invoke {shlex.join([*close, *arguments])}" if close else "./run --help"
    if program in {name.partition(".")[0] for name in names if "." in name}:
        line = f"./run invoke --list {program}"
    print(f"run: unknown command {program!r}\n→ {as_started(line)}", file=sys.stderr)
    return 2


def _completion(arguments: list[str]) -> int:
    try:
        print(completion.script(*(arguments or ["bash"])[:1]), end="", flush=True)
    except PkiError as error:
        print(f"{error.message}\n→ {error.hint}", file=sys.stderr)
        return 2
    return 0
