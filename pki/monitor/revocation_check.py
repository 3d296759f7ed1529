"""Check that a revoked certificate is refused everywhere: probe before the revocation, and after it is published.

For a client certificate whose key is here, that identity connects itself: in a new connection, and in the TLS session
that it had before. Otherwise the canary connects, which is on the same CRLs. For a server certificate, its host must
serve another one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common import filesystem
from pki.config.proxies import ServerProgram
from pki.deploy import access, verification
from pki.deploy.access import ResumableSession
from pki.deploy.delivery import Delivery
from pki.deploy.tls_client import ClientContext, Endpoint, NotVerifiable, Prober, Unreached
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.pipeline.plan import Plan
from pki.project.project import Project
from pki.x509 import canonical

PARALLEL = 10  # services probed at the same time
PAUSE = 0.5  # seconds between two probes of one service


class RefusalVerdict(StrEnum):
    """Whether a service refuses the revoked certificate, or serves another one."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    FAILED = "failed"  # it still accepts the certificate, or still serves it
    FOLDER = "folder"  # this program does not contact the host: somebody copies its files there, or it gets none
    UNKNOWN = "unknown"  # a service that cannot be asked from here


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a service or host after a revocation; `text` explains the verdict."""

    place: str
    verdict: RefusalVerdict
    text: str


@dataclass
class CheckedEndpoint:
    """One endpoint, with what was seen before the revocation.

    `was_accepted` is whether it accepted the identity, None if it could not be asked. `session` is what it gave then, or
    `session_fault` why none could be opened.
    """

    delivery: Delivery
    program: ServerProgram
    endpoint: Endpoint
    prober: Prober
    was_accepted: bool | None = None
    session: ResumableSession | None = None
    session_fault: str = ""

    @property
    def place(self) -> str:
        """Return host and service, as messages show them."""
        place = f"{self.delivery.host}/{self.endpoint.service}"
        return f"{place} at {self.endpoint.address}" if self.endpoint.is_one_of_several else place

    @property
    def accepted_client(self) -> ClientContext | None:
        """Return a client that the service must accept, None for https.

        In other protocols, a server that refuses a client may just close the connection. That is a refusal only if the
        server answers another client at the same time.
        """
        return self.prober.as_probe if self.endpoint.speaks != "https" and self.prober.probe else None

    def observation(self, verdict: RefusalVerdict, text: str) -> Observation:
        """Return what was seen of this service."""
        return Observation(self.place, verdict, text)


class RevocationCheck:
    """Probes all services that the certificates to be revoked concern: client or server certificates, not both.

    `folder` is private: it keeps a copy of the identity, because the replacement overwrites its file.
    """

    def __init__(self, project: Project, plan: Plan, certificates: Sequence[Issued], folder: Path) -> None:
        self._project = project
        self._deliveries = plan.deliveries
        self._certificates = certificates
        self._is_client = certificates[-1].profile == "client"
        self._last_expiry = max(certificate.not_after for certificate in certificates)
        self._roots = project.store.trust("roots.pem")
        self._old_crl_expiry = _next_update(filesystem.read(project.store.crl(certificates[-1].issuer)))
        self._identity = self._copy_identity(plan, folder) if self._is_client else None
        self._uses = self._affected_uses()
        self._endpoints = [checked_endpoint for use in self._uses for checked_endpoint in self._endpoints_of(use)]

    # -- endpoints and identity --

    def _copy_identity(self, plan: Plan, folder: Path) -> Path | None:
        """Copy the identity that is to be revoked and return the path, or None if its key is not here."""
        names = {certificate.artifact for certificate in self._certificates}
        for leaf in plan.leaves.values():
            if leaf.artifact not in names or leaf.request:  # the key of a request is on its device
                continue
            if bundle := dependents.current_bundle(self._project.store, leaf, self._certificates):
                filesystem.write(folder / "identity.pem", bundle, filesystem.SECRET)
                return folder / "identity.pem"
        return None

    def _affected_uses(self) -> list[dependents.Use]:
        if self._certificates[-1].artifact.kind != "cert":  # issued by an adopted CA: pki.yaml does not say who uses it
            return []
        if self._is_client:
            return dependents.uses_requiring_clients(self._project.inventory)
        names = dict.fromkeys(certificate.artifact.short for certificate in self._certificates)
        return [use for name in names for use in dependents.uses_serving(self._project.inventory, name)]

    def _endpoints_of(self, use: dependents.Use) -> Iterator[CheckedEndpoint]:
        delivery, program = self._deliveries.get(use.name), use.program
        if delivery and delivery.records.has_verified_services and delivery.destination and program:
            destination = delivery.destination()
            for endpoint in destination.endpoints:
                if endpoint.service in use.services:
                    yield CheckedEndpoint(delivery, program, endpoint, destination.prober)

    # -- probing --

    def probe_before(self) -> None:
        """Record where the identity is accepted, and open sessions that it could resume later."""
        identity = self._identity
        if identity is None:
            return

        def connect_to(checked_endpoint: CheckedEndpoint) -> None:
            try:
                try:
                    text = access.acceptance_text(checked_endpoint.endpoint, self._roots, identity)
                    checked_endpoint.was_accepted = bool(text)
                except NotVerifiable:  # TLS accepts the client, whatever the server decides about its account
                    checked_endpoint.was_accepted = True
                checked_endpoint.session = access.open_session(checked_endpoint.endpoint, self._roots, identity)
            except Unreached as why:
                checked_endpoint.session_fault = str(why)

        verification.map_parallel(connect_to, self._endpoints, PARALLEL)

    def probe_after(self, delivered: Collection[str], *, is_unreplaced: bool) -> list[Observation]:
        """Return what every service does now.

        `delivered` are the hosts that got the new CRL or certificate, `is_unreplaced` tells that nothing replaces the
        certificate. A service that should refuse a client, or serve another certificate, is probed again until it does,
        at most `verification.VERIFY_TIMEOUT` seconds.
        """
        probe = self._client_at if self._is_client else partial(self._server_at, is_unreplaced=is_unreplaced)

        def probe_until_refused(checked_endpoint: CheckedEndpoint) -> Observation:
            deadline = time.monotonic() + verification.VERIFY_TIMEOUT
            is_delivered = checked_endpoint.delivery.host in delivered
            may_change = is_delivered and (checked_endpoint.program.revokes if self._is_client else not is_unreplaced)
            while True:
                observation = probe(checked_endpoint, is_delivered=is_delivered)
                if not may_change or observation.verdict is RefusalVerdict.VERIFIED or time.monotonic() > deadline:
                    return observation
                time.sleep(PAUSE)

        return [
            *verification.map_parallel(probe_until_refused, self._endpoints, PARALLEL),
            *self._not_probed(delivered),
        ]

    def _client_at(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> Observation:
        identity = self._identity or checked_endpoint.prober.canary
        if identity is None:
            return checked_endpoint.observation(
                RefusalVerdict.UNVERIFIED, "neither the revoked key nor a canary is here to connect with"
            )
        try:
            acceptance = access.acceptance_text(
                checked_endpoint.endpoint,
                self._roots,
                identity,
                checked_endpoint.session,
                checked_endpoint.accepted_client,
            )
        except Unreached as why:
            return checked_endpoint.observation(
                RefusalVerdict.UNVERIFIED,
                f"{why}; {self._meanwhile(checked_endpoint, is_delivered=is_delivered)}",
            )
        if acceptance:
            caveat = self._caveat(checked_endpoint.program)
            text = f"{acceptance}; {caveat}" if caveat else acceptance
            return checked_endpoint.observation(RefusalVerdict.FAILED, text)
        if self._identity and checked_endpoint.was_accepted and not checked_endpoint.session_fault:
            session = " and in its earlier session" if checked_endpoint.session else "; the service issues no sessions"
            return checked_endpoint.observation(
                RefusalVerdict.VERIFIED, f"refuses the revoked identity in a new connection{session}"
            )
        return self._by_its_crl(checked_endpoint, is_delivered=is_delivered)

    def _by_its_crl(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> Observation:
        """Decide where the refusal alone proves little.

        The identity was refused before too, its earlier session could not be tried, or only the canary is refused.
        """
        text = "refuses the revoked identity, as before the revocation"
        if self._identity is None:
            text = "refuses the canary (the revoked key is not here)"
        elif checked_endpoint.was_accepted is None:
            text = "refuses the revoked identity; before the revocation, it could not be asked"
        elif checked_endpoint.was_accepted:
            text = f"refuses the revoked identity in a new connection; its earlier session was not tried ({checked_endpoint.session_fault})"
        receipt = checked_endpoint.delivery.records.receipt
        last_verification = ((receipt and receipt.verification) or {}).get(checked_endpoint.endpoint.service)
        if is_delivered and last_verification and last_verification.is_verified:
            return checked_endpoint.observation(
                RefusalVerdict.VERIFIED, f"{text}; the CRL that lists the certificate was deployed"
            )
        why = str(last_verification or "was not probed")
        if not is_delivered:
            why = f"the new CRL was not deployed; {self._meanwhile(checked_endpoint, is_delivered=False)}"
        return checked_endpoint.observation(RefusalVerdict.UNVERIFIED, f"{text}; {why}")

    def _meanwhile(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> str:
        """Return what applies to a service that could not be probed."""
        if is_delivered:
            return "the CRL that lists the certificate was deployed"
        if checked_endpoint.program.is_dated and self._old_crl_expiry:
            crl = (
                "the old CRL is valid there"
                if checked_endpoint.delivery.records.receipt
                else "an old CRL, if one is there, is valid"
            )
            return f"{crl} until {self._old_crl_expiry:%Y-%m-%d %H:%M} UTC"
        return f"the service accepts the certificate until the certificate expires, on {self._last_expiry:%Y-%m-%d}"

    def _caveat(self, program: ServerProgram) -> str:
        if program.revokes:
            return ""
        return (
            f"accepts the certificate until the certificate expires on {self._last_expiry:%Y-%m-%d}: {program.caveat}"
        )

    def _server_at(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool, is_unreplaced: bool) -> Observation:
        service_state = verification.check_before([checked_endpoint.endpoint], checked_endpoint.prober).get(
            checked_endpoint.endpoint
        )
        if service_state is None or not service_state.served:
            what = "could not be reached" if service_state is None else "completes no handshake with this machine"
            return checked_endpoint.observation(RefusalVerdict.UNVERIFIED, what)
        if service_state.served not in {_digest(certificate) for certificate in self._certificates}:
            return checked_endpoint.observation(
                RefusalVerdict.VERIFIED,
                f"serves another certificate (SHA-256 {service_state.served[:16]}…)",
            )
        if is_unreplaced:
            return checked_endpoint.observation(
                RefusalVerdict.UNVERIFIED, "still serves the revoked certificate: no new certificate replaces it"
            )
        return checked_endpoint.observation(
            RefusalVerdict.FAILED if is_delivered else RefusalVerdict.UNVERIFIED,
            "still serves the revoked certificate",
        )

    def _not_probed(self, delivered: Collection[str]) -> Iterator[Observation]:
        """Yield observations for hosts and services that cannot be probed from here."""
        for use in self._uses:
            if use.unseen:
                check = "refuses the certificate" if self._is_client else "serves another one"
                text = f"not verifiable from here: {use.unseen}; check on the host that the service {check}"
                yield from (Observation(f"{use.name}/{name}", RefusalVerdict.UNKNOWN, text) for name in use.services)
                continue
            delivery, place = self._deliveries.get(use.name), self._place(use)
            caveat = self._caveat(use.program) if self._is_client and use.program else ""
            if delivery is None:
                text = "gets no deployments; nothing was verified"
                yield Observation(place, RefusalVerdict.FOLDER, f"{text}; {caveat}" if caveat else text)
            elif not delivery.records.has_verified_services:
                is_delivered = delivery.host in delivered
                text = (
                    "written to a folder, not verified"
                    if is_delivered
                    else "not deployed: its folder has the old files"
                )
                yield Observation(
                    place,
                    RefusalVerdict.FOLDER if is_delivered else RefusalVerdict.UNVERIFIED,
                    f"{text}; {caveat}" if caveat else text,
                )

    def _place(self, use: dependents.Use) -> str:
        """Return the host, with the services where several of its servers are concerned."""
        is_only = sum(other.name == use.name for other in self._uses) == 1
        return use.name if is_only else f"{use.name}/{', '.join(use.services)}"


def _next_update(der: bytes | None) -> datetime | None:
    crl = canonical.read_crl(der, Encoding.DER) if der else None
    return None if crl is None else crl.next_update_utc


def _digest(certificate: Issued) -> str:
    return hashlib.sha256(
        x509.load_pem_x509_certificate(certificate.pem.encode()).public_bytes(Encoding.DER)
    ).hexdigest()
