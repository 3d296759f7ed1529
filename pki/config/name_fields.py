"""The types of names in pki.yaml: DNS names, addresses, e-mail addresses, common names, names of leaves and clients."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pki.config.fields import ProfileName
from pki.config.ip_addresses import IPV4_TEXT, parse_address

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_NAME = re.compile(rf"(\*\.)?({LABEL}\.)*{LABEL}")
LEAF_NAME = r"[a-z0-9]([a-z0-9._-]{0,48}[a-z0-9])?"
CLIENT_PREFIX = "client-"
SPIFFE_ID = r"spiffe://[a-z0-9._-]{1,255}(?P<path>(/[A-Za-z0-9._-]+)+)"
MAX_SPIFFE_ID = 2048  # bytes, and it is ASCII


def dns_name(value: str) -> str:
    """Return a DNS name in lower case ASCII (RFC 1123 §2.1), with at most one wildcard label at its start."""
    if not value.isascii():
        raise ValueError("write an international name in its ASCII form (xn--...)")
    if len(value) > 253 or not DNS_NAME.fullmatch(value.lower()):
        raise ValueError("expected a host name: letters, digits and hyphens, in labels of at most 63")
    if value != value.lower():
        raise ValueError(f"write host names in lower case: {value.lower()}")
    if "." in value and IPV4_TEXT.fullmatch(value):
        raise ValueError("expected a host name, not an address")
    if value.startswith("*.") and value.count(".") == 1:
        raise ValueError("a wildcard needs two labels after it; Apple rejects the whole certificate otherwise")
    return value


def _subject_name(value: str) -> str:
    """Return a DNS name, or an address in its canonical form."""
    return str(parse_address(value)) if ":" in value or IPV4_TEXT.fullmatch(value) else dns_name(value)


def _domain(value: str) -> str:
    if value.startswith("*"):
        raise ValueError("expected a domain without a wildcard; everything below it is permitted")
    return dns_name(value)


def _client_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(@[a-z0-9][a-z0-9._-]*)?", value) or len(value) > 50:
        raise ValueError("expected a name such as admin or admin@laptop (lower case, at most 50 characters)")
    return value


def leaf_file_name(value: str, profile: ProfileName) -> str:
    """Return the name of a leaf that is declared by a file. It becomes a folder's name, so the rules are strict.

    The leaf `client-NAME` of the client profile is stored like the client NAME of pki.yaml.
    """
    if profile == "client" and value.startswith(CLIENT_PREFIX):
        return CLIENT_PREFIX + _client_name(value.removeprefix(CLIENT_PREFIX))
    if not re.fullmatch(LEAF_NAME, value):
        raise ValueError(
            "expected lower-case letters, digits, . _ and -, with a letter or digit at both ends, at most 50 characters"
        )
    return value


def is_like_dns_name(common_name: str) -> bool:
    """Return whether OpenSSL treats a CN as a DNS name and checks it against the name constraints (its error 47)."""
    return "." in common_name and re.fullmatch(r"[A-Za-z0-9._-]+", common_name) is not None


def common_name(value: str) -> str:
    """Return a CN of printable ASCII without `=`, `*` and backslash, so that every program displays the same text."""
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"CN {value!a}: expected printable ASCII")
    if forbidden_characters := set("=*\\") & set(value):
        raise ValueError(
            f"CN {value}: {min(forbidden_characters)} is not permitted: other programs would read another subject"
        )
    return value


def email_address(value: str) -> str:
    """Return an e-mail address: a local part (RFC 5322 §3.4.1, dot-atom) and a DNS name."""
    local, at, domain = value.rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9!#$%&'+/=?^_`{|}~.-]{1,64}", local):
        raise ValueError("expected an e-mail address such as admin@lab.internal")
    if domain.startswith("*"):
        raise ValueError("expected an e-mail address without a wildcard")
    return f"{local}@{dns_name(domain)}"


def _client_dns_name(value: str) -> str:
    if value.startswith("*"):
        raise ValueError("expected a host name without a wildcard: a client is one machine")
    return dns_name(value)


def spiffe_id(value: str) -> str:
    """Return a SPIFFE ID that a leaf certificate may have: `spiffe://TRUST-DOMAIN/PATH`.

    SPIFFE-ID §2: trust domain in lower case, path segments of letters, digits and `.-_`, no segment `.` or `..`, at most
    2048 bytes. X509-SVID §2: the path of a leaf is not empty.
    """
    match = re.fullmatch(SPIFFE_ID, value)
    if not match or len(value) > MAX_SPIFFE_ID or {".", ".."} & set(match["path"].split("/")):
        raise ValueError(
            f"expected a SPIFFE ID such as spiffe://lab.internal/backup: a trust domain in lower case, and a path of "
            f"letters, digits and . - _ without a slash at its end, at most {MAX_SPIFFE_ID} characters"
        )
    return value


def trust_domain(spiffe: str) -> str:
    """Return the trust domain of a SPIFFE ID: the part between `spiffe://` and the path."""
    return spiffe.removeprefix("spiffe://").partition("/")[0]


DnsName = Annotated[str, AfterValidator(dns_name)]
Domain = Annotated[str, AfterValidator(_domain)]
SubjectName = Annotated[str, AfterValidator(_subject_name)]
Slug = Annotated[str, Field(pattern=rf"^{LABEL}$", max_length=50)]
ClientName = Annotated[str, AfterValidator(_client_name)]
ClientDnsName = Annotated[str, AfterValidator(_client_dns_name)]
SpiffeId = Annotated[str, AfterValidator(spiffe_id)]
Email = Annotated[str, AfterValidator(email_address)]
