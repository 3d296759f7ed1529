"""Check the files of an artifact, without the cache, before they go into a release."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, crls, leaf_files, trust_bundles
from pki.authority.pkcs12_files import Pkcs12Files
from pki.common import filesystem
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.config.upstreams import ARTIFACT as UPSTREAM_CA
from pki.deploy.artifact_content import FULLCHAIN_ROOT, PKCS12_KINDS
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.desired_state import DesiredState
from pki.project.authorities import Authorities
from pki.project.build_files import pkcs12_path
from pki.project.layout import Store
from pki.x509.pem_encoding import encode_pem


def undeliverable_reasons(desired: DesiredState, artifact: str) -> list[Reason]:
    """Return why the files of an artifact (`tls:media`) cannot go into a release; empty when they are intact.

    The cache entries of the damaged files are dropped, so that the next run checks them again and repairs them.
    """
    kind, name = ArtifactId.parse(artifact).parts
    project = desired.project
    if kind == UPSTREAM_CA:
        return []  # the CA files of upstreams are the user's; they were read and checked when the release was rendered
    if kind in LEAF_FILES and name in desired.leaves:
        leaf = desired.leaves[name]
        reasons = certificates.LeafCertificates(project).undeliverable_reasons(leaf)
        files = leaf_files.file_names(project.store, leaf) if reasons else []
        if kind in PKCS12_KINDS and not reasons:
            reasons = Pkcs12Files(project.store, project.passphrases, project.cache).stale_reasons_without_cache(
                kind, leaf
            )
            files = [str(pkcs12_path(project.store, kind, name))] if reasons else []
        elif kind == FULLCHAIN_ROOT and not reasons:
            return undeliverable_reasons(desired, "trust:peer" if leaf.profile == "peer" else "trust:roots")
    else:
        files = [str(path) for path in _damaged_files(desired, artifact)]
        reasons = [Why.DAMAGED(file=path) for path in files]
    for path in files:
        filesystem.invalidate_cached(path)
    return reasons


def _damaged_files(desired: DesiredState, artifact: str) -> Iterator[str]:
    """Yield the files of an authority, a CRL or a bundle that differ from what their sources give."""
    project, (kind, name) = desired.project, ArtifactId.parse(artifact).parts
    is_combined = kind in {"trust", "page"} or name.startswith("bundle-")
    for generation, path in desired.artifact_files(artifact):
        data = filesystem.read(path)
        if is_combined:
            shown = project.store.shown(path)
            is_intact = data == _combined_files(project.inventory, project.store, project.authorities, artifact).get(
                shown
            )
        elif kind.startswith("crl"):
            der = filesystem.read(project.store.crl(generation)) or b""
            is_signed = crls.Crls(project).read_signed(generation, der, ignore_cache=True) is not None
            is_intact = is_signed and data == (encode_pem("X509 CRL", der) if kind == "crl-pem" else der)
        elif project.inventory.authorities.is_adopted(generation):
            is_intact = project.authorities.generation(generation) is not None  # raises where its file is damaged
        else:
            ca = project.authorities.generation(generation)
            is_intact = ca is not None and data in {ca.pem, ca.certificate.public_bytes(Encoding.DER)}
        if not is_intact:
            yield str(path)


def _combined_files(inventory: Inventory, store: Store, authorities: Authorities, artifact: str) -> dict[str, bytes]:
    """Return the expected contents of a bundle or of the trust page, by path relative to the project."""
    if artifact == "crl:bundle-client":
        return trust_bundles.client_crl_bundle(store, authorities)
    if artifact == "crl:bundle-peer":
        return trust_bundles.peer_crl_bundle(store, authorities)
    if artifact == "trust:peer":
        return trust_bundles.peer_files(store, authorities)
    if artifact in {"page:trust", "trust:profile"}:
        from pki.authority.trust_page import page  # noqa: PLC0415 - takes longer than the rest of a run with nothing to do

        return page.files(inventory, store, authorities)
    return trust_bundles.trust_files(store, authorities)
