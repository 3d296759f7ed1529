"""The small size of each campaign, with a fixed seed: no trial fails, and what it is for was tried."""

from __future__ import annotations

import os

import pytest

from tests.campaigns import campaign

SEED = 20261129
TRIED = {  # campaign → figures that are not zero in its small size
    "years": {
        "simulated days",
        "runs",
        "killed runs",
        "refusals",
        "commands typed",
        "ceremonies",
        "revoked",
        "events: old",
    },
    "inputs": {
        "files changed",
        "commands",
        "refusals",
        "artifacts judged",
        "projects mended",
        "trials of arguments",
        "read: refused",
        "read: taken",
    },
}


@pytest.mark.parametrize("name", TRIED)
def test_no_trial_of_the_small_size_fails(name: str) -> None:
    at_most = campaign.load(name).small
    stream = campaign.trials(name, SEED, os.cpu_count() or 1, seconds=float("inf"), at_most=at_most, is_small=True)
    result = campaign.summed(SEED, stream)
    assert [(one.said, one.steps) for one in result.failed] == []
    assert result.tried == at_most
    assert {figure for figure in TRIED[name] if not result.figures[figure]} == set(), "was never tried"
