"""The status page in a real Chromium: on a phone, a tablet and a desk, by day and by night, by keyboard, and on paper."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from pki.monitor.check_result import Finding, Level
from pki.monitor.status_page import update_page
from tests.integration.conftest import TIMEOUT, LiveHome
from tests.integration.headless import axe, chrome, show
from tests.support import statuspages

SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desk": (1280, 900)}
THUMB = 40  # pixels of whatever is to be touched
ROUNDS = 5
FOCUSED = """
const one = document.activeElement, style = getComputedStyle(one);
return [one.tagName, (one.textContent || one.id).trim().slice(0, 40), style.outlineStyle !== "none" && style.outlineWidth !== "0px"];
"""
TAKEN = """return performance.getEntriesByType("resource").map((one) => one.name)"""
SMALL = """
return [...document.querySelectorAll("summary, nav a, button, input")]
  .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < arguments[0]).map((one) => one.outerHTML)
"""
LOADED = """
const done = arguments[arguments.length - 1];
const look = () => {
  const [one] = performance.getEntriesByType("navigation"), paint = performance.getEntriesByName("first-contentful-paint");
  one.loadEventEnd && paint.length ? done(Math.max(one.loadEventEnd, paint[0].startTime)) : setTimeout(look, 50);
};
look();
"""

TOUCHING = """
const touching = [], boxes = (what) => [...what].filter((one) => one.checkVisibility()).map((one) => one.getBoundingClientRect());
for (const chart of document.querySelectorAll("svg:has(text)")) {
  const cell = chart.closest("th"), places = boxes(chart.querySelectorAll("text")).sort((one, other) => one.left - other.left);
  places.forEach((one, number) => { number && one.left < places[number - 1].right && one.top < places[number - 1].bottom && touching.push(chart.outerHTML) });
  cell && places.some((one) => one.right > cell.nextElementSibling.getBoundingClientRect().left) && touching.push(chart.outerHTML);
}
return touching
"""
BROKEN = """
return [...document.querySelectorAll("time, .whole, .badge")].filter((one) => one.checkVisibility() && one.getClientRects().length > 1).map((one) => one.outerHTML)
"""

Look = Callable[..., Chrome]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chrome(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def pages(shown: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a real project, also after pki.yaml went wrong; of a troubled one; and of large ones."""
    work, today = tmp_path_factory.mktemp("pages"), datetime.now(UTC).date()
    late = Finding("alerts:email", Level.WARNING, "messages cannot be sent: refused", "docs/how-to/alerts.md")
    made = {
        "troubled": statuspages.page(statuspages.facts(24, today, troubled=True), late),
        "grouped": statuspages.page(statuspages.facts(50, today, troubled=True)),
        "large": statuspages.page(statuspages.facts(1000, today, troubled=True)),
        "old": statuspages.page(statuspages.facts(3, today - timedelta(days=3))),
        "plain": _plain(today),
    }
    for name, text in made.items():
        (work / f"{name}.html").write_text(text)
    stopped = shown.copy(work / "stopped").project().store
    update_page.nothing_was_run(
        stopped, datetime.now(UTC), "pki.yaml:40: hosts.media.proxy: expected …", "fix pki.yaml"
    )
    real = {"well": shown.project().store, "stopped": stopped}
    paths = {name: place.report("status.html") for name, place in real.items()}
    return {**paths, **{name: work / f"{name}.html" for name in made}}


def _plain(today: date) -> str:
    """A peer: the same thousand certificates as a table without anything else."""
    rows = "".join(
        f"<tr><td>{one.name}<td>{one.start}<td>{one.end}<td>{one.renewal}"
        for one in statuspages.facts(1000, today).certificates
    )
    return f"<!DOCTYPE html><title>plain</title><table>{rows}</table>"


@pytest.fixture
def look(driver: Chrome, pages: dict[str, Path]) -> Look:
    """Open a page on a screen of a size, in a colour scheme."""

    def opened(name: str, size: str = "desk", scheme: str = "light", media: str = "screen") -> Chrome:
        for log in ("browser", "performance"):
            driver.get_log(log)
        width, height = SIZES[size]
        show(driver, pages[name].as_uri(), width, scheme, height=height, media=media)
        return driver

    return opened


def unfold(driver: Chrome) -> None:
    driver.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


# -- on every screen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["well", "stopped", "troubled", "grouped"])
def test_it_fits_the_screen_and_axe_finds_nothing(look: Look, name: str, size: str, scheme: str) -> None:
    driver = look(name, size, scheme)
    unfold(driver)
    passed, violated = axe(driver)
    assert violated == []
    assert passed > 20
    wide, screen = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= screen
    assert driver.execute_script(SMALL, THUMB) == []


def test_it_asks_nobody_for_anything_and_nothing_is_wrong_on_the_console(look: Look, pages: dict[str, Path]) -> None:
    driver = look("troubled")
    unfold(driver)
    assert driver.execute_script(TAKEN) == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert [one for one in asked if not one.startswith("data:")] == [pages["troubled"].as_uri()]
    assert driver.get_log("browser") == []


def test_its_policy_keeps_out_what_is_not_its_own(look: Look) -> None:
    driver = look("well")
    driver.execute_script(
        "const one = document.createElement('script'); one.textContent = 'window.foreign = 1'; document.body.append(one)"
    )
    assert driver.execute_script("return window.foreign") is None
    assert "Content Security Policy" in driver.get_log("browser")[0]["message"]


# -- by keyboard ------------------------------------------------------------------------------------------------------


def test_the_keyboard_reaches_everything_and_the_focus_is_seen(look: Look) -> None:
    driver = look("troubled")
    body, seen = driver.find_element(By.TAG_NAME, "body"), list[list[Any]]()
    expected = driver.execute_script(
        "return [...document.querySelectorAll('a, button, input, summary')].filter((one) => one.checkVisibility()).length"
    )
    for _ in range(expected):
        driver.switch_to.active_element.send_keys(Keys.TAB) if seen else body.send_keys(Keys.TAB)
        seen.append(driver.execute_script(FOCUSED))
    assert seen[0][:2] == ["A", "Skip to required actions"]
    assert [one for one in seen if not one[2]] == []
    assert {one[0] for one in seen} == {"A", "BUTTON", "INPUT", "SUMMARY"}
    assert len({json.dumps(one) for one in seen}) > expected / 2  # none of them keeps the focus


def test_the_skip_link_leads_past_the_links(look: Look) -> None:
    driver = look("troubled")
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.activeElement.id") == "main"


def test_a_group_opens_by_keyboard(look: Look) -> None:
    driver = look("large")
    summary = driver.find_element(By.CSS_SELECTOR, "#certificates ~ details:not([open]) summary")
    summary.send_keys(Keys.ENTER)
    assert driver.execute_script("return arguments[0].parentElement.open", summary)


# -- what its script adds ---------------------------------------------------------------------------------------------


def test_a_certificate_is_found_among_a_thousand(look: Look) -> None:
    driver = look("large")
    driver.find_element(By.ID, "find-certificates").send_keys("web-777")
    shown = "return [...document.querySelectorAll('#certificates ~ details tbody tr')].filter((one) => one.checkVisibility()).map((one) => one.cells[0].textContent)"
    assert driver.execute_script(shown) == ["web-777"]
    driver.find_element(By.ID, "find-certificates").clear()
    driver.find_element(By.ID, "find-certificates").send_keys(" ")
    assert len(driver.execute_script("return document.querySelectorAll('#certificates ~ details[hidden]')")) == 0


def test_a_remedy_is_copied(look: Look) -> None:
    driver = look("troubled")
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    button = driver.find_element(By.XPATH, "//button[@aria-label='Copy: chmod 600 ca/secrets']")
    button.click()
    WebDriverWait(driver, TIMEOUT).until(lambda _: button.text == "Copied")
    copied = driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == "chmod 600 ca/secrets"


def test_an_old_page_asks_whether_doit_has_stopped(look: Look) -> None:
    assert re.match(r"This page is [34] days old", look("old").find_element(By.ID, "age").text)  # 4 after midnight
    assert look("well").find_element(By.ID, "age").text == ""


@pytest.mark.parametrize("name", ["troubled", "grouped", "well"])
def test_on_a_phone_no_labels_touch_and_no_dates_or_names_are_broken(look: Look, name: str) -> None:
    driver = look(name, "phone")
    unfold(driver)
    assert driver.execute_script(TOUCHING) == []
    assert driver.execute_script(BROKEN) == []
    assert driver.execute_script("const nav = document.querySelector('nav'); return nav.scrollWidth > nav.clientWidth")
    assert "local" in driver.execute_script(
        "return getComputedStyle(document.querySelector('nav')).backgroundAttachment"
    )


def test_it_is_complete_without_scripts(look: Look, driver: Chrome) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look("troubled")
        tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    said = {(one["role"]["value"], one.get("name", {}).get("value", "")) for one in tree if not one["ignored"]}
    assert {("heading", "2 critical, 3 warnings, 1 notice"), ("rowheader", "web-023")} <= said
    assert ("StaticText", "chmod 600 ca/secrets") in said
    assert {role for role, _ in said} & {"searchbox", "button"} == set()


def test_on_paper_groups_are_open_and_buttons_gone(look: Look) -> None:
    driver = look("large", media="print")
    visible = "return document.querySelector(arguments[0]).getBoundingClientRect().height > 0"
    assert driver.execute_script(visible, "#certificates ~ details:last-of-type tbody tr")
    assert not driver.execute_script(visible, "nav")
    assert not driver.execute_script(visible, "button")


# -- a thousand certificates ------------------------------------------------------------------------------------------


def test_a_thousand_certificates_load_as_a_plain_table_does_within_reason(
    look: Look, pages: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    taken: dict[str, list[float]] = {"large": [], "plain": []}
    for _ in range(ROUNDS):
        for name, times in taken.items():
            driver = look(name, "phone")
            times.append(driver.execute_async_script(LOADED))
    best = {name: min(times) for name, times in taken.items()}
    weight = pages["large"].stat().st_size
    with capsys.disabled():
        print(
            f"\n1000 certificates: {weight / 1000:.0f} kB, shown after {best['large']:.0f} ms, a plain table of them "
            f"after {best['plain']:.0f} ms: {best['large'] / best['plain']:.1f} times"
        )
    assert weight < 1_000_000
    assert all(time > 0 for times in taken.values() for time in times)
