"""The same `home` as elsewhere, built at the present moment: the programs that judge it take the time from the system."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pki.x509 import pkcs11
from pki.x509.pkcs11 import sessions
from tests.support.ceremonies import RealHome
from tests.support.copies import copy_project
from tests.support.projects import PROJECT, Home, Report, bare_home
from tests.support.samples import function_of, leave_out

LONGEST = (
    *("campaigns", "deployment", "handover", "ceremony_page", "air_gap", "proxies_judged", "ansible", "proxies"),
    *("handover_sandbox", "services_together"),
    *("hostile_hosts", "apply_interrupted", "killed_runs", "ceremony_drives", "every_bit", "wrong_clock", "custody"),
)
TIMEOUT = 300  # seconds: what is awaited takes a twentieth of it on a machine that does nothing else


SAMPLED = {  # files and functions of which one test in so many is run, unless PKI_SAMPLES asks for all
    "hostile_hosts": 3,
    "killed_runs": 3,
    "wrong_clock": 2,
    "apply_elsewhere": 3,
    "apply_elsewhere::test_a_hostile_stream_is_refused_in_a_sentence_and_nothing_changes": 9,
    "apply_blocked": 3,
    "handover::test_nobody_notices_when_the_root_hands_over": 2,
    "proxies::test_certificates_of_strangers_are_refused": 3,
    "proxies::test_spellings_of_another_name_do_not_open_it": 3,
    "proxies_forged::test_lines_that_are_no_headers_do_not_arrive_as_ours": 4,
    "proxies_forged::test_no_connection_is_upgraded_to_http2_behind_a_proxy": 4,
    "proxies_forged::test_upstream_is_asked_for_no_other_protocol": 4,
    "proxies_judged": 2,
    "proxies_odd::test_host_that_is_more_than_the_name_of_the_handshake_reaches_no_upstream": 4,
    "parallel_runs": 2,
    "damaged_runs": 2,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The files that take longest go first: at the end, one process would work at them while the others are idle.

    Of long lists of cases a sample is run, the same in each process; a test is left out only where another case of the
    same function is run, and one that is named on the command line never.
    """
    turn = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turn.get(item.path.stem, len(turn)))
    leave_out(config, items, _share_of)


def _share_of(item: pytest.Item) -> int:
    file = item.path.stem.removeprefix("test_")
    return SAMPLED.get(f"{file}::{function_of(item)}", SAMPLED.get(file, 1))


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> None:
    """Programs that the tests end by a signal would inherit that it is ignored: by nohup, or behind a shell's `&`."""
    for name, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(name) is signal.SIG_IGN:
            signal.signal(name, usual)


@pytest.fixture(scope="session", autouse=True)
def haste() -> None:
    """All is as it is for users here: as slow to guess, and as durable."""


@pytest.fixture(scope="session", autouse=True)
def templates_rendered_here() -> None:
    """Templates are rendered in a child process here, as for users."""


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class LiveHome(Home):
    """A home whose clock is the system's; commands run in processes of their own, through the real doors."""

    def moment(self, days: float = 0) -> datetime:
        return now() + timedelta(days=days)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PKI_HOME": str(self.path)}

    def invoke(self, *arguments: str) -> str:
        return run(sys.executable, "-m", "invoke", *arguments, cwd=PROJECT, env=self.environment)

    def revoke(self, *arguments: str) -> str:
        """Revoke what only hosts in folders know: it is published, and verified nowhere."""
        said = run(sys.executable, "-m", "invoke", "revoke", *arguments, ok=False, cwd=PROJECT, env=self.environment)
        assert "revoked and published; " in said, said
        return said

    def start_doit(self, **environment: str) -> subprocess.Popen[bytes]:
        """doit, started in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "doit"],
            cwd=PROJECT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def faked_doit(self, days: int) -> Report:
        """Run doit as a whole process whose clock stands `days` ahead."""
        status = self.start_doit(**moved_clock(days)).wait(TIMEOUT)
        return Report(status, json.loads(self.read("build/report/status.json")))

    def copy(self, path: Path) -> LiveHome:
        copy_project(self.path, path)
        return LiveHome(path)


@dataclass(frozen=True)
class LiveRealHome(LiveHome, RealHome):
    """A project outside the sandbox whose clock is the system's."""


def run(
    *command: str | Path, ok: bool | None = True, stdin: str = "", timeout: int = TIMEOUT, **options: object
) -> str:
    """What a program prints on both channels. It must be there and end well; badly when `ok` is False, None: anyhow."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command],
        input=stdin.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
        **options,
    )
    text: str = done.stdout.decode(errors="replace")
    assert ok is None or (done.returncode == 0) == ok, f"{command}: exit {done.returncode}\n{text}"
    return text


def moved_clock(days: int) -> dict[str, str]:
    """The environment of a process whose clock stands `days` ahead, or behind where they are negative."""
    return {**faketime(f"{days:+}d"), "DONT_FAKE_MONOTONIC": "1"}


def faketime(text: str) -> dict[str, str]:
    """The environment of a process whose clock says what `text` asks of libfaketime."""
    package = find_spec("libfaketime")
    assert package is not None
    assert package.origin is not None
    library = Path(package.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    assert library.exists()
    return {"LD_PRELOAD": str(library), "FAKETIME": text}


def live_home(path: Path) -> LiveHome:
    """The committed example, before its first run."""
    return LiveHome(bare_home(path).path)


def built(home: LiveHome) -> LiveHome:
    report = home.doit()
    assert report.status == 0, report.failed
    return home


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example after its first run."""
    return built(live_home(tmp_path_factory.mktemp("built") / "home")).path


@pytest.fixture
def home(built_once: Path, tmp_path: Path) -> Iterator[LiveHome]:
    """A copy of the example after its first run, for a test that changes it."""
    copy = LiveHome(built_once).copy(tmp_path / "home")
    yield copy
    shutil.rmtree(copy.path)


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """The example before its first run, to be copied."""
    return live_home(tmp_path_factory.mktemp("new") / "home")


@pytest.fixture(scope="session")
def shown(built_once: Path) -> LiveHome:
    """The example after its first run, for tests that only look."""
    return LiveHome(built_once)


@pytest.fixture(scope="session")
def revoked_client(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """A copy of the example in which the admin's certificate was revoked; the old one is in `old/`."""
    copy = LiveHome(built_once).copy(tmp_path_factory.mktemp("revoked") / "home")
    shutil.copytree(copy.path / "ca/clients/admin", copy.path / "old")
    copy.revoke("admin", "--reason", "key-compromise", "--yes")
    return copy


@dataclass(frozen=True)
class SoftHsm:
    """A SoftHSM of the tests' own: tokens in a folder, one PIN for all."""

    folder: Path
    module: str = "/usr/lib/softhsm/libsofthsm2.so"
    pin: str = "271828"

    def token(self, label: str) -> Path:
        """A new, empty token; the folder that it is."""
        before = set(self.folder.iterdir())
        pins = ("--pin", self.pin, "--so-pin", "314159")
        run("softhsm2-util", "--init-token", "--free", "--label", label, *pins)
        (made,) = set(self.folder.iterdir()) - before
        pkcs11.close()  # the module looks for new tokens when it starts
        return made

    def uri(self, key: str = "", label: str = "doit-pki") -> pkcs11.TokenUri:
        return pkcs11.TokenUri(self.module, label, object=key)

    def session(self) -> Any:
        """The session that this process has on the token, as python-pkcs11 knows it."""
        return sessions.session_on(self.uri(), self.pin, "secrets.yaml")

    def tool(self, *arguments: str) -> str:
        """What pkcs11-tool says, logged in."""
        chosen = ("--module", self.module, "--token-label", "doit-pki", "--login", "--pin", self.pin)
        return run("pkcs11-tool", *chosen, *arguments)


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """A SoftHSM with the empty token `doit-pki`; this process and those that it starts speak to it."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        hsm = SoftHsm(folder / "tokens")
        hsm.token("doit-pki")
        yield hsm
        pkcs11.close()
