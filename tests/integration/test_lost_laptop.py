"""A laptop is lost at 23:00: one command, while the browser on it stays open at real nginx and HAProxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.demo.namespace_machine import wait_until
from tests.integration.browser import Browser, Page, browser
from tests.integration.fleet import Fleet, fleet
from tests.support.leavings import is_idle

KINDS = ("nginx", "haproxy")
UNUSED_CONNECTION = 10  # seconds that the proxies leave a connection open on which nothing was asked
LAPTOP, PHONE = "admin@laptop", "admin@phone"


@dataclass
class Story:
    """The hosts, and the browser of somebody who has the laptop."""

    fleet: Fleet
    laptop: Browser
    work: Path

    def visits(self, *, new_tab: bool = False) -> dict[str, Page]:
        """What the browser shows of each administrative service."""
        look = self.laptop.open_in_new_tab if new_tab else self.laptop.open
        return {kind: look(f"https://{kind}-admin.lab.internal/") for kind in KINDS}

    def is_shut_out(self, *, new_tab: bool = False) -> bool:
        """Refused is a status that says so, or an error of TLS; a page that does not come is neither."""
        return all(page.status in {400, 403} or "SSL" in page.error for page in self.visits(new_tab=new_tab).values())

    def install(self, name: str) -> str:
        """Export the laptop's identity as it is now, and import it there; returns what was said of it."""
        bundle, passphrase = self.work / f"{name}.p12", self.work / f"{name}.txt"
        said = self.fleet.program(
            *("invoke", "client.export", LAPTOP, "--format", "p12", "--output", str(bundle)),
            *("--passphrase-to", str(passphrase), "--yes"),
        )
        self.laptop.install(bundle, passphrase.read_text().strip())
        return said

    def as_phone(self) -> dict[str, str]:
        return {kind: self.fleet.as_client(kind, PHONE) for kind in KINDS}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    work = tmp_path_factory.mktemp("lost")
    with fleet(work / "home", KINDS) as made:
        for client in (LAPTOP, PHONE):
            made.program("invoke", "client.add", client, "--email", "admin@lab.internal")
        with browser(work / "laptop", made.lab.machine("laptop")) as laptop:
            yield Story(made, laptop, work)


def test_a_lost_laptop_is_shut_out_within_one_command_and_nobody_else_is(story: Story) -> None:
    fleet, laptop = story.fleet, story.laptop
    laptop.trust(fleet.home / "build/trust/roots.pem")
    policy = story.work / "chrome.json"
    fleet.program("invoke", "client.export", LAPTOP, "--format", "chrome-policy", "--output", str(policy))
    laptop.set_policy(policy.read_bytes())
    story.install("first")
    assert {kind: page.status for kind, page in story.visits().items()} == dict.fromkeys(KINDS, 200)
    assert story.as_phone() == dict.fromkeys(KINDS, "200")
    served = {kind: fleet.served(kind) for kind in KINDS}

    said = fleet.program("invoke", "revoke", LAPTOP, "--reason", "key-compromise", "--yes")

    assert "revoked, published, and verified at" in said
    assert all(f"{kind}-admin" in said.splitlines()[-1] for kind in KINDS)
    # What a browser had connected ahead of need is answered once, within ten seconds: docs/how-to/proxies.md.
    time.sleep(UNUSED_CONNECTION)
    wait_until(story.is_shut_out, "the browser that stayed open is refused", 120)
    for new_tab in (False, True):
        pages = story.visits(new_tab=new_tab)
        assert all(page.status != 200 for page in pages.values()), pages
    assert story.as_phone() == dict.fromkeys(KINDS, "200")
    assert {kind: fleet.served(kind) for kind in KINDS} == served


def test_the_replacement_is_installed_on_the_next_laptop(story: Story) -> None:
    story.laptop.close()
    assert f"invoke client.installed {LAPTOP}" in story.install("second")
    assert {kind: page.status for kind, page in story.visits().items()} == dict.fromkeys(KINDS, 200)
    story.fleet.program("invoke", "client.installed", LAPTOP)
    assert is_idle(story.fleet.program("doit"))
