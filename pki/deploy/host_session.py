"""A dialogue with pki-apply on a host: the state of its files, changes, and their confirmation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import Reason
from pki.common.visible import visible_line
from pki.deploy import host_output
from pki.deploy.host_output import Answer, ChangeState
from pki.deploy.payload import Payload
from pki.deploy.process import DisconnectedError, LimitError, Process
from pki.deploy.protocol import (
    FileState,
    HostRefusal,
    ManifestRow,
    command_lines,
    file_state,
    invalid_answer,
    opening_message,
    refusal_error,
    surplus_files,
    tar_stream,
    writable_folders,
)
from pki.deploy.ssh import NEXT_RUN, Transport

MAX_FILE_BYTES = 1 << 20  # of a file that is read from a host; for CRLs see `installed_crls.max_crl_bytes`
MAX_ANSWERS = 100  # of one change that are kept in memory, beside the last one


class Session:
    """A dialogue with pki-apply, open inside a `with` block.

    When it ends, the host undoes a change that was not confirmed by `keep`. `inspect` fills `surplus` (files of
    earlier releases that the manifest does not name) and `writable` (folders that users other than root can write).
    `stuck` are the answers about files that the host cannot restore. Every method raises PkiError, UnreachableError
    where only the connection failed.
    """

    def __init__(self, transport: Transport, rows: Sequence[ManifestRow], *, as_root: bool) -> None:
        self._transport = transport
        self._rows = {row.number: row for row in rows}
        self._as_root = as_root
        self._answer_count = 0
        self.greeting: Answer = {}
        self.surplus: list[dict[str, str]] = []
        self.writable: tuple[Reason, ...] = ()
        self.stuck: list[Answer] = []

    def __enter__(self) -> Self:
        try:
            self._process = Process(self._transport.command(as_root=self._as_root), self._transport.limits)
        except FileNotFoundError as error:
            raise self._transport.connection_error(127, f"{error.filename}: not found") from None
        try:
            self._greet()
        except BaseException:
            self._process.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__()

    def _greet(self) -> None:
        """Send the manifest and read up to the greeting. The host first finishes or undoes an interrupted change."""
        try:
            self._process.send(opening_message(self._transport.host, self._rows.values()))
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError:
            pass  # an answer that was sent before the connection ended explains more
        while True:
            line = self._receive(self._process.read_line)
            answer = host_output.read(line)
            if answer is None:
                text, transport = line.decode(errors="replace"), self._transport
                raise invalid_answer(transport.host, text) if transport.is_local else transport.greeting_error(text)
            if host_output.STUCK in answer:
                self.stuck.append(answer)
            if "pki-apply" in self._checked(answer):
                self.greeting = answer
                return

    def inspect(self) -> list[FileState]:
        """Return the state of every file in the manifest, and fill `surplus` and `writable`."""
        rows, states, notices = list(self._rows.values()), list[FileState](), list[Answer]()
        while "looked" not in (answer := self._answer()):
            if len(states) < len(rows):
                states.append(file_state(self._transport.host, rows[len(states)], answer))
            elif answer.keys() & {host_output.MORE, host_output.WRITABLE}:  # they follow the states of the files
                notices.append(answer)
            else:
                raise invalid_answer(self._transport.host, answer)
        if len(states) != len(rows):
            raise invalid_answer(self._transport.host, answer)
        self.surplus = surplus_files(self._transport.host, notices)
        self.writable = writable_folders(notices)
        return states

    def show(self, state: FileState, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return a file on the host of at most `limit` bytes. pki-apply sends only CRLs, and files that everybody may read.

        Returns b"" for any other file.
        """
        self._send(f"show {state.row.number}\n".encode())
        answer = self._answer()
        size = answer.get("bytes")
        if size is None:
            raise invalid_answer(self._transport.host, answer)
        if size > limit:
            path, host = state.row.file.path, self._transport.host
            raise PkiError(
                f"{path} on the host has {size} bytes, more than the limit of {limit}", f"on {host}: ls -l {path}"
            )
        return self._receive(lambda: self._process.read_exactly(size))

    def place(self, rows: Sequence[ManifestRow], payload: Payload, *, settle: bool = False) -> None:
        """Send files and let the host place, validate and reload them.

        With `settle`, the files (CRLs) stay even if a command fails. Raises HostRefusal when the change was undone.
        """
        stream = tar_stream(rows, payload)
        numbers = " ".join(str(row.number) for row in rows)
        self._send(f"{'settle' if settle else 'place'} {len(stream) // 512} {numbers}\n".encode() + stream)
        answers = [self._answer()]
        while "state" not in answers[-1]:
            answers.append(self._answer())
            del answers[MAX_ANSWERS:-1]
        if refusal := host_output.refusal(answers, self._transport.host, command_lines(self._rows.values())):
            raise refusal_error(refusal, self._rows.values())
        if answers[-1]["state"] != (ChangeState.KEPT if settle else ChangeState.PLACED):
            raise invalid_answer(self._transport.host, answers[-1])

    def keep(self) -> None:
        """Confirm the change, so that the host does not undo it."""
        self._send(b"keep\n")
        self._wait_for_state(ChangeState.KEPT)

    def undo(self) -> None:
        """Let the host restore the previous files."""
        self._send(b"undo\n")
        self._wait_for_state(ChangeState.UNDONE)

    def extend_deadline(self, seconds: float) -> None:
        """Add seconds to the host's time limit, for time in which the host had to wait for this program."""
        self._process.extend_deadline(seconds)

    def end(self) -> None:
        """End the dialogue."""
        self._send(b"end\n")

    def _wait_for_state(self, state: ChangeState) -> None:
        while "state" not in (answer := self._answer()):
            pass
        if answer["state"] == ChangeState.UNDONE and state is not ChangeState.UNDONE:
            raise HostRefusal("the host rolled the change back by itself", NEXT_RUN, ErrorCode.UNDONE)
        if answer["state"] != state:
            raise invalid_answer(self._transport.host, answer)

    def _send(self, data: bytes) -> None:
        try:
            self._process.send(data)
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError:
            while True:  # an answer that was sent before the connection ended explains more
                self._answer()

    def _receive(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError as lost:
            status, complaint = self._process.finish()
            if not self._answer_count:
                raise self._transport.start_error(status, complaint) from None
            raise self._transport.connection_error(status, complaint or str(lost)) from None

    def _answer(self) -> Answer:
        line = self._receive(self._process.read_line)
        answer = host_output.read(line)
        if answer is None:
            raise invalid_answer(self._transport.host, line.decode(errors="replace"))
        return self._checked(answer)

    def _checked(self, answer: Answer) -> Answer:
        """Count an answer, and raise PkiError for one that reports an error."""
        self._answer_count += 1
        if self._answer_count > host_output.max_answers(len(self._rows)):
            raise self._transport.limit_error(f"sent more than {host_output.max_answers(len(self._rows))} answers")
        if "error" in answer:
            host = self._transport.host
            raise PkiError(
                visible_line(answer["error"]), f"./run invoke deploy.bootstrap {host}", ErrorCode.NEEDS_BOOTSTRAP
            )
        return answer
