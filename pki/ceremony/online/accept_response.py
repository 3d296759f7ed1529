"""Taking a response in: everything is verified again, then recorded, then filed; in this order, so that it can be resumed.

The first response pins the root: from then on `ca/root/` says who is believed. The response bears no signature of its
own; what is in it bears the root's, and its digest is confirmed by a person.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from pki.ceremony import request_response, transcript_chain, verify_response, words
from pki.ceremony.offline.response_export import printed
from pki.ceremony.online import ceremony_archive, find_response, intermediate_keys, kit, lost_ceremonies, misplaced_keys
from pki.ceremony.online.lost_ceremonies import Held
from pki.ceremony.request_response import Request
from pki.ceremony.vault import fingerprint
from pki.ceremony.verify_response import Answer
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import run_for
from pki.config import editing
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.project import Project
from pki.x509 import pem_encoding


@dataclass(frozen=True, slots=True)
class Brought:
    """An answer as it was brought, the request that it answers, and the transcript that tells of it.

    Where the project lost the request, `series` has the ceremonies that it lost, oldest first; this one is the last.
    """

    answer: Answer
    request: Request
    minutes: bytes
    is_lost: bool
    series: tuple[Held, ...]

    @property
    def roots(self) -> dict[str, str]:
        """The SHA-256 of each new root by its name."""
        return {name: fingerprint(cert) for held in self.series for name, cert in held.roots.items()}


# -- reading and verifying --------------------------------------------------------------------------------------------


def brought(project: Project, folder: Path) -> Brought:
    """Read a response and verify all of it, without writing anything. Raises PkiError with what is wrong."""
    folder = folder.parent if folder.name == "response.yaml" else folder
    misplaced_keys.insist_on_no_keys(folder, *_own_folders(project))
    find_response.insist_on_response(project, folder)
    answer = verify_response.read(folder)
    request = _asked(project, answer)
    series = [Held(answer, request)] if request else lost_ceremonies.series(project, answer)
    if not series:
        raise _of_another_project(project, answer)
    minutes = _minutes(project, answer)
    for held in series:
        _insist_on_clocks(project, held.answer, held.request)
    if faults := list(_faults(project, series, minutes)) or (
        list(intermediate_keys.faults(project, request)) if request else []
    ):
        raise PkiError("\n".join(faults), f"nothing was filed; {verify_response.AGAIN}")
    return Brought(answer, series[-1].request, minutes, request is None, tuple(series))


def _faults(project: Project, series: Sequence[Held], transcript: bytes) -> Iterator[str]:
    """Everything that is wrong with responses, each under the roots that were there before it."""
    there = filter(None, map(project.generation, project.store.generations("root")))
    roots: dict[str, x509.Certificate] = {one.name: one.certificate for one in there}
    records = transcript_chain.load(transcript, "transcript.jsonl")
    for held in series:
        name, lacking = held.answer.name, verify_response.untold(held.answer, records)
        found = verify_response.faults(held.answer, held.request, roots) or (
            [f"the transcript {lacking}"] if lacking else []
        )
        yield from (f"{name}: {fault}" for fault in found)
        if found:
            return
        roots |= held.roots
    yield from lost_ceremonies.faults(series)


def _own_folders(project: Project) -> Iterator[Path]:
    """Yield the folders whose private keys belong to this project."""
    yield from (project.store.offline, project.store.ca, project.store.build)
    yield from (project.store.home / one.adopt for one in project.inventory.authorities.adopted.values())


def _asked(project: Project, answer: Answer) -> Request | None:
    """The open request of this project that a response verify_response. Raises PkiError for a response that was accepted."""
    for folder in project.store.ceremonies():
        if filesystem.read(folder / "response.yaml") == answer.data:
            raise _accepted_already(project, answer, project.store.shown(folder))
    waiting = {one.digest: one.request for one in ceremony_archive.open_requests(project)}
    return waiting.get(answer.response.request)


def _of_another_project(project: Project, answer: Answer) -> PkiError:
    """That a response is of another project, with what helps where it is of this one, which has lost all of `ca/`."""
    numbers = ", ".join(str(one.request.number) for one in ceremony_archive.open_requests(project))
    waits = f"waits for the answer to request {numbers}" if numbers else "waits for no answer"
    hint, response = _line_of_project(project, answer.folder), answer.response
    if roots := lost_ceremonies.roots_to_name(project, answer):
        lines = "\n".join(["roots:", *(f"  - {one}" for one in roots)])
        hint += (
            "\nis it of this one, which lost ca/? compare with the signed page of the ceremony, write this into pki.yaml, "
            f"and type the same line again:\n{lines}"
        )
    return PkiError(
        f"{answer.name}: answers another request (SHA-256 {response.request[:16]}…, ceremony {response.number}) than one of "
        f"the project {project.store.home}, which {waits}",
        hint,
    )


def _accepted_already(project: Project, answer: Answer, place: str) -> PkiError:
    """That a response is in `ca/` already, with the line for the one that is still waited for."""
    waiting = [one.request.number for one in ceremony_archive.open_requests(project)]
    if not waiting:
        hint = f"nothing is left to do: {run_for(project.store.home)} doit"
        return PkiError(f"{answer.name}: was accepted already, as {place}", hint)
    beside, name = answer.folder.parent, f"response-{waiting[-1]:04}"
    found = find_response.fitting(project, beside)
    hint = find_response.line(project, found or beside / name)
    return PkiError(
        f"{answer.name}: was accepted already, as {place}; request {waiting[-1]} waits for its answer, {name}",
        hint if found else f"hold its ceremony; then: {hint}",
    )


def _line_of_project(project: Project, folder: Path) -> str:
    """What to type for a response of another project: the kit beside the response says where that is.

    Where a response beside it answers an open request of this project, that one is meant.
    """
    if found := find_response.fitting(project, folder.parent):
        return find_response.line(project, found)
    home = project.store.home
    data = filesystem.read_if_possible(folder.resolve().parent / kit.NAME / kit.PROJECT) or b""
    told = data.decode(errors="replace").strip()
    line = f"./run invoke ceremony.accept {shlex.quote(str(folder))}"
    if told and Path(told) != home.resolve() and (Path(told) / "pki.yaml").is_file():
        return f"is it of that project? PKI_HOME={shlex.quote(told)} {line}"
    return f"is it of another project? name its folder: PKI_HOME=DIR {line}"


def _minutes(project: Project, answer: Answer) -> bytes:
    """The transcript that came along: whole, going on from the last ceremony, and ending with this response.

    What was confirmed of the last one is the head that its response names; what stands after that, nobody confirmed.
    """
    path = answer.folder / "transcript.jsonl"
    minutes = filesystem.read(path)
    if minutes is None:
        raise PkiError(f"{path}: is missing", verify_response.AGAIN)
    try:
        records = transcript_chain.load(minutes, f"{answer.folder.name}/transcript.jsonl")
    except PkiError as error:  # its own hint is for the vault
        raise PkiError(error.message, verify_response.AGAIN) from None
    last = ceremony_archive.last_head(project)
    if last and last not in {record.hash for record in records}:
        raise PkiError(
            f"{answer.folder.name}/transcript.jsonl: does not continue that of the last ceremony",
            "it is of another vault, or one of the two was changed; take the vault of the last ceremony",
        )
    fault = verify_response.untold(answer, records)
    if not fault and records[-1].facts.get("sha256") != request_response.digest(answer.data):
        fault = "goes on after the response was handed out"
    if fault:
        raise PkiError(f"{answer.folder.name}/transcript.jsonl: {fault}", verify_response.AGAIN)
    return minutes


def _insist_on_clocks(project: Project, answer: Answer, request: Request) -> None:
    """Raise PkiError, which names both clocks, for a response that was signed in the future or before its request."""
    signed, here = answer.response.signed, project.now
    both = f"the clock of the offline machine said {signed:%Y-%m-%d %H:%M} UTC, the clock of this machine says {here:%Y-%m-%d %H:%M} UTC"
    if signed > here + request_response.SLACK:
        after = signed - request_response.SLACK + timedelta(seconds=59)  # shown in whole minutes
        raise PkiError(
            f"{answer.name}: was signed in the future: {both}",
            "compare this machine's clock with a watch, in UTC: date -u; if it is wrong, set it, and type the same line again\n"
            "if it is right, the offline machine's clock was ahead (local time typed as UTC?): the response is sound, and "
            f"the same line works after {after:%Y-%m-%d %H:%M} UTC; if that is too late, hold the ceremony again",
        )
    if signed < request.prepared - request_response.SLACK:
        raise PkiError(
            f"{answer.name}: was signed before the request was prepared, {request.prepared:%Y-%m-%d %H:%M} UTC: {both}",
            "the offline machine's clock was behind: hold the ceremony again, with its clock set to the true time in UTC",
        )


def check_roots(project: Project, folder: Path) -> None:
    """Raise PkiError where a root is missing that this response does not bring; writes nothing."""
    if project.missing_roots:
        with suppress(PkiError):
            found = brought(project, folder)
            if {one.fingerprint for one in project.missing_roots} <= set(found.roots.values()):
                project.expect_roots()
                return
        project.check_roots()


# -- confirming and filing --------------------------------------------------------------------------------------------


def other_digests(found: Brought) -> dict[str, str]:
    """Digests whose words could be typed for those of the response, by their names."""
    sums = filesystem.read_if_possible(found.answer.folder.resolve().parent / kit.NAME / "SHA256SUMS")
    others = {"the kit": request_response.digest(sums)} if sums is not None else {}
    return others | {f"request {found.request.number}": found.answer.response.request}


def confirm(found: Brought, typed: str) -> None:
    """Go on only when the first words of the response's digest were typed as the offline side showed them."""
    digest = request_response.digest(found.answer.data)
    if not words.agree(typed, digest):
        if name := words.named(typed, {"the response": digest} | other_digests(found), "the response"):
            raise PkiError(
                f"these are {name}, and the words of the response are asked for",
                f"type the first {words.ASKED} words that ceremony.sign showed; it shows them again at the same line",
            )
        raise PkiError(
            f"this is not the response that the ceremony showed: {words.fault(typed, digest)}",
            f"type the first words from the paper of the ceremony, or {verify_response.AGAIN}",
        )


def file(project: Project, found: Brought) -> list[str]:
    """Record everything in the ledger, then put it into `ca/`; returns the CRLs that are now to be destroyed.

    Killed anywhere, it can be begun again: what is recorded is not recorded twice, and the response comes last. Before
    it, pki.yaml names the new roots; where it cannot be written, nothing is filed.
    """
    with _naming_roots(project, found) as name_roots:
        old = []
        for place, held in enumerate(found.series):
            if found.is_lost:
                lost_ceremonies.set_keys_aside(project, held.request)
            old += _file(project, held, lost_ceremonies.replaced(found.series[place + 1 :]))
        name_roots()
    for held in found.series:
        _keep(project, held, found.minutes)
    return old


@contextmanager
def _naming_roots(project: Project, found: Brought) -> Iterator[Callable[[], None]]:
    """What puts the SHA-256 of each root into pki.yaml; the new text is on disk beside it from the beginning.

    The sandbox names none: its roots may be lost_ceremonies.
    """
    path = project.store.home / "pki.yaml"
    there = [one for name in project.store.generations("root") if (one := project.generation(name))]
    roots: dict[str, str] = {one.name: one.fingerprint for one in there}
    roots |= found.roots
    if project.inventory.sandbox or set(roots.values()) <= set(project.inventory.roots):
        yield lambda: None
        return
    with editing.prepared_write(editing.add_roots(path, roots)) as put:
        yield put


def _file(project: Project, found: Held, replaced: Collection[str]) -> list[str]:
    """Record and file all of it but the response; returns the CRLs that are to be destroyed.

    Those of roots that are `replaced` are superseded by a later ceremony, and only recorded.
    """
    request = found.request
    because = f"ceremony {request.number}: {'; '.join(request.because)}"
    for (name, issuer), cert in found.answer.certificates.items():
        if not project.ledger.certificates(serial=cert.serial_number):
            named = GenerationName.parse(name)
            profile = "root" if named.is_root else f"{named.authority}-ca"
            project.ledger.record_certificate(
                cert,
                issuer=issuer,
                artifact=ArtifactId("authority", named.authority),
                profile=profile,
                reason=because,
                at=project.now,
            )
    _record_revocations(project, request)
    for (root, number), presigned_crl in found.answer.presigned_crls.items():
        if not project.ledger.has_crl(root, number):
            project.ledger.record_crl(presigned_crl, issuer=root, reason=because, at=project.now)
    for name, issuer in found.answer.certificates:
        if name != issuer and GenerationName.parse(name).is_root:
            pem = pem_encoding.pem_of([found.answer.certificates[name, issuer]])
            filesystem.write(project.store.authority_file(name, f"cross-{issuer}.pem"), pem)
    old = _place_presigned_crls(project, found, replaced)
    for name, issuer in sorted(
        found.answer.certificates, key=lambda pair: GenerationName.parse(pair[0]).is_root, reverse=True
    ):
        if name == issuer or not GenerationName.parse(name).is_root:
            filesystem.write(
                project.store.authority_file(name, "cert.pem"),
                pem_encoding.pem_of([found.answer.certificates[name, issuer]]),
            )
    return old


def _record_revocations(project: Project, request: Request) -> None:
    for series in request.crl_series:
        for one in series.revoked:
            for issued in project.ledger.certificates(serial=one.serial):
                if not issued.revoked:
                    project.ledger.record_revocation(issued, reason=one.reason, at=one.at)


def _place_presigned_crls(project: Project, found: Held, replaced: Collection[str]) -> list[str]:
    """The new series of pre-signed CRLs in place of the old ones; returns the old pre-signed CRLs that have not ended."""
    old = []
    for series in (one for one in found.request.crl_series if one.root not in replaced):
        numbers = {presigned_crl.number for presigned_crl in series.presigned_crls}
        for presigned_crl in series.presigned_crls:
            path = project.store.authority_file(series.root, "crl") / f"{presigned_crl.number}.pem"
            filesystem.write(
                path, pem_encoding.pem_of([found.answer.presigned_crls[series.root, presigned_crl.number]])
            )
        for path in project.store.presigned_crls(series.root):
            if int(path.stem) not in numbers:
                old += _unended(project, path, series.root)
                path.unlink()
    return old


def _unended(project: Project, path: Path, root: str) -> list[str]:
    with suppress(ValueError):
        crl = x509.load_pem_x509_crl(filesystem.read(path) or b"")
        end = crl.next_update_utc
        if end and end > project.now:
            return [f"CRL {path.stem} of {root}, good from {crl.last_update_utc:%Y-%m-%d} to {end:%Y-%m-%d}"]
    return []


def _keep(project: Project, found: Held, transcript: bytes) -> None:
    """The records of the ceremony; the response itself comes last, and says that all the rest is there."""
    folder, request = project.store.ceremony(found.request.number), request_response.dump(found.request)
    filesystem.write(project.store.ca / "transcript.jsonl", transcript)
    filesystem.write(folder / "request.yaml", request)
    asked, answered = request_response.digest(request), request_response.digest(found.answer.data)
    records = transcript_chain.load(transcript, "transcript.jsonl")
    filesystem.write(folder / "transcript.html", printed(records, found.request, asked, answered))
    filesystem.write(folder / "response.yaml", found.answer.data)
