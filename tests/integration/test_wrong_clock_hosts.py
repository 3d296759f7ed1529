"""A clock that is ahead, with real hosts: real sshd tells their date, and real servers judge what they were sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.integration.fleet import FAILED, Fleet, fleet
from tests.support.leavings import is_idle

KINDS = ("nginx", "haproxy")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet") / "home", KINDS) as made:
        made.program("doit")
        yield made


def test_hosts_that_contradict_the_clock_are_quoted_and_nothing_changes_on_them(two: Fleet) -> None:
    """No kernel clock agrees with a process whose clock libfaketime moves."""
    said = " ".join(two.program("doit", status=FAILED, days=400).split())
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    for kind in KINDS:
        assert f"{kind} says {today}" in said
        assert two.as_client(kind) == "200"
    assert "run doit --clock-is-right" in said
    assert is_idle(two.program("doit"))


def test_hosts_that_confirm_the_right_clock_get_valid_crls_back_after_a_run_with_the_clock_ahead(two: Fleet) -> None:
    """Forty days are no doubt; after them the last event of the ledger is in the future."""
    two.program("doit", status=frozenset({0, 1, 2}), days=40)
    assert any(two.as_client(kind) != "200" for kind in KINDS), "servers refuse everybody over a CRL from the future"
    said = two.program("doit")
    assert "was not valid before" in said
    for kind in KINDS:
        assert two.as_client(kind) == "200"
        assert two.served(kind) == two.issued(kind)
    assert is_idle(two.program("doit"))
    assert "confirmed: " not in two.program("invoke", "health", status=frozenset({0, 1, 2}))
