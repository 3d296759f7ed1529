"""A CRL that grows beyond what the proxy of the publishing host can serve: named early, and named right."""

from __future__ import annotations

import pytest

from pki.authority.crl_size import PublishedCrl

LARGEST = 16 * 1024


def crl(size: int) -> PublishedCrl:
    return PublishedCrl("client-1", size, LARGEST, "haproxy at forge")


@pytest.mark.parametrize(("size", "is_named"), [(LARGEST * 3 // 4 - 1, False), (LARGEST * 3 // 4, True)])
def test_a_crl_is_named_from_three_quarters_of_the_largest_size_on(size: int, is_named: bool) -> None:
    assert bool(crl(size).complaint) is is_named


@pytest.mark.parametrize(("size", "fits"), [(1, True), (LARGEST, True), (LARGEST + 1, False)])
def test_a_crl_of_exactly_the_largest_size_is_served(size: int, fits: bool) -> None:
    assert crl(size).fits is fits


def test_sizes_are_named_in_whole_kilobytes_rounded_up() -> None:
    """Rounded down, a CRL of 16.001 kB would seem to fit into 16 kB."""
    assert crl(LARGEST + 1).complaint == (
        "has 17 kB, and haproxy at forge serves files of at most 16 kB: it is no longer published there"
    )
    assert crl(LARGEST).complaint == (
        "has 16 kB, and haproxy at forge serves files of at most 16 kB: beyond that it is no longer published there"
    )
