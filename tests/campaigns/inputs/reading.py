"""Steps that call a reader: all those of a trial in one forked process."""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.campaigns.campaign import CampaignError, Step
from tests.campaigns.inputs import projects, readers, typed


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    """Carry out steps of the form `["read", …]`. Raises CampaignError for the first that fails."""
    for name in dict.fromkeys((readers.STRICT.get(step[1]) or readers.READERS[step[1]]).project for step in steps):
        projects.built(name)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            status = _inside(steps, place, out)
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as said:
        told = [json.loads(line) for line in said]
    _, ended, used = os.wait4(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    for one in told:
        if "came" in one:
            figures[f"read: {one['came']}"] += 1
        if "kind" in one:
            raise CampaignError(one["kind"], one["said"])
    last = steps[len(told)] if len(told) < len(steps) else steps[-1]
    if status:
        ending = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise CampaignError(f"{ending} of {last[1]}", json.dumps(last))
    if used.ru_maxrss << 10 > typed.MEMORY:
        raise CampaignError("memory of readers", f"{used.ru_maxrss >> 10} MB")


def _inside(steps: Sequence[Step], place: Path, out: IO[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (typed.ADDRESSES, typed.ADDRESSES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    readers.let_bugs_out()
    homes: dict[str, projects.Home] = {}
    for step in steps:
        try:
            told = {"came": readers.read(place, homes, step)}
        except CampaignError as failure:
            told = {"kind": failure.kind, "said": f"{failure}\n{traceback.format_exc()[-3000:]}"}
        except BaseException:  # noqa: BLE001 - a fault of the trial itself
            told = {"kind": "error of the trial", "said": traceback.format_exc()}
        print(json.dumps(told), file=out, flush=True)
        if "kind" in told:
            break
    return 0
