"""The hooks of hosts with `deliver: {command: …}`: which certificates each call gets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pki.common import filesystem
from pki.config.identifiers import ArtifactId
from pki.config.model import DeliverCommand, Host
from pki.deploy import release
from pki.deploy.artifact_content import PKCS12_KINDS
from pki.deploy.hooks import DeployHook, HookCertificate
from pki.deploy.process import Limits
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.desired_state import DesiredState
from pki.project.build_files import hook_folder, pkcs12_path
from pki.x509 import canonical


def hook_of(desired: DesiredState, name: str, host: Host) -> DeployHook | None:
    """Return the hook of a host; None without `deliver: {command: …}`."""
    if not isinstance(host.deliver, DeliverCommand):
        return None
    store, whole = desired.project.store, desired.project.inventory.deploy.host_timeout.total_seconds()
    return DeployHook(
        host=name,
        command=host.deliver.command,
        home=store.home,
        release=store.host_root(name),
        work=hook_folder(store, name),
        limits=Limits(whole, whole),  # a hook may be silent for as long as it runs
        certificates=partial(_certificates, desired, name),
    )


def _certificates(desired: DesiredState, host: str) -> Iterator[HookCertificate]:
    """Yield the leaves that the release of a host delivers something of, sorted by name."""
    store, current = desired.project.store, release.load(desired.project.store.release(host))
    artifacts = [ArtifactId.parse(artifact) for artifact in (current.uses if current else ())]
    for leaf in sorted({name for kind, name in (artifact.parts for artifact in artifacts) if kind in LEAF_FILES}):
        if leaf not in desired.leaves:
            continue
        declared = desired.leaves[leaf]
        parts = canonical.split_bundle(filesystem.read(store.bundle(declared)) or b"")
        files = {"cert.pem": parts["cert.pem"], "chain.pem": parts["chain.pem"]}
        files["fullchain.pem"] = parts["cert.pem"] + parts["chain.pem"]
        if key := parts.get("key.pem"):
            files |= {"privkey.pem": key, "combined.pem": files["fullchain.pem"] + key}
        pfx = [str(pkcs12_path(store, kind, leaf)) for kind in PKCS12_KINDS if ArtifactId(kind, leaf) in artifacts]
        yield HookCertificate(leaf, tuple(declared.names), files, pfx[0] if pfx else "")
