"""CRLs that are installed on a host: a release must not remove what they revoke.

A host is trusted only as far as the signature of a CRL goes. A file that no known CA signed is replaced and reported.
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
from pki.deploy.host_session import Session
from pki.deploy.payload import Payload
from pki.deploy.preflight import Trust
from pki.deploy.protocol import FileState, manifest_rows
from pki.deploy.release import File
from pki.deploy.ssh import Transport

Recall = Callable[[str], bytes | None]
# The limit for a CRL that is read from a host: MAX_CRL_BYTES, and BYTES_PER_ENTRY for each entry of our own CRLs.
MAX_CRL_BYTES = 1 << 20
BYTES_PER_ENTRY = 100
EMPTY = hashlib.sha256(b"").hexdigest()  # of an empty file, as a full disk may leave it


@dataclass(frozen=True, slots=True)
class InstalledCrl:
    """A CRL file as a host has it."""

    path: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


# -- reading installed CRLs --------------------------------------------------------------------------------------------


def max_crl_bytes(payload: Payload) -> int:
    """Return how many bytes of an installed CRL are read: the size of ours, and 1 MiB more."""
    return MAX_CRL_BYTES + BYTES_PER_ENTRY * sum(len(file.crl) for file in _release_crls(payload))


def read_from_session(
    session: Session, states: Iterable[FileState], payload: Payload, recall: Recall
) -> Iterator[InstalledCrl]:
    """Yield the CRL files among `states` as the host has them.

    `recall` returns a content by its SHA-256, so that a known file is not transferred.
    """
    for state in states:
        if state.row.file.crl and not state.row.is_removal and state.sha256:
            content = b"" if state.sha256 == EMPTY else recall(state.sha256)
            if content is None:
                content = _content_on_host(session, state, payload)
            yield InstalledCrl(state.row.file.path, content)


def fetch(transport: Transport, payload: Payload, *, as_root: bool) -> list[InstalledCrl]:
    """Return the CRL files of a release as the host has them, by one contact that changes nothing."""
    files = {file.sha256: file for file in payload.release.files}
    with Session(transport, manifest_rows(payload, []), as_root=as_root) as session:
        states = session.inspect()
        recall = partial(_content_by_digest, payload, files)
        crls = list(read_from_session(session, states, payload, recall))
        session.end()
    return crls


def _content_by_digest(payload: Payload, files: Mapping[str, File], sha256: str) -> bytes | None:
    return payload.content(files[sha256]) if sha256 in files else None


def _content_on_host(session: Session, state: FileState, payload: Payload) -> bytes:
    path = state.row.file.path
    content = session.show(state, max_crl_bytes(payload))
    if not content:
        raise PkiError(
            f"{path} on the host is a CRL that this project did not send and cannot read: it may revoke more than ours",
            f"check it on the host, then make it readable: chmod 0644 {path}",
        )
    if hashlib.sha256(content).hexdigest() != state.sha256:
        raise PkiError(f"{path} changed while it was read", "./run doit")
    return content


def read_from_folder(root: Path, payload: Payload) -> Iterator[InstalledCrl]:
    """Yield the CRL files of a release as a folder host has them."""
    for file in payload.release.files:
        content = filesystem.read(file.below(root)) if file.crl else None
        if content is not None:
            yield InstalledCrl(file.path, content)


def delivered_crls(delivered: Payload, payload: Payload) -> Iterator[InstalledCrl]:
    """Yield the CRL files that a host was sent and that the release changes, by our own records."""
    digests = {file.sha256 for file in payload.release.files}
    files = {file.sha256: file for file in delivered.release.files if file.crl and file.sha256 not in digests}
    return (InstalledCrl(file.path, delivered.content(file)) for file in files.values())


# -- what may replace them --------------------------------------------------------------------------------------------


def check_no_regression(
    payload: Payload, installed: Iterable[InstalledCrl], trust: Trust, now: datetime
) -> list[Reason]:
    """Raise PkiError when a release would undo a revocation of an installed CRL.

    Returns a reason for each installed file that is no CRL, or has a CRL of a CA that is not of this project.
    """
    release_crls, faults, foreign = _release_crls(payload), list[str](), list[Reason]()
    for installed_crl in installed:
        faults += _faults(release_crls, installed_crl, trust, now)
        parsed_crls = crl_files.parse_crls(installed_crl.content)
        if not parsed_crls or not all(map(trust.has_signed, parsed_crls)):
            foreign.append(Why.FOREIGN_CRL(file=installed_crl.path))
    if faults:
        raise regression_error(payload.release.host, faults)
    return foreign


def replaceable_digests(payload: Payload, installed: Iterable[InstalledCrl], trust: Trust, now: datetime) -> list[str]:
    """Return the SHA-256 of the installed CRL files that the release may replace."""
    release_crls = _release_crls(payload)
    return [crl.digest for crl in installed if not any(_faults(release_crls, crl, trust, now))]


def regression_error(host: str, faults: Iterable[str]) -> PkiError:
    """Return the error for a host whose CRLs are newer than those of the release."""
    return PkiError(
        f"nothing was sent: {host} has newer CRLs than this project (was it restored from a backup?): "
        f"{'; '.join(dict.fromkeys(faults))}",
        f"./run invoke ledger.recover {host}",
    )


def _release_crls(payload: Payload) -> list[ParsedCrl]:
    files = {file.sha256: file for file in payload.release.files if file.crl}
    return [crl for file in files.values() for crl in crl_files.parse_crls(payload.content(file))]


def _faults(release_crls: Sequence[ParsedCrl], installed: InstalledCrl, trust: Trust, now: datetime) -> Iterator[str]:
    for old in filter(trust.has_signed, crl_files.parse_crls(installed.content)):
        for new in release_crls:
            if new.issuer == old.issuer:
                for fault in crl_files.regression_faults(new, old, trust.has_expired, now):
                    yield f"{new.describe(installed.path)} {fault}"
