"""A host in a folder: the real pki-apply under another root, spoken with as sshd would let us."""

from __future__ import annotations

import grp
import hashlib
import io
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pki.deploy.ssh import Transport
from tests.support.projects import PROJECT

SCRIPT = PROJECT / "pki/deploy/host/pki-apply"
PATH_LINE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ME = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
LITTER = (".pki-new", ".pki-old")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest as it travels, with any column as wrong as a test likes."""

    path: str
    content: bytes | None = b""
    mode: str = "0644"
    owner: str = ME
    set: str = "-"
    check: str = "-"
    reload: str = "-"
    more: Mapping[str, str] = field(default_factory=dict)

    def line(self, number: int) -> str:
        kind, digest = ("gone", "0") if self.content is None else ("file", hashlib.sha256(self.content).hexdigest())
        columns = {"n": str(number), "kind": kind, "mode": self.mode, "owner": self.owner, "sha256": digest}
        columns |= {"set": self.set, "check": self.check, "reload": self.reload, "path": self.path}
        return "\t".join((columns | dict(self.more)).values())


def manifest(rows: Sequence[Row], host: str = "media") -> bytes:
    lines = [f"doit-pki 1 {host}", *(row.line(number) for number, row in enumerate(rows, 1)), f"end {len(rows)}", ""]
    return "\n".join(lines).encode()


def tarred(members: Sequence[tuple[str, bytes] | tarfile.TarInfo]) -> bytes:
    """A tar of these: names with contents, or members of any other kind."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                member_info = tarfile.TarInfo(member[0])
                member_info.size = len(member[1])
                archive.addfile(member_info, io.BytesIO(member[1]))
    return stream.getvalue()


def placing(rows: Sequence[Row], verb: str = "place", numbers: Sequence[int] = ()) -> bytes:
    """The word that places rows (all of them), with their files."""
    chosen = [(number, row) for number, row in enumerate(rows, 1) if not numbers or number in numbers]
    files = tarred([(str(number), row.content) for number, row in chosen if row.content is not None])
    return f"{verb} {len(files) // 512} {' '.join(str(number) for number, _ in chosen)}\n".encode() + files


def whole(rows: Sequence[Row]) -> bytes:
    """The stream of a delivery that is kept."""
    return manifest(rows) + placing(rows) + b"keep\nend\n"


@dataclass(frozen=True)
class Shell:
    """What runs the script: the shell's program, and where it finds others; the system's when empty."""

    name: str
    program: str
    path: str = ""


def busybox(folder: Path) -> Shell:
    """Busybox with all its applets, and the real flock where it has none."""
    program = shutil.which("busybox")
    assert program is not None, "apt install busybox"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    folder.mkdir()
    for applet in applets:
        (folder / applet).symlink_to(program)
    if "flock" not in applets:
        flock = shutil.which("flock")
        assert flock is not None, "apt install util-linux"
        (folder / "flock").symlink_to(flock)
    return Shell("busybox", f"{folder}/sh", str(folder))


@dataclass(frozen=True)
class FolderHost:
    """A host whose files lie below `root`, and what it permits: any file in etc, and the commands given."""

    root: Path
    name: str = "media"

    @classmethod
    def new(
        cls, root: Path, shell: Shell | None = None, commands: Mapping[str, str] | None = None, name: str = "media"
    ) -> FolderHost:
        host = cls(root, name)
        host.etc.mkdir(parents=True)
        text = SCRIPT.read_text()
        for old, new in (
            ("conf=/etc/pki-apply.conf", f"conf={host.conf}"),
            ("state=/var/lib/pki-apply", f"state={host.state}"),
        ):
            assert text.count(f"\n{old}\n") == 1
            text = text.replace(f"\n{old}\n", f"\n{new}\n")
        assert text.count("$(date +%s)}") == 1
        text = text.replace("$(date +%s)}", f"$(cat {host.clock} 2>/dev/null || date +%s)}}")
        if shell:
            text = text.replace("#!/bin/sh", f"#!{shell.program}", 1)
        if shell and shell.path:
            assert PATH_LINE in text
            text = text.replace(PATH_LINE, f"PATH={shell.path}")
        host.program.write_text(text)
        host.program.chmod(0o755)
        user, group = ME.split(":")
        host.permit(f"under {host.etc}", f"trust {user}", f"trust {group}")
        host.permit(*(f"run {name} {line}" for name, line in (commands or {}).items()))
        return host

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def clock(self) -> Path:
        """A file that says what date this host tells, in seconds since 1970; the system's while it is not there."""
        return self.root / "clock"

    @property
    def conf(self) -> Path:
        return self.root / "pki-apply.conf"

    @property
    def state(self) -> Path:
        return self.root / "var"

    @property
    def program(self) -> Path:
        return self.root / "pki-apply"

    def permit(self, *lines: str) -> None:
        with self.conf.open("a") as conf:
            if not conf.tell():
                conf.write(f"host {self.name}\n")
            conf.writelines(f"{line}\n" for line in lines)

    def adapt(self, old: str, new: str) -> None:
        """Change a line of this host's copy of the script, a limit perhaps."""
        text = self.program.read_text()
        assert old in text
        self.program.write_text(text.replace(old, new))

    # -- speaking with it --

    def transport(self) -> LocalTransport:
        return LocalTransport(self.name, program=str(self.program))

    def speak(self, words: bytes, *arguments: str, timeout: float = 300) -> list[dict[str, Any]]:
        """What it answers, a JSON object a line; it must end by itself."""
        done = subprocess.run(
            [self.program, *arguments], input=words, capture_output=True, timeout=timeout, check=False
        )
        answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
        assert all(isinstance(answer, dict) for answer in answers)
        return answers

    def deliver(self, rows: Sequence[Row]) -> None:
        """A delivery that must end well."""
        answers = self.speak(whole(rows))
        assert answers[-1] == {"state": "kept"}, answers

    # -- what is on it --

    def path(self, name: str) -> str:
        return f"{self.etc}/{name}"

    def holds(self) -> dict[str, tuple[str, ...]]:
        """Everything in etc: kind, mode and content, or where a link points."""
        return {str(path.relative_to(self.etc)): _seen(path) for path in sorted(self.etc.rglob("*"))}

    def touched(self) -> dict[str, tuple[int, int]]:
        """When content and inode of everything in etc were last changed."""
        states = {path: path.lstat() for path in (self.etc, *self.etc.rglob("*"))}
        return {str(path): (state.st_mtime_ns, state.st_ctime_ns) for path, state in states.items()}

    def litter(self) -> list[str]:
        """What a change that has come to rest may not leave behind."""
        links = {os.readlink(path) for path in self.etc.rglob("*") if path.is_symlink()}
        last = self.state / "last/folders"
        tokens = set(last.read_text().split()) if last.exists() else set()
        beside = [path for path in self.etc.rglob("*") if path.name.endswith(LITTER)]
        beside += [
            path
            for path in self.etc.rglob("*.[0-9]*-*-*")
            if path.is_dir() and path.name not in links and str(path) not in tokens
        ]
        return sorted(map(str, [*beside, *self.state.glob("txn*")]))


@dataclass(frozen=True, slots=True)
class LocalTransport(Transport):
    """The transport to a host in a folder: no ssh, and no root."""

    program: str = ""

    def command(self, *, as_root: bool) -> tuple[str, ...]:  # noqa: ARG002 - there is none to become
        return (self.program,)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and all that it has started: timeout makes a process group of its own."""
    while members := [
        int(process_folder.name)
        for process_folder in Path("/proc").glob("[0-9]*")
        if _session_of(int(process_folder.name)) == process.pid
    ]:
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.poll()
    process.wait()


def _session_of(process: int) -> int:
    """0 for one that has ended and is not waited for yet."""
    try:
        is_over = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return 0 if is_over else os.getsid(process)
    except OSError:
        return 0


def _seen(path: Path) -> tuple[str, ...]:
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return ("link", os.readlink(path))
    if stat.S_ISREG(info.st_mode):
        return ("file", f"{info.st_mode & 0o7777:04o}", hashlib.sha256(path.read_bytes()).hexdigest())
    return (f"{stat.S_IFMT(info.st_mode):o}", f"{info.st_mode & 0o7777:04o}")
