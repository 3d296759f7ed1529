"""Read an OpenSSL request configuration (`*.cnf` with a `[ req ]` section) as the declaration of a leaf.

The result is what `openssl req -new -config FILE` would request: CN and alternative names, kind of key, purpose. Parts
that are not in such a request are ignored: `x509_extensions`, `openssl_conf`, unused lines.
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
    """The certificate that a request configuration requests.

    `key` is "" if the profile decides. `places` maps the CN and each alternative name to its file and line.
    """

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: str
    profile: str
    places: Mapping[str, str]


class CnfRemark(NamedTuple):
    """A remark about a file that is not an error, and its remedy."""

    text: str
    remedy: str


class RequestReading(NamedTuple):
    """The result of reading a file; `request` is None if the file describes a CA."""

    request: Request | None
    remarks: tuple[CnfRemark, ...] = ()


@dataclass(frozen=True, slots=True)
class _Subject:
    """The CN of a subject, or the prompt or empty value instead of it, and the e-mail addresses."""

    common_name: Value | None = None
    question: Value | None = None
    empty: Value | None = None
    emails: tuple[Value, ...] = ()


def is_request(text: str) -> bool:
    """Return whether a text has a section `[ req ]`."""
    return re.search(r"^\ufeff?[ \t]*\[[ \t]*req[ \t]*\]", text, re.MULTILINE) is not None


def has_include(text: str) -> bool:
    """Return whether a text includes other files, which may have the section `[ req ]`."""
    return re.search(r"^[ \t]*\.include\b", text, re.MULTILINE) is not None


def read_request(configuration: Configuration, name: str, folder: Path | None = None) -> RequestReading:
    """Read the request that a configuration declares; `folder` is the folder of the file.

    Raises PkiError with all faults, each with its file and line.
    """
    extensions = _request_extensions(configuration)
    if ca := _find_ca_mark(configuration, extensions):
        what = f"{ca.place}: {ca.raw} requests a CA: this file declares no certificate"
        return RequestReading(
            None, (CnfRemark(what, "a CA comes from a root ceremony: docs/ceremony.md; # deploy-certificate: no"),)
        )
    faults = list[PkiError]()
    subject = _collect_fault(faults, lambda: _read_subject(configuration, name), _Subject())
    profile = _collect_fault(faults, lambda: _read_profile(configuration, extensions), "server")
    names = _collect_fault(
        faults, lambda: list(_read_alternative_names(configuration, extensions, subject)), list[tuple[str, str, str]]()
    )
    key = _collect_fault(faults, lambda: _read_key_kind(configuration), "")
    faults += _question_faults(subject, profile)
    faults += [
        *openssl_cnf_values.find_faults(configuration, extensions),
        *openssl_cnf_modules.find_faults(configuration, folder),
    ]
    remarks = _collect_fault(
        faults, lambda: list(_find_remarks(configuration, named=bool(subject.common_name or names))), list[CnfRemark]()
    )
    if faults:
        raise FaultsError.of(faults)
    places = dict[str, str]()
    for _, text, place in names:
        places.setdefault(text, place)
    common_name = subject.common_name.text if subject.common_name else ""
    if subject.common_name:
        places.setdefault(common_name, subject.common_name.place)
    dns, addresses, emails = (
        tuple(text for kind, text, _ in names if kind == name_kind) for name_kind in ("DNS", "IP", "email")
    )
    return RequestReading(Request(common_name, dns, addresses, emails, key, profile, places), tuple(remarks))


def _collect_fault(faults: list[PkiError], part: Callable[[], T], otherwise: T) -> T:
    """Return the result of `part`; if it raises PkiError, add it to `faults` and return `otherwise`."""
    try:
        return part()
    except PkiError as fault:
        faults.append(fault)
        return otherwise


# -- subject ----------------------------------------------------------------------------------------------------------


def _read_subject(configuration: Configuration, name: str) -> _Subject:
    """Return the subject: its attributes with `prompt = no`, else the defaults that OpenSSL uses for empty answers."""
    section = _find_section(configuration, "distinguished_name")
    if section is None:
        raise PkiError(f"{name}: [ req ] has no distinguished_name, which OpenSSL requires")
    _find_section(configuration, "attributes")
    has_prompt = configuration.text("req", "prompt") != "no"
    answers = (
        _prompted_attributes(configuration, section.text)
        if has_prompt
        else _given_attributes(configuration, section.text)
    )
    questions = [value for kind, value, given in answers if kind in COMMON_NAME and given is None]
    given = [(kind, given) for kind, _, given in answers if given is not None]
    named = [value for kind, value in given if kind in COMMON_NAME]
    common_names = [value for value in named if value.fault or value.raw]
    if len(common_names) > 1:
        raise PkiError(
            f"{common_names[1].place}: a second CN: a certificate of this program has one",
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
            f"{section.place}: [ {section.text} ] gives the subject no value, which OpenSSL requires",
            f"write prompt = no into [ req ], and CN = NAME into [ {section.text} ]",
        )
    for value in (*common_names, *subject.emails):
        value.text  # noqa: B018 - raises when it cannot be read
    if odd := [fault for kind, value in given if (fault := openssl_cnf_values.attribute_fault(kind, value))]:
        raise FaultsError.of(odd)
    return subject


def _find_section(configuration: Configuration, key: str) -> Value | None:
    """Return the value of a key of [ req ] that names a section, or None. Raises PkiError if the section is missing."""
    value = configuration.get("req", key)
    if value and value.text not in configuration.sections:
        what = f"{value.place}: {key} names [ {value.text} ], which does not exist"
        raise PkiError(what, "OpenSSL refuses it too: add the section, or remove the line")
    return value


def _prompted_attributes(configuration: Configuration, section: str) -> list[tuple[str, Value, Value | None]]:
    """Return kind, prompt and default of each attribute that OpenSSL prompts for."""
    answers = list[tuple[str, Value, Value | None]]()
    for key, question in configuration.sections[section].items():
        kind = _attribute_kind(key)
        if key.endswith(("_min", "_max", "_default", "_value")) or kind not in ATTRIBUTES:
            continue
        given = configuration.get(section, f"{key}_value") or configuration.get(section, f"{key}_default")
        openssl_cnf_values.require_length(configuration, section, key, given)
        answers.append((kind, question, given if given and (given.fault or given.raw) else None))
    return answers


def _given_attributes(configuration: Configuration, section: str) -> list[tuple[str, Value, Value | None]]:
    """Return kind and value of each attribute, like `_prompted_attributes`. Raises PkiError for an unknown attribute."""
    declared, attributes = _declared_oids(configuration), list[tuple[str, Value, Value | None]]()
    for key, value in configuration.sections[section].items():
        kind = _attribute_kind(key)
        if kind not in ATTRIBUTES | declared and not OID.fullmatch(kind):
            raise _unknown_attribute(kind, f"{value.place}: {key}")
        attributes.append((kind, value, value))
    return attributes


def _unknown_attribute(kind: str, place: str) -> PkiError:
    base = re.sub(r"_(default|min|max|value)$", "", kind)
    if base != kind:
        return PkiError(
            f"{place}: with prompt = no OpenSSL reads this as an attribute, and there is none",
            f"write {base} = VALUE, or remove prompt = no",
        )
    by_lower = {attribute.lower(): attribute for attribute in sorted(ATTRIBUTES) if attribute.isalpha()}
    similar = get_close_matches(kind.lower(), by_lower, n=1, cutoff=0.8)
    suggestion = f" (did you mean {by_lower[similar[0]]}?)" if similar else ""
    return PkiError(f"{place} is an unknown attribute of a subject{suggestion}", "correct it, or remove the line")


def _attribute_kind(key: str) -> str:
    """Return the attribute of a key such as `0.commonName` (a prefix for repeated attributes) or `+CN`."""
    separator = re.search(r"[:,.](?=.)", key)
    return key[separator.end() if separator else 0 :].removeprefix("+")


def _question_faults(subject: _Subject, profile: str) -> Iterator[PkiError]:
    """Yield faults of a CN without a value, and of a prompt that looks like a name."""
    question = subject.question
    if subject.empty and (profile == "server" or subject.common_name):  # else a rule for client names reports it
        yield PkiError(f"{subject.empty.place}: CN is empty, which OpenSSL refuses", "CN = NAME")
    if question and not subject.common_name and _is_name(question, profile):
        what = f"{question.raw} is the prompt for the CN, not the CN"
        yield PkiError(f"{question.place}: {what}", "write prompt = no into [ req ]")


def _is_name(question: Value | None, profile: str) -> bool:
    """Return whether a prompt looks like the name that its author wanted."""
    if question is None or question.fault or not LIKE_A_NAME.fullmatch(question.raw):
        return False
    return "." in question.raw or profile == "client"


# -- extensions -------------------------------------------------------------------------------------------------------


def _request_extensions(configuration: Configuration) -> dict[str, Value]:
    """Return the section that `req_extensions` names: only its extensions are in a request."""
    section = _find_section(configuration, "req_extensions")
    if section is None:
        return {}
    declared, extensions = _declared_oids(configuration), configuration.sections[section.text]
    for key, value in extensions.items():
        if key in READ_AS_TEXT:
            raise PkiError(f"{value.place}: {key} is not supported", f"write {READ_AS_TEXT[key]} = …")
        if key == "authorityKeyIdentifier" and value.raw != "none":
            what = f"{value.place}: {key}: a request has no issuer, so OpenSSL refuses it"
            raise PkiError(what, "remove the line: every certificate gets this extension")
        if key not in EXTENSIONS | declared and not OID.fullmatch(key):
            similar = get_close_matches(key, EXTENSIONS, n=1, cutoff=0.7)
            suggestion = f" (did you mean {similar[0]}?)" if similar else ""
            raise PkiError(f"{value.place}: {key} is an unknown extension{suggestion}")
    return extensions


def _split_extension(configuration: Configuration, key: str, value: Value) -> list[tuple[str, str | None, str]]:
    """Return name, value and place of each part of an extension: a list, or the section after `@`."""
    text = value.text
    if text.startswith("critical,"):
        text = text.removeprefix("critical,").lstrip(BLANKS)
    if text.startswith(("DER:", "ASN1:")):
        raise PkiError(f"{value.place}: {key}: {text.partition(':')[0]} is not supported", "write it as text")
    if text.startswith("@"):
        if text[1:] not in configuration.sections:
            raise PkiError(f"{value.place}: {key} names [ {text[1:]} ], which does not exist")
        return [(kind, item.text, item.place) for kind, item in configuration.sections[text[1:]].items()]
    parts = list[tuple[str, str | None, str]]()
    for part in text.split(","):
        kind, colon, rest = (piece.strip(BLANKS) for piece in part.partition(":"))
        if not kind or (colon and not rest):
            raise PkiError(f"{value.place}: {key} = {value.raw}: one part is empty", "OpenSSL refuses it too")
        parts.append((kind, rest if colon else None, value.place))
    return parts


def _find_ca_mark(configuration: Configuration, extensions: Mapping[str, Value]) -> Value | None:
    """Return the value that makes the certificate a CA certificate, or None."""
    if value := extensions.get("basicConstraints"):
        for kind, text, place in _split_extension(configuration, "basicConstraints", value):
            if kind == "CA" and text in TRUE:
                return Value("CA:TRUE", place)
            if (kind == "CA" and text not in FALSE) or kind not in {"CA", "pathlen"}:
                raise PkiError(f"{place}: basicConstraints = {value.raw}: expected CA:TRUE or CA:FALSE")
    for key, marks in (("keyUsage", CA_USES), ("nsCertType", CA_TYPES)):
        if value := extensions.get(key):
            for kind, text, place in _split_extension(configuration, key, value):
                if (mark := text or kind) in marks:
                    return Value(mark, place)
    return None


def _read_profile(configuration: Configuration, extensions: Mapping[str, Value]) -> str:
    """Return `server` or `client`; without a purpose, `server`."""
    value = extensions.get("extendedKeyUsage")
    if value is None:
        kinds = {text or kind for kind, text, _ in _split_if_present(configuration, extensions, "nsCertType")}
        if kinds & {"client", "SSL Client"} and not kinds & {"server", "SSL Server"}:
            raise PkiError(
                f"{extensions['nsCertType'].place}: nsCertType = client is not read", "extendedKeyUsage = clientAuth"
            )
        return "server"
    purposes = {text or kind for kind, text, _ in _split_extension(configuration, "extendedKeyUsage", value)}
    is_server, is_client = bool(purposes & SERVER), bool(purposes & CLIENT)
    if purposes <= SERVER | CLIENT and is_server != is_client:
        return "server" if is_server else "client"
    expected = f"{value.place}: extendedKeyUsage = {value.raw}: expected serverAuth or clientAuth"
    if is_server and is_client:
        raise PkiError(
            f"{expected}, not both",
            "use two files with one purpose each: this one with serverAuth, and a copy with clientAuth, another file name, "
            "deploy-target and CN",
        )
    others = ", ".join(sorted(purposes - SERVER - CLIENT))
    raise PkiError(f"{expected}; certificates for {others} are not issued", "remove the other purposes")


def _split_if_present(
    configuration: Configuration, extensions: Mapping[str, Value], key: str
) -> list[tuple[str, str | None, str]]:
    return _split_extension(configuration, key, extensions[key]) if key in extensions else []


def _declared_oids(configuration: Configuration) -> set[str]:
    """Return the names of OIDs that the file defines in its `oid_section`."""
    section = configuration.get("default", "oid_section")
    return set(configuration.sections.get(section.raw, {})) if section and section.fault is None else set()


def _read_alternative_names(
    configuration: Configuration, extensions: Mapping[str, Value], subject: _Subject
) -> Iterator[tuple[str, str, str]]:
    """Yield kind, text and place of each alternative name."""
    faults = list[PkiError]()
    for key, text, place in _split_if_present(configuration, extensions, "subjectAltName"):
        kind = key.partition(".")[0]
        if kind not in {"DNS", "IP", "email"}:
            faults.append(PkiError(f"{place}: subjectAltName: {kind}: expected DNS, IP or email"))
        elif text is None:
            faults.append(PkiError(f"{place}: subjectAltName: {kind} has no value", f"{kind}:NAME"))
        elif kind == "email" and text in {"copy", "move"}:
            yield from (("email", email.text, email.place) for email in subject.emails)
        else:
            yield kind, text, place
    if faults:
        raise FaultsError.of(faults)


def _find_remarks(configuration: Configuration, *, named: bool) -> Iterator[CnfRemark]:
    """Yield remarks about parts of the file that `openssl req -new` ignores."""
    value = configuration.get("req", "x509_extensions")
    if value is None or value.fault or _find_section(configuration, "x509_extensions") is None:
        return
    section = configuration.sections[value.raw]
    names = section.get("subjectAltName")
    place, has_req_extensions = (
        f"{value.place}: x509_extensions = {value.raw}",
        configuration.get("req", "req_extensions") is not None,
    )
    if names and not has_req_extensions:
        what, remedy = f"{place}: its names are not in the request", f"write req_extensions = {value.raw}"
        if not named:
            raise PkiError(what, remedy)
        yield CnfRemark(what, f"{remedy}; if that is intended: # deploy-certificate: yes")
    try:
        is_ca = _find_ca_mark(configuration, section) is not None
    except PkiError:
        return  # the section is not in a request
    if is_ca:
        yield CnfRemark(
            f"{place} describes a CA, and is not in the request", "if that is intended: # deploy-certificate: yes"
        )


# -- key --------------------------------------------------------------------------------------------------------------


def _read_key_kind(configuration: Configuration) -> str:
    """Return the kind of key, such as `ec-p256`, or "" if the file does not define it."""
    curve = configuration.get("req", "ec_paramgen_curve") or configuration.get("req", "default_curve")
    if curve and curve.text:
        if curve.text.lower() not in CURVES:
            raise PkiError(f"{curve.place}: curve {curve.text}: expected P-256 or P-384")
        return CURVES[curve.text.lower()]
    bits = configuration.get("req", "default_bits")
    if bits is None or not bits.text:
        return ""
    digits = re.match(r"[0-9]*", bits.text)
    if digits is None or digits[0] not in {"2048", "3072", "4096"}:
        raise PkiError(f"{bits.place}: default_bits = {bits.text}: expected 2048, 3072 or 4096")
    return f"rsa-{digits[0]}"
