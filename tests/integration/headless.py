"""A headless Chromium for pages of our own: a window of a given size, a colour scheme, and axe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.integration.browser import ARGUMENTS
from tests.integration.conftest import TIMEOUT

AXE = """
const done = arguments[arguments.length - 1];
axe.run().then((found) => done([found.passes.length, found.violations.map((one) => [one.id, one.nodes.map((node) => node.html)])]));
"""


@contextmanager
def chrome(profile: Path) -> Iterator[Chrome]:
    """Chromium with its own profile; it is closed at the end of the block."""
    for program in ("chromium", "chromedriver"):
        assert shutil.which(program), f"apt install {program}"
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    driver.set_script_timeout(TIMEOUT)
    try:
        yield driver
    finally:
        driver.quit()


def show(
    driver: Chrome, url: str, width: int, scheme: str = "light", *, height: int = 900, media: str = "screen"
) -> None:
    """Open a page in a window of a size, in a colour scheme; `media` is screen or print."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    measures = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", measures)
    driver.get(url)


def axe(driver: Chrome) -> tuple[int, list[Any]]:
    """The number of rules of axe that the page passes, and those that it violates, with the elements."""
    package = find_spec("axe_core_python")
    assert package
    assert package.origin
    driver.execute_script((Path(package.origin).parent / "axe.min.js").read_text())
    passed, violated = driver.execute_async_script(AXE)
    return passed, violated
