"""Damaged files that no run can make again: they must be restored from a backup."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pki.common.cache import Cache, digest_of
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.config.identifiers import GenerationName
from pki.project.authorities import Authorities
from pki.project.generations import PUT_BACK
from pki.project.layout import Store


def notes(store: Store, authorities: Authorities, cache: Cache) -> Iterator[Notice]:
    """Yield a notice for each damaged file of an authority or ceremony, except those that the ledger has a copy of."""
    for generation in (name for authority in store.authorities() for name in store.generations(authority)):
        authorities.generation(generation)  # reading fills `damaged_files` and `recovered`
        if GenerationName.parse(generation).is_root:
            authorities.presigned_crls(generation)
    recovered = {store.shown(store.authority_file(name, "cert.pem")) for name in authorities.recovered}
    for shown, text in authorities.damaged_files.items():
        if shown not in recovered:
            yield Notice(shown, text, PUT_BACK)
    if faults := _ceremony_faults(store, cache):
        more = f", and {len(faults) - 1} more: ./run invoke ceremony.verify" if len(faults) > 1 else ""
        yield Notice("ceremonies", f"{faults[0]}{more}", PUT_BACK)
    if fault := _open_request_fault(store, cache):
        yield Notice("ceremonies", *fault)


def _ceremony_faults(store: Store, cache: Cache) -> list[str]:
    """Return the faults in the records of ceremonies; cached while the files do not change."""
    ca = store.ca
    if not os.path.lexists(ca / "transcript.jsonl"):
        return []
    names = [str(path) for path in (ca / "transcript.jsonl", *_ceremony_files(store))]

    def verify() -> list[str]:
        try:
            from pki.ceremony import audit  # noqa: PLC0415 - needed only after a file changed

            problems = audit.verify_records(ca).faults
        except PkiError as error:
            problems = [error.message]
        return [str(problem).replace(f"{store.home}/", "") for problem in problems]

    return cache.cached("ceremonies", digest_of(names), names, verify)


def _open_request_fault(store: Store, cache: Cache) -> list[str]:
    """Return fault and remedy if the request that waits for its ceremony is damaged, else nothing; cached like the others."""
    names = [str(path) for path in _ceremony_files(store)]
    if not names:
        return []

    def read() -> list[str]:
        from pki.ceremony.online import ceremony_archive  # noqa: PLC0415 - needed only after a file changed

        try:
            ceremony_archive.open_requests(store)
        except PkiError as error:
            return [error.message, error.hint]
        return []

    return cache.cached("open request", digest_of(names), names, read)


def _ceremony_files(store: Store) -> list[Path]:
    """Return the files of all ceremonies."""
    return [path for folder in store.ceremonies() for path in sorted(folder.iterdir()) if path.is_file()]
