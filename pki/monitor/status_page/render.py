"""Render the status page as HTML, with a content security policy that allows nothing else to run or load."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pki.common.counts import join_names
from pki.common.remedies import for_commands_folder
from pki.common.templating import Pages
from pki.common.visible import visible_line
from pki.config.identifiers import GenerationName
from pki.monitor.check_result import Finding, Level, count_by_level, group_alike, shared_remedy
from pki.monitor.probes import ProbeResult
from pki.monitor.status_page import charts
from pki.monitor.status_page.authorities_section import AuthorityRow
from pki.monitor.status_page.hosts_section import HostRow
from pki.monitor.status_page.page_data import CertificateRow, PageData
from pki.monitor.status_page.runs_section import RunsSection
from pki.monitor.timeline.event_kinds import EventKind

PAGES = Path(__file__).parent
PROBLEMS_SHOWN = 30  # the others on a click
WITH_PROBLEMS = "with problems"
FIRST_STEP = "Next step: the root ceremony"
EVENTS_SHOWN = 6  # events of the forecast; the others on a click
MAX_PROBLEMS = 500  # on the page
MAX_UNGROUPED = 40  # rows that are shown without groups
IN_CLONE, INSTALLED = r"(?:\./run|'/[^']*/run'|/[^\s']*/run)", r"(?:'/[^']*/doit-pki'|(?:/[^\s']*/|\b)doit-pki)"
TYPED = re.compile(
    r"(?:sudo |PKI_HOME=(?:'[^']*'|[^\s']+) )?"
    rf"(?:{IN_CLONE} (?:invoke|pip)(?: [^\s,;()]+)+|(?:{IN_CLONE}|{INSTALLED}) doit(?: \w+:[^\s,;()]+)?"
    rf"|{INSTALLED} [a-z][a-z.-]+(?: [^\s,;()]+)*)"
    r"|chmod \d+ [^\s,;()]+"
)
ENDED = {"ok": "succeeded", "failed": "failed in part", "interrupted": "was interrupted"}
ICONS = {Level.OK: "#2e7d32", Level.NOTICE: "#1d6fb8", Level.WARNING: "#b45309", Level.CRITICAL: "#c62828"}
Row = TypeVar("Row", CertificateRow, HostRow)


@dataclass(frozen=True, slots=True)
class Problem:
    """One card; `remedy` in pieces, each with whether it is a command to type."""

    level: str
    subject: str
    message: str
    when: str
    remedy: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are shown together under a heading, with a summary."""

    name: str
    rows: tuple[Any, ...]
    summary: str
    is_open: bool


def page(facts: PageData, findings: Sequence[Finding], runs_section: RunsSection, state: str, clock: str) -> bytes:
    """Return the whole page. `findings` are those that still hold, and failures after the checks.

    `clock` is the hour of the run, `06:33`; later runs replace it.
    """
    problems = sorted((row for row in findings if row.level), key=lambda row: -row.level)
    worst = problems[0].level if problems else Level.OK
    items = [_item(group, facts.today) for group in group_alike(problems)]
    axis = charts.axis_of(facts.certificates, facts.today)
    style = (PAGES / "status.css").read_text() + axis.style()
    script = (PAGES / "status.js").read_text()
    values = {
        "facts": facts,
        "state": state,
        "title": FIRST_STEP if facts.awaits_ceremony else count_by_level(problems) or "All OK",
        "clock": clock,
        "level": worst.word,
        "icon": ICONS[worst].replace("#", "%23"),
        "style": style,
        "script": script,
        "policy": _policy(style, script),
        "items": items[:MAX_PROBLEMS],
        "many": PROBLEMS_SHOWN,
        "omitted": len(items) - MAX_PROBLEMS,
        "passed": [row for row in findings if not row.level],
        "runs_section": runs_section,
        "ended": ENDED.get(runs_section.result, runs_section.result),
        "tiles": list(_tiles(facts)),
        "trees": _trees(facts.authorities),
        "axis": axis,
        "bars": charts.certificate_days(facts.certificates, axis),
        "days": {day: str(day or "") for row in facts.hosts for day in (row.delivered, row.contacted)},
        "weeks": charts.renewals_chart(facts.certificates, facts.today)
        if len(facts.certificates) > MAX_UNGROUPED
        else None,
        "certificates": _grouped(
            facts.certificates, [row.group for row in facts.certificates], _summarise_certificates
        ),
        "hosts": _grouped(facts.hosts, [f"network {row.network}" for row in facts.hosts], _summarise_hosts),
        "services": _services(facts.services),
        "generations": charts.generations_chart(facts),
        "soon": EVENTS_SHOWN,
    }
    return Pages(PAGES).render("status.html", values).encode()


def _policy(style: str, script: str) -> str:
    """Return the policy: nothing is loaded, and only this style and script run (https://www.w3.org/TR/CSP3/)."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- problems ---------------------------------------------------------------------------------------------------------


def _item(group: Sequence[Finding], today: date) -> Problem:
    first = group[0]
    since = min((finding.since for finding in group if finding.since), default=None)
    when = [f"since {since:%Y-%m-%d}"] if since else []
    if first.until:
        when.append(f"until {first.until:%Y-%m-%d}, {in_days(first.until.date(), today)}")
    return Problem(
        level=first.level.word,
        subject=join_names([finding.subject for finding in group]),
        message=visible_line(first.message),
        when="; ".join(when),
        remedy=tuple(pieces(visible_line(for_commands_folder(shared_remedy(group))))),
    )


def pieces(remedy: str) -> Iterable[tuple[str, bool]]:
    """Split a remedy into commands to type and the text around them."""
    end_of_last = 0
    for command in TYPED.finditer(remedy):
        if text := remedy[end_of_last : command.start()].strip(" ,;"):
            yield text, False
        yield command[0], True
        end_of_last = command.end()
    if rest := remedy[end_of_last:].strip(" ,;"):
        yield rest, False


def in_days(day: date, today: date) -> str:
    """`in 12 days`, `today`, `3 days ago`."""
    days = (day - today).days
    if days == 0:
        return "today"
    count = f"{abs(days)} day{'s' if abs(days) != 1 else ''}"
    return f"in {count}" if days > 0 else f"{count} ago"


# -- figures and tables --------------------------------------------------------------------------------------------------


def _tiles(facts: PageData) -> Iterable[tuple[str, str, str]]:
    """Yield the figures at the top: label, value, detail."""
    certificates, today = facts.certificates, facts.today
    ends = [row.end for row in certificates if row.end]
    yield "certificates", str(len(certificates)), f"first expires {min(ends)}" if ends else "none yet"
    due_count = sum(1 for row in certificates if row.renewal and row.renewal <= today)
    renewals = [row.renewal for row in certificates if row.renewal and row.renewal > today]
    first_renewal = min(renewals, default=None)
    if due_count:
        yield "next renewal", "now", f"{due_count} due"
    elif first_renewal:
        yield "next renewal", in_days(first_renewal, today), f"{renewals.count(first_renewal)} on that day"
    with_problems = sum(1 for row in facts.hosts if row.level and row.state)
    not_deployed = sum(1 for row in facts.hosts if not row.level and row.state)
    detail = f"{not_deployed} not deployed" if not_deployed else "all OK"
    if with_problems:
        detail = f"{with_problems} with problems"
    yield "hosts", str(len(facts.hosts)), detail
    ceremony = next((row for row in facts.ahead.events if row.what == EventKind.CEREMONY), None)
    kind = "performed by doit" if facts.is_sandbox else "planned day"
    yield (
        "next ceremony",
        ceremony.day.isoformat() if ceremony else "none",
        f"{kind}, {in_days(ceremony.day, today)}" if ceremony else "",
    )


def _trees(authorities: Sequence[AuthorityRow]) -> list[tuple[AuthorityRow, list[list[AuthorityRow]]]]:
    """Return each root with the generations that it issued, one branch for each authority; an adopted CA stands alone."""
    trees = []
    for root in (row for row in authorities if row.root in {row.name, ""}):
        issued_rows = [row for row in authorities if row.root == root.name and row is not root]
        names = dict.fromkeys(GenerationName.parse(row.name).authority for row in issued_rows)
        branches = [[row for row in issued_rows if GenerationName.parse(row.name).authority == name] for name in names]
        trees.append((root, [branch for branch in branches if branch]))
    return trees


def _grouped(rows: Sequence[Row], names: Sequence[str], summary: Callable[[Sequence[Row]], str]) -> list[Group]:
    """Return few rows as one group. Of many rows, those with problems are one open group, the others closed groups by name."""
    if len(rows) <= MAX_UNGROUPED:
        return [Group("", tuple(rows), "", is_open=True)] if rows else []
    groups: dict[str, list[Row]] = {}
    for row, name in zip(rows, names, strict=True):
        groups.setdefault(WITH_PROBLEMS if row.level else name, []).append(row)
    groups_shown = [
        Group(name, tuple(group), summary(group), is_open=name == WITH_PROBLEMS) for name, group in groups.items()
    ]
    return sorted(groups_shown, key=lambda group: (not group.is_open, group.name))


def _services(results: Sequence[ProbeResult]) -> list[Group]:
    """Return few services as one group. Of many services, those with problems are an open group, the others a closed one."""
    rows = sorted(results, key=lambda result: (not result.wrong, result.host, result.service))
    if len(rows) <= MAX_UNGROUPED:
        return [Group("", tuple(rows), "", is_open=True)] if rows else []
    parts = {
        "with problems": [result for result in rows if result.wrong],
        "OK": [result for result in rows if not result.wrong],
    }
    return [
        Group(name, tuple(part), _count(part, "service"), is_open=bool(part[0].wrong))
        for name, part in parts.items()
        if part
    ]


def _summarise_certificates(rows: Sequence[CertificateRow]) -> str:
    ends = [row.end for row in rows if row.end]
    return f"{_count(rows, 'certificate')}, first expires {min(ends)}" if ends else _count(rows, "certificate")


def _summarise_hosts(rows: Sequence[HostRow]) -> str:
    return _count(rows, "host")


def _count(rows: Sequence[object], what: str) -> str:
    return f"{len(rows)} {what}{'s' if len(rows) != 1 else ''}"
