"""The status page as HTML: facts, their places on time axes, and a policy that lets nothing else run or load."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pki.common.templating import Pages
from pki.common.visible import visible_line
from pki.config.identifiers import GenerationName
from pki.monitor.check_result import Finding, Level, alike, counted, named, remedy_of
from pki.monitor.probes import Probed
from pki.monitor.status_page import charts
from pki.monitor.status_page.authorities_section import Authority
from pki.monitor.status_page.hosts_section import Host
from pki.monitor.status_page.page_data import Certificate, Facts
from pki.monitor.status_page.runs_section import RunsSection

PAGES = Path(__file__).parent
MANY = 30  # problems that are shown one by one; the others on a click
NOT_WELL = "not well"
SOON = 6  # of what is foreseen
MOST = 500  # problems that are on the page at all
FEW = 40  # rows that need no groups
TYPED = re.compile(
    r"(?:sudo |PKI_HOME=(?:'[^']*'|[^\s']+) )?\./run (?:(?:invoke|pip)(?: [^\s,;()]+)+|doit(?: \w+:[^\s,;()]+)?)|chmod \d+ [^\s,;()]+"
)
ENDED = {"ok": "ended well", "failed": "failed in part", "interrupted": "was interrupted"}
ICONS = {Level.OK: "#2e7d32", Level.NOTICE: "#1d6fb8", Level.WARNING: "#b45309", Level.CRITICAL: "#c62828"}
Row = TypeVar("Row", Certificate, Host)


@dataclass(frozen=True, slots=True)
class Item:
    """One problem; `remedy` in pieces, each with whether it is to be typed."""

    level: str
    subject: str
    message: str
    when: str
    remedy: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that stand together; `said` is what is to be known of them before they are seen."""

    name: str
    rows: tuple[Any, ...]
    said: str
    is_open: bool


def page(facts: Facts, checks: Sequence[Finding], runs_section: RunsSection, state: str) -> bytes:
    """The whole page; `checks` are those of the facts that still hold, and what went wrong later."""
    problems = sorted((one for one in checks if one.level), key=lambda one: -one.level)
    worst = problems[0].level if problems else Level.OK
    items = [_item(group, facts.today) for group in alike(problems)]
    axis = charts.axis_of(facts.certificates, facts.today)
    style = (PAGES / "status.css").read_text() + axis.style()
    script = (PAGES / "status.js").read_text()
    values = {
        "facts": facts,
        "state": state,
        "title": counted(problems) or "All is well",
        "level": worst.word,
        "icon": ICONS[worst].replace("#", "%23"),
        "style": style,
        "script": script,
        "policy": _policy(style, script),
        "items": items[:MOST],
        "many": MANY,
        "unsaid": len(items) - MOST,
        "well": [one for one in checks if not one.level],
        "runs_section": runs_section,
        "ended": ENDED.get(runs_section.result, runs_section.result),
        "tiles": list(_tiles(facts)),
        "trees": _trees(facts.authorities),
        "axis": axis,
        "bars": charts.bars(facts.certificates, axis),
        "days": {day: str(day or "") for one in facts.hosts for day in (one.delivered, one.looked)},
        "weeks": charts.weeks(facts.certificates, facts.today) if len(facts.certificates) > FEW else None,
        "certificates": _grouped(facts.certificates, [one.group for one in facts.certificates], _of_certificates),
        "hosts": _grouped(facts.hosts, [f"network {one.network}" for one in facts.hosts], _of_hosts),
        "services": _services(facts.services),
        "years": charts.years(facts),
        "soon": SOON,
    }
    return Pages(PAGES).render("status.html", values).encode()


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, and nothing runs but what stands here: https://www.w3.org/TR/CSP3/."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- problems ---------------------------------------------------------------------------------------------------------


def _item(group: Sequence[Finding], today: date) -> Item:
    first = group[0]
    since = min((one.since for one in group if one.since), default=None)
    when = [f"since {since:%Y-%m-%d}"] if since else []
    if first.until:
        when.append(f"until {first.until:%Y-%m-%d}, {in_days(first.until.date(), today)}")
    return Item(
        level=first.level.word,
        subject=named([one.subject for one in group]),
        message=visible_line(first.message),
        when="; ".join(when),
        remedy=tuple(pieces(visible_line(remedy_of(group)))),
    )


def pieces(remedy: str) -> Iterable[tuple[str, bool]]:
    """A remedy cut where something that is to be typed begins and ends."""
    done = 0
    for found in TYPED.finditer(remedy):
        if before := remedy[done : found.start()].strip(" ,;"):
            yield before, False
        yield found[0], True
        done = found.end()
    if rest := remedy[done:].strip(" ,;"):
        yield rest, False


def in_days(day: date, today: date) -> str:
    """`in 12 days`, `today`, `3 days ago`."""
    days = (day - today).days
    if days == 0:
        return "today"
    count = f"{abs(days)} day{'s' if abs(days) != 1 else ''}"
    return f"in {count}" if days > 0 else f"{count} ago"


# -- what there is ----------------------------------------------------------------------------------------------------


def _tiles(facts: Facts) -> Iterable[tuple[str, str, str]]:
    """The few figures at the top: what, how much, and what of it."""
    found, today = facts.certificates, facts.today
    ends = [one.end for one in found if one.end]
    yield "certificates", str(len(found)), f"first end {min(ends)}" if ends else "none is there"
    due = sum(1 for one in found if one.renewal and one.renewal <= today)
    coming = [one.renewal for one in found if one.renewal and one.renewal > today]
    first = min(coming, default=None)
    if due:
        yield "next renewal", "now", f"{due} due"
    elif first:
        yield "next renewal", in_days(first, today), f"{coming.count(first)} on that day"
    troubled, unmet = (sum(1 for one in facts.hosts if bool(one.level) is bad and one.state) for bad in (True, False))
    said = f"{troubled} not well" if troubled else f"{unmet} not reached" if unmet else "all well"
    yield "hosts", str(len(facts.hosts)), said
    held = next((one for one in facts.ahead.events if one.what == "ceremony"), None)
    what = "by doit itself" if facts.is_sandbox else "supposed day"
    yield (
        "next ceremony",
        held.day.isoformat() if held else "none",
        f"{what}, {in_days(held.day, today)}" if held else "",
    )


def _trees(found: Sequence[Authority]) -> list[tuple[Authority, list[list[Authority]]]]:
    """Each root with what it signed, a branch for each authority; what is from elsewhere stands alone."""
    trees = []
    for top in (one for one in found if one.root in {one.name, ""}):
        below = [one for one in found if one.root == top.name and one is not top]
        branches = [
            [one for one in below if GenerationName.parse(one.name).authority == name] for name in ("server", "client")
        ]
        trees.append((top, [branch for branch in branches if branch]))
    return trees


def _grouped(rows: Sequence[Row], names: Sequence[str], said: Callable[[Sequence[Row]], str]) -> list[Group]:
    """All together where they are few; else those that are not well, and the others by kind, on a click."""
    if len(rows) <= FEW:
        return [Group("", tuple(rows), "", is_open=True)] if rows else []
    groups: dict[str, list[Row]] = {}
    for row, name in zip(rows, names, strict=True):
        groups.setdefault(NOT_WELL if row.level else name, []).append(row)
    found = [Group(name, tuple(group), said(group), is_open=name == NOT_WELL) for name, group in groups.items()]
    return sorted(found, key=lambda group: (not group.is_open, group.name))


def _services(found: Sequence[Probed]) -> list[Group]:
    """All together where they are few; else those that are well on a click."""
    rows = sorted(found, key=lambda one: (not one.wrong, one.host, one.service))
    if len(rows) <= FEW:
        return [Group("", tuple(rows), "", is_open=True)] if rows else []
    parts = {
        "not as it should be": [one for one in rows if one.wrong],
        "as it should be": [one for one in rows if not one.wrong],
    }
    return [
        Group(name, tuple(part), _number(part, "service"), is_open=bool(part[0].wrong))
        for name, part in parts.items()
        if part
    ]


def _of_certificates(rows: Sequence[Certificate]) -> str:
    ends = [one.end for one in rows if one.end]
    return f"{_number(rows, 'certificate')}, first end {min(ends)}" if ends else _number(rows, "certificate")


def _of_hosts(rows: Sequence[Host]) -> str:
    return _number(rows, "host")


def _number(rows: Sequence[object], what: str) -> str:
    return f"{len(rows)} {what}{'s' if len(rows) != 1 else ''}"
