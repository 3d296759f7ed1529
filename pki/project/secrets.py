"""Passphrases: each from the source that pki.yaml names for it, or from the secrets file, where new ones are kept."""

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
from pki.common.child_processes import withheld, withhold
from pki.common.errors import PkiError, exposed
from pki.common.remedies import RESTORE
from pki.common.terminal import ask_secretly
from pki.config.model import Secrets, SecretSource
from pki.project.layout import Store

EXPECTED = f"expected lines such as server-1: PASSPHRASE; if it is damaged: {RESTORE}"
NEW = ".new"  # behind a name: the passphrase to which a key is just being moved
PATIENCE = 60  # seconds for a command to answer


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase, and what messages call the place that it came from."""

    value: str = field(repr=False)
    source: str


class Passphrases:
    """What opens the keys of one project. Sources besides the secrets file are asked once in a process, when needed.

    Environment variables that are sources leave the environment at once, before any other program is started.
    """

    def __init__(self, project: Store, said: Secrets) -> None:
        self._store = project
        self._said = said
        self._file = project.home / said.file
        self._fetched: dict[SecretSource, str | PkiError] = {}
        self._turn = threading.Lock()
        self._process = os.getpid()
        withhold(source.env for source in said.named.values() if source.env)

    def source_of(self, name: str) -> str:
        """What messages call the source of a passphrase."""
        source = self._said.source(name)
        return source.description if source else self._said.file

    def file_of(self, name: str) -> Path | None:
        """The file that holds a passphrase; None where its source is no file."""
        source = self._said.source(name)
        if source is None:
            return self._file
        return self._store.home / source.file if source.file else None

    def is_elsewhere(self, name: str) -> bool:
        """Whether a source besides the secrets file is named for a passphrase."""
        return self._said.source(name) is not None

    def is_asked_for(self, name: str) -> bool:
        """Whether a passphrase takes a person, or can be read only once: a mere look does without it."""
        source = self._said.source(name)
        return source is not None and (source.prompt is not None or source.fd is not None)

    def candidates(self, name: str) -> list[Passphrase]:
        """The passphrases that may open the key called `name`, the likely one first; none when nobody has one."""
        source = self._said.source(name)
        if source:
            return [Passphrase(self._fetch(name, source), source.description)]
        kept = self.kept()
        return [Passphrase(kept[key], self._said.file) for key in (name, name + NEW) if key in kept]

    def named(self, name: str) -> Passphrase | None:
        """A passphrase from the source that pki.yaml names for it, None when it names none."""
        return self.candidates(name)[0] if self.is_elsewhere(name) else None

    def new(self, name: str) -> str:
        """The passphrase for a new key: what its source holds, or one generated (160 bits) and kept first."""
        if found := self.named(name):
            return found.value
        with self._store.turn("secrets.lock"):
            kept = self.kept()
            if name not in kept:
                if fault := self.fault([path.parent.name for path in self._keys()]):
                    raise fault  # a new file in place of one that is lost would be in the way of a restore
                kept = self._keep({name: secrets.token_hex(20)})
            return kept[name]

    def fault(self, names: Iterable[str], key: str = "") -> PkiError | None:
        """What is wrong where the secrets file should hold the passphrases of encrypted keys, and does not.

        `key` is what messages call the key, where it is only one.
        """
        ours = [name for name in names if not self.is_elsewhere(name)]
        if not ours or (self._file.is_file() and (filesystem.mode_of(self._file) or 0) & 0o077):  # which `kept` refuses
            return None
        try:
            kept = self._read()[1]
        except PkiError as error:
            return error
        lost = [name for name in ours if not {name, name + NEW} & kept.keys()]
        if not lost:
            return None
        file, named = self._said.file, ", ".join(lost)
        if not self._file.exists():
            return PkiError(f"{file}: is missing, and with it the passphrase of {named}", RESTORE)
        if key:
            return PkiError(f"{key}: its key is encrypted and {file} holds no passphrase for it", RESTORE)
        return PkiError(f"{file}: holds no passphrase for {named}", RESTORE)

    def _keys(self) -> list[Path]:
        """The encrypted keys of the intermediates, certified or not."""
        found = (path for path in self._store.files("key.pem") if path.is_file())
        return [path for path in found if b"ENCRYPTED" in (filesystem.read(path) or b"")]

    # -- the secrets file --

    def kept(self) -> dict[str, str]:
        """What the secrets file holds, by name.

        Raises PkiError when others can read the file, as ssh does for its keys.
        """
        return {name: value for name, value in self._read()[1].items() if isinstance(value, str) and value}

    def keep(self, changes: Mapping[str, str | None]) -> None:
        """Put passphrases into the secrets file, and take those out that are None; in one rename."""
        with self._store.turn("secrets.lock"):
            self._keep(changes)

    def _keep(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        text, entries = self._read()
        wanted = {name: value for name, value in {**entries, **changes}.items() if value is not None}
        if wanted == entries:
            return self.kept()
        for name, value in changes.items():
            text = _replaced(text, name, value)
        try:
            same = (yaml_text.load(text, "") or {}) == wanted
        except PkiError:
            same = False
        if not same:  # written in a way that cannot be changed line by line: comments go, contents stay
            text = yaml_text.dump(wanted)
        filesystem.write(self._file, text.encode(), filesystem.SECRET)
        return self.kept()

    def _read(self) -> tuple[str, dict[str, object]]:
        name = self._said.file
        data = _private(self._file, name) or b""
        try:
            text = data.decode()
            entries = yaml_text.load(text, name) or {}
        except UnicodeDecodeError:
            raise PkiError(f"{name}: is not UTF-8 text", RESTORE, about=name) from None
        except PkiError as error:
            raise PkiError(error.message, EXPECTED, about=name) from None
        if not isinstance(entries, dict):
            raise PkiError(f"{name}: is no mapping", EXPECTED, about=name)
        return text, entries

    # -- other sources --

    def _fetch(self, name: str, source: SecretSource) -> str:
        with self._turn:
            if source not in self._fetched:
                try:
                    self._fetched[source] = self._ask(name, source)
                except PkiError as error:  # a command that hangs hangs once
                    self._fetched[source] = error
            found = self._fetched[source]
        if isinstance(found, PkiError):
            raise PkiError(found.message, found.hint, found.code, about=found.about)
        return found

    def _ask(self, name: str, source: SecretSource) -> str:
        if source.env:
            data = withheld(source.env)
        elif source.credential:
            data = _credential(source)
        elif source.file:
            path = self._store.home / source.file
            found = _private(path, source.file)
            if found is None:
                raise PkiError(f"{source.file}: is not there, and pki.yaml names it for the passphrase of {name}")
            data = found
        elif source.command:
            data = _output(source, self._store.home)
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
                return os.pread(source.fd, 1 << 16, 0)
            self._is_alone(source)
            with os.fdopen(os.dup(source.fd), "rb") as stream:
                return stream.readline()
        except OSError as error:
            raise PkiError(
                f"{source.description}: cannot be read: {error.strerror}", f"open it: … {source.fd}<FILE"
            ) from None

    def _typed(self, name: str) -> str:
        self._is_alone(SecretSource(prompt="true"))
        typed = ask_secretly(f"passphrase of {name}: ")
        if typed is None:
            raise PkiError(
                f"the passphrase of {name} is asked for, and there is no terminal",
                "start it at a terminal, or name another source under secrets in pki.yaml",
            )
        return typed

    def _is_alone(self, source: SecretSource) -> None:
        if os.getpid() != self._process:
            raise PkiError(
                f"{source.description}: can be read only once, and doit -n works in several processes",
                "run doit without -n, or name another source under secrets in pki.yaml",
            )


def _replaced(text: str, name: str, value: str | None) -> str:
    """The text of a secrets file with one entry, which stands on one line, changed, added or taken out."""
    line = yaml_text.dump({name: value}) if value is not None else ""
    found = re.compile(rf"^(['\"]?){re.escape(name)}\1[ \t]*:.*(\n|\Z)", re.MULTILINE)
    if found.search(text):
        return found.sub(lambda _: line, text, count=1)
    return text + ("" if not text or text.endswith("\n") else "\n") + line


def _private(path: Path, shown: str) -> bytes | None:
    """The content of a file that its owner alone can read, None when there is none."""
    data = filesystem.read(path)
    if (filesystem.mode_of(path) or 0) & 0o077:
        raise exposed(shown)
    return data


def _credential(source: SecretSource) -> bytes:
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), source.credential
    remedy = f"start it from a systemd unit with LoadCredential={name}:FILE"
    if not folder:
        raise PkiError(f"{source.description}: CREDENTIALS_DIRECTORY is not set", remedy)
    data = filesystem.read(Path(folder) / str(name))
    if data is None:
        raise PkiError(f"{source.description}: the systemd unit has no such credential", remedy)
    return data


def _output(source: SecretSource, home: Path) -> bytes:
    """What a command says. Its standard output is in no message, whatever happens."""
    words = shlex.split(source.command or "")
    try:
        process = subprocess.Popen(
            words,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PkiError(f"{source.description}: cannot be started: {reason}", f"is {words[0]} installed?") from None
    with process:
        try:
            said, complaint = process.communicate(timeout=PATIENCE)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started, which may hold its output open
            if isinstance(error, subprocess.TimeoutExpired):
                raise PkiError(
                    f"{source.description}: did not answer within {PATIENCE} seconds", "try it by hand"
                ) from None
            raise
    if process.returncode:
        words_said = " ".join(complaint.decode(errors="replace").split())[-300:]
        why = f": {''.join(c for c in words_said if c.isprintable())}" if words_said else ""
        raise PkiError(f"{source.description}: failed with exit status {process.returncode}{why}", "try it by hand")
    return said
