"""`build/report/status.html`: how all of it is, for whoever looks once a day. The run itself writes it at its end.

It is written when it says something else than before. What it follows from is one short text, and what that led to is
remembered, so a run that finds everything as it was reads the page's first lines and is done.
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
from pki.common.cache import code_digest, digest_of, signature
from pki.common.errors import PkiError
from pki.common.visible import visible_line
from pki.config.identifiers import ArtifactId
from pki.monitor.check_result import Finding
from pki.monitor.checks.check_context import CheckContext, LastRun
from pki.monitor.status_page import forecast_section, hosts_section, runs_section
from pki.monitor.status_page.runs_section import MadeOn, RunsSection, calm
from pki.project.layout import Store

PAGE = "status.html"
STATE = re.compile(rb'(<meta name="pki-state" content=")(\w*)(">)')
BANNER = (b"<!--banner-->", b"<!--/banner-->")
TITLE = re.compile(rb"<title>(?!Stopped)")
BARE = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="pki-state" content=""><title>status</title>'
    b"<body><!--banner--><!--/banner--></body></html>\n"
)
HEAD = 2048  # bytes at the page's beginning, among which its state stands


class StatusPage:
    """`look` while project and memo are open; `write` at the end, when the report says what else went wrong."""

    def __init__(self) -> None:
        self._context: CheckContext | None = None
        self._facts: Any = None
        self._digest = ""
        self._made: MadeOn = (None, ())

    def look(self, context: CheckContext) -> None:
        """Find out what the page follows from, and gather what it says unless that is known."""
        self._context = context
        self._made = runs_section.made(context)
        cache, known = context.project.cache, _known(context)
        digest = cache.recall("page", known)
        if digest is None:
            try:
                self._facts = _gathered(context)
            except Exception:  # noqa: BLE001 - what is wrong with the page is said when it is written
                return
            digest = digest_of(self._facts)
            cache.remember("page", known, [], digest)
        self._digest = str(digest)

    def write(self, place: Store, report: Mapping[str, Any], late: Sequence[Finding]) -> None:
        """Write the page if it says something new; `late` is what went wrong after the look."""
        path = place.report(PAGE)
        if self._context is None:
            _put_banner(path, "The last run could not look at the project:", _first(report), "./run invoke health")
            return
        done, solved = RunsSection.of(LastRun.of(report), self._made), _solved(self._context.checks, report)
        state = digest_of(code_digest(), self._digest, done, late, sorted(solved))
        if state_of(path) == state:
            return
        try:
            facts = self._facts or _gathered(self._context)
            outdated = {*solved, *(one.subject for one in late)}
            checks = [*late, *(check for check in facts.checks if check.subject not in outdated)]
            from pki.monitor.status_page import render  # noqa: PLC0415 - needed when the page changes

            filesystem.write(path, render.page(facts, checks, done, state))
        except Exception as error:
            _put_banner(path, "This page could not be made again:", str(error), "./run invoke health")
            raise


def state_of(path: Path) -> str:
    """What a page says that it follows from; empty when there is none, or a banner stands on it."""
    filesystem.require_file(path)
    try:
        with path.open("rb") as page:
            found = STATE.search(page.read(HEAD))
    except FileNotFoundError:
        return ""
    return found[2].decode() if found else ""


def nothing_was_run(place: Store, now: datetime, message: str, remedy: str, *, is_new: bool = False) -> None:
    """Say at the top of a page that is there that nothing is run any more; the next page has no such banner.

    Where there is none, one that says nothing else is made, if it `is_new`.
    """
    title = f"Nothing is run any more, and nothing renewed. What the run of {now:%Y-%m-%d} found:"
    _put_banner(place.report(PAGE), title, message, remedy, BARE if is_new else None)


def _put_banner(path: Path, title: str, message: str, remedy: str, bare: bytes | None = None) -> None:
    data = filesystem.read(path) or bare
    if data is None:
        return
    lines = "<br>".join(f"<code>{escape(visible_line(line))}</code>" for line in remedy.splitlines())
    said = (
        f'<!--banner--><div class="banner" role="alert"><p><strong>{escape(title)}</strong> {escape(visible_line(message))}</p>'
        f"<p>{lines}</p><p>All below is as it was before.</p></div><!--/banner-->"
    ).encode()
    marked = TITLE.sub(b"<title>Stopped; before: ", STATE.sub(rb"\1\3", data, count=1), count=1)
    before, begin, rest = marked.partition(BANNER[0])
    _, end, after = rest.partition(BANNER[1])
    marked = before + said + after if begin and end else marked
    if marked != data:
        filesystem.write(path, marked)


def _solved(checks: Sequence[Finding], report: Mapping[str, Any]) -> frozenset[str]:
    """Channels that did not work and do again: this very run has told."""
    sent = {ArtifactId("alerts", one["channel"]) for one in report["alerts"] if not one["error"]}
    return frozenset(check.subject for check in checks if check.level and check.subject in sent)


def _first(report: Mapping[str, Any]) -> str:
    return next((str(one["message"]) for one in report["failed"]), "it was ended before that")


# -- what it follows from ---------------------------------------------------------------------------------------------


def _gathered(context: CheckContext) -> Any:
    from pki.monitor.status_page import page_data  # noqa: PLC0415 - needed when the page may have to change

    return page_data.gather(context)


def _known(context: CheckContext) -> str:
    """All that the facts follow from, the run's own report aside."""
    for remembered in (hosts_section.remembered, forecast_section.remembered):
        remembered(context)  # asked for in every run, and so kept
    files = [*forecast_section.files(context), *hosts_section.folders(context)]
    for name in context.project.inventory.authorities.adopted:
        with suppress(PkiError):  # its folder is not as it should be, as its CRL tells
            files.append(str(context.project.keys.adopted_files(name)[0]))
    seen = [(one.host, one.service, one.wrong, one.not_after, one.version) for one in context.probes]
    today = context.project.now.date()
    said = [calm(one, today) for one in context.checks if one.level]
    return digest_of(
        today, code_digest(), [signature([file]) for file in files], seen, said, sorted(context.run.unmet), context.head
    )
