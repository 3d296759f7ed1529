"""The counts of tasks at the end of a run, as the tests that look for idle runs read them."""

from __future__ import annotations

import pytest

from pki.pipeline.reporter import count_tasks
from tests.support.leavings import is_idle


@pytest.mark.parametrize(("changed", "failed", "blocked"), [(1, 0, 0), (0, 1, 0), (0, 1, 1), (12, 3, 4)])
def test_a_run_that_changed_or_failed_something_is_not_idle(changed: int, failed: int, blocked: int) -> None:
    assert not is_idle(f"SANDBOX  {count_tasks(changed, failed, blocked, 20)} (0.1 s)")


def test_a_run_whose_tasks_are_all_up_to_date_is_idle_also_with_findings() -> None:
    assert is_idle(f"SANDBOX  {count_tasks(0, 0, 0, 20)} (0.1 s)\n1 critical, 2 warnings: see ./run invoke health")
    assert is_idle("")
