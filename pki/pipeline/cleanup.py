"""Remove files from `build/` that are no longer in pki.yaml or templates/."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pki.common import filesystem
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.config.identifiers import ArtifactId, GenerationName
from pki.deploy import receipt
from pki.deploy.artifact_content import PKCS12_KINDS
from pki.deploy.folder import FolderTransport
from pki.project.build_files import HOOK_SUFFIX, pkcs12_path
from pki.project.layout import Store


def stale(store: Store, artifact_ids: set[ArtifactId], leaves: set[str]) -> list[Reason]:
    """Return the files in build/ that belong to no artifact; `leaves` are the names of leaves whose files stay."""
    return [Why.SURPLUS(file=store.shown(path)) for path in _leftovers(store, artifact_ids, leaves)]


def remove_leftovers(store: Store, artifact_ids: set[ArtifactId], leaves: set[str]) -> Outcome:
    """Remove the files that `stale` returns.

    The receipt of a host that is a folder lists what was deployed there. Exactly those files are removed with it.
    """
    for path in list(_leftovers(store, artifact_ids, leaves)):
        if path.parent == store.receipt("x").parent:
            FolderTransport(store.host_root(path.name.removesuffix(".json"))).withdraw(receipt.load(path))
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Outcome(Verb.REMOVED)


def _leftovers(store: Store, artifact_ids: set[ArtifactId], leaves: set[str]) -> Iterator[Path]:
    yield from _unknown(store.build / "certs", lambda name: name in leaves)
    for kind in PKCS12_KINDS:
        names = {artifact.name for artifact in artifact_ids if artifact.kind == kind}
        yield from _unknown(pkcs12_path(store, kind, "x").parent, {f"{name}.p12" for name in names}.__contains__)
    yield from _unknown(store.build / "release", lambda name: ArtifactId("release", name) in artifact_ids)
    for folder in (store.history("x").parent, store.contact("x").parent, store.receipt("x").parent):
        yield from _unknown(folder, lambda name: ArtifactId("deploy", name.removesuffix(".json")) in artifact_ids)
    for folder in store.host_root("x").parent.glob(f".*{HOOK_SUFFIX}"):  # with the keys of a command that was killed
        if ArtifactId("deploy", folder.name[1:].removesuffix(HOOK_SUFFIX)) not in artifact_ids:
            yield folder
    generations = {artifact.name for artifact in artifact_ids if artifact.kind == "crl"}
    bundles = {"bundle-client", *(["bundle-peer"] if ArtifactId("bundle", "peer-crls") in artifact_ids else [])}
    yield from _unknown(
        store.build / "crl", lambda name: _keeps_crl(store, name.rpartition(".")[0], generations | bundles)
    )
    externals = {artifact.name for artifact in artifact_ids if artifact.kind == "bundle"} - {
        "trust",
        "client-crls",
        "peer",
        "peer-crls",
    }
    trust = {"roots", "client-ca", "client-chain", "index", *generations}
    trust |= {"peer"} if ArtifactId("bundle", "peer") in artifact_ids else set()
    trust |= {f"{name}-{content}" for name in externals for content in ("chain", "trust")}
    yield from _unknown(store.build / "trust", lambda name: name.rpartition(".")[0] in trust)


def _keeps_crl(store: Store, name: str, expected: set[str]) -> bool:
    """Return whether a CRL stays.

    The CRL of a generation that is missing in `ca/` stays too, for example after an older copy was restored. It may be
    the only record of revocations, which `ceremony.accept` records once it knows the generation.
    """
    generation = GenerationName.parse(name)
    is_missing_in_ca = generation.number > 0 and generation not in store.generations(generation.authority)
    return name in expected or is_missing_in_ca


def _unknown(folder: Path, is_known: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the paths in a folder whose names are not known.

    A temporary file of a killed run belongs to the name that it was for; other hidden files stay.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted(names):
        final_name = filesystem.final_name(name)
        if not final_name.startswith(".") and not is_known(final_name):
            yield folder / name
