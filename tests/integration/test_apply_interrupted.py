"""kill -9 of pki-apply at any step, its connection cut at any byte: whole files, and a good end.

PKI_SAMPLES says how many of each there are; with 100 every step and every byte, which takes a quarter of an hour.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hosts import FolderHost, Row, Shell, busybox, manifest, placing, whole
from tests.support.interrupted import SYSTEM, blow, fused
from tests.support.pki_apply import COMMANDS
from tests.support.releases import assert_whole, contents, release, wanted

SEED = 20261123
SAMPLES = int(os.environ.get("PKI_SAMPLES", "4"))  # of each, with each shell
EACH = max(1, 84 // SAMPLES)  # one step or byte of so many is tried


@pytest.fixture(params=["dash", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return busybox(tmp_path / "applets") if request.param == "busybox" else Shell("dash", "/usr/bin/dash")


@pytest.fixture
def host(tmp_path: Path, shell: Shell) -> FolderHost:
    made = FolderHost.new(tmp_path / "host", shell, COMMANDS)
    made.permit(f"run note echo ran >>{made.root}/ran")
    return made


def test_a_connection_lost_at_any_byte_leaves_the_old_or_the_new_and_no_litter(tmp_path: Path, shell: Shell) -> None:
    """The bytes of a small stream with its file; workers have a host each."""
    workers, first = 4, random.Random(SEED).randrange(EACH)  # noqa: S311 - no secret hangs on it
    # A program that is written while another thread starts one is busy: https://github.com/golang/go/issues/22315
    hosts = [FolderHost.new(tmp_path / f"host{worker}", shell) for worker in range(workers)]

    def cut(worker: int) -> int:
        host = hosts[worker]
        name = host.path("x")
        old, new = [Row(name, b"old")], [Row(name, b"new")]
        host.deliver(old)
        before = host.touched()
        begin, files = placing(new).split(b"\n", 1)
        assert files[1024:].strip(b"\0") == b""
        words = manifest(new) + begin.replace(b"place 20 ", b"place 3 ") + b"\n" + files[:1536] + b"keep\n"
        whole_from = len(words) - len(b"keep\n")
        cuts = range(first * workers + worker, len(words) - 1, workers * EACH)
        for length in cuts:
            states = [answer["state"] for answer in host.speak(words[:length]) if "state" in answer]
            assert "kept" not in states, length
            assert host.touched() == before or length >= whole_from, length
            assert Path(name).read_bytes() == b"old"
            assert host.litter() == []
        assert host.speak(words)[-1] == {"state": "kept"}
        assert Path(name).read_bytes() == b"new"
        return len(cuts)

    with ThreadPoolExecutor(workers) as pool:
        assert sum(pool.map(cut, range(workers))) > 1600 // EACH - workers


def test_cut_at_random_it_leaves_whole_files_and_the_next_contact_ends_well(host: FolderHost) -> None:
    chance = random.Random(f"{SEED}-cut")  # noqa: S311 - no secret hangs on it
    sides = [release(host, "old"), release(host, "new")]
    host.deliver(sides[1])
    ended: dict[str, int] = {}
    for number in range(SAMPLES):
        here, there = sides[(number + 1) % 2], sides[number % 2]
        words = whole(there)
        assert contents(host) == wanted(host, here)
        host.speak(words[: chance.randrange(len(words))])
        assert_whole(host, here, there)
        host.speak(b"", "recover")
        assert host.litter() == [], number
        after = contents(host)
        assert after in (wanted(host, here), wanted(host, there)), number
        side = "new" if after == wanted(host, there) else "old"
        ended[side] = ended.get(side, 0) + 1
        host.deliver(there)
        assert contents(host) == wanted(host, there)
        assert host.litter() == [], number
    assert ended.get("old", 0) > SAMPLES // 10


@pytest.mark.parametrize("ending", ["kept", "undone", "settled"])
def test_killed_before_any_step_it_leaves_whole_files_and_the_next_contact_ends_well(
    host: FolderHost, ending: str, shell: Shell
) -> None:
    program = fused(host, shell.path or SYSTEM, shell.program)
    old, new = release(host, "old"), release(host, "new")
    if ending == "settled":
        old, new = ([one for one in rows if one.set == "-"] for rows in (old, new))
    if ending == "undone":
        new[3] = Row(new[3].path, new[3].content, reload="fails")
    words = manifest(new) + placing(new, "settle" if ending == "settled" else "place") + b"keep\nend\n"
    first = random.Random(f"{SEED}-{ending}").randrange(1, EACH + 1)  # noqa: S311 - no secret hangs on it
    for step in range(first, 400, EACH):
        host.deliver(old)
        assert contents(host) == wanted(host, old)
        was_killed = blow(program, words, step)
        if ending == "settled":
            assert all(
                (Path(one.path).read_bytes() if Path(one.path).exists() else None) in {one.content, was.content}
                for was, one in zip(old, new, strict=True)
            )
        else:
            assert_whole(host, old, new)
        if step // EACH % 3 == 0:
            blow(program, b"", step // 3, "recover")  # and killed once more while it fixes
        host.speak(b"", "recover")
        assert contents(host) in (wanted(host, old), wanted(host, new)), step
        assert host.litter() == [], step
        if not was_killed:
            break
    assert step > 40
    assert contents(host) == wanted(host, old if ending == "undone" else new)
