"""A ceremony on real drives: ext4 images, mounted and not mounted, taken for each other, killed, and typed at a terminal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.ceremony import drives as kernel
from pki.ceremony import words
from tests.integration import air_gap
from tests.integration.air_gap import Machine
from tests.integration.conftest import run
from tests.integration.gap import Gap

SAMPLES = int(os.environ.get("PKI_SAMPLES", "2"))
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts drives")


class Drives:
    """ext4 images by their names, each with a folder to be mounted at."""

    def __init__(self, folder: Path) -> None:
        self.images, self.points = folder / "images", folder / "mnt"
        self.images.mkdir()

    def make(self, name: str) -> None:
        """A fresh drive; with the page's own line."""
        image = self.images / name
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(64 << 20)
        run("mkfs.ext4", "-q", "-L", name, image)

    def mount(self, name: str, at: str = "", *, options: str = "loop") -> Path:
        point = self.at(at or name)
        point.mkdir(parents=True, exist_ok=True)
        run("mount", "-o", options, self.images / name, point)
        return point

    def at(self, name: str) -> Path:
        return self.points / name

    def umount(self, name: str) -> None:
        run("umount", self.at(name))

    def close(self) -> None:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            point = line.split(" ")[4]
            if point.startswith(f"{self.points}/"):
                subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Gap:
    """A project with its request on a folder that stands for the exchange drive."""
    gap = Gap(tmp_path_factory.mktemp("asked"))
    gap.found()
    return gap


@pytest.fixture
def drives(asked: Gap, tmp_path: Path) -> Iterator[Drives]:
    """Three drives, all mounted; the request is on the exchange drive."""
    if kernel.is_in_ram(kernel.mount_of(tmp_path)):
        pytest.skip("images below this folder are in memory, or may be, and no vault is")
    found = Drives(tmp_path)
    try:
        for name in ("exchange", "vault", "copy"):
            found.make(name)
            found.mount(name)
        shutil.copy(asked.stick / "request-0001.yaml", found.at("exchange"))
        yield found
    finally:
        found.close()


class Sitting:
    """The commands of one ceremony, as the page prints them."""

    def __init__(self, gap: Gap, drives: Drives) -> None:
        self.gap, self.offline, self.drives = gap, gap.offline, drives
        self.secret = ("--passphrase-file", gap.passphrase_file)

    def line(self, step: str, vault: str = "vault", output: str = "exchange") -> tuple[str | Path, ...]:
        request = self.drives.at("exchange") / "request-0001.yaml"
        end = ("--output", self.drives.at(output)) if step == "sign" else ()
        typed = ("--words", self.gap.words, *air_gap.despite_swap())
        return (f"ceremony.{step}", request, "--vault", self.drives.at(vault), *end, *typed, *self.secret)

    def root(self, vault: str = "vault", *, ok: bool = True) -> str:
        return self.offline.invoke(*self.line("root", vault), ok=ok)

    def sign(self, vault: str = "vault", output: str = "exchange", *, ok: bool = True) -> str:
        return self.offline.invoke(*self.line("sign", vault, output), ok=ok)

    def copy(self, *, ok: bool = True) -> str:
        line = ("ceremony.copy", "--vault", self.drives.at("vault"), "--to", self.drives.at("copy"))
        return self.offline.invoke(*line, ok=ok)


@pytest.fixture
def session(asked: Gap, drives: Drives) -> Sitting:
    return Sitting(asked, drives)


def left_on(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lost+found"}


def test_vault_that_is_not_a_mounted_drive_of_its_own_gets_no_root(drives: Drives, session: Sitting) -> None:
    drives.umount("vault")
    vault = drives.at("vault")
    assert f"{vault}: no drive is mounted there" in session.root(ok=False)
    run("mount", "-t", "tmpfs", "tmpfs", vault)
    assert f"{vault}: is in the memory of this machine (tmpfs), not on a drive" in session.root(ok=False)
    assert left_on(vault) == set()
    drives.umount("vault")
    memory = Path(f"/dev/shm/vault-{os.getpid()}")  # noqa: S108 - an image in memory is what is tried
    try:
        shutil.copy(drives.images / "vault", memory)
        run("mount", "-o", "loop", memory, vault)
        assert "is in the memory of this machine (ext4), not on a drive" in session.root(ok=False)
        drives.umount("vault")
    finally:
        memory.unlink()
    (vault / "here").mkdir()
    run("mount", "--bind", vault / "here", vault)
    assert "is on the file system that this machine runs from, not on a drive" in session.root(ok=False)
    drives.umount("vault")
    assert left_on(vault) == {"here"}


def test_exchange_drive_is_never_the_vault(drives: Drives, session: Sitting) -> None:
    drives.umount("vault")
    exchange = drives.at("exchange")
    assert f"{exchange}: is the exchange drive: request-0001.yaml" in session.root("exchange", ok=False)
    (exchange / "empty").mkdir()
    run("mount", "--bind", exchange / "empty", drives.at("vault"))
    said = session.root(ok=False)
    assert f"is the exchange drive, as {exchange} is: request-0001.yaml" in said
    assert left_on(exchange) == {"request-0001.yaml", "empty"}


def test_ceremony_on_three_drives_with_each_taken_for_another(drives: Drives, session: Sitting) -> None:
    said = session.root()
    number = re.findall(r"^vault ([0-9a-f]{8}) on .+/mnt/vault: /dev/loop[0-9]+, ext4$", said, re.MULTILINE)
    assert len(number) == 1, said
    said = session.sign("copy", ok=False)
    assert "mnt/copy: is empty: is this the vault?" in said
    assert "ceremony.root" not in said
    assert left_on(drives.at("copy")) == set()
    assert "is on the drive of the vault" in session.sign(output="vault", ok=False)
    spoken = air_gap.words_in(session.sign())
    assert air_gap.words_in(session.sign()) == spoken, "shown once more"
    drives.umount("copy")
    assert "mnt/copy: no drive is mounted there" in session.copy(ok=False)
    assert left_on(drives.at("copy")) == set()
    drives.mount("copy")
    said = session.copy()
    head = re.findall(r"both drives are equal; head ([0-9a-f]{16})", said)
    assert f"vault {number[0]} on {drives.at('copy')}" in said
    for name in ("vault", "copy"):
        drives.umount(name)
        said = session.offline.invoke("ceremony.verify", drives.at(name), ok=False)
        assert "all is as it was made" not in said
        drives.mount(name)
        said = session.offline.invoke("ceremony.verify", drives.at(name))
        assert f"head {head[0]}" in said
        assert said.endswith("all is as it was made\n")
    online, exchange = session.gap.online, drives.at("exchange")
    shutil.copytree(drives.at("vault") / "root-1", exchange / "root-1")
    accept = ("ceremony.accept", exchange / "response-0001", "--words", spoken)
    said = online.invoke(*accept, ok=False)
    assert f"private keys are next to the response, on a machine with a network: {exchange}/root-1/key.pem" in said
    run(*re.findall(r"destroy them: (shred -u \S+)", said)[0].split())
    copied = session.gap.project.path.parent / "elsewhere"
    shutil.copytree(session.gap.project.path, copied)
    elsewhere = Machine(online.folder, online.program, "elsewhere")
    assert "ceremony 1 is accepted" in elsewhere.invoke(*accept)


@pytest.mark.parametrize("sample", range(SAMPLES))
def test_signing_that_is_killed_at_any_moment_is_completed_by_the_same_line(session: Sitting, sample: int) -> None:
    """With a signal that nobody can catch; the first try that is left alone shows the words of the one response."""
    session.root()
    started = time.monotonic()
    vault, program = session.drives.at("vault"), session.offline.program / "run"
    environment = {name: os.environ[name] for name in air_gap.KEPT if name in os.environ}
    line = [str(part) for part in (*air_gap.ALONE, "sh", program, "invoke", *session.line("sign"))]
    whole = time.monotonic() - started + 1
    killed = 0
    for part in range(3):
        child = subprocess.Popen(
            line, cwd=session.offline.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            child.wait(whole * (0.3 + (sample + part / 3) / SAMPLES))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
    said = session.sign()
    response = (session.drives.at("exchange") / "response-0001/response.yaml").read_bytes()
    assert (vault / "ceremonies/0001/response.yaml").read_bytes() == response
    assert f"SHA-256 {air_gap.digest_in(said)}" in said
    assert air_gap.words_in(said) == words.first(air_gap.digest_in(said))
    assert session.offline.invoke("ceremony.verify", vault).endswith("all is as it was made\n")


def test_drive_that_is_pulled_out_while_it_is_copied_leaves_the_vault_whole(drives: Drives, session: Sitting) -> None:
    session.root()
    session.sign()
    run("mount", "-o", "remount,ro", drives.at("copy"))
    said = session.copy(ok=False)
    assert "Read-only file system" in said
    assert session.offline.invoke("ceremony.verify", drives.at("vault")).endswith("all is as it was made\n")
    run("mount", "-o", "remount,rw", drives.at("copy"))
    assert "both drives are equal" in session.copy()


# -- at a terminal ----------------------------------------------------------------------------------------------------


def until_the_passphrase(session: Sitting) -> tuple[air_gap.Terminal, str]:
    """ceremony.root at a terminal, up to where its passphrase is typed back; and the passphrase that was shown."""
    line = [part for part in session.line("root") if part not in session.secret]
    person = session.offline.at_terminal(*line)
    person.see("paper and pen ready, nobody else looking? [yes] ")
    person.type("yes")
    shown = person.see("press Enter when it is written down")
    written = re.findall(r"\b\d+ ([a-z]+)", shown)
    assert len(written) == 13, shown
    person.type("")
    person.see("type it back from the paper")
    return person, " ".join(written)


def test_no_slip_ends_the_command_and_nothing_that_is_typed_is_shown(session: Sitting) -> None:
    person, written = until_the_passphrase(session)
    right = written.split()
    wrong = [*right[:6], "acid" if right[6] != "acid" else "acne", *right[7:]]
    before = len(person.shown)
    for slip in (" ".join(wrong), "zzzz", " ".join(wrong), " ".join(wrong), " ".join(wrong)):
        assert not person.echoes
        person.type(slip)
        person.see("check it")
        person.see("type it back from the paper")
    for start in (0, 5, 10):
        assert not person.echoes
        person.type(" ".join(right[start : start + 5]))
        if start < 10:
            person.see("words are right so far")
            person.see("type it back from the paper")
    person.see("  sh run invoke ceremony.sign")
    assert person.end() == 0
    assert person.echoes
    since = person.shown[before:]
    assert "word 7 is wrong" in since
    assert not any(" ".join(right[start : start + 3]) in since for start in range(11))
    person.close()


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D", "SIGTERM", "SIGHUP"])
def test_terminal_is_given_back_as_it_was_and_what_was_typed_ahead_is_dropped(session: Sitting, how: str) -> None:
    person, written = until_the_passphrase(session)
    person.press(written.encode()[:20] + b"\n")
    person.see("type it back from the paper")
    if how.startswith("SIG"):
        os.kill(person.process, signal.Signals[how])
    else:
        person.press({"Ctrl-C": b"\x03", "Ctrl-D": b"\x04"}[how])
    assert person.end() != 0
    assert person.echoes
    assert not list(session.drives.at("vault").glob("root-*"))
    assert "Traceback" not in person.shown
    person.close()
