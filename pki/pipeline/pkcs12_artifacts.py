"""The artifacts of PKCS#12 files: one for each file that a managed file delivers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from pki.authority.pkcs12_files import Pkcs12Files
from pki.config.identifiers import ArtifactId
from pki.deploy.artifact_content import PKCS12_KINDS
from pki.pipeline.artifact import Artifact
from pki.pipeline.desired_state import DesiredState
from pki.project.build_files import pkcs12_path
from pki.x509.keys import ML_DSA


def pkcs12_artifacts(desired: DesiredState, hosts: Iterable[str]) -> Iterator[Artifact]:
    """Yield the PKCS#12 file of each leaf for which a managed file of one of the hosts names it."""
    named = {artifact for file in desired.library.files for artifact in file.artifacts}
    if not any(artifact.startswith(("p12", "{")) for artifact in named):
        return  # no release has one: the sources of ten thousand hosts need not be searched
    sources = {source for host in hosts for source in desired.release_sources(host)}
    project, store = desired.project, desired.project.store
    files = Pkcs12Files(store, project.passphrases, project.cache)
    for leaf in desired.leaves.values():
        for kind in PKCS12_KINDS:
            path = str(pkcs12_path(store, kind, leaf.name))
            if path in sources and leaf.request is None and leaf.key != ML_DSA:  # `ArtifactFiles` refuses these
                yield Artifact(
                    id=ArtifactId(kind, leaf.name),
                    targets=(path,),
                    sources=(str(store.bundle(leaf)),),
                    make=partial(files.make, kind, leaf),
                    stale=partial(files.stale_reasons, kind, leaf),
                    doc=f"key and certificates of {leaf.name} as PKCS#12{', old format' if kind != 'p12' else ''}",
                )
