"""A response read back and held against its request: what both sides of the air gap, and an auditor years later, check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pki.ceremony import checked_signing, drafts, request_response
from pki.ceremony.lint import Signed
from pki.ceremony.request_response import Request, Response
from pki.ceremony.transcript_chain import Record
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.x509 import pem_encoding

AGAIN = "copy the response again from the offline machine"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it lies in `folder`, with everything in it parsed."""

    name: str
    folder: Path
    data: bytes
    response: Response
    certificates: dict[tuple[str, str], x509.Certificate]  # by name and issuer
    presigned_crls: dict[tuple[str, int], x509.CertificateRevocationList]  # by root and number


def read(folder: Path, *, presigned_crls: Mapping[str, Path] | None = None) -> Answer:
    """Read a response; `presigned` says where its CRLs are when they do not lie beside it: what is not there was destroyed.

    Raises PkiError when something is missing, or not as it was written.
    """
    name = f"{folder.name}/response.yaml"
    data = filesystem.read(folder / "response.yaml")
    if data is None:
        raise PkiError(f"{folder}: holds no response.yaml", "name the folder that invoke ceremony.sign wrote")
    response = request_response.load(data, name, Response)
    places = (
        {presigned_crl.file: folder / presigned_crl.file for presigned_crl in response.presigned_crls}
        if presigned_crls is None
        else presigned_crls
    )
    certificates = _certificates(response, name)
    return Answer(name, folder, data, response, certificates, dict(_presigned_crls(response, places)))


def _certificates(response: Response, name: str) -> dict[tuple[str, str], x509.Certificate]:
    found: dict[tuple[str, str], x509.Certificate] = {}
    for one in response.certificates:
        try:
            cert = found[one.name, one.issuer] = one.certificate
        except ValueError:
            raise PkiError(f"{name}: the certificate {one.name} cannot be read", AGAIN) from None
        if pem_encoding.pem_of([cert]).decode() != one.pem:
            raise PkiError(f"{name}: the certificate {one.name} is not as it was written", AGAIN)
    if len(found) != len(response.certificates):
        raise PkiError(f"{name}: a certificate stands in it twice", AGAIN)
    return found


def _presigned_crls(
    response: Response, places: Mapping[str, Path]
) -> Iterator[tuple[tuple[str, int], x509.CertificateRevocationList]]:
    for presigned_crl in response.presigned_crls:
        if presigned_crl.file not in places:
            continue
        path = places[presigned_crl.file]
        data = filesystem.read(path)
        if data is None:
            raise PkiError(f"{path}: is missing", AGAIN)
        if request_response.digest(data) != presigned_crl.sha256:
            raise PkiError(f"{path}: is not the CRL that the response names", AGAIN)
        try:
            yield (presigned_crl.root, presigned_crl.number), x509.load_pem_x509_crl(data)
        except ValueError:
            raise PkiError(f"{path}: is not a CRL", AGAIN) from None


def faults(answer: Answer, request: Request, known: Mapping[str, x509.Certificate]) -> list[str]:
    """Everything that is wrong with an answer, under the roots that are `known` and those that it brings itself."""
    return list(_structure_faults(answer, request)) or list(_signature_faults(answer, request, known))


def untold(answer: Answer, records: Sequence[Record]) -> str:
    """What a transcript lacks of an answer: it must have been exported, by its digest, after what it says was before."""
    hashes = [record.hash for record in records]
    if answer.response.transcript not in hashes:
        return f"does not tell of the response {answer.response.number}"
    digest, members = (
        request_response.digest(answer.data),
        {presigned_crl.file: presigned_crl.sha256 for presigned_crl in answer.response.presigned_crls},
    )
    for record in records[hashes.index(answer.response.transcript) :]:
        told = record.facts.get("files")
        if record.step == "exported" and record.facts.get("sha256") == digest and isinstance(told, dict):
            return "" if members.items() <= told.items() else "tells of other CRLs than the response"
    return f"does not tell of the response {answer.response.number} as it is"


def _structure_faults(answer: Answer, request: Request) -> Iterator[str]:
    """What was asked for and is missing, and what is there and was not asked for."""
    response = answer.response
    asked = {(root.name, root.name) for root in request.roots}
    asked |= {(one.name, one.issuer) for one in request.intermediates}
    asked |= {(one.name, one.issuer) for one in request.cross_certificates}
    presigned_crls = [
        (series.root, presigned_crl.number) for series in request.crl_series for presigned_crl in series.presigned_crls
    ]
    for name, issuer in sorted(asked - answer.certificates.keys()):
        yield f"{name} by {issuer} is missing"
    for name, issuer in sorted(answer.certificates.keys() - asked):
        yield f"{name} by {issuer} was not asked for"
    if presigned_crls != [(presigned_crl.root, presigned_crl.number) for presigned_crl in response.presigned_crls]:
        yield "its CRLs are not those that were asked for"
    if response.number != request.number:
        yield f"its number is {response.number}, that of the request {request.number}"
    if response.destroyed != request.destroy:
        yield "it speaks of other roots to be destroyed than the request"
    if response.signed < request.prepared - request_response.SLACK:
        yield f"was signed on {response.signed:%Y-%m-%d %H:%M} UTC, before the request was prepared"


def _signature_faults(answer: Answer, request: Request, known: Mapping[str, x509.Certificate]) -> Iterator[str]:
    """Everything signed, held against what was asked for."""
    try:
        yield from _differences(answer, request, known)
    except (ValueError, UnsupportedAlgorithm) as error:  # of a key or extension that is damaged
        yield f"what is signed in it cannot be read: {error}"


def _differences(answer: Answer, request: Request, known: Mapping[str, x509.Certificate]) -> Iterator[str]:
    roots, found = dict(known), answer.certificates
    for root in request.roots:
        cert = roots[root.name] = found[root.name, root.name]
        yield from _checked(drafts.root(request, root, cert.public_key()), cert, cert)
    crossed_names = [cross.name for cross in request.cross_certificates]
    if unknown := [name for name in (*request.root_names, *crossed_names) if name not in roots]:
        yield f"{', '.join(dict.fromkeys(unknown))}: no certificate of it is known here"
        return
    for one in request.intermediates:
        draft = drafts.intermediate(request, one, roots[one.issuer])
        yield from _checked(draft, found[one.name, one.issuer], roots[one.issuer])
    for cross in request.cross_certificates:
        crossed = drafts.cross(request, cross, roots[cross.name], roots[cross.issuer])
        yield from _checked(crossed, found[cross.name, cross.issuer], roots[cross.issuer])
    for series in request.crl_series:
        for presigned_crl in drafts.series(series, roots[series.root]):
            crl = answer.presigned_crls.get((series.root, presigned_crl.presigned_crl.number))
            if crl is not None:  # an empty CRL is falsy
                yield from _checked(presigned_crl, crl, roots[series.root])


def _checked(draft: drafts.Draft, signed: Signed, issuer: x509.Certificate) -> Iterator[str]:
    for fault in checked_signing.check(draft, signed, issuer):
        yield f"{draft.what}: {fault}"
