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
from pki.config.ip_addresses import canonical_address
from pki.config.openssl_cnf_names import (
    CA_TYPES,
    CA_USES,
    CLIENT,
    CURVES,
    EXTENSIONS,
    FALSE,
    OID,
    READ_AS_TEXT,
    SERVER,
    TRUE,
)
from pki.config.openssl_cnf_subject import CnfSubject, question_faults, read_subject
from pki.config.openssl_cnf_syntax import BLANKS, Configuration, Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CnfRequest:
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


class ExtensionPart(NamedTuple):
    """One part of an extension, such as `DNS:web`; `text` is None for a part without a colon. `place` is file and line."""

    kind: str
    text: str | None
    place: str

    @property
    def value(self) -> str:
        """Return the text, or the kind if there is no text: `keyUsage = cRLSign`, or `1 = cRLSign` in a section."""
        return self.text or self.kind


class AlternativeName(NamedTuple):
    """One alternative name; `kind` is DNS, IP or email, `place` is file and line."""

    kind: str
    text: str
    place: str


class RequestReading(NamedTuple):
    """The result of reading a file; `request` is None if the file describes a CA."""

    request: CnfRequest | None
    remarks: tuple[CnfRemark, ...] = ()


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
    ca_mark = _find_ca_mark(configuration, extensions)
    if ca_mark:
        what = f"{ca_mark.place}: {ca_mark.raw} requests a CA: this file declares no certificate"
        return RequestReading(
            None,
            (CnfRemark(what, "a CA comes from a root ceremony: docs/how-to/ceremony.md; # deploy-certificate: no"),),
        )
    faults = list[PkiError]()
    subject = _collect_fault(faults, lambda: read_subject(configuration, name), CnfSubject())
    profile = _collect_fault(faults, lambda: _read_profile(configuration, extensions), "server")
    names = _collect_fault(
        faults, lambda: list(_read_alternative_names(configuration, extensions, subject)), list[AlternativeName]()
    )
    key = _collect_fault(faults, lambda: _read_key_kind(configuration), "")
    faults += question_faults(subject, profile)
    faults += [
        *openssl_cnf_values.find_faults(configuration, extensions),
        *openssl_cnf_modules.find_faults(configuration, folder),
    ]
    remarks = _collect_fault(
        faults,
        lambda: list(_find_remarks(configuration, has_names=bool(subject.common_name or names))),
        list[CnfRemark](),
    )
    if faults:
        raise FaultsError.of(faults)
    places = dict[str, str]()
    for name_in_file in names:
        places.setdefault(name_in_file.text, name_in_file.place)
    common_name = subject.common_name.text if subject.common_name else ""
    if subject.common_name:
        for text in (common_name, canonical_address(common_name)):
            places.setdefault(text, subject.common_name.place)
    dns, addresses, emails = (
        tuple(alternative.text for alternative in names if alternative.kind == kind) for kind in ("DNS", "IP", "email")
    )
    return RequestReading(CnfRequest(common_name, dns, addresses, emails, key, profile, places), tuple(remarks))


def _collect_fault(faults: list[PkiError], part: Callable[[], T], otherwise: T) -> T:
    """Return the result of `part`; if it raises PkiError, add it to `faults` and return `otherwise`."""
    try:
        return part()
    except PkiError as fault:
        faults.append(fault)
        return otherwise


# -- extensions -------------------------------------------------------------------------------------------------------


def _request_extensions(configuration: Configuration) -> dict[str, Value]:
    """Return the section that `req_extensions` names: only its extensions are in a request."""
    section = configuration.find_section("req_extensions")
    if section is None:
        return {}
    declared, extensions = configuration.declared_oids(), configuration.sections[section.text]
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


def _split_extension(configuration: Configuration, key: str, value: Value) -> list[ExtensionPart]:
    """Return the parts of an extension: of its list, or of the section that it names after `@`."""
    text = value.text
    if text.startswith("critical,"):
        text = text.removeprefix("critical,").lstrip(BLANKS)
    if text.startswith(("DER:", "ASN1:")):
        raise PkiError(f"{value.place}: {key}: {text.partition(':')[0]} is not supported", "write it as text")
    if text.startswith("@"):
        if text[1:] not in configuration.sections:
            raise PkiError(f"{value.place}: {key} names [ {text[1:]} ], which does not exist")
        section = configuration.sections[text[1:]]
        return [ExtensionPart(kind, item.text, item.place) for kind, item in section.items()]
    parts = list[ExtensionPart]()
    for part in text.split(","):
        kind, colon, rest = (piece.strip(BLANKS) for piece in part.partition(":"))
        if not kind or (colon and not rest):
            raise PkiError(f"{value.place}: {key} = {value.raw}: one part is empty", "OpenSSL refuses it too")
        parts.append(ExtensionPart(kind, rest if colon else None, value.place))
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
            for part in _split_extension(configuration, key, value):
                if part.value in marks:
                    return Value(part.value, part.place)
    return None


def _read_profile(configuration: Configuration, extensions: Mapping[str, Value]) -> str:
    """Return `server` or `client`; without a purpose, `server`."""
    value = extensions.get("extendedKeyUsage")
    if value is None:
        kinds = {part.value for part in _split_if_present(configuration, extensions, "nsCertType")}
        if kinds & {"client", "SSL Client"} and not kinds & {"server", "SSL Server"}:
            raise PkiError(
                f"{extensions['nsCertType'].place}: nsCertType = client is not read", "extendedKeyUsage = clientAuth"
            )
        return "server"
    purposes = {part.value for part in _split_extension(configuration, "extendedKeyUsage", value)}
    is_server, is_client = bool(purposes & SERVER), bool(purposes & CLIENT)
    if purposes <= SERVER | CLIENT and is_server != is_client:
        return "server" if is_server else "client"
    expected = f"{value.place}: extendedKeyUsage = {value.raw}: expected serverAuth or clientAuth"
    if is_server and is_client:
        raise PkiError(
            f"{expected}, not both",
            "use two files with one purpose each: this one with serverAuth, and a copy with clientAuth, another file name, "
            "deploy-target and CN; for a member of a cluster, peer under its host in pki.yaml",
        )
    others = ", ".join(sorted(purposes - SERVER - CLIENT))
    raise PkiError(f"{expected}; certificates for {others} are not issued", "remove the other purposes")


def _split_if_present(configuration: Configuration, extensions: Mapping[str, Value], key: str) -> list[ExtensionPart]:
    return _split_extension(configuration, key, extensions[key]) if key in extensions else []


def _read_alternative_names(
    configuration: Configuration, extensions: Mapping[str, Value], subject: CnfSubject
) -> Iterator[AlternativeName]:
    """Yield the alternative names. Raises PkiError with all faults after the last one."""
    faults = list[PkiError]()
    for key, text, place in _split_if_present(configuration, extensions, "subjectAltName"):
        kind = key.partition(".")[0]
        if kind not in {"DNS", "IP", "email"}:
            faults.append(PkiError(f"{place}: subjectAltName: {kind}: expected DNS, IP or email"))
        elif text is None:
            faults.append(PkiError(f"{place}: subjectAltName: {kind} has no value", f"{kind}:NAME"))
        elif kind == "email" and text in {"copy", "move"}:
            yield from (AlternativeName("email", email.text, email.place) for email in subject.emails)
        else:
            yield AlternativeName(kind, canonical_address(text) if kind == "IP" else text, place)
    if faults:
        raise FaultsError.of(faults)


def _find_remarks(configuration: Configuration, *, has_names: bool) -> Iterator[CnfRemark]:
    """Yield remarks about parts of the file that `openssl req -new` ignores.

    Raises PkiError where the request `has_names` neither in its subject nor as alternative names, but the ignored part
    has them.
    """
    value = configuration.get("req", "x509_extensions")
    if value is None or value.fault or configuration.find_section("x509_extensions") is None:
        return
    section = configuration.sections[value.raw]
    names = section.get("subjectAltName")
    place = f"{value.place}: x509_extensions = {value.raw}"
    has_req_extensions = configuration.get("req", "req_extensions") is not None
    if names and not has_req_extensions:
        what, remedy = f"{place}: its names are not in the request", f"write req_extensions = {value.raw}"
        if not has_names:
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
