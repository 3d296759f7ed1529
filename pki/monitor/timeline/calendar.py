"""`build/report/pki.ics`: what people must do in the years to come, for their calendars (RFC 5545).

Ceremonies, client identities to install, ends of roots; nothing that doit does by itself. Written at a run's end when
it says something new. What each entry depends on is remembered, so most runs compute nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pki.authority import certificates
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.model import Leaf
from pki.pipeline.plan import Plan
from pki.project.hierarchy import Ca
from pki.project.layout import Store
from pki.project.project import Project

YEARS = 10
SOON = timedelta(days=400)  # client identities: a year and a little of them, not ten
DAY = timedelta(days=1)
STAMP = re.compile(rb"DTSTAMP:[^\r]*\r\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """One day in the calendar; `alarms` are days before it."""

    key: str
    day: date
    title: str
    text: str
    alarms: tuple[int, ...] = ()


def write(project: Project, plan: Plan) -> list[str]:
    """Bring the calendar up to date; returns the files that were written."""
    path = project.store.build / "report" / "pki.ics"
    names = (f"client-{name}" for name in project.inventory.clients)
    clients = [
        plan.leaves[name]
        for name in names
        if name in plan.leaves and ArtifactId("cert", name) not in project.replacement_stopped
    ]
    known, files = _known(project, clients), [*_sources(project, clients), str(path)]
    if project.cache.recall("calendar", known):
        return []
    data = rendered(entries(project, clients), project)
    before = filesystem.read(path)
    if before is None or STAMP.sub(b"", before) != STAMP.sub(b"", data):
        filesystem.write(path, data)
        written = [project.store.shown(path)]
    else:
        written = []
    project.cache.remember("calendar", known, files, True)
    return written


def _known(project: Project, clients: list[Leaf]) -> str:
    """What the calendar depends on besides files; again each month, as the years in it move on."""
    said = project.inventory
    leaves = [(leaf.name, leaf.lifetime, leaf.renew_before) for leaf in clients]
    rules = (said.authorities, said.profiles.client, said.holidays, said.schedule, said.sandbox, said.domains)
    return digest_of(
        project.now.strftime("%Y-%m"), leaves, rules, said.organisation, said.publish, said.permit_addresses
    )


def _sources(project: Project, clients: list[Leaf]) -> list[str]:
    """The certificates, CRLs and requests that it follows from."""
    held = [str(project.store.bundle(leaf)) for leaf in clients if project.store.bundle(leaf).exists()]
    return [*held, *authority_files(project.store), *_folders(project)]


def authority_files(place: Store) -> list[str]:
    """What the authorities are and what was asked of ceremonies: all that the years to come follow from there."""
    found = list[Path]()
    for authority in AUTHORITIES:
        for name in place.generations(authority):
            found += [
                place.authority_file(name, "cert.pem"),
                *place.cross_certificates(name),
                *place.presigned_crls(name),
            ]
    found += [path for folder in place.ceremonies() for path in (folder, folder / "request.yaml")]
    return [str(path) for path in found]


def _folders(project: Project) -> list[str]:
    """Folders in which something new may appear."""
    places = [project.store.ca / name for name in (*AUTHORITIES, "ceremonies", "clients")]
    return [str(place) for place in places if place.is_dir()]


# -- what people must do ----------------------------------------------------------------------------------------------


def entries(project: Project, clients: Iterable[Leaf]) -> list[Entry]:
    """Everything that needs a person, by day."""
    from pki.monitor.timeline import ca_rollovers, runs  # noqa: PLC0415 - what asks for ceremonies takes long to import

    evening = project.now.replace(hour=23, minute=59, second=59)  # whenever of a day it is looked at, it says the same
    clock = runs.Runs.of(project.inventory, evening)
    found = ca_rollovers.Authorities.of(project, clock, project.now + YEARS * timedelta(days=365))
    listed = [
        *_ceremonies(found.ceremonies, project.now),
        *_ends(found.generations(), project.now),
        *_installs(project, clients, found),
    ]
    return sorted(listed, key=lambda entry: (entry.day, entry.key))


def _ceremonies(found: Iterable[Any], now: datetime) -> Iterator[Entry]:
    for one in found:
        if one.by_doit:
            continue
        made = one.generations
        key = made[0] if made else f"{one.needs[0].artifact.name}-{one.by:%Y-%m}"
        yield Entry(
            f"ceremony-{key}",
            _settled(one, now),
            f"root ceremony: {', '.join(one.brings)}",
            f"doit asks for it on {one.asked:%Y-%m-%d}; hold it by {one.by:%Y-%m-%d}. This day is a proposal. "
            f"For the root's owner and a witness: docs/ceremony.md. {'; '.join(need.why for need in one.needs)}."
            + (f" Mind: {one.remark}." if one.remark else ""),
            (14, 1),
        )


def _settled(one: Any, now: datetime) -> date:
    """A day that stays where it is while nobody does anything: the supposed one, then the last one, then the first."""
    days: tuple[date, ...] = (one.held.date(), one.by.date(), (one.asked + DAY).date())
    later = [day for day in days if day > now.date()]
    return later[0] if later else days[2]


def _ends(generations: Sequence[Ca], now: datetime) -> Iterator[Entry]:
    for one in generations:
        end = one.not_after
        if one.authority == "root" and now < end <= now + YEARS * timedelta(days=365):
            newest = [ca.name for ca in generations if ca.name.is_root][-1]
            then = f"every machine that trusts it must trust {newest} by then: build/trust/roots.pem"
            text = "and nothing follows it: found a new project" if newest == one.name else then
            yield Entry(f"end-{one.name}", end.date(), f"{one.name} ends", text, (180, 30))


def _installs(project: Project, clients: Iterable[Leaf], found: Any) -> Iterator[Entry]:
    """The identity that each client has now, if it is a recent one, and those of the next year."""
    from pki.monitor.timeline.renewals import renewals  # noqa: PLC0415 - as above

    for leaf in clients:
        held = certificates.current_certificate(project, leaf)
        coming = renewals(leaf, held, found.turns[leaf.authority], found.runs, project.now + SOON)
        before = held.not_after if held else None
        for at, end in coming.issued:
            yield _install(leaf, at, end, before)
            before = end
        if held and project.now < held.not_before + leaf.renew_before:
            yield _install(leaf, held.not_before, held.not_after, None)


def _install(leaf: Leaf, at: datetime, end: datetime, before: datetime | None) -> Entry:
    client = leaf.client
    text = f"the new one lies in ca/clients/{client}/ and is good until {end:%Y-%m-%d}"
    text += f"; the one before it ends on {before:%Y-%m-%d}" if before else ""
    return Entry(f"{leaf.name}-{at:%Y%m%d}", at.date(), f"{client}: install the new identity", text)


# -- RFC 5545 ---------------------------------------------------------------------------------------------------------


def rendered(found: Iterable[Entry], project: Project) -> bytes:
    """A calendar file: lines end with CRLF, and go on in the next one after 75 bytes."""
    said = project.inventory
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//doit-pki//pki.ics//EN", "CALSCALE:GREGORIAN"]
    lines += [f"X-WR-CALNAME:{_text(f'certificates of {said.organisation}')}"]
    for entry in found:
        lines += ["BEGIN:VEVENT", f"UID:{entry.key}@{said.publish.hostname}"]
        lines += [f"DTSTAMP:{project.now:%Y%m%dT%H%M%SZ}", f"DTSTART;VALUE=DATE:{entry.day:%Y%m%d}"]
        lines += [f"DTEND;VALUE=DATE:{entry.day + DAY:%Y%m%d}", "TRANSP:TRANSPARENT"]
        lines += [f"SUMMARY:{_text(entry.title)}", f"DESCRIPTION:{_text(entry.text)}"]
        for days in entry.alarms:
            lines += ["BEGIN:VALARM", "ACTION:DISPLAY", f"TRIGGER:-P{days}D"]
            lines += [f"DESCRIPTION:{_text(entry.title)}", "END:VALARM"]
        lines += ["END:VEVENT"]
    return b"".join(_folded(line) for line in [*lines, "END:VCALENDAR"])


def _text(value: str) -> str:
    """RFC 5545, 3.3.11."""
    return re.sub(r"([\\;,])", r"\\\1", value).replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """RFC 5545, 3.1: no line is longer than 75 bytes, and no character is taken apart."""
    parts, part, room = list[str](), "", 75
    for letter in line:
        if len((part + letter).encode()) > room:
            parts.append(part)
            part, room = "", 74  # the next line begins with a blank
        part += letter
    return "\r\n ".join([*parts, part]).encode() + b"\r\n"
