"""How pki-apply is started on a host: the user's own OpenSSH client, and what it means when that fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pki.deploy.answers import plain
from pki.errors import PkiError

PROGRAM = "/usr/local/sbin/pki-apply"
CONNECT = 10  # seconds

REMEDIES = {
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
    "not found": ("pki-apply is not there", "./run invoke deploy.bootstrap {host}"),
    "No such file or directory": ("pki-apply is not there", "./run invoke deploy.bootstrap {host}"),
    "a password is required": (
        "its account may not start pki-apply by sudo",
        "./run invoke deploy.bootstrap {host}",
    ),
}


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
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT}"]
        options += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
        options += ["-F", self.config] if self.config else []
        options += ["-i", self.identity, "-o", "IdentitiesOnly=yes"] if self.identity else []
        options += ["-o", f"HostName={self.address}"] if self.address else []
        options += ["-p", str(self.port)] if self.port else []
        options += ["-l", self.user] if self.user else []
        return ("ssh", *options, self.name)

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
            return UnreachableError(f"cannot be reached: {last}", "the next run tries again")
        return PkiError(f"pki-apply failed: {last}", f"./run invoke deploy.bootstrap {self.host}")


def identity_in(ca: Path) -> Path:
    """The key of deployments, if `deploy.bootstrap` made one: an identity for nothing but pki-apply."""
    return ca / "deploy" / "id_ed25519"
