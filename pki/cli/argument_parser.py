"""What invoke's parser does not know: an argument that may be left out, --help where one is expected, what to type next."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.parser import ParseMachine

from pki.common.program_files import PROGRAM

HELP = {"-h", "--help"}

_handle, _complete_context = ParseMachine.handle, ParseMachine.complete_context
_complete_flag, _check_ambiguity = ParseMachine.complete_flag, ParseMachine.check_ambiguity


def handle(machine: ParseMachine, token: str) -> None:
    """`invoke renew --help` asks for help, and not for a certificate of that name."""
    inside = _is_inside(machine)
    if inside and token in HELP and token not in machine.context.flags and not machine.waiting_for_flag_value:
        machine.initial.flags["--help"].value = machine.context.name
        machine.context.positional_args = []
        return
    rest = _rest(machine) if inside and not machine.waiting_for_flag_value else None
    if rest is not None and not token.startswith("-"):
        rest.value = token
        return
    machine.last = token
    _handle(machine, token)


def _rest(machine: ParseMachine) -> Any:
    """The argument that takes all the words that follow; None where a command has no such argument."""
    return next((one for one in machine.context.positional_args if one.kind is list and one.optional), None)


def complete_context(machine: ParseMachine) -> None:
    """A positional argument that is `optional` too may be left out."""
    if machine.context:
        given = [one for one in machine.context.positional_args if not (one.optional and one.value is None)]
        machine.context.positional_args = given
    _complete_context(machine)


def complete_flag(machine: ParseMachine) -> None:
    """Where it is named by its flag it has a value all the same."""
    flag = machine.flag
    if _is_inside(machine) and flag and flag.takes_value and flag.raw_value is None:
        machine.error(f"--{flag.name} wants a value")
    _complete_flag(machine)


def check_ambiguity(machine: ParseMachine, value: Any) -> bool:
    """So what follows that flag is its value, and nothing else."""
    return False if _is_inside(machine) else bool(_check_ambiguity(machine, value))


def error(machine: ParseMachine, said: str) -> None:
    """What is wrong, and what to type next; a kit is on a drive that may run no program, so there it is `sh run`."""
    line = _next(machine)
    if (PROGRAM / "wheels/made-for").exists():
        line = line.replace("./run invoke", "sh run invoke")
    raise ParseError(f"{said}\n→ {line}", machine.context)


def _next(machine: ParseMachine) -> str:
    if _is_inside(machine):
        return f"./run invoke {machine.context.name} --help"
    word = machine.last
    if any(name.startswith(f"{word}.") for name in machine.contexts):
        return f"./run invoke --list {word}"
    close = get_close_matches(word, list(machine.contexts), n=1)
    return f"did you mean {close[0]}?" if close else "./run invoke --list"


def _is_inside(machine: ParseMachine) -> bool:
    """Whether a command was named already."""
    return machine.context is not None and machine.context is not machine.initial


def teach() -> None:
    """Let every parser of this process know."""
    for function in (handle, complete_context, complete_flag, check_ambiguity, error):
        setattr(ParseMachine, function.__name__, function)
