"""Entry point of invoke: take the time, collect the commands."""

from datetime import UTC, datetime

try:
    from pki.cli.entry_points import invoke_commands
except ImportError:  # not installed in this environment, or another package is called pki
    raise SystemExit("doit-pki cannot be imported here; type ./run doit, or activate its environment first") from None

ns = invoke_commands(__file__, datetime.now(UTC).replace(microsecond=0))
