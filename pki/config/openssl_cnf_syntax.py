"""An OpenSSL configuration file taken apart as config(5) says: sections, quotes, variables, continued lines, includes.

A value whose variables cannot be put in keeps its fault: OpenSSL refuses the whole file for it, here it matters only
where the value is used. The environment is never read: `$ENV::NAME` is NAME of the default section.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pki.common.errors import PkiError

LONGEST = 65536  # characters of an expanded value (MAX_CONF_VALUE_LENGTH in OpenSSL)
MOST_INCLUDES = 100
BLANKS = " \t\r\n"
KEY = re.compile(r"(?:\\.|[\w!%&*+,\-./;?@^|~])*", re.ASCII)
QUOTED = r"""(?P<quote>["'`])(?P<inner>(?:\\.|(?!(?P=quote))[^\\])*)(?:(?P=quote)|\\?\Z)"""
CODE = re.compile(rf"{QUOTED}|\\.|[^\"'`\\#]+|\\\Z", re.DOTALL)
PART = re.compile(rf"{QUOTED}|\\(?P<escaped>.)|\\\Z|(?P<plain>[^\"'`\\$]+)", re.DOTALL)
VARIABLE = re.compile(r"\$(?P<open>[{(]?)(?:(?P<section>\w*)::)?(?P<name>\w*)", re.ASCII)
CLOSERS = {"{": "}", "(": ")", "": ""}
ESCAPES = {"r": "\r", "n": "\n", "b": "\b", "t": "\t"}
TEMPLATE_VARIABLE = re.compile(r"\{\{.*?(?:\}\}|\Z)", re.DOTALL)

Include = Callable[[str], list[tuple[str, str]]]  # path → text and shown name of each file; raises PkiError


@dataclass(frozen=True, slots=True)
class Value:
    """One value with its variables put in; `place` is file and line. `fault` is why they could not be."""

    raw: str
    place: str
    fault: PkiError | None = None

    @property
    def text(self) -> str:
        """Raises PkiError when its variables could not be put in."""
        if self.fault:
            raise self.fault
        return self.raw


Section = dict[str, Value]


class Configuration:
    """What is in a file, by section and key; of two equal keys in one section the last one counts, in its place."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {"default": {}}

    def get(self, section: str, key: str) -> Value | None:
        """A value of a section, or else of the default section, as OpenSSL looks values up."""
        return self.sections.get(section, {}).get(key) or self.sections["default"].get(key)

    def text(self, section: str, key: str) -> str:
        """As `get`; empty when there is none. Raises PkiError when its variables could not be put in."""
        found = self.get(section, key)
        return found.text if found else ""

    def put(self, section: str, key: str, value: Value) -> None:
        values = self.sections.setdefault(section, {})
        values.pop(key, None)
        values[key] = value


def parse(text: str, name: str, include: Include) -> Configuration:
    """Take a file apart; `name` is what messages call it. Raises PkiError that names file and line."""
    parser = _Parser(include)
    parser.read(text.removeprefix("\ufeff"), name, ())
    return parser.found


class _Parser:
    """The state while files are read: a section goes on into an included file, and out of it."""

    def __init__(self, include: Include) -> None:
        self.found = Configuration()
        self._include = include
        self._section = "default"
        self._needs_absolute = False  # .pragma abspath:true
        self._needs_braces = False  # .pragma dollarid:true: a bare $ is a character like any other
        self._included = 0

    def read(self, text: str, name: str, above: tuple[str, ...]) -> None:
        for number, line in _whole_lines(text):
            bare = _without_comment(line).strip(BLANKS)
            if bare:
                self._line(bare, f"{name}:{number}", (*above, name))

    def _line(self, bare: str, place: str, above: tuple[str, ...]) -> None:
        if bare.startswith("["):
            self._heading(bare, place)
            return
        section, key, rest = self._section, *_key_of(bare)
        if rest.startswith("::"):
            section, (key, rest) = key, _key_of(rest[2:])
        value = rest.removeprefix("=").strip(BLANKS)
        if key == ".pragma":
            self._pragma(value, place)
        elif key == ".include":
            self._take_in(self.expand(value, section, place).text, place, above)
        elif not rest.startswith("="):
            hint = "comments begin with #" if bare.startswith((";", "//", "--", "<!--")) else ""
            raise PkiError(f"{place}: expected [ section ] or name = value, got {bare!r}", hint)
        else:
            self.found.put(section, key, self.expand(value, section, place))

    def _heading(self, bare: str, place: str) -> None:
        inner, closed, _ = bare[1:].partition("]")
        words = inner.strip(BLANKS)
        if not closed or any(KEY.fullmatch(word) is None for word in re.split(r"[ \t\r\n]+", words)):
            raise PkiError(f"{place}: expected [ section ], got {bare!r}")
        self._section = self.expand(words, self._section, place).text
        self.found.sections.setdefault(self._section, {})

    def _pragma(self, value: str, place: str) -> None:
        what, _, setting = (part.strip(BLANKS) for part in value.partition(":"))
        if what == "dollarid":
            self._needs_braces = setting in {"on", "true"}
        elif what == "abspath":
            self._needs_absolute = setting in {"on", "true"}
        elif what == "includedir":
            raise PkiError(
                f"{place}: .pragma includedir is not read", "write paths relative to the file: .include PATH"
            )

    def _take_in(self, path: str, place: str, above: tuple[str, ...]) -> None:
        if self._needs_absolute and not path.startswith("/"):
            what = f"{place}: .include {path}: no path may be relative after .pragma abspath:true"
            raise PkiError(what, "take the .pragma out: paths are relative to the file")
        try:
            files = self._include(path)
        except PkiError as fault:
            raise PkiError(f"{place}: .include {path}: {fault.message}", fault.hint) from None
        for text, name in files:
            self._included += 1
            if name in above or self._included > MOST_INCLUDES:
                what = "takes itself in" if name in above else f"is more than the {MOST_INCLUDES}th file taken in"
                raise PkiError(f"{place}: .include {path}: {name} {what}", "take the line out")
            self.read(text, name, above)

    # -- values --

    def expand(self, value: str, section: str, place: str) -> Value:
        """A value with its quotes taken off and its variables put in."""
        if template := TEMPLATE_VARIABLE.search(value):
            what = f"{template[0]!a}: names are read before the file is rendered, without variables of a host"
            return Value(value, place, PkiError(f"{place}: {what}", "write the name itself, or use `inventory` alone"))
        if not any(mark in value for mark in "\"'`\\$"):
            return Value(value, place)
        parts, length, at = list[str](), 0, 0
        while at < len(value):
            if value[at] == "$" and (not self._needs_braces or value[at + 1 : at + 2] in {"{", "("}):
                try:
                    part, at = self._variable(value, at, section, place)
                except PkiError as fault:
                    return Value(value, place, fault)
            elif value[at] == "$":
                part, at = "$", at + 1
            else:
                found = PART.match(value, at)
                assert found is not None
                part, at = _literal(found), found.end()
            parts.append(part)
            length += len(part)
            if length > LONGEST:
                break
        if length > LONGEST:
            hint = "OpenSSL refuses it too: expand fewer variables"
            raise PkiError(f"{place}: grows beyond {LONGEST} characters", hint)
        return Value("".join(parts), place)

    def _variable(self, value: str, at: int, section: str, place: str) -> tuple[str, int]:
        """The value of the variable at a position, and where it ends."""
        found = VARIABLE.match(value, at)
        assert found is not None
        closer = CLOSERS[found["open"]]
        if not value.startswith(closer, found.end()):
            raise PkiError(f"{place}: {found[0]}: expected {closer} behind it")
        within, shown = found["section"] if found["section"] is not None else section, f"{found[0]}{closer}"
        known = self.found.get(within, found["name"])
        if known is None and within == "ENV":
            hint = f"write the value itself, or {found['name']} = VALUE above the first section"
            raise PkiError(f"{place}: {shown}: the environment is not read", hint)
        if known is None:
            raise PkiError(f"{place}: {shown}: no such variable above this line")
        return known.text, found.end() + len(closer)


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first, those put together that a backslash continues; LF ends one, as for OpenSSL."""
    first, begun = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip("\r")
        first = first or number
        if bare.endswith("\\") and not bare.endswith("\\\\"):
            begun.append(bare[:-1])
            continue
        yield first, "".join([*begun, bare])
        first, begun = 0, []
    if begun:
        yield first, "".join(begun)


def _without_comment(line: str) -> str:
    """A line up to the first # that is neither quoted nor behind a backslash."""
    before, mark, _ = line.partition("#")
    if not mark or not any(one in before for one in "\"'`\\"):
        return before
    at = 0
    while found := CODE.match(line, at):
        at = found.end()
    return line[:at]


def _key_of(text: str) -> tuple[str, str]:
    """A key, and what follows it and the blanks behind it."""
    found = KEY.match(text)
    assert found is not None
    return found[0], text[found.end() :].lstrip(BLANKS)


def _literal(part: re.Match[str]) -> str:
    if part["quote"]:
        return re.sub(r"\\(.)", r"\1", part["inner"], flags=re.DOTALL)
    if part["escaped"]:
        return ESCAPES.get(part["escaped"], part["escaped"])
    return part["plain"] or ""
