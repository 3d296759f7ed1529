"""An OpenSSL request configuration (`*.cnf` with a `[ req ]` section) read as the declaration of a leaf.

What config(5) and req(1) say that matters for a request: sections, `$variables`, `@sections` of alternative names,
`default_bits`, `extendedKeyUsage`. What OpenSSL would do with the rest (prompts, ASN.1 masks) is left alone.
"""

from __future__ import annotations

import re
from collections import ChainMap
from dataclasses import dataclass

from pki.errors import PkiError

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
    """What a request configuration asks for; `key` is empty when it leaves that to the profile."""

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: str
    profile: str


def is_request(text: str) -> bool:
    return re.search(r"^[ \t]*\[[ \t]*req[ \t]*\]", text, re.MULTILINE) is not None


def read(text: str, name: str) -> Request:
    """Raises PkiError that names the file and what it asks that cannot be had."""
    sections = _sections(text, name)
    req = sections["req"]
    subject = sections.get(req.get("distinguished_name", ""), {})
    extensions = sections.get(req.get("req_extensions", ""), {}) or sections.get(req.get("x509_extensions", ""), {})
    kinds = _alternative_names(sections, extensions.get("subjectAltName", ""), name)
    return Request(
        common_name=_common_name(req, subject),
        dns=tuple(kinds["DNS"]),
        addresses=tuple(kinds["IP"]),
        emails=tuple(kinds["email"]),
        key=_key(req, name),
        profile=_profile(extensions.get("extendedKeyUsage", "serverAuth"), name),
    )


def _sections(text: str, name: str) -> Sections:
    sections: Sections = {"default": {}}
    current = "default"
    for number, line in enumerate(text.replace("\\\n", "").splitlines(), 1):
        bare = re.sub(r"(?<!\\)#.*", "", line).strip()
        if not bare or bare.startswith((";", ".")):
            continue
        if heading := re.fullmatch(r"\[\s*(\S+)\s*\]", bare):
            current = heading[1]
            sections.setdefault(current, {})
            continue
        key, equals, value = bare.partition("=")
        if not equals:
            raise PkiError(f"{name}:{number}: expected [ section ] or name = value, got {bare!r}")
        sections[current][key.strip()] = _expand(value.strip().strip("\"'"), sections, current, f"{name}:{number}")
    return sections


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
    return re.sub(pattern, substitute, value)


def _alternative_names(sections: Sections, value: str, name: str) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {"DNS": [], "IP": [], "email": []}
    if value.startswith("@"):
        section = value[1:].strip()
        if section not in sections:
            raise PkiError(f"{name}: subjectAltName names [ {section} ], which is not there")
        pairs = list(sections[section].items())
    else:
        pairs = [(kind, rest) for kind, _, rest in (part.strip().partition(":") for part in value.split(",")) if kind]
    for key, text in pairs:
        kind = key.partition(".")[0].strip()
        if kind not in kinds:
            raise PkiError(f"{name}: subjectAltName: {kind}: expected DNS, IP or email")
        kinds[kind].append(text.strip())
    return kinds


def _common_name(req: dict[str, str], subject: dict[str, str]) -> str:
    """The CN's value. Without `prompt = no` a value with blanks is the question that OpenSSL would ask."""
    for key in ("CN", "commonName"):
        if default := subject.get(f"{key}_default"):
            return default
        value = subject.get(key, "")
        if value and (req.get("prompt") == "no" or " " not in value):
            return value
    return ""


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
