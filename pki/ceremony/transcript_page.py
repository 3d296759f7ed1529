"""A transcript as people read it: a page to sign, then each record as a technical record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from pki.ceremony import transcript_summary, words
from pki.ceremony.transcript_chain import START, Record, canonical
from pki.common.templating import Pages

# Of each step the sentences that can be said of it: the first whose facts are all there. The facts that it does not
# name stand below it. A step that is not in here is said by its name.
SENTENCES: dict[str, tuple[str, ...]] = {
    "opened": ("The ceremony was opened by {operator}, before {witness}.", "The ceremony was opened."),
    "continued": (
        "A write was interrupted here: {lost_bytes} bytes of an unfinished record were taken away after record {after}.",
    ),
    "environment": ("The machine was examined.",),
    "deviation": (
        "Deviation: {text}, because {reason}.",
        "Deviation: {what}, because {reason}.",
        "Deviation: {text}.",
        "A deviation from the procedure.",
    ),
    "clocks": (
        "The clock of the machine said {machine}, the watch of the witness {watch}.",
        "Two clocks were compared.",
    ),
    "plan": ("What this ceremony is to make was shown.",),
    "confirmed": (
        "The operator typed the words {words}, and they agree.",
        "The operator confirmed {what}.",
        "The operator confirmed.",
    ),
    "key": ("The key of {name} was made.", "A key was made."),
    "opened-key": ("The key of {name} was opened with {how}.", "The key of {name} was opened.", "The key was opened."),
    "drafted": ("{name} was drafted with a throw-away key.", "A certificate was drafted with a throw-away key."),
    "linted": ("{name} was linted.", "The draft was linted."),
    "signed": ("{name} was signed by {issuer}.", "{name} was signed.", "A certificate was signed."),
    "verified": ("{name} was verified.", "What was signed was verified."),
    "negative-test": ("It was tested that {text}.", "It was tested that what must fail does."),
    "crl": ("CRL {number} of {issuer} was signed.", "CRL {number} was signed.", "A CRL was signed."),
    "written": ("{path} was written.", "{file} was written.", "A file was written."),
    "exported": ("{path} was exported.", "{file} was exported.", "The response was exported."),
    "destroyed": ("{what} was destroyed.", "{name} was destroyed.", "A key was destroyed."),
    "closed": ("The ceremony was closed.",),
    "refused": ("Refused: {text}.", "Refused: {message}.", "The ceremony refused to go on."),
}
COLUMNS = ("name", "check", "lint", "linter", "ok", "severity", "finding", "text", "remedy")
DIGEST = re.compile(r"[0-9a-f]{40,}")
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detail:
    """One fact below a sentence. `kind`: line, code, text, list or table, and the field of that name is filled."""

    name: str
    kind: str
    value: str = ""
    values: tuple[str, ...] = ()
    columns: Row = ()
    rows: tuple[tuple[bool, Row], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it is told."""

    n: int
    day: str
    time: str
    sentence: str
    details: tuple[Detail, ...]
    is_grave: bool


def page(
    records: Sequence[Record],
    title: str,
    *,
    organisation: str,
    number: int | str = "",
    request: str = "",
    response: str = "",
) -> bytes:
    """Return one HTML file without anything from outside: the page that is signed, and the technical record after it.

    `request` and `response` are the SHA-256 of the bundles, if known.
    """
    pages = Pages(Path(__file__).parent / "pages")
    digests = {"Request": request, "Response": response}
    context = _heading(records, title, organisation, number) | {
        "entries": told(records),
        "digests": [
            (name, hex_digest, words.of_digest(hex_digest)) for name, hex_digest in digests.items() if hex_digest
        ],
        "asked": words.ASKED,
        "head_words": words.of_digest(_head(records)),
        "signers": ("Operator", "Witness"),
    }
    return pages.render("transcript.html", context).encode()


def told(records: Iterable[Record]) -> list[Entry]:
    """Each record with its sentence and the facts that the sentence does not name."""
    return [_entry(record) for record in records]


def _head(records: Sequence[Record]) -> str:
    return records[-1].hash if records else START


def _heading(records: Sequence[Record], title: str, organisation: str, number: int | str) -> dict[str, Any]:
    head = _head(records)
    return {
        "title": title,
        "organisation": organisation,
        "number": str(number),
        "period": transcript_summary.period(records),
        "vault": transcript_summary.vault(records),
        "made": transcript_summary.made(records),
        "deviations": transcript_summary.deviations(records),
        "refusals": transcript_summary.refusals(records),
        "head": head,
        "short_head": head[: transcript_summary.HEAD_DIGITS],
    }


def _entry(record: Record) -> Entry:
    said = {name: str(value) for name, value in record.facts.items() if _is_short(value)}
    for sentence in SENTENCES.get(record.step, ()):
        named = {field for _, field, _, _ in Formatter().parse(sentence) if field}
        if named <= said.keys():
            break
    else:
        sentence, named = record.step.replace("-", " ").capitalize() + ".", set()
    return Entry(
        record.n,
        f"{record.at:%Y-%m-%d}",
        f"{record.at:%H:%M:%S}",
        sentence.format_map(said),
        tuple(_detail(name, value) for name, value in record.facts.items() if name not in named),
        record.step in transcript_summary.DEVIATIONS,
    )


def _is_short(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and "\n" not in value)


def _detail(name: str, value: Any) -> Detail:
    label = re.sub(r"[_-]+", " ", name)
    if isinstance(value, str) and "\n" in value:
        return Detail(label, "text", value=value.rstrip("\n"))
    if isinstance(value, dict) and value:
        pairs = tuple((inner is False, (key, _cell(inner))) for key, inner in value.items())
        return Detail(label, "table", columns=("", ""), rows=pairs)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns: Row = tuple(sorted({key for row in value for key in row}, key=_place))
        body = ((row.get("ok") is False, tuple(_cell(row.get(key, "")) for key in columns)) for row in value)
        return Detail(label, "table", columns=columns, rows=tuple(body))
    if isinstance(value, list) and value:
        return Detail(label, "list", values=tuple(_cell(inner) for inner in value))
    text = _cell(value)
    return Detail(label, "code" if DIGEST.fullmatch(text) else "line", value=text)


def _place(column: str) -> tuple[int, str]:
    """Columns that are known in the order in which they read well, the others after them."""
    return (COLUMNS.index(column) if column in COLUMNS else len(COLUMNS), column)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}):
        return "none"
    return value if isinstance(value, str) else canonical(value).decode()
