"""What one thing of the project is for: where its key lies, who made it, until when, what stops without it, what to type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.durations import in_words
from pki.common.reasons import joined
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.deploy import release
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.monitor.client_identities import identities
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.plan import Plan
from pki.project.generations import Generation
from pki.project.missing_roots import refusal
from pki.project.project import Project
from pki.x509 import canonical

Line = tuple[str, str]  # what a line is about, and what it says


def leaf(project: Project, plan: Plan, wanted: Leaf) -> Iterator[Line]:
    """A certificate that pki.yaml asks for."""
    yield "what", f"a {wanted.profile} certificate for {', '.join(wanted.names) or wanted.common_name}"
    yield (
        "declared",
        f"pki.yaml, {wanted.declared}" if not wanted.declared.startswith("templates/") else wanted.declared,
    )
    yield "key", _key(project, wanted)
    valid = _valid(project, wanted.artifact)
    held = [one for one in valid if dependents.present(project, wanted, [one])]
    if held:
        yield from _issued(project, held[-1])
        begins = held[-1].not_after - wanted.renew_before
        yield "renewed", f"from {begins:%Y-%m-%d} on, by doit, with {'a new' if wanted.rekey else 'the same'} key"
    yield "state", _state(project, wanted)
    for one in valid:
        if one not in held:
            yield "valid too", f"serial {one.serial:x}, until {one.not_after:%Y-%m-%d}"
    if wanted.client:
        yield from _device(project, wanted.client)
    yield from _bearing(project, plan, wanted.name, wanted.profile)
    command = wanted.client or wanted.name
    yield "replace it", f"./run invoke renew {command}"
    yield "revoke it", f"./run invoke revoke {command} --reason …"


def issued(project: Project, plan: Plan, one: Issued) -> Iterator[Line]:
    """A certificate that the ledger knows and that is not, or no more, what pki.yaml asks for."""
    yield "what", f"a {one.profile} certificate for {', '.join(one.names) or one.subject}"
    yield "name", one.artifact
    yield from _issued(project, one)
    if one.revoked:
        yield "state", f"revoked: {one.revoked}"
    elif one.not_after < project.now:
        yield "state", f"ended on {one.not_after:%Y-%m-%d}"
    else:
        name = one.artifact.short
        wanted = plan.leaves.get(name)
        is_present = wanted is not None and bool(dependents.present(project, wanted, [one]))
        told = "is not in pki.yaml" if wanted is None else "is in use" if is_present else "was replaced by a newer one"
        yield "state", f"valid, and {told}"
        if ":" not in name:
            yield from _bearing(project, plan, name, one.profile)
        yield "revoke it", f"./run invoke revoke {one.serial:x} --reason …"


def authority(project: Project, found: Generation) -> Iterator[Line]:
    """A generation of an authority."""
    end = found.certificate.not_valid_after_utc
    root = project.root_of(found.certificate) if found.authority != "root" else None
    yield "what", f"{'the root' if root is None else f'the {found.authority} authority'}: {found.common_name}"
    yield "key", _authority_key(project, found)
    yield "issued by", f"{root.name if root else 'itself'}; serial {found.certificate.serial_number:x}"
    yield "until", _until(project, end)
    if project.is_revoked_by_root(found):
        yield "state", "revoked: its root's CRL lists it"
    else:
        full = needs.full_length_until(project, found)
        yield "successor", f"asked for from {needs.signs_until(project, found):%Y-%m-%d} on, needed by {full:%Y-%m-%d}"
    below = [one for one in project.unexpired() if one.issuer == found.name and not one.revoked]
    signed = f"{len(below)} certificate{'s that are' if len(below) != 1 else ' that is'} valid now"
    yield "signed", project.ledger_fault.evidence if project.ledger_fault else signed
    yield "if it ends", "every certificate below it is refused, by everybody"
    yield "replace it", f"a root ceremony: ./run invoke ceremony.request --new {found.authority}"
    if root is not None:
        yield "revoke it", f"a root ceremony: ./run invoke ceremony.request --revoke {found.name} --reason …"


def missing(project: Project, authority: str) -> Iterator[Line]:
    """An authority of which there is no certificate: it is lost, or its first ceremony is still to come."""
    if project.missing_roots:
        error = refusal(project.missing_roots, project.inventory, project.store)
    else:
        error = project.missing_authority(authority)
    yield "state", error.message
    yield "next", error.hints[0]


def crl(project: Project, plan: Plan, generation: str) -> Iterator[Line]:
    """The CRL of a generation, as it is published."""
    data = filesystem.read(project.store.crl(generation))
    yield "what", f"the list of certificates that {generation} revoked"
    if data is None:
        yield "state", "is not there: ./run doit"
        return
    found = canonical.read_crl(data, Encoding.DER)
    if found is None:
        yield "state", f"is damaged: ./run doit crl:{generation}"
        return
    number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    yield "lists", f"{len(found)} certificates; number {number}, of {found.last_update_utc:%Y-%m-%d %H:%M} UTC"
    if found.next_update_utc:
        yield "until", _until(project, found.next_update_utc)
    yield (
        "delivered",
        ", ".join(
            _holding(
                project,
                plan,
                {ArtifactId("crl", GenerationName.parse(generation).authority), "crl:all", "crl:bundle-client"},
            )
        )
        or "nowhere",
    )
    asking = dependents.asking(project)
    clients = GenerationName.parse(generation).authority in {"client", "root"}
    refused = (
        f"{dependents.listed(asking)} refuse every client"
        if asking
        else f"services that ask for clients: {dependents.NOT_SEEN}"
    )
    yield "if it ends", refused if clients else "strict clients refuse servers"
    yield (
        "renew it",
        "doit does, in time; at once: ./run doit"
        if not GenerationName.parse(generation).is_root
        else "a root ceremony: ./run invoke ceremony.request --crls",
    )


# -- parts ------------------------------------------------------------------------------------------------------------


def _key(project: Project, wanted: Leaf) -> str:
    if wanted.request:
        return f"is not here: its device keeps it, and {wanted.request} asks for its certificate"
    place = f"{project.store.shown(project.store.bundle(wanted))}, with the certificate; mode 0600"
    return f"{place}; in every backup" if wanted.client else f"{place}; lost, it is made again"


def _authority_key(project: Project, found: Generation) -> str:
    if (uri := filesystem.read(project.store.authority_file(found.name, "key.uri"))) is not None:
        return f"in a token: {uri.decode().strip()}"
    path = project.store.authority_file(found.name, "key.pem")
    if path.exists():
        return f"{project.store.shown(path)}, encrypted; its passphrase comes from {project.passphrases.source_of(found.name)}"
    return "in offline/, for this is a sandbox" if found.is_sandbox else "is not here: in the vault of the ceremonies"


def _issued(project: Project, one: Issued) -> Iterator[Line]:
    yield "serial", f"{one.serial:x}"
    yield "issued by", f"{one.issuer}, on {one.not_before:%Y-%m-%d}, because: {one.reason}"
    yield "until", _until(project, one.not_after)


def _until(project: Project, end: datetime) -> str:
    return f"{end:%Y-%m-%d %H:%M} UTC, {f'{in_words(end - project.now)} left' if end > project.now else 'over'}"


def _valid(project: Project, artifact: str) -> list[Issued]:
    return [one for one in project.unexpired() if one.artifact == artifact and not one.revoked]


def _state(project: Project, wanted: Leaf) -> str:
    if waits := certificates.stopped_reasons(project, wanted.artifact) or certificates.blocked_by(project, wanted):
        return joined(waits) if isinstance(waits, list) else str(waits)
    return joined(certificates.stale_reasons(project, wanted)) or "as it should be"


def _device(project: Project, name: str) -> Iterator[Line]:
    for one in identities(project):
        more = "; a newer one waits to be installed" if one.waits else ""
        if one.name == name and one.exported:
            yield "exported", f"on {one.exported.at:%Y-%m-%d}{'' if one.installed else more}"
        if one.name == name and one.installed:
            yield "installed", f"on {one.installed.at:%Y-%m-%d}, serial {one.installed.detail}{more}"


def _bearing(project: Project, plan: Plan, name: str, profile: str) -> Iterator[Line]:
    """Who has to do with it, and what stops without it."""
    if profile == "client":
        asking = dependents.asking(project)
        yield "lets in to", dependents.listed(asking)
        unable = [use for use in asking if use.program is None or not use.program.revokes]
        weak = f"; not by {dependents.listed(unable)}, before it ends" if unable else ""
        yield "if revoked", f"these refuse it{weak}; whoever else has a certificate notices nothing"
        yield "if it ends", "they refuse it, and its person needs the newer one that doit made before"
        return
    serving = dependents.serving(project, name)
    holding = _holding(project, plan, {ArtifactId(kind, name) for kind in LEAF_FILES})
    yield "served by", dependents.listed(serving)
    yield "delivered", ", ".join(holding) or "nowhere"
    yield "trusted by", "whoever trusts the root: build/trust/roots.pem"
    yield "if revoked", "doit makes and delivers another one at once; clients that read CRLs refuse the old one"
    yield "if it ends", "every client refuses it: its services are out of reach until doit renews it"


def _holding(project: Project, plan: Plan, artifacts: set[str]) -> list[str]:
    """The hosts in whose releases some artifacts are."""
    releases = ((name, release.load(project.store.release(name))) for name in plan.deliveries)
    return [name for name, found in releases if found and not artifacts.isdisjoint(found.uses)]
