"""Render the printed steps of one ceremony: the commands in their order, with a box to tick at each step."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pki.ceremony import kit_unpacking, plan_text, printing, words
from pki.ceremony.request_response import Request
from pki.ceremony.vault_contents import VaultContents
from pki.common.program_files import PROGRAM
from pki.common.remedies import commands_folder, run_in_commands_folder
from pki.common.templating import Pages

GROUP = 8  # digits of a digest that are printed without a space


def render_script(
    request: Request, digest: str, contents: VaultContents, machine: str, *, hsm: bool, project: str = ""
) -> bytes:
    """Return CEREMONY.txt for a request: numbered pages for paper, with a form feed between them.

    `machine` describes the offline machine, such as "Python 3.11 on x86_64". `project` is the folder of the project on
    the online machine, which the last step names.
    """
    pages = Pages(Path(__file__).parent / "pages")
    last = contents.last
    roots, signatures = list(plan_text.root_lines(request)), list(plan_text.signature_lines(request, contents))
    folder = commands_folder(Path(project)) if project else PROGRAM
    run = run_in_commands_folder(Path(project)) if project else "./run"
    context: dict[str, Any] = {
        "request": request,
        "file": f"request-{request.number:04}.yaml",
        "machine": machine,
        "program": shlex.quote(str(folder)),
        "run": run,
        "unpack": {"list": kit_unpacking.LIST, "files": kit_unpacking.FILES, "checks": kit_unpacking.CHECKS},
        "hsm": hsm,
        "digest": " ".join(digest[start : start + GROUP] for start in range(0, len(digest), GROUP)),
        "words": words.numbered_lines(digest),
        "plan": _indented([*roots, *signatures]),
        "roots": _indented(roots),
        "signatures": _indented(signatures),
        "names": ", ".join(root.name for root in request.roots),
        "clock": f"{request.prepared:%Y-%m-%d %H:%M}",
        "last": last.number if last else 0,
        "replaced": [series.root for series in request.crl_series if contents.last_series(series.root)],
    }
    text = pages.render("ceremony.txt", context)
    return printing.paginate(text, f"ROOT CEREMONY {request.number} OF {request.organisation}").encode()


def _indented(lines: Iterable[str]) -> list[str]:
    return [wrapped for line in lines for wrapped in printing.wrap_line(line, "    ")]
