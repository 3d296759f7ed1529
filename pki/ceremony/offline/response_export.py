"""Write the response of a ceremony, after a search for secrets, and destroy replaced CRLs and keys."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.ceremony import request_response, words
from pki.ceremony.offline.session import CeremonySession
from pki.ceremony.request_response import Request, Response, SignedCertificate, SignedCrl
from pki.ceremony.transcript import Transcript
from pki.ceremony.transcript_chain import Record, load
from pki.ceremony.transcript_page import render_page
from pki.ceremony.vault import Vault, check_writable, write_folder
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.x509 import pem_encoding
from pki.x509.keys import PrivateKey

EARLIER = "earlier"  # the folder in a response with the files of earlier ceremonies


def response_files(
    ceremony: CeremonySession,
    certificates: list[SignedCertificate],
    presigned_crls: list[tuple[SignedCrl, x509.CertificateRevocationList]],
) -> dict[str, bytes]:
    """Return the files of a response: the request, the response, and each pre-signed CRL in its own file."""
    request = ceremony.request
    response = Response(
        format="doit-pki ceremony response 1",
        number=request.number,
        request=ceremony.digest,
        signed=ceremony.transcript.records[-1].at,
        transcript=ceremony.transcript.head,
        certificates=tuple(certificates),
        presigned_crls=tuple(presigned_crl for presigned_crl, _ in presigned_crls),
        destroyed=request.destroy,
    )
    files = {"request.yaml": ceremony.data, "response.yaml": request_response.dump(response)}
    return files | {presigned_crl.file: pem_encoding.pem_of([crl]) for presigned_crl, crl in presigned_crls}


def private_forms(keys: Iterable[PrivateKey]) -> list[bytes]:
    """Return the DER forms in which private keys could appear in a response; keys in a token have none."""
    forms = []
    for key in keys:
        with suppress(PkiError):  # a key in a token cannot be exported
            forms.append(
                key.private_bytes(
                    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
    return forms


def check_no_secrets(files: Mapping[str, bytes], forbidden: Iterable[bytes]) -> None:
    """Raise PkiError when a file contains a private key or a forbidden secret."""
    for name, content in files.items():
        if any(secret in content for secret in (b"PRIVATE KEY", *forbidden)):
            raise PkiError(f"{name}: the response would contain a secret", "this is a bug: stop the ceremony")


def check_target(ceremony: CeremonySession, target: Path) -> None:
    """Raise PkiError if the target folder has a response to another request."""
    response = _vault_files(ceremony.vault, ceremony.request.number)["response.yaml"] if ceremony.answered else None
    _check_holds_no_other_response(target, response)


def _check_holds_no_other_response(target: Path, response: bytes | None) -> None:
    if target.exists() and (response is None or filesystem.read(target / "response.yaml") != response):
        raise PkiError(f"{target}: exists already", "nothing is overwritten; name another folder")


def write_response(ceremony: CeremonySession, target: Path) -> Path:
    """Write the response from the vault to `target`, with the transcript up to now. An identical response is completed."""
    return _record_and_write(ceremony.vault, ceremony.request, ceremony.transcript, target)


def write_response_again(vault: Vault, data: bytes, out: Path, transcript: Callable[[], Transcript]) -> Path | None:
    """Write the response of the last ceremony once more, in `out`, and return its folder.

    Nothing is recorded, because the transcript may have been printed and signed with its head already. Only if the
    transcript has later records, the export is recorded again in `transcript()`, because a transcript must end with the
    export of its response. Returns None if the request in `data` is not the request of the last ceremony, or that ceremony
    is not finished.
    """
    transcript_data = filesystem.read(vault.transcript) or b""
    was_interrupted = not transcript_data.endswith(b"\n")
    history = [] if was_interrupted else vault.history()
    if not history or history[-1].request_digest != request_response.digest(data):
        return None
    past, records = history[-1], load(transcript_data, str(vault.transcript))
    if not any(record.step == "exported" and record.facts.get("sha256") == past.response_digest for record in records):
        return None
    check_writable(out)
    files, target = _vault_files(vault, past.number), out / f"response-{past.number:04}"
    _check_holds_no_other_response(target, files["response.yaml"])
    if records[-1].facts.get("sha256") == past.response_digest:
        return _write(vault, past.request, files, records, target)
    return _record_and_write(vault, past.request, transcript(), target)


def last_response_command(vault: Vault, out: str) -> str:
    """Return the command that writes the response of the last ceremony again."""
    request = shlex.quote(str(vault.history()[-1].folder / "request.yaml"))
    return f"sh run invoke ceremony.sign {request} --vault {shlex.quote(str(vault.folder))} --output {out}"


def _record_and_write(vault: Vault, request: Request, transcript: Transcript, target: Path) -> Path:
    """Record the export of a response in the transcript, and write both."""
    files = _vault_files(vault, request.number)
    digest = request_response.digest(files["response.yaml"])
    members = {name: request_response.digest(content) for name, content in files.items()}
    transcript.record("exported", sha256=digest, words=words.first(digest), files=members)
    return _write(vault, request, files, transcript.records, target)


def _earlier_files(vault: Vault, number: int) -> dict[str, bytes]:
    """Return the files of the ceremonies before `number`; a project that lost them accepts them with the response."""
    numbers = [past.number for past in vault.history() if past.number < number]
    by_number = {number: _vault_files(vault, number) for number in numbers}
    return {
        f"{EARLIER}/{number:04}/{name}": content
        for number, files in by_number.items()
        for name, content in files.items()
    }


def _write(vault: Vault, request: Request, files: dict[str, bytes], records: Sequence[Record], target: Path) -> Path:
    """Write the files of a ceremony, its transcript page and the transcript to `target`."""
    request_digest, response_digest = (
        request_response.digest(files[f"{name}.yaml"]) for name in ("request", "response")
    )
    transcript_page = render_transcript(records, request, request_digest, response_digest)
    filesystem.write(vault.ceremony(request.number) / "transcript.html", transcript_page)
    files |= {"transcript.html": transcript_page, "transcript.jsonl": filesystem.read(vault.transcript) or b""}
    files |= _earlier_files(vault, request.number)
    if target.exists():
        filesystem.write_all({target / name: (content, filesystem.PUBLIC) for name, content in files.items()})
    else:
        write_folder(target, files)
    return target


def _vault_files(vault: Vault, number: int) -> dict[str, bytes]:
    """Return the request, response and CRLs of a ceremony in the vault."""
    folder = vault.ceremony(number)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in {".yaml", ".pem"}}


def render_transcript(records: Sequence[Record], request: Request, request_digest: str, response_digest: str) -> bytes:
    """Return the transcript page of one ceremony: the records from the first opening of its request to the export.

    `request_digest` and `response_digest` are the SHA-256 of request and response.
    """
    first_record = next(
        (record.n for record in records if record.step == "opened" and record.facts.get("sha256") == request_digest), 1
    )
    last_record = next(
        (record.n for record in records if record.step == "exported" and record.facts.get("sha256") == response_digest),
        None,
    )
    own_records = [
        record for record in records if first_record <= record.n and (last_record is None or record.n <= last_record)
    ]
    title, organisation = f"Root ceremony {request.number}", request.organisation
    return render_page(
        own_records,
        title,
        organisation=organisation,
        number=request.number,
        request=request_digest,
        response=response_digest,
    )


def destroy_superseded(ceremony: CeremonySession) -> None:
    """Delete CRLs of earlier ceremonies that the new series replace: they must never be published.

    Repeating this after an interruption completes it.
    """
    roots = {series.root for series in ceremony.request.crl_series}
    for past in ceremony.contents.history:
        if past.number >= ceremony.request.number:  # this ceremony, when it is resumed
            continue
        for presigned_crl in past.response.presigned_crls:
            path = past.folder / presigned_crl.file
            if presigned_crl.root in roots and path.exists():
                ceremony.transcript.record(
                    "destroyed", name=f"CRL {presigned_crl.number} of {presigned_crl.root}", sha256=presigned_crl.sha256
                )
                path.unlink()


def destroy_keys(ceremony: CeremonySession, secret_of: Callable[[str], str]) -> None:
    """Destroy the root keys that the request names. Repeating this after an interruption completes it."""
    vault = ceremony.vault
    for root in ceremony.request.destroy:
        pin = secret_of(root) if vault.token_of(root) else ""
        for name in vault.destroy_key(root, pin):
            ceremony.transcript.record("destroyed", name=name)
