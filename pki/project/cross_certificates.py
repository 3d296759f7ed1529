"""Find the roots that cross-certificates connect with one root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from cryptography import x509

from pki.common import filesystem
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.x509 import canonical


def trust_paths(
    store: Store, roots: Iterable[Generation], root: Generation, has_passed: Callable[[datetime], bool]
) -> dict[str, datetime]:
    """Return those `roots` from which unexpired cross-certificates lead to `root`, and `root` itself, by SHA-256.

    The value for each root is when the first certificate on its path to `root` expires.
    """
    candidates, expiries, queue = list(roots), {root.fingerprint: root.not_after}, [root]
    while queue:
        certified_root = queue.pop()
        for cross in _cross_certificates(store, certified_root, has_passed):
            for candidate in candidates:
                if candidate.fingerprint not in expiries and canonical.is_issued_by(cross, candidate.certificate):
                    expiries[candidate.fingerprint] = min(
                        candidate.not_after, cross.not_valid_after_utc, expiries[certified_root.fingerprint]
                    )
                    queue.append(candidate)
    return expiries


def _cross_certificates(
    store: Store, root: Generation, has_passed: Callable[[datetime], bool]
) -> Iterator[x509.Certificate]:
    for path in store.cross_certificates(root.name):
        with suppress(ValueError):  # a damaged one connects nothing
            cross = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
            if not has_passed(cross.not_valid_after_utc) and cross.public_key() == root.certificate.public_key():
                yield cross
