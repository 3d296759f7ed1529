"""The browser of the tests on a machine of a lab: what it shows is what somebody there would see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pki.demo.lab import Lab
from tests.integration.browser import Browser, Page, browser

SITE = "http://web.lab.internal:8000"


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser on a laptop, with a web server on another machine of its network."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text("<title>x</title><h1>hello</h1><p hidden>unseen</p>")
    with Lab() as lab:
        web = lab.machine("web", names=["web.lab.internal"])
        web.start("python3", "-u", "-m", "http.server", "--directory", folder, "8000", says="Serving")
        with browser(tmp_path_factory.mktemp("browser") / "work", lab.machine("laptop")) as made:
            yield made


def test_a_page_is_its_status_and_what_can_be_read_on_it(visitor: Browser) -> None:
    assert visitor.open(f"{SITE}/") == Page(200, "hello")
    assert visitor.open_in_new_tab(f"{SITE}/nothing").status == 404


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://web.lab.internal:8001/", "ERR_CONNECTION_REFUSED"),
        ("http://nowhere.lab.internal/", "ERR_NAME_NOT_RESOLVED"),
    ],
)
def test_what_cannot_be_reached_is_an_error_with_its_name(visitor: Browser, url: str, error: str) -> None:
    page = visitor.open(url)
    assert (page.status, page.error) == (0, error)
    assert visitor.open(f"{SITE}/").status == 200


def test_a_browser_that_was_closed_starts_again_in_its_own_home(visitor: Browser) -> None:
    visitor.close()
    assert visitor.open(f"{SITE}/") == Page(200, "hello")
