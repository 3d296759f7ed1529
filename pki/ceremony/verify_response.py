"""Read a response and compare it with its request; used on acceptance and by the audit of past ceremonies."""

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

COPY_AGAIN = "copy the response again from the offline machine"


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A response in `folder` with its parsed certificates and CRLs."""

    name: str
    folder: Path
    data: bytes
    response: Response
    certificates: dict[tuple[str, str], x509.Certificate]  # by name and issuer
    presigned_crls: dict[tuple[str, int], x509.CertificateRevocationList]  # by root and number


def read_response(folder: Path, *, presigned_crls: Mapping[str, Path] | None = None) -> ParsedResponse:
    """Read a response with its CRLs from `folder`.

    `presigned_crls` gives the paths of the CRLs by file name, if they are not in `folder`. A CRL without a path was
    destroyed, and is left out. Raises PkiError if a file is missing or damaged.
    """
    name = f"{folder.name}/response.yaml"
    data = filesystem.read(folder / "response.yaml")
    if data is None:
        raise PkiError(f"{folder}: has no response.yaml", "name the folder that ceremony.sign wrote")
    response = request_response.load(data, name, Response)
    if presigned_crls is None:
        presigned_crls = {crl.file: folder / crl.file for crl in response.presigned_crls}
    certificates = _certificates(response, name)
    return ParsedResponse(name, folder, data, response, certificates, dict(_presigned_crls(response, presigned_crls)))


def _certificates(response: Response, name: str) -> dict[tuple[str, str], x509.Certificate]:
    certificates: dict[tuple[str, str], x509.Certificate] = {}
    for signed in response.certificates:
        try:
            certificate = certificates[signed.name, signed.issuer] = signed.certificate
        except ValueError:
            raise PkiError(f"{name}: the certificate {signed.name} cannot be read", COPY_AGAIN) from None
        if pem_encoding.pem_of([certificate]).decode() != signed.pem:
            raise PkiError(f"{name}: the certificate {signed.name} is damaged", COPY_AGAIN)
    if len(certificates) != len(response.certificates):
        raise PkiError(f"{name}: duplicate certificate", COPY_AGAIN)
    return certificates


def _presigned_crls(
    response: Response, paths: Mapping[str, Path]
) -> Iterator[tuple[tuple[str, int], x509.CertificateRevocationList]]:
    for presigned_crl in response.presigned_crls:
        if presigned_crl.file not in paths:  # it was destroyed
            continue
        path = paths[presigned_crl.file]
        data = filesystem.read(path)
        if data is None:
            raise PkiError(f"{path}: is missing", COPY_AGAIN)
        if request_response.digest(data) != presigned_crl.sha256:
            raise PkiError(f"{path}: is not the CRL that the response names", COPY_AGAIN)
        try:
            yield (presigned_crl.root, presigned_crl.number), x509.load_pem_x509_crl(data)
        except ValueError:
            raise PkiError(f"{path}: is not a CRL", COPY_AGAIN) from None


def faults(parsed: ParsedResponse, request: Request, known_roots: Mapping[str, x509.Certificate]) -> list[str]:
    """Return every fault of a response, compared with its request; empty when there is none.

    `known_roots` are the roots that exist already, by name; signatures are verified with these and the new roots.
    """
    return list(_structure_faults(parsed, request)) or list(_signature_faults(parsed, request, known_roots))


def transcript_fault(parsed: ParsedResponse, records: Sequence[Record]) -> str:
    """Return why a transcript does not cover a response, or "" when it does.

    A transcript must contain the head that the response names, and after the head a record of the export with the digest
    of the response.
    """
    hashes = [record.hash for record in records]
    if parsed.response.transcript not in hashes:
        return f"has no record of response {parsed.response.number}"
    digest = request_response.digest(parsed.data)
    crl_files = {presigned_crl.file: presigned_crl.sha256 for presigned_crl in parsed.response.presigned_crls}
    for record in records[hashes.index(parsed.response.transcript) :]:
        files = record.facts.get("files")
        if record.step == "exported" and record.facts.get("sha256") == digest and isinstance(files, dict):
            return "" if crl_files.items() <= files.items() else "names other CRLs than the response"
    return f"has no export of response {parsed.response.number} with this SHA-256"


def _structure_faults(parsed: ParsedResponse, request: Request) -> Iterator[str]:
    """Yield what was requested and is missing, and what was not requested."""
    response = parsed.response
    requested_names = {(root.name, root.name) for root in request.roots}
    requested_names |= {(intermediate.name, intermediate.issuer) for intermediate in request.intermediates}
    requested_names |= {(certificate.name, certificate.issuer) for certificate in request.cross_certificates}
    presigned_crls = [
        (series.root, presigned_crl.number) for series in request.crl_series for presigned_crl in series.presigned_crls
    ]
    for name, issuer in sorted(requested_names - parsed.certificates.keys()):
        yield f"{name} by {issuer} is missing"
    for name, issuer in sorted(parsed.certificates.keys() - requested_names):
        yield f"{name} by {issuer} was not requested"
    if presigned_crls != [(presigned_crl.root, presigned_crl.number) for presigned_crl in response.presigned_crls]:
        yield "its CRLs are not the requested ones"
    if response.number != request.number:
        yield f"its number is {response.number}, that of the request {request.number}"
    if response.destroyed != request.destroy:
        yield "its destroyed roots are not those of the request"
    if response.signed < request.prepared - request_response.CLOCK_TOLERANCE:
        yield f"was signed on {response.signed:%Y-%m-%d %H:%M} UTC, before the request was prepared"


def _signature_faults(
    parsed: ParsedResponse, request: Request, known_roots: Mapping[str, x509.Certificate]
) -> Iterator[str]:
    """Yield every fault of the signed certificates and CRLs."""
    try:
        yield from _differences(parsed, request, known_roots)
    except (ValueError, UnsupportedAlgorithm) as error:  # a damaged key or extension
        yield f"a certificate or CRL in it cannot be read: {error}"


def _differences(
    parsed: ParsedResponse, request: Request, known_roots: Mapping[str, x509.Certificate]
) -> Iterator[str]:
    roots, certificates = dict(known_roots), parsed.certificates
    for root in request.roots:
        certificate = roots[root.name] = certificates[root.name, root.name]
        yield from _checked(drafts.draft_root(request, root, certificate.public_key()), certificate, certificate)
    certified_roots = [cross.name for cross in request.cross_certificates]
    if unknown := [name for name in (*request.root_names, *certified_roots) if name not in roots]:
        yield f"{', '.join(dict.fromkeys(unknown))}: its certificate is not available here"
        return
    for intermediate in request.intermediates:
        draft = drafts.draft_intermediate(request, intermediate, roots[intermediate.issuer])
        yield from _checked(draft, certificates[intermediate.name, intermediate.issuer], roots[intermediate.issuer])
    for cross in request.cross_certificates:
        draft = drafts.draft_cross_certificate(request, cross, roots[cross.name], roots[cross.issuer])
        yield from _checked(draft, certificates[cross.name, cross.issuer], roots[cross.issuer])
    for series in request.crl_series:
        for crl_draft in drafts.draft_crl_series(series, roots[series.root]):
            crl = parsed.presigned_crls.get((series.root, crl_draft.presigned_crl.number))
            if crl is not None:  # a destroyed CRL is not compared; an empty CRL counts as False
                yield from _checked(crl_draft, crl, roots[series.root])


def _checked(draft: drafts.Draft, signed: Signed, issuer: x509.Certificate) -> Iterator[str]:
    for fault in checked_signing.check(draft, signed, issuer):
        yield f"{draft.what}: {fault}"
