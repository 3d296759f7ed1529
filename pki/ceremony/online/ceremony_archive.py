"""What `ca/ceremonies/` keeps: requests that wait for an answer, and the answers that were accepted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pki.ceremony import request_response
from pki.ceremony.request_response import NOTHING, Request, Response
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import Remedy, here
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.project.generations import PUT_BACK
from pki.project.project import Project

NUMBER = re.compile(r" CA ([0-9]+)")  # the last part of every CA's name


@dataclass(frozen=True, slots=True)
class Open:
    """A request that was written and not answered yet."""

    path: Path
    request: Request
    digest: str


def open_requests(project: Project) -> list[Open]:
    """Requests without a response that follow the ceremony that was held last, oldest first."""
    found, last = [], last_response(project)
    for folder in project.store.ceremonies():
        data = filesystem.read(folder / "request.yaml")
        if data is None or (folder / "response.yaml").exists():
            continue
        request = request_response.load(data, project.store.shown(folder / "request.yaml"), Request)
        if request.previous == last:
            found.append(Open(folder / "request.yaml", request, request_response.digest(data)))
    return found


def new_crls(project: Project, root: str) -> Remedy:
    """Return what to type for new pre-signed CRLs of a root: the answer to a request that asks for them, else the request."""
    for one in open_requests(project):
        if root in {series.root for series in one.request.crl_series}:
            number, answer = one.request.number, f"DIR/response-{one.request.number:04}"
            before = f"hold the ceremony of request {number}, which asks for them, then: "
            words = ("invoke", "ceremony.accept", answer)
            return here(*words, home=project.store.home, placeholders=[answer], before=before)
    return here("invoke", "ceremony.request", "--crls", home=project.store.home)


def last_response(project: Project) -> str:
    """The digest of the response that was accepted last."""
    found = _responses(project)
    return request_response.digest(found[-1][1]) if found else NOTHING


def last_head(project: Project) -> str:
    """The head of the transcript that the response names which was accepted last; empty before the first one."""
    found = _responses(project)
    return _read(*found[-1]).transcript if found else ""


def _responses(project: Project) -> list[tuple[str, bytes]]:
    """Path and content of every response that was accepted, the oldest first."""
    paths = [folder / "response.yaml" for folder in project.store.ceremonies()]
    return [(project.store.shown(path), data) for path in paths if (data := filesystem.read(path)) is not None]


def _read(shown: str, data: bytes) -> Response:
    """Raises PkiError where it is damaged: the drive that it came on may be far away by now, a backup is not."""
    try:
        return request_response.load(data, shown, Response)
    except PkiError as error:
        raise PkiError(error.message, PUT_BACK) from None


def certified(project: Project) -> set[str]:
    """Generations that a ceremony certified, whatever `ca/` contains of them."""
    said = (_read(*one) for one in _responses(project))
    names = {one.name for response in said for one in response.certificates}
    for authority in AUTHORITIES if project.has_ledger else ():
        known = project.ledger.certificates(artifact=ArtifactId("authority", authority))
        names |= {GenerationName(authority, int(found[-1])) for one in known if (found := NUMBER.findall(one.subject))}
    return names


def destroyed_roots(project: Project) -> set[str]:
    """Roots whose keys are no more."""
    said = (_read(*one) for one in _responses(project))
    return {name for response in said for name in response.destroyed}
