"""Find PEM sections (RFC 7468) in untrusted text in linear time.

A regular expression over BEGIN…END searches for the END again from every BEGIN: 768 kB without one took three minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BEGIN, END, DASHES = b"-----BEGIN ", b"-----END ", b"-----"
LONGEST_LABEL = 64  # bytes


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its label (`X509 CRL`), the text between its boundaries, and the whole with both boundaries."""

    label: str
    body: bytes
    whole: bytes


def sections(data: bytes, *labels: str) -> Iterator[Section]:
    """Yield the sections with one of the labels, in their order (RFC 7468 §2).

    A section ends at the first END of its label, and sections do not nest. A BEGIN without an END is ignored, with
    everything of the same label after it.
    """
    place, endless = 0, set[str]()
    while (start := data.find(BEGIN, place)) >= 0:
        place = start + len(BEGIN)
        close = data.find(DASHES, place, place + LONGEST_LABEL + len(DASHES))
        label = data[place:close].decode("ascii", "replace") if close >= 0 else ""
        if label not in labels or label in endless:
            continue
        inner = close + len(DASHES)
        mark = END + data[place:close] + DASHES
        stop = data.find(mark, inner)
        if stop < 0:
            endless.add(label)
            continue
        place = stop + len(mark)
        yield Section(label, data[inner:stop], data[start:place])
