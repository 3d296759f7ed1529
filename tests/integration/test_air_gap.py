"""A ceremony as a new user holds it: two clones and a stick between them, on machines without a network."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration import air_gap
from tests.integration.air_gap import Machine
from tests.integration.conftest import SoftHsm, run
from tests.integration.gap import PASSPHRASE, Gap
from tests.integration.openssl_judge import GENERATIONS, certificate_of


@pytest.fixture
def gap(tmp_path: Path) -> Gap:
    return Gap(tmp_path)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gap, str, int]:
    """A project with its request, and a kit on the stick: the one command that needs a network. And what the paper says."""
    gap = Gap(tmp_path_factory.mktemp("packed"))
    gap.found()
    environment = {**os.environ, "PKI_HOME": str(gap.project.path)}
    said = run(
        "sh", gap.online.program / "run", "invoke", "ceremony.kit", gap.stick, env=environment, timeout=air_gap.PATIENCE
    )
    return gap, air_gap.digest_in(said), air_gap.count_in(said)


def test_ceremony_from_a_kit_leaves_the_key_offline(packed: tuple[Gap, str, int], tmp_path: Path) -> None:
    gap, digest, count = packed
    kit = air_gap.unpacked(gap.stick / "doit-pki-kit", tmp_path, digest, count)
    offline = Machine(gap.offline.folder, kit, more={"HOME": str(tmp_path)})
    secret = ("--passphrase-file", gap.passphrase_file)
    gap.settle(gap.hold(offline, secret, secret))
    gap.judge()
    secrets = air_gap.secrets_of(gap.vault, PASSPHRASE)
    everywhere = air_gap.holders(secrets, gap.online.folder, gap.stick, gap.offline.folder, tmp_path)
    assert everywhere == {gap.vault / "root-1/key.pem", gap.passphrase_file}


def test_two_cards_of_three_open_the_root(gap: Gap) -> None:
    gap.found()
    cards, files = gap.offline.folder / "cards", []
    request, rest = gap.stick / "request-0001.yaml", ("--vault", gap.vault, "--words", gap.words)
    rest = (*rest, *air_gap.despite_swap(), *air_gap.folder_as_vault())
    people = gap.offline.at_terminal("ceremony.root", request, *rest, "--shares", "2of3", "--cards", cards)
    for number in (1, 2, 3):
        people.see("only its custodian looks now")
        people.type("")
        people.see("typed back from the card")
        card = (cards / f"share-{number}-of-3.html").read_text()
        files.append(gap.offline.folder / f"share-{number}.txt")
        files[-1].write_text(" ".join(re.findall(r'<li class="word"><b>\d+</b>([a-z]+)', card)))
        people.type(files[-1].read_text())
        people.see(f"share {number} of 3 is right")
    assert people.end() == 0, people.shown
    assert not any(" ".join(file.read_text().split()[17:]) in people.shown for file in files)
    people.close()
    sign = ("ceremony.sign", request, *rest, "--output", gap.stick)
    assert "1 missing" in gap.offline.invoke(*sign, "--share-file", files[1], ok=False)
    said = gap.offline.invoke(*sign, "--share-file", files[2], "--share-file", files[0])
    gap.settle(air_gap.words_in(said))
    gap.judge()
    shares = [file.read_text() for file in files]
    assert [len(share.split()) for share in shares] == [20, 20, 20]
    secrets = air_gap.secrets_of(gap.vault, air_gap.combined(shares[:2]))
    for share in shares:
        secrets += air_gap.spellings(share)
    assert air_gap.holders(secrets, gap.online.folder, gap.stick, gap.vault) == {gap.vault / "root-1/key.pem"}
    assert air_gap.holders(secrets, gap.offline.folder) == {gap.vault / "root-1/key.pem", *files}


def test_with_every_authority_in_a_token_no_key_of_one_lies_on_a_disk(gap: Gap, softhsm: SoftHsm) -> None:
    softhsm.token("root")
    softhsm.token("issuing")
    uri, pins = softhsm.uri(label="issuing"), f"server: '{softhsm.pin}'\nclient: '{softhsm.pin}'\n"
    gap.found(f'\nauthorities:\n  server: {{token: "{uri}"}}\n  client: {{token: "{uri}"}}\n', pins)
    root = softhsm.uri(label="root")
    pin = gap.offline.folder / "pin"
    pin.write_text(f"{softhsm.pin}\n")
    secret = ("--passphrase-file", pin)
    gap.settle(gap.hold(gap.offline, ("--token", str(root), *secret), secret))
    gap.judge()
    keys = air_gap.keys_below(gap.project.path, gap.stick, gap.vault)
    assert air_gap.key_of(gap.project.path / "build/certs/web/cert.pem") in keys
    assert not keys & {air_gap.key_of(certificate_of(gap.project, generation)) for generation in GENERATIONS}
    addresses = {path.relative_to(path.parents[2]).as_posix() for path in gap.project.path.glob("ca/*/*/key.uri")}
    assert addresses == {"server/server-1/key.uri", "client/client-1/key.uri"}


@pytest.mark.parametrize("place", range(3))
def test_search_finds_a_key_however_it_lies(tmp_path: Path, place: int) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    kinds = [key.private_bytes(kind, pkcs8, plain) for kind in (serialization.Encoding.DER, serialization.Encoding.PEM)]
    kinds.append(f"{key.private_numbers().private_value:096x}".encode())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_bytes(b"before" + kinds[place] + b"after")
    assert air_gap.holders(air_gap.forms_of(key), tmp_path) == {tmp_path / "deep/file"}
    stranger = ec.generate_private_key(ec.SECP384R1())
    assert not air_gap.holders(air_gap.forms_of(stranger), tmp_path)


# -- the kit ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kit(packed: tuple[Gap, str, int], tmp_path: Path) -> Machine:
    """A copy of the kit on a machine of its own, in a folder whose name has a space in it."""
    folder = tmp_path / "my kit"
    shutil.copytree(packed[0].stick / "doit-pki-kit", folder)
    return Machine(tmp_path, folder)


def test_kit_for_another_python_says_how_to_make_it_again(kit: Machine) -> None:
    (kit.program / "wheels/made-for").write_text("3.99 riscv64\n")
    said = kit.run("true", ok=False)
    assert "the kit was made for Python 3.99 on riscv64, this is Python 3." in said
    assert re.search(r"ceremony\.kit DIR --python 3\.\d+ --platform manylinux_2_28_\w+\n", said)
    assert not (kit.program / ".venv").exists()


def test_kit_with_a_changed_wheel_installs_nothing(kit: Machine) -> None:
    (wheel,) = (kit.program / "wheels").glob("pyrage-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"\n")
    said = kit.run("true", ok=False)
    assert "a wheel of this kit is missing, damaged, or made for a newer system" in said
    assert not (kit.program / ".venv").exists()
    assert "FAILED" in run("sha256sum", "--quiet", "-c", "SHA256SUMS", cwd=kit.program, ok=False)


def test_kit_needs_no_ensurepip_and_stays_quiet_once_it_is_installed(kit: Machine) -> None:
    lacking = kit.folder / "python"
    lacking.write_text(
        f'#!/bin/sh\ncase "$*" in *"import ensurepip"*) exit 1 ;; esac\nexec {shutil.which("python3")} "$@"\n'
    )
    lacking.chmod(0o755)
    machine = Machine(kit.folder, kit.program, more={"PYTHON": str(lacking)})
    assert "does not exist" in machine.invoke("ceremony.verify", "nowhere", ok=False)
    assert machine.run("sh", "-c", "echo here") == "here\n"


def test_kit_cannot_be_made_without_a_network(packed: tuple[Gap, str, int], tmp_path: Path) -> None:
    nothing = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_CACHE_DIR": "1", "HOME": str(tmp_path)}
    online = packed[0].online
    alone, medium = Machine(online.folder, online.program, "project", more=nothing), tmp_path / "medium"
    medium.mkdir()
    said = alone.invoke("ceremony.kit", medium, ok=False)
    assert "there is no network" in said
    assert not list(medium.iterdir())


def test_kit_on_a_medium_that_is_full_leaves_nothing_on_it(packed: tuple[Gap, str, int], tmp_path: Path) -> None:
    online, medium = packed[0].online, tmp_path / "medium"
    medium.mkdir()
    wheels = packed[0].stick / "doit-pki-kit/wheels"
    script = 'mount -t tmpfs -o size=8m tmpfs "$0" && ! "$@" && ls -A "$0"'
    command = ("sh", online.program / "run", "invoke", "ceremony.kit", medium)
    offline = {
        **os.environ,
        "PKI_HOME": str(packed[0].project.path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    inside = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    said = run(*inside, "sh", "-c", script, medium, *command, env=offline, timeout=air_gap.PATIENCE)
    assert "No space left on device" in said
    assert said.endswith("use another one, or free space\n"), "something was left on the medium"
