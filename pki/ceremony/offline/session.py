"""A ceremony session: the vault, the request and the transcript of one offline command, and its checks before a key is used.

A refusal is recorded in the transcript and changes nothing else. A drive that is not a vault yet is unchanged until a
key is created; so is a vault when the operator stops the command before a key is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pki.ceremony import request_response, words
from pki.ceremony.offline import machine_check
from pki.ceremony.offline.machine_check import MachineCheck
from pki.ceremony.request_response import Request
from pki.ceremony.transcript import Transcript, versions
from pki.ceremony.vault import PastCeremony, Vault, check_writable
from pki.ceremony.vault_contents import VaultContents
from pki.common.errors import CancelledError, PkiError

MIN_SECRET_LENGTH = 12  # characters; a shorter text, such as a PIN, would be found in any number


@dataclass
class CeremonySession:
    """One offline command: a vault with its contents, a request, and the transcript that records every step."""

    vault: Vault
    request: Request
    data: bytes
    contents: VaultContents
    transcript: Transcript
    earlier_records: int  # number of transcript records before this session
    forbidden: list[bytes] = field(default_factory=list)  # secrets that must never be in a response

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the request."""
        return request_response.digest(self.data)

    @property
    def answered(self) -> PastCeremony | None:
        """Return the past ceremony that answered this request, or None."""
        return next((past for past in self.contents.history if past.request_digest == self.digest), None)

    @property
    def last_moment(self) -> datetime | None:
        """Return the time of the newest record before this session, or None."""
        earlier_moments = [record.at for record in self.transcript.records[: self.earlier_records]]
        return max(earlier_moments, default=None)

    @contextmanager
    def recording_refusal(self) -> Iterator[None]:
        """Record in the transcript why a step was refused."""
        try:
            yield
        except CancelledError as error:
            if not self.transcript.is_settled:  # nothing was written, so nothing needs a record
                raise
            _record_refusal(self.transcript, error, self.earlier_records)
            raise CancelledError("stopped; the steps before are in the transcript", error.hint) from None
        except PkiError as error:
            _record_refusal(self.transcript, error, self.earlier_records)
            raise

    def forbid(self, secret: str) -> None:
        """Keep `secret` out of the transcript and the response, unless it is shorter than MIN_SECRET_LENGTH."""
        if len(secret) >= MIN_SECRET_LENGTH:
            self.transcript.forbid(secret)
            self.forbidden.append(secret.encode())


def open_session(
    vault: Vault,
    data: bytes,
    name: str,
    clock: Callable[[], datetime],
    drive: Mapping[str, str] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> CeremonySession:
    """Open a session for the request in `data`. If the request is damaged, records that and raises PkiError.

    Messages call the request `name`. `drive` describes the drive for the transcript. `begin` is called before the first
    write, and turns an empty drive into a vault.
    """
    check_writable(vault.folder)
    transcript = Transcript(vault.transcript, clock, begin)
    earlier_records = len(transcript.records)
    transcript.record(
        "opened", file=Path(name).name, sha256=request_response.digest(data), versions=versions(), **drive or {}
    )
    try:
        request = request_response.load(data, name, Request)
        contents = VaultContents(vault.roots(), vault.history())
    except PkiError as error:
        _record_refusal(transcript, error, earlier_records)
        raise
    return CeremonySession(vault, request, data, contents, transcript, earlier_records)


def _record_refusal(transcript: Transcript, error: PkiError, earlier_records: int) -> None:
    """Record a refusal. It is written at once if the drive was a vault before; else the drive stays unchanged."""
    transcript.record("refused", message=error.message, hint=error.hint)
    if earlier_records:
        transcript.settle()


def check_machine_is_fit(ceremony: CeremonySession, findings: list[MachineCheck], despite: str) -> None:
    """Record the machine checks. Raises PkiError when one failed, unless `despite` gives a reason, which is recorded."""
    ceremony.transcript.record(
        "environment",
        findings=[f"{finding.check}: {finding.text}{'' if finding.ok else ' (NOT FIT)'}" for finding in findings],
    )
    unfit = [finding for finding in findings if not finding.ok]
    if unfit and not despite:
        with ceremony.recording_refusal():
            raise PkiError(
                "\n".join(f"this machine is not fit for a ceremony: {finding.text}" for finding in unfit),
                "\n".join(
                    [
                        *(finding.remedy for finding in unfit),
                        'or continue, with the reason in the transcript: --despite "the reason"',
                    ]
                ),
            )
    if unfit:
        ceremony.transcript.record("deviation", text="; ".join(finding.text for finding in unfit), reason=despite)


def confirm_request(
    ceremony: CeremonySession, lines: list[str], typed: str, others: Mapping[str, str] | None = None
) -> None:
    """Record the plan. Raises PkiError unless the typed words are the first ones of the request's digest.

    `others` are digests that could be mistaken for it, by name.
    """
    ceremony.transcript.record("plan", lines=lines)
    with ceremony.recording_refusal():
        if not words.matches(typed, ceremony.digest):
            raise wrong_words_error(typed, ceremony.digest, others or {})
    ceremony.transcript.record("confirmed", words=words.first(ceremony.digest))


def wrong_words_error(typed: str, digest: str, others: Mapping[str, str]) -> PkiError:
    """Return the error for typed words that do not match the request."""
    if name := words.name_of_typed(typed, {"the request": digest} | dict(others), "the request"):
        return PkiError(
            f"these are {name}; expected the words of the request",
            f"type the first {words.WORDS_TO_TYPE} words of the request, from the printed output of ceremony.request",
        )
    return PkiError(
        f"this is not the request that was printed: {words.mismatch(typed, digest)}",
        "type the first words from the printed page of the online machine, or copy the request again",
    )


def compare_clocks(ceremony: CeremonySession, at: datetime, watch: str) -> None:
    """Record the machine's clock and the witness's watch (HH:MM in UTC, "" when not compared).

    Raises PkiError when they differ.
    """
    clock = f"{at:%Y-%m-%d %H:%M} UTC"
    ceremony.transcript.record("clocks", machine=clock, watch=f"{watch} UTC" if watch else "not compared")
    if watch and (fault := machine_check.watch_fault(at, watch)):
        with ceremony.recording_refusal():
            raise PkiError(fault, machine_check.SET_CLOCK)
