"""Read the subject of an OpenSSL request configuration: its CN and e-mail addresses, given or prompted for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from pki.common.errors import FaultsError, PkiError
from pki.config import openssl_cnf_values
from pki.config.openssl_cnf_names import ATTRIBUTES, COMMON_NAME, EMAIL_ADDRESS, LIKE_A_NAME, OID
from pki.config.openssl_cnf_syntax import Configuration, Value


class _Attribute(NamedTuple):
    """One attribute of a subject: its kind, such as CN, the prompt or value in the file, and its value, if it has one."""

    kind: str
    question: Value
    value: Value | None


@dataclass(frozen=True, slots=True)
class CnfSubject:
    """The CN of a subject, or the prompt or empty value instead of it, and the e-mail addresses."""

    common_name: Value | None = None
    question: Value | None = None
    empty: Value | None = None
    emails: tuple[Value, ...] = ()


def read_subject(configuration: Configuration, name: str) -> CnfSubject:
    """Return the subject: its attributes with `prompt = no`, else the defaults that OpenSSL uses for empty answers."""
    section = configuration.find_section("distinguished_name")
    if section is None:
        raise PkiError(f"{name}: [ req ] has no distinguished_name, which OpenSSL requires")
    configuration.find_section("attributes")  # raises if the file names a section that does not exist
    read_attributes = _given_attributes
    if configuration.text("req", "prompt") != "no":
        read_attributes = _prompted_attributes
    attributes = read_attributes(configuration, section.text)
    questions = [
        attribute.question for attribute in attributes if attribute.kind in COMMON_NAME and attribute.value is None
    ]
    given_attributes = [(attribute.kind, attribute.value) for attribute in attributes if attribute.value is not None]
    all_common_names = [value for kind, value in given_attributes if kind in COMMON_NAME]
    common_names = [value for value in all_common_names if value.fault or value.raw]
    if len(common_names) > 1:
        raise PkiError(
            f"{common_names[1].place}: a second CN: a certificate of this program has one",
            "write it as an alternative name: subjectAltName = DNS:NAME",
        )
    subject = CnfSubject(
        common_names[0] if common_names else None,
        questions[0] if questions else None,
        next((value for value in all_common_names if value not in common_names), None),
        tuple(value for kind, value in given_attributes if kind in EMAIL_ADDRESS),
    )
    if not given_attributes and not _is_name(subject.question, ""):
        raise PkiError(
            f"{section.place}: [ {section.text} ] gives the subject no value, which OpenSSL requires",
            f"write prompt = no into [ req ], and CN = NAME into [ {section.text} ]",
        )
    for value in (*common_names, *subject.emails):
        value.text  # noqa: B018 - raises when it cannot be read
    faults = [openssl_cnf_values.attribute_fault(kind, value) for kind, value in given_attributes]
    length_faults = [fault for fault in faults if fault]
    if length_faults:
        raise FaultsError.of(length_faults)
    return subject


def _prompted_attributes(configuration: Configuration, section: str) -> list[_Attribute]:
    """Return the attributes that OpenSSL prompts for; the value of each is its default."""
    attributes = list[_Attribute]()
    for key, question in configuration.sections[section].items():
        kind = _attribute_kind(key)
        if key.endswith(("_min", "_max", "_default", "_value")) or kind not in ATTRIBUTES:
            continue
        given = configuration.get(section, f"{key}_value") or configuration.get(section, f"{key}_default")
        openssl_cnf_values.require_length(configuration, section, key, given)
        is_answered = given is not None and (given.fault or given.raw)
        attributes.append(_Attribute(kind, question, given if is_answered else None))
    return attributes


def _given_attributes(configuration: Configuration, section: str) -> list[_Attribute]:
    """Return the attributes of a file with `prompt = no`. Raises PkiError for an unknown attribute."""
    declared, attributes = configuration.declared_oids(), list[_Attribute]()
    for key, value in configuration.sections[section].items():
        kind = _attribute_kind(key)
        if kind not in ATTRIBUTES | declared and not OID.fullmatch(kind):
            raise _unknown_attribute(kind, f"{value.place}: {key}")
        attributes.append(_Attribute(kind, value, value))
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


def question_faults(subject: CnfSubject, profile: str) -> Iterator[PkiError]:
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
