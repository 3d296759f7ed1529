"""Starting pki-apply on a host with the user's OpenSSH client, and the errors of ssh as messages."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pki.common.errors import ErrorCode, PkiError
from pki.common.visible import visible_line
from pki.deploy import host_keys
from pki.deploy.host_output import STOPPED
from pki.deploy.process import STANDARD, Limits

PROGRAM = "/usr/local/sbin/pki-apply"
CONNECT_TIMEOUT = 10  # seconds
QUOTED_CHARACTERS = 120  # characters of another program's output that a message quotes
# No host gets access to the agent, the display or a port of this machine, whatever the user's ssh configuration says.
# `-a -x` undo ForwardAgent and ForwardX11, which ClearAllForwardings does not (ssh_config(5)).
NO_FORWARDING = ("-a", "-x", "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no")

BOOTSTRAP = "./run invoke deploy.bootstrap {host}"
LOGIN_FAULTS = {
    "Cannot execute command-line and remote command": (
        "the ssh configuration has a RemoteCommand for {name}, which would run instead of pki-apply",
        "remove RemoteCommand for that host; to find it: {option_listing} | grep -i remotecommand",
    ),
    "Permission denied": (
        "permission denied: the host does not accept the deployment key",
        BOOTSTRAP,
    ),
}
START_FAULTS = {
    **LOGIN_FAULTS,
    "not found": ("pki-apply is not installed", BOOTSTRAP),
    "No such file or directory": ("pki-apply is not installed", BOOTSTRAP),
    **dict.fromkeys(
        ("a password is required", "is not allowed to execute", "is not in the sudoers file", "may not run sudo"),
        ("sudo does not permit the account to run pki-apply", BOOTSTRAP),
    ),
    "you must have a tty to run sudo": (
        "sudo requires a terminal (requiretty), which deliveries do not have",
        BOOTSTRAP,
    ),
}


SHELL_FILES = "~/.bashrc, ~/.profile, /etc/bash.bashrc or /etc/profile"
NEXT_RUN = "the next run tries again"  # the hint where no action is required


class UnreachableError(PkiError):
    """The host does not answer: its release is not at fault. `last_line` is that of ssh's output."""

    code = ErrorCode.UNREACHABLE

    def __init__(self, message: str, hint: str = "", last_line: str = "") -> None:
        super().__init__(message, hint)
        self.last_line = last_line


@dataclass(frozen=True, slots=True)
class Transport:
    """The connection to pki-apply on a host; `name` is the ssh destination, "" for this machine itself.

    `config` is a file for `ssh -F`, `identity` a private key file; "" and 0 leave the choice to the ssh configuration.
    """

    host: str
    name: str = ""
    user: str = ""
    port: int = 0
    address: str = ""
    config: str = ""
    identity: str = ""
    limits: Limits = STANDARD

    @property
    def is_local(self) -> bool:
        """Return whether the host is this machine."""
        return not self.name

    def ssh_command(self) -> tuple[str, ...]:
        """Return the ssh command up to the destination; the user's configuration decides what is not given."""
        return ("ssh", *NO_FORWARDING, *self._options(CONNECT_TIMEOUT, ["-o", "IdentitiesOnly=yes"]), self.name)

    @property
    def account(self) -> str:
        """The account that is logged in to, for messages."""
        return self.user or ("this user" if self.is_local else "the deployment account")

    @property
    def login_command(self) -> tuple[str, ...]:
        """The command with which you log in to the same host with the same name, address and port."""
        options = ["-F", self.config] if self.config else []
        options += ["-o", f"HostName={self.address}"] if self.address else []
        options += ["-p", str(self.port)] if self.port else []
        options += ["-l", self.user] if self.user else []
        return ("ssh", *options, self.name)

    def host_key_fault(self, complaint: str) -> tuple[str, str] | None:
        """Return what is wrong with the key of the host or a jump host, and what to type; None if nothing is."""
        name = self.address or self.name
        known_as = f"[{name}]:{self.port}" if self.port and self.port != 22 else name
        return host_keys.host_key_fault(self.login_command, known_as, complaint)

    def tunnel_command(self, forwards: Mapping[str, str], seconds: int) -> tuple[str, ...]:
        """Return the ssh command that only forwards, and prints a line once it does.

        `forwards` maps sockets of this machine to `address:port` on the other side. Keys of an agent are allowed here,
        because the deployment key may start pki-apply and nothing else.
        """
        options = ["-a", "-x", "-N", "-o", "Tunnel=no", "-o", "ExitOnForwardFailure=yes"]
        options += ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        options += ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo"]
        options += [word for local, remote in forwards.items() for word in ("-L", f"{local}:{remote}")]
        return ("env", "SHELL=/bin/sh", "ssh", *self._options(seconds, []), *options, self.name)

    def config_command(self) -> tuple[str, ...]:
        """Return the command that prints ssh's configuration for the tunnel."""
        return ("ssh", "-G", *self._options(CONNECT_TIMEOUT, []), self.name)

    def _options(self, seconds: int, identity_options: Sequence[str]) -> list[str]:
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]
        options += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
        options += ["-F", self.config] if self.config else []
        options += ["-i", self.identity, *identity_options] if self.identity else []
        options += ["-o", f"HostName={self.address}"] if self.address else []
        options += ["-p", str(self.port)] if self.port else []
        options += ["-l", self.user] if self.user else []
        return options

    def command(self, *, as_root: bool) -> tuple[str, ...]:
        """Return the command that starts pki-apply; a forced command in authorized_keys replaces it."""
        if self.is_local:
            return (PROGRAM,) if as_root else ("sudo", "-n", PROGRAM)
        needs_sudo = self.user not in {"", "root"}
        return (*self.ssh_command(), *(("sudo", "-n") if needs_sudo else ()), PROGRAM)

    def connection_error(self, status: int, complaint: str) -> PkiError:
        """Return the error for a connection that ended without an answer, from its exit status and error output."""
        if not self.is_local and (host_key_error := self.host_key_fault(complaint)):
            return PkiError(*host_key_error)
        for pattern, (message, remedy) in START_FAULTS.items():
            if pattern in complaint:
                code = ErrorCode.NEEDS_BOOTSTRAP if remedy is BOOTSTRAP else None
                return PkiError(message.format(name=self.name), remedy.format(**self._placeholders), code)
        last_line = visible_line(complaint.splitlines()[-1]).strip() if complaint else f"exit status {status}"
        if status == 255 or not complaint:
            return UnreachableError(f"cannot be reached: {last_line}", NEXT_RUN, last_line)
        return PkiError(f"pki-apply failed: {last_line}", BOOTSTRAP.format(host=self.host), ErrorCode.NEEDS_BOOTSTRAP)

    @property
    def _placeholders(self) -> dict[str, str]:
        host = self.host
        option_listing = shlex.join(("ssh", "-G", *self.login_command[1:]))
        return {"host": host, "name": self.name or host, "option_listing": option_listing}

    def limit_error(self, what: str) -> PkiError:
        """Return the error for a host that took too long or sent too much."""
        return PkiError(
            f"{STOPPED}{what}",
            f"check {self.host}; the limits are deploy.progress_timeout and deploy.host_timeout in pki.yaml",
        )

    def greeting_error(self, line: str) -> PkiError:
        """Return the error for output before pki-apply's greeting, usually from the account's login shell."""
        return PkiError(
            f"the login shell of {self.account} on {self.host} prints text before pki-apply starts: "
            f"'{visible_line(line, QUOTED_CHARACTERS)}'",
            f"on {self.host}, remove it from {SHELL_FILES} of that account, or print only where PS1 is set; "
            f"if nothing prints there: ./run invoke deploy.bootstrap {self.host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )

    def start_error(self, status: int, complaint: str) -> PkiError:
        """Return the error for a connection that ended before pki-apply sent an answer."""
        if complaint or status == 255 or self.is_local:
            return self.connection_error(status, complaint or "the connection was lost")
        return PkiError(
            f"the login shell of {self.account} on {self.host} ended with {status} before pki-apply started",
            f"on {self.host}, look for exit, exec or return in {SHELL_FILES} of that account, and check its shell in "
            f"/etc/passwd; then: ./run invoke deploy.bootstrap {self.host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )


def tunnel_fault(transport: Transport, complaint: str) -> str:
    """Return why a jump host forwards nothing, as the rest of a sentence that begins with its name."""
    if fault := transport.host_key_fault(complaint):
        return fault[0]
    if "prohibited" in complaint:
        return "it does not permit this key to forward ports"
    login_fault = next((what for words, (what, _) in LOGIN_FAULTS.items() if words in complaint), "")
    last = (
        visible_line(complaint.splitlines()[-1]).strip()
        if complaint
        else f"{transport.login_command[0]} ended without a message"
    )
    return login_fault or f"it cannot be reached: {last.removeprefix('ssh: ')}"


def deploy_key_path(ca: Path) -> Path:
    """Return the path of the deployment key, which can start nothing but pki-apply."""
    return ca / "deploy" / "id_ed25519"
