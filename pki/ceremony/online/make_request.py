"""Prepare the request for a ceremony from the requirements and the operator's options, in `ca/ceremonies/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from pki.ceremony import request_response
from pki.ceremony.online import ceremony_archive
from pki.ceremony.online import needs as needed
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.online.crl_schedule import CrlSchedule
from pki.ceremony.online.intermediate_keys import IntermediateKeys
from pki.ceremony.online.needs import INTERMEDIATES, Requirement
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
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import certificate_signing

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
    waiting = ceremony_archive.open_requests(store)
    if not waiting:
        return [Why.NEEDED(what=requirement.what, why=requirement.why) for requirement in requirements]
    newest = waiting[-1].request
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
    if reasons := outdated_reasons(inventory, store, now, authorities, needed.find_requirements(authorities)):
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
        requirements = needed.find_requirements(self.project.authorities)
        return outdated_reasons(
            self.project.inventory, self.project.store, self.project.now, self.project.authorities, requirements
        )

    def prepare(self, options: RequestOptions = RequestOptions(), *, drop_earlier: bool = False) -> OpenRequest:
        """Write a request for all requirements and options; an open request with exactly that content is returned.

        The options of the newest open request are carried over, unless `drop_earlier`. Raises PkiError when there is nothing
        to request, an option is impossible, or the ledger lacks a certificate that the CRLs must list.
        """
        self.project.ledger_view.check()
        requirements = needed.find_requirements(self.project.authorities)
        waiting = ceremony_archive.open_requests(self.project.store)
        if options == RequestOptions() and waiting and not self.outdated_reasons() and not drop_earlier:
            return waiting[-1]
        options = _combine(
            options, self._options_of(waiting[-1].request) if waiting and not drop_earlier else RequestOptions()
        )
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
        present = self.project.authorities.issuing("root")
        can_sign = present is not None and present.not_after > self.project.now
        signing = roots[0].name if roots else present.name if present else ""
        intermediates = tuple(self._intermediate_to_sign(name, signing, roots) for name in names if not name.is_root)
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
            pinned={
                name: self.project.authorities.existing(name).fingerprint
                for name in self.project.store.generations("root")
            },
            roots=roots,
            intermediates=intermediates,
            cross_certificates=tuple(
                self._cross_certificate_to_sign(root, present) for root in roots if present and can_sign
            ),
            crl_series=tuple(CrlSchedule(self.project).plan(roots, present, options.revoke, options.destroy)),
            destroy=options.destroy,
        )

    def _intermediate_to_sign(
        self, name: str, root: str, requested_roots: tuple[RequestedRoot, ...]
    ) -> RequestedIntermediate:
        config, authority = self.project.inventory, GenerationName.parse(name).authority
        start, end = certificate_signing.validity_dates(
            self.project.now, config.authorities.intermediate(authority).lifetime, None
        )
        new_roots = {requested.name: (requested.not_before, requested.not_after) for requested in requested_roots}
        first, last = new_roots.get(root) or _dates(self.project.authorities.existing(root).certificate)
        cn = common_name(config.organisation, name, sandbox=config.sandbox)
        return RequestedIntermediate(
            name=name,
            issuer=root,
            common_name=cn,
            not_before=max(start, first),
            not_after=min(end, last),
            domains=config.domains,
            addresses=permitted_addresses(config),
            request=IntermediateKeys(self.project).prepare_certificate_request(name, cn).decode(),
        )

    def _options_of(self, request: Request) -> RequestOptions:
        """Return the options of an open request."""
        done = {
            entry.serial
            for series in request.crl_series
            for entry in self.project.ledger_view.ledger.revoked_entries(series.root, expiring_after=self.project.now)
        }
        listed = [entry for series in request.crl_series for entry in series.revoked]
        return RequestOptions(
            generations=tuple(authority for authority in AUTHORITIES if REQUESTED.format(authority) in request.because),
            revoke=tuple((entry.generation, entry.reason) for entry in listed if entry.serial not in done),
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
            generation = self.project.authorities.generation(name) if "-" in name else None
            if generation is None or generation.authority == "root":
                raise PkiError(f"{name}: is not an intermediate", f"intermediates: {', '.join(self._intermediates())}")
            if self.project.authorities.is_revoked_by_root(generation):
                raise PkiError(f"{name}: is revoked already", "./run invoke status")
            issuer = self.project.authorities.root_of(generation.certificate)
            if issuer is None or issuer.name in ceremony_archive.destroyed_roots(self.project.store):
                raise PkiError(
                    f"{name}: the key of the root that signed it was destroyed, so it cannot be revoked",
                    "if its key is exposed, start a new project: docs/how-to/ceremony.md",
                )
        for name in options.generations:
            if name not in AUTHORITIES:
                raise PkiError(f"{name}: unknown authority", "expected root, server or client")
        makes_root = any(name.is_root for name in new_generations)
        if "root" in options.generations:
            self._check_rollover()
        for name in options.destroy:
            self._check_destruction(name, makes_root=makes_root)

    def _check_rollover(self) -> None:
        """Raise PkiError while two roots are valid: with path length 1, clients that trust only the first of three find no chain."""
        roots = [
            root
            for name in self.project.store.generations("root")
            if (root := self.project.authorities.generation(name))
        ]
        live = [root for root in roots if self.project.authorities.is_live(root)]
        if len(live) > 1:
            end = live[0].not_after
            raise PkiError(
                f"{live[0].name} certifies {live[-1].name} until {end:%Y-%m-%d}: clients that trust only {live[0].name} "
                "would find no chain to a third root",
                f"wait until then; if {live[-1].name} is exposed, start a new project: docs/how-to/ceremony.md",
            )

    def _check_destruction(self, name: str, *, makes_root: bool) -> None:
        """Raise PkiError when the key of a root cannot be destroyed."""
        roots = self.project.store.generations("root")
        if name not in roots:
            raise PkiError(f"{name}: is not a root", f"roots: {', '.join(roots)}")
        if name in ceremony_archive.destroyed_roots(self.project.store):
            raise PkiError(f"{name}: its key was destroyed already", "./run invoke ceremony.verify")
        if name == roots[-1] and not makes_root:
            raise PkiError(
                f"{name}: is the only root that can sign",
                f"create its successor in the same ceremony: --new root --destroy {name}",
            )

    def _intermediates(self) -> list[GenerationName]:
        return [name for authority in INTERMEDIATES for name in self.project.store.generations(authority)]

    def _new_generations(self, options: RequestOptions, requirements: list[Requirement]) -> list[GenerationName]:
        """Return the names of the new generations: required, requested, or replacing one that is to be revoked."""
        names = needed.new_generations(requirements)
        renewed = [*options.generations]
        if "root" in renewed:
            renewed += INTERMEDIATES
        revoked = {name for name, _ in options.revoke}
        for authority in INTERMEDIATES:
            issuing = self.project.authorities.issuing(authority)
            if issuing and issuing.name in revoked:
                renewed.append(authority)
        names += [needed.next_generation(self.project.authorities, authority) for authority in renewed]
        return list(dict.fromkeys(names))

    def _root_to_create(self, name: str) -> RequestedRoot:
        rule = self.project.inventory.authorities.root
        start, end = certificate_signing.validity_dates(self.project.now, rule.lifetime, None)
        cn = common_name(self.project.inventory.organisation, name, sandbox=self.project.inventory.sandbox)
        return RequestedRoot(name=name, common_name=cn, key=rule.key, not_before=start, not_after=end)

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
