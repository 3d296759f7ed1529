"""The parser of our commands: optional positional arguments, --help after a command, and hints in errors."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseMachine, Parser, ParseResult

from pki.common.remedies import as_started

HELP = {"-h", "--help"}


class ArgumentParser(Parser):
    """invoke's parser, with our state machine."""

    def parse_argv(self, argv: list[str]) -> ParseResult:
        """Return the commands in `argv`, with their arguments. Raises ParseError with the command to type next."""
        machine = ArgumentMachine(self.initial, self.contexts, self.ignore_unknown)
        end = argv.index("--") if "--" in argv else len(argv)
        for word in argv[:end]:
            for part in machine.parts(word):
                machine.handle(part)
        machine.finish()
        result: ParseResult = machine.result
        result.remainder = " ".join(argv[end + 1 :])
        return result


class ArgumentMachine(ParseMachine):
    """invoke's state machine for the words of a command line."""

    last_word = ""  # the word that is being handled

    def __init__(self, initial: ParserContext | None, contexts: Any, ignore_unknown: bool) -> None:
        super().__init__(initial, type(contexts)(), ignore_unknown)  # type: ignore[arg-type] # as invoke does
        # invoke would copy all of them (20 ms); it copies the one that is entered once more, and changes no other
        self.contexts = contexts

    def parts(self, word: str) -> Iterator[str]:
        """Yield a word, or the option and the value of `--option=value`. Several single letters are several options."""
        is_value = self.waiting_for_flag_value and not self._is_option(word.partition("=")[0])
        if not word.startswith("-") or self.result.unparsed or is_value:
            yield word
        elif "=" in word:
            yield word.partition("=")[0]
            yield word.partition("=")[2]
        elif len(word) > 2 and word[1] != "-":
            yield from self._letters(word)
        else:
            yield word

    def _letters(self, word: str) -> Iterator[str]:
        """Yield several single letters as options: `-hl`; or an option and its value: `-lledger`."""
        flags = self.context.flags
        yield word[:2]
        if word[:2] in flags and flags[word[:2]].takes_value:
            yield word[2:]
        else:
            yield from (f"-{letter}" for letter in word[2:])

    def _is_option(self, word: str) -> bool:
        """Return whether a word after an option with an optional value is the next option."""
        return bool(self.flag and self.flag.optional and word in self.context.flags)

    def handle(self, token: str) -> None:
        """Handle one word: `invoke renew --help` prints help, instead of renewing a certificate of that name."""
        is_inside = self._is_inside()
        is_help = token in HELP and token not in self.context.flags if is_inside else False
        if is_help and not self.waiting_for_flag_value:
            self.initial.flags["--help"].value = self.context.name
            self.context.positional_args = []
            return
        list_argument = self._list_argument() if is_inside and not self.waiting_for_flag_value else None
        if list_argument is not None and not token.startswith("-"):
            list_argument.value = token  # invoke appends to the value of a list
            return
        self.last_word = token
        super().handle(token)

    def _list_argument(self) -> Argument | None:
        """Return the argument that takes all further words, if the command has one."""
        return next(
            (argument for argument in self.context.positional_args if argument.kind is list and argument.optional), None
        )

    def complete_context(self) -> None:
        """Complete a command; a positional argument that is `optional` may be left out."""
        if self.context:
            values = [
                argument
                for argument in self.context.positional_args
                if not (argument.optional and argument.value is None)
            ]
            self.context.positional_args = values
        super().complete_context()

    def complete_flag(self) -> None:
        """Complete an option. Raises ParseError if it takes a value and has none."""
        flag = self.flag
        if self._is_inside() and flag and flag.takes_value and flag.raw_value is None:
            self.error(f"--{flag.name} needs a value")
        super().complete_flag()

    def check_ambiguity(self, value: Any) -> bool:
        """Return False inside a command: the word after an option that takes a value is always its value."""
        return False if self._is_inside() else bool(super().check_ambiguity(value))

    def error(self, msg: str) -> None:
        """Raise ParseError with a message and the command to type next."""
        raise ParseError(f"{msg}\n→ {as_started(self._next_command())}", self.context)

    def _next_command(self) -> str:
        """Return the command to type after an error, or a suggestion."""
        if self._is_inside():
            return f"./run invoke {self.context.name} --help"
        word = self.last_word
        if any(name.startswith(f"{word}.") for name in self.contexts):
            return f"./run invoke --list {word}"
        close = get_close_matches(word, list(self.contexts), n=1)
        return f"did you mean {close[0]}?" if close else "./run invoke --list"

    def _is_inside(self) -> bool:
        """Return whether the words before this one name a command."""
        return self.context is not None and self.context is not self.initial


for name in ("_class_states", "_class_transitions"):  # the metaclass gives a subclass neither
    setattr(ArgumentMachine, name, getattr(ParseMachine, name))
