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
from pki.deploy.crl_files import ParsedCrl
from pki.deploy.payload import Payload
from pki.deploy.preflight import Trust
from pki.deploy.protocol import FileState, Session, manifest_rows
from pki.deploy.release import File
from pki.deploy.ssh import Transport

Recall = Callable[[str], bytes | None]
MAX_CRL_BYTES = 1 << 20  # bytes of a CRL that are read from a host, and for each entry of ours as many more:
BYTES_PER_ENTRY = 100
EMPTY = hashlib.sha256(b"").hexdigest()  # of a file that a full disk left, perhaps


@dataclass(frozen=True, slots=True)
class InstalledCrl:
    """A CRL file as a host has it."""

    path: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


# -- what is there ----------------------------------------------------------------------------------------------------


def max_crl_bytes(payload: Payload) -> int:
    """How many bytes of an installed CRL are read: room for all that ours list, and for as much more as fits 1 MiB."""
    return MAX_CRL_BYTES + BYTES_PER_ENTRY * sum(len(one.crl) for one in _release_crls(payload))


def read_from_session(
    session: Session, seen: Iterable[FileState], payload: Payload, recall: Recall
) -> Iterator[InstalledCrl]:
    """The CRL files among these, as the host has them; `recall` spares it to send what is known by its SHA-256."""
    for one in seen:
        if one.row.file.crl and not one.row.gone and one.sha256:
            content = b"" if one.sha256 == EMPTY else recall(one.sha256)
            yield InstalledCrl(
                one.row.file.path, _content_on_host(session, one, payload) if content is None else content
            )


def fetch(way: Transport, payload: Payload, *, as_root: bool) -> list[InstalledCrl]:
    """The CRL files of a release as the host has them: one contact, which changes nothing there."""
    known = {file.sha256: file for file in payload.release.files}
    with Session(way, manifest_rows(payload, []), as_root=as_root) as session:
        seen = session.inspect()
        recall = partial(_content_by_digest, payload, known)
        found = list(read_from_session(session, seen, payload, recall))
        session.end()
    return found


def _content_by_digest(payload: Payload, known: Mapping[str, File], sha256: str) -> bytes | None:
    return payload.content(known[sha256]) if sha256 in known else None


def _content_on_host(session: Session, seen: FileState, payload: Payload) -> bytes:
    path = seen.row.file.path
    content = session.show(seen, max_crl_bytes(payload))
    if not content:
        raise PkiError(
            f"{path} is unknown here, and not everybody on the host may read it: it may revoke more than ours",
            f"look at it there, and let everybody read it: chmod 0644 {path}",
        )
    if hashlib.sha256(content).hexdigest() != seen.sha256:
        raise PkiError(f"{path} changed while it was read", "./run doit")
    return content


def read_from_folder(root: Path, payload: Payload) -> Iterator[InstalledCrl]:
    """The same for a host in a folder."""
    for file in payload.release.files:
        content = filesystem.read(file.below(root)) if file.crl else None
        if content is not None:
            yield InstalledCrl(file.path, content)


def delivered_crls(delivered: Payload, payload: Payload) -> Iterator[InstalledCrl]:
    """The same from our own memory: what a host was sent and the release has otherwise."""
    ours = {file.sha256 for file in payload.release.files}
    files = {file.sha256: file for file in delivered.release.files if file.crl and file.sha256 not in ours}
    return (InstalledCrl(file.path, delivered.content(file)) for file in files.values())


# -- what may take its place ------------------------------------------------------------------------------------------


def check_no_regression(payload: Payload, found: Iterable[InstalledCrl], trust: Trust, now: datetime) -> list[Reason]:
    """Raise PkiError when a release would take back what CRLs in place revoke; returns what is none of our own."""
    ours, faults, foreign = _release_crls(payload), list[str](), list[Reason]()
    for one in found:
        faults += _faults(ours, one, trust, now)
        if not all(map(trust.has_signed, crl_files.parse_crls(one.content))) or not crl_files.parse_crls(one.content):
            foreign.append(Why.FOREIGN_CRL(file=one.path))
    if faults:
        raise regression_error(payload.release.host, faults)
    return foreign


def replaceable(payload: Payload, found: Iterable[InstalledCrl], trust: Trust, now: datetime) -> list[str]:
    """SHA-256 of those CRL files in whose place the release may go."""
    ours = _release_crls(payload)
    return [one.digest for one in found if not any(_faults(ours, one, trust, now))]


def regression_error(host: str, faults: Iterable[str]) -> PkiError:
    """What is said, whoever noticed, with the way out."""
    return PkiError(
        f"nothing was sent: {host} has newer CRLs than this project (was it restored from a backup?): "
        f"{'; '.join(dict.fromkeys(faults))}",
        f"./run invoke ledger.recover {host}",
    )


def _release_crls(payload: Payload) -> list[ParsedCrl]:
    files = {file.sha256: file for file in payload.release.files if file.crl}
    return [one for file in files.values() for one in crl_files.parse_crls(payload.content(file))]


def _faults(ours: Sequence[ParsedCrl], found: InstalledCrl, trust: Trust, now: datetime) -> Iterator[str]:
    for old in filter(trust.has_signed, crl_files.parse_crls(found.content)):
        for new in ours:
            if new.issuer == old.issuer:
                for fault in crl_files.regression_faults(new, old, trust.has_ended, now):
                    yield f"{new.describe(found.path)} {fault}"
