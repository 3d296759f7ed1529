"""Accept a response: verify everything again, record it in the ledger, then write it to `ca/`.

This order makes it possible to resume after an interruption. The first response defines the trusted root: its SHA-256 is
written to pki.yaml. A response has no signature of its own; its certificates and CRLs are signed by the root, and the
operator confirms its SHA-256.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from pki.ceremony import request_response, transcript_chain, verify_response, words
from pki.ceremony.offline.response_export import render_transcript
from pki.ceremony.online import (
    ceremony_archive,
    find_response,
    intermediate_keys,
    kit,
    lost_ceremonies,
    misplaced_keys,
    presigned_series,
)
from pki.ceremony.online.lost_ceremonies import CeremonyResult
from pki.ceremony.request_response import Request
from pki.ceremony.verify_response import ParsedResponse
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import run_for
from pki.config import editing
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.x509 import pem_encoding
from pki.x509.canonical import fingerprint


@dataclass(frozen=True, slots=True)
class VerifiedResponse:
    """A verified response, the request that it answers, and its transcript.

    `results` are the ceremonies to accept, the oldest first. There is more than one when the project lost earlier ones,
    for example after an older backup was restored; then `is_lost`.
    """

    parsed: ParsedResponse
    request: Request
    transcript: bytes
    is_lost: bool
    results: tuple[CeremonyResult, ...]

    @property
    def roots(self) -> dict[str, str]:
        """Return the SHA-256 of each new root certificate by name."""
        return {name: fingerprint(root) for result in self.results for name, root in result.roots.items()}


# -- reading and verifying --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResponseAcceptance:
    """The acceptance of a ceremony's response: it is verified as a whole, then stored."""

    project: Project

    def verify(self, folder: Path) -> VerifiedResponse:
        """Read a response and verify all of it; writes nothing. Raises PkiError that lists all faults."""
        folder = folder.parent if folder.name == "response.yaml" else folder
        misplaced_keys.check_no_keys(folder, *_own_folders(self.project.inventory, self.project.store))
        find_response.check_has_response(self.project.store, folder)
        parsed = verify_response.read_response(folder)
        request = _answered_request(self.project.store, parsed)
        if request:
            results = [CeremonyResult(parsed, request)]
        else:
            results = lost_ceremonies.find_lost(self.project.inventory, self.project.store, self.project.roots, parsed)
        if not results:
            raise self._other_project_error(parsed)
        transcript = _checked_transcript(self.project.store, parsed)
        for result in results:
            _check_clocks(self.project.now, result.parsed, result.request)
        faults = list(_faults(self.project.store, self.project.authorities, results, transcript))
        if request and not faults:  # the keys of a lost ceremony may be lost with it
            faults = list(intermediate_keys.faults(self.project.store, self.project.keys, request))
        if faults:
            raise PkiError("\n".join(faults), f"nothing was accepted; {verify_response.COPY_AGAIN}")
        if old_series := list(presigned_series.faults(self.project.ledger_view, results)):
            hint = f"nothing was accepted; perform a ceremony with newer CRLs: {run_for(self.project.store.home)} invoke ceremony.request --crls"
            raise PkiError("\n".join(old_series), hint)
        return VerifiedResponse(parsed, results[-1].request, transcript, request is None, tuple(results))

    def _other_project_error(self, parsed: ParsedResponse) -> PkiError:
        """Return the error for a response of another project; its hint covers the case that this project lost `ca/`."""
        numbers = ", ".join(
            str(open_request.request.number) for open_request in ceremony_archive.open_requests(self.project.store)
        )
        expected = f"waits for the response to request {numbers}" if numbers else "waits for no response"
        hint, response = _other_project_hint(self.project.store, parsed.folder), parsed.response
        if roots := lost_ceremonies.roots_to_name(
            self.project.inventory, self.project.store, self.project.roots, parsed
        ):
            lines = "\n".join(["roots:", *(f"  - {line}" for line in roots)])
            hint += (
                "\nis it of this project, which lost ca/? compare with the signed page of the ceremony, write this into pki.yaml, "
                f"and repeat the command:\n{lines}"
            )
        return PkiError(
            f"{parsed.name}: answers another request (SHA-256 {response.request[:16]}…, ceremony {response.number}) than one of "
            f"the project {self.project.store.home}, which {expected}",
            hint,
        )

    def check_roots(self, folder: Path) -> None:
        """Raise PkiError if a root is missing that is not in this response; writes nothing."""
        if self.project.roots.missing:
            with suppress(PkiError):  # a faulty response does not restore the root: the missing root is reported
                verified_response = self.verify(folder)
                if {root.fingerprint for root in self.project.roots.missing} <= set(verified_response.roots.values()):
                    self.project.expect_roots()
                    return
            self.project.roots.check()

    def store(self, verified: VerifiedResponse) -> list[str]:
        """Record everything in the ledger, then write it to `ca/`. Return the CRLs that must be destroyed now.

        It can be repeated after an interruption at any point: nothing is recorded twice, and the response is written last.
        Before that, pki.yaml gets the SHA-256 of new roots; if it cannot be written, nothing is accepted.
        """
        store = self.project.store
        with _prepared_root_entries(
            self.project.inventory, store, self.project.authorities, verified
        ) as write_root_entries:
            crls_to_destroy = []
            for index, result in enumerate(verified.results):
                if verified.is_lost:
                    lost_ceremonies.set_keys_aside(store, result.request)
                later_results = verified.results[index + 1 :]
                crls_to_destroy += _store_result(
                    store,
                    self.project.now,
                    self.project.ledger_view,
                    result,
                    lost_ceremonies.replaced_roots(later_results),
                )
            write_root_entries()
        for result in verified.results:
            _write_records(store, result, verified.transcript)
        return crls_to_destroy


def _faults(
    store: Store, authorities: Authorities, results: Sequence[CeremonyResult], transcript: bytes
) -> Iterator[str]:
    """Yield the faults of each response, verified with the roots that existed before it."""
    generations = filter(None, map(authorities.generation, store.roots()))
    roots: dict[str, x509.Certificate] = {root.name: root.certificate for root in generations}
    records = transcript_chain.load(transcript, "transcript.jsonl")
    for result in results:
        faults = verify_response.faults(result.parsed, result.request, roots)
        transcript_fault = verify_response.transcript_fault(result.parsed, records)
        if transcript_fault and not faults:
            faults = [f"the transcript {transcript_fault}"]
        yield from (f"{result.parsed.name}: {fault}" for fault in faults)
        if faults:
            return  # a later response can only be verified with the roots of this one
        roots |= result.roots
    yield from lost_ceremonies.faults(results)


def _own_folders(inventory: Inventory, store: Store) -> Iterator[Path]:
    """Yield the folders of this project that may have private keys."""
    yield from (store.offline, store.ca, store.build)
    yield from (store.home / adopted.adopt for adopted in inventory.authorities.adopted.values())


def _answered_request(store: Store, parsed: ParsedResponse) -> Request | None:
    """Return the open request that a response answers, or None. Raises PkiError for a response that was accepted before."""
    for folder in store.ceremonies():
        if filesystem.read(folder / "response.yaml") == parsed.data:
            raise _accepted_error(store, parsed, store.shown(folder))
    open_by_digest = {
        open_request.digest: open_request.request for open_request in ceremony_archive.open_requests(store)
    }
    return open_by_digest.get(parsed.response.request)


def _accepted_error(store: Store, parsed: ParsedResponse, place: str) -> PkiError:
    """Return the error for a response that was accepted before; its hint names the response that is expected."""
    open_numbers = [open_request.request.number for open_request in ceremony_archive.open_requests(store)]
    if not open_numbers:
        hint = f"nothing is left to do: {run_for(store.home)} doit"
        return PkiError(f"{parsed.name}: was accepted already, as {place}", hint)
    folder, name = parsed.folder.parent, f"response-{open_numbers[-1]:04}"
    expected = find_response.response_to_open_request(store, folder)
    hint = find_response.accept_command(store, expected or folder / name)
    return PkiError(
        f"{parsed.name}: was accepted already, as {place}; request {open_numbers[-1]} waits for its response, {name}",
        hint if expected else f"perform its ceremony; then: {hint}",
    )


def _other_project_hint(store: Store, folder: Path) -> str:
    """Return the hint for a response of another project: the kit beside the response names that project.

    When a response beside it answers an open request of this project, the hint names that response.
    """
    if expected := find_response.response_to_open_request(store, folder.parent):
        return find_response.accept_command(store, expected)
    home = store.home
    data = filesystem.read_if_possible(folder.resolve().parent / kit.NAME / kit.PROJECT) or b""
    project_folder = data.decode(errors="replace").strip()
    line = f"./run invoke ceremony.accept {shlex.quote(str(folder))}"
    if project_folder and Path(project_folder) != home.resolve() and (Path(project_folder) / "pki.yaml").is_file():
        return f"is it a response of that project? PKI_HOME={shlex.quote(project_folder)} {line}"
    return f"is it a response of another project? name its folder: PKI_HOME=DIR {line}"


def _checked_transcript(store: Store, parsed: ParsedResponse) -> bytes:
    """Return the transcript of a response: complete, continuing that of the last ceremony, and ending with this response.

    It must contain the head that the last response names: only the records up to that head were confirmed.
    Raises PkiError.
    """
    path = parsed.folder / "transcript.jsonl"
    transcript = filesystem.read(path)
    if transcript is None:
        raise PkiError(f"{path}: is missing", verify_response.COPY_AGAIN)
    try:
        records = transcript_chain.load(transcript, f"{parsed.folder.name}/transcript.jsonl")
    except PkiError as error:  # its hint is for the vault
        raise PkiError(error.message, verify_response.COPY_AGAIN) from None
    last_head = ceremony_archive.last_transcript_head(store)
    if last_head and last_head not in {record.hash for record in records}:
        raise PkiError(
            f"{parsed.folder.name}/transcript.jsonl: does not continue that of the last ceremony",
            "it is from another vault, or one of the two was changed; use the vault of the last ceremony",
        )
    fault = verify_response.transcript_fault(parsed, records)
    if not fault and records[-1].facts.get("sha256") != request_response.digest(parsed.data):
        fault = "has records after the export of the response"
    if fault:
        raise PkiError(f"{parsed.folder.name}/transcript.jsonl: {fault}", verify_response.COPY_AGAIN)
    return transcript


def _check_clocks(now: datetime, parsed: ParsedResponse, request: Request) -> None:
    """Raise PkiError, with both clocks, for a response that was signed in the future or before its request."""
    signed_at = parsed.response.signed
    both_clocks = f"the clock of the offline machine said {signed_at:%Y-%m-%d %H:%M} UTC, the clock of this machine says {now:%Y-%m-%d %H:%M} UTC"
    if signed_at > now + request_response.CLOCK_TOLERANCE:
        after = signed_at - request_response.CLOCK_TOLERANCE + timedelta(seconds=59)  # messages show whole minutes
        raise PkiError(
            f"{parsed.name}: was signed in the future: {both_clocks}",
            "compare this machine's clock with a watch, in UTC: date -u; if it is wrong, set it, and repeat the command\n"
            "if it is right, the offline machine's clock was ahead (local time typed as UTC?): the response is valid, and "
            f"the command works after {after:%Y-%m-%d %H:%M} UTC; if that is too late, perform the ceremony again",
        )
    if signed_at < request.prepared - request_response.CLOCK_TOLERANCE:
        raise PkiError(
            f"{parsed.name}: was signed before the request was prepared, {request.prepared:%Y-%m-%d %H:%M} UTC: {both_clocks}",
            "the offline machine's clock was behind: perform the ceremony again, with its clock set to the true time in UTC",
        )


# -- confirming and accepting ----------------------------------------------------------------------------------------


def other_digests(verified: VerifiedResponse) -> dict[str, str]:
    """Return digests that could be mistaken for that of the response, by name."""
    sums = filesystem.read_if_possible(verified.parsed.folder.resolve().parent / kit.NAME / "SHA256SUMS")
    others = {"the kit": request_response.digest(sums)} if sums is not None else {}
    return others | {f"request {verified.request.number}": verified.parsed.response.request}


def confirm_words(verified: VerifiedResponse, typed: str) -> None:
    """Raise PkiError unless the typed words are the first ones of the response's digest."""
    digest = request_response.digest(verified.parsed.data)
    if not words.matches(typed, digest):
        if name := words.name_of_typed(typed, {"the response": digest} | other_digests(verified), "the response"):
            raise PkiError(
                f"these are {name}; expected the words of the response",
                f"type the first {words.WORDS_TO_TYPE} words that ceremony.sign showed; the same command shows them again",
            )
        raise PkiError(
            f"this is not the response that the ceremony showed: {words.mismatch(typed, digest)}",
            f"type the first words from the paper of the ceremony, or {verify_response.COPY_AGAIN}",
        )


@contextmanager
def _prepared_root_entries(
    inventory: Inventory, store: Store, authorities: Authorities, verified: VerifiedResponse
) -> Iterator[Callable[[], None]]:
    """Yield a function that puts pki.yaml with the SHA-256 of each root in place.

    The new text of pki.yaml is on disk before, so that the function cannot fail for lack of space. In a sandbox the
    function writes nothing, because the roots of a sandbox may be lost.
    """
    path = store.home / "pki.yaml"
    present = [root for name in store.roots() if (root := authorities.generation(name))]
    roots: dict[str, str] = {root.name: root.fingerprint for root in present}
    roots |= verified.roots
    if inventory.sandbox or set(roots.values()) <= set(inventory.roots):
        yield lambda: None
        return
    with editing.prepared_write(editing.add_roots(path, roots)) as put:
        yield put


def _store_result(
    store: Store, now: datetime, ledger_view: LedgerView, result: CeremonyResult, replaced_roots: Collection[str]
) -> list[str]:
    """Record and write everything except the response. Return the CRLs that must be destroyed.

    The CRLs of `replaced_roots` are superseded by a later ceremony, so they are recorded and not written.
    """
    request = result.request
    because = f"ceremony {request.number}: {'; '.join(request.because)}"
    for (name, issuer), certificate in result.parsed.certificates.items():
        if not ledger_view.ledger.certificates(serial=certificate.serial_number):
            named = GenerationName.parse(name)
            ledger_view.ledger.record_certificate(
                certificate,
                issuer=issuer,
                artifact=ArtifactId("authority", named.authority),
                profile=named.profile,
                reason=because,
                at=now,
            )
    _record_revocations(ledger_view, request)
    presigned_series.record(ledger_view, result, because, now)
    for name, issuer in result.parsed.certificates:
        is_cross_certificate = name != issuer and GenerationName.parse(name).is_root
        if is_cross_certificate:
            pem = pem_encoding.pem_of([result.parsed.certificates[name, issuer]])
            filesystem.write(store.authority_file(name, f"cross-{issuer}.pem"), pem)
    crls_to_destroy = presigned_series.place(store, now, result, replaced_roots)
    roots_first = sorted(
        result.parsed.certificates, key=lambda pair: GenerationName.parse(pair[0]).is_root, reverse=True
    )
    for name, issuer in roots_first:  # an intermediate is never in ca/ without its root
        if name == issuer or not GenerationName.parse(name).is_root:
            filesystem.write(
                store.authority_file(name, "cert.pem"),
                pem_encoding.pem_of([result.parsed.certificates[name, issuer]]),
            )
    return crls_to_destroy


def _record_revocations(ledger_view: LedgerView, request: Request) -> None:
    """Record the revocations of the request that the ledger does not have yet."""
    for series in request.crl_series:
        for entry in series.revoked:
            for certificate in ledger_view.ledger.certificates(serial=entry.serial):
                if not certificate.revoked:
                    ledger_view.ledger.record_revocation(certificate, reason=entry.reason, at=entry.at)


def _write_records(store: Store, result: CeremonyResult, transcript: bytes) -> None:
    """Write transcript and response; the response is last, because it marks the ceremony as accepted."""
    folder, request = store.ceremony(result.request.number), request_response.dump(result.request)
    filesystem.write(store.ca / "transcript.jsonl", transcript)
    filesystem.write(folder / "request.yaml", request)
    request_digest, response_digest = request_response.digest(request), request_response.digest(result.parsed.data)
    records = transcript_chain.load(transcript, "transcript.jsonl")
    filesystem.write(
        folder / "transcript.html", render_transcript(records, result.request, request_digest, response_digest)
    )
    filesystem.write(folder / "response.yaml", result.parsed.data)
