"""pki-apply killed at one of its steps, with its host's power failing or not: whole files, and a good end."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from tests.campaigns.campaign import CampaignError
from tests.campaigns.storage import Disk
from tests.support.hosts import FolderHost, Row, Shell, busybox, manifest, placing
from tests.support.interrupted import SYSTEM, blow, fused
from tests.support.releases import assert_whole, contents, release, wanted

COMMANDS = {"ok": "true", "fails": "echo it is broken >&2; exit 3"}
STEPS = 120
"""Programs that a delivery of both releases starts, about."""


def kill(place: Path, fraction: float, aftermath: str, seed: int, figures: Counter[str]) -> None:
    """One delivery killed; with some seeds, its recovery too."""
    chance = random.Random(seed)  # noqa: S311 - no secret hangs on it
    place.mkdir()
    shell = busybox(place / "applets") if chance.random() < 0.5 else Shell("dash", "/usr/bin/dash")
    host = FolderHost.new(place / "host", shell, COMMANDS)
    host.permit(f"run note echo ran >>{host.root}/ran")
    program = fused(host, shell.path or SYSTEM)
    ending = chance.choice(["kept", "undone", "settled"])
    old, new = release(host, "old"), release(host, "new")
    if ending == "settled":  # CRLs: each by itself, and no sets
        old, new = ([one for one in rows if one.set == "-"] for rows in (old, new))
    if ending == "undone":
        new[3] = Row(new[3].path, new[3].content, reload="fails")
    stream = manifest(new) + placing(new, "settle" if ending == "settled" else "place") + b"keep\nend\n"
    host.deliver(old)
    what, _, options = aftermath.partition(" ")
    with Disk(host.root, options).failing() if what == "power" else nullcontext():
        was_killed = blow(program, stream, max(1, round(fraction * STEPS)))
    figures["pki-apply: killed" if was_killed else "ended before"] += 1
    insist(host, old, new, is_each=ending == "settled")
    if not was_killed and contents(host) != wanted(host, old if ending == "undone" else new):
        raise CampaignError("what was answered is not so", f"{ending}: {sorted(contents(host))}")
    if chance.random() < 0.3:
        blow(program, b"", chance.randrange(1, 60), "recover")
        insist(host, old, new, is_each=ending == "settled")
    host.speak(b"", "recover")
    if ending != "settled" and contents(host) not in (wanted(host, old), wanted(host, new)):
        raise CampaignError("neither release", str(sorted(contents(host))))
    if left := host.litter():
        raise CampaignError("litter on a host", "\n".join(left))
    last = [Row(row.path, row.content, row.mode, set=row.set) for row in new]
    host.deliver(last)
    if contents(host) != wanted(host, last):
        raise CampaignError("the next delivery fails", str(sorted(contents(host))))
    shutil.rmtree(place)


def insist(host: FolderHost, old: list[Row], new: list[Row], *, is_each: bool) -> None:
    """Each file is that of one release; keys match certificates, and a set is that of one release."""
    try:
        if is_each:
            for was, one in zip(old, new, strict=True):
                path = Path(one.path)
                assert (path.read_bytes() if path.exists() else None) in {one.content, was.content}, path
        else:
            assert_whole(host, old, new)
    except (AssertionError, OSError, ValueError) as fault:
        raise CampaignError("files are not whole", str(fault)) from None
