"""The subclass of invoke's Program: our usage and help, our version, and only the options that have an effect."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, ClassVar

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext, to_flag
from invoke.program import Program as InvokeProgram
from invoke.tasks import Task
from invoke.util import helpline

from pki import __version__
from pki.cli import exit_statuses, option_help
from pki.cli.argument_parser import ArgumentParser
from pki.common.child_processes import STOPPED, enable_interrupts
from pki.common.remedies import as_started
from pki.common.terminal import discard_output

TYPED = as_started("./run invoke ").rstrip()
NO_BREAK = "\N{NO-BREAK SPACE}"
LETTERS = {"help": "h", "list": "l", "version": "V"}
SHOWN = {
    "help": "show this, or the help of a command: COMMAND -h",
    "list": "list the commands, or those of one group: --list ledger",
    "version": "print the version",
}
TITLES = {  # in the help: title → commands and groups of commands
    "Every day": {"plan", "status", "health", "explain", "timeline"},
    "Certificates and clients": {"renew", "revoke", "retire", "client"},
    "Hosts": {"deploy", "templates"},
    "Root ceremonies": {"ceremony", "ca"},
    "Backup and ledger": {"backup", "restore", "ledger"},
    "Machine": {"check", "doctor", "init", "schedule", "schema", "demo"},
}
BARE_ARGUMENTS = {  # typed without an option, where they are required
    "name",
    "host",
    "file",
    "folder",
    "generation",
    "serial",
    "response",
    "request",
    "events",
    "template",
}
PLACEHOLDERS = {
    "cards": "DIR",
    "client": "NAME=ADDRESS",
    "dns": "NAME",
    "email": "ADDRESS",
    "file": "FILE",
    "folder": "DIR",
    "network": "NAME=NETWORK",
    "output": "PATH",
    "publish": "URL=HOST",
    "service": "HOST/SERVICE=UPSTREAM",
    "server": "HOST/SERVICE",
    "sheet": "FILE",
    "template": "PATH",
    "to": "DIR",
    "uri": "ID",
    "vault": "DIR",
    "wifi": "SSID",
    "ansible_vault_password_file": "FILE",
    "again": "REASON",
    "despite": "REASON",
    "passphrase_to": "FILE",
    "folder_as_vault": "REASON",
}
PLACEHOLDERS_OF_COMMANDS = {("deploy.rollback", "to"): "RELEASE"}


class Program(InvokeProgram):
    """The program `./run invoke`. `unused_options` are the options of invoke that no command here reads."""

    unused_options: ClassVar = {"dry", "config", "warn-only", "hide", "prompt-for-sudo-password", "pty", "echo"}

    def __init__(self, namespace: Collection) -> None:
        super().__init__(
            version=__version__, namespace=namespace, name="doit-pki", binary=TYPED, binary_names=["invoke", "inv"]
        )

    def core_args(self) -> list[Argument]:
        """Return invoke's own options, with single letters only for help, list and version."""
        args: list[Argument] = super().core_args()
        for argument in args:
            argument.names = tuple(filter(None, (argument.name, LETTERS.get(_name(argument), ""))))
        return args

    def parse_core_args(self) -> None:
        """Parse the options. Raises ParseError for one of `unused_options`: `--dry` would change things nevertheless."""
        self.core = ArgumentParser(initial=self.initial_context, ignore_unknown=True).parse_argv(self.argv[1:])
        given = [name for name in sorted(self.unused_options) if self.args[name].value not in {None, False}]
        if given:
            raise ParseError(f"No idea what '--{given[0]}' is!\n→ {TYPED} --help")

    def _make_parser(self) -> ArgumentParser:
        return ArgumentParser(self.collection.to_contexts(), self.initial_context)

    def execute(self) -> None:
        """Run the command. Raises Exit with status 130 after Ctrl-C."""
        enable_interrupts()
        try:
            super().execute()
        except KeyboardInterrupt:
            raise Exit("stopped", code=STOPPED) from None

    def print_help(self) -> None:
        """Print the usage, the options and all commands, by title."""
        print(f"Usage: {TYPED} COMMAND [ARGUMENTS]\n\nOptions:\n")
        self.print_columns([(f"--{name}, -{LETTERS[name]}", text) for name, text in SHOWN.items()])
        self.print_commands(self.collection)

    def print_commands(self, collection: Collection) -> None:
        """Print all commands, by title."""
        names = [*collection.task_names]
        for title in dict.fromkeys([*TITLES, *map(title_of, names)]):
            print(f"{title}:\n")
            self.print_columns([(name, helpline(collection[name])) for name in names if title_of(name) == title])

    def print_columns(self, tuples: Sequence[tuple[str, str | None]]) -> None:
        """Print names with their texts beside them, as invoke does, but never broken at a hyphen: `--dry-run`."""
        names = max(len(name) for name, _ in tuples)
        width = shutil.get_terminal_size().columns - names - 6
        for name, text in tuples:
            for number, line in enumerate(textwrap.wrap(text or "", width, break_on_hyphens=False) or [""]):
                print(f"  {'' if number else name:<{names}}   {line}".rstrip())
        print()

    def print_task_help(self, name: str) -> None:
        """Print the usage of one command, its docstring, and a line for each argument and option."""
        context, task = self.parser.contexts[name], self.collection[name]
        print(_fitting(f"Usage: {TYPED} {unbroken(usage(name, context))}", "", "    ").replace(NO_BREAK, " ") + "\n")
        print(_fitting(inspect.getdoc(task) or "", self.leading_indent, self.leading_indent))
        if lines := argument_lines(task, context):
            print("\nArguments and options:\n")
            self.print_columns(lines)
        if own := exit_statuses.OWN.get(name):
            print("Exit status:\n")
            self.print_columns([(str(status), text) for status, text in own.items()])


def _fitting(text: str, first: str, indent: str) -> str:
    """Return a text with its indents; at a terminal, each paragraph is broken between words, and not at hyphens."""
    if not sys.stdout.isatty():
        return "\n".join(
            f"{indent if number else first}{line}".rstrip() for number, line in enumerate(text.split("\n"))
        )
    width = shutil.get_terminal_size().columns
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        textwrap.fill(
            paragraph,
            width,
            initial_indent=indent if number else first,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for number, paragraph in enumerate(paragraphs)
    )


class ProgramOfInvoke(Program):
    """The program for a tasks.py that `invoke` has found: it knows invoke's options for finding one, which were obeyed."""

    def core_args(self) -> list[Argument]:
        """Return our options, and invoke's --collection, --search-root and --no-dedupe."""
        return [*super().core_args(), *self.task_args()]

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002 - invoke's name
        """Run as invoke does; end with status 1 and no traceback where nobody reads the output: `invoke --list | head`."""
        try:
            try:
                super().run(argv, exit)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            discard_output()
            raise SystemExit(1) from None


def title_of(name: str) -> str:
    """Return the title under which the help lists a command."""
    return next((title for title, words in TITLES.items() if name.partition(".")[0] in words), "Development")


def argument_lines(task: Task[Any], context: ParserContext) -> list[tuple[str, str]]:
    """Return each argument and option of a command as it is typed, with its meaning."""
    meanings = getattr(task.body, option_help.MEANING, option_help.MEANINGS)
    return [
        (_shown(context, argument), meanings[argument.attr_name or _name(argument)])
        for argument in context.args.values()
    ]


def usage(name: str, context: ParserContext) -> str:
    """Return a command with its arguments as they are typed, optional ones in brackets."""
    parts = [name]
    for argument in sorted(
        context.args.values(), key=lambda argument: not _is_needed(argument) and not argument.optional
    ):
        shown, more = _shown(context, argument), "…" if argument.kind is list else ""
        parts.append(shown if _is_needed(argument) else f"[{shown}{more}]" if argument.optional else f"[{shown}]{more}")
    return " ".join(parts)


def unbroken(usage_line: str) -> str:
    """Return a usage in which no line breaks within an option: NO_BREAK is in place of its blanks."""
    return re.sub(r"\[[^\]]*\]|--\S+ [A-Z]+", lambda match: match[0].replace(" ", NO_BREAK), usage_line)


def _is_needed(argument: Argument) -> bool:
    return bool(argument.positional and argument.kind is not list and not argument.optional)


def _shown(context: ParserContext, argument: Argument) -> str:
    """Return how an argument of a command is typed: as a bare word, or after the option that names it."""
    name = _name(argument)
    common = PLACEHOLDERS.get(name) or PLACEHOLDERS.get(name.rpartition("_")[2], name.upper())
    placeholder = PLACEHOLDERS_OF_COMMANDS.get((context.name or "", name), common)
    is_bare = argument.optional or (_is_needed(argument) and name in BARE_ARGUMENTS)
    return placeholder if is_bare else to_flag(name) + (f" {placeholder}" if argument.takes_value else "")


def _name(argument: Argument) -> str:
    return argument.name or ""
