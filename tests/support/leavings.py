"""What a run leaves for those who look later: the status page as a reader has it, the metrics as Prometheus has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pki.monitor.check_result import Level
from tests.support.pages import Page


def page(home: Path) -> str:
    """The text of the status page, with single blanks."""
    return Page((home / "build/report/status.html").read_text()).text


def measured(text: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """The samples of one metric: labels and value."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"doit_pki_{name}":
                yield sample.labels, sample.value


def checks(metrics: Path) -> dict[str, tuple[Level, str]]:
    """What the metrics say is not well: subject → level, and what to type."""
    levels = measured(metrics.read_text(), "check_level")
    return {labels["subject"]: (Level(int(value)), labels["remedy"]) for labels, value in levels}


def is_idle(printed: str) -> bool:
    """Whether a run changed nothing, by what it printed without a terminal: nothing, or what it found."""
    return re.search(r"\b\d+ (changed|failed|blocked)\b", printed) is None
