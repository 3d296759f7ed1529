"""The messages to pki-apply on a host and its answers: manifest, state of the files, refusals."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import Reason, Why
from pki.common.remedies import Remedy
from pki.common.visible import line_fault, visible_line
from pki.deploy import host_output
from pki.deploy.host_output import Answer, FileStatus, Refusal
from pki.deploy.payload import Payload
from pki.deploy.release import File

PATH = re.compile(r"/[A-Za-z0-9._/@+:,=-]+")
NO_DIGEST = "0"  # of a file that is to be removed, whatever its content is
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
    """One line of the manifest. `number` names the file in the tar stream. `is_removal` means that the host removes it."""

    number: int
    file: File
    is_removal: bool = False

    def line(self) -> str:
        """Return the row as one line of the manifest. Raises PkiError when a value would break the line."""
        file = self.file
        kind, digest = ("gone", NO_DIGEST) if self.is_removal else ("file", file.sha256)
        commands = map(command_name, (file.validate, file.reload))
        columns = (file.mode, file.owner, digest, file.set or "-", *commands, file.path)
        # values from a receipt were not checked as the headers of managed files are
        faults = [fault for fault in map(line_fault, columns) if fault]
        if faults:
            what = f"{file.path} in the manifest: {faults[0]}"
            raise PkiError(what, "prepare the host again: ./run invoke deploy.bootstrap HOST")
        return "\t".join((str(self.number), kind, *columns))


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of one file on the host, as pki-apply reports it.

    A LINK has a `link_target`; `sha256` is "" for a missing file.
    """

    row: ManifestRow
    status: FileStatus
    sha256: str
    link_target: str = ""

    @property
    def reason(self) -> Reason:
        """Return how the file differs from the release."""
        file = self.row.file
        return {
            FileStatus.SAME: Why.FILE_SAME(file=file.path),
            FileStatus.ABSENT: Why.FILE_ABSENT(file=file.path),
            FileStatus.OTHER_CONTENT: Why.FILE_DIFFERS(file=file.path),
            FileStatus.OTHER_MODE: Why.FILE_OTHER_MODE(file=file.path, expected=file.mode),
            FileStatus.OTHER_OWNER: Why.FILE_OWNER(file=file.path, owner=file.owner),
            FileStatus.NO_FILE: Why.FILE_SPECIAL(file=file.path),
            FileStatus.LINK: Why.FILE_LINK(file=file.path, to=link_target_text(self.link_target)),
            FileStatus.SURPLUS: Why.SURPLUS(file=file.path),
            FileStatus.RELOAD_DUE: Why.FILE_OWED(file=file.path),
            FileStatus.HELD_BACK: Why.FILE_HELD(file=file.path),
            FileStatus.DENIED: Why.FILE_DENIED(file=file.path),
            FileStatus.SET_CHANGES: Why.FILE_SET(file=file.path, set=file.set),
        }[self.status]


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
    step = Step.PLACE  # no command ran
    if refusal.ran:
        step = Step.CHECK if is_check else Step.RELOAD
    return HostRefusal(refusal.why, refusal.output, step=step, command=refusal.ran)


def manifest_rows(payload: Payload, obsolete: Sequence[Mapping[str, str]]) -> list[ManifestRow]:
    """Return the rows of a manifest: the files of a release, then the files of a receipt that must be removed."""
    rows = [ManifestRow(number, file) for number, file in enumerate(payload.release.files, 1)]
    removed = [
        File(old["path"], old["mode"], old["owner"], NO_DIGEST, "", "", old.get("reload", ""), old.get("set", ""))
        for old in obsolete
    ]
    return rows + [ManifestRow(number, file, is_removal=True) for number, file in enumerate(removed, len(rows) + 1)]


def opening_message(host: str, rows: Iterable[ManifestRow]) -> bytes:
    """Return the first message of a dialogue: the name of the host, and the manifest."""
    lines = [row.line() for row in rows]
    return "\n".join([f"doit-pki 1 {host}", *lines, f"end {len(lines)}", ""]).encode()


def batch_stream(host: str, rows: Sequence[ManifestRow], payload: Payload) -> bytes:
    """Return a whole dialogue in one stream (for Ansible): the host keeps the files that it needs, CRLs first."""
    parts = [opening_message(host, rows)]
    crls = [row for row in rows if row.file.crl and not row.is_removal]
    other_files = [row for row in rows if not row.file.crl or row.is_removal]
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
    return [file_state(host, row, answer) for row, answer in zip(rows, answers, strict=True)]


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
    for answer in (line for line in answers if host_output.WRITABLE in line):
        folder, sort, who = visible_line(answer[host_output.WRITABLE]), answer["sort"], visible_line(answer["who"])
        is_link = sort == "link"
        reasons.append(
            Why.FOLDER_LINK(folder=folder) if is_link else Why.FOLDER_WRITABLE(folder=folder, who=who, sort=sort)
        )
    return tuple(reasons)


def file_state(host: str, row: ManifestRow, answer: Answer) -> FileState:
    """Return the state of one file from the answer of a host. Raises PkiError for an answer that cannot be right."""
    if (answer.get("n"), answer.get("path")) != (row.number, row.file.path):
        raise invalid_answer(host, answer)
    status = FileStatus(answer["is"])
    if status is FileStatus.HELD_BACK and row.is_removal:
        raise invalid_answer(host, answer)
    state = FileState(row, status, answer["sha256"], answer.get("to", ""))
    has_content = status in {FileStatus.SAME, FileStatus.SET_CHANGES, FileStatus.RELOAD_DUE}
    if has_content and not row.is_removal and state.sha256 != row.file.sha256:
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
            if not row.is_removal:
                content = payload.content(row.file)
                member = tarfile.TarInfo(str(row.number))
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
