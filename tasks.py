"""Entry point of invoke: take the time, collect the commands."""

from datetime import UTC, datetime

from pki.cli.entry_points import invoke_commands

ns = invoke_commands(__file__, datetime.now(UTC).replace(microsecond=0))
