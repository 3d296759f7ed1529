"""Years later: every hash, digest and signature of every ceremony computed again, from a vault or from `ca/`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pki.ceremony import drives, request_response, transcript_chain, verify_response
from pki.ceremony.request_response import GENERATION, NOTHING, Request
from pki.ceremony.transcript_chain import Record
from pki.ceremony.vault import fingerprint
from pki.ceremony.verify_response import Answer
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName

PRESIGNED = re.compile(r"(root-[0-9]+)(?:-crl-|/crl/)([0-9]+)\.pem")
CLIENTS = "clients"  # whose names may be those of generations
Places = dict[tuple[str, int], list[Path]]  # where the CRLs of each root lie, by their numbers


@dataclass
class Verdict:
    """What was found: a line for each ceremony, everything that is wrong, and the roots that have signed nothing yet."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


@dataclass
class _Seen:
    """What the ceremonies so far have made, and the newest root of each name that the transcript tells of."""

    opened: dict[str, str] = field(default_factory=dict)  # its SHA-256
    previous: str = NOTHING
    roots: dict[str, x509.Certificate] = field(default_factory=dict)
    certificates: dict[tuple[str, str], str] = field(default_factory=dict)
    presigned_crls: dict[str, dict[int, str]] = field(
        default_factory=dict
    )  # of the newest series of pre-signed CRLs of each root


def verify(folder: Path) -> Verdict:
    """Look at a vault or at `ca/`: both hold `transcript.jsonl` and `ceremonies/`. Changes nothing."""
    places: Places = {}
    for path in sorted(folder.rglob("*.pem")):
        if found := PRESIGNED.search("/".join(path.parts[-3:])):
            places.setdefault((found[1], int(found[2])), []).append(path)
    verdict, seen = _looked_at(folder, places)
    verdict.waiting = _waiting(folder, seen)
    verdict.faults += _strangers(folder, places, seen, verdict.waiting)
    return verdict


def records(folder: Path) -> Verdict:
    """Look at the records of all ceremonies alone: `transcript.jsonl`, and what is in `ceremonies/`."""
    return _looked_at(folder, {})[0]


def may_lack_drive(folder: Path) -> bool:
    """Whether a transcript tells that a vault was used that is not on a drive of its own, and why."""
    records = transcript_chain.load(filesystem.read(folder / "transcript.jsonl") or b"", "transcript.jsonl")
    return any(one.step == "deviation" and one.facts.get("on_drive") is False for one in records)


def unsigned(folder: Path, waiting: list[str]) -> PkiError:
    """What is to be done at a vault with roots that have signed nothing; the request is looked for on what is mounted."""
    records = transcript_chain.load(filesystem.read(folder / "transcript.jsonl") or b"", "transcript.jsonl")
    opened = next((one.facts for one in reversed(records) if one.step == "opened" and "file" in one.facts), {})
    name, line = str(opened.get("file", "REQUEST")), "sh run invoke ceremony.sign {} --vault {} --output {}"
    there = ((mount.point, filesystem.read_if_possible(mount.point / name)) for mount in drives.mounts())
    for place, data in there:
        if data is not None and request_response.digest(data) == opened.get("sha256"):
            filled = line.format(*(shlex.quote(str(one)) for one in (place / name, folder, place)))
            break
    else:
        filled = (
            f"{line.format('REQUEST', shlex.quote(str(folder)), 'DIR')}, where REQUEST is {name} on the exchange drive"
        )
    return PkiError(f"{folder}: {', '.join(waiting)} was made and nothing is signed with it yet", f"go on: {filled}")


def _looked_at(folder: Path, places: Places) -> tuple[Verdict, _Seen]:
    path = folder / "transcript.jsonl"
    data = filesystem.read(path)
    if data is None:
        raise PkiError(
            f"{path}: there is no transcript",
            "name a vault, or a project in which a ceremony was accepted; is its drive mounted? findmnt",
        )
    records, verdict, seen = transcript_chain.load(data, str(path)), Verdict(), _Seen()
    seen.opened |= {str(one.facts["name"]): str(one.facts["sha256"]) for one in records if one.step == "opened-key"}
    verdict.lines.append(f"transcript: {len(records)} records, one chain, head {records[-1].hash[:16]}")
    for held in sorted((folder / "ceremonies").glob("[0-9][0-9][0-9][0-9]")):
        if (held / "response.yaml").exists():
            try:
                verdict.faults += _ceremony_faults(held, records, places, seen, verdict.lines)
            except PkiError as error:
                verdict.faults.append(error.message)
    return verdict, seen


def _ceremony_faults(
    folder: Path, records: list[Record], places: Places, seen: _Seen, lines: list[str]
) -> Iterator[str]:
    asked = filesystem.read(folder / "request.yaml")
    if asked is None:
        raise PkiError(f"{folder}/request.yaml: is missing", "put it back from a backup, or from the other vault")
    name, request = f"ceremony {int(folder.name)}", request_response.load(asked, f"{folder}/request.yaml", Request)
    response = request_response.load(
        filesystem.read(folder / "response.yaml") or b"", f"{folder}/response.yaml", request_response.Response
    )
    there = {r.file: places[r.root, r.number][0] for r in response.presigned_crls if (r.root, r.number) in places}
    answer = verify_response.read(folder, presigned_crls=there)
    if answer.response.request != request_response.digest(asked):
        yield f"{name}: the response answers another request"
    if request.previous != seen.previous:
        yield f"{name}: does not follow the ceremony before it"
    if fault := verify_response.untold(answer, records):
        yield f"{name}: the transcript {fault}"
    for fault in verify_response.faults(answer, request, seen.roots):
        yield f"{name}: {fault}"
    _remember(answer, seen)
    gone = len(answer.response.presigned_crls) - len(answer.presigned_crls)
    lines.append(
        f"{name}, {answer.response.signed:%Y-%m-%d}: {len(answer.certificates)} certificates, {len(answer.presigned_crls)} CRLs"
        + (f" ({gone} destroyed since)" if gone else "")
    )


def _remember(answer: Answer, seen: _Seen) -> None:
    seen.previous = request_response.digest(answer.data)
    seen.roots |= {name: cert for (name, issuer), cert in answer.certificates.items() if name == issuer}
    seen.certificates |= {(one.name, one.issuer): one.pem for one in answer.response.certificates}
    for root in {presigned_crl.root for presigned_crl in answer.response.presigned_crls}:
        seen.presigned_crls[root] = {
            presigned_crl.number: presigned_crl.sha256
            for presigned_crl in answer.response.presigned_crls
            if presigned_crl.root == root
        }


def _waiting(folder: Path, seen: _Seen) -> list[str]:
    """The roots of a vault that were made, as its transcript tells, and are in no response yet."""
    found = []
    for path in sorted(folder.glob("root-*/cert.pem")):
        name, data = path.parent.name, filesystem.read(path) or b""
        with suppress(ValueError):
            if name not in seen.roots and fingerprint(x509.load_pem_x509_certificate(data)) == seen.opened.get(name):
                found.append(name)
    return found


def _strangers(folder: Path, places: Places, seen: _Seen, waiting: list[str]) -> Iterator[str]:
    """Certificates and CRLs that lie there and that no ceremony made, or a later one replaced; and what is gone."""
    made = {name: pem for (name, issuer), pem in seen.certificates.items() if name == issuer or "root" not in name}
    own = [path for path in sorted(folder.rglob("cert.pem")) if CLIENTS not in path.relative_to(folder).parts]
    for path in own:
        name = path.parent.name
        if (
            re.fullmatch(GENERATION, name)
            and name not in waiting
            and filesystem.read(path) != made.get(name, "").encode()
        ):
            yield f"{path}: was made in no ceremony that is recorded here"
    is_project = (folder / "root").is_dir()  # a vault holds roots alone
    for name in sorted(made.keys() - {path.parent.name for path in own}):
        if is_project or GenerationName.parse(name).is_root:
            yield f"{folder}: the certificate of {name} is missing"
    for path in sorted(folder.rglob("cross-root-*.pem")):
        key = path.parent.name, path.stem.removeprefix("cross-")
        if filesystem.read(path) != seen.certificates.get(key, "").encode():
            yield f"{path}: was made in no ceremony that is recorded here"
    for (root, number), paths in sorted(places.items()):
        for path in paths:
            if request_response.digest(filesystem.read(path) or b"") != seen.presigned_crls.get(root, {}).get(number):
                yield f"{path}: is not a CRL of the newest series of pre-signed CRLs of {root}; destroy it"
