"""A request in `ca/ceremonies/` that is damaged: it matters only while it is the newest one that waits for its ceremony."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import PkiError
from tests.support.ceremonies import RealHome, real_home

CRLS = RequestOptions(crls=True)
LATER = 3650 / 2  # days: the intermediates must be replaced
DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: b"\xff" + data[1:],
    lambda _: b"",
    lambda data: data.replace(b"number: ", b"number:  ", 1),
    lambda data: data[:-20],
)


def damage(path: Path, how: Callable[[bytes], bytes] = DAMAGES[0]) -> None:
    before = path.read_bytes()
    path.write_bytes(how(before))
    assert path.read_bytes() != before


def numbers(home: RealHome) -> list[int]:
    return [waiting.request.number for waiting in ceremony_archive.open_requests(home.project().store)]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_request_before_the_last_ceremony_is_not_read(real: RealHome, how: Callable[[bytes], bytes]) -> None:
    void = real.ask(CRLS, 1).path
    real.ceremony(CRLS, 2)
    assert real.doit(days=2).status == 0
    damage(void, how)
    assert numbers(real) == []
    report = real.doit(days=LATER)
    assert "ceremony:request" in report.made, report.failed
    assert numbers(real) == [4]


def test_a_request_that_a_newer_one_replaced_is_left_out(real: RealHome) -> None:
    replaced = real.ask(CRLS, 1).path
    real.ask(RequestOptions(generations=("server",)), 2)
    assert numbers(real) == [2, 3]
    damage(replaced)
    assert numbers(real) == [3]


@pytest.mark.parametrize("how", DAMAGES)
def test_the_newest_request_is_restored_or_discarded(real: RealHome, how: Callable[[bytes], bytes]) -> None:
    path = real.ask(CRLS, 1).path
    damage(path, how)
    with pytest.raises(PkiError, match=r"ca/ceremonies/0002/request\.yaml") as refused:
        numbers(real)
    assert "./run invoke restore FILE" in refused.value.hint
    assert refused.value.hint.endswith(f": rm {path}")
    path.unlink()
    assert numbers(real) == []
    real.ceremony(CRLS, 2)


def test_a_damaged_request_that_waits_for_its_ceremony_is_reported_before_anything_needs_it(real: RealHome) -> None:
    path = real.ask(CRLS, 1).path
    damage(path)
    notes = real.doit(days=1).data["notes"]
    [note] = [note for note in notes if note["subject"] == "ceremonies"]
    assert "ca/ceremonies/0002/request.yaml: is not a ceremony request: not text" in note["text"]
    assert note["remedy"].endswith(f": rm {path}")
    path.unlink()
    assert [note for note in real.doit(days=1).data["notes"] if note["subject"] == "ceremonies"] == []


def test_a_damaged_first_request_is_reported_too(tmp_path: Path) -> None:
    home = real_home(tmp_path)
    path = home.ask().path
    damage(path)
    failure = home.doit().failed["ceremony:request"]
    assert "ca/ceremonies/0001/request.yaml: is not a ceremony request: not text" in failure
    assert failure.endswith(f": rm {path}")


def test_a_response_that_was_lost_is_no_longer_reported_once_it_is_back(real: RealHome) -> None:
    real.ceremony(CRLS, 1)
    assert real.doit(days=1).data["notes"] == []
    path = real.path / "ca/ceremonies/0001/response.yaml"
    path.rename(path.with_name("aside"))
    assert "ceremonies" in {note["subject"] for note in real.doit(days=1).data["notes"]}
    path.with_name("aside").rename(path)
    assert real.doit(days=1).data["notes"] == []
