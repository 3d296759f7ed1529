"""A new root goes to a host only where the host's present root vouches for it, or where it was accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from pki.ceremony.online.make_request import RequestOptions
from pki.common import sealed_records
from pki.common.errors import PkiError
from pki.deploy import bootstrap
from pki.deploy.ansible import fleet
from pki.deploy.payload import Payload
from pki.deploy.root_acceptance import RootAcceptance
from pki.pipeline import plan
from pki.project.layout import Store
from tests.support.ceremonies import RealHome
from tests.support.commands import Invoke, Said, said_by
from tests.support.hosts import ME
from tests.support.left_sandbox import made, out_of_the_sandbox
from tests.support.live_host import Live
from tests.support.projects import START, Home

ACCEPT = "./run invoke deploy.accept-root"


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path, days: float = 0) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        return said_by(capsys, *arguments, pki_home=str(home), **moment)

    return call


@pytest.fixture
def tried(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A sandbox with a real host."""
    return made(home, tmp_path, monkeypatch)


def on_host(live: Live) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in live.host.etc.rglob("*") if path.is_file()}


def test_after_the_sandbox_real_hosts_wait_until_the_root_is_accepted_once_for_all(tried: Live, invoke: Invoke) -> None:
    before = on_host(tried)
    home = out_of_the_sandbox(tried.home)
    fingerprint = home.project().authorities.existing("root-1").fingerprint
    report = home.doit()
    assert report.status == 0, report.failed
    assert "deploy:media" not in report.made
    assert {"release:media", "deploy:forge"} <= set(report.made), "hosts in folders need nothing"
    assert on_host(tried) == before
    text = f"media waits: deployed under another root, and root-1 (SHA-256 {fingerprint}) is not accepted there"
    assert [(note["subject"], note["text"], note["remedy"]) for note in report.data["notes"]] == [
        ("hosts", text, ACCEPT)
    ]
    for command in ("plan", "status", "health"):
        said = invoke(command, home=home.path)
        assert text in " ".join(said.out.split()), command
        assert ACCEPT in said.out
    said = invoke("deploy.accept-root", home=home.path)
    assert said.status == 1
    assert f"SHA-256 {fingerprint}" in said.out
    assert "SANDBOX Root CA 1" in said.out
    assert f"{ACCEPT} --yes" in said.error
    said = invoke("deploy.accept-root", "--yes", home=home.path)
    assert said.status == 0, said
    assert [(one.artifact, one.decision, one.detail) for one in home.project().ledger.decisions()] == [
        ("deploy:media", "root-accepted", fingerprint)
    ]
    report = home.doit()
    assert report.status == 0, report.failed
    assert set(report.made) == {"deploy:media"}
    assert report.data["notes"] == []
    assert json.loads(home.read("build/receipts/media.json"))["roots"].keys() == {fingerprint}
    assert home.doit().made == {}
    assert "no host waits" in invoke("deploy.accept-root", "--yes", home=home.path).out


@pytest.mark.parametrize("command", [["deploy.push", "media"], ["deploy.run", "media"]])
def test_no_command_takes_a_new_root_there_by_another_way(tried: Live, invoke: Invoke, command: list[str]) -> None:
    before = on_host(tried)
    home = out_of_the_sandbox(tried.home)
    home.doit()
    said = invoke(*command, home=home.path)
    assert on_host(tried) == before
    assert command[0] == "deploy.run" or (said.status, f"{ACCEPT} media" in said.error) == (1, True)
    with pytest.raises(PkiError, match="is not accepted for it"):
        fleet.prepare_payload(tried.delivery(), START)


def test_hosts_are_named_one_by_one_and_others_are_told_apart(
    tried: Live, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = out_of_the_sandbox(tried.home)
    home.doit()
    said = invoke("deploy.accept-root", "nobody", "--yes", home=home.path)
    assert (said.status, "unknown remote host 'nobody'" in said.error) == (1, True)
    said = invoke("deploy.accept-root", "forge", "--yes", home=home.path)
    assert (said.status, "unknown remote host 'forge'" in said.error) == (1, True)
    with monkeypatch.context() as patch:
        lock = Store.lock

        def waited(store: Store) -> AbstractContextManager[None]:
            home.edit("    deliver: ssh\n", "    deliver: folder\n")
            return lock(store)

        patch.setattr(Store, "lock", waited)
        said = invoke("deploy.accept-root", "media", "--yes", home=home.path)
    what = f"changed meanwhile; nothing was accepted\n→ {ACCEPT} media"
    assert (said.status, what in said.error) == (1, True), "somebody else changed pki.yaml while it waited"
    assert home.project().ledger.decisions() == []
    home.edit("    deliver: folder\n", "    deliver: ssh\n")
    said = invoke("deploy.accept-root", "media", "media", "--yes", home=home.path)
    assert said.status == 0, said
    assert set(home.doit().made) == {"deploy:media"}


def test_a_receipt_that_names_no_root_is_judged_by_what_was_delivered(tried: Live) -> None:
    path = tried.home.path / "build/receipts/media.json"
    receipt = sealed_records.decode_sealed(path.read_bytes())
    assert receipt
    del receipt["roots"]
    path.unlink()
    path.write_bytes(sealed_records.encode_sealed(receipt))
    home = out_of_the_sandbox(tried.home)
    assert "deploy:media" not in home.doit().made
    assert tried.delivery().root_acceptance.waits_for_root


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_host_whose_receipt_is_lost_is_judged_by_what_was_delivered(
    tried: Live, damage: Callable[[Path], object]
) -> None:
    damage(tried.home.path / "build/receipts/media.json")
    home = out_of_the_sandbox(tried.home)
    assert "deploy:media" not in home.doit().made
    assert tried.delivery().root_acceptance.waits_for_root


def test_a_host_that_was_deployed_by_nobody_needs_nothing(tried: Live) -> None:
    (tried.home.path / "build/receipts/media.json").unlink()
    shutil.rmtree(tried.home.path / "build/history/media")
    home = out_of_the_sandbox(tried.home)
    assert "deploy:media" in home.doit().made


@pytest.fixture
def real_live(real: RealHome, monkeypatch: pytest.MonkeyPatch) -> Live:
    folder = real.path.parent / "machines"
    folder.mkdir()
    return made(real, folder, monkeypatch)


def test_a_rollover_with_cross_certificates_goes_to_the_host_as_before(real_live: Live) -> None:
    home = real_live.home
    assert isinstance(home, RealHome)
    home.ceremony(RequestOptions(generations=("root",)), days=1)
    home.doit("release:media", days=1)
    payload = Payload.of(home.path / "build/release/media")
    assert payload
    permitted = bootstrap.permissions_text("media", payload, real_live.delivery(1).records.receipt, exact=True)
    user, group = ME.split(":")
    real_live.host.conf.write_text(f"{permitted}trust {user}\ntrust {group}\n")
    report = home.doit(days=1)
    assert report.status == 0, report.failed
    assert "deploy:media" in report.made
    assert report.data["notes"] == []


@pytest.mark.parametrize("spoil", ["gone", "damaged"])
def test_without_its_cross_certificate_a_new_root_waits(real_live: Live, spoil: str) -> None:
    home = real_live.home
    assert isinstance(home, RealHome)
    home.ceremony(RequestOptions(generations=("root",)), days=1)
    path = home.path / "ca/root/root-2/cross-root-1.pem"
    path.unlink()
    if spoil == "damaged":
        path.write_bytes(home.read("ca/root/root-1/cert.pem"))
    delivery = plan.plan(home.project(1)).deliveries["media"]
    assert delivery.root_acceptance.waits_for_root
    assert "deploy:media" not in home.doit(days=1).made


def test_nothing_is_read_of_hosts_that_did_not_change(real_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert real_live.doit(days=0.1).made == {}
    monkeypatch.setattr(RootAcceptance, "has_another_root", property(lambda _: pytest.fail("a receipt was read")))
    assert real_live.doit(days=0.2).made == {}
