"""pki.yaml with one client more or less, as a person would write it: every other line stays as it is.

What comes out is loaded again and must mean exactly the old inventory with that change; otherwise nothing is written.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pki import documents, inventory, store
from pki.errors import InventoryError, PkiError
from pki.model import Client, Inventory

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


def with_client(path: Path, name: str, email: str) -> str:
    """The text of pki.yaml with a client more. Raises PkiError: with the line to type where it cannot be placed."""
    text, said = _read(path)
    if name in said.clients:
        raise PkiError(f"clients.{name} is in pki.yaml already", f"./run invoke explain {name}")
    tree = documents.load(text, path.name)
    for _, what in inventory.faults_of({**tree, "clients": {**(tree.get("clients") or {}), name: {"email": email}}}):
        raise PkiError(f"{name}: {what}", "./run invoke client.add admin@laptop --email admin@lab.internal")
    line = f"{name}: {{email: {email if PLAIN.fullmatch(email) else json.dumps(email)}}}"
    wanted = {**said.clients, name: Client(email=email)}
    hint = f"write it there yourself, below clients: `{line}`; then: ./run doit"
    return _sound(path, _added(text, line), said, wanted, hint)


def without_client(path: Path, name: str) -> str:
    """The text of pki.yaml without a client. Raises PkiError where its lines cannot be told from others."""
    text, said = _read(path)
    wanted = {known: client for known, client in said.clients.items() if known != name}
    hint = f"./run invoke revoke {name} --reason … --no-replace; then take clients.{name} out of pki.yaml yourself"
    return _sound(path, _removed(text, name), said, wanted, hint)


def write(path: Path, text: str) -> None:
    """Put the new text in place of the old one, with the mode that the file has."""
    place = path.resolve()
    store.write(place, text.encode(), store.mode_of(place) or store.PUBLIC)


def _read(path: Path) -> tuple[str, Inventory]:
    said = inventory.load(path)
    return path.read_bytes().decode(), said


def _sound(path: Path, text: str, said: Inventory, clients: dict[str, Client], hint: str) -> str:
    """The text, if it means the old inventory with these clients."""
    try:
        means = inventory.sound(documents.load(text, path.name)) if text else None
    except InventoryError:
        means = None
    if means != said.model_copy(update={"clients": clients}):
        raise PkiError(f"{path.name} is laid out in a way that this program does not edit; nothing was changed", hint)
    return text


def _added(text: str, line: str) -> str:
    """The text with a line behind the last client, or with a section of its own."""
    lines, end = text.splitlines(keepends=True), "\r\n" if "\r\n" in text else "\n"
    if not text.endswith("\n"):
        lines[-1] += end
    section = documents.span_of(text, ("clients",))
    entries = documents.keys_of(text, ("clients",))
    if section is None:
        return "".join([*lines, f"{end}clients:{end}  {line}{end}"])
    if not entries:
        indent, last = "  ", section.first
    else:
        span = documents.span_of(text, ("clients", entries[-1]))
        assert span is not None
        indent, last = " " * span.column, span.last
    return "".join([*lines[:last], f"{indent}{line}{end}", *lines[last:]])


def _removed(text: str, name: str) -> str:
    span = documents.span_of(text, ("clients", name))
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: span.first - 1], *lines[span.last :]]) if span else ""
