"""`build/report/pki.ics`: what people must do in the next years, for their calendars (RFC 5545).

The calendar contains ceremonies, client identities to install and the expiry of roots, and nothing that doit does by
itself. A run writes it when its content changes. Most runs find in the cache that nothing changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pki.authority.certificates import LeafCertificates
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.timestamps import COMPACT
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory, Leaf
from pki.pipeline.plan import Plan
from pki.project.hierarchy import Ca
from pki.project.layout import Store
from pki.project.project import Project

YEARS = 10
SOON = timedelta(days=400)  # for client identities: a little more than a year
DAY = timedelta(days=1)
STAMP = re.compile(rb"DTSTAMP:[^\r]*\r\n")


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """One day in the calendar; `alarms` are numbers of days before it."""

    key: str
    day: date
    title: str
    text: str
    alarms: tuple[int, ...] = ()


def write(project: Project, plan: Plan) -> list[str]:
    """Write the calendar if it changed; return the files that were written, relative to the project."""
    path = project.store.build / "report" / "pki.ics"
    names = (f"client-{name}" for name in project.inventory.clients)
    clients = [
        plan.leaves[name]
        for name in names
        if name in plan.leaves and ArtifactId("cert", name) not in project.revocations.replacement_stopped
    ]
    sources = _sources(project.inventory, project.store, clients)
    key, files = _cache_key(project.inventory, project.now, clients, sources), [*sources, str(path)]
    if project.cache.recall("calendar", key):
        return []
    data = render(entries(project, clients), project.inventory, project.now)
    present_content = filesystem.read(path)
    if present_content is None or STAMP.sub(b"", present_content) != STAMP.sub(
        b"", data
    ):  # all but the time of writing
        filesystem.write(path, data)
        written_paths = [project.store.shown(path)]
    else:
        written_paths = []
    project.cache.remember("calendar", key, files, True)
    return written_paths


def _cache_key(inventory: Inventory, now: datetime, clients: list[Leaf], sources: list[str]) -> str:
    """Return the cache key: all that the calendar depends on besides the content of `sources`. It changes each month."""
    config = inventory
    leaves = [(leaf.name, leaf.lifetime, leaf.renew_before) for leaf in clients]
    rules = (
        *(config.authorities, config.profiles.client, config.holidays),
        *(config.schedule, config.sandbox, config.domains),
    )
    return digest_of(
        now.strftime("%Y-%m"), leaves, rules, config.organisation, config.publish, config.permit_addresses, sources
    )


def _sources(inventory: Inventory, store: Store, clients: list[Leaf]) -> list[str]:
    """Return the certificates, CRLs and requests that the calendar depends on."""
    bundles = [str(store.bundle(leaf)) for leaf in clients if store.bundle(leaf).exists()]
    return [*bundles, *authority_files(inventory, store), *_folders(store)]


def authority_files(inventory: Inventory, store: Store) -> list[str]:
    """Return the files of the authorities and of ceremonies on which the timeline depends."""
    requests = (store.home / rule.external for rule in inventory.authorities.externals.values())
    files = [path for path in requests if path.exists()]
    for authority in store.authorities():
        for name in store.generations(authority):
            files += [
                store.authority_file(name, "cert.pem"),
                *store.cross_certificates(name),
                *store.presigned_crls(name),
            ]
    files += [path for folder in store.ceremonies() for path in (folder, folder / "request.yaml")]
    return [str(path) for path in files]


def _folders(store: Store) -> list[str]:
    """Return the folders in which files of the authorities, ceremonies and clients may appear."""
    places = [store.ca / name for name in (*store.authorities(), "ceremonies", "clients")]
    return [str(place) for place in places if place.is_dir()]


# -- what people must do ----------------------------------------------------------------------------------------------


def entries(project: Project, clients: Iterable[Leaf]) -> list[CalendarEntry]:
    """Return everything that people must do, by day."""
    from pki.monitor.timeline import ca_rollovers, runs  # noqa: PLC0415 - what asks for ceremonies takes long to import

    evening = project.now.replace(hour=23, minute=59, second=59)  # the same at each time of a day
    clock = runs.Runs.of(project.inventory, evening)
    rollovers = ca_rollovers.CaRollovers.of(project, clock, project.now + YEARS * timedelta(days=365))
    listed = [
        *_ceremonies(rollovers.ceremonies, project.now),
        *_ends(rollovers.generations(), project.now),
        *_installs(LeafCertificates(project), project.now, clients, rollovers),
    ]
    return sorted(listed, key=lambda entry: (entry.day, entry.key))


def _ceremonies(ceremonies: Iterable[Any], now: datetime) -> Iterator[CalendarEntry]:
    for ceremony in ceremonies:
        if ceremony.by_doit:
            continue
        generations = ceremony.generations
        key = generations[0] if generations else f"{ceremony.needs[0].artifact.name}-{ceremony.by:%Y-%m}"
        yield CalendarEntry(
            f"ceremony-{key}",
            _stable_day(ceremony, now),
            f"root ceremony: {', '.join(ceremony.products)}",
            f"doit requests it on {ceremony.requested:%Y-%m-%d}; perform it by {ceremony.by:%Y-%m-%d}. This day is a proposal. "
            f"It needs the owner of the root and a witness: docs/how-to/ceremony.md. {'; '.join(need.why for need in ceremony.needs)}."
            + "".join(f" Note: {remark}." for remark in (ceremony.new_keys, ceremony.remark) if remark),
            (14, 1),
        )


def _stable_day(ceremony: Any, now: datetime) -> date:
    """Return a day for a ceremony that does not change with every run, although the assumed day moves with time.

    That is the assumed day; once it has passed, the last possible day; then the day after the request.
    """
    day_after_request: date = (ceremony.requested + DAY).date()
    days: tuple[date, ...] = (ceremony.performed.date(), ceremony.by.date(), day_after_request)
    return next((day for day in days if day > now.date()), day_after_request)


def _ends(generations: Sequence[Ca], now: datetime) -> Iterator[CalendarEntry]:
    for ca in generations:
        end = ca.not_after
        if ca.name.is_root and now < end <= now + YEARS * timedelta(days=365):
            newest = [other.name for other in generations if other.authority == ca.authority][-1]
            file = "peer.pem" if ca.authority == "root-peer" else "roots.pem"
            then = f"every machine that trusts it must trust {newest} by then: build/trust/{file}"
            text = "no other root follows it: create a new project" if newest == ca.name else then
            yield CalendarEntry(f"end-{ca.name}", end.date(), f"{ca.name} expires", text, (180, 30))


def _installs(
    leaf_certificates: LeafCertificates, now: datetime, clients: Iterable[Leaf], rollovers: Any
) -> Iterator[CalendarEntry]:
    """Yield the current identity of each client, if it is new, and those of the next year."""
    from pki.monitor.timeline.renewals import renewals  # noqa: PLC0415 - as above

    for leaf in clients:
        certificate = leaf_certificates.usable_certificate(leaf)
        planned = renewals(leaf, certificate, rollovers.issuing_periods[leaf.authority], rollovers.runs, now + SOON)
        previous_expiry = certificate.not_after if certificate else None
        for at, end in planned.issued:
            yield _install(leaf, at, end, previous_expiry)
            previous_expiry = end
        if certificate and now < certificate.not_before + leaf.renew_before:
            yield _install(leaf, certificate.not_before, certificate.not_after, None)


def _install(leaf: Leaf, at: datetime, end: datetime, previous_expiry: datetime | None) -> CalendarEntry:
    client = leaf.client
    text = f"the new one is in ca/clients/{client}/, valid until {end:%Y-%m-%d}"
    text += f"; the earlier one expires on {previous_expiry:%Y-%m-%d}" if previous_expiry else ""
    return CalendarEntry(f"{leaf.name}-{at:%Y%m%d}", at.date(), f"{client}: install the new identity", text)


# -- RFC 5545 ---------------------------------------------------------------------------------------------------------


def render(calendar_entries: Iterable[CalendarEntry], inventory: Inventory, now: datetime) -> bytes:
    """Return the calendar file: lines end with CRLF and are folded after 75 bytes (RFC 5545 §3.1)."""
    config = inventory
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//doit-pki//pki.ics//EN", "CALSCALE:GREGORIAN"]
    lines += [f"X-WR-CALNAME:{_text(f'certificates of {config.organisation}')}"]
    for entry in calendar_entries:
        lines += ["BEGIN:VEVENT", f"UID:{entry.key}@{config.publish.hostname}"]
        lines += [f"DTSTAMP:{now:{COMPACT}}", f"DTSTART;VALUE=DATE:{entry.day:%Y%m%d}"]
        lines += [f"DTEND;VALUE=DATE:{entry.day + DAY:%Y%m%d}", "TRANSP:TRANSPARENT"]
        lines += [f"SUMMARY:{_text(entry.title)}", f"DESCRIPTION:{_text(entry.text)}"]
        for days in entry.alarms:
            lines += ["BEGIN:VALARM", "ACTION:DISPLAY", f"TRIGGER:-P{days}D"]
            lines += [f"DESCRIPTION:{_text(entry.title)}", "END:VALARM"]
        lines += ["END:VEVENT"]
    return b"".join(_folded(line) for line in [*lines, "END:VCALENDAR"])


def _text(value: str) -> str:
    """Escape a text (RFC 5545 §3.3.11)."""
    return re.sub(r"([\\;,])", r"\\\1", value).replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """Fold a line (RFC 5545 §3.1): no part is longer than 75 bytes, and no character is split."""
    parts, part, room = list[str](), "", 75
    for character in line:
        if len((part + character).encode()) > room:
            parts.append(part)
            part, room = "", 74  # a continuation line begins with a space
        part += character
    return "\r\n ".join([*parts, part]).encode() + b"\r\n"
