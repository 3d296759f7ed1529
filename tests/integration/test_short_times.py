"""A week of 24-hour certificates and hourly CRLs, with a run every half hour."""

from __future__ import annotations

import os
import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path

from tests.integration.years import quick_years
from tests.support import judges
from tests.support.hierarchy import client, every_crl, root_of, server
from tests.support.projects import START, Home, bare_home
from tests.support.short_times import shorten

HALF_HOURS = int(os.environ.get("PKI_SAMPLES", "16"))  # 336: the whole week


def test_each_chain_and_crl_is_valid_at_each_step_and_memory_stays_flat(tmp_path: Path) -> None:
    home, needed = bare_home(tmp_path / "home"), list[int]()
    day = "{lifetime: 24h, renew_before: 8h}"
    shorten(home, server=day, client=day, crl="{lifetime: 6h, refresh: 1h}")
    with quick_years():
        assert home.doit().status == 0
        tracemalloc.start()
        for step in range(1, HALF_HOURS + 1):
            at = START + step * timedelta(minutes=30)
            assert_all_is_valid(home, at, step)
            before = tracemalloc.get_traced_memory()[0]  # a process that runs doit again and again keeps its tasks
            tracemalloc.reset_peak()
            report = home.doit(days=step / 48)
            needed.append(tracemalloc.get_traced_memory()[1] - before)
            assert (report.status, report.failed, report.data["notes"]) == (0, {}, []), step
            assert_all_is_valid(home, at, step)
        tracemalloc.stop()
    half = len(needed) // 2
    assert max(needed[half:]) < 1.5 * max(needed[:half]), (max(needed[:half]), max(needed[half:]))


def assert_all_is_valid(home: Home, at: datetime, step: int) -> None:
    for identity in (server(home), server(home, "monitoring-mtls"), client(home)):
        assert judges.openssl_fault(identity, [root_of(home)], at, every_crl(home)) == "", step
