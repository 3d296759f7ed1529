"""A project whose host is delivered to by a dialogue, and that host."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.deploy import bootstrap, verification
from pki.deploy.delivery import Delivery
from pki.deploy.payload import Payload
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint
from pki.pipeline import delivery_targets, plan
from tests.support.copies import copy_project
from tests.support.hosts import ME, FolderHost
from tests.support.projects import Home, Report

NAME = "jellyfin.lab.internal"
CRL = "templates/extra/crl.pem"


@dataclass
class Live:
    """A project whose host `media` is delivered to by a dialogue, and that host."""

    home: Home
    host: FolderHost
    transports: dict[str, Transport]
    endpoints: list[Endpoint]

    def reached(self, patch: pytest.MonkeyPatch) -> None:
        """Let deliveries take our transports, and find our services."""
        patch.setattr(delivery_targets, "transport_of", lambda _inventory, _store, name, _host: self.transports[name])
        patch.setattr(delivery_targets, "endpoints", lambda _world, _host: iter(self.endpoints))

    def doit(self, days: float = 0) -> Report:
        return self.home.doit(days=days)

    def refusal(self, days: float = 0) -> str:
        """Why a delivery fails that is tried without a run around it."""
        with pytest.raises(PkiError) as refused:
            self.delivery(days).deliver(self.home.moment(days))
        return f"{refused.value.message} → {refused.value.hint}"

    def delivery(self, days: float = 0) -> Delivery:
        return plan.plan(self.home.project(days)).deliveries["media"]

    def on(self, path: str) -> Path:
        """A file on the host."""
        return self.host.root / path.lstrip("/")

    def because(self, report: Report) -> str:
        """Why the delivery failed; nothing else may have."""
        assert report.status in {1, 2}, report.data
        assert report.failed.keys() == {"deploy:media"}, report.failed
        return report.failed["deploy:media"]

    def history(self) -> list[dict[str, object]]:
        log = self.home.path / "build/history/media/log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def receipt(self) -> dict[str, object]:
        receipt: dict[str, object] = json.loads(self.home.read("build/receipts/media.json"))
        return receipt

    def reloads(self) -> int:
        log = self.host.root / "reloads"
        return len(log.read_text().splitlines()) if log.exists() else 0


def aimed(home: Home, host: FolderHost) -> None:
    """Aim all templates below the host's folder, at its owner and its commands; `media` is delivered to by ssh."""
    root = host.root
    for name, line in (("check", f"! test -e {root}/broken"), ("reload", f"echo x >>{root}/reloads")):
        (root / name).write_text(f"{line} || {{ echo it is broken; exit 1; }}\n")
    for path in (home.path / "templates").rglob("*"):
        if path.is_file():
            text = re.sub(r"(?m)^(.*)deploy-owner:.*\n", "", path.read_text())
            text = re.sub(r"(?m)^(.*deploy-target: )(/.*)$", rf"\g<1>{root}\2", text)
            text = re.sub(r"(?m)^(.*deploy-validate: ).*$", rf"\g<1>sh {root}/check", text)
            text = re.sub(r"(?m)^(.*deploy-reload: ).*$", rf"\g<1>sh {root}/reload", text)
            text = re.sub(r"(?m)^(.*)deploy-hosts: (.*)$", rf"\g<0>\n\g<1>deploy-owner: {ME}", text, count=1)
            path.write_text(text)
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    deliver: ssh\n")
    home.write(
        CRL,
        f"# deploy-target: {root}/etc/client-crl.pem\n# deploy-hosts: media\n# deploy-owner: {ME}\n"
        f"# deploy-artifact: crl-pem:client\n# deploy-reload: sh {root}/reload\n",
    )
    (home.path / "build/receipts/media.json").unlink()


@pytest.fixture(scope="session")
def kind() -> type[Home]:
    """Whose clock stands at START; the integration tests have one that goes."""
    return Home


@pytest.fixture(scope="session")
def delivered_once(built_once: Path, kind: type[Home], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project and its host after the first delivery, to be copied to where they were: targets are absolute paths."""
    folder = tmp_path_factory.mktemp("delivered")
    copy_project(built_once, folder / "work/home")
    home = kind(folder / "work/home")
    live = Live(home, FolderHost.new(folder / "work/host"), {}, [])
    live.host.clock.write_text(str(int(home.moment().timestamp())))
    aimed(live.home, live.host)
    live.transports["media"] = live.host.transport()
    with pytest.MonkeyPatch.context() as patch:
        live.reached(patch)
        permit(live)
        report = live.doit()
        assert report.status == 0, report.failed
    copy_project(folder / "work", folder / "pristine")
    return folder


@pytest.fixture
def delivered(delivered_once: Path, kind: type[Home], monkeypatch: pytest.MonkeyPatch) -> Live:
    """The example, whose host `media` has taken its first release by a dialogue."""
    shutil.rmtree(delivered_once / "work")
    copy_project(delivered_once / "pristine", delivered_once / "work")
    live = Live(kind(delivered_once / "work/home"), FolderHost(delivered_once / "work/host"), {}, [])
    live.transports["media"] = live.host.transport()
    live.reached(monkeypatch)
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0.3)
    return live


def permit(live: Live) -> None:
    """What `deploy.bootstrap` would put there."""
    assert live.home.doit("release:media").status == 0
    payload = Payload.of(live.home.path / "build/release/media")
    assert payload
    user, group = ME.split(":")
    printed = bootstrap.permissions_text("media", payload, live.delivery().records.receipt, exact=True)
    live.host.conf.write_text(f"{printed}trust {user}\ntrust {group}\n")


def change_something(live: Live) -> None:
    for old in ("caddy/Caddyfile", "haproxy/haproxy.cfg"):
        path = live.home.path / "templates" / old
        path.write_text(f"{path.read_text()}# changed\n")
