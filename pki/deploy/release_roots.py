"""The roots in a release: which files hold roots and nothing else, and what a host accepts of them by digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pki.common import pem
from pki.deploy.payload import Payload

STORES = re.compile(  # folders from which programs of a host make a trust store, below whatever is its root folder
    r"/(usr/local/share/ca-certificates|etc/ssl/certs|etc/pki/ca-trust/source/anchors"
    r"|etc/ca-certificates/trust-source/anchors|etc/doit-pki/trust-[a-z]+)/"
)
MAX_ROOTS = 8  # roots of which every selection is accepted: they come and leave one after the other


@dataclass(frozen=True, slots=True)
class Roots:
    """The files of a release that hold roots, or whatever else goes into a trust store, by path.

    `digests` are the SHA-256 of every content that they may have: as they are, and each selection of the roots in
    their order, as when one of them leaves. `fingerprints` are those of the roots themselves. `authorities` are the
    paths of files that hold certificates of other authorities, and nothing else.
    """

    paths: frozenset[str]
    authorities: frozenset[str]
    digests: tuple[str, ...]
    fingerprints: tuple[str, ...]


def find_roots(payload: Payload) -> Roots:
    """Find the roots of a release."""
    paths, others, digests = set[str](), set[str](), dict[str, None]()
    sections, fingerprints = dict[bytes, None](), dict[str, None]()
    for file in payload.release.files:
        content = payload.content(file)
        found = list(_ca_certificates(content))
        are_roots = bool(found) and all(one.subject == one.issuer for _, one in found)
        if are_roots or is_trust_store_path(file.path):
            paths.add(file.path)
            digests[file.sha256] = None
        elif found:
            others.add(file.path)
        if are_roots:
            sections |= dict.fromkeys(section for section, _ in found if section)
            fingerprints |= {one.fingerprint(SHA256()).hex(): None for _, one in found}
    known = list(sections)[:MAX_ROOTS]
    for count in range(1, len(known) + 1):
        for some in combinations(known, count):
            for order in (some, some[::-1]):
                digests[hashlib.sha256(b"".join(order)).hexdigest()] = None
    return Roots(frozenset(paths), frozenset(others), tuple(digests), tuple(fingerprints))


def is_trust_store_path(path: str) -> bool:
    """Whether a file goes into a trust store of its host, whatever is in it."""
    return STORES.search(path) is not None


def _ca_certificates(content: bytes) -> Iterator[tuple[bytes, x509.Certificate]]:
    """The certificates in a content that is CA certificates alone, each with its section, empty in DER; none of any other."""
    sections = [section.whole + b"\n" for section in pem.sections(content, "CERTIFICATE")]
    found = list[x509.Certificate]()
    with suppress(ValueError, x509.ExtensionNotFound):
        if not sections:
            found = [x509.load_der_x509_certificate(content)]
        elif b"".join(sections) == content:
            found = [x509.load_pem_x509_certificate(section) for section in sections]
        if all(one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in found):
            yield from zip(sections or [b""], found, strict=False)
