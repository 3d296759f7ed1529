"""What a host needs once: our two scripts, what is permitted there, and a key that may start one of them and nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pki.common import filesystem
from pki.common.errors import ErrorCode, PkiError
from pki.common.filesystem import leave_all_to_owner
from pki.common.visible import line_fault, plain
from pki.deploy import release_roots
from pki.deploy.host_output import STOPPED
from pki.deploy.payload import Payload
from pki.deploy.process import STANDARD, LimitError, Limits, run
from pki.deploy.protocol import Session, command_name, manifest_rows
from pki.deploy.receipt import Receipt
from pki.deploy.ssh import PROGRAM, Transport, deploy_key_path

SSH_FAILED = 255  # the exit status of ssh where it could not start the command
COMPLAINT = 2000  # characters
HOST_SIDE = Path(__file__).parent / "host"
TRUST = "/usr/local/sbin/pki-trust"  # what fills trust stores, so that no delivery can exchange it
SSH_FAILED = 255  # ssh itself, and not what it started there
NEEDED = ("awk", "cp", "dd", "flock", "mv", "sha256sum", "stat", "sync", "tar", "timeout")


class _SshError(PkiError):
    """ssh itself failed, or a program of this machine that ends with the same status; `what` are its words."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What is installed on one host: `public_key` and `account` are empty for this machine itself."""

    host: str
    permissions: str
    account: str = ""
    public_key: str = ""

    def script(self) -> str:
        """A POSIX sh script, to be run there as root; it holds no secret."""
        text = (HOST_SIDE / "bootstrap.sh").read_text()
        values = {
            "NEEDED": " ".join(NEEDED),
            "PROGRAM": PROGRAM,
            "ACCOUNT": self.account,
            "AUTHORIZED": self._authorized(),
            "PERMISSIONS": self.permissions.rstrip("\n"),
            "TRUST": TRUST,
            "PKI_APPLY": (HOST_SIDE / "pki-apply").read_text().rstrip("\n"),
            "PKI_TRUST": (HOST_SIDE / "pki-trust").read_text().rstrip("\n"),
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text

    def _authorized(self) -> str:
        """The line for authorized_keys: the key may start pki-apply, whatever it asks for."""
        if not self.public_key:
            return ""
        for what, text in (("account", self.account), ("public key", self.public_key)):
            _require_single_line(f"{self.host}: the {what} for authorized_keys", text)
        command = PROGRAM if self.account == "root" else f"sudo -n {PROGRAM}"
        return f'restrict,command="{command}" {self.public_key}'


def permissions_text(host: str, payload: Payload, receipt: Receipt | None = None, *, exact: bool) -> str:
    """pki-apply.conf: what may be placed on a host, and what may be run there.

    With `exact` these files and no others, and of roots these contents; otherwise the folders that they lie in, which
    for the configuration of a proxy is as much as root. What is there by its `receipt` and wanted no longer may be
    removed, and not placed.
    """
    files, wanted = payload.release.files, {file.path for file in payload.release.files}
    old = [one for one in (receipt.files if receipt else ()) if one["path"] not in wanted]
    commands = {command for file in files for command in (file.validate, file.reload) if command}
    commands |= {one["reload"] for one in old} - {""}
    allowed = _exactly(payload, old) if exact else _folders(payload, old)
    names = sorted((command_name(command), command) for command in commands)
    for (name, command), (other, another) in pairwise([("-", ""), *names]):
        if name == other:
            raise PkiError(
                f"{host}: {another!r} {f'and {command!r} have' if command else 'has'} the name {name!r} there",
                "put one of them into a script on the host, and name that in the template",
            )
    lines = [f"host {host}", *dict.fromkeys(allowed), *(f"run {name} {command}" for name, command in names)]
    for line in lines:
        _require_single_line(f"{host}: {line!a} in pki-apply.conf", line)
    return "".join(f"{line}\n" for line in lines)


def _require_single_line(what: str, text: str) -> None:
    """Raise PkiError unless a text is one line: each line of these files permits something of its own."""
    if fault := line_fault(text):
        raise PkiError(
            f"{what}: {fault}", "write it in one line, then: ./run doit; and ./run invoke deploy.bootstrap HOST"
        )


def _folders(payload: Payload, old: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for file in payload.release.files:
        folder = PurePosixPath(file.path).parent
        is_shallow = len(folder.parts) < 3  # /etc itself is no folder to hand out
        yield f"file {file.path}" if is_shallow else f"under {folder}"
        if file.set:
            yield f"under {file.set}"
    for one in old:
        yield f"remove {one['path']}"
        if one.get("set"):
            yield f"set {one['set']}"


def _exactly(payload: Payload, old: Sequence[Mapping[str, str]]) -> Iterator[str]:
    accepted = release_roots.find_roots(payload)
    for file in payload.release.files:
        is_root = file.path in accepted.paths
        yield f"{'roots' if is_root else 'file'} {file.path}"
        if is_root or file.crl or file.path in accepted.authorities:  # another generation may come beside it
            yield f"hold {re.sub('[0-9]+', '#', file.path)}"
        if file.set:
            yield f"set {file.set}"
    for one in old:
        yield f"{'roots' if release_roots.is_trust_store_path(one['path']) else 'remove'} {one['path']}"
        if one.get("set"):
            yield f"set {one['set']}"
    for digest in accepted.digests:
        yield f"root {digest}"


def deploy_key(ca: Path) -> str:
    """The public key of deployments, made with ssh-keygen the first time."""
    path = deploy_key_path(ca)
    if not path.exists():
        filesystem.make_folder(path.parent, 0o700)
        command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "doit-pki", "-f", str(path))
        _run(command, "", "install the OpenSSH client")
        leave_all_to_owner(path.parent)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def install(bootstrap: Bootstrap, way: Transport, *, as_root: bool) -> str:
    """Run the script on the host. Returns what it says; raises PkiError with its words when it fails."""
    shell = ("sh", "-s") if as_root else ("sudo", "-n", "sh", "-s")
    command = shell if way.is_local else (*way.ssh_command(), shlex.join(shell))
    by_hand = f"by hand: ./run invoke deploy.bootstrap {bootstrap.host} --show > bootstrap.sh; there, as root: sh bootstrap.sh"
    try:
        return _run(command, bootstrap.script(), by_hand, way.limits)
    except _SshError as error:
        if way.is_local:
            raise
        told = way.connection_error(255, error.what)
        if told.code in {ErrorCode.UNREACHABLE, ErrorCode.NEEDS_BOOTSTRAP}:  # deploy.bootstrap is what was typed
            told = PkiError(
                told.message, f"ssh must get in there, as root or, with --login USER, to sudo; or {by_hand}"
            )
        raise told from None


def verify_start(way: Transport, payload: Payload, *, as_root: bool) -> None:
    """Let deliveries start pki-apply once, which changes nothing there. Raises PkiError when they cannot."""
    try:
        with Session(way, manifest_rows(payload, []), as_root=as_root) as session:
            session.inspect()
            session.end()
    except PkiError as error:
        # what was just typed is no advice
        is_typed = error.code is ErrorCode.NEEDS_BOOTSTRAP and not way.is_local
        hint = f"try it: {shlex.join(way.login_command)}" if is_typed else error.hint
        what = f"{way.host}: pki-apply is in place, and deliveries cannot start it: {error.message}"
        raise PkiError(what, hint) from None


def _run(command: tuple[str, ...], text: str, remedy: str, limits: Limits = STANDARD) -> str:
    try:
        status, said, complaint = run(command, text.encode(), limits)
    except FileNotFoundError:
        raise PkiError(f"{command[0]}: not found", remedy) from None
    except LimitError as limit:
        raise PkiError(f"{command[0]}: {STOPPED}{limit}", remedy) from None
    if status:
        words = plain(complaint or said, COMPLAINT)
        raise _SshError(words, remedy, lead=str(status)) if status == SSH_FAILED else PkiError(words, remedy)
    return plain("\n".join(said.splitlines()[-1:]))
