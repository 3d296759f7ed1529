"""How pki-apply is started on a host: the user's own OpenSSH client, and what it means when that fails."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pki.common.errors import ErrorCode, PkiError
from pki.common.visible import plain
from pki.deploy import host_keys
from pki.deploy.host_output import STOPPED
from pki.deploy.process import STANDARD, Limits

PROGRAM = "/usr/local/sbin/pki-apply"
CONNECT_TIMEOUT = 10  # seconds
SHOWN = 120  # characters of what another program than pki-apply says
# Whatever the user's own configuration says for the host, nothing of this machine is lent to it: no agent, no display,
# no port. `-a -x` undo ForwardAgent and ForwardX11, which ClearAllForwardings does not.
NO_FORWARDING = ("-a", "-x", "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no")

BOOTSTRAP = "./run invoke deploy.bootstrap {host}"
LOGIN = {
    "Cannot execute command-line and remote command": (
        "the ssh configuration has a RemoteCommand for {name}, which would run in place of pki-apply",
        "take RemoteCommand out of the part for that host: {asked} | grep -i remotecommand",
    ),
    "Permission denied": (
        "it does not let this key in",
        BOOTSTRAP,
    ),
}
REMEDIES = {
    **LOGIN,
    "not found": ("pki-apply is not there", BOOTSTRAP),
    "No such file or directory": ("pki-apply is not there", BOOTSTRAP),
    **dict.fromkeys(
        ("a password is required", "is not allowed to execute", "is not in the sudoers file", "may not run sudo"),
        ("its account may not start pki-apply by sudo", BOOTSTRAP),
    ),
    "you must have a tty to run sudo": (
        "sudo wants a terminal there (requiretty), and deliveries have none",
        BOOTSTRAP,
    ),
}


SHELL_FILES = "~/.bashrc, ~/.profile, /etc/bash.bashrc or /etc/profile"
NEXT_RUN = "the next run tries again"  # as a hint: nobody has to do anything


class UnreachableError(PkiError):
    """A host that does not answer: nothing is wrong with what it should get. `last` is what ssh said last."""

    code = ErrorCode.UNREACHABLE

    def __init__(self, message: str, hint: str = "", last: str = "") -> None:
        super().__init__(message, hint)
        self.last = last


@dataclass(frozen=True, slots=True)
class Transport:
    """How a host is reached; `name` is what ssh calls it, empty for this machine itself."""

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
        return not self.name

    def ssh_command(self) -> tuple[str, ...]:
        """The client with its options, up to and with the destination; the user's own configuration decides the rest."""
        return ("ssh", *NO_FORWARDING, *self._options(CONNECT_TIMEOUT, ["-o", "IdentitiesOnly=yes"]), self.name)

    @property
    def account(self) -> str:
        """Who is logged in as, in messages."""
        return self.user or ("this user" if self.is_local else "the deployment account")

    @property
    def login_command(self) -> tuple[str, ...]:
        """The command with which a person gets to the same host by the same name, address and port."""
        options = ["-F", self.config] if self.config else []
        options += ["-o", f"HostName={self.address}"] if self.address else []
        options += ["-p", str(self.port)] if self.port else []
        options += ["-l", self.user] if self.user else []
        return ("ssh", *options, self.name)

    def host_key_fault(self, complaint: str) -> tuple[str, str] | None:
        """What is wrong with the key of the host, or of a jump host before it, and what to type; None where nothing is."""
        name = self.address or self.name
        known_as = f"[{name}]:{self.port}" if self.port and self.port != 22 else name
        return host_keys.host_key_fault(self.login_command, known_as, complaint)

    def tunnel_command(self, forwards: Mapping[str, str], seconds: int) -> tuple[str, ...]:
        """The client that only forwards, from sockets here to `address:port` there, and prints a line once it does.

        The keys of an agent will do, too: what deliveries are made with may start pki-apply there and nothing else.
        """
        options = ["-a", "-x", "-N", "-o", "Tunnel=no", "-o", "ExitOnForwardFailure=yes"]
        options += ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        options += ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo"]
        options += [word for here, there in forwards.items() for word in ("-L", f"{here}:{there}")]
        return ("env", "SHELL=/bin/sh", "ssh", *self._options(seconds, []), *options, self.name)

    def config_command(self) -> tuple[str, ...]:
        """What asks ssh for its configuration of the tunnel, whose own forwarding could not be told from others."""
        return ("ssh", "-G", *self._options(CONNECT_TIMEOUT, []), self.name)

    def _options(self, seconds: int, only: Sequence[str]) -> list[str]:
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]
        options += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
        options += ["-F", self.config] if self.config else []
        options += ["-i", self.identity, *only] if self.identity else []
        options += ["-o", f"HostName={self.address}"] if self.address else []
        options += ["-p", str(self.port)] if self.port else []
        options += ["-l", self.user] if self.user else []
        return options

    def command(self, *, as_root: bool) -> tuple[str, ...]:
        """What starts pki-apply; where the key has a forced command, sshd starts that whatever is asked for."""
        if self.is_local:
            return (PROGRAM,) if as_root else ("sudo", "-n", PROGRAM)
        needs_sudo = self.user not in {"", "root"}
        return (*self.ssh_command(), *(("sudo", "-n") if needs_sudo else ()), PROGRAM)

    def connection_error(self, status: int, complaint: str) -> PkiError:
        """What a connection that brought nothing means."""
        if not self.is_local and (refused := self.host_key_fault(complaint)):
            return PkiError(*refused)
        for words, (what, remedy) in REMEDIES.items():
            if words in complaint:
                code = ErrorCode.NEEDS_BOOTSTRAP if remedy is BOOTSTRAP else None
                return PkiError(what.format(name=self.name), remedy.format(**self._placeholders), code)
        last = plain(complaint.splitlines()[-1]).strip() if complaint else f"exit status {status}"
        if status == 255 or not complaint:
            return UnreachableError(f"cannot be reached: {last}", NEXT_RUN, last)
        return PkiError(f"pki-apply failed: {last}", BOOTSTRAP.format(host=self.host), ErrorCode.NEEDS_BOOTSTRAP)

    @property
    def _placeholders(self) -> dict[str, str]:
        host = self.host
        asked = shlex.join(("ssh", "-G", *self.login_command[1:]))
        return {"host": host, "name": self.name or host, "asked": asked}

    def limit_error(self, what: str) -> PkiError:
        """What a host means that takes too long, or says too much; nothing waits for it any longer."""
        return PkiError(
            f"{STOPPED}{what}",
            f"look at {self.host}; in pki.yaml, deploy.progress_timeout and deploy.host_timeout say how long a host may take",
        )

    def greeting_error(self, line: str) -> PkiError:
        """What another program than pki-apply said first: the shell of the account, as a rule."""
        return PkiError(
            f"the login shell of {self.account} on {self.host} prints text before pki-apply starts: "
            f"'{plain(line, SHOWN)}'",
            f"on {self.host}, remove it from {SHELL_FILES} of that account, or print only where PS1 is set; "
            f"if nothing prints there: ./run invoke deploy.bootstrap {self.host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )

    def start_error(self, status: int, complaint: str) -> PkiError:
        """What a connection means that ended before pki-apply said anything."""
        if complaint or status == 255 or self.is_local:
            return self.connection_error(status, complaint or "the connection was lost")
        return PkiError(
            f"the login shell of {self.account} on {self.host} ended with {status} before pki-apply started",
            f"on {self.host}, look for exit, exec or return in {SHELL_FILES} of that account, and at its shell in "
            f"/etc/passwd; then: ./run invoke deploy.bootstrap {self.host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )


def tunnel_fault(way: Transport, complaint: str) -> str:
    """Why a jump host forwards nothing, as a phrase that reads well after its name."""
    if refused := way.host_key_fault(complaint):
        return refused[0]
    if "prohibited" in complaint:
        return "it does not let this key forward there"
    known = next((what for words, (what, _) in LOGIN.items() if words in complaint), "")
    last = plain(complaint.splitlines()[-1]).strip() if complaint else f"{way.login_command[0]} ended without a word"
    return known or f"it cannot be reached: {last.removeprefix('ssh: ')}"


def deploy_key_path(ca: Path) -> Path:
    """The key of deployments, if `deploy.bootstrap` made one: an identity for nothing but pki-apply."""
    return ca / "deploy" / "id_ed25519"
