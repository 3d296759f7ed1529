"""Which drive is the vault: mounted, a drive of its own, empty or recognised; and nothing of it ever goes online."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from pki.ceremony import audit, drives, transcript_chain, vault_identity
from pki.ceremony.online import misplaced_keys
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.cli import prompt
from pki.common.errors import PkiError
from tests.support.ceremonies import RealHome, Typist, drives_at, first_ceremony, fit_typist
from tests.support.projects import PROJECT

REQUEST = ("out/request-0001.yaml", "--vault", "vault", "--passphrase-file", "secret")


@pytest.fixture
def typist(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    found = fit_typist(tmp_path, capsys, monkeypatch)
    found("ceremony.request", "--output", "out")
    return found


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    return first_ceremony(tmp_path_factory.mktemp("held"))


@pytest.fixture
def held(
    held_once: RealHome, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Typist:
    """After the first ceremony, at a machine in which vault, medium and out are drives."""
    fit_typist(tmp_path, capsys, monkeypatch)
    typist = Typist(held_once.copy(tmp_path / "held"), capsys)
    desk = typist.desk
    (desk / "medium").mkdir()
    shutil.copy(tmp_path / "desk/secret", desk)
    drives_at({"sda": desk / "vault", "sdb": desk / "out", "sdc": desk / "medium"}, tmp_path / "mounts")
    return typist


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def root(typist: Typist, *more: str) -> tuple[int, str]:
    return typist("ceremony.root", *REQUEST, "--words", typist.words_of("out/request-0001.yaml"), *more)


def sign(typist: Typist, *more: str) -> tuple[int, str]:
    words = typist.words_of("out/request-0001.yaml")
    return typist("ceremony.sign", *REQUEST, "--output", "out", "--words", words, *more)


def refused(answer: tuple[int, str]) -> str:
    """What was said by a command that refused with a sentence and a hint."""
    status, said = answer
    assert status == 1, said
    assert "\n→ " in said
    assert "Traceback" not in said
    return said


# -- what the kernel says ---------------------------------------------------------------------------------------------

LIVE = "1 0 0:21 / / rw - overlay overlay rw,lowerdir=/run/rootfs,upperdir=/cow/upper,workdir=/cow/work\n"
LAPTOP = "1 0 254:0 / / rw - ext4 /dev/nvme0n1p2 rw\n"


def fault_of(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> str:
    (tmp_path / "mounts").write_text(table.replace("VAULT", str(folder.resolve())))
    monkeypatch.setattr(drives, "MOUNTS", tmp_path / "mounts")
    fault = drives.vault_fault(folder)
    assert fault is None or fault.hint
    return fault.message.removeprefix(f"{folder}: ") if fault else ""


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (LAPTOP + "2 1 8:17 / VAULT rw - ext4 /dev/sdb1 rw\n", ""),
        (LIVE + "2 1 8:17 / VAULT rw shared:7 master:1 - ext4 /dev/sdb1 rw\n", ""),
        (LAPTOP + "2 1 0:40 / VAULT rw - btrfs /dev/sdb1 rw\n", ""),
        (
            LIVE,
            "no drive is mounted there: files would stay on this machine, and be lost when it is switched",
        ),
        (LAPTOP, "no drive is mounted there: files would stay on this machine"),
        (LIVE + "2 1 0:31 / VAULT rw - tmpfs tmpfs rw\n", "is in the memory of this machine (tmpfs), not on a drive"),
        (LIVE + "2 1 0:31 / VAULT rw - ramfs none rw\n", "is in the memory of this machine (ramfs), not on a drive"),
        (LIVE + "2 1 0:21 / VAULT rw - overlay overlay rw\n", "is in the memory of this machine (overlay)"),
        (LAPTOP + "2 1 254:0 /srv VAULT rw - ext4 /dev/nvme0n1p2 rw\n", "is on the file system that this machine runs"),
        (LAPTOP + "2 1 8:17 / VAULT rw - vfat /dev/sdb1 rw\n", "is vfat, which has no file permissions"),
        (LAPTOP + "2 1 8:17 / VAULT rw - ext4 /dev/sdb1 rw\n3 2 0:9 / VAULT rw - tmpfs x rw\n", "is in the memory of"),
    ],
)
def test_vault_is_a_drive_that_is_mounted_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, said: str
) -> None:
    folder = tmp_path / "my vault"
    folder.mkdir()
    fault = fault_of(folder, tmp_path, monkeypatch, _escaped(table, folder))
    assert fault.startswith(said)
    assert bool(fault) == bool(said)


def _escaped(table: str, folder: Path) -> str:
    return table.replace("VAULT", str(folder.resolve()).replace(" ", "\\040"))


def test_folder_on_the_drive_is_not_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = LAPTOP + f"2 1 8:17 / {tmp_path.resolve()} rw - ext4 /dev/sdb1 rw\n"
    (tmp_path / "inner").mkdir()
    assert "is a folder on the drive" in fault_of(tmp_path / "inner", tmp_path, monkeypatch, table)


def test_link_to_a_folder_in_memory_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "vault").symlink_to(tmp_path / "real")
    assert "no drive is mounted there" in fault_of(tmp_path / "vault", tmp_path, monkeypatch, LIVE)


def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: dict[str, str]) -> Path:
    """The kernel's block devices: each number with its place, as in /sys/dev/block."""
    folder = tmp_path / "blocks"
    folder.mkdir()
    for number, place in devices.items():
        (tmp_path / "devices" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "devices" / place / "dev").write_text(f"{number}\n")
        (folder / number).symlink_to(tmp_path / "devices" / place)
    monkeypatch.setattr(drives, "BLOCKS", folder)
    return tmp_path / "devices"


def test_two_partitions_of_one_drive_are_not_vault_and_exchange_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = blocks(tmp_path, monkeypatch, {"8:16": "sdb", "8:17": "sdb/sdb1", "8:18": "sdb/sdb2"})
    for name in ("sdb1", "sdb2"):
        (devices / "sdb" / name / "partition").touch()
    vault, exchange = tmp_path / "vault", tmp_path / "exchange"
    vault.mkdir()
    (exchange / "doit-pki-kit").mkdir(parents=True)
    table = LAPTOP + f"2 1 8:17 / {vault.resolve()} rw - ext4 /dev/sdb1 rw\n"
    assert fault_of(vault, tmp_path, monkeypatch, table) == ""
    table += f"3 1 8:18 / {exchange.resolve()} rw - ext4 /dev/sdb2 rw\n"
    fault = fault_of(vault, tmp_path, monkeypatch, table)
    assert fault == f"is the exchange drive, as {exchange.resolve()} is: doit-pki-kit"


@pytest.mark.parametrize("name", ["zram0", "ram3"])
def test_file_system_on_a_disk_in_memory_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    blocks(tmp_path, monkeypatch, {"250:0": name})
    (tmp_path / "vault").mkdir()
    table = LAPTOP + f"2 1 250:0 / {(tmp_path / 'vault').resolve()} rw - ext4 /dev/{name} rw\n"
    assert "is in the memory of this machine" in fault_of(tmp_path / "vault", tmp_path, monkeypatch, table)


def test_image_in_memory_is_in_memory_also_under_luks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = blocks(tmp_path, monkeypatch, {"7:0": "loop0", "253:0": "dm-0"})
    (devices / "dm-0/slaves").mkdir()
    (devices / "dm-0/slaves/loop0").symlink_to(devices / "loop0")
    (devices / "loop0/loop").mkdir()
    (tmp_path / "vault").mkdir()
    for place, said in (("/memory/vault.img", True), ("/srv/vault.img", False)):
        (devices / "loop0/loop/backing_file").write_text(f"{place}\n")
        table = LAPTOP + "5 1 0:30 / /memory rw - tmpfs tmpfs rw\n"
        table += f"2 1 253:0 / {(tmp_path / 'vault').resolve()} rw - ext4 /dev/mapper/vault rw\n"
        assert bool(fault_of(tmp_path / "vault", tmp_path, monkeypatch, table)) == said


# -- the first ceremony -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [LIVE, LAPTOP])
def test_no_root_is_made_where_the_vault_is_not_mounted(typist: Typist, tmp_path: Path, table: str) -> None:
    (tmp_path / "mounts").write_text(table)
    said = refused(root(typist))
    assert "vault: no drive is mounted there" in said
    assert "lsblk -o NAME,SIZE,LABEL,FSTYPE,MOUNTPOINTS" in said
    assert "mount LABEL=vault" in said
    assert files_of(typist.desk / "vault") == {}


def test_no_root_is_made_on_the_exchange_drive(typist: Typist) -> None:
    words = typist.words_of("out/request-0001.yaml")
    before = files_of(typist.desk / "out")
    order = (
        "ceremony.root",
        "out/request-0001.yaml",
        "--vault",
        "out",
        "--words",
        words,
        "--passphrase-file",
        "secret",
    )
    for more in ((), ("--folder-as-vault", "a test")):
        said = refused(typist(*order, *more))
        assert "out: is the exchange drive: request-0001.yaml" in said
    assert files_of(typist.desk / "out") == before


@pytest.mark.parametrize("name", ["holiday.jpg", "root-1/notes", ".ssh/id_rsa"])
def test_no_root_is_made_on_a_drive_that_is_not_empty(typist: Typist, name: str) -> None:
    path = typist.desk / "vault" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert f"vault: is not a vault, and not empty: {name.partition('/')[0]}" in refused(root(typist))
    assert files_of(typist.desk / "vault") == {name: b"mine"}


def test_what_a_file_system_or_a_desktop_puts_on_an_empty_drive_does_not_matter(typist: Typist) -> None:
    for name in ("lost+found", "System Volume Information", ".Trash-1000"):
        (typist.desk / "vault" / name).mkdir()
    status, said = root(typist)
    assert status == 0, said


def test_first_ceremony_writes_an_identity_and_every_later_step_says_it(typist: Typist) -> None:
    status, said = root(typist)
    assert status == 0, said
    number = re.findall(rf"^vault ([0-9a-f]{{8}}) on {typist.desk}/vault: /dev/sda1, ext4$", said, re.MULTILINE)
    found = vault_identity.read_identity(typist.desk / "vault")
    assert found is not None
    assert number == [found.vault]
    status, said = sign(typist)
    assert (status, f"vault {found.vault} on" in said) == (0, True), said
    opened = [record for record in typist.records() if record.step == "opened"]
    assert {record.facts["vault"] for record in opened} == {found.vault}
    assert {record.facts["drive"] for record in opened} == {f"/dev/sda1, ext4, on {typist.desk}/vault"}
    (typist.desk / "vault/vault.yaml").write_text((typist.desk / "vault/vault.yaml").read_text() + "\n")
    assert "vault.yaml: is damaged" in refused(sign(typist))


def interrupted(
    typist: Typist, monkeypatch: pytest.MonkeyPatch, answers: tuple[str, ...], *command: str
) -> tuple[int, str]:
    """What a command says when a person gives these answers, all of them, and then presses Ctrl-C."""
    left = iter(answers)

    def answer(_: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise KeyboardInterrupt from None

    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdin.isatty", lambda: True, raising=False)
        terminal.setattr("builtins.input", answer)
        terminal.setattr(prompt, "getpass", answer)
        found = typist(*command)
    assert list(left) == []
    return found


def test_command_that_is_stopped_or_refused_before_a_key_is_made_leaves_an_empty_drive_empty(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = typist.words_of("out/request-0001.yaml")
    for answers in ((), (words,), (words, "06:00"), (words, "06:00", "yes"), (words, "06:00", "yes", "")):
        said = interrupted(typist, monkeypatch, answers, "ceremony.root", *REQUEST[:3])[1]
        assert "stopped; nothing was written" in said, answers
        assert files_of(typist.desk / "vault") == {}
    refused(typist("ceremony.root", *REQUEST, "--words", "acid"))
    assert files_of(typist.desk / "vault") == {}
    status, said = root(typist)
    assert status == 0, said
    assert [one.step for one in typist.records()][:3] == ["opened", "environment", "plan"]
    before = files_of(typist.desk / "vault")
    for answers in ((), (words,), (words, "06:00")):
        status, said = interrupted(typist, monkeypatch, answers, "ceremony.sign", *REQUEST[:3], "--output", "out")
        assert (status, "stopped; nothing was written" in said) == (1, True), said
        assert files_of(typist.desk / "vault") == before


def test_folder_is_a_vault_only_with_a_reason_that_is_recorded(typist: Typist, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(LIVE)
    status, said = root(typist, "--folder-as-vault", "a virtual machine")
    assert status == 0, said
    status, said = sign(typist, "--folder-as-vault", "a virtual machine")
    assert status == 0, said
    deviations = [record.facts for record in typist.records() if record.step == "deviation"]
    assert [one["reason"] for one in deviations] == ["a virtual machine"] * 2
    assert all("the vault is not on a drive of its own: " in one["text"] for one in deviations)
    status, said = typist("ceremony.verify", "vault")
    assert (status, "all is as it was made" in said) == (0, True), said


@pytest.mark.parametrize("mounted", [True, False])
def test_root_that_has_signed_nothing_yet_is_no_damage_and_what_comes_next_is_told(
    typist: Typist, tmp_path: Path, mounted: bool
) -> None:
    """The second drive is made after the signatures; who is early is told the line."""
    root(typist)
    desk = typist.desk
    (desk / "medium").mkdir()
    if not mounted:
        drives_at({"sda": desk / "vault", "sdc": desk / "medium"}, tmp_path / "mounts")
    before = files_of(desk / "vault")
    line = f"ceremony.sign {desk}/out/request-0001.yaml --vault {desk}/vault --output {desk}/out"
    form = f"ceremony.sign REQUEST --vault {desk}/vault --output DIR, where REQUEST is request-0001.yaml"
    said = refused(typist("ceremony.copy", "--vault", "vault", "--to", "medium"))
    status, verified = typist("ceremony.verify", "vault")
    for told in (said, verified):
        assert f"{desk}/vault: root-1 was created and has signed nothing yet" in told
        assert f"→ go on: sh run invoke {line if mounted else form}" in told
        assert "sound" not in told
    assert (status, "failed" in verified) == (0, False)
    assert "other drive" not in said
    assert (files_of(desk / "vault"), files_of(desk / "medium")) == (before, {})
    other = (desk / "vault/root-1/cert.pem").read_bytes()
    (desk / "vault/root-1/cert.pem").write_bytes(other.replace(b"A", b"B", 1))
    assert typist("ceremony.verify", "vault")[0] == 1
    (desk / "vault/root-1").rename(desk / "vault/root-2")
    (desk / "vault/root-2/cert.pem").write_bytes(other)
    status, verified = typist("ceremony.verify", "vault")
    assert (status, "root-2/cert.pem: is from no recorded ceremony" in verified) == (1, True), verified


# -- signing ----------------------------------------------------------------------------------------------------------


def test_on_an_empty_drive_sign_asks_whether_it_is_the_vault_and_suggests_no_second_root(typist: Typist) -> None:
    said = refused(sign(typist))
    assert "vault: is empty: is this the vault?" in said
    assert "ceremony.root" not in said
    assert "mount LABEL=vault" in said
    assert files_of(typist.desk / "vault") == {}


def test_on_a_copy_that_lacks_the_new_root_sign_asks_whether_it_is_the_vault(held: Typist) -> None:
    """A copy of the ceremony before, mounted in place of the vault on which the new root was made."""
    shutil.copytree(held.desk / "vault", held.desk / "medium", dirs_exist_ok=True)
    held("ceremony.request", "--new", "root", "--output", "out", days=1)
    words = held.words_of("out/request-0002.yaml")
    rest = ("out/request-0002.yaml", "--words", words, "--passphrase-file", "secret")
    status, said = held("ceremony.root", *rest, "--vault", "vault", days=1)
    assert status == 0, said
    said = refused(held("ceremony.sign", *rest, "--vault", "medium", "--output", "out", days=1))
    assert "root-2 is not on this drive; is this the vault on which ceremony.root made it?" in said
    assert "make" not in said.partition("→")[2]


@pytest.mark.parametrize("place", ["vault", "vault/inner", "."])
def test_response_is_never_written_to_the_vault(typist: Typist, place: str) -> None:
    root(typist)
    words = typist.words_of("out/request-0001.yaml")
    before = files_of(typist.desk / "vault")
    (typist.desk / place).mkdir(exist_ok=True)
    order = ("ceremony.sign", *REQUEST, "--words", words, "--output", place)
    said = refused(typist(*order))
    assert "is on the drive of the vault, which is only for the root key" in said
    assert "--output /mnt/exchange" in said
    assert files_of(typist.desk / "vault") == before
    said = refused(typist(*order, "--folder-as-vault", "a test"))
    assert "is on the drive of the vault" in said


@pytest.mark.parametrize("place", ["medium", "medium/inner"])
def test_response_is_never_written_to_the_second_drive_of_a_vault(held: Typist, place: str) -> None:
    assert held("ceremony.copy", "--vault", "vault", "--to", "medium")[0] == 0
    (held.desk / place).mkdir(exist_ok=True)
    before = files_of(held.desk / "medium"), files_of(held.desk / "vault")
    words = held.words_of("out/response-0001/request.yaml")
    order = ("out/response-0001/request.yaml", "--vault", "vault", "--words", words, "--output", place)
    for more in ((), ("--folder-as-vault", "a test")):
        said = refused(held("ceremony.sign", *order, *more))
        assert f"--output {held.desk}/{place}: is on the drive of a vault, which is only for the root key" in said
        assert "--output /mnt/exchange" in said
    assert (files_of(held.desk / "medium"), files_of(held.desk / "vault")) == before


@pytest.mark.parametrize("is_copy", [True, False])
def test_response_that_lies_on_the_second_drive_is_named_with_what_removes_it(held: Typist, is_copy: bool) -> None:
    if is_copy:
        assert held("ceremony.copy", "--vault", "vault", "--to", "medium")[0] == 0
    shutil.copytree(held.desk / "out/response-0001", held.desk / "medium/response-0001")
    said = refused(held("ceremony.copy", "--vault", "vault", "--to", "medium"))
    assert "medium: is the exchange drive: response-0001" in said
    removing = re.findall(r"is this nevertheless the second drive of the vault\? (rm -r .+)", said)
    assert removing == [f"rm -r {held.desk}/medium/response-0001"], said
    assert "ceremony.sign writes the response to the exchange drive again" in said
    shutil.rmtree(shlex.split(removing[0])[-1])
    status, said = held("ceremony.copy", "--vault", "vault", "--to", "medium")
    assert status == 0, said


def test_response_is_not_left_in_the_memory_of_the_machine(typist: Typist, tmp_path: Path) -> None:
    root(typist)
    (tmp_path / "mounts").write_text(LIVE + f"2 1 8:1 / {typist.desk.resolve()}/vault rw - ext4 /dev/sda1 rw\n")
    assert "out: is in the memory of this machine (overlay), not on a drive" in refused(sign(typist))


@pytest.mark.parametrize("place", ["vault", "vault/cards", "out/cards"])
def test_cards_are_never_written_to_the_vault_nor_to_the_exchange_drive(typist: Typist, place: str) -> None:
    words = typist.words_of("out/request-0001.yaml")
    order = ("out/request-0001.yaml", "--vault", "vault", "--words", words, "--shares", "2of3", "--cards", place)
    said = refused(typist("ceremony.root", *order))
    assert "is on the drive of the vault" in said or "would be on the exchange drive" in said
    assert "--cards /dev/shm/cards" in said
    assert files_of(typist.desk / "vault") == {}
    assert not list(typist.desk.rglob("share-*"))


# -- the second drive -------------------------------------------------------------------------------------------------


def test_second_drive_is_equal_and_recognised_by_the_same_number(held: Typist) -> None:
    for name in ("lost+found", ".Trash-0"):
        (held.desk / "medium" / name).mkdir()
    status, said = held("ceremony.copy", "--vault", "vault", "--to", "medium")
    assert status == 0, said
    found = vault_identity.read_identity(held.desk / "medium")
    assert found is not None
    assert found == vault_identity.read_identity(held.desk / "vault")
    assert f"vault {found.vault} on {held.desk}/medium: /dev/sdc1, ext4" in said
    head = re.findall(r"both drives are equal; head ([0-9a-f]{16})$", said, re.MULTILINE)
    assert files_of(held.desk / "medium") == files_of(held.desk / "vault")
    assert (held.desk / "medium/root-1/key.pem").stat().st_mode & 0o777 == 0o600
    for drive in ("vault", "medium"):
        status, said = held("ceremony.verify", drive)
        assert (status, f"head {head[0]}" in said, "all is as it was made" in said) == (0, True, True), said


def test_copy_is_brought_up_to_date_and_what_was_destroyed_is_destroyed_there(held: Typist) -> None:
    held("ceremony.copy", "--vault", "vault", "--to", "medium")
    before = files_of(held.desk / "medium")
    held.home.ceremony(RequestOptions(crls=True), days=1)
    assert files_of(held.desk / "vault").keys() - before.keys()
    status, said = held("ceremony.copy", "--vault", "vault", "--to", "medium", days=1)
    assert status == 0, said
    assert files_of(held.desk / "medium") == files_of(held.desk / "vault")
    assert any(re.search(r"ceremonies/0001/root-1-crl", name) for name in before)
    assert not list((held.desk / "medium/ceremonies/0001").glob("*-crl-*"))


def test_newer_drive_is_never_overwritten_with_the_older_one(held: Typist) -> None:
    held("ceremony.copy", "--vault", "vault", "--to", "medium")
    held.home.ceremony(RequestOptions(crls=True), days=1)
    before = files_of(held.desk / "vault")
    said = refused(held("ceremony.copy", "--vault", "medium", "--to", "vault", days=1))
    assert "the two drives are swapped" in said
    assert f"--vault {held.desk}/vault --to {held.desk}/medium" in said
    assert files_of(held.desk / "vault") == before


def refusal(typist: Typist, drive: str) -> None:
    """A record of its own on a drive, as a refused command writes it."""
    transcript = Transcript(typist.desk / drive / "transcript.jsonl", lambda: typist.home.moment(1))
    transcript.record("refused", reason=f"at {drive}")


@pytest.fixture
def twins(held: Typist) -> Typist:
    """After the copy, with the request still on the exchange drive."""
    shutil.copy(held.desk / "vault/ceremonies/0001/request.yaml", held.desk / "out/request-0001.yaml")
    assert copied(held, "vault", "medium")[0] == 0
    return held


def copied(typist: Typist, vault: str, to: str, *more: str) -> tuple[int, str]:
    return typist("ceremony.copy", "--vault", vault, "--to", to, *more)


def test_response_that_is_shown_again_at_both_drives_leaves_them_equal(twins: Typist) -> None:
    before = {drive: files_of(twins.desk / drive) for drive in ("vault", "medium")}
    for drive in before:
        status, said = twins("ceremony.sign", "out/request-0001.yaml", "--vault", drive, "--output", "out")
        assert status == 0, said
    assert {drive: files_of(twins.desk / drive) for drive in before} == before
    for pair in (("vault", "medium"), ("medium", "vault")):
        status, said = copied(twins, *pair)
        assert status == 0, said


def told_line(said: str) -> list[str]:
    """The arguments of the command that a hint ends with."""
    return shlex.split(said.rstrip().rpartition("sh run invoke ")[2])


def test_drives_with_records_of_their_own_are_made_equal_by_the_line_that_is_told(twins: Typist) -> None:
    """A refusal is written at once, to whichever drive it was refused at."""
    before = files_of(twins.desk / "medium")
    for drive in ("vault", "medium"):
        refusal(twins, drive)
    for pair in (("vault", "medium"), ("medium", "vault")):
        said = refused(copied(twins, *pair))
        assert "both drives have records of their own" in said
        assert f"use {twins.desk}/{pair[0]}, on neither a key was used: " in said
    said = refused(copied(twins, "vault", "medium"))
    lost = transcript_chain.load((twins.desk / "medium/transcript.jsonl").read_bytes(), "medium")[-1].hash[:16]
    status, said = twins(*told_line(said))
    assert status == 0, said
    assert lost in said
    assert files_of(twins.desk / "medium") == files_of(twins.desk / "vault") != before
    deviation = twins.records()[-1]
    assert (deviation.step, lost in deviation.facts["text"]) == ("deviation", True)
    words = twins.words_of("out/request-0001.yaml")
    order = ("ceremony.sign", "out/request-0001.yaml", "--vault", "vault", "--output", "out", "--words", words)
    assert twins(*order)[0] == 0
    assert copied(twins, "vault", "medium")[0] == 0
    heads = {
        (twins.desk / place / "transcript.jsonl").read_bytes() for place in ("vault", "medium", "out/response-0001")
    }
    assert len(heads) == 1
    assert twins("ceremony.verify", "medium")[0] == 0


def test_drive_on_which_a_key_was_used_is_believed_and_never_overwritten(twins: Typist) -> None:
    refusal(twins, "medium")
    twins.home.ceremony(RequestOptions(crls=True), days=1)
    before = files_of(twins.desk / "vault")
    said = refused(copied(twins, "medium", "vault", "--despite", "a test"))
    assert f"use {twins.desk}/vault, where a key was used" in said
    assert files_of(twins.desk / "vault") == before
    status, said = twins(*told_line(said))
    assert status == 0, said
    assert files_of(twins.desk / "medium") == files_of(twins.desk / "vault")


def test_two_drives_on_both_of_which_a_key_was_used_are_left_as_they_are(twins: Typist) -> None:
    for drive in ("vault", "medium"):
        transcript = Transcript(twins.desk / drive / "transcript.jsonl", lambda: twins.home.moment(1))
        transcript.record("opened-key", name="root-1", sha256=drive)
    before = files_of(twins.desk)
    for pair in (("vault", "medium"), ("medium", "vault")):
        said = refused(copied(twins, *pair, "--despite", "a test"))
        assert "on both a key was used" in said
        assert f"ceremony.copy --vault {twins.desk}/vault --to {twins.desk}/medium" in said
    assert files_of(twins.desk) == before


def test_copy_is_not_made_where_no_second_drive_is_mounted(held: Typist, tmp_path: Path) -> None:
    """Where `all is as it was made` was said of a copy that the next power-off takes away."""
    drives_at({"sda": held.desk / "vault"}, tmp_path / "mounts")
    assert "medium: no drive is mounted there" in refused(held("ceremony.copy", "--vault", "vault", "--to", "medium"))
    assert files_of(held.desk / "medium") == {}
    shutil.copytree(held.desk / "vault", held.desk / "medium", dirs_exist_ok=True)
    status, said = held("ceremony.verify", "medium")
    assert status == 1
    assert "no drive is mounted there" in said
    assert "all is as it was made" not in said


@pytest.mark.parametrize("target", ["vault", "out", "another vault"])
def test_copy_goes_to_no_drive_but_an_empty_one_or_its_own(held: Typist, target: str) -> None:
    other = None
    if target == "another vault":
        other = vault_identity.recognise(Vault(held.desk / "medium"), held.home.moment(0), may_begin=True)
        vault_identity.write_identity(Vault(held.desk / "medium"), other)
    before = files_of(held.desk)
    said = refused(held("ceremony.copy", "--vault", "vault", "--to", "medium" if "another" in target else target))
    expected = {
        "vault": "is on the drive of the vault",
        "out": "is the exchange drive: response-0001",
        "another vault": f"is vault {other and other.vault}, another one",
    }
    assert expected[target] in said
    assert {name: data for name, data in files_of(held.desk).items() if name != "vault/vault.yaml"} == before


def test_vault_that_is_damaged_is_not_copied_over_a_good_drive(held: Typist) -> None:
    held("ceremony.copy", "--vault", "vault", "--to", "medium")
    before = files_of(held.desk / "medium")
    response = held.desk / "vault/ceremonies/0001/response.yaml"
    response.write_bytes(response.read_bytes().replace(b"root-1", b"root-7", 1))
    assert "vault: has a fault" in refused(held("ceremony.copy", "--vault", "vault", "--to", "medium"))
    assert files_of(held.desk / "medium") == before


def test_drive_that_does_not_keep_what_is_written_to_it_is_told(held: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def forgetful(path: Path) -> bytes:
        data = read(path)
        return data[:-1] + b"?" if path.parts[-3:] == ("medium", "root-1", "key.pem") else data

    monkeypatch.setattr(Path, "read_bytes", forgetful)
    said = refused(held("ceremony.copy", "--vault", "vault", "--to", "medium"))
    assert "medium: root-1/key.pem is not what was written to it" in said


# -- at the online machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "root-1/key.pem",
        "root-12/key.uri",
        "vault/root-1/key.pem",
        ".root-1.new/key.pem",
        "share-3-of-3.html",
        "cards/share-1-of-5.html",
        "response-0001/extra.txt",
        "response-0001/deep/key",
    ],
)
def test_response_with_private_keys_beside_it_is_not_accepted(typist: Typist, name: str) -> None:
    root(typist)
    sign(typist)
    path = typist.desk / "out" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n")
    spoken = typist.words_of("out/response-0001/response.yaml")
    said = refused(typist("ceremony.accept", "out/response-0001", "--words", spoken))
    assert f"private keys are next to the response, on a machine with a network: {path}" in said
    assert f"shred -u {path}" in said
    assert not (typist.home.path / "ca/root/root-1/cert.pem").exists()
    path.unlink()
    status, said = typist("ceremony.accept", "out/response-0001", "--words", spoken)
    assert status == 0, said


def test_the_program_of_a_kit_is_not_taken_for_keys(tmp_path: Path) -> None:
    """Its own files name the marks of private keys, and the kit lies on the drive that brings the response."""
    shutil.copytree(PROJECT / "pki", tmp_path / "exchange/doit-pki-kit/pki")
    misplaced_keys.check_no_keys(tmp_path / "exchange", tmp_path / "offline")
    (tmp_path / "exchange/key").write_text("x\n-----BEGIN EC PRIVATE KEY-----\r\nMIIB\r\n")
    with pytest.raises(PkiError, match="private keys are next to the response"):
        misplaced_keys.check_no_keys(tmp_path / "exchange", tmp_path / "offline")


def test_vault_is_refused_where_the_online_machine_would_write_to_it(typist: Typist) -> None:
    root(typist)
    before = files_of(typist.desk / "vault")
    for command in (("ceremony.request", "--output", "vault"), ("ceremony.kit", "vault")):
        said = refused(typist(*command))
        assert "vault: is a vault: a root key is on it, and this machine has a network" in said
    assert files_of(typist.desk / "vault") == before


def test_identity_of_a_vault_is_the_only_file_that_the_vault_adds(held_once: RealHome, tmp_path: Path) -> None:
    vault = held_once.copy(tmp_path / "copy").vault
    before = files_of(vault.folder)
    found = vault_identity.recognise(vault, held_once.moment(0), may_begin=False)
    assert files_of(vault.folder) == before
    vault_identity.write_identity(vault, found)
    assert files_of(vault.folder).keys() - before.keys() == {"vault.yaml"}
    assert vault_identity.recognise(vault, held_once.moment(9), may_begin=True) == found
    assert audit.verify(vault.folder).faults == []
    assert os.stat(vault.folder / "vault.yaml").st_mode & 0o777 == 0o644


@pytest.mark.parametrize("data", [b"", b"\xff", b"vault: x\n", b"format: doit-pki vault 1\nvault: 0badcafe\n"])
def test_identity_that_is_not_as_it_was_written_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "vault.yaml").write_bytes(data)
    with pytest.raises(PkiError, match=r"vault\.yaml: is damaged"):
        vault_identity.read_identity(tmp_path)
