"""A machine: namespaces of its own, folders of its own, and whatever is started in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path

from pki.common.child_processes import ready
from pki.common.errors import PkiError

HERE = Path(__file__).parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = dict.fromkeys((str(HERE.parent.parent), sys.prefix, sys.base_prefix))
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
PATIENCE = 30.0  # seconds: what is awaited here takes a tenth of one
PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "nginx": "nginx",
    "haproxy": "haproxy",
    "caddy": "caddy",
    "apache2": "apache2",
    "curl": "curl",
}


def check_programs(*names: str) -> None:
    """Raise PkiError when one of these programs is not installed; it says what to install."""
    missing = [name for name in names if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")]
    if missing:
        packages = sorted({PACKAGES.get(name, name) for name in missing})
        raise PkiError(f"not installed: {', '.join(missing)}", f"apt install {' '.join(packages)}")


def wait_until(done: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise PkiError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Daemon:
    """Something that runs on a machine until it is stopped, or the machine goes."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, word: str) -> None:
        """Wait until it has said a word; raises PkiError when it ends before."""

        def heard() -> bool:
            if word not in self.said and self.process.poll() is not None:
                raise PkiError(f"{self.log.stem} ended before it said {word!r}: {self.said.strip()}")
            return word in self.said

        wait_until(heard, f"{self.log.stem} says {word!r}")

    def stop(self) -> None:
        """End it by its own number, first with good words."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in children(self.process.pid):
                os.kill(child, number)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                continue
            return


@dataclass
class Machine:
    """One machine of a lab; `holder` is its first process, with which all others go."""

    name: str
    scratch: Path
    interface: IPv4Interface | None = None
    vlan: str = ""
    port: str = ""
    holder: int = 0
    daemons: list[Daemon] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return str(self.interface.ip) if self.interface else ""

    def boot(self, hosts: Path, *, overlay: bool) -> None:
        """Make its namespaces and its folders. It ends with this process, even when that is killed: its stdin closes."""
        folder, log = self.scratch / self.name, self.scratch / f"{self.name}.log"
        folder.mkdir()
        layers = "yes" if overlay else "no"
        script = (f"{HERE}/machine.sh", self.name, str(folder), str(hosts), f"{HERE}/systemctl.sh", layers, *NEEDED)
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", "sh", *script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={"PATH": PATH},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if not ready([self._process.stdout.fileno()], [], PATIENCE) or self._process.stdout.readline() != b"ready\n":
            raise PkiError(
                f"the machine {self.name} does not come up: {log.read_text(errors='replace').strip()}",
                "it needs a kernel and a container that allow namespaces and mounts",
            )
        (self.holder,) = children(self._process.pid)

    def close(self) -> None:
        """End everything on it; its namespaces and folders go with its last process."""
        if self._process is None:
            return
        for child in children(self._process.pid):
            os.kill(child, signal.SIGKILL)
        for process in (*(daemon.process for daemon in self.daemons), self._process):
            process.wait(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    # -- what runs on it ----------------------------------------------------------------------------------------------

    def inside(self, *command: str | Path, cwd: str | Path = "/", env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that starts a command on this machine, with a clean environment; it dies with its parent."""
        base = {"PATH": PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
        variables = [f"{name}={value}" for name, value in (base | dict(env or {})).items()]
        line = ("nsenter", "--target", self.holder, *NAMESPACES, "setpriv", "--pdeathsig", "KILL")
        return [str(part) for part in (*line, "env", "-i", f"--chdir={cwd}", *variables, *command)]

    def run(
        self,
        *command: str | Path,
        stdin: str | bytes = b"",
        timeout: float = 60,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as subprocess.run does. Raises PkiError when it fails, unless `check` is False."""
        try:
            done = subprocess.run(
                self.inside(*command, cwd=cwd, env=env),
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PkiError(f"{self.name}: {_shown(command)}: did not end within {timeout:.0f} s") from None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise PkiError(f"{self.name}: {_shown(command)}: exit {done.returncode}: {f'{out}{err}'.strip()}")
        return subprocess.CompletedProcess(list(map(str, command)), done.returncode, out, err)

    def start(
        self, *command: str | Path, cwd: str | Path = "/", env: Mapping[str, str] | None = None, says: str = ""
    ) -> Daemon:
        """Start a command that stays; wait until it has said `says`."""
        log = self.scratch / f"{self.name}-{len(self.daemons)}-{Path(command[0]).name}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                self.inside(*command, cwd=cwd, env=env),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        daemon = Daemon(process, log)
        self.daemons.append(daemon)
        if says:
            daemon.wait_for(says)
        return daemon

    def serve(self, *units: str) -> None:
        """Start daemons as Debian's packages start them: ssh, nginx, haproxy, caddy, apache2."""
        check_programs(*("sshd" if unit == "ssh" else unit for unit in units))
        for unit in units:
            if unit == "ssh":
                self.host_key()
            self.run("systemctl", "start", unit)

    def host_key(self) -> str:
        """The public host key of its sshd, as a line of known_hosts has it: type and key."""
        check_programs("ssh-keygen")
        path = "/etc/ssh/ssh_host_ed25519_key"
        if self.run("test", "-e", path, check=False).returncode:
            self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", path)
        return " ".join(self.read(f"{path}.pub").split()[:2])

    # -- its files ----------------------------------------------------------------------------------------------------

    def read(self, path: str | Path) -> str:
        return self.run("cat", path).stdout

    def write(self, path: str | Path, content: str | bytes, mode: int = 0o644) -> None:
        self.run("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, stdin=content)

    def exists(self, path: str | Path) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0


def children(process: int) -> list[int]:
    """The children of a process, by their numbers outside the machine."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _shown(command: tuple[str | Path, ...]) -> str:
    return " ".join(map(str, command))
