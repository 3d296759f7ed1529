"""One contact with pki-apply on a host: what is there, what it takes, what it says."""

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
from pki.common.visible import line_fault, plain
from pki.deploy import host_output
from pki.deploy.host_output import Answer, Refusal
from pki.deploy.payload import Payload
from pki.deploy.process import DisconnectedError, LimitError, Process
from pki.deploy.release import File
from pki.deploy.ssh import NEXT_RUN, Transport

PATH = re.compile(r"/[A-Za-z0-9._/@+:,=-]+")
MAX_FILE_BYTES = 1 << 20  # bytes of a file that is shown, of a CRL more: `inplace.largest`
MAX_ANSWERS = 100  # answers about one change that are looked at, and the last one
SHOWN = 120  # characters of an answer that is none


class Step(StrEnum):
    """What a host was at when it refused a change."""

    PLACE = "place"
    CHECK = "check"
    RELOAD = "reload"
    SERVICE = "service"  # it took the change, and what it serves disproves it


class HostRefusal(PkiError):  # noqa: N818 - what a host said, and an error only to us
    """The host did not take a change, or took it back, for a reason of its own.

    `command` is the name of the one that failed at that step, empty where it was none.
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
    """A change that its `services` disproved."""

    def __init__(self, message: str, hint: str | Remedy, services: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint, step=Step.SERVICE)
        self.services = services


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the manifest that a host gets; `number` names the file in the stream."""

    number: int
    file: File
    gone: bool = False

    def line(self) -> str:
        file = self.file
        kind, digest = ("gone", "0") if self.gone else ("file", file.sha256)
        parts = (
            file.mode,
            file.owner,
            digest,
            file.set or "-",
            command_name(file.validate),
            command_name(file.reload),
            file.path,
        )
        if fault := next(
            filter(None, map(line_fault, parts)), ""
        ):  # what a receipt says was never checked as headers are
            raise PkiError(
                f"{file.path} in the manifest: {fault}", "prepare the host again: ./run invoke deploy.bootstrap HOST"
            )
        return "\t".join((str(self.number), kind, *parts))


@dataclass(frozen=True, slots=True)
class FileState:
    """What a host says of one file: `state` is same, absent, edited, mode, owner, special, link, extra, owed, set, held or denied.

    `to` is where a link leads.
    """

    row: Row
    state: str
    sha256: str
    link_target: str = ""

    @property
    def reason(self) -> Reason:
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


def link_target_text(link: str) -> str:
    """Return where a link leads, as it is shown; a delivery replaces it, and what it names stays as it is."""
    return plain(link) or "nothing"


def command_name(command: str) -> str:
    """The name of a command on a host, as pki-apply.conf has it: `systemctl reload nginx` → `systemctl-reload-nginx`."""
    return re.sub(r"[^a-z0-9]+", "-", command.lower()).strip("-") or "-"


def refusal_error(refusal: Refusal, rows: Iterable[Row]) -> HostRefusal:
    """Return what a host answered to a manifest of `rows` as an error, with the step at which it stopped."""
    is_check = any(command_name(row.file.validate) == refusal.ran for row in rows)
    step = Step.PLACE if not refusal.ran else Step.CHECK if is_check else Step.RELOAD
    return HostRefusal(refusal.why, refusal.said, step=step, command=refusal.ran)


def manifest_rows(payload: Payload, gone: Sequence[Mapping[str, str]]) -> list[Row]:
    """The manifest: the files of a release, then what a receipt lists beyond them."""
    wanted = [Row(number, file) for number, file in enumerate(payload.release.files, 1)]
    left = [
        File(old["path"], old["mode"], old["owner"], "0", "", "", old.get("reload", ""), old.get("set", ""))
        for old in gone
    ]
    return wanted + [Row(number, file, gone=True) for number, file in enumerate(left, len(wanted) + 1)]


class Session:
    """A dialogue, open from `with` to its end; a change that was not kept by then is undone by the host itself.

    `stuck` are the host's words about files that it could not put back. Raises PkiError (UnreachableError where only
    the connection is at fault) from every method.
    """

    def __init__(self, way: Transport, rows: Sequence[Row], *, as_root: bool) -> None:
        self._transport = way
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
        """Open the dialogue; before it answers, the host ends what was interrupted, and says how that went."""
        try:
            self._process.send(opening_message(self._transport.host, self._rows.values()))
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError:
            pass  # what it said before it hung up is the better reason
        while True:
            line = self._receive(self._process.read_line)
            answer = host_output.read(line)
            if answer is None:
                text = line.decode(errors="replace")
                raise (
                    invalid_answer(self._transport.host, text)
                    if self._transport.is_local
                    else self._transport.greeting_error(text)
                )
            if host_output.STUCK in answer:
                self.stuck.append(answer)
            if "pki-apply" in self._checked(answer):
                self.greeting = answer
                return

    def inspect(self) -> list[FileState]:
        """What the host has of every file in the manifest.

        `others` is then what it has from us besides, `writable` the folders on the way that others than root can write.
        """
        rows, found, more = list(self._rows.values()), list[FileState](), list[Answer]()
        while "looked" not in (answer := self._answer()):
            if len(found) == len(rows) and answer.keys() & {host_output.MORE, host_output.WRITABLE}:
                more.append(answer)
                continue
            if len(found) == len(rows):
                raise invalid_answer(self._transport.host, answer)
            found.append(_file_state(self._transport.host, rows[len(found)], answer))
        if len(found) != len(rows):
            raise invalid_answer(self._transport.host, answer)
        self.surplus = surplus_files(self._transport.host, more)
        self.writable = writable_folders(more)
        return found

    def show(self, seen: FileState, largest: int = MAX_FILE_BYTES) -> bytes:
        """The content of a file on the host, empty when not everybody there may read it; at most `largest` bytes."""
        self._send(f"show {seen.row.number}\n".encode())
        size = self._answer().get("bytes")
        if size is None:
            raise invalid_answer(self._transport.host, {"bytes": size})
        if size > largest:
            path = seen.row.file.path
            raise PkiError(
                f"{path} there has {size} bytes, and at most {largest} are read",
                f"look at it on {self._transport.host}: ls -l {path}",
            )
        return self._receive(lambda: self._process.read_exactly(size))

    def place(self, rows: Sequence[Row], payload: Payload, *, settle: bool = False) -> None:
        """Send files and let them be placed; the host validates and reloads, and has undone all if this raises.

        With `settle` they stay whatever the services say: CRLs never go back.
        """
        stream = tar_stream(rows, payload)
        numbers = " ".join(str(row.number) for row in rows)
        self._send(f"{'settle' if settle else 'place'} {len(stream) // 512} {numbers}\n".encode() + stream)
        said = [self._answer()]
        while "state" not in said[-1]:
            said.append(self._answer())
            del said[MAX_ANSWERS:-1]
        if refusal := host_output.refusal(said, self._transport.host):
            raise refusal_error(refusal, self._rows.values())
        if said[-1]["state"] != ("kept" if settle else "placed"):
            raise invalid_answer(self._transport.host, said[-1])

    def keep(self) -> None:
        self._send(b"keep\n")
        self._wait_for_state("kept")

    def undo(self) -> None:
        self._send(b"undo\n")
        self._wait_for_state("undone")

    def extend_deadline(self, seconds: float) -> None:
        """Give the host time that it did not take itself."""
        self._process.extend_deadline(seconds)

    def end(self) -> None:
        self._send(b"end\n")

    # -- lines --

    def _wait_for_state(self, state: str) -> None:
        while "state" not in (answer := self._answer()):
            pass
        if answer["state"] == "undone" != state:
            raise HostRefusal("put the previous files back by itself", NEXT_RUN, ErrorCode.UNDONE)
        if answer["state"] != state:
            raise invalid_answer(self._transport.host, answer)

    def _send(self, data: bytes) -> None:
        try:
            self._process.send(data)
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError:
            while True:  # what it said before it hung up is the better reason
                self._answer()

    def _receive(self, ask: Callable[[], bytes]) -> bytes:
        try:
            return ask()
        except LimitError as limit:
            raise self._transport.limit_error(str(limit)) from None
        except DisconnectedError as silence:
            status, complaint = self._process.finish()
            if not self._answer_count:
                raise self._transport.start_error(status, complaint) from None
            raise self._transport.connection_error(status, complaint or str(silence)) from None

    def _answer(self) -> Answer:
        line = self._receive(self._process.read_line)
        answer = host_output.read(line)
        if answer is None:
            raise invalid_answer(self._transport.host, line.decode(errors="replace"))
        return self._checked(answer)

    def _checked(self, answer: Answer) -> Answer:
        """Count an answer."""
        self._answer_count += 1
        if self._answer_count > host_output.max_answers(len(self._rows)):
            raise self._transport.limit_error(f"sent more than {host_output.max_answers(len(self._rows))} answers")
        if "error" in answer:
            hint = f"./run invoke deploy.bootstrap {self._transport.host}"
            raise PkiError(plain(answer["error"]), hint, ErrorCode.NEEDS_BOOTSTRAP)
        return answer


# -- what is said and heard, whoever carries it -----------------------------------------------------------------------


def opening_message(host: str, rows: Iterable[Row]) -> bytes:
    """The first words of every dialogue: who is meant, and the manifest."""
    lines = [row.line() for row in rows]
    return "\n".join([f"doit-pki 1 {host}", *lines, f"end {len(lines)}", ""]).encode()


def batch_stream(host: str, rows: Sequence[Row], payload: Payload) -> bytes:
    """A whole dialogue ahead of its answers: the host takes what it finds that it needs, CRLs first, and keeps it."""
    said = [opening_message(host, rows)]
    crls = [row for row in rows if row.file.crl and not row.gone]
    others = [row for row in rows if not row.file.crl or row.gone]
    for word, some in (("settle", crls), ("place", others)):
        if some:
            stream = tar_stream(some, payload)
            numbers = " ".join(str(row.number) for row in some)
            said.append(f"{word} {len(stream) // 512} needed {numbers}\n".encode() + stream)
    return b"".join([*said, b"keep\nend\n"])


def file_states(host: str, rows: Sequence[Row], found: Sequence[Answer]) -> list[FileState]:
    """What a host has of every file, from what it answers. Raises PkiError when that cannot be."""
    if len(found) != len(rows):
        raise invalid_answer(host, {"looked": len(found)})
    return [_file_state(host, row, answer) for row, answer in zip(rows, found, strict=True)]


def surplus_files(host: str, said: Iterable[Answer]) -> list[dict[str, str]]:
    """Files that a host had from us and that the manifest does not name, as a receipt lists them.

    Raises PkiError where pki-apply cannot have said so.
    """
    found = []
    for one in " ".join(answer[host_output.MORE] for answer in said if host_output.MORE in answer).split():
        parts = one.split("|")
        if len(parts) != 5 or not re.fullmatch(r"0[0-7]{3}", parts[0]) or not PATH.fullmatch(parts[4]):
            raise invalid_answer(host, plain(one))
        mode, owner, together, reload, path = (part if part != "-" else "" for part in parts)
        found.append({"path": path, "mode": mode, "owner": owner, "set": together, "reload": reload})
    return found


def writable_folders(said: Iterable[Answer]) -> tuple[Reason, ...]:
    """The folders on the way to files of a host that others than root can write there, and whom it does not trust."""
    return tuple(
        Why.FOLDER_LINK(folder=plain(one[host_output.WRITABLE]))
        if one["sort"] == "link"
        else Why.FOLDER_WRITABLE(folder=plain(one[host_output.WRITABLE]), who=plain(one["who"]), sort=one["sort"])
        for one in said
        if host_output.WRITABLE in one
    )


def _file_state(host: str, row: Row, answer: Answer) -> FileState:
    if (answer.get("n"), answer.get("path")) != (row.number, row.file.path):
        raise invalid_answer(host, answer)
    one = FileState(row, answer["is"], answer["sha256"], answer.get("to", ""))
    if one.state == "held" and row.gone:
        raise invalid_answer(host, answer)
    if one.state in {"same", "set", "owed"} and not row.gone and one.sha256 != row.file.sha256:
        raise PkiError(
            f"says that {row.file.path} is as it should be, and names another digest",
            f"look at /usr/local/sbin/pki-apply there; then: ./run invoke deploy.bootstrap {host}",
            ErrorCode.NEEDS_BOOTSTRAP,
        )
    return one


def invalid_answer(host: str, answer: object) -> PkiError:
    shown = plain(f"'{answer}'" if isinstance(answer, str) else repr(answer), SHOWN)
    return PkiError(
        f"answers what pki-apply would not: {shown}",
        f"is another program started there? ./run invoke deploy.bootstrap {host}",
        ErrorCode.NEEDS_BOOTSTRAP,
    )


def tar_stream(rows: Sequence[Row], payload: Payload) -> bytes:
    """The files of some rows, named by their numbers: regular files and nothing else."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for row in rows:
            if not row.gone:
                content = payload.content(row.file)
                member = tarfile.TarInfo(str(row.number))
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
