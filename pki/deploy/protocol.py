"""The dialogue with pki-apply on a host: manifest, state of the files, changes, answers."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import Reason, Why
from pki.common.remedies import Remedy
from pki.common.visible import line_fault, visible_line
from pki.deploy import host_output
from pki.deploy.host_output import Answer, Refusal
from pki.deploy.payload import Payload
from pki.deploy.process import DisconnectedError, LimitError, Process
from pki.deploy.release import File
from pki.deploy.ssh import NEXT_RUN, Transport

PATH = re.compile(r"/[A-Za-z0-9._/@+:,=-]+")
MAX_FILE_BYTES = 1 << 20  # of a file that is read from a host; for CRLs see `installed_crls.max_crl_bytes`
MAX_ANSWERS = 100  # of one change that are kept in memory, beside the last one
SHOWN = 120  # characters of an invalid answer that a message quotes


class Step(StrEnum):
    """The step of a change at which a host refused it."""

    PLACE = "place"
    CHECK = "check"
    RELOAD = "reload"
    SERVICE = "service"  # the host took the change, but a service does not serve it


class HostRefusal(PkiError):  # noqa: N818 - the host's decision, not a fault of the program
    """The host refused a change or undid it.

    `step` is where it stopped; `command` is the name of the command that failed there, "" if none did.
    """

    def __init__(
        self,
        message: str,
        hint: str | Remedy = "",
        code: ErrorCode | None = None,
        *,
        step: Step = Step.PLACE,
        command: str = "",
    ) -> None:
        super().__init__(message, hint, code)
        self.step, self.command = step, command


class ServiceRefusal(HostRefusal):
    """A change that was undone because `services` do not serve what was deployed."""

    def __init__(self, message: str, hint: str | Remedy, services: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint, step=Step.SERVICE)
        self.services = services


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of the manifest; `number` names the file in the tar stream; `gone`: the file is to be removed."""

    number: int
    file: File
    gone: bool = False

    def line(self) -> str:
        """Return the row as one line of the manifest. Raises PkiError when a value would break the line."""
        file = self.file
        kind, digest = ("gone", "0") if self.gone else ("file", file.sha256)
        commands = map(command_name, (file.validate, file.reload))
        columns = (file.mode, file.owner, digest, file.set or "-", *commands, file.path)
        # values from a receipt were not checked as the headers of managed files are
        if fault := next(filter(None, map(line_fault, columns)), ""):
            what = f"{file.path} in the manifest: {fault}"
            raise PkiError(what, "prepare the host again: ./run invoke deploy.bootstrap HOST")
        return "\t".join((str(self.number), kind, *columns))


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of one file on the host, as pki-apply reports it.

    `state` is one of `host_output.FILE_STATES`, or "link" with its `link_target`; `sha256` is "" for a missing file.
    """

    row: ManifestRow
    state: str
    sha256: str
    link_target: str = ""

    @property
    def reason(self) -> Reason:
        """Return how the file differs from the release."""
        file = self.row.file
        return {
            "same": Why.FILE_SAME(file=file.path),
            "absent": Why.FILE_ABSENT(file=file.path),
            "edited": Why.FILE_DIFFERS(file=file.path),
            "mode": Why.FILE_OTHER_MODE(file=file.path, expected=file.mode),
            "owner": Why.FILE_OWNER(file=file.path, owner=file.owner),
            "special": Why.FILE_SPECIAL(file=file.path),
            "link": Why.FILE_LINK(file=file.path, to=link_target_text(self.link_target)),
            "extra": Why.SURPLUS(file=file.path),
            "owed": Why.FILE_OWED(file=file.path),
            "held": Why.FILE_HELD(file=file.path),
            "denied": Why.FILE_DENIED(file=file.path),
            "set": Why.FILE_SET(file=file.path, set=file.set),
        }[self.state]


def link_target_text(target: str) -> str:
    """Return the target of a link for a message. A delivery replaces the link and does not touch its target."""
    return visible_line(target) or "nothing"


def command_name(command: str) -> str:
    """Return the name of a command in pki-apply.conf: `systemctl reload nginx` → `systemctl-reload-nginx`."""
    return re.sub(r"[^a-z0-9]+", "-", command.lower()).strip("-") or "-"


def command_lines(rows: Iterable[ManifestRow]) -> dict[str, str]:
    """Return the command lines of some rows by their names in pki-apply.conf."""
    return {command_name(line): line for row in rows for line in (row.file.validate, row.file.reload) if line}


def refusal_error(refusal: Refusal, rows: Iterable[ManifestRow]) -> HostRefusal:
    """Return the refusal of a manifest with `rows` as an error, with the step at which the host stopped."""
    is_check = any(command_name(row.file.validate) == refusal.ran for row in rows)
    step = Step.PLACE if not refusal.ran else Step.CHECK if is_check else Step.RELOAD
    return HostRefusal(refusal.why, refusal.output, step=step, command=refusal.ran)


def manifest_rows(payload: Payload, obsolete: Sequence[Mapping[str, str]]) -> list[ManifestRow]:
    """Return the rows of a manifest: the files of a release, then the files of a receipt that must be removed."""
    rows = [ManifestRow(number, file) for number, file in enumerate(payload.release.files, 1)]
    removed = [
        File(old["path"], old["mode"], old["owner"], "0", "", "", old.get("reload", ""), old.get("set", ""))
        for old in obsolete
    ]
    return rows + [ManifestRow(number, file, gone=True) for number, file in enumerate(removed, len(rows) + 1)]


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
            answer = host_output.read(line := self._receive(self._process.read_line))
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
            if len(states) == len(rows) and answer.keys() & {host_output.MORE, host_output.WRITABLE}:
                notices.append(answer)
                continue
            if len(states) == len(rows):
                raise invalid_answer(self._transport.host, answer)
            states.append(_file_state(self._transport.host, rows[len(states)], answer))
        if len(states) != len(rows):
            raise invalid_answer(self._transport.host, answer)
        self.surplus = surplus_files(self._transport.host, notices)
        self.writable = writable_folders(notices)
        return states

    def show(self, state: FileState, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return a file on the host of at most `limit` bytes; b"" if not every account there can read it, and no CRL."""
        self._send(f"show {state.row.number}\n".encode())
        size = self._answer().get("bytes")
        if size is None:
            raise invalid_answer(self._transport.host, {"bytes": size})
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
        if answers[-1]["state"] != ("kept" if settle else "placed"):
            raise invalid_answer(self._transport.host, answers[-1])

    def keep(self) -> None:
        """Confirm the change, so that the host does not undo it."""
        self._send(b"keep\n")
        self._wait_for_state("kept")

    def undo(self) -> None:
        """Let the host restore the previous files."""
        self._send(b"undo\n")
        self._wait_for_state("undone")

    def extend_deadline(self, seconds: float) -> None:
        """Add seconds to the host's time limit, for time in which the host had to wait for this program."""
        self._process.extend_deadline(seconds)

    def end(self) -> None:
        """End the dialogue."""
        self._send(b"end\n")

    def _wait_for_state(self, state: str) -> None:
        while "state" not in (answer := self._answer()):
            pass
        if answer["state"] == "undone" != state:
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
        answer = host_output.read(line := self._receive(self._process.read_line))
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


# -- messages and answers, for the dialogue and for Ansible ------------------------------------------------------------


def opening_message(host: str, rows: Iterable[ManifestRow]) -> bytes:
    """Return the first message of a dialogue: the name of the host, and the manifest."""
    lines = [row.line() for row in rows]
    return "\n".join([f"doit-pki 1 {host}", *lines, f"end {len(lines)}", ""]).encode()


def batch_stream(host: str, rows: Sequence[ManifestRow], payload: Payload) -> bytes:
    """Return a whole dialogue in one stream (for Ansible): the host keeps the files that it needs, CRLs first."""
    parts = [opening_message(host, rows)]
    crls = [row for row in rows if row.file.crl and not row.gone]
    other_files = [row for row in rows if not row.file.crl or row.gone]
    for command, chosen in (("settle", crls), ("place", other_files)):
        if chosen:
            stream = tar_stream(chosen, payload)
            numbers = " ".join(str(row.number) for row in chosen)
            parts.append(f"{command} {len(stream) // 512} needed {numbers}\n".encode() + stream)
    return b"".join([*parts, b"keep\nend\n"])


def file_states(host: str, rows: Sequence[ManifestRow], answers: Sequence[Answer]) -> list[FileState]:
    """Return the state of every file from the answers of a host. Raises PkiError when they do not match `rows`."""
    if len(answers) != len(rows):
        raise invalid_answer(host, {"looked": len(answers)})
    return [_file_state(host, row, answer) for row, answer in zip(rows, answers, strict=True)]


def surplus_files(host: str, answers: Iterable[Answer]) -> list[dict[str, str]]:
    """Return the files of earlier releases that the manifest does not name, as a receipt lists them. Raises PkiError."""
    files = []
    for entry in " ".join(answer[host_output.MORE] for answer in answers if host_output.MORE in answer).split():
        fields = entry.split("|")
        if len(fields) != 5 or not re.fullmatch(r"0[0-7]{3}", fields[0]) or not PATH.fullmatch(fields[4]):
            raise invalid_answer(host, visible_line(entry))
        mode, owner, set_folder, reload, path = (part if part != "-" else "" for part in fields)
        files.append({"path": path, "mode": mode, "owner": owner, "set": set_folder, "reload": reload})
    return files


def writable_folders(answers: Iterable[Answer]) -> tuple[Reason, ...]:
    """Return the folders above deployed files that users other than root can write, and pki-apply.conf does not trust."""
    reasons = list[Reason]()
    for answer in (one for one in answers if host_output.WRITABLE in one):
        folder, sort, who = visible_line(answer[host_output.WRITABLE]), answer["sort"], visible_line(answer["who"])
        is_link = sort == "link"
        reasons.append(
            Why.FOLDER_LINK(folder=folder) if is_link else Why.FOLDER_WRITABLE(folder=folder, who=who, sort=sort)
        )
    return tuple(reasons)


def _file_state(host: str, row: ManifestRow, answer: Answer) -> FileState:
    is_other = (answer.get("n"), answer.get("path")) != (row.number, row.file.path)
    if is_other or (answer["is"] == "held" and row.gone):
        raise invalid_answer(host, answer)
    state = FileState(row, answer["is"], answer["sha256"], answer.get("to", ""))
    if state.state in {"same", "set", "owed"} and not row.gone and state.sha256 != row.file.sha256:
        raise PkiError(
            f"pki-apply reports that {row.file.path} is up to date, with another digest than that of the release",
            f"check /usr/local/sbin/pki-apply on {host}; then: ./run invoke deploy.bootstrap {host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )
    return state


def invalid_answer(host: str, answer: object) -> PkiError:
    """Return the error for an answer that pki-apply cannot have sent."""
    shown = visible_line(f"'{answer}'" if isinstance(answer, str) else repr(answer), SHOWN)
    return PkiError(
        f"invalid answer, not from pki-apply: {shown}",
        f"if another program starts in its place: ./run invoke deploy.bootstrap {host}",
        ErrorCode.NEEDS_BOOTSTRAP,
    )


def tar_stream(rows: Sequence[ManifestRow], payload: Payload) -> bytes:
    """Return the files of some rows as a ustar archive of regular files, named by their numbers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for row in rows:
            if not row.gone:
                content = payload.content(row.file)
                member = tarfile.TarInfo(str(row.number))
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
