"""Extensions of invoke's parser: optional positional arguments, --help after a command, and hints in errors."""

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
    """Handle one word: `invoke renew --help` prints help, instead of renewing a certificate of that name."""
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
    """Return the argument that takes all further words, if the command has one."""
    return next((one for one in machine.context.positional_args if one.kind is list and one.optional), None)


def complete_context(machine: ParseMachine) -> None:
    """Complete a command; a positional argument that is `optional` may be left out."""
    if machine.context:
        given = [one for one in machine.context.positional_args if not (one.optional and one.value is None)]
        machine.context.positional_args = given
    _complete_context(machine)


def complete_flag(machine: ParseMachine) -> None:
    """Complete an option. Raises ParseError if it takes a value and has none."""
    flag = machine.flag
    if _is_inside(machine) and flag and flag.takes_value and flag.raw_value is None:
        machine.error(f"--{flag.name} needs a value")
    _complete_flag(machine)


def check_ambiguity(machine: ParseMachine, value: Any) -> bool:
    """Return False inside a command: the word after an option that takes a value is always its value."""
    return False if _is_inside(machine) else bool(_check_ambiguity(machine, value))


def error(machine: ParseMachine, message: str) -> None:
    """Raise ParseError with a message and the command to type next."""
    line = _next(machine)
    if (PROGRAM / "wheels/made-for").exists():  # the kit is on a drive that may be mounted noexec
        line = line.replace("./run invoke", "sh run invoke")
    raise ParseError(f"{message}\n→ {line}", machine.context)


def _next(machine: ParseMachine) -> str:
    if _is_inside(machine):
        return f"./run invoke {machine.context.name} --help"
    word = machine.last
    if any(name.startswith(f"{word}.") for name in machine.contexts):
        return f"./run invoke --list {word}"
    close = get_close_matches(word, list(machine.contexts), n=1)
    return f"did you mean {close[0]}?" if close else "./run invoke --list"


def _is_inside(machine: ParseMachine) -> bool:
    """Return whether the words before this one name a command."""
    return machine.context is not None and machine.context is not machine.initial


def teach() -> None:
    """Replace the methods of invoke's parser in this process."""
    for function in (handle, complete_context, complete_flag, check_ambiguity, error):
        setattr(ParseMachine, function.__name__, function)
