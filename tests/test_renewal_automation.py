"""Renewal automation: each artifact is made anew when it is due, once, and nothing else is."""

from __future__ import annotations

from tests.conftest import Home


def test_second_run_finds_nothing_to_do(home: Home) -> None:
    assert home.doit().made == {}


def test_server_certificates_are_renewed_on_day_sixty_and_client_certificates_are_not(home: Home) -> None:
    made = home.doit(days=61).made
    assert {name for name in made if name.startswith("cert:")} == {
        "cert:monitoring-mtls",
        "cert:forge-mtls",
        "cert:media",
    }
    assert made["cert:media"] == "28 of 90 days left, renewal starts at 30"
    assert not any(name.startswith("cert:") for name in home.doit(days=62).made)
