"""Check values that OpenSSL refuses in a request: lengths of attributes, digests, key usages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pki.common.errors import PkiError
from pki.config.openssl_cnf_names import HINT, ParsedFile, ParsedValue

DIGESTS = frozenset(
    [
        "default",
        "md4",
        "md5",
        "md5-sha1",
        "mdc2",
        "rmd160",
        "ripemd",
        "ripemd160",
        "sha1",
        "sha224",
        "sha256",
        "sha384",
        "sha512",
        "sha512-224",
        "sha512-256",
        "sha3-224",
        "sha3-256",
        "sha3-384",
        "sha3-512",
        "shake128",
        "shake256",
        "blake2b512",
        "blake2s256",
        "sm3",
        "whirlpool",
    ]
)
ANY_LENGTH = (0, 1 << 15)
MASK = re.compile(r"MASK:(0[xX][0-9a-fA-F]+|[0-9]+)")
STRING_MASKS = {"default", "pkix", "nombstr", "utf8only"}
# least and greatest length of attributes, in characters: the upper bounds (ub-…) of RFC 5280, appendix A.1
LENGTHS: Mapping[str, tuple[int, int]] = {
    "C": (2, 2),
    "countryName": (2, 2),
    "jurisdictionC": (2, 2),
    "jurisdictionCountryName": (2, 2),
    "ST": (1, 128),
    "stateOrProvinceName": (1, 128),
    "L": (1, 128),
    "localityName": (1, 128),
    "O": (1, 64),
    "organizationName": (1, 64),
    "OU": (1, 64),
    "organizationalUnitName": (1, 64),
    "emailAddress": (1, 128),
    "serialNumber": (1, 64),
}
KEY_USES = frozenset(
    {
        *("digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign"),
        *("cRLSign", "encipherOnly", "decipherOnly"),
        *("Digital Signature", "Non Repudiation", "Key Encipherment", "Data Encipherment", "Key Agreement"),
        *("Certificate Sign", "CRL Sign", "Encipher Only", "Decipher Only"),
    }
)
TYPES = frozenset(
    {
        *("client", "server", "email", "objsign", "reserved", "sslCA", "emailCA", "objCA"),
        *("SSL Client", "SSL Server", "S/MIME", "Object Signing", "Unused", "SSL CA", "S/MIME CA", "Object Signing CA"),
    }
)
BIT_NAMES: Mapping[str, frozenset[str]] = {"keyUsage": KEY_USES, "nsCertType": TYPES}


def find_faults(configuration: ParsedFile, extensions: Mapping[str, ParsedValue]) -> Iterator[PkiError]:
    """Yield the values that make OpenSSL refuse the request, even those that this program does not use."""
    for key, value in configuration.sections.get("req", {}).items():
        fault = "" if value.fault or not value.raw else _setting_fault(key, value.raw)
        if fault:
            yield PkiError(f"{value.place}: {key} = {value.raw}: {fault}", HINT)
    modules = configuration.sections["default"].get("openssl_conf")
    if modules and not modules.fault and modules.raw not in configuration.sections:
        yield PkiError(f"{modules.place}: openssl_conf names [ {modules.raw} ], which does not exist", HINT)
    for key, value in extensions.items():
        if value.fault:
            continue  # a use of the value raises it
        for part in value.raw.split(","):
            fault = _part_fault(configuration, key, part.strip())
            if fault:
                yield PkiError(f"{value.place}: {key} = {value.raw}: {fault}", HINT)


def _setting_fault(key: str, text: str) -> str:
    """Return the fault of a setting in [ req ], or ""."""
    if key == "default_md" and text.lower().removeprefix("rsa-").removeprefix("ssl3-") not in DIGESTS:
        return "unknown digest"
    if key == "string_mask" and text not in STRING_MASKS and not MASK.fullmatch(text):
        return f"expected {', '.join(sorted(STRING_MASKS))}"
    return ""


def _part_fault(configuration: ParsedFile, key: str, part: str) -> str:
    """Return the fault of one part of an extension, such as a missing section or an unknown name, or ""."""
    bit_names = BIT_NAMES.get(key)
    if part.startswith("@"):
        section = configuration.sections.get(part[1:])
        if not section:
            return f"[ {part[1:]} ] {'does not exist' if section is None else 'is empty'}"
        return next(
            (f"{name!a} in [ {part[1:]} ] is not a {key}" for name in section if bit_names and name not in bit_names),
            "",
        )
    if key == "issuerAltName" and part == "issuer:copy":
        return "a request has no issuer"
    if bit_names is None or part in bit_names or part == "critical":
        return ""
    return f"{part!a} is none of {', '.join(sorted(name for name in bit_names if ' ' not in name))}"


def attribute_fault(kind: str, value: ParsedValue) -> PkiError | None:
    """Return the error if OpenSSL refuses the length of a subject attribute (RFC 5280, appendix A.1), or None."""
    least, most = LENGTHS.get(kind, ANY_LENGTH)
    if value.fault or least <= len(value.raw) <= most:
        return None
    expected = f"expected {least} letters" if least == most else f"expected {least} to {most} characters"
    return PkiError(f"{value.place}: {kind} = {value.raw}: {expected}", HINT)


def require_length(configuration: ParsedFile, section: str, key: str, given: ParsedValue | None) -> None:
    """Raise PkiError for a default that violates the `_min` or `_max` of the file."""
    if given is None or given.fault or not given.raw:
        return
    size = len(given.raw.encode())
    for suffix, violates in (("min", int.__lt__), ("max", int.__gt__)):
        limit = configuration.get(section, f"{key}_{suffix}")
        is_number = limit is not None and not limit.fault and limit.raw.isdecimal()
        if limit and is_number and violates(size, int(limit.raw)):
            what = f"{given.place}: {given.raw} has {size} characters, and {key}_{suffix} is {limit.raw}"
            raise PkiError(what, "OpenSSL would prompt for ever: correct one of them")
