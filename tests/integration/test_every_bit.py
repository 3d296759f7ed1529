"""Single-bit flips of every kind of file, through the reader of that kind: every bit, or every seventh of them.

PKI_SAMPLES, whatever it is, takes every bit, which takes minutes.
"""

from __future__ import annotations

import os

import pytest

from tests.support.ceremonies import RealHome
from tests.support.every_bit import KINDS, tolerated

STEP = 1 if os.environ.get("PKI_SAMPLES") else 7  # no divisor of 8: each place in a byte is tried


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_file_passes_the_reader_of_its_kind(real: RealHome, kind: str) -> None:
    path, read = KINDS[kind](real)
    assert tolerated(path, read, STEP) == []
