"""An OpenSSL request configuration (`*.cnf` with a `[ req ]` section) read as the declaration of a leaf.

What `openssl req -new -config FILE` makes of a file, for what a certificate here can have: CN and alternative names, the
kind of key, the purpose. What is in no such request is not read: `x509_extensions`, `openssl_conf`, unused lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, TypeVar

from pki.common.errors import FaultsError, PkiError
from pki.config import openssl_cnf_modules, openssl_cnf_values
from pki.config.openssl_cnf_names import (
    ATTRIBUTES,
    CA_TYPES,
    CA_USES,
    CLIENT,
    COMMON_NAME,
    CURVES,
    EMAIL_ADDRESS,
    EXTENSIONS,
    FALSE,
    LIKE_A_NAME,
    OID,
    READ_AS_TEXT,
    SERVER,
    TRUE,
)
from pki.config.openssl_cnf_syntax import BLANKS, Configuration, Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What a request configuration asks for.

    `key` is empty when it leaves that to the profile. `places` are file and line of the CN and the alternative names, by
    their text.
    """

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: str
    profile: str
    places: Mapping[str, str]


class CnfRemark(NamedTuple):
    """Something about a file that stops nothing, and what to do about it."""

    text: str
    remedy: str


class RequestReading(NamedTuple):
    """What a file declares: no leaf where it describes a CA."""

    request: Request | None
    remarks: tuple[CnfRemark, ...] = ()


@dataclass(frozen=True, slots=True)
class _Subject:
    """The CN, a question or an empty value that stands in its place, and the e-mail addresses of a subject."""

    common_name: Value | None = None
    question: Value | None = None
    empty: Value | None = None
    emails: tuple[Value, ...] = ()


def is_request(text: str) -> bool:
    return re.search(r"^\ufeff?[ \t]*\[[ \t]*req[ \t]*\]", text, re.MULTILINE) is not None


def has_include(text: str) -> bool:
    """Whether the section `[ req ]` may be in another file."""
    return re.search(r"^[ \t]*\.include\b", text, re.MULTILINE) is not None


def read_request(found: Configuration, name: str, folder: Path | None = None) -> RequestReading:
    """Raises PkiError that names file and line of everything that cannot be had; `folder` is that of the file."""
    extensions = _request_extensions(found)
    if ca := _find_ca_mark(found, extensions):
        what = f"{ca.place}: {ca.raw} asks for a CA: this file declares no certificate"
        return RequestReading(
            None, (CnfRemark(what, "a CA comes from a root ceremony: docs/ceremony.md; # deploy-certificate: no"),)
        )
    faults = list[PkiError]()
    subject = _collect_fault(faults, lambda: _read_subject(found, name), _Subject())
    profile = _collect_fault(faults, lambda: _read_profile(found, extensions), "server")
    names = _collect_fault(
        faults, lambda: list(_read_alternative_names(found, extensions, subject)), list[tuple[str, str, str]]()
    )
    key = _collect_fault(faults, lambda: _read_key_kind(found), "")
    faults += _question_faults(subject, profile)
    faults += [*openssl_cnf_values.find_faults(found, extensions), *openssl_cnf_modules.find_faults(found, folder)]
    remarks = _collect_fault(
        faults, lambda: list(_find_remarks(found, named=bool(subject.common_name or names))), list[CnfRemark]()
    )
    if faults:
        raise FaultsError.of(faults)
    places = dict[str, str]()
    for _, text, place in names:
        places.setdefault(text, place)
    common_name = subject.common_name.text if subject.common_name else ""
    if subject.common_name:
        places.setdefault(common_name, subject.common_name.place)
    dns, addresses, emails = (tuple(text for kind, text, _ in names if kind == one) for one in ("DNS", "IP", "email"))
    return RequestReading(Request(common_name, dns, addresses, emails, key, profile, places), tuple(remarks))


def _collect_fault(faults: list[PkiError], part: Callable[[], T], otherwise: T) -> T:
    try:
        return part()
    except PkiError as fault:
        faults.append(fault)
        return otherwise


# -- subject ----------------------------------------------------------------------------------------------------------


def _read_subject(found: Configuration, name: str) -> _Subject:
    """The subject by its text with `prompt = no`, else by the answers that an empty line gives to each question."""
    section = _find_section(found, "distinguished_name")
    if section is None:
        raise PkiError(f"{name}: [ req ] has no distinguished_name, without which OpenSSL makes no request")
    _find_section(found, "attributes")
    is_asked = found.text("req", "prompt") != "no"
    answers = _prompted_attributes(found, section.text) if is_asked else _given_attributes(found, section.text)
    questions = [value for kind, value, given in answers if kind in COMMON_NAME and given is None]
    given = [(kind, given) for kind, _, given in answers if given is not None]
    named = [value for kind, value in given if kind in COMMON_NAME]
    common_names = [value for value in named if value.fault or value.raw]
    if len(common_names) > 1:
        raise PkiError(
            f"{common_names[1].place}: a second CN: a certificate has one here",
            "write it as an alternative name: subjectAltName = DNS:NAME",
        )
    subject = _Subject(
        common_names[0] if common_names else None,
        questions[0] if questions else None,
        next((value for value in named if value not in common_names), None),
        tuple(value for kind, value in given if kind in EMAIL_ADDRESS),
    )
    if not given and not _is_name(subject.question, ""):
        raise PkiError(
            f"{section.place}: [ {section.text} ] gives the subject no value, and OpenSSL makes no request without",
            f"write prompt = no into [ req ], and CN = NAME into [ {section.text} ]",
        )
    for value in (*common_names, *subject.emails):
        value.text  # noqa: B018 - raises when it cannot be read
    if odd := [fault for kind, value in given if (fault := openssl_cnf_values.attribute_fault(kind, value))]:
        raise FaultsError.of(odd)
    return subject


def _find_section(found: Configuration, key: str) -> Value | None:
    """The value of a key of [ req ] that names a section. Raises PkiError where there is no such section."""
    value = found.get("req", key)
    if value and value.text not in found.sections:
        what = f"{value.place}: {key} names [ {value.text} ], which is not there"
        raise PkiError(what, "OpenSSL refuses it too: write the section, or take the line out")
    return value


def _prompted_attributes(found: Configuration, section: str) -> list[tuple[str, Value, Value | None]]:
    """Kind, question and default of each attribute that OpenSSL asks for."""
    answers = list[tuple[str, Value, Value | None]]()
    for key, question in found.sections[section].items():
        kind = _attribute_kind(key)
        if key.endswith(("_min", "_max", "_default", "_value")) or kind not in ATTRIBUTES:
            continue
        given = found.get(section, f"{key}_value") or found.get(section, f"{key}_default")
        openssl_cnf_values.require_length(found, section, key, given)
        answers.append((kind, question, given if given and (given.fault or given.raw) else None))
    return answers


def _given_attributes(found: Configuration, section: str) -> list[tuple[str, Value, Value | None]]:
    """Kind and value of each attribute, as `_answers`. Raises PkiError where OpenSSL would find no such attribute."""
    own, attributes = _declared_oids(found), list[tuple[str, Value, Value | None]]()
    for key, value in found.sections[section].items():
        kind = _attribute_kind(key)
        if kind not in ATTRIBUTES | own and not OID.fullmatch(kind):
            raise _unknown_attribute(kind, f"{value.place}: {key}")
        attributes.append((kind, value, value))
    return attributes


def _unknown_attribute(kind: str, place: str) -> PkiError:
    base = re.sub(r"_(default|min|max|value)$", "", kind)
    if base != kind:
        return PkiError(
            f"{place}: with prompt = no OpenSSL takes this for an attribute, and there is none",
            f"write {base} = VALUE, or take prompt = no out",
        )
    by_lower = {one.lower(): one for one in sorted(ATTRIBUTES) if one.isalpha()}
    close = get_close_matches(kind.lower(), by_lower, n=1, cutoff=0.8)
    meant = f" (did you mean {by_lower[close[0]]}?)" if close else ""
    return PkiError(
        f"{place} is no attribute of a subject that is known here{meant}", "correct it, or take the line out"
    )


def _attribute_kind(key: str) -> str:
    """The attribute of a key such as `0.commonName`, which may stand several times in that manner, or `+CN`."""
    separator = re.search(r"[:,.](?=.)", key)
    return key[separator.end() if separator else 0 :].removeprefix("+")


def _question_faults(subject: _Subject, profile: str) -> Iterator[PkiError]:
    """A name in the place of a question, which OpenSSL would ask and not take for a name; a CN without a value."""
    question = subject.question
    if subject.empty and (profile == "server" or subject.common_name):  # else the rules for a client's names say so
        yield PkiError(f"{subject.empty.place}: CN is empty, and OpenSSL takes no such attribute", "CN = NAME")
    if question and not subject.common_name and _is_name(question, profile):
        what = f"{question.raw} is the question that OpenSSL asks for the CN, and no CN"
        yield PkiError(f"{question.place}: {what}", "write prompt = no into [ req ]")


def _is_name(question: Value | None, profile: str) -> bool:
    """Whether somebody who wrote a question meant a name."""
    if question is None or question.fault or not LIKE_A_NAME.fullmatch(question.raw):
        return False
    return "." in question.raw or profile == "client"


# -- extensions -------------------------------------------------------------------------------------------------------


def _request_extensions(found: Configuration) -> dict[str, Value]:
    """The section that `req_extensions` names: the only one whose extensions are in a request."""
    section = _find_section(found, "req_extensions")
    if section is None:
        return {}
    own, extensions = _declared_oids(found), found.sections[section.text]
    for key, value in extensions.items():
        if key in READ_AS_TEXT:
            raise PkiError(f"{value.place}: {key} is not read", f"write {READ_AS_TEXT[key]} = …")
        if key == "authorityKeyIdentifier" and value.raw != "none":
            what = f"{value.place}: {key}: a request has no issuer, and OpenSSL makes none with it"
            raise PkiError(what, "take the line out: every certificate gets it here")
        if key not in EXTENSIONS | own and not OID.fullmatch(key):
            close = get_close_matches(key, EXTENSIONS, n=1, cutoff=0.7)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise PkiError(f"{value.place}: {key} is no extension that is known here{meant}")
    return extensions


def _split_extension(found: Configuration, key: str, value: Value) -> list[tuple[str, str | None, str]]:
    """The parts of an extension, each with name, value and place: from a list, or from the section behind `@`."""
    text = value.text
    if text.startswith("critical,"):
        text = text.removeprefix("critical,").lstrip(BLANKS)
    if text.startswith(("DER:", "ASN1:")):
        raise PkiError(f"{value.place}: {key}: {text.partition(':')[0]} is not read", "write it as text")
    if text.startswith("@"):
        if text[1:] not in found.sections:
            raise PkiError(f"{value.place}: {key} names [ {text[1:]} ], which is not there")
        return [(kind, one.text, one.place) for kind, one in found.sections[text[1:]].items()]
    parts = list[tuple[str, str | None, str]]()
    for part in text.split(","):
        kind, colon, rest = (one.strip(BLANKS) for one in part.partition(":"))
        if not kind or (colon and not rest):
            raise PkiError(f"{value.place}: {key} = {value.raw}: a part of it is empty", "OpenSSL refuses it too")
        parts.append((kind, rest if colon else None, value.place))
    return parts


def _find_ca_mark(found: Configuration, extensions: Mapping[str, Value]) -> Value | None:
    """The line of a section that says that its certificate is that of a CA."""
    if value := extensions.get("basicConstraints"):
        for kind, text, place in _split_extension(found, "basicConstraints", value):
            if kind == "CA" and text in TRUE:
                return Value("CA:TRUE", place)
            if (kind == "CA" and text not in FALSE) or kind not in {"CA", "pathlen"}:
                raise PkiError(f"{place}: basicConstraints = {value.raw}: expected CA:TRUE or CA:FALSE")
    for key, marks in (("keyUsage", CA_USES), ("nsCertType", CA_TYPES)):
        if value := extensions.get(key):
            for kind, text, place in _split_extension(found, key, value):
                if (mark := text or kind) in marks:
                    return Value(mark, place)
    return None


def _read_profile(found: Configuration, extensions: Mapping[str, Value]) -> str:
    """`server` or `client`; a request that says nothing of its purpose is for a server."""
    value = extensions.get("extendedKeyUsage")
    if value is None:
        kinds = {text or kind for kind, text, _ in _split_if_present(found, extensions, "nsCertType")}
        if kinds & {"client", "SSL Client"} and not kinds & {"server", "SSL Server"}:
            raise PkiError(
                f"{extensions['nsCertType'].place}: nsCertType = client is not read", "extendedKeyUsage = clientAuth"
            )
        return "server"
    meant = {text or kind for kind, text, _ in _split_extension(found, "extendedKeyUsage", value)}
    is_server, is_client = bool(meant & SERVER), bool(meant & CLIENT)
    if meant <= SERVER | CLIENT and is_server != is_client:
        return "server" if is_server else "client"
    told = f"{value.place}: extendedKeyUsage = {value.raw}: expected serverAuth or clientAuth"
    if is_server and is_client:
        raise PkiError(
            f"{told}, not both",
            "two files, each with one purpose: this one with serverAuth, a copy with clientAuth under another file name, "
            "deploy-target and CN",
        )
    others = ", ".join(sorted(meant - SERVER - CLIENT))
    raise PkiError(f"{told}; no certificate for {others} is issued here", "take the other purposes out")


def _split_if_present(
    found: Configuration, extensions: Mapping[str, Value], key: str
) -> list[tuple[str, str | None, str]]:
    return _split_extension(found, key, extensions[key]) if key in extensions else []


def _declared_oids(found: Configuration) -> set[str]:
    """Names that the file itself gives to OIDs: `oid_section`. OpenSSL lets none of them rename an OID that it knows."""
    section = found.get("default", "oid_section")
    return set(found.sections.get(section.raw, {})) if section and section.fault is None else set()


def _read_alternative_names(
    found: Configuration, extensions: Mapping[str, Value], subject: _Subject
) -> Iterator[tuple[str, str, str]]:
    """Kind, text and place of each alternative name."""
    faults = list[PkiError]()
    for key, text, place in _split_if_present(found, extensions, "subjectAltName"):
        kind = key.partition(".")[0]
        if kind not in {"DNS", "IP", "email"}:
            faults.append(PkiError(f"{place}: subjectAltName: {kind}: expected DNS, IP or email"))
        elif text is None:
            faults.append(PkiError(f"{place}: subjectAltName: {kind} names nothing", f"{kind}:NAME"))
        elif kind == "email" and text in {"copy", "move"}:
            yield from (("email", one.text, one.place) for one in subject.emails)
        else:
            yield kind, text, place
    if faults:
        raise FaultsError.of(faults)


def _find_remarks(found: Configuration, *, named: bool) -> Iterator[CnfRemark]:
    """What somebody may expect of a file and `openssl req -new` does not do."""
    value = found.get("req", "x509_extensions")
    if value is None or value.fault or _find_section(found, "x509_extensions") is None:
        return
    section = found.sections[value.raw]
    names = section.get("subjectAltName")
    place, other = f"{value.place}: x509_extensions = {value.raw}", found.get("req", "req_extensions") is not None
    if names and not other:
        what, remedy = f"{place}: the names in it are in no request", f"write req_extensions = {value.raw}"
        if not named:
            raise PkiError(what, remedy)
        yield CnfRemark(what, f"{remedy}; if that is meant: # deploy-certificate: yes")
    try:
        is_ca = _find_ca_mark(found, section) is not None
    except PkiError:
        return  # which no request uses
    if is_ca:
        yield CnfRemark(f"{place} describes a CA, and is in no request", "if that is meant: # deploy-certificate: yes")


# -- key --------------------------------------------------------------------------------------------------------------


def _read_key_kind(found: Configuration) -> str:
    curve = found.get("req", "ec_paramgen_curve") or found.get("req", "default_curve")
    if curve and curve.text:
        if curve.text.lower() not in CURVES:
            raise PkiError(f"{curve.place}: curve {curve.text}: expected P-256 or P-384")
        return CURVES[curve.text.lower()]
    bits = found.get("req", "default_bits")
    if bits is None or not bits.text:
        return ""
    digits = re.match(r"[0-9]*", bits.text)
    if digits is None or digits[0] not in {"2048", "3072", "4096"}:
        raise PkiError(f"{bits.place}: default_bits = {bits.text}: expected 2048, 3072 or 4096")
    return f"rsa-{digits[0]}"
