"""The full check of an artifact before it goes into a release: its files are read and judged, whatever is remembered."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, crls, trust_bundles
from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId
from pki.config.upstreams import ARTIFACT
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.desired_state import World
from pki.project.project import Project
from pki.x509.pem_encoding import encode_pem


def faults(world: World, artifact: str) -> list[Reason]:
    """Why the files of an artifact (`tls:media`) cannot go into a release; none when they are as they were written.

    Every file that is at fault is marked: the next run looks at it in full, and makes it again.
    """
    kind, what = ArtifactId.parse(artifact).parts
    project = world.project
    if kind in LEAF_FILES and what in world.leaves:
        leaf = world.leaves[what]
        found = certificates.damage(project, leaf)
        files = certificates.file_names(project, leaf) if found else []
    elif kind == ARTIFACT:
        return []  # files of others, which were read when the release was rendered
    else:
        files = [str(path) for path in _damaged(world, artifact)]
        found = [Why.DAMAGED(file=path) for path in files]
    for path in files:
        filesystem.distrust(path)
    return found


def _damaged(world: World, artifact: str) -> Iterator[str]:
    """Files of an authority, a CRL or a bundle that are not what follows from their sources."""
    project, (kind, what) = world.project, ArtifactId.parse(artifact).parts
    is_one = kind not in {"trust", "page"} and what != "bundle-client"
    for generation, path in world.artifact_files(artifact):
        data = filesystem.read(path)
        if is_one and kind.startswith("crl"):
            is_sound = _is_crl(project, generation, data, is_pem=kind == "crl-pem")
        elif is_one and project.is_adopted(generation):
            is_sound = project.generation(generation) is not None
        elif is_one:
            found = project.generation(generation)
            is_sound = found is not None and data in {found.pem, found.certificate.public_bytes(Encoding.DER)}
        else:
            is_sound = data == _expected(project, artifact).get(project.store.shown(path))
        if not is_sound:
            yield str(path)


def _is_crl(project: Project, generation: str, data: bytes | None, *, is_pem: bool) -> bool:
    der = filesystem.read(project.store.crl(generation))
    if der is None or crls.signed_crl(project, generation, der, again=True) is None:
        return False
    return data == (encode_pem("X509 CRL", der) if is_pem else der)


def _expected(project: Project, artifact: str) -> dict[str, bytes]:
    """What a bundle or the trust page must be, by path below the home."""
    if artifact == "crl:bundle-client":
        return trust_bundles.client_crl_bundle(project)
    if artifact in {"page:trust", "trust:profile"}:
        from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

        return page.files(project)
    return trust_bundles.trust_files(project)
