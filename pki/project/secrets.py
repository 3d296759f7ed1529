"""Read and store the passphrases of keys.

pki.yaml may name a source for each passphrase. A passphrase without a source is in the secrets file, where the program
also stores the passphrases that it generates.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import stat
import subprocess
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pki.common import filesystem, yaml_text
from pki.common.child_processes import remove_from_environment, removed_variable
from pki.common.errors import PkiError, exposed_secret
from pki.common.remedies import RESTORE
from pki.common.terminal import ask_secretly
from pki.config.secret_sources import Secrets, SecretSource
from pki.project.layout import Store

EXPECTED = f"expected lines such as server-1: PASSPHRASE; if it is damaged: {RESTORE}"
NEW = ".new"  # suffix of a name in the secrets file: the new passphrase of a key while it is being changed
COMMAND_TIMEOUT = 60  # seconds


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase, and the name of its source in messages."""

    value: str = field(repr=False)
    source: str


class Passphrases:
    """The passphrases of one project. Each source other than the secrets file is read once per process, when needed.

    Environment variables that are sources are removed from the environment at once, so that no child process gets
    them.
    """

    def __init__(self, layout: Store, config: Secrets) -> None:
        self._layout = layout
        self._config = config
        self._file = layout.home / config.file
        self._fetched: dict[SecretSource, str | PkiError] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        remove_from_environment(source.env for source in config.named.values() if source.env)

    def source_of(self, name: str) -> str:
        """Return the name of the source of a passphrase in messages."""
        source = self._config.source(name)
        return source.description if source else self._config.file

    def file_of(self, name: str) -> Path | None:
        """Return the file that contains a passphrase; None when its source is not a file."""
        source = self._config.source(name)
        if source is None:
            return self._file
        return self._layout.home / source.file if source.file else None

    def is_elsewhere(self, name: str) -> bool:
        """Return whether pki.yaml names a source other than the secrets file for a passphrase."""
        return self._config.source(name) is not None

    def is_interactive(self, name: str) -> bool:
        """Return whether a passphrase must be typed, or can be read only once. Checks skip such a passphrase."""
        source = self._config.source(name)
        return source is not None and (source.prompt is not None or source.fd is not None)

    def candidates(self, name: str) -> list[Passphrase]:
        """Return the passphrases that may decrypt the key called `name`, the likely one first.

        Returns an empty list when none is stored.
        """
        source = self._config.source(name)
        if source:
            return [Passphrase(self._fetch(name, source), source.description)]
        stored = self.stored()
        return [Passphrase(stored[key], self._config.file) for key in (name, name + NEW) if key in stored]

    def named(self, name: str) -> Passphrase | None:
        """Return a passphrase from the source that pki.yaml names for it; None when it names none."""
        return self.candidates(name)[0] if self.is_elsewhere(name) else None

    def new(self, name: str) -> str:
        """Return the passphrase for a new key: from its source, else generated (160 bits) and stored before it is returned.

        Raises PkiError when the secrets file is lost.
        """
        if configured := self.named(name):
            return configured.value
        with self._layout.hold_lock("secrets.lock"):
            stored = self.stored()
            if name not in stored:
                fault = self.fault([path.parent.name for path in self._keys()])
                if fault:
                    raise fault  # a new file would be in the way of restoring the lost file
                stored = self._save({name: secrets.token_hex(20)})
            return stored[name]

    def fault(self, names: Iterable[str], key: str = "") -> PkiError | None:
        """Return an error when the secrets file lacks passphrases of encrypted keys; None otherwise.

        `key` is the name of the key in the message, where there is only one.
        """
        in_file = [name for name in names if not self.is_elsewhere(name)]
        is_exposed = self._file.is_file() and (filesystem.mode_of(self._file) or 0) & 0o077
        if not in_file or is_exposed:  # an exposed file has its own error, which `stored` raises
            return None
        try:
            _, stored = self._read()
        except PkiError as error:
            return error
        missing = [name for name in in_file if not {name, name + NEW} & stored.keys()]
        if not missing:
            return None
        file, missing_names = self._config.file, ", ".join(missing)
        if not self._file.exists():
            return PkiError(f"{file}: is missing; it contained the passphrase of {missing_names}", RESTORE)
        if key:
            return PkiError(f"{key}: its key is encrypted and {file} holds no passphrase for it", RESTORE)
        return PkiError(f"{file}: holds no passphrase for {missing_names}", RESTORE)

    def _keys(self) -> list[Path]:
        """Return the encrypted keys of the intermediates, certified or not."""
        paths = (path for path in self._layout.files("key.pem") if path.is_file())
        return [path for path in paths if b"ENCRYPTED" in (filesystem.read(path) or b"")]

    # -- the secrets file --

    def stored(self) -> dict[str, str]:
        """Return the passphrases in the secrets file, by name.

        Raises PkiError when other users can read the file, as ssh does for its keys.
        """
        _, entries = self._read()
        return {name: value for name, value in entries.items() if isinstance(value, str) and value}

    def save(self, changes: Mapping[str, str | None]) -> None:
        """Write passphrases into the secrets file, and remove those that are None, in one rename."""
        with self._layout.hold_lock("secrets.lock"):
            self._save(changes)

    def _save(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        text, entries = self._read()
        updated_secrets = {name: value for name, value in {**entries, **changes}.items() if value is not None}
        if updated_secrets == entries:
            return self.stored()
        for name, value in changes.items():
            text = _replaced(text, name, value)
        try:
            is_updated = (yaml_text.load(text, "") or {}) == updated_secrets
        except PkiError:
            is_updated = False
        if not is_updated:  # its lines cannot be changed one by one: write it again, without its comments
            text = yaml_text.dump(updated_secrets)
        filesystem.write(self._file, text.encode(), filesystem.SECRET)
        return self.stored()

    def _read(self) -> tuple[str, dict[str, object]]:
        """Return the text of the secrets file, and its entries."""
        name = self._config.file
        data = _private(self._file, name) or b""
        try:
            text = data.decode()
            entries = yaml_text.load(text, name) or {}
        except UnicodeDecodeError:
            raise PkiError(f"{name}: is not UTF-8 text", RESTORE, about=name) from None
        except PkiError as error:
            raise PkiError(error.message, EXPECTED, about=name) from None
        if not isinstance(entries, dict):
            raise PkiError(f"{name}: is not a mapping", EXPECTED, about=name)
        return text, entries

    # -- other sources --

    def _fetch(self, name: str, source: SecretSource) -> str:
        with self._lock:
            if source not in self._fetched:
                try:
                    self._fetched[source] = self._ask(name, source)
                except PkiError as error:  # do not wait again for a command that timed out
                    self._fetched[source] = error
            result = self._fetched[source]
        if isinstance(result, PkiError):
            raise PkiError(result.message, result.hint, result.code, about=result.about)
        return result

    def _ask(self, name: str, source: SecretSource) -> str:
        if source.env:
            data = removed_variable(source.env)
        elif source.credential:
            data = _credential(source)
        elif source.file:
            path = self._layout.home / source.file
            content = _private(path, source.file)
            if content is None:
                raise PkiError(f"{source.file}: is missing, and pki.yaml names it for the passphrase of {name}")
            data = content
        elif source.command:
            data = _output(source, self._layout.home)
        elif source.fd is not None:
            data = self._from_descriptor(source)
        else:
            data = self._typed(name).encode()
        try:
            line = data.decode().partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            raise PkiError(f"{source.description}: is not UTF-8 text") from None
        if not line:
            raise PkiError(f"{source.description}: holds no passphrase for {name}", "pki.yaml names it under secrets")
        return line

    def _from_descriptor(self, source: SecretSource) -> bytes:
        assert source.fd is not None
        try:
            if stat.S_ISREG(os.fstat(source.fd).st_mode):
                return os.pread(source.fd, 1 << 16, 0)  # from its start: another process may have read it
            self._require_single_process(source)
            with os.fdopen(os.dup(source.fd), "rb") as stream:
                return stream.readline()
        except OSError as error:
            raise PkiError(
                f"{source.description}: cannot be read: {error.strerror}", f"open it: … {source.fd}<FILE"
            ) from None

    def _typed(self, name: str) -> str:
        self._require_single_process(SecretSource(prompt="true"))
        typed = ask_secretly(f"passphrase of {name}: ")
        if typed is None:
            raise PkiError(
                f"the passphrase of {name} must be typed, and there is no terminal",
                "start the command at a terminal, or name another source under secrets in pki.yaml",
            )
        return typed

    def _require_single_process(self, source: SecretSource) -> None:
        """Raise PkiError in a forked process: two processes cannot read the same terminal or pipe."""
        if os.getpid() != self._process:
            raise PkiError(
                f"{source.description}: can be read only once, and doit -n uses several processes",
                "run doit without -n, or name another source under secrets in pki.yaml",
            )


def _replaced(text: str, name: str, value: str | None) -> str:
    """Return the text of a secrets file with one entry, on one line, changed, added or removed."""
    line = yaml_text.dump({name: value}) if value is not None else ""
    pattern = re.compile(rf"^(['\"]?){re.escape(name)}\1[ \t]*:.*(\n|\Z)", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text, count=1)
    return text + ("" if not text or text.endswith("\n") else "\n") + line


def _private(path: Path, shown: str) -> bytes | None:
    """Return the content of a file, None when there is none. Raises PkiError when other users can read it."""
    data = filesystem.read(path)
    if (filesystem.mode_of(path) or 0) & 0o077:
        raise exposed_secret(shown)
    return data


def _credential(source: SecretSource) -> bytes:
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), source.credential
    hint = f"start the command from a systemd unit with LoadCredential={name}:FILE"
    if not folder:
        raise PkiError(f"{source.description}: CREDENTIALS_DIRECTORY is not set", hint)
    data = filesystem.read(Path(folder) / str(name))
    if data is None:
        raise PkiError(f"{source.description}: the systemd unit has no such credential", hint)
    return data


def _output(source: SecretSource, home: Path) -> bytes:
    """Return the standard output of a command. It is in no message, whatever happens."""
    command = shlex.split(source.command or "")
    try:
        process = subprocess.Popen(
            command,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PkiError(f"{source.description}: cannot be started: {reason}", f"is {command[0]} installed?") from None
    with process:
        try:
            output, errors = process.communicate(timeout=COMMAND_TIMEOUT)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group: a child of the command may keep its output open
            if isinstance(error, subprocess.TimeoutExpired):
                raise PkiError(
                    f"{source.description}: did not answer within {COMMAND_TIMEOUT} seconds",
                    "type the command yourself to see why",
                ) from None
            raise
    if process.returncode:
        message = " ".join(errors.decode(errors="replace").split())[-300:]
        detail = f": {''.join(c for c in message if c.isprintable())}" if message else ""
        raise PkiError(
            f"{source.description}: failed with exit status {process.returncode}{detail}",
            "type the command yourself to see why",
        )
    return output


def ledger_url(passphrases: Passphrases) -> str:
    """Return the URL of the ledger's database, for the driver that this program supports. Raises PkiError.

    The URL contains a password, so no message contains any part of it.
    """
    candidates = passphrases.candidates("ledger")
    if not candidates:
        raise PkiError(
            "pki.yaml: ledger: postgresql: the secret ledger is missing",
            f"write ledger: postgresql://USER:PASSWORD@HOST/NAME into {passphrases.source_of('ledger')}, "
            "or name its source in pki.yaml: secrets: {ledger: {command: LINE}}",
        )
    url, source = candidates[0].value, candidates[0].source
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise PkiError(
            f"{source}: the secret ledger is no URL of PostgreSQL", "expected postgresql://USER:PASSWORD@HOST/NAME"
        )
    return f"postgresql+psycopg://{rest}"
