"""The roots in a release: which files contain only roots, and which contents a host accepts by digest."""

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
from pki.x509 import canonical

STORES = re.compile(  # folders from which the programs of a host build a trust store, below any root directory
    r"/(usr/local/share/ca-certificates|etc/ssl/certs|etc/pki/ca-trust/source/anchors"
    r"|etc/ca-certificates/trust-source/anchors|etc/doit-pki/trust-[a-z]+)/"
)
MAX_ROOTS = 8  # of which every selection is accepted, because roots are added and removed one by one


@dataclass(frozen=True, slots=True)
class Roots:
    """The files of a release that contain roots, or are part of a trust store.

    `paths` are their paths. `digests` are the SHA-256 of every content that they may have: as they are, and each
    selection of the roots in their order, as after one of them is removed. `fingerprints` are those of the roots.
    `authorities` are the paths of files that contain only certificates of other CAs.
    """

    paths: frozenset[str]
    authorities: frozenset[str]
    digests: tuple[str, ...]
    fingerprints: tuple[str, ...]


def find_roots(payload: Payload) -> Roots:
    """Return the roots of a release."""
    paths, other_paths, digests = set[str](), set[str](), dict[str, None]()
    sections, fingerprints = dict[bytes, None](), dict[str, None]()
    for file in payload.release.files:
        content = payload.content(file)
        certificates = list(_ca_certificates(content))
        are_roots = bool(certificates) and all(
            certificate.subject == certificate.issuer for _, certificate in certificates
        )
        if are_roots or is_trust_store_path(file.path):
            paths.add(file.path)
            digests[file.sha256] = None
        elif certificates:
            other_paths.add(file.path)
        if are_roots:
            sections |= dict.fromkeys(section for section, _ in certificates if section)
            fingerprints |= {certificate.fingerprint(SHA256()).hex(): None for _, certificate in certificates}
    roots = list(sections)[:MAX_ROOTS]
    # what such a file may have after a root was removed: each selection, oldest or newest root first
    for count in range(1, len(roots) + 1):
        for selection in combinations(roots, count):
            for order in (selection, selection[::-1]):
                digests[hashlib.sha256(b"".join(order)).hexdigest()] = None
    return Roots(frozenset(paths), frozenset(other_paths), tuple(digests), tuple(fingerprints))


def is_trust_store_path(path: str) -> bool:
    """Return whether a file is part of a trust store of its host, whatever it contains."""
    return STORES.search(path) is not None


def _ca_certificates(content: bytes) -> Iterator[tuple[bytes, x509.Certificate]]:
    """Yield the certificates of a file that contains only CA certificates, each with its PEM section (b"" for DER)."""
    sections = [section.whole + b"\n" for section in pem.sections(content, "CERTIFICATE")]
    certificates = list[x509.Certificate]()
    with suppress(ValueError):
        if not sections:
            certificates = [x509.load_der_x509_certificate(content)]
        elif b"".join(sections) == content:
            certificates = [x509.load_pem_x509_certificate(section) for section in sections]
        if all(map(canonical.is_ca, certificates)):
            yield from zip(sections or [b""], certificates, strict=False)
