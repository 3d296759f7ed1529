"""Find the expected response when the named folder has none, or another one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pki.ceremony import drives, request_response
from pki.ceremony.online import ceremony_archive
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import run_for
from pki.project.layout import Store

NAME = re.compile(r"response-[0-9]{4}")


def accept_command(store: Store, folder: Path) -> str:
    """Return the command that accepts a response."""
    return f"{run_for(store.home)} invoke ceremony.accept {shlex.quote(str(folder))}"


def check_has_response(store: Store, folder: Path) -> None:
    """Raise PkiError when `folder` has no response; its hint names a response nearby, or mounts the drive."""
    if (folder / "response.yaml").exists():
        return
    place = folder.parent if NAME.fullmatch(folder.name) else folder
    if responses := list(_responses(place)) or list(_responses(place.parent)):
        raise PkiError(
            f"{folder}: has no response.yaml; found {', '.join(map(str, responses))}",
            accept_command(store, response_to_open_request(store, responses[-1].parent) or responses[-1]),
        )
    open_requests = ceremony_archive.open_requests(store)
    expected = place / (f"response-{open_requests[-1].request.number:04}" if open_requests else "response-NNNN")
    if _is_unmounted(place):
        quoted = shlex.quote(str(place))
        raise PkiError(
            f"{folder}: has no response.yaml: no drive is mounted there",
            f"{drives.WHICH_DRIVE}\nthen: mkdir -p {quoted} && mount LABEL=exchange {quoted}\nand: {accept_command(store, expected)}",
        )
    raise PkiError(
        f"{folder}: has no response.yaml",
        f"name the folder that ceremony.sign wrote: {accept_command(store, expected)}",
    )


def response_to_open_request(store: Store, place: Path) -> Path | None:
    """Return the newest response in `place` that answers an open request, or None."""
    open_digests = [open_request.digest for open_request in ceremony_archive.open_requests(store)]
    for folder in reversed(list(_responses(place))):
        with suppress(PkiError):  # a damaged response is not the expected one
            data = filesystem.read_if_possible(folder / "response.yaml") or b""
            if request_response.load(data, folder.name, request_response.Response).request in open_digests:
                return folder
    return None


def _responses(place: Path) -> Iterator[Path]:
    for folder in sorted(place.glob("response-*")):
        if NAME.fullmatch(folder.name) and (folder / "response.yaml").is_file():
            yield folder


def _is_unmounted(place: Path) -> bool:
    """Return whether a folder is missing or empty, and not on a drive of its own."""
    if place.is_dir() and any(place.iterdir()):
        return False
    return drives.mount_of(place).device == drives.mount_of(Path("/")).device
