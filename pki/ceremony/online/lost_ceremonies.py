"""Ceremonies that the vault and the response tell of and this project does not, as after an older `ca/` was put back.

A response names the SHA-256 of its request, and a request that of the response before it. So the words of the newest
response, which a person confirms, confirm all of them; the first one follows what the project accepted last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki.ceremony import request_response, verify_response
from pki.ceremony.offline.response_export import EARLIER
from pki.ceremony.online import ceremony_archive, intermediate_keys
from pki.ceremony.request_response import NOTHING, Request
from pki.ceremony.vault import fingerprint
from pki.ceremony.verify_response import Answer
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import run_for
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Held:
    """A ceremony that was held: an answer, and the request that it answers."""

    answer: Answer
    request: Request

    @property
    def roots(self) -> dict[str, x509.Certificate]:
        """The roots that were made in it."""
        return {root.name: self.answer.certificates[root.name, root.name] for root in self.request.roots}


def series(project: Project, answer: Answer) -> list[Held]:
    """Return the ceremonies that the project lost, up to the one of `answer`, oldest first.

    Empty where they do not follow the last ceremony of the project: the response is another project's.
    """
    last, found = (
        ceremony_archive.last_response(project),
        list(_back(answer, ceremony_archive.last_response(project)))[::-1],
    )
    if not found or found[0].request.previous != last or found[0].request.sandbox != project.inventory.sandbox:
        return []
    return [] if last == NOTHING and unnamed_roots(project, found) else found


def unnamed_roots(project: Project, found: Sequence[Held]) -> list[str]:
    """Return the SHA-256 of roots of the ceremonies that neither pki.yaml names nor `build/` shows."""
    made = [fingerprint(cert) for held in found for cert in held.roots.values()]
    ours = {*project.inventory.roots, *(one.fingerprint for one in project.missing_roots)}
    return [one for one in made if one not in ours]


def roots_to_name(project: Project, answer: Answer) -> list[str]:
    """Return the SHA-256 of the roots that pki.yaml must name before the project, which has none, accepts a response."""
    found = list(_back(answer, NOTHING))
    is_whole = bool(found) and found[-1].request.previous == NOTHING
    inventory, first = project.inventory, found[-1].request if is_whole else None
    is_alike = first and (first.organisation, first.sandbox) == (inventory.organisation, inventory.sandbox)
    return unnamed_roots(project, found) if is_alike and ceremony_archive.last_response(project) == NOTHING else []


def faults(found: Sequence[Held]) -> Iterator[str]:
    """CRLs that are missing beside an earlier response and that no later one replaces."""
    for place, held in enumerate(found):
        for crl in held.answer.response.presigned_crls:
            if (crl.root, crl.number) not in held.answer.presigned_crls and crl.root not in replaced(
                found[place + 1 :]
            ):
                yield f"{held.answer.name}: CRL {crl.number} of {crl.root} is missing"


def replaced(later: Sequence[Held]) -> set[str]:
    """Return the roots whose pre-signed CRLs were signed again in later ceremonies."""
    return {crls.root for held in later for crls in held.request.crl_series}


def lacking_keys(project: Project, found: Sequence[Held]) -> list[str]:
    """Return the intermediates that these ceremonies certified, that none of them revoked, and whose key is lost."""
    revoked = {one.generation for held in found for crls in held.request.crl_series for one in crls.revoked}
    names = [asked.name for held in found for asked in held.request.intermediates]
    return [name for name in names if name not in revoked and project.keys.fault(name)]


def new_generations(project: Project, names: Sequence[str]) -> str:
    """Return what to type where the keys of intermediates are lost: successors, and nobody can use the keys any more."""
    run = run_for(project.store.home)
    return f"{run} invoke ceremony.request {' '.join(f'--revoke {name}' for name in names)} --reason superseded"


def set_keys_aside(project: Project, request: Request) -> None:
    """Rename the folders of keys that were made since for names that a ceremony had certified: no certificate has them."""
    for asked in request.intermediates:
        folder = project.store.authority_file(asked.name, "request.pem").parent
        is_prepared = (folder / "request.pem").exists() and not (folder / "cert.pem").exists()
        if is_prepared and not intermediate_keys.is_asked(project, asked):
            free = (folder.with_name(f"{folder.name}.unused-{number}") for number in range(1, 1000))
            folder.rename(next(place for place in free if not place.exists()))


def _back(answer: Answer, last: str) -> Iterator[Held]:
    """The ceremony of an answer, and those before it as they are beside it, until one follows `last`."""
    there: dict[str, Path] = {}
    for path in sorted((answer.folder / EARLIER).glob("[0-9][0-9][0-9][0-9]/response.yaml")):
        if data := filesystem.read_if_possible(path):
            there[request_response.digest(data)] = path.parent
    held = _held(answer)
    while held:
        yield held
        folder = there.pop(held.request.previous, None) if held.request.previous != last else None
        held = _held(_earlier(folder)) if folder else None


def _held(answer: Answer) -> Held | None:
    path = answer.folder / "request.yaml"
    data = filesystem.read_if_possible(path)
    if data is None or request_response.digest(data) != answer.response.request:
        return None
    return Held(answer, request_response.load(data, f"{answer.folder.name}/request.yaml", Request))


def _earlier(folder: Path) -> Answer:
    """An earlier response: those of its CRLs are there that nothing replaced when it was handed out."""
    with suppress(OSError):
        there = {path.name: path for path in folder.iterdir() if path.suffix == ".pem"}
        return verify_response.read(folder, presigned_crls=there)
    raise PkiError(f"{folder}: cannot be read", verify_response.AGAIN)
