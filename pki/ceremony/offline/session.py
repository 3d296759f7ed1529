"""One sitting at the offline machine: what is read, looked at and confirmed before a key is touched.

Whatever refuses to go on says so in the transcript too, and leaves nothing else behind. A drive that is no vault yet is
left as it was until a key is made; so is any vault by a command that a person stops before a key is touched.
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
from pki.ceremony.policy import Known
from pki.ceremony.request_response import Request
from pki.ceremony.transcript import Transcript, versions
from pki.ceremony.vault import Past, Vault, probe
from pki.common.errors import CancelledError, PkiError

SEARCHABLE = 12  # characters


@dataclass
class Ceremony:
    """One sitting at the offline machine: a vault, a request, and the transcript that every step goes into."""

    vault: Vault
    request: Request
    data: bytes
    known: Known
    transcript: Transcript
    earlier: int  # how many records the transcript had before this sitting
    forbidden: list[bytes] = field(default_factory=list)  # what must never be in an export

    @property
    def digest(self) -> str:
        return request_response.digest(self.data)

    @property
    def answered(self) -> Past | None:
        """The ceremony in which this very request was answered here."""
        return next((past for past in self.known.history if past.asked == self.digest), None)

    @property
    def last_moment(self) -> datetime | None:
        """The newest moment that the vault knows from before this sitting."""
        before = [one.at for one in self.transcript.records[: self.earlier]]
        return max(before, default=None)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Put into the transcript why a step was refused."""
        try:
            yield
        except CancelledError as error:
            if not self.transcript.is_settled:
                raise
            _refused(self.transcript, error, self.earlier)
            raise CancelledError("stopped; what was done before stands in the transcript", error.hint) from None
        except PkiError as error:
            _refused(self.transcript, error, self.earlier)
            raise

    def forbid(self, secret: str) -> None:
        """Never let `secret` into the transcript or an export; a token's short PIN would be found in any number."""
        if len(secret) >= SEARCHABLE:
            self.transcript.forbid(secret)
            self.forbidden.append(secret.encode())


def opened(
    vault: Vault,
    data: bytes,
    name: str,
    clock: Callable[[], datetime],
    drive: Mapping[str, str] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Ceremony:
    """Read a request at the vault. Raises PkiError, after writing it into the transcript, for one that is damaged.

    `drive` says which drive the vault is, for the transcript; `begin` makes it one, before anything is written to it.
    """
    probe(vault.folder)
    transcript = Transcript(vault.transcript, clock, begin)
    earlier = len(transcript.records)
    transcript.record(
        "opened", file=Path(name).name, sha256=request_response.digest(data), versions=versions(), **drive or {}
    )
    try:
        request = request_response.load(data, name, Request)
        known = Known(vault.roots(), vault.history())
    except PkiError as error:
        _refused(transcript, error, earlier)
        raise
    return Ceremony(vault, request, data, known, transcript, earlier)


def _refused(transcript: Transcript, error: PkiError, earlier: int) -> None:
    """Record a refusal, at once where the drive was a vault before."""
    transcript.record("refused", message=error.message, hint=error.hint)
    if earlier:
        transcript.settle()


def environment(ceremony: Ceremony, findings: list[MachineCheck], despite: str) -> None:
    """Record what was found of the machine; go on only when it is fit, or `despite` gives a reason that is recorded."""
    ceremony.transcript.record(
        "environment", findings=[f"{one.check}: {one.text}{'' if one.ok else ' (NOT FIT)'}" for one in findings]
    )
    unfit = [one for one in findings if not one.ok]
    if unfit and not despite:
        with ceremony.refusing():
            raise PkiError(
                "\n".join(f"this machine is not fit for a ceremony: {one.text}" for one in unfit),
                "\n".join([*(one.remedy for one in unfit), 'or go on and have it recorded: --despite "the reason"']),
            )
    if unfit:
        ceremony.transcript.record("deviation", text="; ".join(one.text for one in unfit), reason=despite)


def confirmed(ceremony: Ceremony, lines: list[str], typed: str, others: Mapping[str, str] | None = None) -> None:
    """Go on only when the first words of the request's digest were typed as the online side printed them.

    `others` are digests whose words could be taken for them, by their names.
    """
    ceremony.transcript.record("plan", lines=lines)
    with ceremony.refusing():
        if not words.agree(typed, ceremony.digest):
            raise words_differ(typed, ceremony.digest, others or {})
    ceremony.transcript.record("confirmed", words=words.first(ceremony.digest))


def words_differ(typed: str, digest: str, others: Mapping[str, str]) -> PkiError:
    """Why the words of a request that were typed are not taken."""
    if name := words.named(typed, {"the request": digest} | dict(others), "the request"):
        return PkiError(
            f"these are {name}, and the words of the request are asked for",
            f"type the first {words.ASKED} words of the request, from the paper of ceremony.request",
        )
    return PkiError(
        f"this is not the request that was printed: {words.fault(typed, digest)}",
        "type the first words from the paper of the online machine, or copy the request again",
    )


def clocks(ceremony: Ceremony, at: datetime, watch: str) -> None:
    """Record the clock of the machine and the witness's watch side by side; empty where no watch was compared."""
    said = f"{at:%Y-%m-%d %H:%M} UTC"
    ceremony.transcript.record("clocks", machine=said, watch=f"{watch} UTC" if watch else "not compared")
    if watch and (fault := machine_check.watch_fault(at, watch)):
        with ceremony.refusing():
            raise PkiError(fault, machine_check.SET_CLOCK)
