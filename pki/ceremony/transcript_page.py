"""Render a transcript as HTML: a page to sign, then every record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from pki.ceremony import transcript_summary, words
from pki.ceremony.transcript_chain import Record, canonical
from pki.common.hash_chain import START_HASH
from pki.common.templating import Pages

# Sentences for each step. The page shows the first sentence whose facts are all in the record, and lists the other facts
# below the sentence. A step that is not listed here is shown by its name.
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
    """One fact below a sentence. `kind` is line, code, text, list or table; each kind uses the fields that it needs."""

    name: str
    kind: str
    value: str = ""
    values: tuple[str, ...] = ()
    columns: Row = ()
    rows: tuple[tuple[bool, Row], ...] = ()  # each with whether it shows a failure


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One record as the page shows it."""

    n: int
    day: str
    time: str
    sentence: str
    details: tuple[Detail, ...]
    is_grave: bool


def render_page(
    records: Sequence[Record],
    title: str,
    *,
    organisation: str,
    number: int | str = "",
    request: str = "",
    response: str = "",
) -> bytes:
    """Return one self-contained HTML file: the page to sign, and the technical record after it.

    `request` and `response` are the SHA-256 of the documents, if known.
    """
    pages = Pages(Path(__file__).parent / "pages")
    digests = {"Request": request, "Response": response}
    context = _heading(records, title, organisation, number) | {
        "entries": page_entries(records),
        "digests": [
            (name, hex_digest, words.of_digest(hex_digest)) for name, hex_digest in digests.items() if hex_digest
        ],
        "asked": words.WORDS_TO_TYPE,
        "head_words": words.of_digest(_head(records)),
        "signers": ("Operator", "Witness"),
    }
    return pages.render("transcript.html", context).encode()


def page_entries(records: Iterable[Record]) -> list[TranscriptEntry]:
    """Return each record with its sentence and the facts that the sentence does not contain."""
    return [_entry(record) for record in records]


def _head(records: Sequence[Record]) -> str:
    return records[-1].hash if records else START_HASH


def _heading(records: Sequence[Record], title: str, organisation: str, number: int | str) -> dict[str, Any]:
    head = _head(records)
    return {
        "title": title,
        "organisation": organisation,
        "number": str(number),
        "period": transcript_summary.period(records),
        "vault": transcript_summary.vault(records),
        "made": transcript_summary.summary_lines(records),
        "deviations": transcript_summary.deviations(records),
        "refusals": transcript_summary.refusals(records),
        "head": head,
        "short_head": head[: transcript_summary.HEAD_DIGITS],
    }


def _entry(record: Record) -> TranscriptEntry:
    facts = {name: str(value) for name, value in record.facts.items() if _is_short(value)}
    for sentence in SENTENCES.get(record.step, ()):
        fields = {field for _, field, _, _ in Formatter().parse(sentence) if field}
        if fields <= facts.keys():
            break
    else:
        sentence, fields = record.step.replace("-", " ").capitalize() + ".", set()
    return TranscriptEntry(
        record.n,
        f"{record.at:%Y-%m-%d}",
        f"{record.at:%H:%M:%S}",
        sentence.format_map(facts),
        tuple(_detail(name, value) for name, value in record.facts.items() if name not in fields),
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
    """Return the sort key of a column: known columns in the order of COLUMNS, then the others."""
    return (COLUMNS.index(column) if column in COLUMNS else len(COLUMNS), column)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}):
        return "none"
    return value if isinstance(value, str) else canonical(value).decode()
