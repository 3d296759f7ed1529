"""Parse an OpenSSL configuration file (config(5)): sections, quotes, variables, continued lines, includes.

A value whose variables cannot be expanded stores its fault: OpenSSL refuses the whole file, here only a use of the value
raises it. The environment is never read: `$ENV::NAME` is NAME of the default section.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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

HOST_VARIABLES = "names are read before the template is rendered, so it cannot use variables of a host"

Include = Callable[[str], list[tuple[str, str]]]  # path → text and shown name of each file; raises PkiError


@dataclass(frozen=True, slots=True)
class Value:
    """One value with expanded variables; `place` is file and line. `fault` is set if they could not be expanded."""

    raw: str
    place: str
    fault: PkiError | None = None

    @property
    def text(self) -> str:
        """Return the value. Raises PkiError if its variables could not be expanded."""
        if self.fault:
            raise self.fault
        return self.raw


Section = dict[str, Value]


class Configuration:
    """The values of a file by section and key. Of two equal keys in a section, the last one counts, at its position."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {"default": {}}

    def get(self, section: str, key: str) -> Value | None:
        """Return a value of a section, else of the default section, like OpenSSL, or None."""
        return self.sections.get(section, {}).get(key) or self.sections["default"].get(key)

    def text(self, section: str, key: str) -> str:
        """Return the text of a value, or "" without one. Raises PkiError if its variables could not be expanded."""
        value = self.get(section, key)
        return value.text if value else ""

    def put(self, section: str, key: str, value: Value) -> None:
        """Add a value at the end of a section; it replaces an earlier one."""
        values = self.sections.setdefault(section, {})
        values.pop(key, None)
        values[key] = value

    def find_section(self, key: str) -> Value | None:
        """Return the value of a key of [ req ] that names a section, or None. Raises PkiError if the section is missing."""
        value = self.get("req", key)
        if value and value.text not in self.sections:
            what = f"{value.place}: {key} names [ {value.text} ], which does not exist"
            raise PkiError(what, "OpenSSL refuses it too: add the section, or remove the line")
        return value

    def declared_oids(self) -> set[str]:
        """Return the names of OIDs that the file defines in its `oid_section`."""
        section = self.get("default", "oid_section")
        return set(self.sections.get(section.raw, {})) if section and section.fault is None else set()


def parse(
    text: str, name: str, include: Include, template_faults: Mapping[str, PkiError] | None = None
) -> Configuration:
    """Parse a file; `name` is its name in messages. Raises PkiError with file and line.

    `template_faults` are the errors of `{{ … }}` in the file; any other one uses variables of a host.
    """
    parser = _Parser(include, template_faults or {})
    parser.read(text.removeprefix("\ufeff"), name, ())
    return parser.configuration


class _Parser:
    """The state of the parser: the current section continues into an included file, and after it."""

    def __init__(self, include: Include, template_faults: Mapping[str, PkiError]) -> None:
        self.configuration = Configuration()
        self._include = include
        self._template_faults = template_faults
        self._section = "default"
        self._needs_absolute = False  # .pragma abspath:true
        self._needs_braces = False  # .pragma dollarid:true: $ without braces is an ordinary character
        self._included = 0

    def read(self, text: str, name: str, included_by: tuple[str, ...]) -> None:
        """Parse the text of one file; `included_by` are the files that include it, outermost first."""
        for number, line in _joined_lines(text):
            bare = _without_comment(line).strip(BLANKS)
            if bare:
                self._line(bare, f"{name}:{number}", (*included_by, name))

    def _line(self, bare: str, place: str, included_by: tuple[str, ...]) -> None:
        if bare.startswith("["):
            self._heading(bare, place)
            return
        section = self._section
        key, rest = _split_key(bare)
        if rest.startswith("::"):  # SECTION::KEY = VALUE
            section = key
            key, rest = _split_key(rest[2:])
        value = rest.removeprefix("=").strip(BLANKS)
        if key == ".pragma":
            self._pragma(value, place)
        elif key == ".include":
            self._read_included(self.expand(value, section, place).text, place, included_by)
        elif not rest.startswith("="):
            hint = "comments begin with #" if bare.startswith((";", "//", "--", "<!--")) else ""
            raise PkiError(f"{place}: expected [ section ] or name = value, got {bare!r}", hint)
        else:
            self.configuration.put(section, key, self.expand(value, section, place))

    def _heading(self, bare: str, place: str) -> None:
        inner, closed, _ = bare[1:].partition("]")
        words = inner.strip(BLANKS)
        if not closed or any(KEY.fullmatch(word) is None for word in re.split(r"[ \t\r\n]+", words)):
            raise PkiError(f"{place}: expected [ section ], got {bare!r}")
        self._section = self.expand(words, self._section, place).text
        self.configuration.sections.setdefault(self._section, {})

    def _pragma(self, value: str, place: str) -> None:
        what, _, setting = (part.strip(BLANKS) for part in value.partition(":"))
        if what == "dollarid":
            self._needs_braces = setting in {"on", "true"}
        elif what == "abspath":
            self._needs_absolute = setting in {"on", "true"}
        elif what == "includedir":
            raise PkiError(
                f"{place}: .pragma includedir is not supported", "write paths relative to the file: .include PATH"
            )

    def _read_included(self, path: str, place: str, included_by: tuple[str, ...]) -> None:
        if self._needs_absolute and not path.startswith("/"):
            what = f"{place}: .include {path}: no path may be relative after .pragma abspath:true"
            raise PkiError(what, "remove the .pragma: paths are relative to the file")
        try:
            files = self._include(path)
        except PkiError as fault:
            raise PkiError(f"{place}: .include {path}: {fault.message}", fault.hint) from None
        for text, name in files:
            self._included += 1
            if name in included_by or self._included > MOST_INCLUDES:
                what = (
                    "includes itself" if name in included_by else f"exceeds the limit of {MOST_INCLUDES} included files"
                )
                raise PkiError(f"{place}: .include {path}: {name} {what}", "remove the line")
            self.read(text, name, included_by)

    # -- values --

    def expand(self, value: str, section: str, place: str) -> Value:
        """Return a value without quotes and with expanded variables."""
        template = TEMPLATE_VARIABLE.search(value)
        if template:
            host_variables = PkiError(HOST_VARIABLES, "write the name itself, or use `inventory` alone")
            fault = self._template_faults.get(template[0], host_variables)
            return Value(value, place, PkiError(f"{place}: {template[0]!a}: {fault.message}", fault.hint))
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
                match = PART.match(value, at)
                assert match is not None
                part, at = _literal(match), match.end()
            parts.append(part)
            length += len(part)
            if length > LONGEST:
                break
        if length > LONGEST:
            hint = "OpenSSL refuses it too: expand fewer variables"
            raise PkiError(f"{place}: the expanded value exceeds {LONGEST} characters", hint)
        return Value("".join(parts), place)

    def _variable(self, value: str, at: int, section: str, place: str) -> tuple[str, int]:
        """Return the value of the variable at the offset `at`, and the offset of its end."""
        match = VARIABLE.match(value, at)
        assert match is not None
        closer = CLOSERS[match["open"]]
        if not value.startswith(closer, match.end()):
            raise PkiError(f"{place}: {match[0]}: expected {closer} after it")
        shown = f"{match[0]}{closer}"
        section_of_variable = section if match["section"] is None else match["section"]
        value_of_variable = self.configuration.get(section_of_variable, match["name"])
        if value_of_variable is None and section_of_variable == "ENV":
            hint = f"write the value itself, or {match['name']} = VALUE above the first section"
            raise PkiError(f"{place}: {shown}: the environment is not read", hint)
        if value_of_variable is None:
            raise PkiError(f"{place}: {shown}: no such variable above this line")
        return value_of_variable.text, match.end() + len(closer)


def _joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; a line that ends in a backslash is joined with the next one. LF ends a line."""
    first_number, parts = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip("\r")
        first_number = first_number or number
        if bare.endswith("\\") and not bare.endswith("\\\\"):
            parts.append(bare[:-1])
            continue
        yield first_number, "".join([*parts, bare])
        first_number, parts = 0, []
    if parts:
        yield first_number, "".join(parts)


def _without_comment(line: str) -> str:
    """Return a line up to the first # that is neither quoted nor escaped."""
    before, mark, _ = line.partition("#")
    if not mark or not any(quote in before for quote in "\"'`\\"):
        return before
    at = 0
    while match := CODE.match(line, at):
        at = match.end()
    return line[:at]


def _split_key(text: str) -> tuple[str, str]:
    """Return the key at the start of a text, and the rest after it and its blanks."""
    match = KEY.match(text)
    assert match is not None
    return match[0], text[match.end() :].lstrip(BLANKS)


def _literal(part: re.Match[str]) -> str:
    if part["quote"]:
        return re.sub(r"\\(.)", r"\1", part["inner"], flags=re.DOTALL)
    if part["escaped"]:
        return ESCAPES.get(part["escaped"], part["escaped"])
    return part["plain"] or ""
