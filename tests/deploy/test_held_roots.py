"""A host for certificates only accepts a new root after it was bootstrapped again; until then that file alone is held back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pki.ceremony.online.make_request import RequestOptions
from pki.deploy import bootstrap
from pki.deploy.payload import Payload
from tests.support.ceremonies import RealHome
from tests.support.commands import Said, said_by
from tests.support.hosts import ME
from tests.support.left_sandbox import made
from tests.support.live_host import Live
from tests.support.projects import START

BOOTSTRAP = "./run invoke deploy.bootstrap media"
Call = Callable[..., Said]


@pytest.fixture
def live(real: RealHome, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A real project whose host `media` was deployed, for certificates only; its root is one that can sign a successor."""
    folder = real.path.parent / "machines"
    folder.mkdir()
    real.edit("    proxy: caddy\n", "    proxy: caddy\n    scope: certificates\n")
    return made(real, folder, monkeypatch)


def install(live: Live) -> str:
    """What the script of bootstrap would put there, for the release as it is."""
    payload = Payload.of(live.home.path / "build/release/media")
    assert payload
    user, group = ME.split(":")
    said = bootstrap.permissions_text("media", payload, live.delivery().records.receipt, exact=True)
    live.host.conf.write_text(f"{said}trust {user}\ntrust {group}\n")
    return "pki-apply is installed"


@pytest.fixture
def invoke(live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`./run invoke …` in this process; what bootstrap would install is written into the host's folder."""
    monkeypatch.setattr(bootstrap, "install", lambda *_arguments, **_options: install(live))

    def call(*arguments: str, days: float = 0) -> Said:
        now = START + timedelta(days=days)
        return said_by(capsys, *arguments, pki_home=str(live.home.path), pki_now=now, pki_called_from="/")

    return call


def everywhere(invoke: Call, text: str, days: float = 0) -> None:
    for command in ("plan", "status", "health"):
        said = invoke(command, days=days)
        assert text in " ".join(said.out.split()), (command, said.out)
        assert BOOTSTRAP in said.out, command


def store_files(live: Live) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in live.host.root.rglob("doit-pki-root-*.crt")}


def test_a_host_that_was_bootstrapped_by_an_earlier_version_is_named_until_it_is_bootstrapped_again(
    live: Live, invoke: Call
) -> None:
    text = "media was bootstrapped for certificates only by an earlier version: an attacker with its deployment key can install any root there"
    everywhere(invoke, text)
    assert invoke("deploy.bootstrap", "media").status == 0
    for command in ("plan", "status", "health"):
        assert "bootstrap" not in invoke(command).out, command
    [decision] = live.home.project().ledger.decisions(artifact="deploy:media")
    assert (decision.decision, decision.detail) == (
        "roots-permitted",
        live.home.project().authorities.existing("root-1").fingerprint,
    )
    assert invoke("deploy.bootstrap", "media").status == 0
    assert len(live.home.project().ledger.decisions(artifact="deploy:media")) == 1, "nothing new is recorded"


def test_a_new_root_is_held_back_alone_and_named_with_its_date_until_the_host_is_bootstrapped(
    live: Live, invoke: Call
) -> None:
    home = live.home
    assert isinstance(home, RealHome)
    assert invoke("deploy.bootstrap", "media").status == 0
    home.ceremony(RequestOptions(generations=("root",)), days=1)
    end = min(
        one.certificate.not_valid_after_utc
        for one in (home.project(1).authorities.existing(f"root-{n}") for n in (1, 2))
    )
    text = f"media does not accept root-2 before it is bootstrapped again; needed by {end:%Y-%m-%d}; "
    everywhere(invoke, text + "its file is not deployed until then", days=1)

    report = home.doit(days=1)
    assert report.status == 0, report.failed
    assert any("root-2.crt is not deployed" in one for one in report.made["deploy:media"].split("; ")), report.made
    assert store_files(live).keys() == {"doit-pki-root-1.crt"}
    held = json.loads(home.read("build/receipts/media.json"))["held"]
    assert [Path(path).name for path in held] == ["doit-pki-root-2.crt"] or len(held) == 2
    everywhere(invoke, text, days=1)
    assert home.doit(days=1).made == {}, "what is held back is no reason to deploy again"
    again = home.doit(days=2)
    assert (again.status, again.failed) == (0, {}), "nor is it at the daily check"

    assert invoke("deploy.bootstrap", "media", days=2).status == 0
    report = home.doit(days=2)
    assert report.status == 0, report.failed
    assert "deploy:media" in report.made
    assert store_files(live).keys() == {"doit-pki-root-1.crt", "doit-pki-root-2.crt"}
    assert report.data["notes"] == []
    assert home.doit(days=2).made == {}


def test_a_script_that_was_shown_and_not_run_leaves_the_host_named(live: Live, invoke: Call) -> None:
    home = live.home
    assert isinstance(home, RealHome)
    assert invoke("deploy.bootstrap", "media").status == 0
    home.ceremony(RequestOptions(generations=("root",)), days=1)
    assert invoke("deploy.bootstrap", "media", "--show", days=1).status == 0
    assert home.doit(days=1).status == 0
    everywhere(invoke, "media does not accept ", days=1)
    install(live)  # as root there, from what was shown
    assert invoke("deploy.push", "media", days=1).status == 0
    assert len(store_files(live)) == 2
    assert "bootstrap" not in invoke("plan", days=1).out


def test_a_host_that_accepts_a_root_that_has_left_is_named_until_it_is_bootstrapped_again(
    live: Live, invoke: Call
) -> None:
    project = live.home.project()
    accepted = f"{project.authorities.existing('root-1').fingerprint} {'0' * 64}"
    project.ledger.record_decision("deploy:media", "roots-permitted", accepted, project.now)
    project.ledger.close()
    everywhere(
        invoke, "media still accepts a root that was removed: an attacker with its deployment key can install it again"
    )
    assert invoke("deploy.bootstrap", "media").status == 0
    assert "bootstrap" not in invoke("plan").out


def test_other_files_that_are_new_are_refused_as_before(live: Live, invoke: Call) -> None:
    assert invoke("deploy.bootstrap", "media").status == 0
    live.home.write(
        "templates/more.pem",
        f"# deploy-target: {live.host.etc}/more.pem\n# deploy-hosts: media\n# deploy-artifact: tls:media\n",
    )
    assert "may not be placed here" in live.home.doit().failed["deploy:media"]
