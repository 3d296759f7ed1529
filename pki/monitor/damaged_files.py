"""Damaged files that no run can make again: they must come back from a backup."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pki.common.errors import PkiError
from pki.config import identifiers
from pki.config.identifiers import GenerationName
from pki.pipeline.desired_state import Notice
from pki.project.generations import PUT_BACK
from pki.project.project import Project


def notes(project: Project) -> Iterator[Notice]:
    """Each damaged file of an authority or a ceremony; those that the ledger has a copy of are not among them."""
    for generation in (one for name in identifiers.AUTHORITIES for one in project.store.generations(name)):
        project.generation(generation)
        if GenerationName.parse(generation).is_root:
            project.presigned_crls(generation)
    recovered = {project.store.shown(project.store.authority_file(one, "cert.pem")) for one in project.recovered}
    for shown, text in project.damaged.items():
        if shown not in recovered:
            yield Notice(shown, text, PUT_BACK)
    if faults := _ceremony_faults(project):
        more = f", and {len(faults) - 1} more: ./run invoke ceremony.verify" if len(faults) > 1 else ""
        yield Notice("ceremonies", f"{faults[0]}{more}", PUT_BACK)


def _ceremony_faults(project: Project) -> list[str]:
    """What is kept of ceremonies and is not as it was written; looked at once while the files are as they were."""
    ca = project.store.ca
    if not os.path.lexists(ca / "transcript.jsonl"):
        return []
    kept = [path for folder in project.store.ceremonies() for path in sorted(folder.iterdir()) if path.is_file()]
    names = [str(path) for path in (ca / "transcript.jsonl", *kept)]
    found: list[str] | None = project.cache.recall("ceremonies", "")
    if found is None:
        try:
            from pki.ceremony import audit  # noqa: PLC0415 - needed where a file is damaged

            faults = audit.verify_records(ca).faults
        except PkiError as error:
            faults = [error.message]
        found = [str(fault).replace(f"{project.store.home}/", "") for fault in faults]
        project.cache.remember("ceremonies", "", names, found)
    return found
