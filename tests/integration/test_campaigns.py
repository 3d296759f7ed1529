"""The small size of each campaign, with a fixed seed: no trial fails, and what it is for was tried."""

from __future__ import annotations

import os

import pytest

from tests.campaigns import campaign

SEED = 20261129
SEEDS = {"kills": 20261136, "surroundings": 20261155}
"""Seeds whose few trials differ more than those of SEED."""
TRIED = {  # campaign → figures that are not zero in its small size
    "growth": {"5 hosts, 2 years: events in the ledger"},
    "years": {
        "simulated days",
        "runs",
        "killed runs",
        "refusals",
        "commands typed",
        "revoked",
        "events: old",
    },
    "kills": {"first build: killed", "renewal: killed", "revocation: killed", "power, by call", "pki-apply: killed"},
    "together": {"on postgresql"},
    "surroundings": {"ended well"},
    "inputs": {
        "files changed",
        "commands",
        "refusals",
        "artifacts judged",
        "projects fixed",
        "trials of arguments",
        "read: refused",
        "read: taken",
    },
}


@pytest.mark.parametrize("name", TRIED)
def test_no_trial_of_the_small_size_fails(name: str) -> None:
    at_most, seed = campaign.load(name).small, SEEDS.get(name, SEED)
    stream = campaign.trials(name, seed, os.cpu_count() or 1, seconds=float("inf"), at_most=at_most, is_small=True)
    result = campaign.summed(seed, stream)
    assert [(one.said, one.steps) for one in result.failed] == []
    assert result.tried == at_most
    assert {figure for figure in TRIED[name] if not result.figures[figure]} == set(), "was never tried"
