"""An OpenSSL request configuration (`*.cnf` with a `[ req ]` section) read as the declaration of a leaf.

What config(5) and req(1) say that matters for a request: sections, `$variables`, `@sections` of alternative names,
`default_bits`, `extendedKeyUsage`. What OpenSSL would do with the rest (prompts, ASN.1 masks) is left alone.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pki.errors import PkiError

LONGEST = 65536  # as in OpenSSL: a value that doubles on each line would fill the memory
Sections = dict[str, dict[str, str]]

CURVES = {
    "p-256": "ec-p256",
    "prime256v1": "ec-p256",
    "secp256r1": "ec-p256",
    "p-384": "ec-p384",
    "secp384r1": "ec-p384",
}
LONGEST = 65536  # characters of an expanded value (MAX_CONF_VALUE_LENGTH in OpenSSL)
PURPOSES = {"serverAuth": "server", "clientAuth": "client"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a request configuration asks for.

    `key` is empty when it leaves that to the profile. `lines` are those of the CN and the alternative names, by their text.
    """

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: str
    profile: str
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Text:
    """A configuration taken apart: values by section and key, and the line of each."""

    sections: Sections
    lines: dict[tuple[str, str], int] = field(default_factory=dict)


def is_request(text: str) -> bool:
    return re.search(r"^[ \t]*\[[ \t]*req[ \t]*\]", text, re.MULTILINE) is not None


def read(text: str, name: str) -> Request:
    """Raises PkiError that names the file and what it asks that cannot be had."""
    parsed = _parsed(text, name)
    sections = parsed.sections
    req = sections.get("req", {})
    called = req.get("distinguished_name", "")
    extensions_name = next((s for k in ("req_extensions", "x509_extensions") if sections.get(s := req.get(k, ""))), "")
    extensions = sections.get(extensions_name, {})
    lines = dict[str, int]()
    kinds: dict[str, list[str]] = {"DNS": [], "IP": [], "email": []}
    value = extensions.get("subjectAltName", "")
    for kind, one, place in _alternative_names(parsed, value, (extensions_name, "subjectAltName"), name):
        kinds[kind].append(one)
        lines.setdefault(one, parsed.lines[place])
    common_name, key = _common_name(req, sections.get(called, {}))
    if common_name:
        lines.setdefault(common_name, parsed.lines[called, key])
    return Request(
        common_name=common_name,
        dns=tuple(kinds["DNS"]),
        addresses=tuple(kinds["IP"]),
        emails=tuple(kinds["email"]),
        key=_key(req, name),
        profile=_profile(extensions.get("extendedKeyUsage", "serverAuth"), name),
        lines=lines,
    )


def _parsed(text: str, name: str) -> _Text:
    found = _Text({"default": {}})
    current = "default"
    for number, line in _whole_lines(text):
        bare = re.sub(r"(?<!\\)#.*", "", line).strip()
        if not bare or bare.startswith((";", ".")):
            continue
        if heading := re.fullmatch(r"\[\s*(\S+)\s*\]", bare):
            current = heading[1]
            found.sections.setdefault(current, {})
            continue
        key, equals, value = bare.partition("=")
        if not equals:
            raise PkiError(f"{name}:{number}: expected [ section ] or name = value, got {bare!r}")
        place = f"{name}:{number}"
        found.sections[current][key.strip()] = _expand(value.strip().strip("\"'"), found.sections, current, place)
        found.lines[current, key.strip()] = number
    return found


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first, those put together that a backslash continues; LF ends one, as for OpenSSL."""
    first, begun = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        first = first or number
        if line.endswith("\\"):
            begun += line[:-1]
            continue
        yield first, begun + line
        first, begun = 0, ""
    if begun:
        yield first, begun


def _expand(value: str, sections: Sections, current: str, place: str) -> str:
    scope = ChainMap(sections[current], sections["default"])
    room = LONGEST - len(value)

    def substitute(found: re.Match[str]) -> str:
        nonlocal room
        section, _, variable = (found["braced"] or found["bracketed"] or found["plain"]).rpartition("::")
        if section == "ENV":
            raise PkiError(f"{place}: {found[0]}: the environment is not read", "write the value itself")
        known = sections.get(section, {}) if section else scope
        if variable not in known:
            raise PkiError(f"{place}: {found[0]}: no such variable above this line")
        room -= len(known[variable])
        if room < 0:
            raise PkiError(
                f"{place}: grows beyond {LONGEST} characters", "OpenSSL refuses it too: expand fewer variables"
            )
        return known[variable]

    reference = r"\w+(?:::\w+)?"
    pattern = rf"\$(?:\{{(?P<braced>{reference})\}}|\((?P<bracketed>{reference})\)|(?P<plain>{reference}))"
    expanded = re.sub(pattern, substitute, value)
    if len(expanded) > LONGEST:
        raise PkiError(f"{place}: longer than {LONGEST} characters once its variables are put in")
    return expanded


def _alternative_names(
    parsed: _Text, value: str, place: tuple[str, str], name: str
) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Kind and text of each alternative name, with the section and key in which it is written."""
    if value.startswith("@"):
        section = value[1:].strip()
        if section not in parsed.sections:
            raise PkiError(f"{name}: subjectAltName names [ {section} ], which is not there")
        found = [(key, text, (section, key)) for key, text in parsed.sections[section].items()]
    else:
        parts = (part.strip().partition(":") for part in value.split(","))
        found = [(kind, rest, place) for kind, _, rest in parts if kind]
    for key, text, where in found:
        kind = key.partition(".")[0].strip()
        if kind not in {"DNS", "IP", "email"}:
            raise PkiError(f"{name}:{parsed.lines[where]}: subjectAltName: {kind}: expected DNS, IP or email")
        yield kind, text.strip(), where


def _common_name(req: dict[str, str], subject: dict[str, str]) -> tuple[str, str]:
    """The CN's value, and its key. Without `prompt = no` a value with blanks is the question that OpenSSL would ask."""
    for key in ("CN", "commonName"):
        if default := subject.get(f"{key}_default"):
            return default, f"{key}_default"
        value = subject.get(key, "")
        if value and (req.get("prompt") == "no" or " " not in value):
            return value, key
    return "", ""


def _key(req: dict[str, str], name: str) -> str:
    curve = req.get("ec_paramgen_curve") or req.get("default_curve")
    if curve:
        if curve.lower() not in CURVES:
            raise PkiError(f"{name}: curve {curve}: expected P-256 or P-384")
        return CURVES[curve.lower()]
    bits = req.get("default_bits", "")
    if bits and bits not in {"2048", "3072", "4096"}:
        raise PkiError(f"{name}: default_bits = {bits}: expected 2048, 3072 or 4096")
    return f"rsa-{bits}" if bits else ""


def _profile(value: str, name: str) -> str:
    purposes = {part.strip() for part in value.split(",")} - {"critical"}
    if len(purposes) != 1 or not purposes <= set(PURPOSES):
        raise PkiError(f"{name}: extendedKeyUsage = {value}: expected serverAuth or clientAuth, not both")
    return PURPOSES[purposes.pop()]
