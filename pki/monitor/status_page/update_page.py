"""Write `build/report/status.html` at the end of a run, if it would say something else than before.

A digest of everything that the page depends on is stored in its first lines and compared, so an idle run reads only
those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from pki.common import filesystem
from pki.common.cache import code_digest, digest_of, file_state
from pki.common.errors import PkiError
from pki.common.visible import visible_line
from pki.config.identifiers import ArtifactId
from pki.monitor.check_result import Finding
from pki.monitor.checks.check_context import CheckedProject, LastRun
from pki.monitor.status_page import forecast_section, hosts_section, runs_section
from pki.monitor.status_page.runs_section import LastChanges, RunsSection, calm
from pki.monitor.unseen_services import unseen_services
from pki.project.layout import Store

PAGE = "status.html"
STATE = re.compile(rb'(<meta name="pki-state" content=")(\w*)(">)')
CLOCK = re.compile(rb'(<span id="clock">)(\d\d:\d\d)</span>')
BANNER = (b"<!--banner-->", b"<!--/banner-->")
TITLE = re.compile(rb"<title>(?!Stopped)")
BARE = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="pki-state" content=""><title>status</title>'
    b"<body><!--banner--><!--/banner--></body></html>\n"
)
HEAD = 2048  # bytes at the beginning of the page that contain its state
TOP = 65536  # bytes at the beginning of the page that contain the hour of the last run


class StatusPage:
    """`collect` collects the data while project and cache are open; `write` writes the page at the end of the run."""

    def __init__(self) -> None:
        self._checked: CheckedProject | None = None
        self._facts: Any = None
        self._digest = ""
        self._changes: LastChanges = (None, ())

    def collect(self, checked: CheckedProject) -> None:
        """Compute the digest of what the page depends on; collect its data unless that digest is cached."""
        self._checked = checked
        self._changes = runs_section.last_changes(checked)
        cache, key = checked.project.cache, _cache_key(checked)

        def gather() -> str:
            self._facts = _gathered(checked)
            return digest_of(self._facts)

        with suppress(Exception):  # reported when the page is written
            self._digest = cache.cached("page", key, [], gather)

    def write(self, store: Store, report: Mapping[str, Any], late: Sequence[Finding]) -> None:
        """Write the page if it says something new; `late` are failures after the checks."""
        path = store.report(PAGE)
        if self._checked is None:
            _put_banner(path, "The last run could not check the project:", _first(report), "./run invoke health")
            return
        section, solved = RunsSection.of(LastRun.of(report), self._changes), _solved(self._checked.findings, report)
        state = digest_of(code_digest(), self._digest, section, late, sorted(solved))
        clock = f"{LastRun.of(report).at:%H:%M}"
        if state_of(path) == state:
            _put_clock(path, clock.encode())
            return
        try:
            facts = self._facts or _gathered(self._checked)
            outdated = {*solved, *(finding.subject for finding in late)}
            findings = [*late, *(finding for finding in facts.findings if finding.subject not in outdated)]
            from pki.monitor.status_page import render  # noqa: PLC0415 - needed only when the page changes

            filesystem.write(path, render.page(facts, findings, section, state, clock))
        except Exception as error:
            _put_banner(path, "This page could not be updated:", str(error), "./run invoke health")
            raise


def state_of(path: Path) -> str:
    """Return the digest that a page was written for; empty if there is no page, or it has a banner."""
    filesystem.require_file(path)
    try:
        with path.open("rb") as page:
            match = STATE.search(page.read(HEAD))
    except FileNotFoundError:
        return ""
    return match[2].decode() if match else ""


def _put_clock(path: Path, clock: bytes) -> None:
    """Replace the hour of the last run in a page that says nothing else new; all hours have five bytes."""
    with path.open("rb") as page:
        match = CLOCK.search(page.read(TOP))
    if match and match[2] != clock:
        filesystem.replace_bytes(path, match.start(2), clock)


def nothing_was_run(store: Store, now: datetime, message: str, remedy: str, *, is_new: bool = False) -> None:
    """Put a banner on the existing page: nothing is run any more. The next page has no banner.

    Where there is no page, create an empty one with the banner if `is_new`.
    """
    title = f"Nothing is run or renewed any more. The run of {now:%Y-%m-%d} reported:"
    _put_banner(store.report(PAGE), title, message, remedy, BARE if is_new else None)


def _put_banner(path: Path, title: str, message: str, remedy: str, bare: bytes | None = None) -> None:
    data = filesystem.read(path) or bare
    if data is None:
        return
    lines = "<br>".join(f"<code>{escape(visible_line(line))}</code>" for line in remedy.splitlines())
    banner = (
        f'<!--banner--><div class="banner" role="alert"><p><strong>{escape(title)}</strong> {escape(visible_line(message))}</p>'
        f"<p>{lines}</p><p>Everything below is from an earlier run.</p></div><!--/banner-->"
    ).encode()
    page = TITLE.sub(b"<title>Stopped; before: ", STATE.sub(rb"\1\3", data, count=1), count=1)
    before, begin, rest = page.partition(BANNER[0])
    _, end, after = rest.partition(BANNER[1])
    page = before + banner + after if begin and end else page
    if page != data:
        filesystem.write(path, page)


def _solved(findings: Sequence[Finding], report: Mapping[str, Any]) -> frozenset[str]:
    """Return the alert channels that failed before and worked in this run."""
    sent = {ArtifactId("alerts", alert["channel"]) for alert in report["alerts"] if not alert["error"]}
    return frozenset(finding.subject for finding in findings if finding.level and finding.subject in sent)


def _first(report: Mapping[str, Any]) -> str:
    """Return the first error of the run."""
    return next((str(row["message"]) for row in report["failed"]), "it was aborted before that")


# -- what the page depends on -------------------------------------------------------------------------------------------


def _gathered(checked: CheckedProject) -> Any:
    from pki.monitor.status_page import page_data  # noqa: PLC0415 - needed only when the page may have to change

    return page_data.gather(checked)


def _cache_key(checked: CheckedProject) -> str:
    """Return a key over all that the data depends on, except the report of the run."""
    for load_cached in (hosts_section.cached, forecast_section.cached):
        load_cached(checked)  # an entry that is not read in a run is dropped from the cache
    files = [*forecast_section.files(checked), *hosts_section.folders(checked)]
    for name in checked.project.inventory.authorities.adopted:
        with suppress(PkiError):  # its folder is invalid, which the check of its CRL reports
            files.append(str(checked.project.keys.adopted_files(name)[0]))
    services = (*checked.probes, *unseen_services(checked.project.inventory))
    probes = [
        (item.host, item.service, item.wrong, item.unverifiable, item.not_after, item.version) for item in services
    ]
    today = checked.project.now.date()
    findings = [calm(item, today) for item in checked.findings if item.level]
    return digest_of(
        today,
        code_digest(),
        [file_state([file]) for file in files],
        probes,
        findings,
        sorted(checked.run.blocked),
        checked.head,
    )
