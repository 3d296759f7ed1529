"""Files that we wrote are read back strictly: what is not byte for byte as it was written is never taken for sound."""

from __future__ import annotations

import pytest

from tests.support.ceremonies import RealHome
from tests.support.every_bit import KINDS, tolerated

STEP = 61  # a prime: every bit of a byte comes up, and all of them do in tests/integration/test_every_bit.py


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_passes_the_reader_of_a_kind_of_file(real: RealHome, kind: str) -> None:
    path, read = KINDS[kind](real)
    assert tolerated(path, read, STEP) == []
