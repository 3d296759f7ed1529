"""Check the files of an artifact, without the cache, before they go into a release."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, crls, leaf_files, trust_bundles
from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.config.upstreams import ARTIFACT
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.desired_state import DesiredState
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.x509.pem_encoding import encode_pem


def faults(desired: DesiredState, artifact: str) -> list[Reason]:
    """Return why the files of an artifact (`tls:media`) cannot go into a release; empty when they are intact.

    The cache entries of the damaged files are dropped, so that the next run checks them again and repairs them.
    """
    kind, name = ArtifactId.parse(artifact).parts
    project = desired.project
    if kind in LEAF_FILES and name in desired.leaves:
        leaf = desired.leaves[name]
        reasons = certificates.LeafCertificates(project).delivery_faults(leaf)
        files = leaf_files.file_names(project.store, leaf) if reasons else []
    elif kind == ARTIFACT:
        return []  # CA files of upstreams, which were read when the release was rendered
    else:
        files = [str(path) for path in _damaged_files(desired, artifact)]
        reasons = [Why.DAMAGED(file=path) for path in files]
    for path in files:
        filesystem.invalidate_cached(path)
    return reasons


def _damaged_files(desired: DesiredState, artifact: str) -> Iterator[str]:
    """Yield the files of an authority, a CRL or a bundle that differ from what their sources give."""
    project, (kind, name) = desired.project, ArtifactId.parse(artifact).parts
    is_single = kind not in {"trust", "page"} and name != "bundle-client"
    for generation, path in desired.artifact_files(artifact):
        data = filesystem.read(path)
        if is_single and kind.startswith("crl"):
            der = filesystem.read(project.store.crl(generation)) or b""
            is_sound = crls.Crls(project).signed(generation, der, ignore_cache=True) is not None
            is_sound = is_sound and data == (encode_pem("X509 CRL", der) if kind == "crl-pem" else der)
        elif is_single and project.inventory.authorities.is_adopted(generation):
            is_sound = project.authorities.generation(generation) is not None
        elif is_single:
            ca = project.authorities.generation(generation)
            is_sound = ca is not None and data in {ca.pem, ca.certificate.public_bytes(Encoding.DER)}
        else:
            is_sound = data == _expected(project.inventory, project.store, project.authorities, artifact).get(
                project.store.shown(path)
            )
        if not is_sound:
            yield str(path)


def _expected(inventory: Inventory, store: Store, authorities: Authorities, artifact: str) -> dict[str, bytes]:
    """Return the contents of a bundle or the trust page, by path relative to the project."""
    if artifact == "crl:bundle-client":
        return trust_bundles.client_crl_bundle(store, authorities)
    if artifact in {"page:trust", "trust:profile"}:
        from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

        return page.files(inventory, store, authorities)
    return trust_bundles.trust_files(store, authorities)
