"""A message for a person: the worst thing in the subject; then what, since when, until when, and what to type."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from pki.common.durations import in_words
from pki.common.templating import Pages
from pki.common.visible import visible_line
from pki.config.fields import SANDBOX
from pki.monitor.alerts.decisions import Decision
from pki.monitor.check_result import Finding, alike, counted, named, remedy_of

WIDTH = 76
SUBJECT = 110  # more of a subject no phone shows
MANY = 30  # problems that are shown one by one
COLOURS = {
    "critical": "#c62828",
    "warning": "#b45309",
    "notice": "#1d6fb8",
    "ok": "#2e7d32",
}  # white reads well on each
KINDS = {"new": "new", "worse": "worse than before", "nearer": "nearer to its end"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What every letter says besides: whose project it is and where, what the run did, the ledger's head."""

    organisation: str
    place: str
    run: str
    head: str
    now: datetime
    is_sandbox: bool = False

    @property
    def name(self) -> str:
        """What a letter is about, as its first words say: a try-out never passes for a real CA."""
        return f"{SANDBOX} {self.organisation}" if self.is_sandbox else self.organisation


@dataclass(frozen=True, slots=True)
class MailText:
    """`brief` is for channels that show a few lines only."""

    subject: str
    text: str
    html: str
    brief: str


@dataclass(frozen=True, slots=True)
class Item:
    """One problem, or one that several things have, as both forms of a letter show it."""

    level: str
    subject: str
    kind: str
    message: str
    when: str
    remedy: str
    count: int


def write(decision: Decision, checks: Sequence[Finding], facts: Facts, late: str) -> MailText:
    """The letter for a decision; `late` says since when earlier ones could not be sent, and why."""
    kinds = {one.check.key: KINDS[one.kind] for one in decision.news if one.kind in KINDS}
    problems = sorted((one for one in checks if one.level), key=lambda one: (-one.level, one.key not in kinds))
    items = list(_items(problems, kinds, decision, facts.now))
    solved = [one.check for one in decision.news if one.kind == "solved"]
    well = [one for one in checks if not one.level]
    title = counted(problems) or "all is well"
    return MailText(
        subject=_subject(decision, problems, solved, facts),
        text="\n".join(_text(title, items, solved, well, facts, late)),
        html=Pages(Path(__file__).parent).render(
            "mail_text.html",
            {
                "title": title,
                "items": items[:MANY],
                "more": sum(item.count for item in items[MANY:]),
                "solved": solved[:MANY],
                "more_solved": len(solved) - MANY,
                "well": well,
                "facts": facts,
                "late": late,
                "colours": COLOURS,
            },
        ),
        brief="\n".join(_brief(solved, items, decision)),
    )


def _subject(decision: Decision, problems: Sequence[Finding], solved: Sequence[Finding], facts: Facts) -> str:
    """The worst of what is new, or of what is still there; else what was solved, or that all is well."""
    new = [one.check for one in decision.news if one.kind in KINDS]
    first = max([*new, *problems], key=lambda one: one.level, default=None)
    if first is None:
        what = f"solved: {', '.join(one.subject for one in solved)}; all is well" if solved else "all is well"
    elif new:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        what = f"{first.level.word.upper()}: {first.subject} {first.message}"
        what = _cut(what, SUBJECT - len(more)) + more
    else:
        before = f"solved: {', '.join(one.subject for one in solved)}; " if solved else ""
        what = f"{before}still {first.level.word}: {first.subject} {first.message}"
    mark = f"{SANDBOX} " if facts.is_sandbox else ""
    return visible_line(_cut(f"{mark}[{facts.organisation}] {what}", SUBJECT + len(facts.name) + 15))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _since(check: Finding, decision: Decision) -> datetime | None:
    told = decision.after.told.get(check.key)
    return check.since or (told.since if told and told.level else None)


def _items(problems: Sequence[Finding], kinds: Mapping[str, str], decision: Decision, now: datetime) -> Iterator[Item]:
    """Each problem, and in one what is said of several things, as long as that is news of all of them or of none."""
    for (_, kind), some in groupby(problems, key=lambda one: (one.level, kinds.get(one.key, ""))):
        for group in alike(some):
            yield _item(group, kind, min(filter(None, (_since(one, decision) for one in group)), default=None), now)


def _item(group: Sequence[Finding], kind: str, since: datetime | None, now: datetime) -> Item:
    first = group[0]
    when = [f"since {since:%Y-%m-%d}"] if since and since.date() < now.date() else []
    if first.until:
        left = first.until - now
        when.append(f"until {first.until:%Y-%m-%d}" + (f" ({in_words(left)})" if left > timedelta() else ""))
    return Item(
        first.level.word,
        named([one.subject for one in group]),
        kind,
        visible_line(first.message),
        ", ".join(when),
        remedy_of(group),
        len(group),
    )


# -- the two plain forms ----------------------------------------------------------------------------------------------


def _text(
    title: str, items: Sequence[Item], solved: Sequence[Finding], well: Sequence[Finding], facts: Facts, late: str
) -> Iterator[str]:
    yield from (f"{facts.name}: {title}", "")
    for item in items[:MANY]:
        heading = item.subject + (f"   ({item.kind})" if item.kind else "")
        level = f"{item.level.upper():<9} "
        yield from textwrap.wrap(heading, WIDTH, initial_indent=level, subsequent_indent=" " * len(level))
        yield from _wrapped(item.message)
        yield from _wrapped(item.when)
        yield from _remedy(item.remedy)
        yield ""
    if len(items) > MANY:
        yield from (f"and {sum(item.count for item in items[MANY:])} more: ./run invoke health", "")
    if solved:
        yield "SOLVED"
        for one in solved[:MANY]:
            yield from _wrapped(f"{one.subject}: {visible_line(one.message)}")
        if len(solved) > MANY:
            yield f"    and {len(solved) - MANY} more"
        yield ""
    if well:
        yield "WELL"
        for one in well:
            yield from textwrap.wrap(
                f"{one.subject + ':':<16} {visible_line(one.message)}",
                WIDTH,
                initial_indent="    ",
                subsequent_indent=" " * 21,
            )
        yield ""
    yield from textwrap.wrap(facts.run, WIDTH)
    yield from (f"Commands are for {facts.place}", "Everything at once: ./run invoke health")
    if late:
        yield from textwrap.wrap(late, WIDTH)
    if facts.head:
        yield from textwrap.wrap(f"Ledger: {facts.head}", WIDTH)
    yield ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def _remedy(text: str) -> Iterator[str]:
    """What to type stays on one line, to be copied."""
    for number, line in enumerate(text.splitlines()):
        yield f"    {'→' if number == 0 else ' '} {visible_line(line)}"


def _brief(solved: Sequence[Finding], items: Sequence[Item], decision: Decision) -> Iterator[str]:
    for item in items[:MANY]:
        if item.kind or decision.is_digest:
            yield f"{item.level.upper()} {item.subject}: {item.message}"
            yield from _remedy(item.remedy)
    if solved:
        yield _cut(f"solved: {', '.join(one.subject for one in solved)}", SUBJECT)
    if not items:
        yield "all is well"
