"""The preparation of a host: pki-apply, pki-trust, pki-apply.conf, and a key that may start pki-apply and nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pki.common import filesystem
from pki.common.errors import ErrorCode, PkiError
from pki.common.filesystem import give_all_to_folder_owner
from pki.common.visible import line_fault, visible_line
from pki.config.fields import ACCOUNT
from pki.deploy import release_roots
from pki.deploy.host_output import STOPPED
from pki.deploy.host_session import Session
from pki.deploy.payload import Payload
from pki.deploy.process import STANDARD, LimitError, Limits, run
from pki.deploy.protocol import command_name, manifest_rows
from pki.deploy.receipt import Receipt
from pki.deploy.ssh import PROGRAM, SHELL_FILES, Transport, deploy_key_path

SSH_FAILED = 255  # the exit status of ssh itself, not of the command on the host
COMPLAINT = 2000  # characters
HOST_SIDE = Path(__file__).parent / "host"
TRUST = "/usr/local/sbin/pki-trust"  # outside of all folders to which deliveries may write
NEEDED = ("awk", "cp", "dd", "flock", "mv", "sha256sum", "stat", "sync", "tar", "timeout")


class _SshError(PkiError):
    """ssh failed, or a local program with the same exit status; `what` is the message."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The parts of the bootstrap script for one host; `public_key` and `account` are "" for this machine itself."""

    host: str
    permissions: str
    account: str = ""
    public_key: str = ""

    def script(self) -> str:
        """Return a POSIX sh script to run as root on the host. It contains no secret."""
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
        """Return the line for authorized_keys: the key may start pki-apply alone, whatever command is requested."""
        if not self.public_key:
            return ""
        for what, text in (("account", self.account), ("public key", self.public_key)):
            _require_single_line(f"{self.host}: the {what} for authorized_keys", text)
        command = PROGRAM if self.account == "root" else f"sudo -n {PROGRAM}"
        return f'restrict,command="{command}" {self.public_key}'


def permissions_text(
    host: str, payload: Payload, receipt: Receipt | None = None, *, exact: bool, trusted: Sequence[str] = ()
) -> str:
    """Return pki-apply.conf: what may be placed on a host, and which commands may run.

    With `exact`, the files of the release and no others, and roots by their content; otherwise the folders of the
    files, which with the configuration of a proxy equals root access. Files of `receipt` that the release no longer has
    may be removed, but not placed. `trusted` are accounts and groups that may be able to write in folders of the files.
    Raises PkiError for a name that no account can have.
    """
    for account in trusted:
        if not re.fullmatch(ACCOUNT, account) or account in {"root", "staff"}:
            raise PkiError(f"--trust {account!r}: expected the name of an account or group, such as freerad")
    files, paths = payload.release.files, {file.path for file in payload.release.files}
    obsolete = [file for file in (receipt.files if receipt else ()) if file["path"] not in paths]
    commands = {command for file in files for command in (file.validate, file.reload) if command}
    commands |= {file["reload"] for file in obsolete} - {""}
    lines = _exactly(payload, obsolete) if exact else _folders(payload, obsolete)
    names = sorted((command_name(command), command) for command in commands)
    for (name, command), (next_name, next_command) in pairwise([("-", ""), *names]):
        if name == next_name:
            raise PkiError(
                f"{host}: {next_command!r} {f'and {command!r} have' if command else 'has'} the name {name!r} on the host",
                "put one of them into a script on the host, and name that in the template",
            )
    all_lines = [f"host {host}", *dict.fromkeys(lines), *(f"run {name} {command}" for name, command in names)]
    all_lines += [f"trust {account}" for account in dict.fromkeys(trusted)]
    for line in all_lines:
        _require_single_line(f"{host}: {line!a} in pki-apply.conf", line)
    return "".join(f"{line}\n" for line in all_lines)


def _require_single_line(what: str, text: str) -> None:
    """Raise PkiError unless a text is one line: each line of these files grants a permission."""
    if fault := line_fault(text):
        raise PkiError(
            f"{what}: {fault}", "write it in one line, then: ./run doit; then: ./run invoke deploy.bootstrap HOST"
        )


def _folders(payload: Payload, obsolete: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for file in payload.release.files:
        folder = PurePosixPath(file.path).parent
        is_shallow = len(folder.parts) < 3  # never permit /etc itself
        yield f"file {file.path}" if is_shallow else f"under {folder}"
        if file.set:
            yield f"under {file.set}"
    for old_file in obsolete:
        yield f"remove {old_file['path']}"
        if old_file.get("set"):
            yield f"set {old_file['set']}"


def _exactly(payload: Payload, obsolete: Sequence[Mapping[str, str]]) -> Iterator[str]:
    roots = release_roots.find_roots(payload)
    for file in payload.release.files:
        is_root = file.path in roots.paths
        yield f"{'roots' if is_root else 'file'} {file.path}"
        if is_root or file.crl or file.path in roots.authorities:  # a file of the next generation may be added
            yield f"hold {re.sub('[0-9]+', '#', file.path)}"
        if file.set:
            yield f"set {file.set}"
    for old_file in obsolete:
        yield f"{'roots' if release_roots.is_trust_store_path(old_file['path']) else 'remove'} {old_file['path']}"
        if old_file.get("set"):
            yield f"set {old_file['set']}"
    for digest in roots.digests:
        yield f"root {digest}"


def deploy_key(ca: Path) -> str:
    """Return the public key of deployments; creates the key pair with ssh-keygen the first time."""
    path = deploy_key_path(ca)
    if not path.exists():
        filesystem.make_folder(path.parent, 0o700)
        command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "doit-pki", "-f", str(path))
        _run(command, "", "install the OpenSSH client")
        give_all_to_folder_owner(path.parent)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def install(bootstrap: Bootstrap, transport: Transport, *, as_root: bool) -> str:
    """Run the bootstrap script on the host and return the last line of its output. Raises PkiError when it fails."""
    shell = ("sh", "-s") if as_root else ("sudo", "-n", "sh", "-s")
    command = shell if transport.is_local else (*transport.ssh_command(), shlex.join(shell))
    by_hand = f"by hand: ./run invoke deploy.bootstrap {bootstrap.host} --show > bootstrap.sh; there, as root: sh bootstrap.sh"
    try:
        return _run(command, bootstrap.script(), by_hand, transport.limits)
    except _SshError as error:
        if transport.is_local:
            raise
        failure = transport.connection_error(255, error.what)
        # the hint of these errors is deploy.bootstrap, the command that runs now
        if failure.code in {ErrorCode.UNREACHABLE, ErrorCode.NEEDS_BOOTSTRAP}:
            failure = PkiError(
                failure.message, f"give ssh a login on the host: as root, or --login USER with sudo; or {by_hand}"
            )
        raise failure from None


def verify_start(transport: Transport, payload: Payload, *, as_root: bool) -> None:
    """Start pki-apply once as deliveries do, without a change. Raises PkiError when that fails."""
    try:
        with Session(transport, manifest_rows(payload, []), as_root=as_root) as session:
            session.inspect()
            session.end()
    except PkiError as error:
        is_typed = error.code is ErrorCode.NEEDS_BOOTSTRAP and not transport.is_local
        hint = f"try it: {shlex.join(transport.login_command)}" if is_typed else error.hint
        what = f"{transport.host}: pki-apply is installed, but deliveries cannot start it: {error.message}"
        raise PkiError(what, hint) from None


def _run(command: tuple[str, ...], text: str, remedy: str, limits: Limits = STANDARD) -> str:
    try:
        status, output, errors = run(command, text.encode(), limits)
    except FileNotFoundError:
        raise PkiError(f"{command[0]}: not found", remedy) from None
    except LimitError as limit:
        raise PkiError(f"{command[0]}: {STOPPED}{limit}", remedy) from None
    if status:
        silence = (
            f"{command[0]} ended with exit status {status} and no message, so the script did not start: look for exit, "
            f"exec or return in {SHELL_FILES} of the account on the host"
        )
        message = visible_line(errors or output, COMPLAINT).strip() or silence
        raise _SshError(message, remedy, lead=str(status)) if status == SSH_FAILED else PkiError(message, remedy)
    return visible_line("\n".join(output.splitlines()[-1:]))
