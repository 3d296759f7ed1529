"""Events of an Ansible that ran elsewhere: a delivery is filed only where they tell of this release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.inputs import projects
from tests.support.commands import Said, said_by
from tests.support.projects import START, Home


@pytest.fixture(scope="module")
def fleet_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fleet")
    projects.fleet(place)
    return place


@pytest.fixture
def fleet(fleet_once: Path, tmp_path: Path) -> Iterator[Home]:
    """A project with the host `monitoring`, which Ansible delivered to; `events` beside it tell of that."""
    shutil.copytree(fleet_once, tmp_path / "fleet", symlinks=True)
    yield Home(tmp_path / "fleet/project")
    shutil.rmtree(tmp_path / "fleet")


def collect(fleet: Home, capsys: pytest.CaptureFixture[str]) -> Said:
    moment = {"pki_now": START, "pki_called_from": str(fleet.path.parent)}
    return said_by(capsys, "deploy.collect", "events", pki_home=str(fleet.path), **moment)


def event(fleet: Home) -> Path:
    return fleet.path.parent / "events/2-event.json"


def result(fleet: Home, **changes: Any) -> None:
    """Change what the action returned; None takes a key away."""
    said = json.loads(event(fleet).read_text())
    found = {**said["event_data"]["res"], **changes}
    said["event_data"]["res"] = {key: value for key, value in found.items() if value is not None}
    event(fleet).write_text(json.dumps(said))


def is_filed(fleet: Home) -> bool:
    return (fleet.path / "build/receipts/monitoring.json").exists()


def test_a_delivery_elsewhere_is_filed(fleet: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = collect(fleet, capsys)
    assert (said.status, is_filed(fleet)) == (0, True), said.out + said.error


@pytest.mark.parametrize("release", [None, "0" * 24, 5, ""])
def test_a_delivery_of_no_release_or_another_one_is_not_filed(
    fleet: Home, capsys: pytest.CaptureFixture[str], release: object
) -> None:
    result(fleet, release=release)
    said = collect(fleet, capsys)
    assert (said.status, is_filed(fleet)) == (1, False)
    assert "took another release than the present one" in said.out


@pytest.mark.parametrize("how", [{"failed": True, "msg": "no luck"}, {"unreachable": True, "msg": "no route"}])
def test_a_failure_before_the_action_knew_its_release_is_told_as_it_is(
    fleet: Home, capsys: pytest.CaptureFixture[str], how: dict[str, Any]
) -> None:
    result(fleet, release=None, answers=None, verifications=None, **how)
    said = collect(fleet, capsys)
    assert (said.status, is_filed(fleet)) == (1, False)
    assert "another release" not in said.out


@pytest.mark.parametrize("content", ["{", "[" * 20_000, "5", '"x"', ""])
def test_an_event_that_is_none_is_named(fleet: Home, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (fleet.path.parent / "events/4-event.json").write_text(content)
    said = collect(fleet, capsys)
    assert (said.status, is_filed(fleet)) == (1, True)
    assert "4-event.json is not an event, and is ignored" in said.out


def test_events_that_tell_of_no_delivery_are_named(fleet: Home, capsys: pytest.CaptureFixture[str]) -> None:
    event(fleet).unlink()
    said = collect(fleet, capsys)
    assert said.status == 1
    assert said.error.startswith("events: contains no delivery by doit.pki.deliver\n→ ")
