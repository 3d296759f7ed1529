"""The scheduled job: which project runs, as which user, at which times, and what it needs of the machine."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path

from pki.common.errors import PkiError
from pki.config.delivery_window import is_in_window
from pki.config.model import Inventory

DEFAULT_TIMES = ("06:00",)
DELAYS = tuple(timedelta(minutes=minutes) for minutes in (15, 5, 1))  # the longest that suits all windows is used
HOMES = ("/home", "/root", "/run/user")
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - compared with, not written to


@dataclass(frozen=True, slots=True)
class Job:
    """The scheduled runs of one project.

    `config` is its pki.yaml, `program` the `run` script, `user` the project's owner.
    """

    config: Inventory
    program: Path
    home: Path
    user: str

    @property
    def name(self) -> str:
        """Return the name of its units, which contains the path: one machine may run several projects."""
        return f"doit-pki{re.sub('[^A-Za-z0-9]+', '-', str(self.home)).rstrip('-')}"

    @property
    def times(self) -> tuple[str, ...]:
        """Return the times of day, sorted; 06:00 where pki.yaml names none."""
        return tuple(sorted(set(self.config.schedule))) or DEFAULT_TIMES

    @property
    def credentials(self) -> tuple[str, ...]:
        """Return the systemd credentials that passphrases are read from."""
        return tuple(sorted({source.credential for source in self.config.secrets.named.values() if source.credential}))

    @property
    def metrics(self) -> Path | None:
        """Return the folder outside the project to which each run writes its metrics; None without one."""
        textfile = self.config.metrics.textfile
        return Path(textfile).parent if textfile else None

    @property
    def is_local(self) -> bool:
        """Return whether runs change this machine outside their own folder."""
        return self.config.deploy.ca == "local" or any(host.deliver == "local" for host in self.config.hosts.values())

    @property
    def needs_homes(self) -> bool:
        """Return whether runs read files in home folders.

        Those are the project, ssh's configuration and keys, what the command of a host reads, or a password manager's files.
        """
        uses_ssh = any(host.transport in {"ssh", "command"} or host.jump for host in self.config.hosts.values())
        uses_files = any(source.command or source.file for source in self.config.secrets.named.values())
        places = (self.home, self.program, Path(sys.base_prefix))
        return uses_ssh or uses_files or any(_is_in(place, HOMES) for place in places)

    @property
    def is_in_temporary_folder(self) -> bool:
        """Return whether project or program is in a folder that a systemd unit with PrivateTmp= does not see."""
        return any(_is_in(place, TEMPORARY) for place in (self.home, self.program))

    @property
    def delay(self) -> timedelta:
        """Return how long a run may be delayed at random without missing a maintenance window that it would meet."""
        return next((delay for delay in DELAYS if not missed(self.config, self.times, delay)), timedelta(0))

    def check(self) -> None:
        """Raise PkiError for a path that cannot be written into a unit or a crontab."""
        for path in (self.home, self.program, *([self.metrics] if self.metrics else [])):
            if not str(path).isprintable() or any(character in str(path) for character in "'\"\\"):
                raise PkiError(f"{path}: contains a quote, a backslash or a control character", "move it")
        if not self.program.exists():
            raise PkiError(f"{self.program}: is missing", "start this command from a clone of the program")


def _is_in(place: Path, folders: tuple[str, ...]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)


def missed(config: Inventory, times: tuple[str, ...], delay: timedelta = timedelta(0)) -> list[str]:
    """Return the hosts in whose maintenance window no run starts, whatever its random delay up to `delay`."""
    return [
        name
        for name, host in config.hosts.items()
        if host.window and not any(_meets(time.fromisoformat(start), delay, host.window) for start in times)
    ]


def _meets(start: time, delay: timedelta, window: str) -> bool:
    """Return whether a run starts within a window both without and with the whole delay."""
    minutes = start.hour * 60 + start.minute + delay // timedelta(minutes=1)
    latest_start = time(minutes // 60 % 24, minutes % 60)
    return is_in_window(start, window) and is_in_window(latest_start, window)
