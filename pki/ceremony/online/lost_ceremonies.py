"""Find ceremonies that the vault has and this project lost, for example after an older `ca/` was restored.

A response contains the SHA-256 of its request, and a request contains the SHA-256 of the response before it. So the
operator, who confirms the words of the newest response, confirms all of them. The oldest of them follows the last
response that the project accepted.
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
from pki.ceremony.request_response import NO_RESPONSE, Request
from pki.ceremony.verify_response import ParsedResponse
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import run_for
from pki.config.model import Inventory
from pki.project.ca_keys import KeyRing
from pki.project.layout import Store
from pki.project.root_check import RootCheck
from pki.x509.canonical import fingerprint


@dataclass(frozen=True, slots=True)
class CeremonyResult:
    """A response and the request that it answers."""

    parsed: ParsedResponse
    request: Request

    @property
    def roots(self) -> dict[str, x509.Certificate]:
        """Return the certificates of the roots that the ceremony created, by name."""
        return {root.name: self.parsed.certificates[root.name, root.name] for root in self.request.roots}


def find_lost(inventory: Inventory, store: Store, roots: RootCheck, parsed: ParsedResponse) -> list[CeremonyResult]:
    """Return the ceremonies that the project lost, up to the ceremony of this response, the oldest first.

    Empty if they do not follow the last ceremony of this project: then the response is of another project. A project
    without any ceremony accepts only responses whose roots pki.yaml or `build/` names.
    """
    last_digest = ceremony_archive.last_response_digest(store)
    results = list(_newest_first(parsed, last_digest))[::-1]
    if not results or results[0].request.previous != last_digest or results[0].request.sandbox != inventory.sandbox:
        return []
    return [] if last_digest == NO_RESPONSE and unnamed_roots(inventory, roots, results) else results


def unnamed_roots(inventory: Inventory, roots: RootCheck, results: Sequence[CeremonyResult]) -> list[str]:
    """Return the SHA-256 of new roots that are neither in pki.yaml nor in `build/`."""
    new_roots = [fingerprint(certificate) for result in results for certificate in result.roots.values()]
    known_roots = {*inventory.roots, *(root.fingerprint for root in roots.missing)}
    return [fingerprint for fingerprint in new_roots if fingerprint not in known_roots]


def roots_to_name(inventory: Inventory, store: Store, roots: RootCheck, parsed: ParsedResponse) -> list[str]:
    """Return the SHA-256 of the roots that pki.yaml must list before a project without roots accepts this response."""
    results = list(_newest_first(parsed, NO_RESPONSE))
    is_complete = bool(results) and results[-1].request.previous == NO_RESPONSE
    if not is_complete or ceremony_archive.last_response_digest(store) != NO_RESPONSE:
        return []
    first_request = results[-1].request
    is_same_project = (first_request.organisation, first_request.sandbox) == (inventory.organisation, inventory.sandbox)
    return unnamed_roots(inventory, roots, results) if is_same_project else []


def faults(results: Sequence[CeremonyResult]) -> Iterator[str]:
    """Yield the CRLs of earlier responses that are missing and that no later ceremony replaced."""
    for index, result in enumerate(results):
        replaced = replaced_roots(results[index + 1 :])
        for crl in result.parsed.response.presigned_crls:
            is_missing = (crl.root, crl.number) not in result.parsed.presigned_crls
            if is_missing and crl.root not in replaced:
                yield f"{result.parsed.name}: CRL {crl.number} of {crl.root} is missing"


def replaced_roots(later: Sequence[CeremonyResult]) -> set[str]:
    """Return the roots whose pre-signed CRLs were signed again in later ceremonies."""
    return {crls.root for result in later for crls in result.request.crl_series}


def find_lost_keys(key_ring: KeyRing, results: Sequence[CeremonyResult]) -> list[str]:
    """Return the intermediates that these ceremonies certified and did not revoke, and whose key is lost."""
    revoked_generations = {
        entry.generation for result in results for crls in result.request.crl_series for entry in crls.revoked
    }
    requested_intermediates = [intermediate for result in results for intermediate in result.request.intermediates]
    names = [intermediate.name for intermediate in requested_intermediates if not intermediate.is_external]
    return [name for name in names if name not in revoked_generations and key_ring.fault(name)]


def successors_command(store: Store, names: Sequence[str]) -> str:
    """Return the command that revokes intermediates with lost keys and requests their successors."""
    run = run_for(store.home)
    return f"{run} invoke ceremony.request {' '.join(f'--revoke {name}' for name in names)} --reason superseded"


def set_keys_aside(store: Store, request: Request) -> None:
    """Rename the folders of newer keys that have the name of a generation that a lost ceremony certified.

    No certificate has these keys.
    """
    for intermediate in request.intermediates:
        folder = store.authority_file(intermediate.name, "request.pem").parent
        is_prepared = (folder / "request.pem").exists() and not (folder / "cert.pem").exists()
        if is_prepared and not intermediate_keys.has_requested_key(store, intermediate):
            free_folders = (folder.with_name(f"{folder.name}.unused-{number}") for number in range(1, 1000))
            folder.rename(next(place for place in free_folders if not place.exists()))


def _newest_first(parsed: ParsedResponse, last: str) -> Iterator[CeremonyResult]:
    """Yield the ceremony of a response, then the earlier ceremonies in it, until one follows the response `last`."""
    folders: dict[str, Path] = {}
    for path in sorted((parsed.folder / EARLIER).glob("[0-9][0-9][0-9][0-9]/response.yaml")):
        if data := filesystem.read_if_possible(path):
            folders[request_response.digest(data)] = path.parent
    result = _result(parsed)
    while result:
        yield result
        if result.request.previous == last:
            return
        folder = folders.pop(result.request.previous, None)
        result = _result(_read_earlier(folder)) if folder else None


def _result(parsed: ParsedResponse) -> CeremonyResult | None:
    """Return a response with its request; None if the request is missing, or is not the one that the response answers."""
    path = parsed.folder / "request.yaml"
    data = filesystem.read_if_possible(path)
    if data is None or request_response.digest(data) != parsed.response.request:
        return None
    return CeremonyResult(parsed, request_response.load(data, f"{parsed.folder.name}/request.yaml", Request))


def _read_earlier(folder: Path) -> ParsedResponse:
    """Read an earlier response with its CRLs. Those that a later ceremony replaced were destroyed, and are not there."""
    with suppress(OSError):
        crls = {path.name: path for path in folder.iterdir() if path.suffix == ".pem"}
        return verify_response.read_response(folder, presigned_crls=crls)
    raise PkiError(f"{folder}: cannot be read", verify_response.COPY_AGAIN)
