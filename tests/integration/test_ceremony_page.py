"""A ceremony by the printed page alone: each line of it is typed, in order, with drives that are real file systems."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.ceremony import drives as kernel
from tests.integration import air_gap
from tests.integration.air_gap import Machine
from tests.integration.conftest import run
from tests.integration.paper import Paper
from tests.integration.terminal import Shell
from tests.support.leavings import is_idle
from tests.support.scripts import Item, Printed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts drives")
OF_THE_MACHINE = {"sudo -i", "swapoff -a", "poweroff"}  # they would reach the machine that runs the tests
ROOM = 192  # MB of a drive; the kit takes 60
NOT_ALWAYS = {  # what a SCREEN names that need not be there, or must not; labels in lsblk come from udev
    *("Proceed anyway?", "lo", "failed", "vault", "copy"),
}
FOLDER = "/mnt/online"


@dataclass
class Drive:
    """A USB drive: a file, and the device that it is while it is plugged in."""

    image: Path
    name: str = ""

    def plug_in(self) -> str:
        """The name of the drive as lsblk shows it."""
        if not self.name:
            self.name = run("losetup", "--find", "--show", self.image).strip().removeprefix("/dev/")
        return self.name

    def unplug(self) -> None:
        if self.name:
            run("losetup", "--detach", f"/dev/{self.name}")
            self.name = ""


@dataclass
class Ceremony:
    """Both machines, the three drives, the printed page and all other paper."""

    folder: Path
    online: Machine
    drives: dict[str, Drive]
    page: Printed
    paper: Paper

    def disk(self, item: Item) -> str:
        """What is written in place of DISK at a line: the drive that is plugged in there, or before it."""
        plugged = {"3.2": "vault", "3.3": "vault", "3.4": "copy", "3.5": "copy", "4.1": "exchange", "4.2": "exchange"}
        plugged |= {"10.1": "exchange"}
        return self.drives[plugged[item.number]].plug_in() if item.number in plugged else "DISK"

    def shell(self) -> Shell:
        """The offline machine: no network, and nothing mounted below /mnt."""
        command = "mount -t tmpfs tmpfs /mnt && exec sh -i"
        environment = {name: os.environ[name] for name in air_gap.KEPT if name in os.environ}
        home = self.folder / "offline"
        for place in (home, self.folder / "elsewhere"):
            place.mkdir(exist_ok=True)
        return Shell(["unshare", "-n", "-m", "sh", "-c", command], home, {**environment, "HOME": str(home)})

    def _by_label(self, found: re.Match[str]) -> str:
        """The device that has a label; of two ceremonies at once, mount would find either one's."""
        device = f"/dev/{self.drives[found[1]].plug_in()}"
        assert run("e2label", device).strip() == found[1]
        return device

    def follow(self, shell: Shell, item: Item) -> str:
        """Type all lines of one item of the page; what it says of the screen must be there."""
        disk, said = self.disk(item), ""
        for command in item.commands:
            if command in OF_THE_MACHINE:
                continue
            line = command.replace("DISK", disk).replace("FOLDER", FOLDER)
            line = line.replace("ELSEWHERE", shlex.quote(str(self.folder / "elsewhere")))
            line = re.sub(r"\bLABEL=(\w+)", self._by_label, line)
            if "ceremony.root" in line or "ceremony.sign" in line:
                line += "".join(f" {shlex.quote(part)}" for part in air_gap.despite_swap())
            said += shell.line(line, self.paper.answers())
        for screen in item.of("SCREEN") if item.commands else []:
            for quoted in set(re.findall(r"`([^`]+)`", screen)) - NOT_ALWAYS:
                assert all(part in said for part in re.split("…", quoted)), (item.number, quoted, said)
        return said


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that waits for its first ceremony, its words on paper, and an exchange drive with the kit and the page."""
    folder = tmp_path_factory.mktemp("page")
    online = air_gap.machine(folder / "online", "project")
    online.invoke("init", "project", *air_gap.PROJECT_FOLDER)
    online.run("doit", ok=False)
    (folder / "request.words").write_text(air_gap.words_in(online.invoke("ceremony.request")))
    image = _image(folder / "exchange.img")
    run("mkfs.ext4", "-q", image)
    script = 'mount -o loop "$0" /mnt && "$@" && cp /mnt/doit-pki-kit/CEREMONY.txt "$OUT" && umount /mnt'
    environment = {**os.environ, "PKI_HOME": str(folder / "online/project"), "OUT": str(folder / "CEREMONY.txt")}
    kit = ("sh", online.program / "run", "invoke", "ceremony.kit", "/mnt")
    said = run("unshare", "-m", "sh", "-c", script, image, *kit, env=environment, timeout=air_gap.PATIENCE)
    (folder / "kit.paper").write_text(said)
    return folder


def _image(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(ROOM << 20)
    return path


@pytest.fixture
def ceremony(prepared: Path, tmp_path: Path) -> Iterator[Ceremony]:
    if kernel.is_in_ram(kernel.mount_of(tmp_path)):
        pytest.skip("images below this folder are in memory, or may be, and no vault is")
    run("cp", "-a", "--sparse=always", prepared / "exchange.img", tmp_path)
    run("cp", "-a", prepared / "online", tmp_path)
    drives = {"exchange": Drive(tmp_path / "exchange.img")}
    drives |= {name: Drive(_image(tmp_path / f"{name}.img")) for name in ("vault", "copy")}
    run("mkfs.ext4", "-q", "-L", "OLD", drives["copy"].image)  # so that mkfs asks
    said = (prepared / "kit.paper").read_text()
    kit = air_gap.digest_in(said), re.findall(r"\b(\d+) files", said)[-1]
    text = (prepared / "CEREMONY.txt").read_text().replace(str(prepared), str(tmp_path))
    paper = Paper((prepared / "request.words").read_text(), kit=kit)
    try:
        yield Ceremony(
            tmp_path,
            Machine(tmp_path / "online", tmp_path / "online/doit-pki", "project"),
            drives,
            Printed(text),
            paper,
        )
    finally:
        for drive in drives.values():
            drive.unplug()


@pytest.mark.parametrize("chosen", ["6.1", "6.2"], ids=["passphrase", "shares"])
def test_ceremony_by_the_printed_page_alone_gives_a_project_that_works(ceremony: Ceremony, chosen: str) -> None:
    said, shell = {}, ceremony.shell()
    for item in ceremony.page.items.values():
        if item.number.startswith("6.") and item.number not in {chosen, "6.3"}:
            continue
        if item.number == "10.1":
            shell.line(f"mkdir {FOLDER} && mount /dev/{ceremony.disk(item)} {FOLDER}", {})
        said[item.number] = ceremony.follow(shell, item)
        if item.number == "7.1":
            ceremony.paper.response = air_gap.words_in(said["7.1"])
    shell.leave()
    _assert_page_told_the_truth(ceremony, said)
    assert is_idle(ceremony.online.run("doit"))
    assert len(ceremony.paper.cards) == (3 if chosen == "6.2" else 0)
    for card in ceremony.paper.cards:
        assert len(card.split()) == 20


def _assert_page_told_the_truth(ceremony: Ceremony, said: dict[str, str]) -> None:
    """What people compare with each other: digits, numbers, drives, the vault number and the head."""
    assert re.findall(r"^[0-9a-f]{64}", said["5.1"], flags=re.MULTILINE) == [ceremony.paper.kit[0]]
    assert said["5.4"].split()[-1] == ceremony.paper.kit[1]
    lines = [line.split() for line in said["4.3"].splitlines()]
    mounted = {line[0]: line[1] for line in lines if line[0] in {"/mnt/vault", "/mnt/copy", "/mnt/exchange"}}
    assert len(mounted) == len(set(mounted.values())) == 3
    heads = {found for number in ("8.1", "8.2", "8.3", "10.4") for found in re.findall(r"head (\w{16})", said[number])}
    assert len(heads) == 1
    root = next(said[number] for number in ("6.1", "6.2") if number in said)
    vaults = {
        found for text in (root, said["7.1"], said["8.1"]) for found in re.findall(r"vault (\w{8}) on /mnt", text)
    }
    assert len(vaults) == 1
    folder = ceremony.online.folder / "project/ca/ceremonies/0001"
    assert vaults.pop() in (folder / "transcript.html").read_text()
