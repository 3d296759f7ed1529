"""The lines of `invoke explain`: what a certificate, authority or CRL is for, where its key is, and what to type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, leaf_files
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.counts import counted, join_names
from pki.common.durations import in_words
from pki.common.reasons import joined
from pki.config.identifiers import PEER_AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Inventory, Leaf
from pki.deploy import release
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.monitor.client_identities import identities
from pki.pipeline.artifact_files import LEAF_FILES
from pki.pipeline.plan import Plan
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.missing_roots import refusal
from pki.project.project import Project
from pki.project.root_check import RootCheck
from pki.project.secrets import Passphrases
from pki.x509 import canonical
from pki.x509.revocation import crl_number

Line = tuple[str, str]  # label and text


@dataclass(frozen=True, slots=True)
class Explainer:
    """The explanations of leaves and authorities for `invoke explain`."""

    project: Project

    def leaf(self, plan: Plan, leaf: Leaf) -> Iterator[Line]:
        """Explain a certificate that pki.yaml declares."""
        yield "what", f"a {leaf.profile} certificate for {', '.join(leaf.names) or leaf.common_name}"
        yield (
            "declared",
            f"pki.yaml, {leaf.declared}" if not leaf.declared.startswith("templates/") else leaf.declared,
        )
        yield "key", _key(self.project.store, leaf)
        valid = _valid(self.project.revocations, leaf.artifact)
        in_use = [
            certificate for certificate in valid if dependents.current_bundle(self.project.store, leaf, [certificate])
        ]
        if in_use:
            yield from _issued(self.project.now, in_use[-1])
            renewal = leaf.renewal_start(in_use[-1].not_after)
            yield "renewed", f"from {renewal:%Y-%m-%d} on, by doit, with {'a new' if leaf.rekey else 'the same'} key"
        yield "state", self._state(leaf)
        for certificate in valid:
            if certificate not in in_use:
                yield "also valid", f"serial {certificate.serial:x}, until {certificate.not_after:%Y-%m-%d}"
        if leaf.client:
            yield from _device(self.project.inventory, self.project.now, self.project.ledger_view, leaf.client)
        yield from _usage(self.project.inventory, self.project.store, plan, leaf.name, leaf.profile)
        command = leaf.client or leaf.name
        yield "replace it", f"./run invoke renew {command}"
        yield "revoke it", f"./run invoke revoke {command}"

    def authority(self, generation: Generation) -> Iterator[Line]:
        """Explain a generation of an authority."""
        end = generation.not_after
        root = self.project.authorities.root_of(generation.certificate) if not generation.name.is_root else None
        yield (
            "what",
            f"{_kind_of(generation) if root is None else f'the {generation.authority} authority'}: {generation.common_name}",
        )
        if generation.authority in PEER_AUTHORITIES:
            yield "trusted by", "members of clusters, which have build/trust/peer.pem, and nobody else"
        if generation.name.is_external:
            yield "key", "on another server, which decides alone what it signs; never in this project"
            yield (
                "permits",
                f"server certificates for {join_names([name[1:] for name in generation.permitted.domains])}",
            )
        else:
            yield "key", _authority_key(self.project.store, self.project.passphrases, generation)
        yield "issued by", f"{root.name if root else 'itself'}; serial {generation.certificate.serial_number:x}"
        yield "valid until", _until(self.project.now, end)
        if self.project.authorities.is_revoked_by_root(generation):
            yield "state", "revoked: its root's CRL lists it"
        else:
            deadline = needs.full_lifetime_end(self.project.authorities, generation)
            yield (
                "successor",
                f"requested from {needs.signing_period_end(self.project.authorities, generation):%Y-%m-%d} on, must exist by {deadline:%Y-%m-%d}",
            )
        yield "signed", self._signed(generation)
        if generation.name.is_external:
            chain = self.project.store.shown(self.project.store.external_chain(generation.authority))
            yield "install it", f"{chain}, on the server that has its key"
        yield "if it expires", f"every client and server refuses every certificate that {generation.name} issued"
        yield "replace it", f"a root ceremony: ./run invoke ceremony.request --new {generation.authority}"
        if root is not None:
            revocation = f"./run invoke ceremony.request --revoke {generation.name} --reason superseded"
            unread = "; most programs read no CRL, and trust it until it expires" if generation.name.is_external else ""
            yield "revoke it", f"a root ceremony: {revocation}{unread}"

    def _signed(self, generation: Generation) -> str:
        """Return how many certificates a generation signed that are valid now; of an external one, nobody here knows."""
        if generation.name.is_external:
            return "not known here: its server keeps the records, and publishes its CRL"
        if self.project.ledger_view.fault:
            return self.project.ledger_view.fault.evidence
        unexpired = self.project.revocations.unexpired()
        below = [entry for entry in unexpired if entry.issuer == generation.name and not entry.revoked]
        return f"{len(below)} certificate{'s that are' if len(below) != 1 else ' that is'} valid now"

    def _state(self, leaf: Leaf) -> str:
        if blocker := leaf_files.stopped_reasons(
            self.project.revocations, leaf.artifact
        ) or certificates.LeafCertificates(self.project).no_gain_reason(leaf):
            return joined(blocker) if isinstance(blocker, list) else str(blocker)
        return joined(certificates.LeafCertificates(self.project).stale_reasons(leaf)) or "up to date"


def explain_issued(
    inventory: Inventory, store: Store, now: datetime, plan: Plan, certificate: Issued
) -> Iterator[Line]:
    """Explain a certificate in the ledger that is not, or no longer, the current one of a leaf in pki.yaml."""
    yield "what", f"a {certificate.profile} certificate for {', '.join(certificate.names) or certificate.subject}"
    yield "name", certificate.artifact
    yield from _issued(now, certificate)
    if certificate.revoked:
        yield "state", f"revoked: {certificate.revoked}"
    elif certificate.not_after < now:
        yield "state", f"expired on {certificate.not_after:%Y-%m-%d}"
    else:
        name = certificate.artifact.short
        leaf = plan.leaves.get(name)
        is_present = leaf is not None and bool(dependents.current_bundle(store, leaf, [certificate]))
        status = "not in pki.yaml" if leaf is None else "in use" if is_present else "replaced by a newer one"
        yield "state", f"valid, {status}"
        if ":" not in name:
            yield from _usage(inventory, store, plan, name, certificate.profile)
        yield "revoke it", f"./run invoke revoke {certificate.serial:x}"


def explain_missing_authority(
    inventory: Inventory, store: Store, authorities: Authorities, roots: RootCheck, authority: str
) -> Iterator[Line]:
    """Explain an authority without a certificate: it was lost, or its first ceremony has not taken place."""
    error = refusal(roots.missing, inventory, store) if roots.missing else authorities.missing_authority(authority)
    yield "state", error.message
    yield "next", error.hints[0]


def explain_crl(inventory: Inventory, store: Store, now: datetime, plan: Plan, generation: str) -> Iterator[Line]:
    """Explain the published CRL of a generation."""
    data = filesystem.read(store.crl(generation))
    yield "what", f"the list of certificates that {generation} revoked"
    if data is None:
        yield "state", "does not exist: ./run doit"
        return
    crl = canonical.read_crl(data, Encoding.DER)
    if crl is None:
        yield "state", f"damaged: ./run doit crl:{generation}"
        return
    number = crl_number(crl)
    yield "lists", f"{counted(len(crl), 'certificate')}; number {number}, of {crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
    if crl.next_update_utc:
        yield "valid until", _until(now, crl.next_update_utc)
    is_of_peers = GenerationName.parse(generation).authority in PEER_AUTHORITIES
    bundle = "crl:bundle-peer" if is_of_peers else "crl:bundle-client"
    yield (
        "delivered to",
        ", ".join(
            _hosts_with(
                store,
                plan,
                {ArtifactId("crl", GenerationName.parse(generation).authority), "crl:all", bundle},
            )
        )
        or "nowhere",
    )
    yield "if it expires", _after_expiry(inventory, generation)
    yield (
        "renew it",
        "doit renews it in time, and after each revocation"
        if not GenerationName.parse(generation).is_root
        else "a root ceremony: ./run invoke ceremony.request --crls",
    )


def _after_expiry(inventory: Inventory, generation: str) -> str:
    """Return what happens when the CRL of a generation or of an adopted CA expires."""
    authority = GenerationName.parse(generation).authority
    if generation in inventory.authorities.adopted:
        return f"programs that read it refuse every certificate that {generation} issued"
    if authority in PEER_AUTHORITIES:
        return "members that read CRLs refuse one another"
    if authority not in {"client", "root"}:
        return "strict clients refuse servers"
    asking = dependents.uses_requiring_clients(inventory)
    if not asking:
        return "no service that is declared in pki.yaml requires client certificates"
    return f"{dependents.join_uses(asking)} refuse every client"


def _kind_of(root: Generation) -> str:
    """Return which of the roots a root is, as a phrase."""
    return "the root of clusters" if root.authority == "root-peer" else "the root"


# -- parts ------------------------------------------------------------------------------------------------------------


def _key(store: Store, leaf: Leaf) -> str:
    if leaf.request:
        return f"not here: its device has it; {leaf.request} is the certificate request"
    place = f"{store.shown(store.bundle(leaf))}, with the certificate; mode 0600"
    return f"{place}; included in every backup" if leaf.client else f"{place}; if the key is lost, doit makes a new key"


def _authority_key(store: Store, passphrases: Passphrases, generation: Generation) -> str:
    if (uri := filesystem.read(store.authority_file(generation.name, "key.uri"))) is not None:
        return f"in a token: {uri.decode().strip()}"
    path = store.authority_file(generation.name, "key.pem")
    if path.exists():
        return f"{store.shown(path)}, encrypted; its passphrase comes from {passphrases.source_of(generation.name)}"
    return "in offline/, because this is a sandbox" if generation.is_sandbox else "not here: in the vault"


def _issued(now: datetime, certificate: Issued) -> Iterator[Line]:
    yield "serial", f"{certificate.serial:x}"
    yield "issued by", f"{certificate.issuer}, on {certificate.not_before:%Y-%m-%d}; reason: {certificate.reason}"
    yield "valid until", _until(now, certificate.not_after)


def _until(now: datetime, end: datetime) -> str:
    return f"{end:%Y-%m-%d %H:%M} UTC, {f'{in_words(end - now)} left' if end > now else 'expired'}"


def _valid(revocations: Revocations, artifact: str) -> list[Issued]:
    return [
        certificate
        for certificate in revocations.unexpired()
        if certificate.artifact == artifact and not certificate.revoked
    ]


def _device(inventory: Inventory, now: datetime, ledger_view: LedgerView, name: str) -> Iterator[Line]:
    for identity in identities(inventory, now, ledger_view):
        more = "; a newer one is not installed yet" if identity.has_newer else ""
        if identity.name == name and identity.exported:
            yield "exported", f"on {identity.exported.at:%Y-%m-%d}{'' if identity.installed else more}"
        if identity.name == name and identity.installed:
            yield "installed", f"on {identity.installed.at:%Y-%m-%d}, serial {identity.installed.detail}{more}"


def _usage(inventory: Inventory, store: Store, plan: Plan, name: str, profile: str) -> Iterator[Line]:
    """Yield who uses a certificate, and what stops without it."""
    if profile == "client":
        uses = dependents.uses_requiring_clients(inventory)
        yield "accepted by", dependents.join_uses(uses)
        unable = [use for use in uses if use.program is None or not use.program.revokes]
        exception = f"; except {dependents.join_uses(unable)}, until the certificate expires" if unable else ""
        yield "if revoked", f"these services refuse the certificate{exception}; other clients are not affected"
        for use in uses:
            if use.remark:
                yield "check", f"{use}: {use.remark}"
            if protocol := use.protocol:
                ending = protocol.ending.replace("{serial}", "SERIAL")
                text = f"{protocol.sessions} stay open: {protocol.limit}; to end them: {ending}"
                yield "open sessions", f"{use}: {text}"
        yield (
            "if it expires",
            "these services refuse the certificate; its owner must install the newer one, which doit issues in time",
        )
        return
    if profile == "peer":
        members = _hosts_with(store, plan, {ArtifactId(kind, name) for kind in LEAF_FILES})
        yield "used for", "connections within a cluster, as server and as client"
        yield "delivered", ", ".join(members) or "nowhere"
        yield "trusted by", "members that have build/trust/peer.pem, and nobody else: see docs/how-to/peer.md"
        yield "if revoked", "doit issues and deploys a new certificate; members that read CRLs refuse the old one"
        yield "if it expires", "the other members refuse this one, as server and as client, until doit renews it"
        return
    serving = dependents.uses_serving(inventory, name)
    holding = _hosts_with(store, plan, {ArtifactId(kind, name) for kind in LEAF_FILES})
    yield "served by", dependents.join_uses(serving)
    yield "delivered to", ", ".join(holding) or "nowhere"
    yield (
        "trusted by",
        "every machine on which the root is installed (build/trust/roots.pem): see docs/how-to/install-root.md",
    )
    yield (
        "if revoked",
        "doit issues and deploys a new certificate in the same run; clients that read CRLs refuse the old one",
    )
    yield "if it expires", "every client refuses the certificate: these services cannot be used until doit renews it"


def _hosts_with(store: Store, plan: Plan, artifacts: set[str]) -> list[str]:
    """Return the hosts whose releases contain one of these artifacts."""
    releases = ((name, release.load(store.release(name))) for name in plan.deliveries)
    return [name for name, manifest in releases if manifest and not artifacts.isdisjoint(manifest.uses)]
