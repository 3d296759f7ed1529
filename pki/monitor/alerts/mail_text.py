"""The mail text: the worst finding in the subject; then each finding with its dates and the command to type."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

from pki.common.counts import join_names
from pki.common.durations import in_words
from pki.common.templating import Pages
from pki.common.visible import visible_line
from pki.config.fields import SANDBOX
from pki.monitor.alerts.decisions import AlertDecision, Cause
from pki.monitor.check_result import Finding, count_by_level, group_alike, shared_remedy

WIDTH = 76
SUBJECT_LENGTH = 110  # characters behind the name of the organisation
MAX_SHOWN = 30  # findings that are shown in full
COLOURS = {
    "critical": "#c62828",
    "warning": "#b45309",
    "notice": "#1d6fb8",
    "ok": "#2e7d32",
}  # each has enough contrast to white
CAUSES = {
    Cause.NEW: "new",
    Cause.WORSE: "worse than before",
    Cause.NEARER: "closer to a deadline",
    Cause.SOLVED: "solved",
}
WEEKLY = "This is the weekly message. If it stops coming, doit no longer runs, or mail does not work."
WHEN = (
    "doit sends a message when a finding is new, worse, closer to its deadline or solved, and one message every week."
)
KEEP = (
    "Keep this message. The ledger only grows: it never has fewer events than now, and the event that is the last one "
    "now keeps its hash. If that is not so later, somebody changed the ledger or restored an old copy. To compare, type:"
)
COMPARE = "./run invoke ledger.verify"
NO_PROBLEMS, NO_OTHER_PROBLEMS, PASSED = "No problems", "No other problems", "checked in every run"
ARROW = "    → "
KINDS = {Cause.NEW: "new", Cause.WORSE: "worse than before", Cause.NEARER: "closer to its deadline"}


@dataclass(frozen=True, slots=True)
class MailFacts:
    """What every mail contains: the project and its place, what the run did, and the ledger's last event and its hash."""

    organisation: str
    origin: str
    run: str
    head: str
    now: datetime
    is_sandbox: bool = False

    @property
    def name(self) -> str:
        """Return the organisation, marked for a sandbox, so that it is not mistaken for a real CA."""
        return f"{SANDBOX} {self.organisation}" if self.is_sandbox else self.organisation


@dataclass(frozen=True, slots=True)
class MailText:
    """One message in all its forms; `brief` is for channels that show a few lines."""

    subject: str
    text: str
    html: str
    brief: str


@dataclass(frozen=True, slots=True)
class MailItem:
    """One finding, or several that are alike, as text and HTML show it."""

    level: str
    subject: str
    kind: str
    message: str
    when: str
    remedy: str
    count: int
    consequence: str = ""


def render_mail(decision: AlertDecision, findings: Sequence[Finding], facts: MailFacts, late: str) -> MailText:
    """Return the message for a decision; `late` tells since when earlier messages could not be sent, and why."""
    kinds = {item.finding.key: KINDS[item.cause] for item in decision.notifications if item.cause in KINDS}
    problems = sorted(
        (finding for finding in findings if finding.level),
        key=lambda finding: (-finding.level, finding.key not in kinds),
    )
    items = list(_items(problems, kinds, decision, facts.now))
    solved_findings = [item.finding for item in decision.notifications if item.cause is Cause.SOLVED]
    passed_findings = [finding for finding in findings if not finding.level]
    passed_title = NO_OTHER_PROBLEMS if problems else NO_PROBLEMS
    title = count_by_level(problems) or "all OK"
    return MailText(
        subject=_subject(decision, problems, solved_findings, facts),
        text="\n".join(
            [
                *_opening(title, _cause(decision), facts),
                *_problems(items),
                *_solved_list(solved_findings),
                *_passed_list(passed_title, passed_findings),
                *_footer(facts, late),
            ]
        ),
        html=Pages(Path(__file__).parent).render(
            "mail_text.html",
            {
                "title": title,
                "cause": _cause(decision),
                "when": WHEN,
                "keep": KEEP,
                "compare": COMPARE,
                "items": list(_without_repetition(items))[:MAX_SHOWN],
                "more": sum(item.count for item in items[MAX_SHOWN:]),
                "solved": solved_findings[:MAX_SHOWN],
                "more_solved": len(solved_findings) - MAX_SHOWN,
                "passed": passed_findings,
                "passed_title": passed_title,
                "passed_by": PASSED,
                "facts": facts,
                "late": late,
                "colours": COLOURS,
            },
        ),
        brief="\n".join(_brief(solved_findings, items, decision)),
    )


def _subject(decision: AlertDecision, problems: Sequence[Finding], solved: Sequence[Finding], facts: MailFacts) -> str:
    """Return the subject: the worst finding (of equal ones, a new one), else what was solved."""
    new_findings = [item.finding for item in decision.notifications if item.cause in KINDS]
    first_finding = max([*new_findings, *problems], key=lambda finding: finding.level, default=None)
    if first_finding is None:
        text = f"{_solved(solved)}; all OK" if solved else "all OK"
    elif new_findings:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        still = "" if first_finding in new_findings else "still "
        text = f"{still}{first_finding.level.word.upper()} {first_finding.headline}"
        text = _shorten(text, SUBJECT_LENGTH - len(more)) + more
    else:
        before = f"{_solved(solved)}; " if solved else ""
        text = f"{before}still {first_finding.level.word.upper()} {first_finding.headline}"
    text = text if decision.notifications else f"weekly: {text}"
    prefix = f"{SANDBOX} " if facts.is_sandbox else ""
    return visible_line(_shorten(f"{prefix}[{facts.organisation}] {text}", SUBJECT_LENGTH + len(facts.name) + 15))


def _solved(solved: Sequence[Finding]) -> str:
    """Return `solved: release:media and 3 more`, short enough for a subject."""
    more = f" and {len(solved) - 1} more" if len(solved) > 1 else ""
    return f"solved: {solved[0].subject}{more}"


def _cause(decision: AlertDecision) -> str:
    """Return why the message is sent, such as "Sent because 2 findings are new, and 1 is solved" as a sentence."""
    counts = Counter(item.cause for item in decision.notifications)
    parts = [
        f"{counts[cause]} {'is' if counts[cause] == 1 else 'are'} {text}"
        for cause, text in CAUSES.items()
        if counts[cause]
    ]
    if not parts:
        return WEEKLY
    first, _, rest = parts[0].partition(" ")
    parts[0] = f"{first} finding{'' if first == '1' else 's'} {rest}"
    return f"Sent because {', and '.join(parts)}."


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _since(finding: Finding, decision: AlertDecision) -> datetime | None:
    """Return since when a finding holds: by its check, or by its first notification."""
    record = decision.new_history.notified.get(finding.key)
    return finding.since or (record.since if record and record.level else None)


def _items(
    problems: Sequence[Finding], kinds: Mapping[str, str], decision: AlertDecision, now: datetime
) -> Iterator[MailItem]:
    """Yield one item for each finding; findings that are alike share one if all or none of them are new."""
    for (_, kind), findings in groupby(problems, key=lambda finding: (finding.level, kinds.get(finding.key, ""))):
        for group in group_alike(findings):
            dates = filter(None, (_since(finding, decision) for finding in group))
            yield _item(group, kind, min(dates, default=None), now)


def _item(group: Sequence[Finding], kind: str, since: datetime | None, now: datetime) -> MailItem:
    first = group[0]
    when = [f"since {since:%Y-%m-%d}"] if since and since.date() < now.date() else []
    if first.until and first.until > now:
        when.append(f"deadline {first.until:%Y-%m-%d}, in {in_words(first.until - now)}")
    return MailItem(
        first.level.word,
        join_names([finding.subject for finding in group]),
        kind,
        visible_line(first.message),
        ", ".join(when),
        shared_remedy(group),
        len(group),
        visible_line(first.consequence) if len(group) == 1 else "",
    )


# -- the two plain forms ----------------------------------------------------------------------------------------------


def _opening(title: str, cause: str, facts: MailFacts) -> Iterator[str]:
    """Yield how the project is, why this message is sent, and where commands are typed."""
    yield f"{facts.name}: {title}"
    yield from textwrap.wrap(cause, WIDTH)
    yield from textwrap.wrap(f"Type the commands on the machine {facts.origin}.", WIDTH, break_long_words=False)
    yield ""


def _problems(items: Sequence[MailItem]) -> Iterator[str]:
    """Yield the problems, the worst first, each with its remedy."""
    for item in list(_without_repetition(items))[:MAX_SHOWN]:
        heading = item.subject + (f"   ({item.kind})" if item.kind else "")
        level = f"{item.level.upper():<9} "
        yield from textwrap.wrap(heading, WIDTH, initial_indent=level, subsequent_indent=" " * len(level))
        yield from _wrapped(item.message)
        yield from _wrapped(item.consequence)
        yield from _wrapped(item.when)
        yield from _remedy(item.remedy)
        yield ""
    if len(items) > MAX_SHOWN:
        yield from (f"and {sum(item.count for item in items[MAX_SHOWN:])} more: ./run invoke health", "")


def _solved_list(solved: Sequence[Finding]) -> Iterator[str]:
    """Yield what was solved since the last message."""
    if solved:
        yield "SOLVED (no longer true)"
        for finding in solved[:MAX_SHOWN]:
            yield from _wrapped(f"{finding.subject}: {visible_line(finding.message)}")
        if len(solved) > MAX_SHOWN:
            yield f"    and {len(solved) - MAX_SHOWN} more"
        yield ""


def _passed_list(title: str, passed: Sequence[Finding]) -> Iterator[str]:
    """Yield the checks without a problem of their own, below `title`."""
    if passed:
        yield f"{title.upper()} ({PASSED})"
        for finding in passed:
            yield from textwrap.wrap(
                f"{finding.subject + ':':<16} {visible_line(finding.message)}",
                WIDTH,
                initial_indent="    ",
                subsequent_indent=" " * 21,
            )
        yield ""


def _footer(facts: MailFacts, late: str) -> Iterator[str]:
    """Yield the run, when messages are sent, and the head of the ledger."""
    yield from textwrap.wrap(facts.run, WIDTH)
    yield "For all checks and all findings, type: ./run invoke health"
    yield from textwrap.wrap(WHEN, WIDTH)
    if late:
        yield from textwrap.wrap(late, WIDTH)
    if facts.head:
        yield from ("", *textwrap.wrap(f"Ledger: {facts.head}", WIDTH))
        yield from textwrap.wrap(KEEP, WIDTH, break_on_hyphens=False)
        yield f"    {COMPARE}"
    yield ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def _remedy(text: str) -> Iterator[str]:
    """Yield a remedy with each command on one line, so that it can be copied."""
    for number, line in enumerate(text.splitlines()):
        yield f"{ARROW if number == 0 else ' ' * len(ARROW)}{visible_line(line)}"


def _without_repetition(items: Iterable[MailItem]) -> Iterator[MailItem]:
    """Yield the items; a remedy longer than a line that an earlier item has too is replaced by `as for SUBJECT`."""
    subjects: dict[str, str] = {}  # by remedy, the first item that has it
    for item in items:
        is_repeated = item.remedy in subjects and len(item.remedy) > WIDTH - len(ARROW)
        yield replace(item, remedy=f"as for {subjects[item.remedy]}") if is_repeated else item
        subjects.setdefault(item.remedy, item.subject)


def _brief(solved: Sequence[Finding], items: Sequence[MailItem], decision: AlertDecision) -> Iterator[str]:
    shown_items = [item for item in items[:MAX_SHOWN] if item.kind or decision.is_weekly]
    for item in _without_repetition(shown_items):
        yield f"{item.level.upper()} {item.subject}: {item.message}"
        yield from _remedy(item.remedy)
    if solved:
        yield _shorten(f"solved: {', '.join(finding.subject for finding in solved)}", SUBJECT_LENGTH)
    if not items:
        yield "all OK"
