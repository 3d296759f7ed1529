"""pki.yaml with one client more or less, or with one more root, as a person would write it: every other line stays.

What comes out is loaded again and must mean exactly the old inventory with that change; otherwise nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pki.common import filesystem, yaml_text
from pki.common.errors import InventoryError, PkiError
from pki.config import loader
from pki.config.model import Client, Inventory

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


@dataclass(frozen=True, slots=True)
class Edit:
    """The new text of a file, and the bytes that it was made of: it is never written over anything else."""

    path: Path
    before: bytes
    text: str

    def insist_unchanged(self, consequence: str, command: str = "type the same command again") -> None:
        """Raise PkiError where the file is not as it was read."""
        if filesystem.read(self.path) != self.before:
            raise PkiError(f"{self.path.name}: changed since it was read; {consequence}", command)


def with_client(path: Path, name: str, email: str) -> Edit:
    """Return pki.yaml with a client more. Raises PkiError: with the line to type where it cannot be placed."""
    before, said, tree = _read(path)
    if name in said.clients:
        raise PkiError(f"clients.{name} is in pki.yaml already", f"./run invoke explain {name}")
    for _, what in loader.faults_of({**tree, "clients": {**(tree.get("clients") or {}), name: {"email": email}}}):
        raise PkiError(f"{name}: {what}", "./run invoke client.add admin@laptop --email admin@lab.internal")
    line = f"{name}: {{email: {email if PLAIN.fullmatch(email) else json.dumps(email)}}}"
    wanted = {**said.clients, name: Client(email=email)}
    hint = f"write it there yourself, below clients: `{line}`; then: ./run doit"
    return Edit(path, before, _sound(path, _added(before.decode(), line), said, wanted, hint))


def without_client(path: Path, name: str) -> Edit:
    """Return pki.yaml without a client. Raises PkiError where its lines cannot be told from others."""
    before, said, _ = _read(path)
    wanted = {known: client for known, client in said.clients.items() if known != name}
    hint = f"./run invoke revoke {name} --reason … --no-replace; then take clients.{name} out of pki.yaml yourself"
    return Edit(path, before, _sound(path, _removed(before.decode(), name), said, wanted, hint))


def with_roots(path: Path, roots: Mapping[str, str]) -> Edit:
    """Return pki.yaml that names these roots too: the SHA-256 of each by the name of its generation.

    Unchanged where it names them already. Raises PkiError, with the lines to type, where they cannot be placed.
    """
    data, before, _ = _read(path)
    text, said, names = data.decode(), before, {sha: name for name, sha in roots.items() if sha not in before.roots}
    for digest, name in names.items():
        wanted = said.model_copy(update={"roots": (*said.roots, digest)})
        fitting = (one for one in _with_root(text, said.roots, name, digest) if _means(one, path.name) == wanted)
        said, found = wanted, next(fitting, None)
        if found is None:
            lines = "\n".join(["roots:", *(f"  - {one}" for one in (*before.roots, *names))])
            hint = f"write this into {path.name} yourself, then type the same command again:\n{lines}"
            raise PkiError(
                f"{path.name} is laid out in a way that this program does not edit; nothing was changed", hint
            )
        text = found
    return Edit(path, data, text)


@contextmanager
def waiting(edit: Edit) -> Iterator[Callable[[], None]]:
    """Write the new text to disk beside the old one; what is yielded puts it in place, with the mode that the file has.

    Raises PkiError where it cannot be written, and when it is to be placed where the file has changed since it was read.
    """
    place = edit.path.resolve()
    with filesystem.Beside({place: (edit.text.encode(), filesystem.mode_of(place) or filesystem.PUBLIC)}) as beside:
        beside.flush()

        def put() -> None:
            edit.insist_unchanged("it was not written")
            beside.place()

        yield put


def write(edit: Edit) -> None:
    """Put the new text in place of the old one. Raises PkiError as `waiting` does."""
    with waiting(edit) as put:
        put()


def _read(path: Path) -> tuple[bytes, Inventory, Any]:
    """Return the bytes of pki.yaml, what they say, and their tree."""
    data = loader.read(path)
    return data, *loader.load_with_tree(path, data)


def _sound(path: Path, text: str, said: Inventory, clients: dict[str, Client], hint: str) -> str:
    """The text, if it means the old inventory with these clients."""
    if _means(text, path.name) != said.model_copy(update={"clients": clients}):
        raise PkiError(f"{path.name} is laid out in a way that this program does not edit; nothing was changed", hint)
    return text


def _means(text: str, name: str) -> Inventory | None:
    try:
        return loader.sound(yaml_text.load(text, name)) if text else None
    except InventoryError:
        return None


def _with_root(text: str, known: tuple[str, ...], name: str, fingerprint: str) -> Iterator[str]:
    """Texts that may name one more root: in a section of its own, below the last one, within brackets, written again."""
    lines, end = text.splitlines(keepends=True), "\r\n" if "\r\n" in text else "\n"
    if not text.endswith("\n"):
        lines[-1] += end
    item = f"- {fingerprint}   # {name}{end}"
    section = yaml_text.span_of(text, ("roots",))
    if section is None:
        after = yaml_text.span_of(text, ("sandbox",)) or yaml_text.span_of(text, ("publish",))
        if after:
            comment = "   # SHA-256 of each root; ceremony.accept writes it"
            yield "".join([*lines[: after.last], f"roots:{comment}{end}", f"  {item}", *lines[after.last :]])
        return
    before, last, rest = lines[: section.last - 1], lines[section.last - 1], lines[section.last :]
    indent = last[: len(last) - len(last.lstrip())]
    yield "".join([*before, last, f"{indent}{item}", *rest])
    code, mark, comment = last.partition(" #")
    inner, bracket, behind = code.rpartition("]")
    comma = "" if inner.rstrip().endswith(("[", ",")) else ", "
    yield "".join([*before, f"{inner.rstrip()}{comma}{fingerprint}{bracket}{behind}{mark}{comment}", *rest])
    if "#" not in "".join(lines[section.first - 1 : section.last]):
        items = [*(f"  - {one}{end}" for one in known), f"  {item}"]
        yield "".join([*lines[: section.first - 1], f"roots:{end}", *items, *rest])


def _added(text: str, line: str) -> str:
    """The text with a line behind the last client, or with a section of its own."""
    lines, end = text.splitlines(keepends=True), "\r\n" if "\r\n" in text else "\n"
    if not text.endswith("\n"):
        lines[-1] += end
    section = yaml_text.span_of(text, ("clients",))
    entries = yaml_text.keys_of(text, ("clients",))
    if section is None:
        return "".join([*lines, f"{end}clients:{end}  {line}{end}"])
    if not entries:
        indent, last = "  ", section.first
    else:
        span = yaml_text.span_of(text, ("clients", entries[-1]))
        assert span is not None
        indent, last = " " * span.column, span.last
    return "".join([*lines[:last], f"{indent}{line}{end}", *lines[last:]])


def _removed(text: str, name: str) -> str:
    span = yaml_text.span_of(text, ("clients", name))
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: span.first - 1], *lines[span.last :]]) if span else ""
