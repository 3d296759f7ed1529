"""The archive in `ca/ceremonies/`: open requests and accepted responses."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pki.ceremony import request_response
from pki.ceremony.request_response import NO_RESPONSE, Request, Response
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import Remedy, here
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.generations import PUT_BACK
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView

NUMBER = re.compile(r" CA ([0-9]+)")  # end of every CA's common name


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request without an accepted response, with its SHA-256."""

    path: Path
    request: Request
    digest: str


def open_requests(store: Store) -> list[OpenRequest]:
    """Return the requests without a response that follow the last ceremony, the oldest first.

    Raises PkiError if the newest one is damaged. A damaged request that a newer one replaced is left out.
    """
    last_response, requests = last_response_digest(store), list[OpenRequest]()
    paths = _unanswered_requests(store)
    for path in paths:
        data = filesystem.read(path) or b""
        try:
            request = request_response.load(data, store.shown(path), Request)
        except PkiError as error:
            if path != paths[-1]:
                continue
            remedy = f"{PUT_BACK}; or discard it, and request again what you asked for: rm {shlex.quote(str(path))}"
            raise PkiError(error.message, remedy) from None
        if request.previous == last_response:
            requests.append(OpenRequest(path, request, request_response.digest(data)))
    return requests


def _unanswered_requests(store: Store) -> list[Path]:
    """Return the requests after the last accepted response, the oldest first: those before it cannot be answered."""
    folders = store.ceremonies()
    answered = [number for number, folder in enumerate(folders, 1) if (folder / "response.yaml").exists()]
    paths = [folder / "request.yaml" for folder in folders[max(answered, default=0) :]]
    return [path for path in paths if os.path.lexists(path)]


def new_crls_remedy(store: Store, root: str) -> Remedy:
    """Return the command for new pre-signed CRLs of a root: accept the response to an open request, or make a request."""
    for open_request in open_requests(store):
        if root in {series.root for series in open_request.request.crl_series}:
            number, folder = open_request.request.number, f"DIR/response-{open_request.request.number:04}"
            before = f"perform the ceremony of request {number}, which asks for them, then: "
            words = ("invoke", "ceremony.accept", folder)
            return here(*words, home=store.home, placeholders=[folder], before=before)
    return here("invoke", "ceremony.request", "--crls", home=store.home)


def last_response_digest(store: Store) -> str:
    """Return the SHA-256 of the last accepted response, or NO_RESPONSE."""
    responses = _responses(store)
    return request_response.digest(responses[-1].data) if responses else NO_RESPONSE


def last_transcript_head(store: Store) -> str:
    """Return the transcript head in the last accepted response, or "" before the first one."""
    responses = _responses(store)
    return _read(responses[-1]).transcript if responses else ""


class _ResponseFile(NamedTuple):
    shown: str  # the path for messages
    data: bytes


def _responses(store: Store) -> list[_ResponseFile]:
    """Return every accepted response, the oldest first."""
    paths = [folder / "response.yaml" for folder in store.ceremonies()]
    return [_ResponseFile(store.shown(path), data) for path in paths if (data := filesystem.read(path)) is not None]


def _read(response_file: _ResponseFile) -> Response:
    """Return a parsed response. Raises PkiError if it is damaged; the hint is to restore a backup, not the old drive."""
    try:
        return request_response.load(response_file.data, response_file.shown, Response)
    except PkiError as error:
        raise PkiError(error.message, PUT_BACK) from None


def certified_generations(store: Store, ledger_view: LedgerView) -> set[str]:
    """Return the generations that a ceremony certified, also those that are missing in `ca/`."""
    responses = (_read(response_file) for response_file in _responses(store))
    names = {certificate.name for response in responses for certificate in response.certificates}
    for authority in store.authorities() if ledger_view.has_ledger else ():
        certificates = ledger_view.ledger.certificates(artifact=ArtifactId("authority", authority))
        names |= {
            GenerationName(authority, int(numbers[-1]))
            for certificate in certificates
            if (numbers := NUMBER.findall(certificate.subject))
        }
    return names


def destroyed_roots(store: Store) -> set[str]:
    """Return the roots whose keys were destroyed."""
    responses = (_read(response_file) for response_file in _responses(store))
    return {name for response in responses for name in response.destroyed}
