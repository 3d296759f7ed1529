"""Health of the files that the program wrote: each is byte for byte as it was written, or says so here."""

from __future__ import annotations

from collections.abc import Iterator

from pki.authority import certificates, crls
from pki.common import filesystem
from pki.common.reasons import Why, joined
from pki.config.identifiers import ArtifactId
from pki.deploy import release
from pki.deploy.delivery import Delivery
from pki.monitor import damaged_files
from pki.monitor.check_result import Finding, Level, rerun
from pki.monitor.checks.check_context import View
from pki.x509.pem_encoding import encode_pem

AGAIN = "the next run makes it again"


def files(view: View) -> Iterator[Finding]:
    """Damaged files of authorities and ceremonies; thoroughly, also those that a run makes again by itself."""
    for note in damaged_files.notes(view.project):
        yield Finding(note.subject, Level.WARNING, note.text, note.remedy)
    if view.thorough:
        yield from _made(view)


def _made(view: View) -> Iterator[Finding]:
    """What a run makes again: certificates, CRLs, bundles, releases and receipts."""
    project, place = view.project, view.project.store
    for name in project.recovered:
        path = place.shown(place.authority_file(name, "cert.pem"))
        yield Finding(path, Level.NOTICE, project.damaged[path], "./run doit authority")
    for name, leaf in view.plan.leaves.items():
        if damaged := certificates.damaged_files(project, leaf):
            yield _notice(ArtifactId("cert", name), joined(damaged))
    for artifact in view.plan.artifacts:
        kind, name = artifact.id.kind, artifact.id.name
        if kind in {"bundle", "page"} and (reasons := artifact.reasons()):
            yield _notice(artifact.name, joined(reasons))
        elif kind == "crl" and (der := filesystem.read(place.crl(name))) is not None:
            is_sound = crls.signed_crl(project, name, der, again=True) is not None
            if not is_sound or filesystem.read(place.crl(name, "pem")) != encode_pem("X509 CRL", der):
                yield _notice(artifact.name, "is damaged")
        elif (kind == "release" and (what := release.damage_text(place.release(name)))) or (
            kind == "deploy" and (what := _lost(view.plan.deliveries[name]))
        ):
            yield _notice(artifact.name, what)


def _lost(delivery: Delivery) -> str:
    """What of the records of a delivery is damaged, as a phrase after its name; empty when nothing is."""
    if delivery.has_lost_receipt:
        return str(Why.RECEIPT_DAMAGED())
    receipt = None if delivery.is_remote else delivery.receipt
    lost = Why.LIST_DAMAGED()
    return str(lost) if receipt and lost in delivery.folder_transport.drift(receipt) else ""


def _notice(artifact: str, text: str) -> Finding:
    return Finding(artifact, Level.NOTICE, f"{text}: {AGAIN}", rerun(artifact))
