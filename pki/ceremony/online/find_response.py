"""Which response is meant, where the folder that was named holds none, or not the one that a request waits for."""

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
from pki.project.project import Project

NAME = re.compile(r"response-[0-9]{4}")


def line(project: Project, folder: Path) -> str:
    """What to type to have a response accepted."""
    return f"{run_for(project.store.home)} invoke ceremony.accept {shlex.quote(str(folder))}"


def insist_on_response(project: Project, folder: Path) -> None:
    """Raise PkiError where `folder` holds no response: which ones are near it, or that no drive is mounted there."""
    if (folder / "response.yaml").exists():
        return
    place = folder.parent if NAME.fullmatch(folder.name) else folder
    if there := list(_responses(place)) or list(_responses(place.parent)):
        raise PkiError(
            f"{folder}: holds no response.yaml; there is {', '.join(map(str, there))}",
            line(project, fitting(project, there[-1].parent) or there[-1]),
        )
    waiting = ceremony_archive.open_requests(project)[-1:]
    awaited = place / (f"response-{waiting[0].request.number:04}" if waiting else "response-NNNN")
    if _is_unmounted(place):
        quoted = shlex.quote(str(place))
        raise PkiError(
            f"{folder}: holds no response.yaml: no drive is mounted there",
            f"{drives.WHICH}\nthen: mkdir -p {quoted} && mount LABEL=exchange {quoted}\nand: {line(project, awaited)}",
        )
    raise PkiError(
        f"{folder}: holds no response.yaml",
        f"name the folder that invoke ceremony.sign wrote: {line(project, awaited)}",
    )


def fitting(project: Project, place: Path) -> Path | None:
    """The response in `place` that answers an open request; None where there is none."""
    waiting = [one.digest for one in ceremony_archive.open_requests(project)]
    for folder in reversed(list(_responses(place))):
        with suppress(PkiError):
            data = filesystem.read_if_possible(folder / "response.yaml") or b""
            if request_response.load(data, folder.name, request_response.Response).request in waiting:
                return folder
    return None


def _responses(place: Path) -> Iterator[Path]:
    for folder in sorted(place.glob("response-*")):
        if NAME.fullmatch(folder.name) and (folder / "response.yaml").is_file():
            yield folder


def _is_unmounted(place: Path) -> bool:
    """Whether a folder is missing or empty, and on no drive of its own."""
    if place.is_dir() and any(place.iterdir()):
        return False
    return drives.mount_of(place).device == drives.mount_of(Path("/")).device
