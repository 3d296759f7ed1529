"""Whether a revoked certificate is refused everywhere: looked at before it is revoked, and again once that is published.

A client's certificate knocks itself where its key is here: in a new connection, and in the session that it had before.
Otherwise the canary does, which is on the same lists. Of a server's certificate it is looked whether its host serves
another one now.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common import filesystem
from pki.config.proxies import ProxyProgram
from pki.deploy import access, verification
from pki.deploy.access import ResumableSession
from pki.deploy.delivery import Delivery
from pki.deploy.tls_client import Endpoint, Prober, Unreached
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.pipeline.plan import Plan
from pki.project.project import Project
from pki.x509 import canonical

WIDTH = 10  # services that are looked at at once
PAUSE = 0.5  # seconds between two looks at one service


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a service, or of a host: verified, open (not verified), failed, or folder (nothing to look at)."""

    place: str
    verdict: str
    text: str


@dataclass
class CheckedEndpoint:
    """One service of one host; `was_open` and `session` say what the identity that is to be revoked found before."""

    delivery: Delivery
    program: ProxyProgram
    endpoint: Endpoint
    prober: Prober
    was_open: bool = False
    session: ResumableSession | None = None

    @property
    def place(self) -> str:
        return f"{self.delivery.host}/{self.endpoint.service}"


class Witness:
    """Looks at everything that certificates concern which are going to be revoked; of one kind, clients' or a server's.

    `folder` is a private one: it holds the identity, whose own file the replacement overwrites.
    """

    def __init__(self, project: Project, plan: Plan, going: Sequence[Issued], folder: Path) -> None:
        self._project = project
        self._deliveries = plan.deliveries
        self._going = going
        self._is_client = going[-1].profile == "client"
        self._end = max(one.not_after for one in going)
        self._roots = project.store.trust("roots.pem")
        self._old_list_ends = _next_update(filesystem.read(project.store.crl(going[-1].issuer)))
        self._own = self._own_identity(plan, folder) if self._is_client else None
        self._uses = self._concerned()
        self._endpoints = [checked_endpoint for use in self._uses for checked_endpoint in self._endpoints_of(use)]

    # -- what is looked at, and with what --

    def _own_identity(self, plan: Plan, folder: Path) -> Path | None:
        """A copy of the identity that is going to be revoked, where its key is here."""
        names = {one.artifact for one in self._going}
        for leaf in plan.leaves.values():
            held = dependents.present(self._project, leaf, self._going) if leaf.artifact in names else b""
            if held and not leaf.request:
                filesystem.write(folder / "identity.pem", held, filesystem.SECRET)
                return folder / "identity.pem"
        return None

    def _concerned(self) -> list[dependents.Use]:
        if self._going[-1].artifact.kind != "cert":  # which an authority from elsewhere signed
            return []
        if self._is_client:
            return dependents.asking(self._project)
        return [use for one in self._going for use in dependents.serving(self._project, one.artifact.short)][:1]

    def _endpoints_of(self, use: dependents.Use) -> Iterator[CheckedEndpoint]:
        delivery, program = self._deliveries.get(use.name), use.program
        if delivery and delivery.is_remote and delivery.destination and program:
            to = delivery.destination()
            for endpoint in to.endpoints:
                if endpoint.service in use.services:
                    yield CheckedEndpoint(delivery, program, endpoint, to.prober)

    # -- looking --

    def look_before(self) -> None:
        """See where the identity gets in, and let it have sessions that it could come back with."""
        if identity := self._own:

            def connect_to(checked_endpoint: CheckedEndpoint) -> None:
                with suppress(Unreached):
                    checked_endpoint.was_open = bool(
                        access.improper_access(checked_endpoint.endpoint, self._roots, identity)
                    )
                    checked_endpoint.session = access.open_session(checked_endpoint.endpoint, self._roots, identity)

            verification.map_parallel(connect_to, self._endpoints, WIDTH)

    def look_after(self, delivered: Collection[str], *, kept: bool) -> list[Observation]:
        """What is seen everywhere; `delivered` are the hosts that took what followed, `kept` says that nothing is replaced."""
        look = self._client_at if self._is_client else partial(self._server_at, kept=kept)

        def settle(checked_endpoint: CheckedEndpoint) -> Observation:
            deadline = time.monotonic() + verification.VERIFY_TIMEOUT
            is_final = kept or checked_endpoint.delivery.host not in delivered or not checked_endpoint.program.revokes
            while True:
                found = look(checked_endpoint, is_delivered=checked_endpoint.delivery.host in delivered)
                if is_final or found.verdict == "verified" or time.monotonic() > deadline:
                    return found
                time.sleep(PAUSE)

        return [*verification.map_parallel(settle, self._endpoints, WIDTH), *self._not_probed(delivered)]

    def _client_at(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> Observation:
        identity = self._own or checked_endpoint.prober.canary
        if identity is None:
            return Observation(
                checked_endpoint.place,
                "open",
                "not verified: neither the revoked key nor a canary is here to knock with",
            )
        try:
            found = access.improper_access(checked_endpoint.endpoint, self._roots, identity, checked_endpoint.session)
        except Unreached as why:
            return Observation(
                checked_endpoint.place,
                "open",
                f"not verified: {why}; {self._meanwhile(checked_endpoint, is_delivered=is_delivered)}",
            )
        if found:
            weak = self._weakness(checked_endpoint.program)
            return Observation(checked_endpoint.place, "failed", f"{found}; {weak}" if weak else found)
        if self._own and checked_endpoint.was_open:
            again = (
                " and in the session that it had before"
                if checked_endpoint.session
                else "; sessions it gives to nobody"
            )
            return Observation(checked_endpoint.place, "verified", f"refuses it, in a new connection{again}")
        return self._by_its_list(checked_endpoint, is_delivered=is_delivered)

    def _by_its_list(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> Observation:
        """Where the refusal alone says little: it was refused before, or it is the canary that is refused."""
        what = "refuses it, as it did before" if self._own else "refuses the canary, for the revoked key is not here"
        receipt = checked_endpoint.delivery.receipt
        seen = ((receipt and receipt.verification) or {}).get(checked_endpoint.endpoint.service)
        if is_delivered and seen and seen.is_verified:
            return Observation(checked_endpoint.place, "verified", f"{what}; the list that names it was delivered")
        why = (
            f"{seen or 'was not looked at'}"
            if is_delivered
            else f"it was not delivered to; {self._meanwhile(checked_endpoint, is_delivered=False)}"
        )
        return Observation(checked_endpoint.place, "open", f"not verified: {what}, and {why}")

    def _meanwhile(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool) -> str:
        """What holds at a service of which nothing was seen."""
        if is_delivered:
            return "the list that names it was delivered"
        if checked_endpoint.program.is_dated and self._old_list_ends:
            return f"the old CRL holds there, at the latest until {self._old_list_ends:%Y-%m-%d %H:%M} UTC"
        return f"nothing ends what it has before the certificate itself ends, on {self._end:%Y-%m-%d}"

    def _weakness(self, program: ProxyProgram) -> str:
        return "" if program.revokes else f"lets it in until it ends on {self._end:%Y-%m-%d}: {program.caveat}"

    def _server_at(self, checked_endpoint: CheckedEndpoint, *, is_delivered: bool, kept: bool) -> Observation:
        seen = verification.check_before([checked_endpoint.endpoint], checked_endpoint.prober).get(
            checked_endpoint.endpoint.service
        )
        if seen is None or not seen.served:
            return Observation(checked_endpoint.place, "open", "not verified: could not be reached")
        if seen.served not in {_digest(one) for one in self._going}:
            return Observation(
                checked_endpoint.place, "verified", f"serves another certificate (SHA-256 {seen.served[:16]}…)"
            )
        if kept:
            return Observation(checked_endpoint.place, "open", "goes on serving it: nothing replaces it")
        return Observation(checked_endpoint.place, "failed" if is_delivered else "open", "still serves it")

    def _not_probed(self, delivered: Collection[str]) -> Iterator[Observation]:
        """Hosts of which nothing can be seen from here."""
        for use in self._uses:
            delivery = self._deliveries.get(use.name)
            caveat = self._weakness(use.program) if self._is_client and use.program else ""
            if delivery is None:
                text = "nothing is delivered there, and nothing verified"
                yield Observation(use.name, "folder", f"{text}; {caveat}" if caveat else text)
            elif not delivery.is_remote:
                is_there = delivery.host in delivered
                text = (
                    "delivered into a folder, not verified"
                    if is_there
                    else "not delivered: its folder has the old files"
                )
                yield Observation(use.name, "folder" if is_there else "open", f"{text}; {caveat}" if caveat else text)


def _next_update(der: bytes | None) -> datetime | None:
    found = canonical.read_crl(der, Encoding.DER) if der else None
    return None if found is None else found.next_update_utc


def _digest(issued: Issued) -> str:
    return hashlib.sha256(x509.load_pem_x509_certificate(issued.pem.encode()).public_bytes(Encoding.DER)).hexdigest()
