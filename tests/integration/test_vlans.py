"""The story of the VLANs: Grafana from the management VLAN with the certificate, Jellyfin for everybody on its own."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli import demo_command
from pki.common.terminal import Screen
from pki.config import loader
from pki.demo import vlans
from pki.demo.visits import ANSWERED, NOT_REACHABLE, REFUSED, PageRequest, PageResponse
from pki.demo.vlans import NEW, OLD, PROJECT_FOLDER, Demo
from tests.integration.machine_state import surroundings
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

GRAFANA, JELLYFIN = "https://grafana.lab.internal/", "https://jellyfin.lab.internal/"
CRL = "http://pki.lab.internal/crl/client-1.crl"


@dataclass(frozen=True)
class Told:
    """The story after its end, while its machines are still there."""

    story: Demo
    seen: list[PageResponse]

    def outcomes(self, url: str) -> dict[tuple[str, str], str]:
        """(who, with which certificate) → what came of it."""
        return {
            (one.request.visitor.name, one.request.certificate): one.outcome
            for one in self.seen
            if one.request.url == url
        }


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with vlans.demo(Screen()) as story:
        yield Told(story, story.run())


def test_everything_is_as_the_story_promises(told: Told) -> None:
    assert [one.row for one in told.seen if not one.is_expected] == []


def test_grafana_is_reached_with_the_certificate_from_the_management_vlan_and_from_nowhere_else(told: Told) -> None:
    assert told.outcomes(GRAFANA) == {
        ("admin", NEW): ANSWERED,
        ("admin", ""): REFUSED,
        ("admin", OLD): REFUSED,
        ("guest", NEW): NOT_REACHABLE,
        ("tv", NEW): NOT_REACHABLE,
        ("forge", NEW): NOT_REACHABLE,
    }
    answered = [one.body for one in told.seen if one.request.url == GRAFANA and one.outcome == ANSWERED]
    assert answered == ['{"service": "grafana", "client": "CN=admin,O=Example Lab"}'] * 2


def test_jellyfin_answers_everybody_over_plain_tls_and_hears_of_no_client(told: Told) -> None:
    assert told.outcomes(JELLYFIN) == {("tv", ""): ANSWERED, ("guest", ""): ANSWERED, ("admin", ""): ANSWERED}
    assert {one.body for one in told.seen if one.request.url == JELLYFIN} == {'{"service": "jellyfin", "client": ""}'}


def test_the_crl_that_guests_fetch_lists_the_revoked_certificate_and_not_the_new_one(told: Told) -> None:
    text = told.story.guest.run("sh", "-c", f"curl -sS -m 5 {CRL} | openssl crl -inform DER -noout -text").stdout
    serial = {
        name: told.story.admin.run("openssl", "x509", "-in", f"/root/{name}.pem", "-noout", "-serial").stdout.strip()
        for name in (NEW, OLD)
    }
    assert serial[OLD].removeprefix("serial=") in text
    assert serial[NEW].removeprefix("serial=") not in text


def test_it_is_the_firewall_that_keeps_guests_from_grafana(told: Told) -> None:
    """The control: without its rule the same visit with the same certificate is answered, and refused without one."""
    assert PageRequest(told.story.guest, GRAFANA, ANSWERED, NEW).send().outcome == NOT_REACHABLE
    told.story.lab.permit("clients", told.story.hosts["monitoring"], 443)
    told.story.hand_out(NEW, told.story.guest)
    assert PageRequest(told.story.guest, GRAFANA, ANSWERED, NEW).send().outcome == ANSWERED
    assert PageRequest(told.story.guest, GRAFANA, ANSWERED).send().outcome == REFUSED


def test_what_was_delivered_is_what_is_served_and_there_is_nothing_left_to_do(told: Told) -> None:
    for name, host in told.story.config.hosts.items():
        receipt = json.loads(told.story.ca.read(PROJECT_FOLDER / f"build/receipts/{name}.json"))
        assert receipt["transport"] == "ssh"
        assert receipt["verification"] == {key: ["verified", "verified"] for key in host.services}
    assert is_idle(told.story.doit())


def test_deliveries_go_through_sshd_with_a_key_that_opens_no_shell(told: Told) -> None:
    ca, key = told.story.ca, f"{PROJECT_FOLDER}/ca/deploy/id_ed25519"
    for name, host in told.story.hosts.items():
        line = ("ssh", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", key, f"root@{name}", "id")
        assert "uid=" not in ca.run(*line, check=False).stdout
        assert ca.run("ssh", "-o", "BatchMode=yes", f"root@{name}", "id", check=False).returncode == 255
        fingerprint = ca.run("ssh-keygen", "-lf", f"{key}.pub").stdout.split()[1]
        assert f"Accepted publickey for root from {ca.address}" in host.read("/var/log/sshd.log")
        assert fingerprint in host.read("/var/log/sshd.log")
        assert host.read("/var/log/systemctl.log").count("reload") >= 1


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_tells_the_story_opens_a_shell_and_leaves_nothing_behind() -> None:
    before, (ours, theirs) = surroundings(), pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "demo.vlans", "--keep"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=PROJECT,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
        start_new_session=True,
    )
    os.close(theirs)
    said, asked = "", False
    deadline = time.monotonic() + 600
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        assert time.monotonic() < deadline, said
        try:
            said += os.read(ours, 4096).decode(errors="replace") if select.select([ours], [], [], 0.1)[0] else ""
        except OSError:  # Linux says EIO when nobody holds the other end any more
            break
        if not asked and "exit ends it" in said:
            asked = True
            os.write(
                ours, b"hostname; stty sane; curl --cacert roots.pem --cert admin.pem https://loki.lab.internal; exit\n"
            )
    os.close(ours)
    assert process.wait(300) == 0, said
    assert '\nadmin\r\n{"service": "loki"' in said
    assert "as expected; the machines were removed" in said
    assert surroundings() == before


def test_a_broken_promise_is_shown_and_ends_the_command_badly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Liar:
        def __init__(self) -> None:
            admin: Any = type("Named", (), {"name": "admin", "vlan": "mgmt"})()
            self.seen = PageResponse(PageRequest(admin, GRAFANA, ANSWERED), 7, 0, "", "curl: (7) no")

        def run(self) -> list[PageResponse]:
            return [self.seen, replace(self.seen, request=replace(self.seen.request, expected=NOT_REACHABLE))]

    @contextmanager
    def lies(_: Screen) -> Iterator[Liar]:
        yield Liar()

    monkeypatch.setattr(vlans, "demo", lies)
    with pytest.raises(Exit, match="1 of 2 results are not as expected") as ended:
        demo_command.vlans(Context())
    assert ended.value.code == 1
    assert "NOT answered" in capsys.readouterr().out


def test_a_plain_user_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Exit, match=r"only root may .*\n→ sudo \./run invoke demo\.vlans$") as refused:
        demo_command.vlans(Context())
    assert refused.value.code == 1


def test_a_shell_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(Exit, match="there is no terminal for the shell"):
        demo_command.vlans(Context(), keep=True)


# -- its project --------------------------------------------------------------------------------------------------------


def test_the_project_of_the_story_is_the_committed_example_at_other_addresses() -> None:
    example, project = (loader.load(path) for path in (PROJECT / "pki.yaml", vlans.HERE / "project.yaml"))
    assert project.hosts.keys() == example.hosts.keys()
    for name, host in project.hosts.items():
        elsewhere = {"address": None, "deliver": "folder"}
        assert host.model_copy(update=elsewhere) == example.hosts[name].model_copy(update=elsewhere)
    assert (project.domains, project.publish, project.clients) == (example.domains, example.publish, example.clients)
    assert project.networks.keys() == example.networks.keys()
