"""What is to be run unattended: for which project, as whom, at which times, and what stands in its way."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path

from pki.common.errors import PkiError
from pki.config.fields import is_in_window
from pki.config.model import Inventory

USUAL = ("06:00",)
DELAYS = tuple(timedelta(minutes=minutes) for minutes in (15, 5, 1))
HOMES = ("/home", "/root", "/run/user")
PASSING = ("/tmp", "/var/tmp")  # noqa: S108 - to tell such a project from others


@dataclass(frozen=True, slots=True)
class Errand:
    """One project's run: `program` is the `run` script, `user` owns the project."""

    said: Inventory
    program: Path
    home: Path
    user: str

    @property
    def name(self) -> str:
        """What its units are called: one machine may keep several projects."""
        return f"doit-pki{re.sub('[^A-Za-z0-9]+', '-', str(self.home)).rstrip('-')}"

    @property
    def times(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.said.schedule))) or USUAL

    @property
    def credentials(self) -> tuple[str, ...]:
        return tuple(sorted({source.credential for source in self.said.secrets.named.values() if source.credential}))

    @property
    def metrics(self) -> Path | None:
        """The folder outside the project into which each run puts its metrics."""
        said = self.said.metrics.textfile
        return Path(said).parent if said else None

    @property
    def is_local(self) -> bool:
        """Whether it changes the machine that it runs on, beyond its own folder."""
        return self.said.deploy.ca == "local" or any(host.deliver == "local" for host in self.said.hosts.values())

    @property
    def needs_homes(self) -> bool:
        """Whether it reads what lies in home folders: its own, ssh's configuration and keys, a password manager's."""
        uses_ssh = any(host.deliver == "ssh" or host.jump for host in self.said.hosts.values())
        asks = any(source.command or source.file for source in self.said.secrets.named.values())
        places = (self.home, self.program, Path(sys.base_prefix))
        return uses_ssh or asks or any(_lies_in(place, HOMES) for place in places)

    @property
    def is_in_passing(self) -> bool:
        """Whether the project, or the program, lies where a unit of systemd gets a folder of its own instead."""
        return any(_lies_in(place, PASSING) for place in (self.home, self.program))

    @property
    def delay(self) -> timedelta:
        """How much later than said a run may begin without missing a window that it would have met."""
        return next((delay for delay in DELAYS if missed(self.said, self.times, delay) == []), timedelta(0))

    def check(self) -> None:
        """Raises PkiError for a path that no unit and no crontab can name."""
        for path in (self.home, self.program, *([self.metrics] if self.metrics else [])):
            if not str(path).isprintable() or "'" in str(path) or '"' in str(path) or "\\" in str(path):
                raise PkiError(f"{path}: has a quote, a backslash or a control character in it", "move it")
        if not self.program.exists():
            raise PkiError(f"{self.program}: is not there", "start this command from a checkout of the program")


def _lies_in(place: Path, folders: tuple[str, ...]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)


def missed(said: Inventory, times: tuple[str, ...], delay: timedelta = timedelta(0)) -> list[str]:
    """Hosts whose window no run ever meets, even one that begins at its latest."""
    return [
        name
        for name, host in said.hosts.items()
        if host.window and not any(_meets(time.fromisoformat(one), delay, host.window) for one in times)
    ]


def _meets(moment: time, delay: timedelta, window: str) -> bool:
    minutes = moment.hour * 60 + moment.minute + delay // timedelta(minutes=1)
    last = time(minutes // 60 % 24, minutes % 60)
    return is_in_window(moment, window) and is_in_window(last, window)
