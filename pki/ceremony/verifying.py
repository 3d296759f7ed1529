"""Years later: every hash, digest and signature of every ceremony computed again, from a vault or from `ca/`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pki import store
from pki.ceremony import answers, bundle, chain
from pki.ceremony.answers import Answer
from pki.ceremony.bundle import GENERATION, NOTHING, Request
from pki.ceremony.chain import Record
from pki.errors import PkiError

RUNG = re.compile(r"(root-[0-9]+)(?:-crl-|/crl/)([0-9]+)\.pem")
CLIENTS = "clients"  # whose names may be those of generations
Places = dict[tuple[str, int], list[Path]]  # where the CRLs of each root lie, by their numbers


@dataclass
class Verdict:
    """What was found: a line for each ceremony, and everything that is wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class _Seen:
    """What the ceremonies so far have made."""

    previous: str = NOTHING
    roots: dict[str, x509.Certificate] = field(default_factory=dict)
    certificates: dict[tuple[str, str], str] = field(default_factory=dict)
    rungs: dict[str, dict[int, str]] = field(default_factory=dict)  # of the newest ladder of each root


def verify(folder: Path) -> Verdict:
    """Look at a vault or at `ca/`: both hold `transcript.jsonl` and `ceremonies/`. Changes nothing."""
    places: Places = {}
    for path in sorted(folder.rglob("*.pem")):
        if found := RUNG.search("/".join(path.parts[-3:])):
            places.setdefault((found[1], int(found[2])), []).append(path)
    verdict, seen = _looked_at(folder, places)
    verdict.faults += _strangers(folder, places, seen)
    return verdict


def records(folder: Path) -> Verdict:
    """Look at the records of all ceremonies alone: `transcript.jsonl`, and what is in `ceremonies/`."""
    return _looked_at(folder, {})[0]


def is_told(folder: Path, text: str) -> bool:
    """Whether a transcript tells of a deviation that begins with this text."""
    records = chain.load(store.read(folder / "transcript.jsonl") or b"", "transcript.jsonl")
    return any(one.step == "deviation" and str(one.facts.get("text")).startswith(text) for one in records)


def _looked_at(folder: Path, places: Places) -> tuple[Verdict, _Seen]:
    path = folder / "transcript.jsonl"
    data = store.read(path)
    if data is None:
        raise PkiError(
            f"{path}: there is no transcript",
            "name a vault, or a house in which a ceremony was accepted; is its drive mounted? findmnt",
        )
    records, verdict, seen = chain.load(data, str(path)), Verdict(), _Seen()
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
    asked = store.read(folder / "request.yaml")
    if asked is None:
        raise PkiError(f"{folder}/request.yaml: is missing", "put it back from a backup, or from the other vault")
    name, request = f"ceremony {int(folder.name)}", bundle.load(asked, f"{folder}/request.yaml", Request)
    response = bundle.load(store.read(folder / "response.yaml") or b"", f"{folder}/response.yaml", bundle.Response)
    there = {r.file: places[r.root, r.number][0] for r in response.rungs if (r.root, r.number) in places}
    answer = answers.read(folder, rungs=there)
    if answer.response.request != bundle.digest(asked):
        yield f"{name}: the response answers another request"
    if request.previous != seen.previous:
        yield f"{name}: does not follow the ceremony before it"
    if fault := answers.untold(answer, records):
        yield f"{name}: the transcript {fault}"
    for fault in answers.faults(answer, request, seen.roots):
        yield f"{name}: {fault}"
    _remember(answer, seen)
    gone = len(answer.response.rungs) - len(answer.rungs)
    lines.append(
        f"{name}, {answer.response.signed:%Y-%m-%d}: {len(answer.certificates)} certificates, {len(answer.rungs)} CRLs"
        + (f" ({gone} destroyed since)" if gone else "")
    )


def _remember(answer: Answer, seen: _Seen) -> None:
    seen.previous = bundle.digest(answer.data)
    seen.roots |= {name: cert for (name, issuer), cert in answer.certificates.items() if name == issuer}
    seen.certificates |= {(one.name, one.issuer): one.pem for one in answer.response.certificates}
    for root in {rung.root for rung in answer.response.rungs}:
        seen.rungs[root] = {rung.number: rung.sha256 for rung in answer.response.rungs if rung.root == root}


def _strangers(folder: Path, places: Places, seen: _Seen) -> Iterator[str]:
    """Certificates and CRLs that lie there and that no ceremony made, or a later one replaced; and what is gone."""
    made = {name: pem for (name, issuer), pem in seen.certificates.items() if name == issuer or "root" not in name}
    own = [path for path in sorted(folder.rglob("cert.pem")) if CLIENTS not in path.relative_to(folder).parts]
    for path in own:
        name = path.parent.name
        if re.fullmatch(GENERATION, name) and store.read(path) != made.get(name, "").encode():
            yield f"{path}: was made in no ceremony that is recorded here"
    is_house = (folder / "root").is_dir()  # a vault holds roots alone
    for name in sorted(made.keys() - {path.parent.name for path in own}):
        if is_house or name.startswith("root-"):
            yield f"{folder}: the certificate of {name} is missing"
    for path in sorted(folder.rglob("cross-root-*.pem")):
        key = path.parent.name, path.stem.removeprefix("cross-")
        if store.read(path) != seen.certificates.get(key, "").encode():
            yield f"{path}: was made in no ceremony that is recorded here"
    for (root, number), paths in sorted(places.items()):
        for path in paths:
            if bundle.digest(store.read(path) or b"") != seen.rungs.get(root, {}).get(number):
                yield f"{path}: is not a CRL of the newest ladder of {root}; destroy it"
