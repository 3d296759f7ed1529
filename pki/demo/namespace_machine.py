"""A machine of the demo: its own namespaces and folders, and the processes in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from pki.common.child_processes import wait_ready
from pki.common.errors import PkiError

HERE = Path(__file__).parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = dict.fromkeys((str(HERE.parent.parent), sys.prefix, sys.base_prefix))
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
TIMEOUT = 30.0  # seconds; the steps take a tenth of a second
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
    """Raise PkiError when one of these programs is not installed, with the command that installs it."""
    missing_programs = [name for name in names if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")]
    if missing_programs:
        packages = sorted({PACKAGES.get(name, name) for name in missing_programs})
        raise PkiError(f"not installed: {', '.join(missing_programs)}", f"apt install {' '.join(packages)}")


def wait_until(done: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until `done()` is true. Raises PkiError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise PkiError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Daemon:
    """A process that runs on a machine until it is stopped or the machine is closed."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """Return everything that it has printed."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until it has printed a text. Raises PkiError when it ends before."""

        def has_printed() -> bool:
            if text not in self.output and self.process.poll() is not None:
                raise PkiError(f"{self.log.stem} ended before it printed {text!r}: {self.output.strip()}")
            return text in self.output

        wait_until(has_printed, f"{self.log.stem} prints {text!r}")

    def stop(self) -> None:
        """Stop it: SIGTERM, then SIGKILL after 5 seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in children(self.process.pid):
                os.kill(child, number)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                continue
            return


@dataclass
class NamespaceMachine:
    """One machine of a lab. `holder` is its first process; all others end with it."""

    name: str
    scratch: Path
    interface: IPv4Interface | IPv6Interface | None = None
    vlan: str = ""
    port: str = ""
    holder: int = 0
    daemons: list[Daemon] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Return its first address; "" for the router."""
        return str(self.interface.ip) if self.interface else ""

    def boot(self, hosts: Path, *, overlay: bool) -> None:
        """Create its namespaces and folders.

        The machine ends with this process, even when that is killed, because its standard input closes.
        """
        folder, log = self.scratch / self.name, self.scratch / f"{self.name}.log"
        folder.mkdir()
        layers = "yes" if overlay else "no"
        script = (f"{HERE}/machine.sh", self.name, str(folder), str(hosts), f"{HERE}/systemctl.sh", layers, *NEEDED)
        with log.open("wb") as log_file:
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", "sh", *script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env={"PATH": PATH},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        has_output = wait_ready([self._process.stdout.fileno()], [], TIMEOUT)
        if not has_output or self._process.stdout.readline() != b"ready\n":
            raise PkiError(
                f"the machine {self.name} does not start: {log.read_text(errors='replace').strip()}",
                "kernel and container must allow namespaces and mounts",
            )
        (self.holder,) = children(self._process.pid)

    def close(self) -> None:
        """End every process on it; its namespaces and folders disappear with the last one."""
        if self._process is None:
            return
        for child in children(self._process.pid):
            os.kill(child, signal.SIGKILL)
        for process in (*(daemon.process for daemon in self.daemons), self._process):
            process.wait(TIMEOUT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    # -- what runs on it ----------------------------------------------------------------------------------------------

    def inside(self, *command: str | Path, cwd: str | Path = "/", env: Mapping[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command on this machine in a clean environment.

        It ends with its parent.
        """
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
            process = subprocess.run(
                self.inside(*command, cwd=cwd, env=env),
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PkiError(f"{self.name}: {_shown(command)}: did not end within {timeout:.0f} s") from None
        out, err = process.stdout.decode(errors="replace"), process.stderr.decode(errors="replace")
        if check and process.returncode:
            raise PkiError(f"{self.name}: {_shown(command)}: exit {process.returncode}: {f'{out}{err}'.strip()}")
        return subprocess.CompletedProcess(list(map(str, command)), process.returncode, out, err)

    def start(
        self, *command: str | Path, cwd: str | Path = "/", env: Mapping[str, str] | None = None, says: str = ""
    ) -> Daemon:
        """Start a command that keeps running; wait until it has printed `says`."""
        log = self.scratch / f"{self.name}-{len(self.daemons)}-{Path(command[0]).name}.log"
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                self.inside(*command, cwd=cwd, env=env),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        daemon = Daemon(process, log)
        self.daemons.append(daemon)
        if says:
            daemon.wait_for(says)
        return daemon

    def serve(self, *units: str) -> None:
        """Start daemons as the Debian packages do: ssh, nginx, haproxy, caddy, apache2."""
        check_programs(*("sshd" if unit == "ssh" else unit for unit in units))
        for unit in units:
            if unit == "ssh":
                self.host_key()
            self.run("systemctl", "start", unit)

    def host_key(self) -> str:
        """Return the public host key of its sshd, type and key, as in known_hosts."""
        check_programs("ssh-keygen")
        path = "/etc/ssh/ssh_host_ed25519_key"
        if self.run("test", "-e", path, check=False).returncode:
            self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", path)
        return " ".join(self.read(f"{path}.pub").split()[:2])

    # -- its files ----------------------------------------------------------------------------------------------------

    def read(self, path: str | Path) -> str:
        """Return the text of a file on the machine."""
        return self.run("cat", path).stdout

    def write(self, path: str | Path, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file on the machine."""
        self.run("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, stdin=content)

    def exists(self, path: str | Path) -> bool:
        """Return whether a file exists on the machine."""
        return self.run("test", "-e", path, check=False).returncode == 0


def children(process: int) -> list[int]:
    """Return the child processes of a process, by their numbers outside the machine."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _shown(command: tuple[str | Path, ...]) -> str:
    return " ".join(map(str, command))
