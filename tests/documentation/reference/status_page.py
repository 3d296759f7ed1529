"""The page of the exit statuses, from the table that the help of the commands prints too."""

from __future__ import annotations

from pki.cli import exit_statuses
from tests.documentation.reference.markdown import code, prose, table


def text() -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Exit statuses\n\nFor scripts, timers and CI jobs. Any status other than 0 needs attention.\n",
            "## doit\n\n" + _statuses(exit_statuses.DOIT),
            "## Commands\n\n" + _statuses(exit_statuses.COMMANDS),
            (
                "## Commands with statuses of their own\n\n"
                "Statuses that are not listed here are those of [all commands](#commands). With `--json` they are the same.\n"
            ),
            table(
                ("command", "status", "meaning"),
                [
                    (code(name) if status == min(own) else "", str(status), prose(meaning))
                    for name, own in exit_statuses.OWN.items()
                    for status, meaning in own.items()
                ],
            ),
            (
                "## Example\n\nA job that fails only if something is critical:\n\n"
                "```sh\n./run invoke health || [ $? -lt 4 ]\n```\n"
            ),
        ]
    )


def _statuses(statuses: exit_statuses.Statuses) -> str:
    return table(("status", "meaning"), [(str(status), prose(meaning)) for status, meaning in statuses.items()])
