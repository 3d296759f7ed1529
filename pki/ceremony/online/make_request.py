"""Prepare the request for a ceremony from the requirements and the operator's options, in `ca/ceremonies/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from pki.ceremony import request_response
from pki.ceremony.online import ceremony_archive, needs
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.online.crl_schedule import CrlSchedule
from pki.ceremony.online.intermediate_keys import IntermediateKeys
from pki.ceremony.online.needs import Requirement
from pki.ceremony.online.request_changes import changed_settings
from pki.ceremony.policy import common_name
from pki.ceremony.request_response import (
    LedgerHead,
    Request,
    RequestedCrossCertificate,
    RequestedIntermediate,
    RequestedRoot,
)
from pki.common import filesystem
from pki.common.durations import BACKDATED
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why, joined
from pki.common.remedies import here
from pki.config.authority_rules import ExternalRule
from pki.config.identifiers import (
    AUTHORITIES,
    INTERMEDIATES,
    PEER_AUTHORITIES,
    ROOTS,
    GenerationName,
    root_authority,
)
from pki.config.leaf_certificates import permitted_addresses
from pki.config.model import Inventory
from pki.project import external_requests
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import certificate_signing
from pki.x509.weak_keys import find_weakness

REQUESTED, REQUESTED_CRLS = "a new generation of {} is requested", "new CRLs are requested"
REQUEST_MAX_AGE = timedelta(days=30)  # an older request is replaced, so that its dates are near the day of the ceremony


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What the operator requests in addition to the requirements."""

    generations: tuple[str, ...] = ()  # authorities for which a new generation is requested
    revoke: tuple[tuple[str, str], ...] = ()  # generations to revoke, with the reason
    destroy: tuple[str, ...] = ()  # roots whose keys are to be destroyed
    crls: bool = False  # new CRLs, even when nothing else is required


def _covers(request: Request, requirement: Requirement) -> bool:
    """Return whether a request meets a requirement."""
    if requirement.is_crls:
        return requirement.generation in {series.root for series in request.crl_series}
    return requirement.generation in {root.name for root in request.roots} | {
        intermediate.name for intermediate in request.intermediates
    }


def outdated_reasons(
    inventory: Inventory, store: Store, now: datetime, authorities: Authorities, requirements: list[Requirement]
) -> list[Reason]:
    """Return why the newest open request must be replaced; empty when it meets all requirements and fits pki.yaml.

    Without requirements, there may be no open request, or one of any age with the operator's options.
    """
    open_requests = ceremony_archive.open_requests(store)
    if not open_requests:
        return [Why.NEEDED(what=requirement.what, why=requirement.why) for requirement in requirements]
    newest = open_requests[-1].request
    if not requirements:
        return changed_settings(inventory, authorities, newest)
    reasons = [
        Why.NEEDED(what=requirement.what, why=requirement.why)
        for requirement in requirements
        if not _covers(newest, requirement)
    ]
    reasons += changed_settings(inventory, authorities, newest)
    if newest.prepared > now + request_response.CLOCK_TOLERANCE:
        reasons.append(Why.REQUEST_FUTURE(number=newest.number))
    if now - newest.prepared > REQUEST_MAX_AGE:
        reasons.append(Why.REQUEST_AGE(number=newest.number, days=(now - newest.prepared).days))
    return reasons


def check_current(
    inventory: Inventory, store: Store, now: datetime, authorities: Authorities, open_request: OpenRequest
) -> None:
    """Raise PkiError for an open request that must be replaced."""
    if reasons := outdated_reasons(inventory, store, now, authorities, needs.find_requirements(authorities)):
        raise PkiError(
            f"request {open_request.request.number} is out of date: {joined(reasons)}",
            here("invoke", "ceremony.request", home=store.home, before="replace it: "),
        )


# -- collecting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestPreparation:
    """The next request to a root ceremony: what it asks for, and its files."""

    project: Project

    def outdated_reasons(self) -> list[Reason]:
        """Return why the newest open request must be replaced; empty when it meets all present requirements."""
        requirements = needs.find_requirements(self.project.authorities)
        return outdated_reasons(
            self.project.inventory, self.project.store, self.project.now, self.project.authorities, requirements
        )

    def prepare(self, options: RequestOptions = RequestOptions(), *, drop_earlier: bool = False) -> OpenRequest:
        """Write a request for all requirements and options; an open request with exactly that content is returned.

        The options of the newest open request are carried over, unless `drop_earlier`. Raises PkiError when there is nothing
        to request, an option is impossible, or the ledger lacks a certificate that the CRLs must list.
        """
        self.project.ledger_view.check()
        requirements = needs.find_requirements(self.project.authorities)
        open_requests = ceremony_archive.open_requests(self.project.store)
        earlier_options = RequestOptions()
        if open_requests and not drop_earlier:
            newest = open_requests[-1]
            if options == RequestOptions() and not self.outdated_reasons():
                return newest
            earlier_options = self._options_of(newest.request)
        options = _combine(options, earlier_options)
        self._check_options(options, requirements, self._new_generations(options, requirements))
        self.project.clock.check()
        request = self._collect(options, requirements)
        data = request_response.dump(request)
        path = self.project.store.ceremony(request.number) / "request.yaml"
        filesystem.write(path, data)
        return OpenRequest(path, request, request_response.digest(data))

    def _collect(self, options: RequestOptions, requirements: list[Requirement]) -> Request:
        """Return the request for all requirements and options."""
        config, names = self.project.inventory, self._new_generations(options, requirements)
        roots = tuple(self._root_to_create(name) for name in names if name.is_root)
        intermediates = tuple(self._intermediate_to_sign(name, roots) for name in names if not name.is_root)
        events = self.project.ledger.events(last=1)
        return Request(
            format="doit-pki ceremony request 1",
            number=max((int(folder.name) for folder in self.project.store.ceremonies()), default=0) + 1,
            prepared=self.project.now,
            organisation=config.organisation,
            publish=config.publish.url,
            sandbox=config.sandbox,
            because=tuple(_reasons(options, requirements)),
            previous=ceremony_archive.last_response_digest(self.project.store),
            ledger=LedgerHead(events=events[-1].seq if events else 0, head=events[-1].hash if events else "0" * 64),
            pinned={name: self.project.authorities.existing(name).fingerprint for name in self.project.store.roots()},
            roots=roots,
            intermediates=intermediates,
            cross_certificates=tuple(self._cross_certificates_to_sign(roots)),
            crl_series=tuple(CrlSchedule(self.project).plan(roots, options.revoke, options.destroy)),
            destroy=options.destroy,
        )

    def _intermediate_to_sign(self, name: str, requested_roots: tuple[RequestedRoot, ...]) -> RequestedIntermediate:
        config, authority = self.project.inventory, GenerationName.parse(name).authority
        lifetime, external = config.authorities.lifetime(authority), config.authorities.externals.get(authority)
        start, end = certificate_signing.validity_dates(self.project.now, lifetime, None)
        new_roots = {requested.name: (requested.not_before, requested.not_after) for requested in requested_roots}
        root = self._root_that_signs(root_authority(authority), requested_roots)
        issuer_start, issuer_expiry = new_roots.get(root) or _dates(self.project.authorities.existing(root).certificate)
        cn = common_name(config.organisation, name, sandbox=config.sandbox)
        return RequestedIntermediate(
            name=name,
            issuer=root,
            common_name=cn,
            not_before=max(start, issuer_start),
            not_after=min(end, issuer_expiry),
            domains=external.domains if external else config.domains,
            addresses=() if external else permitted_addresses(config),
            request=self._external_request(external)
            if external
            else IntermediateKeys(self.project).prepare_certificate_request(name, cn).decode(),
        )

    def _root_that_signs(self, authority: str, requested_roots: tuple[RequestedRoot, ...]) -> str:
        """Return the root that signs intermediates: a new one in the same ceremony, else the present one; "" without any."""
        new_roots = [root.name for root in requested_roots if root.authority == authority]
        present = self.project.authorities.issuing(authority)
        return next(iter(new_roots), present.name if present else "")

    def _external_request(self, rule: ExternalRule) -> str:
        """Return the request of an external authority. Raises PkiError if its key must not be certified."""
        external_request = external_requests.read(self.project.store.home, rule)
        if weakness := find_weakness(external_request.key):
            raise PkiError(f"{rule.external}: its key is weak: {weakness}", "make a new key and a new request")
        return external_request.pem

    def _options_of(self, request: Request) -> RequestOptions:
        """Return the options of an open request."""
        already_revoked = {
            entry.serial
            for series in request.crl_series
            for entry in self.project.ledger_view.ledger.revoked_entries(series.root, expiring_after=self.project.now)
        }
        revoked_entries = [entry for series in request.crl_series for entry in series.revoked]
        return RequestOptions(
            generations=tuple(name for name in self._authorities() if REQUESTED.format(name) in request.because),
            revoke=tuple(
                (entry.generation, entry.reason) for entry in revoked_entries if entry.serial not in already_revoked
            ),
            destroy=request.destroy,
            crls=REQUESTED_CRLS in request.because,
        )

    def _check_options(
        self, options: RequestOptions, requirements: list[Requirement], new_generations: list[GenerationName]
    ) -> None:
        """Raise PkiError when there is nothing to request, or an option is impossible."""
        if not requirements and options == RequestOptions():
            raise PkiError(
                "no ceremony is needed now",
                "to request one anyway: --new server, --revoke server-1, --crls, --destroy root-1",
            )
        for name, _ in options.revoke:
            self._check_revocable(name)
        for name in options.generations:
            if name not in self._authorities():
                raise PkiError(f"{name}: unknown authority", f"expected {', '.join(self._authorities())}")
            self._check_has_new_request(name)
        for authority in (name for name in ROOTS if name in options.generations):
            self._check_rollover(authority)
        for name in options.destroy:
            authority = GenerationName.parse(name).authority
            self._check_destruction(name, creates_root=any(new.authority == authority for new in new_generations))

    def _check_revocable(self, name: str) -> None:
        """Raise PkiError when a root cannot revoke the generation `name`."""
        generation = self.project.authorities.generation(name) if "-" in name else None
        if generation is None or generation.name.is_root:
            raise PkiError(f"{name}: is not an intermediate", f"intermediates: {', '.join(self._intermediates())}")
        if self.project.authorities.is_revoked_by_root(generation):
            raise PkiError(f"{name}: is revoked already", "./run invoke status")
        issuer = self.project.authorities.root_of(generation.certificate)
        if issuer is None or issuer.name in ceremony_archive.destroyed_roots(self.project.store):
            raise PkiError(
                f"{name}: the key of the root that signed it was destroyed, so it cannot be revoked",
                "if its key is exposed, start a new project: docs/how-to/ceremony.md",
            )

    def _authorities(self) -> tuple[str, ...]:
        """Return the authorities of which a new generation can be requested."""
        authorities = self.project.inventory.authorities
        return (*AUTHORITIES, *(PEER_AUTHORITIES if authorities.peer else ()), *authorities.externals)

    def _check_has_new_request(self, name: str) -> None:
        """Raise PkiError for an external authority whose server has not made a new key and request."""
        rule = self.project.inventory.authorities.externals.get(name)
        if rule is None or self.project.authorities.has_new_request(name):
            return
        external_requests.read(self.project.store.home, rule)  # raises the fault of a request that cannot be read
        raise PkiError(
            f"{rule.external}: its key is certified already; a new generation needs a new key",
            f"make a new key and request on the server of {name}, and copy the request to {rule.external}",
        )

    def _check_rollover(self, authority: str) -> None:
        """Raise PkiError while two roots of `root` or `root-peer` are valid.

        A cross-certificate has path length 1: it permits one intermediate below it, and no second cross-certificate. So
        clients that trust only the first of three roots would find no chain to the third.
        """
        roots = [
            root
            for name in self.project.store.generations(authority)
            if (root := self.project.authorities.generation(name))
        ]
        live_roots = [root for root in roots if self.project.authorities.is_live(root)]
        if len(live_roots) > 1:
            end = live_roots[0].not_after
            raise PkiError(
                f"{live_roots[0].name} certifies {live_roots[-1].name} until {end:%Y-%m-%d}: clients that trust only {live_roots[0].name} "
                "would find no chain to a third root",
                f"wait until then; if {live_roots[-1].name} is exposed, start a new project: docs/how-to/ceremony.md",
            )

    def _check_destruction(self, name: str, *, creates_root: bool) -> None:
        """Raise PkiError when the key of a root cannot be destroyed."""
        roots = self.project.store.generations(GenerationName.parse(name).authority)
        if name not in self.project.store.roots():
            raise PkiError(f"{name}: is not a root", f"roots: {', '.join(self.project.store.roots())}")
        if name in ceremony_archive.destroyed_roots(self.project.store):
            raise PkiError(f"{name}: its key was destroyed already", "./run invoke ceremony.verify")
        if name == roots[-1] and not creates_root:
            raise PkiError(
                f"{name}: is the only root that can sign",
                f"create its successor in the same ceremony: --new {GenerationName.parse(name).authority} --destroy {name}",
            )

    def _intermediates(self) -> list[GenerationName]:
        authorities = [name for name in self.project.store.authorities() if name not in ROOTS]
        return [name for authority in authorities for name in self.project.store.generations(authority)]

    def _new_generations(self, options: RequestOptions, requirements: list[Requirement]) -> list[GenerationName]:
        """Return the names of the new generations: required, requested, or replacing one that is to be revoked."""
        names = needs.new_generations(requirements)
        requested_authorities = [*options.generations]
        for root in (name for name in ROOTS if name in options.generations):
            requested_authorities += INTERMEDIATES[root]
        revoked_names = {name for name, _ in options.revoke}
        for authority in needs.ISSUING:
            issuing = self.project.authorities.issuing(authority)
            if issuing and issuing.name in revoked_names:
                requested_authorities.append(authority)
        names += [needs.next_generation(self.project.authorities, authority) for authority in requested_authorities]
        return list(dict.fromkeys(names))

    def _root_to_create(self, name: str) -> RequestedRoot:
        rule = self.project.inventory.authorities.root
        start, end = certificate_signing.validity_dates(self.project.now, rule.lifetime, None)
        cn = common_name(self.project.inventory.organisation, name, sandbox=self.project.inventory.sandbox)
        root = RequestedRoot(name=name, common_name=cn, key=rule.key, not_before=start, not_after=end)
        if root.authority == "root":
            return root
        inventory = self.project.inventory
        limits = {"domains": inventory.domains, "addresses": permitted_addresses(inventory)}
        return root.model_copy(update=limits)

    def _cross_certificates_to_sign(self, roots: tuple[RequestedRoot, ...]) -> Iterator[RequestedCrossCertificate]:
        """Yield the cross-certificate of each new root by the present one that it replaces."""
        for root in roots:
            present = self.project.authorities.issuing(root.authority)
            if present is not None and present.not_after > self.project.now:
                yield self._cross_certificate_to_sign(root, present)

    def _cross_certificate_to_sign(self, root: RequestedRoot, present: Generation) -> RequestedCrossCertificate:
        _, end = _dates(present.certificate)
        start = max(self.project.now - BACKDATED, root.not_before)
        return RequestedCrossCertificate(
            name=root.name, issuer=present.name, not_before=start, not_after=min(end, root.not_after)
        )


def _combine(options: RequestOptions, other: RequestOptions) -> RequestOptions:
    """Return both options combined; for two reasons of one revocation, the first counts."""
    return RequestOptions(
        generations=tuple(dict.fromkeys(options.generations + other.generations)),
        revoke=tuple({**dict(other.revoke), **dict(options.revoke)}.items()),
        destroy=tuple(dict.fromkeys(options.destroy + other.destroy)),
        crls=options.crls or other.crls,
    )


def _reasons(options: RequestOptions, requirements: list[Requirement]) -> Iterator[str]:
    """Yield the reasons of a ceremony, for the request and the operator."""
    for requirement in requirements:
        yield f"{requirement.what}: {requirement.why}"
    for authority in options.generations:
        yield REQUESTED.format(authority)
    for name, reason in options.revoke:
        yield f"{name} is to be revoked: {reason}"
    for name in options.destroy:
        yield f"the key of {name} is to be destroyed"
    if options.crls:
        yield REQUESTED_CRLS


def _dates(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc
