"""What left pki.yaml and templates/ and is still in `build/`: found and taken away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.config.identifiers import ArtifactId, GenerationName
from pki.deploy import receipt
from pki.deploy.folder import FolderTransport
from pki.project.project import Project


def stale(project: Project, known: set[ArtifactId], leaves: set[str]) -> list[Reason]:
    """What there is without an artifact of that name; `leaves` are the names of leaves that stay."""
    return [Why.SURPLUS(file=project.store.shown(path)) for path in _leftovers(project, known, leaves)]


def sweep(project: Project, known: set[ArtifactId], leaves: set[str]) -> Outcome:
    """Take leftovers away; from a folder host exactly what its receipt lists."""
    for path in list(_leftovers(project, known, leaves)):
        if path.parent == project.store.receipt("x").parent:
            FolderTransport(project.store.host_root(path.name.removesuffix(".json"))).withdraw(receipt.load(path))
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Outcome(Verb.REMOVED)


def _leftovers(project: Project, known: set[ArtifactId], leaves: set[str]) -> Iterator[Path]:
    store = project.store
    yield from _unknown(store.build / "certs", lambda name: name in leaves)
    yield from _unknown(store.build / "release", lambda name: ArtifactId("release", name) in known)
    for folder in (store.history("x").parent, store.contact("x").parent):
        yield from _unknown(folder, lambda name: ArtifactId("deploy", name.removesuffix(".json")) in known)
    yield from _unknown(
        store.receipt("x").parent, lambda name: ArtifactId("deploy", name.removesuffix(".json")) in known
    )
    generations = {one.name for one in known if one.kind == "crl"}
    yield from _unknown(store.build / "crl", lambda name: _is_crl(project, name.rpartition(".")[0], generations))
    trust = {"roots", "client-ca", "client-chain", "index", *generations}
    yield from _unknown(store.build / "trust", lambda name: name.rpartition(".")[0] in trust)


def _is_crl(project: Project, name: str, generations: set[str]) -> bool:
    """Whether a CRL stays: also that of a CA which `ca/` lacks, as after an older copy of it was put back.

    It alone may know what was revoked; `ceremony.accept` records it once it knows the CA.
    """
    found = GenerationName.parse(name)
    is_lost = found.number > 0 and found not in project.store.generations(found.authority)
    return name in generations or name == "bundle-client" or is_lost


def _unknown(folder: Path, is_known: Callable[[str], bool]) -> Iterator[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if not name.startswith(".") and not is_known(name):
            yield folder / name
