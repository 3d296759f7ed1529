"""The request for a ceremony: collected from what is needed and what a person wishes, kept in `ca/ceremonies/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from pki.ceremony import request_response
from pki.ceremony.online import ceremony_archive
from pki.ceremony.online import needs as needed
from pki.ceremony.online.ceremony_archive import Open
from pki.ceremony.online.crl_schedule import crl_series
from pki.ceremony.online.intermediate_keys import requested
from pki.ceremony.online.needs import INTERMEDIATES, Need
from pki.ceremony.online.request_changes import changed
from pki.ceremony.policy import common_name
from pki.ceremony.request_response import AskedCross, AskedIntermediate, AskedRoot, LedgerHead, Request
from pki.common import filesystem
from pki.common.durations import BACKDATED
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why, joined
from pki.common.remedies import here
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import certificate_signing

REQUESTED, REQUESTED_CRLS = "a new generation of {} is requested", "new CRLs are requested"
REFRESH = timedelta(days=30)  # a request this old is made again, so that its dates stay near the day of the ceremony


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a person asks for beyond what is needed."""

    generations: tuple[str, ...] = ()  # authorities that are to have a new generation
    revoke: tuple[tuple[str, str], ...] = ()  # generations to revoke, with the reason
    destroy: tuple[str, ...] = ()  # roots whose key is to be destroyed
    crls: bool = False  # new CRLs, although nothing else is needed


def _covers(request: Request, need: Need) -> bool:
    """Return whether a request asks for what is needed."""
    if need.is_crls:
        return need.generation in {series.root for series in request.crl_series}
    return need.generation in {root.name for root in request.roots} | {one.name for one in request.intermediates}


def uncovered(project: Project, found: list[Need]) -> list[Reason]:
    """Why the newest open request does not ask for what is needed, as pki.yaml has it; empty when it does.

    Where nothing is needed, there may be no request, or one of any age that asks for what is wished.
    """
    waiting = ceremony_archive.open_requests(project)
    if not waiting:
        return [Why.NEEDED(what=need.what, why=need.why) for need in found]
    newest = waiting[-1].request
    if not found:
        return changed(project, newest)
    lacking = [Why.NEEDED(what=need.what, why=need.why) for need in found if not _covers(newest, need)]
    lacking += changed(project, newest)
    if newest.prepared > project.now + request_response.SLACK:
        lacking.append(Why.REQUEST_FUTURE(number=newest.number))
    if project.now - newest.prepared > REFRESH:
        lacking.append(Why.REQUEST_AGE(number=newest.number, days=(project.now - newest.prepared).days))
    return lacking


def insist_on_current(project: Project, asked: Open) -> None:
    """Raise PkiError for an open request that is to be made again: nothing is to be printed or signed for it."""
    if reasons := uncovered(project, needed.needs(project)):
        raise PkiError(
            f"request {asked.request.number} is not what is asked for now: {joined(reasons)}",
            here("invoke", "ceremony.request", home=project.store.home, before="make it again: "),
        )


# -- collecting -------------------------------------------------------------------------------------------------------


def prepare(project: Project, options: RequestOptions = RequestOptions(), *, drop_earlier: bool = False) -> Open:
    """Write a request for everything that is needed or wished; an open one that asks for exactly that is kept.

    What the newest open request wishes is wished again, unless earlier requests are dropped. Raises PkiError when there is
    nothing to ask for, a wish cannot be granted, or the ledger lacks what its CRLs would have to list.
    """
    project.check_ledger()
    found = needed.needs(project)
    waiting = ceremony_archive.open_requests(project)
    if options == RequestOptions() and waiting and not uncovered(project, found) and not drop_earlier:
        return waiting[-1]
    options = _with(
        options, _requested(project, waiting[-1].request) if waiting and not drop_earlier else RequestOptions()
    )
    _check(project, options, found, _wanted(project, options, found))
    project.clock.check()
    request = _collected(project, options, found)
    data = request_response.dump(request)
    path = project.store.ceremony(request.number) / "request.yaml"
    filesystem.write(path, data)
    return Open(path, request, request_response.digest(data))


def _requested(project: Project, request: Request) -> RequestOptions:
    """What a person wished in a request that was not answered yet."""
    done = {
        entry.serial
        for series in request.crl_series
        for entry in project.ledger.revoked_entries(series.root, project.now)
    }
    listed = [one for series in request.crl_series for one in series.revoked]
    return RequestOptions(
        generations=tuple(one for one in AUTHORITIES if REQUESTED.format(one) in request.because),
        revoke=tuple((one.generation, one.reason) for one in listed if one.serial not in done),
        destroy=request.destroy,
        crls=REQUESTED_CRLS in request.because,
    )


def _with(options: RequestOptions, other: RequestOptions) -> RequestOptions:
    """Both wishes in one; of two reasons for one revocation, the first counts."""
    return RequestOptions(
        generations=tuple(dict.fromkeys(options.generations + other.generations)),
        revoke=tuple({**dict(other.revoke), **dict(options.revoke)}.items()),
        destroy=tuple(dict.fromkeys(options.destroy + other.destroy)),
        crls=options.crls or other.crls,
    )


def _check(project: Project, options: RequestOptions, found: list[Need], wanted: list[GenerationName]) -> None:
    if not found and options == RequestOptions():
        raise PkiError(
            "no ceremony is needed now",
            "to hold one all the same: --new server, --revoke server-1, --crls, --destroy root-1",
        )
    for name, _ in options.revoke:
        generation = project.generation(name) if "-" in name else None
        if generation is None or generation.authority == "root":
            raise PkiError(f"{name}: is not an intermediate", f"there are: {', '.join(_intermediates(project))}")
        if project.is_revoked_by_root(generation):
            raise PkiError(f"{name}: is revoked already", "./run invoke status")
        issuer = project.root_of(generation.certificate)
        if issuer is None or issuer.name in ceremony_archive.destroyed_roots(project):
            raise PkiError(
                f"{name}: the key of the root that signed it was destroyed, so nobody can revoke it",
                "if its key is exposed, found a new project: docs/ceremony.md",
            )
    for name in options.generations:
        if name not in AUTHORITIES:
            raise PkiError(f"{name}: no such authority", "expected root, server or client")
    makes_root = any(name.is_root for name in wanted)
    if "root" in options.generations:
        _check_rollover(project)
    for name in options.destroy:
        _check_destruction(project, name, makes_root=makes_root)


def _check_rollover(project: Project) -> None:
    """A cross-certificate has path length 1: who trusts only the first of three roots would find no chain."""
    roots = [root for name in project.store.generations("root") if (root := project.generation(name))]
    live = [root for root in roots if project.is_live(root)]
    if len(live) > 1:
        end = live[0].certificate.not_valid_after_utc
        raise PkiError(
            f"{live[0].name} still vouches for {live[-1].name}, until {end:%Y-%m-%d}: who trusts only {live[0].name} "
            "would find no chain to a third root",
            f"wait until then; if {live[-1].name} is exposed, found a new project: docs/ceremony.md",
        )


def _check_destruction(project: Project, name: str, *, makes_root: bool) -> None:
    roots = project.store.generations("root")
    if name not in roots:
        raise PkiError(f"{name}: is not a root", f"there are: {', '.join(roots)}")
    if name in ceremony_archive.destroyed_roots(project):
        raise PkiError(f"{name}: its key was destroyed already", "./run invoke ceremony.verify")
    if name == roots[-1] and not makes_root:
        raise PkiError(
            f"{name}: is the root that signs, and after it nothing could be signed",
            f"make its successor in the same ceremony: --new root --destroy {name}",
        )


def _intermediates(project: Project) -> list[GenerationName]:
    return [name for authority in INTERMEDIATES for name in project.store.generations(authority)]


def _wanted(project: Project, options: RequestOptions, found: list[Need]) -> list[GenerationName]:
    """Names of the generations to be made: needed, wished, or in place of one that is to be revoked."""
    names = needed.new_generations(found)
    authorities = [*options.generations]
    if "root" in authorities:
        authorities += INTERMEDIATES
    revoked = {name for name, _ in options.revoke}
    for authority in INTERMEDIATES:
        issuing = project.issuing(authority)
        if issuing and issuing.name in revoked:
            authorities.append(authority)
    names += [needed.next_name(project, authority) for authority in authorities]
    return list(dict.fromkeys(names))


def _collected(project: Project, options: RequestOptions, found: list[Need]) -> Request:
    said, wanted = project.inventory, _wanted(project, options, found)
    roots = tuple(_asked_root(project, name) for name in wanted if name.is_root)
    present = project.issuing("root")
    can_sign = present is not None and present.certificate.not_valid_after_utc > project.now
    signing = roots[0].name if roots else present.name if present else ""
    intermediates = tuple(_asked_intermediate(project, name, signing, roots) for name in wanted if not name.is_root)
    events = project.ledger.events(last=1)
    return Request(
        format="doit-pki ceremony request 1",
        number=max((int(folder.name) for folder in project.store.ceremonies()), default=0) + 1,
        prepared=project.now,
        organisation=said.organisation,
        publish=said.publish.url,
        sandbox=said.sandbox,
        because=tuple(_reasons(options, found)),
        previous=ceremony_archive.last_response(project),
        ledger=LedgerHead(events=events[-1].seq if events else 0, head=events[-1].hash if events else "0" * 64),
        pinned={name: project.existing(name).fingerprint for name in project.store.generations("root")},
        roots=roots,
        intermediates=intermediates,
        cross_certificates=tuple(_asked_cross(project, root, present) for root in roots if present and can_sign),
        crl_series=tuple(crl_series(project, roots, present, options.revoke, options.destroy)),
        destroy=options.destroy,
    )


def _reasons(options: RequestOptions, found: list[Need]) -> Iterator[str]:
    for need in found:
        yield f"{need.what}: {need.why}"
    for authority in options.generations:
        yield REQUESTED.format(authority)
    for name, reason in options.revoke:
        yield f"{name} is to be revoked: {reason}"
    for name in options.destroy:
        yield f"the key of {name} is to be destroyed"
    if options.crls:
        yield REQUESTED_CRLS


def _asked_root(project: Project, name: str) -> AskedRoot:
    rule = project.inventory.authorities.root
    start, end = certificate_signing.validity_dates(project.now, rule.lifetime, None)
    cn = common_name(project.inventory.organisation, name, sandbox=project.inventory.sandbox)
    return AskedRoot(name=name, common_name=cn, key=rule.key, not_before=start, not_after=end)


def _asked_intermediate(project: Project, name: str, root: str, made: tuple[AskedRoot, ...]) -> AskedIntermediate:
    said, authority = project.inventory, GenerationName.parse(name).authority
    start, end = certificate_signing.validity_dates(
        project.now, said.authorities.intermediate(authority).lifetime, None
    )
    known = {asked.name: (asked.not_before, asked.not_after) for asked in made}
    first, last = known.get(root) or _life(project.existing(root).certificate)
    cn = common_name(said.organisation, name, sandbox=said.sandbox)
    return AskedIntermediate(
        name=name,
        issuer=root,
        common_name=cn,
        not_before=max(start, first),
        not_after=min(end, last),
        domains=said.domains,
        addresses=permitted_addresses(said),
        request=requested(project, name, cn).decode(),
    )


def _life(cert: x509.Certificate) -> tuple[datetime, datetime]:
    return cert.not_valid_before_utc, cert.not_valid_after_utc


def _asked_cross(project: Project, root: AskedRoot, present: Generation) -> AskedCross:
    _, end = _life(present.certificate)
    start = max(project.now - BACKDATED, root.not_before)
    return AskedCross(name=root.name, issuer=present.name, not_before=start, not_after=min(end, root.not_after))
