"""The trust page in a browser, from the server that publishes it: every link, at the width of a phone and of a desk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import LiveHome, run
from tests.integration.proxies import Proxy, started
from tests.integration.proxy_stage import CONTENT_TYPES
from tests.support.pages import Page

WIDTHS = (360, 768, 1280)
# A page of the test's own beside ours, which opens it at several widths and follows its links as a reader would.
LOOK = """<!DOCTYPE html><title>look</title><body><script>
(async () => {
  const found = {wide: {}, links: {}, taken: [], small: [], big: {}, codes: {}};
  for (const width of WIDTHS) {
    const frame = document.createElement("iframe");
    frame.width = width; frame.style.border = 0; frame.height = 900; frame.src = "/";
    await new Promise((done) => { frame.onload = done; document.body.append(frame); });
    const page = frame.contentDocument;
    page.querySelectorAll("details").forEach((one) => { one.open = true; });
    const visible = (what) => [...page.querySelectorAll(what)].filter((one) => one.checkVisibility());
    found.big[width] = visible("a.big").map((one) => [one.getAttribute("href"), one.getBoundingClientRect().height]);
    found.codes[width] = visible("figure svg").length;
    found.wide[width] = page.documentElement.scrollWidth - page.documentElement.clientWidth;
    found.taken.push(...frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name));
    page.querySelectorAll("summary, a.get").forEach((one) => {
      if (one.getBoundingClientRect().height < 40) found.small.push(one.textContent);
    });
    for (const link of page.querySelectorAll("a")) {
      const answer = await fetch(link.href);
      found.links[link.getAttribute("href")] = [answer.status, answer.headers.get("content-type")];
    }
  }
  document.body.textContent = JSON.stringify(found);
})();
</script>
""".replace("WIDTHS", json.dumps(WIDTHS))


@pytest.fixture(scope="module")
def published(shown: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The publishing host's nginx, with what was delivered."""
    assert shutil.which("chromium"), "apt install chromium"
    work = tmp_path_factory.mktemp("published")
    home = shown.copy(work / "home")
    home.write("build/hosts/monitoring/var/www/pki/look.html", LOOK)
    with started("nginx", home, "monitoring", work / "nginx") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def seen(published: Proxy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser found on the page, and what it said on its console (`said`)."""
    said = chromium(
        published, tmp_path_factory.mktemp("profile"), "--virtual-time-budget=60000", "--dump-dom", "look.html"
    )
    body = re.search(r"<body>(\{.*?\})</body>", said, flags=re.DOTALL)
    assert body, said
    return {**json.loads(unescape(body[1])), "said": re.findall(r".*CONSOLE.*", said)}


def chromium(published: Proxy, profile: Path, *arguments: str) -> str:
    """Start Chromium, for which the publishing address is our nginx and no other name exists; the path comes last."""
    *options, path = arguments
    rules = f"MAP pki.lab.internal:80 127.0.0.1:{published.http_port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    return run(
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={profile}", f"--host-resolver-rules={rules}", "--enable-logging=stderr"),
        *(*options, f"http://pki.lab.internal/{path}"),
    )


def test_a_phone_gets_large_buttons_and_no_qr_code(seen: dict[str, Any]) -> None:
    phone, desk = str(WIDTHS[0]), str(WIDTHS[-1])
    assert [address for address, _ in seen["big"][phone]] == ["trust/roots.mobileconfig", "trust/root-1.crt"]
    assert all(height >= 48 for _, height in seen["big"][phone])
    assert (seen["codes"][phone], seen["big"][desk], seen["codes"][desk]) == (0, [], 1)


def test_every_link_of_the_page_downloads_under_its_type(seen: dict[str, Any], published: Proxy) -> None:
    links = Page((published.root / "var/www/pki/index.html").read_text()).links
    assert seen["links"].keys() == set(links)
    expected = {link: [200, CONTENT_TYPES[link.partition("/")[0] + Path(link).suffix]] for link in links}
    assert seen["links"] == expected


def test_the_page_asks_nobody_for_anything_and_nothing_is_wrong_on_the_console(seen: dict[str, Any]) -> None:
    assert seen["taken"] == []
    assert seen["said"] == []


def test_the_page_is_never_wider_than_the_window_with_all_its_parts_open(seen: dict[str, Any]) -> None:
    assert seen["wide"] == {str(width): 0 for width in WIDTHS}


def test_whatever_is_to_be_touched_is_large_enough_for_a_thumb(seen: dict[str, Any]) -> None:
    assert seen["small"] == []
