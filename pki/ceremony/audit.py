"""Verify all past ceremonies again, with every hash, digest and signature, from a vault or from `ca/`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pki.ceremony import drives, request_response, transcript_chain, verify_response
from pki.ceremony.request_response import GENERATION, NO_RESPONSE, Request
from pki.ceremony.transcript_chain import Record
from pki.ceremony.verify_response import ParsedResponse
from pki.common import filesystem
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.config.identifiers import ALL_AUTHORITIES, GenerationName
from pki.x509.canonical import fingerprint

PRESIGNED = re.compile(r"(root(?:-peer)?-[0-9]+)(?:-crl-|/crl/)([0-9]+)\.pem")
CLIENTS_FOLDER = "clients"  # client names may look like names of generations
CrlPaths = dict[tuple[str, int], list[Path]]  # paths of the CRLs by root and number


@dataclass
class AuditResult:
    """The result of an audit: a line for each ceremony, all faults, and the roots that have signed nothing yet."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unused_roots: list[str] = field(default_factory=list)


@dataclass
class _Created:
    """What the ceremonies so far created, and the newest root of each name in the transcript."""

    roots_in_transcript: dict[str, str] = field(default_factory=dict)  # SHA-256 of the root certificate by name
    last_response: str = NO_RESPONSE  # its SHA-256, which the next request must name
    roots: dict[str, x509.Certificate] = field(default_factory=dict)
    certificates: dict[tuple[str, str], str] = field(default_factory=dict)
    presigned_crls: dict[str, dict[int, str]] = field(default_factory=dict)  # the newest series of each root


def verify(folder: Path) -> AuditResult:
    """Verify a vault or `ca/`: both have `transcript.jsonl` and `ceremonies/`. Changes nothing.

    Raises PkiError when there is no valid transcript.
    """
    crl_paths: CrlPaths = {}
    for path in sorted(folder.rglob("*.pem")):
        if match := PRESIGNED.search("/".join(path.parts[-3:])):
            crl_paths.setdefault((match[1], int(match[2])), []).append(path)
    result, created = _audited(folder, crl_paths)
    result.unused_roots = _unused_roots(folder, created)
    result.faults += _file_faults(folder, crl_paths, created, result.unused_roots)
    return result


def verify_records(folder: Path) -> AuditResult:
    """Verify only the records of all ceremonies: `transcript.jsonl` and the files in `ceremonies/`."""
    result, _ = _audited(folder, {})
    return result


def may_lack_drive(folder: Path) -> bool:
    """Return whether the transcript records a deviation for a vault that is not on a drive of its own."""
    records = transcript_chain.load(filesystem.read(folder / "transcript.jsonl") or b"", "transcript.jsonl")
    return any(record.step == "deviation" and record.facts.get("on_drive") is False for record in records)


def unused_roots_error(folder: Path, unused_roots: list[str]) -> PkiError:
    """Return an error for a vault with roots that have signed nothing; its hint is the complete command.

    The request is searched for on the mounted drives.
    """
    records = transcript_chain.load(filesystem.read(folder / "transcript.jsonl") or b"", "transcript.jsonl")
    opened = next(
        (record.facts for record in reversed(records) if record.step == "opened" and "file" in record.facts), {}
    )
    name, command = str(opened.get("file", "REQUEST")), "sh run invoke ceremony.sign {} --vault {} --output {}"
    copies = ((mount.point, filesystem.read_if_possible(mount.point / name)) for mount in drives.mounts())
    for drive, data in copies:
        if data is not None and request_response.digest(data) == opened.get("sha256"):
            filled_command = command.format(*(shlex.quote(str(path)) for path in (drive / name, folder, drive)))
            break
    else:
        filled_command = command.format("REQUEST", shlex.quote(str(folder)), "DIR")
        filled_command += f", where REQUEST is {name} on the exchange drive"
    return PkiError(
        f"{folder}: {', '.join(unused_roots)} was created and has signed nothing yet", f"go on: {filled_command}"
    )


def _audited(folder: Path, crl_paths: CrlPaths) -> tuple[AuditResult, _Created]:
    path = folder / "transcript.jsonl"
    data = filesystem.read(path)
    if data is None:
        raise PkiError(
            f"{path}: does not exist",
            "name a vault, or a project in which a ceremony was accepted; is its drive mounted? findmnt",
        )
    records, result, created_names = transcript_chain.load(data, str(path)), AuditResult(), _Created()
    created_names.roots_in_transcript |= {
        str(record.facts["name"]): str(record.facts["sha256"]) for record in records if record.step == "opened-key"
    }
    result.lines.append(f"transcript: {counted(len(records), 'record')}, one chain, head {records[-1].hash[:16]}")
    for ceremony in sorted((folder / "ceremonies").glob("[0-9][0-9][0-9][0-9]")):
        if (ceremony / "response.yaml").exists():
            try:
                result.faults += _ceremony_faults(ceremony, records, crl_paths, created_names, result.lines)
            except PkiError as error:
                result.faults.append(error.message)
    return result, created_names


def _ceremony_faults(
    folder: Path, records: list[Record], crl_paths: CrlPaths, created: _Created, lines: list[str]
) -> Iterator[str]:
    request_data = filesystem.read(folder / "request.yaml")
    if request_data is None:
        raise PkiError(
            f"{folder}/request.yaml: is missing", "restore it from a backup, or from the other drive of the vault"
        )
    name = f"ceremony {int(folder.name)}"
    request = request_response.load(request_data, f"{folder}/request.yaml", Request)
    response = request_response.load(
        filesystem.read(folder / "response.yaml") or b"", f"{folder}/response.yaml", request_response.Response
    )
    paths = {
        crl.file: crl_paths[crl.root, crl.number][0]
        for crl in response.presigned_crls
        if (crl.root, crl.number) in crl_paths
    }
    response_files = verify_response.read_response(folder, presigned_crls=paths)
    if response_files.response.request != request_response.digest(request_data):
        yield f"{name}: the response answers another request"
    if request.previous != created.last_response:
        yield f"{name}: does not follow the ceremony before it"
    if fault := verify_response.transcript_fault(response_files, records):
        yield f"{name}: the transcript {fault}"
    for fault in verify_response.faults(response_files, request, created.roots):
        yield f"{name}: {fault}"
    _add_results(response_files, created)
    missing_count = len(response_files.response.presigned_crls) - len(response_files.presigned_crls)
    lines.append(
        f"{name}, {response_files.response.signed:%Y-%m-%d}: {counted(len(response_files.certificates), 'certificate')}, {counted(len(response_files.presigned_crls), 'CRL')}"
        + (f" ({missing_count} destroyed since)" if missing_count else "")
    )


def _add_results(parsed: ParsedResponse, created: _Created) -> None:
    created.last_response = request_response.digest(parsed.data)
    created.roots |= {
        name: certificate for (name, issuer), certificate in parsed.certificates.items() if name == issuer
    }
    created.certificates |= {
        (certificate.name, certificate.issuer): certificate.pem for certificate in parsed.response.certificates
    }
    for root in {presigned_crl.root for presigned_crl in parsed.response.presigned_crls}:
        created.presigned_crls[root] = {
            presigned_crl.number: presigned_crl.sha256
            for presigned_crl in parsed.response.presigned_crls
            if presigned_crl.root == root
        }


def _unused_roots(folder: Path, created: _Created) -> list[str]:
    """Return the roots of a vault that its transcript records and that are in no response yet."""
    names = []
    for path in sorted(folder.glob("root-*/cert.pem")):
        name, data = path.parent.name, filesystem.read(path) or b""
        if name in created.roots:
            continue
        with suppress(ValueError):  # _file_faults reports a damaged certificate
            certificate = x509.load_pem_x509_certificate(data)
            if fingerprint(certificate) == created.roots_in_transcript.get(name):
                names.append(name)
    return names


def _is_generation(path: Path) -> bool:
    """Return whether a file `cert.pem` is in the folder of a generation; folders of adopted CAs may have similar names."""
    name = path.parent.name
    is_ours = GenerationName.parse(name).authority in {*ALL_AUTHORITIES, path.parent.parent.name}
    return is_ours and bool(re.fullmatch(GENERATION, name))


def _file_faults(folder: Path, crl_paths: CrlPaths, created: _Created, unused_roots: list[str]) -> Iterator[str]:
    """Yield certificates and CRLs that no ceremony created or a later one replaced, and certificates that are missing."""
    yield from _certificate_file_faults(folder, created, unused_roots)
    for path in sorted(folder.rglob("cross-root-*.pem")):
        key = path.parent.name, path.stem.removeprefix("cross-")
        if filesystem.read(path) != created.certificates.get(key, "").encode():
            yield f"{path}: is from no recorded ceremony"
    for (root, number), paths in sorted(crl_paths.items()):
        created_digest = created.presigned_crls.get(root, {}).get(number)
        for path in paths:
            if request_response.digest(filesystem.read(path) or b"") != created_digest:
                yield f"{path}: is not a CRL of the newest series of pre-signed CRLs of {root}; destroy it"


def _certificate_file_faults(folder: Path, created: _Created, unused_roots: list[str]) -> Iterator[str]:
    """Yield the files `cert.pem` of generations that no ceremony created, and those that are missing."""
    created_certificates = {  # without cross-certificates, which have files of their own
        name: pem
        for (name, issuer), pem in created.certificates.items()
        if name == issuer or not GenerationName.parse(name).is_root
    }
    certificate_paths = [
        path for path in sorted(folder.rglob("cert.pem")) if CLIENTS_FOLDER not in path.relative_to(folder).parts
    ]
    for path in certificate_paths:
        name = path.parent.name
        is_checked = _is_generation(path) and name not in unused_roots
        if is_checked and filesystem.read(path) != created_certificates.get(name, "").encode():
            yield f"{path}: is from no recorded ceremony"
    is_project = (folder / "root").is_dir()  # a vault has only roots
    for name in sorted(created_certificates.keys() - {path.parent.name for path in certificate_paths}):
        if is_project or GenerationName.parse(name).is_root:
            yield f"{folder}: the certificate of {name} is missing"
