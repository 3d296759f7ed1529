"""The documentation site: built without a network, and read in a real Chromium on a phone and at a desk."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.documentation import links
from tests.integration.conftest import TIMEOUT, run
from tests.integration.headless import axe, chrome, show
from tests.support.environments import environment
from tests.support.projects import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root takes the network away")
PHONE, DESK = 390, 1280
READ = [
    ("light", PHONE, "index.html"),
    ("light", DESK, "how-to/revoke.html"),
    ("light", PHONE, "reference/keys.html"),
    ("dark", PHONE, "how-to/revoke.html"),
    ("dark", DESK, "reference/keys.html"),
]
SEARCH = "[...document.querySelectorAll('div')].map((one) => one.shadowRoot).find(Boolean)"
WIDER = "return document.documentElement.scrollWidth - innerWidth"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing for a request."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment("docs")  # installed while there is a network
    output = tmp_path_factory.mktemp("docs") / "site"
    run("unshare", "--net", PROJECT / "run", "invoke", "docs", "--output", output, env={"PATH": os.environ["PATH"]})
    return output


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chrome(tmp_path_factory.mktemp("profile")) as made:
        yield made


def test_no_link_is_broken_and_nothing_comes_from_elsewhere(site: Path) -> None:
    assert links.find_faults(site) == []
    page = site / "index.html"
    text = page.read_text()
    wrong = '<a href="missing.html"></a><a href="#missing"></a><img src="https://elsewhere.example/x.png">'
    page.write_text(text.replace("</body>", f"{wrong}</body>"))
    faults = links.find_faults(site)
    page.write_text(text)
    assert faults == [
        "index.html: loads https://elsewhere.example/x.png",
        "index.html: missing.html leads nowhere",
        "index.html: #missing leads nowhere",
    ]


def test_the_search_finds_how_to_revoke(site: Path, address: str, driver: Chrome) -> None:
    assert "revoke" in json.dumps(json.loads((site / "search.json").read_text()))
    show(driver, f"{address}/index.html", PHONE)
    buttons = driver.find_elements(By.CSS_SELECTOR, "[for=__search], .md-search__button")
    next(button for button in buttons if button.is_displayed()).click()
    wait = WebDriverWait(driver, TIMEOUT, ignored_exceptions=[ElementNotInteractableException])  # while it opens
    field = wait.until(lambda _: driver.execute_script(f"return {SEARCH}?.querySelector('input')"))
    wait.until(lambda _: field.send_keys("revoke a client") is None)
    found = f"return [...{SEARCH}.querySelectorAll('a')].map((one) => one.getAttribute('href'))"
    wait.until(lambda _: any("how-to/revoke.html" in one for one in driver.execute_script(found)))


def test_a_phone_scrolls_no_page_sideways_and_no_other_host_is_asked(site: Path, address: str, driver: Chrome) -> None:
    show(driver, f"{address}/index.html", PHONE)
    driver.get_log("performance")  # also of the browser's own first page
    for page in sorted(site.rglob("*.html")):
        driver.get(f"{address}/{page.relative_to(site)}")
        assert driver.execute_script(WIDER) <= 0, page
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert len(asked) > 40


def test_axe_finds_nothing(address: str, driver: Chrome) -> None:
    for scheme, width, page in READ:
        show(driver, f"{address}/{page}", width, scheme)
        shown = driver.find_element(By.TAG_NAME, "body").get_attribute("data-md-color-scheme")
        assert shown == {"light": "default", "dark": "slate"}[scheme]
        passed, violated = axe(driver)
        assert violated == [], page
        assert passed > 20


def test_of_a_session_the_commands_are_copied(address: str, driver: Chrome) -> None:
    show(driver, f"{address}/how-to/revoke.html", DESK)
    driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    driver.find_element(By.CSS_SELECTOR, ".language-console button").click()
    copied = driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    shown = driver.find_element(By.CSS_SELECTOR, ".language-console code").text
    assert copied.splitlines() == [line[2:] for line in shown.splitlines() if line.startswith("$ ")]
