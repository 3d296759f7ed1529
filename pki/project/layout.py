"""The folders of a project and the locks of a run. Its paths are those of `CaFiles` and `BuildFiles`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pki.common import locks
from pki.common.filesystem import make_folder
from pki.project.build_files import BuildFiles
from pki.project.ca_files import CaFiles

BEFORE_RESTORE = "ca.before-restore-"  # plus the time: the folder beside ca/ for files that a restore replaced
RESTORING = ".restore.new"  # the folder in which a restore prepares its files
ALERTS = ".alerts.json"  # in ca/: recipients, and the last notification of each


class Store(CaFiles, BuildFiles):
    """The folders and files of one project, below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = home / "ca"
        self.build = home / "build"
        self.offline = home / "offline"
        self.templates = home / "templates"

    def shown(self, path: Path) -> str:
        """Return a path as messages show it: relative to the project where possible."""
        return str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path)

    @property
    def notification_folder(self) -> Path:
        """Return the folder of the notification history: `ca/`, or that of the reports while `ca/` is lost."""
        return self.ca if self.ca.is_dir() else self.build / "report"

    def create_templates_folder(self) -> None:
        """Create `templates/` before the first release is built: from then on, a missing folder counts as lost."""
        if not (self.build / "release").is_dir() and not self.templates.is_dir():
            make_folder(self.templates)

    # -- one run at a time --

    def check_locks(self) -> None:
        """Raise PkiError that names the file when the lock of a run cannot be used."""
        if self.ca.is_dir():
            locks.require_usable(self.ca / ".run.lock")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the project; another run waits, and prints which process it waits for."""
        with self.hold_lock("run.lock", lambda holder: f"waiting for another run (process {holder}) to end"):
            with self.hold_lock("workers.lock"):
                pass  # a worker of a killed run may be in its last write while the kernel ends it
            yield

    def join_current_run(self) -> bool:
        """Keep the next run waiting while this process, a worker of a run, exists.

        Returns False where the next run has started already, because the run of this worker was killed.
        """
        make_folder(self.ca, 0o700)
        return locks.hold_shared(self.ca / ".workers.lock")

    @contextmanager
    def hold_lock(
        self, name: str, waiting: Callable[[str], str] | None = None, *, within: Path | None = None
    ) -> Iterator[None]:
        """Hold one of the project's locks, a file in `ca/` or in the folder `within`, as `locks.held` does."""
        folder = within or self.ca
        make_folder(folder, 0o700)
        with locks.exclusive(folder / f".{name}", waiting):
            yield
