"""CRLs that are in place on a host, whatever our own memory says: nothing that we send may take back what they revoke.

A host is believed as far as a CRL's signature goes. What no authority of ours signed is no CRL to us: it is overwritten,
and told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.deploy import crl_files
from pki.deploy.crl_files import Listed
from pki.deploy.payload import Payload
from pki.deploy.preflight import Trust
from pki.deploy.protocol import Seen, Session, rows_of
from pki.deploy.release import File
from pki.deploy.ssh import Way

Recall = Callable[[str], bytes | None]
LARGEST = 1 << 20  # bytes of a CRL that are read from a host, and for each entry of ours as many more:
ENTRY = 100
EMPTY = hashlib.sha256(b"").hexdigest()  # of a file that a full disk left, perhaps


@dataclass(frozen=True, slots=True)
class InPlace:
    """A CRL file as a host has it."""

    path: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


# -- what is there ----------------------------------------------------------------------------------------------------


def largest(payload: Payload) -> int:
    """How many bytes of an installed CRL are read: room for all that ours list, and for as much more as fits 1 MiB."""
    return LARGEST + ENTRY * sum(len(one.crl) for one in _ours(payload))


def on_host(session: Session, seen: Iterable[Seen], payload: Payload, recall: Recall) -> Iterator[InPlace]:
    """The CRL files among these, as the host has them; `recall` spares it to send what is known by its SHA-256."""
    for one in seen:
        if one.row.file.crl and not one.row.gone and one.sha256:
            content = b"" if one.sha256 == EMPTY else recall(one.sha256)
            yield InPlace(one.row.file.path, _shown(session, one, payload) if content is None else content)


def look(way: Way, payload: Payload, *, as_root: bool) -> list[InPlace]:
    """The CRL files of a release as the host has them: one contact, which changes nothing there."""
    known = {file.sha256: file for file in payload.release.files}
    with Session(way, rows_of(payload, []), as_root=as_root) as session:
        seen = session.look()
        recall = partial(_recalled, payload, known)
        found = list(on_host(session, seen, payload, recall))
        session.end()
    return found


def _recalled(payload: Payload, known: Mapping[str, File], sha256: str) -> bytes | None:
    return payload.content(known[sha256]) if sha256 in known else None


def _shown(session: Session, seen: Seen, payload: Payload) -> bytes:
    path = seen.row.file.path
    content = session.show(seen, largest(payload))
    if not content:
        raise PkiError(
            f"{path} is unknown here, and not everybody on the host may read it: it may revoke more than ours",
            f"look at it there, and let everybody read it: chmod 0644 {path}",
        )
    if hashlib.sha256(content).hexdigest() != seen.sha256:
        raise PkiError(f"{path} changed while it was read", "./run doit")
    return content


def in_folder(root: Path, payload: Payload) -> Iterator[InPlace]:
    """The same for a host in a folder."""
    for file in payload.release.files:
        content = filesystem.read(file.below(root)) if file.crl else None
        if content is not None:
            yield InPlace(file.path, content)


def remembered(delivered: Payload, payload: Payload) -> Iterator[InPlace]:
    """The same from our own memory: what a host was sent and the release has otherwise."""
    ours = {file.sha256 for file in payload.release.files}
    files = {file.sha256: file for file in delivered.release.files if file.crl and file.sha256 not in ours}
    return (InPlace(file.path, delivered.content(file)) for file in files.values())


# -- what may take its place ------------------------------------------------------------------------------------------


def guard(payload: Payload, found: Iterable[InPlace], trust: Trust, now: datetime) -> list[Reason]:
    """Raise PkiError when a release would take back what CRLs in place revoke; returns what is none of our own."""
    ours, faults, foreign = _ours(payload), list[str](), list[Reason]()
    for one in found:
        faults += _faults(ours, one, trust, now)
        if not all(map(trust.has_signed, crl_files.read(one.content))) or not crl_files.read(one.content):
            foreign.append(Why.FOREIGN_CRL(file=one.path))
    if faults:
        raise went_back(payload.release.host, faults)
    return foreign


def may_go(payload: Payload, found: Iterable[InPlace], trust: Trust, now: datetime) -> list[str]:
    """SHA-256 of those CRL files in whose place the release may go."""
    ours = _ours(payload)
    return [one.digest for one in found if not any(_faults(ours, one, trust, now))]


def went_back(host: str, faults: Iterable[str]) -> PkiError:
    """What is said, whoever noticed, with the way out."""
    return PkiError(
        f"nothing was sent: {host} has newer CRLs than this project (was it restored from a backup?): "
        f"{'; '.join(dict.fromkeys(faults))}",
        f"./run invoke ledger.recover {host}",
    )


def _ours(payload: Payload) -> list[Listed]:
    files = {file.sha256: file for file in payload.release.files if file.crl}
    return [one for file in files.values() for one in crl_files.read(payload.content(file))]


def _faults(ours: Sequence[Listed], found: InPlace, trust: Trust, now: datetime) -> Iterator[str]:
    for old in filter(trust.has_signed, crl_files.read(found.content)):
        for new in ours:
            if new.issuer == old.issuer:
                for fault in crl_files.gone_back(new, old, trust.has_ended, now):
                    yield f"{new.within(found.path)} {fault}"
