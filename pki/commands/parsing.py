"""What invoke's parser does not know: an argument that may be left out, and --help where an argument is expected."""

from __future__ import annotations

from invoke.parser.parser import ParseMachine

HELP = {"-h", "--help"}

_handle, _complete_context = ParseMachine.handle, ParseMachine.complete_context


def handle(machine: ParseMachine, token: str) -> None:
    """`invoke renew --help` asks for help, and not for a certificate of that name."""
    inside = machine.context is not None and machine.context is not machine.initial
    if inside and token in HELP and token not in machine.context.flags and not machine.waiting_for_flag_value:
        machine.initial.flags["--help"].value = machine.context.name
        machine.context.positional_args = []
        return
    _handle(machine, token)


def complete_context(machine: ParseMachine) -> None:
    """A positional argument that is `optional` too may be left out."""
    if machine.context:
        given = [one for one in machine.context.positional_args if not (one.optional and one.value is None)]
        machine.context.positional_args = given
    _complete_context(machine)


def teach() -> None:
    """Let every parser of this process know."""
    ParseMachine.handle = handle  # type: ignore[method-assign,assignment]
    ParseMachine.complete_context = complete_context  # type: ignore[method-assign,assignment]
