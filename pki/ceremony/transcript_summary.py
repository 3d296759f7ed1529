"""Summarise a transcript for the page that operator and witness sign."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pki.ceremony.transcript_chain import Record

DEVIATIONS = frozenset({"deviation", "continued"})
HEAD_DIGITS = 16  # as many as `ceremony.verify` shows
COMMON_NAME = re.compile(r"^CN=((?:[^,\\]|\\.)+).*$")


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """A sentence about one thing that the ceremony created or destroyed; `sha256` is empty except for a certificate."""

    text: str
    sha256: str = ""


def summary_lines(records: Sequence[Record]) -> list[SummaryLine]:
    """Return what was created or destroyed, in the order of the records; then one line for the CRLs of each root."""
    crls: dict[str, list[Record]] = {}
    for record in records:
        if record.step == "crl":
            crls.setdefault(str(record.facts.get("issuer", "")), []).append(record)
    lines = [line for record in records for line in _made(record)]
    return [*lines, *(_crls(root, crl_records) for root, crl_records in crls.items())]


def deviations(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each deviation from the procedure. Refused input is not a deviation."""
    return [f"record {record.n}: {_deviation(record)}" for record in records if record.step in DEVIATIONS]


def refusals(records: Sequence[Record]) -> str:
    """Return the numbers of the records in which the program refused to go on, or ""."""
    return ", ".join(str(record.n) for record in records if record.step == "refused")


def period(records: Sequence[Record]) -> str:
    """Return the first and the last moment of the records."""
    if not records:
        return ""
    start, end = records[0].at, records[-1].at
    is_one_day = start.date() == end.date()
    return f"{start:%Y-%m-%d %H:%M} to {end:{'%H:%M' if is_one_day else '%Y-%m-%d %H:%M'}} UTC"


def vault(records: Sequence[Record]) -> str:
    """Return the number of the vault that was used last, or "" when no record has one."""
    return next((str(record.facts["vault"]) for record in reversed(records) if record.facts.get("vault")), "")


def _made(record: Record) -> Iterator[SummaryLine]:
    facts = {name: str(value) for name, value in record.facts.items()}
    name, valid = facts.get("name", ""), _valid(facts)
    if record.step == "key" and name:
        storage = f", {facts['kept']}" if "kept" in facts else ""
        yield SummaryLine(f"The key of {name} was made{storage}.")
    elif record.step == "signed" and name:
        issuer = COMMON_NAME.sub(r"\1", facts.get("issuer", "a root"))
        yield SummaryLine(f"The certificate of {name}{valid} was signed by {issuer}.", facts.get("sha256", ""))
    elif record.step == "destroyed" and name:
        reason = f", because: {facts['reason']}" if "reason" in facts else ""
        yield SummaryLine(f"{name} was destroyed{reason}.")


def _crls(root: str, records: Sequence[Record]) -> SummaryLine:
    numbers = [str(record.facts.get("number", "")) for record in records]
    what = f"{len(numbers)} CRLs of {root} were signed" if len(numbers) > 1 else f"One CRL of {root} was signed"
    crl_texts = [f"number {number}{_valid(record.facts)}" for number, record in zip(numbers, records, strict=True)]
    return SummaryLine(f"{what}: {'; '.join(crl_texts).replace(',;', ';').rstrip(',')}.")


def _valid(facts: Mapping[str, object]) -> str:
    return f", valid {facts['valid']}," if "valid" in facts else ""


def _deviation(record: Record) -> str:
    facts = record.facts
    if record.step == "continued":
        return f"a write was interrupted after record {facts.get('after', '?')}, and the ceremony went on"
    text = str(facts.get("text") or facts.get("what") or "a deviation from the procedure")
    return f"{text}, because: {facts['reason']}" if facts.get("reason") else text
