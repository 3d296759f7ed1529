"""Add or remove a client in pki.yaml, add services or roots, or leave out templates. Every other line stays the same.

The edited text is loaded again and must contain exactly the old inventory with this change; otherwise nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pki.common import filesystem, yaml_text
from pki.common.errors import InventoryError, PkiError
from pki.config import loader
from pki.config.error_messages import path_prefix
from pki.config.model import Client, Inventory, TemplateOptions

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
LEFT_OUT = "# templates of the program that this project does not use; to use one, remove its line"


@dataclass(frozen=True, slots=True)
class Edit:
    """The new text of a file, and the bytes that it replaces: it never overwrites other content."""

    path: Path
    before: bytes
    text: str

    def insist_unchanged(self, consequence: str, command: str = "type the same command again") -> None:
        """Raise PkiError if the file changed since it was read."""
        if filesystem.read(self.path) != self.before:
            raise PkiError(f"{self.path.name}: changed since it was read; {consequence}", command)


def add_client(path: Path, name: str, names: Mapping[str, str | list[str]]) -> Edit:
    """Return the edit that adds a client with `email`, `dns` or `uri`, as pki.yaml has them.

    Raises PkiError; its hint has the line to add by hand if the layout is unusual.
    """
    before, config, tree = _read(path)
    if name in config.clients:
        raise PkiError(f"clients.{name} is in pki.yaml already", f"./run invoke explain {name}")
    for _, what in loader.find_faults({**tree, "clients": {**(tree.get("clients") or {}), name: dict(names)}}):
        raise PkiError(f"{name}: {what}", "./run invoke client.add admin@laptop --email admin@lab.internal")
    line = f"{name}: {{{', '.join(f'{key}: {_flow(value)}' for key, value in names.items())}}}"
    clients = {**config.clients, name: Client.model_validate(dict(names))}
    hint = f"write it there yourself, below clients: `{line}`; then: ./run doit"
    return Edit(path, before, _require_meaning(path, _insert_client(before.decode(), line), config, clients, hint))


def _flow(value: str | list[str]) -> str:
    """Return a text or a list of texts in the flow style of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return value if PLAIN.fullmatch(value) else json.dumps(value)


def remove_client(path: Path, name: str) -> Edit:
    """Return the edit that removes a client. Raises PkiError if its lines cannot be identified."""
    before, config, _ = _read(path)
    clients = {other: client for other, client in config.clients.items() if other != name}
    hint = f"./run invoke revoke {name} --no-replace; then take clients.{name} out of pki.yaml yourself"
    return Edit(path, before, _require_meaning(path, _delete_client(before.decode(), name), config, clients, hint))


def add_roots(path: Path, roots: Mapping[str, str]) -> Edit:
    """Return the edit that adds the SHA-256 of roots, given by generation, to the key `roots`.

    The text is unchanged if it has them already. Raises PkiError; its hint has the lines to add by hand.
    """
    data, original, _ = _read(path)
    text, config = data.decode(), original
    names = {digest: name for name, digest in roots.items() if digest not in original.roots}
    for digest, name in names.items():
        expected_config = config.model_copy(update={"roots": (*config.roots, digest)})
        candidates = _root_candidates(text, config.roots, name, digest)
        edited_text = next(
            (candidate for candidate in candidates if _parse(candidate, path.name) == expected_config), None
        )
        config = expected_config
        if edited_text is None:
            lines = "\n".join(["roots:", *(f"  - {candidate}" for candidate in (*original.roots, *names))])
            hint = f"write this into {path.name} yourself, then type the same command again:\n{lines}"
            raise PkiError(f"{path.name} has a layout that this program cannot edit; nothing was changed", hint)
        text = edited_text
    return Edit(path, data, text)


def add_services(path: Path, host: str, services: Mapping[str, Mapping[str, str | list[str]]]) -> Edit:
    """Return the edit that adds services, given with the values of their keys, to a host.

    Raises PkiError with all faults that they would have; or its hint has the lines to add by hand.
    """
    before, config, tree = _read(path)
    for name, settings in services.items():
        if name in config.hosts[host].services:
            what = f"hosts.{host}.services.{name} is in pki.yaml already"
            raise PkiError(what, f"write this there yourself: {', '.join(_entries(settings))}")
    entry = tree["hosts"][host]
    entry = {**entry, "services": {**(entry.get("services") or {}), **services}}
    tree = {**tree, "hosts": {**tree["hosts"], host: entry}}
    if faults := [f"{path_prefix(where)}{what}" for where, what in loader.find_faults(tree)]:
        raise PkiError("\n".join(faults), "nothing was changed; write the services into pki.yaml yourself")
    lines = [f"{name}: {{{', '.join(_entries(settings))}}}" for name, settings in services.items()]
    expected_config, candidates = loader.parse_valid(tree), _service_candidates(before.decode(), host, lines)
    edited_text = next((text for text in candidates if _parse(text, path.name) == expected_config), None)
    if edited_text is None:
        hint = f"write it there yourself, below hosts.{host}.services, then: ./run doit\n" + "\n".join(lines)
        raise PkiError(f"{path.name} has a layout that this program cannot edit; nothing was changed", hint)
    return Edit(path, before, edited_text)


def _entries(settings: Mapping[str, str | list[str]]) -> list[str]:
    """Return keys and values as they are between the braces of a mapping."""
    texts = {key: value if isinstance(value, str) else f"[{', '.join(value)}]" for key, value in settings.items()}
    return [f"{key}: {text}" for key, text in texts.items()]


def leave_out_templates(path: Path, names: Sequence[str]) -> Edit:
    """Return the edit that adds the key `templates`, which leaves out these templates of the program.

    Raises PkiError; its hint has the lines to add by hand if the layout is unusual.
    """
    before, config, _ = _read(path)
    text = before.decode()
    expected_config = config.model_copy(update={"templates": TemplateOptions(without=tuple(names))})
    end = "\r\n" if "\r\n" in text else "\n"
    section = "".join(f"{line}{end}" for line in (LEFT_OUT, *_template_lines(names)))
    edited_text = f"{text}{'' if text.endswith(end) else end}{end}{section}"
    if _parse(edited_text, path.name) != expected_config:
        message = f"{path.name} has a layout that this program cannot edit; nothing was changed"
        raise PkiError(message, left_out_by_hand(path, names))
    return Edit(path, before, edited_text)


def left_out_by_hand(path: Path, names: Sequence[str]) -> str:
    """Return the hint with the lines that leave out templates, for a pki.yaml that cannot be written."""
    return f"write this into {path.name} yourself, then type the same command again:\n" + "\n".join(
        _template_lines(names)
    )


def _template_lines(names: Sequence[str]) -> list[str]:
    return ["templates:", "  without:", *(f"    - {name}" for name in names)]


@contextmanager
def prepared_write(edit: Edit) -> Iterator[Callable[[], None]]:
    """Write the new text to a temporary file and yield the function that renames it, with the mode of the old file.

    Raises PkiError if it cannot be written; the function raises PkiError if the file changed since it was read.
    """
    path = edit.path.resolve()  # of a link, the file to which it leads
    mode = filesystem.mode_of(path) or filesystem.PUBLIC
    with filesystem.StagedFiles({path: (edit.text.encode(), mode)}) as staged:
        staged.flush()

        def place() -> None:
            edit.insist_unchanged("it was not written")
            staged.place()

        yield place


def write(edit: Edit) -> None:
    """Replace the file with the new text. Raises PkiError as `prepared_write` does."""
    with prepared_write(edit) as place:
        place()


def _read(path: Path) -> tuple[bytes, Inventory, Any]:
    """Return the bytes of pki.yaml, the inventory in them, and their tree."""
    data = loader.read(path)
    return data, *loader.load_with_tree(path, data)


def _require_meaning(path: Path, text: str, config: Inventory, clients: dict[str, Client], hint: str) -> str:
    """Return the text if it contains the old inventory with these `clients`. Raises PkiError otherwise."""
    if _parse(text, path.name) != config.model_copy(update={"clients": clients}):
        raise PkiError(f"{path.name} has a layout that this program cannot edit; nothing was changed", hint)
    return text


def _parse(text: str, name: str) -> Inventory | None:
    """Return the inventory in a text, or None if it is invalid."""
    try:
        return loader.parse_valid(yaml_text.load(text, name)) if text else None
    except InventoryError:
        return None


def _root_candidates(text: str, roots: tuple[str, ...], name: str, fingerprint: str) -> Iterator[str]:
    """Yield texts with one more root, one for each layout: a new section, a list of lines, brackets, a rewritten list."""
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
    lines_before, last_line, lines_after = lines[: section.last - 1], lines[section.last - 1], lines[section.last :]
    indent = last_line[: len(last_line) - len(last_line.lstrip())]
    yield "".join([*lines_before, last_line, f"{indent}{item}", *lines_after])
    code, mark, comment = last_line.partition(" #")
    inner, bracket, behind = code.rpartition("]")
    comma = "" if inner.rstrip().endswith(("[", ",")) else ", "
    yield "".join(
        [*lines_before, f"{inner.rstrip()}{comma}{fingerprint}{bracket}{behind}{mark}{comment}", *lines_after]
    )
    if "#" not in "".join(lines[section.first - 1 : section.last]):
        items = [*(f"  - {root}{end}" for root in roots), f"  {item}"]
        yield "".join([*lines[: section.first - 1], f"roots:{end}", *items, *lines_after])


def _service_candidates(text: str, host: str, entries: Sequence[str]) -> Iterator[str]:
    """Yield texts with more services of a host, one for each layout: lines, braces, a new key, a host in braces."""
    place, end = ("hosts", host, "services"), "\r\n" if "\r\n" in text else "\n"
    text += "" if text.endswith("\n") else end
    lines = text.splitlines(keepends=True)
    names, keys = yaml_text.keys_of(text, place), yaml_text.keys_of(text, place[:2])
    entries_text = ", ".join(entries)
    if names and (span := yaml_text.span_of(text, (*place, names[-1]))):
        indent = " " * span.column
        yield "".join([*lines[: span.last], *(f"{indent}{entry}{end}" for entry in entries), *lines[span.last :]])
    if brace := yaml_text.closing_brace(text, place):
        yield f"{text[:brace].rstrip()}{', ' if names else ''}{entries_text}{text[brace:]}"
    if brace := yaml_text.closing_brace(text, place[:2]):
        yield f"{text[:brace].rstrip()}, services: {{{entries_text}}}{text[brace:]}"
    if keys and (span := yaml_text.span_of(text, (*place[:2], keys[-1]))):
        indent = " " * span.column
        added = [f"{indent}services:{end}", *(f"{indent}  {entry}{end}" for entry in entries)]
        yield "".join([*lines[: span.last], *added, *lines[span.last :]])


def _insert_client(text: str, line: str) -> str:
    """Return the text with a line after the last client, or in a new section."""
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


def _delete_client(text: str, name: str) -> str:
    """Return the text without the lines of a client, or "" if they are not found."""
    span = yaml_text.span_of(text, ("clients", name))
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: span.first - 1], *lines[span.last :]]) if span else ""
