"""What the real `openssl req -new` makes of a request configuration."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.config.openssl_cnf import CnfRequest

PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


@dataclass(frozen=True)
class Made:
    """A request of OpenSSL, for what a certificate can have of it; `purposes` are empty where it names none."""

    common_names: tuple[str, ...]
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    others: int
    purposes: frozenset[str]
    is_ca: bool
    bits: int


IN_UNUSED_LINES = (b"variable has no value", b"no close brace", b"checking x509 extension section")
UNUSED = Made((), (), (), (), 0, frozenset(), is_ca=False, bits=-1)  # refused for a line that may be in no request
UNREADABLE = Made((), (), (), (), 1, frozenset(), is_ca=False, bits=0)


def made_by_openssl(file: Path, key: Path | None = None) -> Made | None:
    """The request that `openssl req -new` makes in the file's folder, every question answered by Enter; None if none."""
    with_key = ["-key", str(key)] if key else ["-keyout", "/dev/null", "-noenc"]
    ran = subprocess.run(
        ["/usr/bin/env", "-i", "/usr/bin/openssl", "req", "-new", "-config", file.name, *with_key, "-outform", "DER"],
        cwd=file.parent,
        input=b"\n" * 40,
        capture_output=True,
        check=False,
        timeout=300,
    )
    if ran.returncode:
        return UNUSED if any(line in ran.stderr for line in IN_UNUSED_LINES) else None
    try:
        return _read(x509.load_der_x509_csr(ran.stdout))
    except ValueError:  # an alternative name in ASN.1 that is none
        return UNREADABLE


def _read(request: x509.CertificateSigningRequest) -> Made:
    extensions = {type(extension.value): extension.value for extension in request.extensions}
    names = list(extensions.get(x509.SubjectAlternativeName, []))
    usage, limits = extensions.get(x509.KeyUsage), extensions.get(x509.BasicConstraints)
    signs = isinstance(usage, x509.KeyUsage) and (usage.key_cert_sign or usage.crl_sign)
    purposes = extensions.get(x509.ExtendedKeyUsage, [])
    return Made(
        tuple(str(attribute.value) for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)),
        tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        sum(not isinstance(name, x509.DNSName | x509.IPAddress | x509.RFC822Name) for name in names),
        frozenset(PURPOSES.get(purpose, purpose.dotted_string) for purpose in purposes),
        signs or (isinstance(limits, x509.BasicConstraints) and limits.ca),
        getattr(request.public_key(), "key_size", 0),
    )


def difference(expected: CnfRequest | None, made: Made | None) -> str:
    """What differs between a request as it is read here (None: of a CA) and as OpenSSL makes it; empty when nothing."""
    if made == UNUSED:
        return ""
    if expected is None:
        return "" if made in {None, UNREADABLE} or (made and made.is_ca) else f"a CA, but {made}"
    if made is None and expected.profile == "client" and not expected.common_name:
        return ""  # the rules for the names of clients refuse it
    if made is None:
        return f"{expected}, but OpenSSL makes none"
    theirs = (
        made.common_names,
        made.dns,
        made.addresses,
        made.emails,
        made.purposes or {"server"},
        made.others,
        made.is_ca,
    )
    common_names = (expected.common_name,) if expected.common_name else ()
    ours = (common_names, expected.dns, expected.addresses, expected.emails, {expected.profile}, 0, False)
    return "" if ours == theirs else f"{ours}, but {theirs}"


def can_be_had(request: Made | None) -> bool:
    """Whether a certificate here can have what a request of OpenSSL asks for: names of three kinds, one CN, one purpose."""
    if (
        request is None
        or request in {UNUSED, UNREADABLE}
        or request.is_ca
        or request.others
        or len(request.common_names) > 1
    ):
        return False
    return len(request.purposes) < 2 and request.purposes <= {"server", "client"}
