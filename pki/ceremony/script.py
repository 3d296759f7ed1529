"""The printed script of one ceremony: what to type, in which order, with a box to tick at each step."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pki.ceremony import plan, unpacking, words
from pki.ceremony.bundle import Request
from pki.ceremony.policy import Known
from pki.templating import Pages

EIGHT = 8


def script(request: Request, digest: str, known: Known, machine: str, *, hsm: bool, project: str = "") -> bytes:
    """CEREMONY.txt for a request; `machine` says what the kit runs on: "Python 3.11 on x86_64".

    `project` is the folder of the project on the online machine, which the last step names.
    """
    pages = Pages(Path(__file__).parent / "pages")
    held = known.last
    context: dict[str, Any] = {
        "request": request,
        "file": f"request-{request.number:04}.yaml",
        "machine": machine,
        "hsm": hsm,
        "digest": " ".join(digest[start : start + EIGHT] for start in range(0, len(digest), EIGHT)),
        "words": words.shown(digest),
        "unpack": {"list": unpacking.LIST, "files": unpacking.FILES, "checks": unpacking.CHECKS},
        "accept": f"{f'PKI_HOME={shlex.quote(project)} ' if project else ''}./run invoke ceremony.accept",
        "plan": [*plan.roots(request), *plan.signatures(request, known)],
        "clock": f"{request.prepared:%Y-%m-%d %H:%M}",
        "last": held.number if held else 0,
        "replaced": [ladder.root for ladder in request.ladders if known.last_ladder(ladder.root)],
    }
    return pages.render("ceremony.txt", context).encode()
