"""Every single-bit flip of every kind of file, through the reader of that kind."""

from __future__ import annotations

import pytest

from tests.ceremonies import RealHome
from tests.every_bit import KINDS, tolerated


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_file_passes_the_reader_of_its_kind(real: RealHome, kind: str) -> None:
    path, read = KINDS[kind](real)
    assert tolerated(path, read) == []
