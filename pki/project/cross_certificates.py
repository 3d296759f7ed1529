"""Which roots vouch for another one, by the cross-certificates that they gave to its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from cryptography import x509

from pki.common import filesystem
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.x509 import canonical


def vouching(
    project: Store, roots: Iterable[Generation], root: Generation, has_ended: Callable[[datetime], bool]
) -> dict[str, datetime]:
    """SHA-256 of the `roots` from which cross-certificates that have not ended lead to a root, itself included.

    With each the time until which they do: when the first certificate on the way ends.
    """
    known, found, waiting = list(roots), {root.fingerprint: root.certificate.not_valid_after_utc}, [root]
    while waiting:
        certified = waiting.pop()
        for cross in _cross_certificates(project, certified, has_ended):
            for one in known:
                ends = (one.certificate.not_valid_after_utc, cross.not_valid_after_utc, found[certified.fingerprint])
                if one.fingerprint not in found and canonical.is_issued_by(cross, one.certificate):
                    found[one.fingerprint] = min(ends)
                    waiting.append(one)
    return found


def _cross_certificates(
    project: Store, root: Generation, has_ended: Callable[[datetime], bool]
) -> Iterator[x509.Certificate]:
    for path in project.cross_certificates(root.name):
        with suppress(ValueError):  # a damaged one vouches for nothing
            cross = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
            if not has_ended(cross.not_valid_after_utc) and cross.public_key() == root.certificate.public_key():
                yield cross
