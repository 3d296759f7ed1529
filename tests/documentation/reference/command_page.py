"""The page of the commands, from the collections of invoke and the options of doit: what the help of each one prints."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from doit.cmd_list import List

from pki.cli import exit_statuses, program
from pki.cli.entry_points import program_commands
from pki.cli.launch import USAGE
from pki.pipeline.doit_internals import RunCommand
from tests.documentation.reference.markdown import anchor, code, prose, table

DOIT = {
    "": "bring everything up to date",
    "NAME…": "bring what is named up to date, and what it needs: `cert:media`, `deploy:web`, a group such as `crl`",
    "list": "list the groups of tasks; `list --all` lists every task",
    "info NAME": "show one task: whether it is up to date, and why not",
    "help COMMAND": "show the options of a command of doit",
}


def text() -> str:
    """Return the page."""
    commands = program_commands()
    names = [*commands.task_names]
    titles = {title: [name for name in names if program.title_of(name) == title] for title in program.TITLES}
    named = {title: [f"[`{name}`](#{anchor(name)})" for name in own] for title, own in titles.items()}
    named["Every day"].insert(0, "[`doit`](#doit)")
    parts = [
        (
            "# All commands\n\n"
            "From a clone and in a project: `./run invoke COMMAND`. Installed: `doit-pki COMMAND`. `COMMAND -h` prints what is\n"
            "written here. [Exit statuses](exit-statuses.md) and [output as JSON](json.md) have pages of their own.\n"
        ),
        table(("group", "commands"), [(title, ", ".join(own)) for title, own in named.items()]),
        f"## The program\n\n```text\n{USAGE}```\n",
        table(("option of `./run invoke`", "meaning"), [_program_option(name) for name in program.SHOWN]),
        _doit(),
    ]
    contexts = {context.name: context for context in commands.to_contexts()}
    for title, own in titles.items():
        parts.append(f"## {title}\n")
        parts += [_command(name, commands[name], contexts[name]) for name in own]
    return "\n".join(parts)


def _doit() -> str:
    rows = [(f"`./run doit {name}`".replace(" `", "`"), meaning) for name, meaning in DOIT.items()]
    return "\n".join(
        [
            "## doit\n\nThe daily command. Exit status 0 if everything is well: [exit statuses](exit-statuses.md#doit).\n",
            table(("command", "meaning"), rows),
            "Options of `./run doit`:\n",
            table(("option", "meaning"), [_option(one) for one in RunCommand.cmd_options]),
            "Options of `./run doit list`:\n",
            table(("option", "meaning"), [_option(one) for one in List.cmd_options]),
        ]
    )


def _program_option(name: str) -> tuple[str, str]:
    return f"`--{name}`, `-{program.LETTERS[name]}`", prose(program.SHOWN[name])


def _option(option: Mapping[str, Any]) -> tuple[str, str]:
    takes = "" if option["type"] is bool else f" {option['name'].upper()}"
    names = [f"-{option['short']}" if option.get("short") else "", f"--{option['long']}" if option.get("long") else ""]
    meaning = " ".join(option["help"].replace("%(default)s", str(option["default"])).split())
    return ", ".join(f"`{name}{takes}`" for name in names if name), prose(meaning)


def _command(name: str, task: Any, context: Any) -> str:
    first, _, rest = (inspect.getdoc(task) or "").partition("\n\n")
    paragraphs = [prose(" ".join(part.split())) for part in (first, *rest.split("\n\n")) if part.strip()]
    typed = f"./run invoke {program.unbroken(program.usage(name, context))}"
    usage = fill(typed, 80, subsequent_indent="    ", break_on_hyphens=False).replace(program.NO_BREAK, " ")
    parts = [f"### {name}\n", f"```text\n{usage}\n```\n", "\n\n".join(paragraphs) + "\n"]
    if rows := [(code(shown), prose(meaning)) for shown, meaning in program.argument_lines(task, context)]:
        parts.append(table(("argument or option", "meaning"), rows))
    if own := exit_statuses.OWN.get(name):
        parts.append(table(("exit status", "meaning"), [(str(status), prose(text)) for status, text in own.items()]))
    return "\n".join(parts)
