"""A real Chromium that nobody watches: a home of its own with its certificates, and the policies that a test gives it.

It runs on a machine of a lab, or here with its own view of /etc/chromium. What is installed while it is open it sees
after `close`; the next `open` starts it again.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.common.by import By

from pki.demo.namespace_machine import NamespaceMachine, wait_until
from tests.integration.conftest import run

PROGRAMS = ("chromium", "chromedriver", "certutil", "pk12util")
POLICIES = "/etc/chromium/policies/managed"
STARTED = re.compile(r"was started successfully on port (\d+)")
NET_ERROR = re.compile(r"\b(ERR_[A-Z0-9_]+)")
PATIENCE = 100  # seconds for a page (selenium gives up after 120): a browser that waits for somebody to choose a certificate waits for ever
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root has none: https://crbug.com/638180
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
)
OWN_POLICIES = 'mount --bind "$1" /etc/chromium && shift && exec "$@"'
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Page:
    """What somebody at the browser would see: the HTTP status and the text, or the error that stands there instead."""

    status: int
    text: str
    error: str = ""


@dataclass
class Browser:
    """A browser below the folder `work`; `arguments` are given to Chromium besides the usual ones."""

    work: Path
    machine: NamespaceMachine | None = None
    arguments: tuple[str, ...] = ()
    patience: float = PATIENCE
    _driver: Remote | None = None
    _process: subprocess.Popen[bytes] | None = None
    _listeners: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        assert not missing, f"not installed: {', '.join(missing)}"
        self.database.mkdir(parents=True)
        shutil.copytree("/etc/chromium", self.work / "etc")
        (self.work / "etc/policies/managed").mkdir(parents=True, exist_ok=True)
        run("certutil", "-N", "-d", f"sql:{self.database}", "--empty-password")

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def database(self) -> Path:
        """Where Chromium looks for certificates, when it is there before the first start."""
        return self.home / ".pki/nssdb"

    # -- what an administrator does -----------------------------------------------------------------------------------

    def trust(self, certificate: Path, name: str = "root") -> None:
        """Trust an authority for web sites."""
        run("certutil", "-A", "-d", f"sql:{self.database}", "-n", name, "-t", "C,,", "-i", certificate)

    def install(self, bundle: Path, passphrase: str) -> str:
        """Import a PKCS#12 file; what pk12util says."""
        given = self.work / "passphrase"
        given.touch(0o600)
        given.write_text(passphrase)
        try:
            return run("pk12util", "-i", bundle, "-d", f"sql:{self.database}", "-w", given, "-K", "")
        finally:
            given.unlink()

    def set_policy(self, policy: bytes, name: str = "pki") -> None:
        """Put a file of managed policies where Chromium reads them."""
        (self.work / f"etc/policies/managed/{name}.json").write_bytes(policy)
        if self.machine:
            self.machine.write(f"{POLICIES}/{name}.json", policy)

    # -- what a person does -------------------------------------------------------------------------------------------

    def open(self, url: str) -> Page:
        """Go to an address in the present tab."""
        driver = self._driver or self._start()
        try:
            driver.get(url)
        except TimeoutException:
            return Page(0, "", "timeout")
        except WebDriverException as error:
            found = NET_ERROR.search(error.msg or "")
            if not found:
                raise
            return Page(0, "", found[1])
        status = int(driver.execute_script("return performance.getEntriesByType('navigation')[0].responseStatus"))
        text = driver.find_element(By.TAG_NAME, "body").text
        found = None if status else NET_ERROR.search(text)  # some errors are pages of the browser's own
        return Page(status, text, found[1] if found else "")

    def open_in_new_tab(self, url: str) -> Page:
        """Go to an address in a tab of its own, which becomes the present one."""
        (self._driver or self._start()).switch_to.new_window("tab")
        return self.open(url)

    def screenshot(self, path: Path) -> None:
        """A picture of the present tab, as PNG."""
        (self._driver or self._start()).save_screenshot(str(path))

    def close(self) -> None:
        """End the browser; its home stays."""
        if self._driver:
            with suppress(WebDriverException, OSError):
                self._driver.quit()
            self._driver = None
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        while self._listeners:
            self._listeners.pop().close()

    # -- how it is started --------------------------------------------------------------------------------------------

    def _start(self) -> Remote:
        log = self.work / "chromedriver.log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                self._inside("chromedriver", "--port=0"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        wait_until(
            lambda: bool(STARTED.search(log.read_text())) or not self._is_alive(), "chromedriver listens", PATIENCE
        )
        found = STARTED.search(log.read_text())
        assert found, log.read_text()
        port = int(found[1])
        if self.machine:
            port = self._bridge(self.machine, port)
        options = ChromeOptions()
        for argument in (*ARGUMENTS, f"--user-data-dir={self.home}/profile", *self.arguments):
            options.add_argument(argument)
        self._driver = Remote(f"http://127.0.0.1:{port}", options=options)
        self._driver.set_page_load_timeout(self.patience)
        return self._driver

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _inside(self, *command: str) -> list[str]:
        """The command line that starts a command where the browser lives; everything that it starts ends with it."""
        if self.machine:
            return self.machine.inside(*command, env={"HOME": str(self.home)})
        own = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        return [*own, "env", f"HOME={self.home}", "sh", "-c", OWN_POLICIES, "sh", str(self.work / "etc"), *command]

    def _bridge(self, machine: NamespaceMachine, port: int) -> int:
        """A port here that leads to one on the machine, whose loopback nobody else reaches."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        threading.Thread(target=_carry, args=(listener, machine.holder, port), daemon=True).start()
        return int(listener.getsockname()[1])


@contextmanager
def browser(
    work: Path, machine: NamespaceMachine | None = None, *arguments: str, patience: float = PATIENCE
) -> Iterator[Browser]:
    """A browser that is closed at the end of the block."""
    made = Browser(work, machine, arguments, patience)
    try:
        yield made
    finally:
        made.close()


def _carry(listener: socket.socket, holder: int, port: int) -> None:
    """Carry each connection on into the network of a process: this thread alone moves there."""
    with open(f"/proc/{holder}/ns/net") as network:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    with suppress(OSError):  # the listener is closed at the end
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
