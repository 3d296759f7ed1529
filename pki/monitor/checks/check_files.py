"""Checks of the files that the program wrote: each must have exactly the bytes that were written."""

from __future__ import annotations

from collections.abc import Iterator

from pki.authority import crls, leaf_files
from pki.common import filesystem
from pki.common.reasons import Why, joined
from pki.config import template_versions
from pki.config.identifiers import ArtifactId
from pki.deploy import release
from pki.deploy.host_records import HostRecords
from pki.monitor import damaged_files
from pki.monitor.check_result import Finding, Level, rerun
from pki.monitor.checks.check_context import CheckContext
from pki.x509.pem_encoding import encode_pem

REPAIRED = "the next run makes it again"


def check_files(context: CheckContext) -> Iterator[Finding]:
    """Report damaged files of authorities and ceremonies; in a thorough check also damaged files that a run repairs."""
    for note in damaged_files.notes(context.project.store, context.project.authorities, context.project.cache):
        yield Finding(note.subject, Level.WARNING, note.text, note.remedy)
    if context.thorough:
        yield from _repairable(context)


def check_templates(context: CheckContext) -> Iterator[Finding]:
    """Report templates of which the program has a newer version than the one that the project copied; `health` only."""
    if context.thorough:
        for note in template_versions.notices(context.project.templates):
            yield Finding(note.subject, Level.NOTICE, note.text, note.remedy)


def _repairable(context: CheckContext) -> Iterator[Finding]:
    """Report damaged certificates, CRLs, bundles, releases and receipts, which the next run makes again."""
    project, store = context.project, context.project.store
    for name in project.authorities.recovered:
        path = store.shown(store.authority_file(name, "cert.pem"))
        yield Finding(path, Level.NOTICE, project.authorities.damaged_files[path], "./run doit authority")
    for name, leaf in context.plan.leaves.items():
        if damaged := leaf_files.damaged_files(project.store, project.authorities, leaf):
            yield _notice(ArtifactId("cert", name), joined(damaged))
    for artifact in context.plan.artifacts:
        kind, name = artifact.id.kind, artifact.id.name
        if kind in {"bundle", "page"} and (reasons := artifact.reasons()):
            yield _notice(artifact.id, joined(reasons))
        elif kind == "crl" and (der := filesystem.read(store.crl(name))) is not None:
            is_signed = crls.Crls(project).read_signed(name, der, ignore_cache=True) is not None
            if not is_signed or filesystem.read(store.crl(name, "pem")) != encode_pem("X509 CRL", der):
                yield _notice(artifact.id, "is damaged")
        elif kind == "release" and (release_fault := release.damage_text(store.release(name))):
            yield _notice(artifact.id, release_fault)
        elif kind == "deploy" and (record_fault := _record_fault(context.plan.deliveries[name].records)):
            yield _notice(artifact.id, record_fault)


def _record_fault(records: HostRecords) -> str:
    """Return which record of a deployment is damaged, as the rest of a sentence that begins with its name, or ""."""
    if records.has_lost_receipt:
        return str(Why.RECEIPT_DAMAGED())
    receipt = None if records.is_contacted else records.receipt
    damaged = Why.LIST_DAMAGED()
    return str(damaged) if receipt and damaged in records.folder_transport.drift(receipt) else ""


def _notice(artifact: str, text: str) -> Finding:
    return Finding(artifact, Level.NOTICE, f"{text}; {REPAIRED}", rerun(artifact))
