"""What can be odd about the place where a command is started, each as a change of how it is started."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.campaigns import projects
from tests.support.projects import PROJECT

NOBODY = 65534


@dataclass
class Start:
    """How a command is started: `prefix` is what starts it, `prepare` runs in the new process before anything else."""

    command: tuple[str, ...]
    home: Path
    environment: dict[str, str]
    cwd: Path
    log: Path
    prefix: list[str] = field(default_factory=list)
    program: list[str] = field(default_factory=lambda: [str(PROJECT / "run")])
    prepare: list[Callable[[], object]] = field(default_factory=list)
    stdin: int | None = subprocess.DEVNULL
    stdout: int | None = None
    signal: signal.Signals | None = None
    is_to_group: bool = False
    hangs_up: bool = False
    undo: list[Callable[[], object]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    """Descriptors that the parent keeps while the command runs."""

    def begin(self) -> subprocess.Popen[bytes]:
        self.environment["PKI_HOME"] = os.fsdecode(os.fsencode(self.home))

        def prepare() -> None:
            for step in self.prepare:
                step()

        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*self.prefix, *self.program, *self.command],
                cwd=self.cwd,
                env=self.environment,
                stdin=self.stdin,
                stdout=log if self.stdout is None else self.stdout,
                stderr=log if not self.hangs_up else self.stdout,
                preexec_fn=prepare,  # noqa: PLW1509 - no threads here
                start_new_session=True,
            )

    def close(self) -> None:
        for handle in self.open:
            os.close(handle)
        self.open.clear()

    def said(self) -> str:
        return self.log.read_bytes().decode(errors="replace")


@dataclass(frozen=True)
class Oddity:
    """A change of how a command is started; `apply` returns whether it can be made on this machine."""

    apply: Callable[[Start, random.Random], bool]
    is_harmless: bool = True
    """Whether the command must end well all the same."""
    is_silent: bool = False
    """Whether there is nowhere to say why it did not."""


# -- streams, signals, terminals --------------------------------------------------------------------------------------


def closed(*numbers: int) -> Oddity:
    def apply(start: Start, _: random.Random) -> bool:
        start.prepare += [lambda number=number: os.closerange(number, number + 1) for number in numbers]  # type: ignore[misc]
        return True

    return Oddity(apply, is_harmless=numbers == (0,), is_silent=2 in numbers)


def _full(start: Start, _: random.Random) -> bool:
    start.stdout = os.open("/dev/full", os.O_WRONLY)
    start.open.append(start.stdout)
    return True


def _unread(start: Start, _: random.Random) -> bool:
    reader, start.stdout = os.pipe()
    os.close(reader)
    start.open.append(start.stdout)
    return True


def signalled(number: signal.Signals, *, group: bool) -> Oddity:
    def apply(start: Start, _: random.Random) -> bool:
        start.signal, start.is_to_group = number, group
        return True

    return Oddity(apply, is_harmless=False, is_silent=True)


def _terminal(start: Start, _: random.Random) -> bool:
    """A terminal that disappears: its other end is closed while the command runs."""
    keyboard, screen = os.openpty()
    start.stdin = start.stdout = screen
    start.open += [keyboard, screen]
    start.hangs_up = True
    start.environment["TERM"] = "xterm"
    return True


# -- environment ------------------------------------------------------------------------------------------------------


def environment(**values: str) -> Oddity:
    def apply(start: Start, _: random.Random) -> bool:
        start.environment.update(values)
        return True

    return Oddity(apply)


@cache
def turkish() -> str:
    """A folder with the compiled locale tr_TR.UTF-8; empty where it cannot be compiled."""
    folder = projects.scratch() / "locales"
    folder.mkdir()
    command = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
    if not shutil.which("localedef"):
        return ""
    subprocess.run(command, check=False, capture_output=True)
    return str(folder) if (folder / "tr_TR.UTF-8").exists() else ""


def _turkish(start: Start, _: random.Random) -> bool:
    start.environment |= {"LOCPATH": turkish(), "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}
    return bool(turkish())


def _zone(start: Start, chance: random.Random) -> bool:
    start.environment["TZ"] = chance.choice(
        ["Asia/Kathmandu", ":/nowhere", "AAA+24BBB-24", "", "Pacific/Apia", "\udcff"]
    )
    return True


def _no_home(start: Start, chance: random.Random) -> bool:
    start.environment.pop("HOME", None)
    if chance.random() < 0.5:
        start.environment["HOME"] = "/nowhere"
    return True


def _cron(start: Start, _: random.Random) -> bool:
    """What cron gives: almost nothing."""
    start.environment.clear()
    start.environment |= {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root", "HOME": "/root"}
    return True


def _umask(start: Start, chance: random.Random) -> bool:
    mask = chance.choice([0, 0o002, 0o077, 0o027, 0o377])
    start.prepare.append(lambda: os.umask(mask))
    return True


def _optimised(start: Start, _: random.Random) -> bool:
    start.environment["PYTHONOPTIMIZE"] = "1"
    start.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return True


def _hashed(start: Start, chance: random.Random) -> bool:
    start.environment["PYTHONHASHSEED"] = str(chance.randrange(1, 1 << 32))
    return True


# -- where ------------------------------------------------------------------------------------------------------------


def _cwd(start: Start, chance: random.Random) -> bool:
    kind = chance.choice(["/", "removed", "unreadable"])
    folder = Path(tempfile.mkdtemp(dir=start.log.parent))
    if kind == "/":
        start.cwd = Path("/")
    elif kind == "removed":
        start.cwd = folder
        start.prepare.append(folder.rmdir)
    else:
        folder.chmod(0)
        start.cwd = folder
    return True


NAMES = (
    b"a project",
    b"new\nline",
    "Größe €".encode(),
    b"\xff\xfe",
    b"-n",
    b'it\'s "so"',
    b"$HOME `id` %s {x}",
    b"#a:b=c",
)


def _named(start: Start, chance: random.Random) -> bool:
    """The project is in a folder of another name."""
    target = start.home.with_name(os.fsdecode(chance.choice(NAMES)))
    start.home.rename(target)
    start.home = target
    return True


def _linked(start: Start, chance: random.Random) -> bool:
    """The project is reached through a link, or parts of it are links to folders elsewhere."""
    elsewhere = start.home.with_name("elsewhere")
    if chance.random() < 0.5:
        start.home.rename(elsewhere)
        start.home.symlink_to(elsewhere.name)
    else:
        elsewhere.mkdir()
        for name in chance.sample(["ca", "build", "templates"], 2):
            (start.home / name).rename(elsewhere / name)
            (start.home / name).symlink_to(f"../elsewhere/{name}")
    return True


def _other_user(start: Start, chance: random.Random) -> bool:
    """Another account, whose project it is, or not."""
    python = shutil.which("python3", path="/usr/bin")  # what is in the environment may be below a folder of root's
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if python is None or subprocess.run([python, "-c", version], check=False).returncode or os.geteuid():
        return False
    if chance.random() < 0.7:
        for path in (start.log.parent, *start.log.parent.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        start.undo.append(lambda: _given_back(start.log.parent))
    for path in (start.log.parent, start.log.parent.parent):
        path.chmod(0o755)
    [packages] = (Path(sys.prefix) / "lib").glob("python3*/site-packages")
    start.environment |= {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}
    start.program = [python, "-S", "-P", "pki/cli/start.py"]
    start.cwd = PROJECT
    start.prefix += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return True


def _given_back(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)


def _no_shm(start: Start, chance: random.Random) -> bool:
    how = chance.choice(["umount -l /dev/shm 2>/dev/null", "mount -t tmpfs -o ro none /dev/shm"])
    start.prefix += ["unshare", "-m", "sh", "-c", f'{how}; exec "$@"', "sh"]
    return os.geteuid() == 0


# -- limits -----------------------------------------------------------------------------------------------------------


def _descriptors(start: Start, _: random.Random) -> bool:
    start.prepare.append(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    return True


def _memory(start: Start, chance: random.Random) -> bool:
    most = chance.randrange(60, 700) << 20
    start.prepare.append(lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)))
    return True


def _small_files(start: Start, chance: random.Random) -> bool:
    most = chance.choice([0, 4096, 20_000, 100_000])
    start.prepare.append(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    return True


ODD = {
    "standard input closed": closed(0),
    "standard output closed": closed(1),
    "standard error closed": closed(2),
    "all channels closed": closed(0, 1, 2),
    "output on a full disk": Oddity(_full, is_harmless=False),
    "output that nobody reads": Oddity(_unread, is_harmless=False, is_silent=True),
    **{
        f"{number.name} to {'the group' if group else 'it alone'}": signalled(number, group=group)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for group in (False, True)
    },
    "a terminal that disappears": Oddity(_terminal, is_harmless=False, is_silent=True),
    "LANG=C": environment(LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    "a Turkish locale": Oddity(_turkish),
    "an odd time zone": Oddity(_zone),
    "no HOME": Oddity(_no_home),
    "the environment of cron": Oddity(_cron),
    "an odd umask": Oddity(_umask),
    "python -O": Oddity(_optimised),
    "another hash seed": Oddity(_hashed),
    "another working folder": Oddity(_cwd),
    "a project with an odd name": Oddity(_named),
    "links": Oddity(_linked),
    "another user": Oddity(_other_user, is_harmless=False),
    "no /dev/shm": Oddity(_no_shm),
    "64 descriptors": Oddity(_descriptors),
    "little memory": Oddity(_memory, is_harmless=False, is_silent=True),
    "small files only": Oddity(_small_files, is_harmless=False, is_silent=True),
}
