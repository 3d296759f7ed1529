"""A project in the course of a trial: programs that are run on it, its ledger, and how it must end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns import consistency, projects
from tests.campaigns.campaign import CampaignError
from tests.integration.conftest import LiveRealHome
from tests.support.hosts import FolderHost
from tests.support.oldca import OldCa

Command = tuple[str, ...]
SECRET = ("--passphrase-file", "words")


@dataclass
class CheckContext:
    """A project in the course of a trial: its clock is `days` ahead."""

    desk: Path
    home: LiveRealHome
    days: int = 0
    host: FolderHost | None = None
    adopted: OldCa | None = None
    serials: int = 1
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.desk / "log"

    def run(self, *command: str, statuses: Sequence[int] = (0,)) -> str:
        """A program that must end by itself, with one of these exit statuses; what it says."""
        given = projects.environment(self.home, self.days)
        status = projects.ended(projects.started(command, given, self.log), " ".join(command))
        said = self.log.read_text(errors="replace")
        projects.insist_on_sentences(said, " ".join(command))
        if status not in statuses:
            raise CampaignError(f"{command[1] if len(command) > 1 else command[0]} fails", f"exit {status}\n{said}")
        return said

    def rows(self) -> consistency.Rows:
        """The rows of the ledger."""
        return consistency.ledger_rows(self.home.path)

    def settle(self) -> consistency.Rows:
        """One run must succeed, the next have nothing to do, and all be consistent; the rows of the ledger then."""
        projects.in_process(self.home, days=self.days)
        if made := projects.in_process(self.home, days=self.days).made:
            raise CampaignError("a run is not the last one", str(made))
        rows = self.rows()
        insist(consistency.finished(self.home.path, rows, self.home.moment(self.days)), "after the next run")
        return rows


def insist(faults: Iterable[str], when: str) -> None:
    """Raise CampaignError where something is inconsistent."""
    if found := list(faults):
        raise CampaignError(f"inconsistent {when}", "\n".join(found))
