"""Taking a response in: everything is verified again, then recorded, then filed; in this order, so that it can be resumed.

The first response pins the root: from then on `ca/root/` says who is believed. The response bears no signature of its
own; what is in it bears the root's, and its digest is confirmed by a person.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from pki import issue, store
from pki.ceremony import bundle, drafts, signing, transcript, words
from pki.ceremony.bundle import Request, Response
from pki.ceremony.lint import Signed
from pki.ceremony.vault import fingerprint
from pki.errors import PkiError
from pki.handover import asking
from pki.house import House

SLACK = timedelta(hours=1)  # between the clocks of two machines
AGAIN = "copy the response again from where it was written"


@dataclass(frozen=True, slots=True)
class Brought:
    """A response as it was brought, with the request that it answers, and everything in it parsed."""

    name: str
    data: bytes
    response: Response
    request: Request
    certificates: dict[tuple[str, str], x509.Certificate]  # by name and issuer
    rungs: dict[tuple[str, int], x509.CertificateRevocationList]  # by root and number
    minutes: bytes

    def cert(self, name: str, issuer: str) -> x509.Certificate:
        return self.certificates[name, issuer]


# -- reading and verifying --------------------------------------------------------------------------------------------


def brought(house: House, folder: Path) -> Brought:
    """Read a response and verify all of it, without writing anything. Raises PkiError with what is wrong."""
    folder = folder.parent if folder.name == "response.yaml" else folder
    name = f"{folder.name}/response.yaml"
    data = store.read(folder / "response.yaml")
    if data is None:
        raise PkiError(f"{folder}: holds no response.yaml", "name the folder that invoke ceremony.sign wrote")
    response = bundle.load(data, name, Response)
    request = _asked(house, response, data, name)
    found = Brought(
        name=name,
        data=data,
        response=response,
        request=request,
        certificates=_certificates(response, name),
        rungs=dict(_rungs(response, folder)),
        minutes=_minutes(house, folder, response, data),
    )
    faults = [*_structure_faults(found), *_dates_faults(house, response)]
    faults = faults or list(_signature_faults(house, found))
    if faults:
        raise PkiError("\n".join(f"{name}: {fault}" for fault in faults), f"nothing was filed; {AGAIN}")
    return found


def _asked(house: House, response: Response, data: bytes, name: str) -> Request:
    """The request that a response answers: an open one of this house, and no other."""
    for folder in house.store.ceremonies():
        if store.read(folder / "response.yaml") == data:
            raise PkiError(f"{name}: was accepted already, as {house.shown(folder)}", "nothing is left to do: ./run doit")
    waiting = {one.digest: one.request for one in asking.open_requests(house)}
    if response.request not in waiting:
        numbers = ", ".join(str(one.number) for one in waiting.values())
        raise PkiError(
            f"{name}: answers another request (SHA-256 {response.request[:16]}…, ceremony {response.number})",
            f"this house waits for an answer to request {numbers}" if numbers else "this house waits for no answer",
        )
    request = waiting[response.request]
    if request.number != response.number:
        raise PkiError(f"{name}: its number is {response.number}, the request's is {request.number}", AGAIN)
    return request


def _certificates(response: Response, name: str) -> dict[tuple[str, str], x509.Certificate]:
    found: dict[tuple[str, str], x509.Certificate] = {}
    for one in response.certificates:
        try:
            found[one.name, one.issuer] = one.certificate
        except ValueError:
            raise PkiError(f"{name}: the certificate {one.name} cannot be read", AGAIN) from None
        if issue.pem_of([one.certificate]).decode() != one.pem:
            raise PkiError(f"{name}: the certificate {one.name} is not as it was written", AGAIN)
    if len(found) != len(response.certificates):
        raise PkiError(f"{name}: a certificate stands in it twice", AGAIN)
    return found


def _rungs(response: Response, folder: Path) -> Iterator[tuple[tuple[str, int], x509.CertificateRevocationList]]:
    for rung in response.rungs:
        data = store.read(folder / rung.file)
        if data is None:
            raise PkiError(f"{folder / rung.file}: is missing", AGAIN)
        if bundle.digest(data) != rung.sha256:
            raise PkiError(f"{folder / rung.file}: is not the CRL that the response names", AGAIN)
        try:
            yield (rung.root, rung.number), x509.load_pem_x509_crl(data)
        except ValueError:
            raise PkiError(f"{folder / rung.file}: is not a CRL", AGAIN) from None


def _minutes(house: House, folder: Path, response: Response, data: bytes) -> bytes:
    """The transcript that came along: whole, longer than the one that is kept here, and about this response."""
    path = folder / "transcript.jsonl"
    minutes = store.read(path)
    if minutes is None:
        raise PkiError(f"{path}: is missing", AGAIN)
    records = transcript.load(minutes, f"{folder.name}/transcript.jsonl")
    kept = store.read(house.store.ca / "transcript.jsonl") or b""
    if not minutes.startswith(kept):
        raise PkiError(
            f"{folder.name}/transcript.jsonl: does not continue ca/transcript.jsonl",
            "it is of another vault, or one of the two was changed; take the vault of the last ceremony",
        )
    told = {record.hash for record in records}
    exported = [record.facts for record in records if record.step == "exported"]
    if response.transcript not in told or all(facts.get("sha256") != bundle.digest(data) for facts in exported):
        raise PkiError(f"{folder.name}/transcript.jsonl: does not tell of this response", AGAIN)
    return minutes


def _structure_faults(found: Brought) -> Iterator[str]:
    """What was asked for and is missing, and what is there and was not asked for."""
    request, response = found.request, found.response
    asked = {(root.name, root.name) for root in request.roots}
    asked |= {(one.name, one.issuer) for one in request.intermediates}
    asked |= {(one.name, one.issuer) for one in request.cross_certificates}
    rungs = {(ladder.root, rung.number) for ladder in request.ladders for rung in ladder.rungs}
    for name, issuer in sorted(asked - found.certificates.keys()):
        yield f"{name} by {issuer} is missing"
    for name, issuer in sorted(found.certificates.keys() - asked):
        yield f"{name} by {issuer} was not asked for"
    for root, number in sorted(rungs ^ found.rungs.keys()):
        yield f"CRL {number} of {root} is missing, or was not asked for"
    if len(response.rungs) != len(found.rungs):
        yield "a CRL stands in it twice"
    if response.destroyed != request.destroy:
        yield "it speaks of other roots to be destroyed than the request"


def _dates_faults(house: House, response: Response) -> Iterator[str]:
    if response.signed > house.now + SLACK:
        yield f"was signed on {response.signed:%Y-%m-%d %H:%M} UTC, which is in the future; one of the two clocks is off"


def _signature_faults(house: House, found: Brought) -> Iterator[str]:
    """Everything signed, held against what was asked for, under roots that are pinned or vouched for."""
    request, roots = found.request, dict[str, x509.Certificate]()
    for name in house.store.generations("root"):
        if generation := house.generation(name):
            roots[name] = generation.certificate
    for root in request.roots:
        cert = roots[root.name] = found.cert(root.name, root.name)
        yield from _checked(drafts.root(request, root, cert.public_key()), cert, cert)
    for one in request.intermediates:
        draft = drafts.intermediate(request, one, roots[one.issuer])
        yield from _checked(draft, found.cert(one.name, one.issuer), roots[one.issuer])
    for cross in request.cross_certificates:
        crossed = drafts.cross(request, cross, roots[cross.name], roots[cross.issuer])
        yield from _checked(crossed, found.cert(cross.name, cross.issuer), roots[cross.issuer])
    for ladder in request.ladders:
        for rung in drafts.ladder(ladder, roots[ladder.root]):
            yield from _checked(rung, found.rungs[ladder.root, rung.rung.number], roots[ladder.root])
    told = {(one, fingerprint(cert)) for (one, _), cert in found.certificates.items()}
    if len(told) != len(found.certificates):
        yield "a certificate stands in it under two names"


def _checked(draft: drafts.Draft, signed: Signed, issuer: x509.Certificate) -> Iterator[str]:
    for fault in signing.check(draft, signed, issuer):
        yield f"{draft.what}: {fault}"


# -- confirming and filing --------------------------------------------------------------------------------------------


def confirm(found: Brought, typed: str) -> None:
    """Go on only when the first words of the response's digest were typed as the offline side showed them."""
    digest = bundle.digest(found.data)
    if not words.agree(typed, digest):
        raise PkiError(
            f"this is not the response that the ceremony showed: {words.fault(typed, digest)}",
            f"type the first words from the paper of the ceremony, or {AGAIN}",
        )


def file(house: House, found: Brought) -> list[str]:
    """Record everything in the ledger, then put it into `ca/`; returns the CRLs that are now to be destroyed.

    Killed anywhere, it can be begun again: what is recorded is not recorded twice, and the response comes last.
    """
    request = found.request
    because = f"ceremony {request.number}: {'; '.join(request.because)}"
    for (name, issuer), cert in found.certificates.items():
        if not house.ledger.certificates(serial=cert.serial_number):
            profile = "root" if name.startswith("root-") else f"{name.rpartition('-')[0]}-ca"
            house.ledger.record_certificate(
                cert, issuer=issuer, artifact=f"authority:{name.rpartition('-')[0]}", profile=profile, reason=because, at=house.now
            )
    _record_revocations(house, request)
    for (root, number), rung in found.rungs.items():
        if not house.ledger.has_crl(root, number):
            house.ledger.record_crl(rung, issuer=root, reason=because, at=house.now)
    for name, issuer in found.certificates:
        if name != issuer and name.startswith("root-"):
            pem = issue.pem_of([found.cert(name, issuer)])
            store.write(house.store.authority_file(name, f"cross-{issuer}.pem"), pem)
    old = _place_rungs(house, found)
    for name, issuer in sorted(found.certificates, key=lambda pair: pair[0].startswith("root-"), reverse=True):
        if name == issuer or not name.startswith("root-"):
            store.write(house.store.authority_file(name, "cert.pem"), issue.pem_of([found.cert(name, issuer)]))
    _keep(house, found)
    return old


def _record_revocations(house: House, request: Request) -> None:
    for ladder in request.ladders:
        for one in ladder.revoked:
            for issued in house.ledger.certificates(serial=one.serial):
                if not issued.revoked:
                    house.ledger.record_revocation(issued, reason=one.reason, at=one.at)


def _place_rungs(house: House, found: Brought) -> list[str]:
    """The new ladders in place of the old ones; returns the old rungs that have not ended."""
    old = []
    for ladder in found.request.ladders:
        numbers = {rung.number for rung in ladder.rungs}
        for rung in ladder.rungs:
            path = house.store.authority_file(ladder.root, "crl") / f"{rung.number}.pem"
            store.write(path, issue.pem_of([found.rungs[ladder.root, rung.number]]))
        for path in house.store.rungs(ladder.root):
            if int(path.stem) not in numbers:
                old += _unended(house, path, ladder.root)
                path.unlink()
    for folder in house.store.ceremonies():
        for path in folder.glob("root-*-crl-*.pem"):
            if any(path.name.startswith(f"{ladder.root}-crl-") for ladder in found.request.ladders):
                path.unlink()
    return old


def _unended(house: House, path: Path, root: str) -> list[str]:
    with suppress(ValueError):
        crl = x509.load_pem_x509_crl(store.read(path) or b"")
        end = crl.next_update_utc
        if end and end > house.now:
            return [f"CRL {path.stem} of {root}, good from {crl.last_update_utc:%Y-%m-%d} to {end:%Y-%m-%d}"]
    return []


def _keep(house: House, found: Brought) -> None:
    """The records of the ceremony; the response itself comes last, and says that all the rest is there."""
    folder = house.store.ceremony(found.request.number)
    store.write(house.store.ca / "transcript.jsonl", found.minutes)
    store.write(folder / "response.yaml", found.data)
    shutil.rmtree(folder / "rehearsal", ignore_errors=True)


