"""How pki-apply is started on a host: the user's own OpenSSH client, and what it means when that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pki.deploy.answers import plain
from pki.errors import PkiError

PROGRAM = "/usr/local/sbin/pki-apply"
CONNECT = 10  # seconds

LOGIN = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": (
        "its host key is not the one that is known here",
        "if the host was set up anew, compare the fingerprint at its console, then: ssh-keygen -R {name}",
    ),
    "Host key verification failed": (
        "its host key is not known here",
        "compare its fingerprint at its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: ssh {name} true",
    ),
    "Permission denied": (
        "it does not let this key in",
        "./run invoke deploy.bootstrap {host}",
    ),
}
REMEDIES = {
    **LOGIN,
    "not found": ("pki-apply is not there", "./run invoke deploy.bootstrap {host}"),
    "No such file or directory": ("pki-apply is not there", "./run invoke deploy.bootstrap {host}"),
    "a password is required": (
        "its account may not start pki-apply by sudo",
        "./run invoke deploy.bootstrap {host}",
    ),
}


NEXT_RUN = "the next run tries again"  # as a hint: nobody has to do anything


class UnreachableError(PkiError):
    """A host that does not answer: nothing is wrong with what it should get."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a host is reached; `name` is what ssh calls it, empty for this machine itself."""

    host: str
    name: str = ""
    user: str = ""
    port: int = 0
    address: str = ""
    config: str = ""
    identity: str = ""

    @property
    def is_local(self) -> bool:
        return not self.name

    def ssh(self) -> tuple[str, ...]:
        """The client with its options, up to and with the destination; the user's own configuration decides the rest."""
        return ("ssh", *self._options(CONNECT, ["-o", "IdentitiesOnly=yes"]), self.name)

    def tunnel(self, forwards: Mapping[str, str], seconds: int) -> tuple[str, ...]:
        """The client that only forwards, from sockets here to `address:port` there, and prints a line once it does.

        The keys of an agent will do, too: what deliveries are made with may start pki-apply there and nothing else.
        """
        options = ["-N", "-o", "ExitOnForwardFailure=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none"]
        options += ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo"]
        options += [word for here, there in forwards.items() for word in ("-L", f"{here}:{there}")]
        return ("env", "SHELL=/bin/sh", "ssh", *self._options(seconds, []), *options, self.name)

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
        return (*self.ssh(), *(("sudo", "-n") if needs_sudo else ()), PROGRAM)

    def failure(self, status: int, complaint: str) -> PkiError:
        """What a connection that brought nothing means."""
        for words, (what, remedy) in REMEDIES.items():
            if words in complaint:
                return PkiError(what, remedy.format(host=self.host, name=self.name or self.host))
        last = plain(complaint.splitlines()[-1]).strip() if complaint else f"exit status {status}"
        if status == 255 or not complaint:
            return UnreachableError(f"cannot be reached: {last}", NEXT_RUN)
        return PkiError(f"pki-apply failed: {last}", f"./run invoke deploy.bootstrap {self.host}")


def no_tunnel(complaint: str) -> str:
    """Why a jump host forwards nothing, as a phrase that reads well after its name."""
    if "prohibited" in complaint:
        return "it does not let this key forward there"
    known = next((what for words, (what, _) in LOGIN.items() if words in complaint), "")
    last = plain(complaint.splitlines()[-1]).strip() if complaint else "it said nothing"
    return known or f"it cannot be reached: {last.removeprefix('ssh: ')}"


def identity_in(ca: Path) -> Path:
    """The key of deployments, if `deploy.bootstrap` made one: an identity for nothing but pki-apply."""
    return ca / "deploy" / "id_ed25519"
