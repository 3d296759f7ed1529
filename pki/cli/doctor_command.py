"""The command doctor."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command, now_of
from pki.cli.json_output import DoctorCheck, DoctorOutput
from pki.common.remedies import typed_in
from pki.common.terminal import Screen
from pki.monitor.check_result import STATUS, Level, count_by_level
from pki.monitor.doctor.examination import examine


@command
def doctor(context: Context, json: bool = False) -> None:
    """Check this machine before there is a project; in a project, also what its pki.yaml needs. Changes nothing.

    Shows what was checked, the value that was seen, and the command to type. --json is for programs.
    """
    home = str(context.config.pki_home)
    place = Path(home) if home else typed_in()
    observations = list(examine(now_of(context), place, is_project=bool(home)))
    worst = max(observation.level for observation in observations)
    if json:
        checks = [
            DoctorCheck(
                checked=observation.checked,
                seen=observation.seen,
                level=observation.level.word,
                remedy=observation.typed,
            )
            for observation in observations
        ]
        DoctorOutput(at=now_of(context), project=home, worst=worst.word, checks=checks).show()
    else:
        screen = Screen()
        for observation in observations:
            screen.check(observation.level.word, observation.checked, observation.seen, "", observation.typed)
        screen.line(
            f"{count_by_level(observations)} in {len(observations)} checks"
            if worst
            else f"all OK: {len(observations)} checks"
        )
    if worst is not Level.OK:
        raise Exit(code=STATUS[worst])
