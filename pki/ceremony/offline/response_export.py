"""The response of a ceremony: searched for private material, kept in the vault, handed out; and what is destroyed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.ceremony import request_response, words
from pki.ceremony.offline.session import Ceremony
from pki.ceremony.request_response import Request, Response, SignedCertificate, SignedCrl
from pki.ceremony.transcript import Transcript
from pki.ceremony.transcript_chain import Record, load
from pki.ceremony.transcript_page import page
from pki.ceremony.vault import Vault, probe, write_folder
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.x509 import pem_encoding
from pki.x509.keys import PrivateKey

EARLIER = "earlier"  # the folder, beside a response, of the ceremonies before it


def response(
    ceremony: Ceremony,
    certificates: list[SignedCertificate],
    presigned_crls: list[tuple[SignedCrl, x509.CertificateRevocationList]],
) -> dict[str, bytes]:
    """The files of a response: the request as it was, the response, and each pre-signed CRL in a file of its own."""
    request = ceremony.request
    made = Response(
        format="doit-pki ceremony response 1",
        number=request.number,
        request=ceremony.digest,
        signed=ceremony.transcript.records[-1].at,
        transcript=ceremony.transcript.head,
        certificates=tuple(certificates),
        presigned_crls=tuple(presigned_crl for presigned_crl, _ in presigned_crls),
        destroyed=request.destroy,
    )
    files = {"request.yaml": ceremony.data, "response.yaml": request_response.dump(made)}
    return files | {presigned_crl.file: pem_encoding.pem_of([crl]) for presigned_crl, crl in presigned_crls}


def private_forms(keys: Iterable[PrivateKey]) -> list[bytes]:
    """How private keys could appear in an export; those that live in a token cannot."""
    forms = []
    for key in keys:
        with suppress(PkiError):
            forms.append(
                key.private_bytes(
                    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    return forms


def search(files: Mapping[str, bytes], forbidden: Iterable[bytes]) -> None:
    """Refuse an export with anything private in it."""
    for name, content in files.items():
        if any(secret in content for secret in (b"PRIVATE KEY", *forbidden)):
            raise PkiError(f"{name}: private material is in what would be exported", "this is a bug: stop the ceremony")


def insist_on_place(ceremony: Ceremony, target: Path) -> None:
    """Raise PkiError when another response than that of this request is where it is to be written."""
    answered = _kept(ceremony.vault, ceremony.request.number)["response.yaml"] if ceremony.answered else None
    _insist_on_place(target, answered)


def _insist_on_place(target: Path, answered: bytes | None) -> None:
    if target.exists() and (answered is None or filesystem.read(target / "response.yaml") != answered):
        raise PkiError(f"{target}: is there already", "nothing is ever overwritten; name another folder")


def hand_out(ceremony: Ceremony, target: Path) -> Path:
    """Write the response, as it lies in the vault, with the transcript up to here; the same one is completed in place."""
    return _recorded(ceremony.vault, ceremony.request, ceremony.transcript, target)


def hand_out_again(vault: Vault, data: bytes, out: Path, transcript: Callable[[], Transcript]) -> Path | None:
    """The response of the last ceremony once more, below `out`.

    Nothing is recorded, for the page with its head is signed; but where `transcript` went on since, it ends with the
    response again, as it must to be accepted. `data` is the request. Returns None where this is another request, or where
    its ceremony was not finished.
    """
    told = filesystem.read(vault.transcript) or b""
    if (
        not told.endswith(b"\n")
        or not (history := vault.history())
        or history[-1].asked != request_response.digest(data)
    ):
        return None
    past, records = history[-1], load(told, str(vault.transcript))
    if not any(one.step == "exported" and one.facts.get("sha256") == past.digest for one in records):
        return None
    probe(out)
    files, target = _kept(vault, past.number), out / f"response-{past.number:04}"
    _insist_on_place(target, files["response.yaml"])
    if records[-1].facts.get("sha256") == past.digest:
        return _written(vault, past.request, files, records, target)
    return _recorded(vault, past.request, transcript(), target)


def line_of_last(vault: Vault, out: str) -> str:
    """What to type to have the response of the last ceremony once more."""
    request = shlex.quote(str(vault.history()[-1].folder / "request.yaml"))
    return f"sh run invoke ceremony.sign {request} --vault {shlex.quote(str(vault.folder))} --output {out}"


def _recorded(vault: Vault, request: Request, transcript: Transcript, target: Path) -> Path:
    """Write the response as the vault has it, with the transcript, which tells of it."""
    files = _kept(vault, request.number)
    digest = request_response.digest(files["response.yaml"])
    members = {name: request_response.digest(content) for name, content in files.items()}
    transcript.record("exported", sha256=digest, words=words.first(digest), files=members)
    return _written(vault, request, files, transcript.records, target)


def _earlier(vault: Vault, number: int) -> dict[str, bytes]:
    """What the vault has of the ceremonies before one: a project that lost them accepts them with it."""
    numbers = [past.number for past in vault.history() if past.number < number]
    kept = {one: _kept(vault, one) for one in numbers}
    return {f"{EARLIER}/{one:04}/{name}": content for one, files in kept.items() for name, content in files.items()}


def _written(vault: Vault, request: Request, files: dict[str, bytes], records: Sequence[Record], target: Path) -> Path:
    """Put what was kept of a ceremony, its page and the transcript where they are handed out."""
    asked, answered = (request_response.digest(files[f"{name}.yaml"]) for name in ("request", "response"))
    page_of_day = printed(records, request, asked, answered)
    filesystem.write(vault.ceremony(request.number) / "transcript.html", page_of_day)
    files |= {"transcript.html": page_of_day, "transcript.jsonl": filesystem.read(vault.transcript) or b""}
    files |= _earlier(vault, request.number)
    if target.exists():
        filesystem.write_all({target / name: (content, filesystem.PUBLIC) for name, content in files.items()})
    else:
        write_folder(target, files)
    return target


def _kept(vault: Vault, number: int) -> dict[str, bytes]:
    """Request, response and CRLs of a ceremony, as they lie in the vault."""
    folder = vault.ceremony(number)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in {".yaml", ".pem"}}


def printed(records: Sequence[Record], request: Request, asked: str, answered: str) -> bytes:
    """The page of one ceremony: its part of the transcript, from when its request was first opened."""
    began = next((one.n for one in records if one.step == "opened" and one.facts.get("sha256") == asked), 1)
    ended = next((one.n for one in records if one.step == "exported" and one.facts.get("sha256") == answered), None)
    own = [one for one in records if began <= one.n and (ended is None or one.n <= ended)]
    title, organisation = f"Root ceremony {request.number}", request.organisation
    return page(own, title, organisation=organisation, number=request.number, request=asked, response=answered)


def destroy_superseded(ceremony: Ceremony) -> None:
    """Remove, from earlier ceremonies in the vault, CRLs that the new series of pre-signed CRLs replace: they must never be published.

    What a killed ceremony left of them goes too.
    """
    roots = {series.root for series in ceremony.request.crl_series}
    for past in ceremony.known.history:
        if past.number >= ceremony.request.number:  # this ceremony itself, when it is resumed
            continue
        for presigned_crl in past.response.presigned_crls:
            path = past.folder / presigned_crl.file
            if presigned_crl.root in roots and path.exists():
                ceremony.transcript.record(
                    "destroyed", name=f"CRL {presigned_crl.number} of {presigned_crl.root}", sha256=presigned_crl.sha256
                )
                path.unlink()


def destroy_keys(ceremony: Ceremony, secret_of: Callable[[str], str]) -> None:
    """Destroy the keys that the request says; what a killed ceremony left of them too."""
    vault = ceremony.vault
    for root in ceremony.request.destroy:
        pin = secret_of(root) if vault.token_of(root) else ""
        for name in vault.destroy_key(root, pin):
            ceremony.transcript.record("destroyed", name=name)
