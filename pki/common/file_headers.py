"""Find and read the files in `templates/`, and parse the headers in their leading comments."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pki.common.errors import FaultsError, PkiError
from pki.common.remedies import in_project
from pki.common.template_folders import TemplateFolders
from pki.common.visible import line_fault

DEFAULTS = {"deploy-hosts": "ca", "deploy-owner": "root:root", "deploy-mode": ""}
CERTIFICATE = "deploy-certificate"
HEADERS = {  # header → its meaning
    "deploy-target": "absolute path on the host; required",
    "deploy-hosts": "hosts that get the file: names of hosts, `ca` (the machine that runs doit), `all`, `proxy:NAME`, "
    "`network:NAME`, `access:LEVEL`, `trust:STORE`, `service:NAME`, `recipe:NAME`; a list with commas: any of them",
    "deploy-owner": "account and group of the file: `USER:GROUP`",
    "deploy-mode": "permissions, octal; without it 0644, or 0600 if the content has a private key",
    "deploy-set": "folder of the target, if its files must change together: it becomes a link that is switched at once",
    "deploy-artifact": "artifact that is delivered byte for byte, instead of the body of the file",
    "deploy-order": "`any`: the certificate of the key need not be the first one of a combined file; without it "
    "`leaf-first`",
    CERTIFICATE: "`yes` or `no`: whether an OpenSSL request configuration declares a certificate; without it `yes` for `*.cnf`",
    "deploy-validate": "command on the host that must succeed with the new files; otherwise the host is rolled back",
    "deploy-reload": "command on the host after a change, once for each host",
}
HEADER = re.compile(r"(deploy-[a-z]+)\s*:\s*(.*)")
CLOSERS = {"<!--": "-->", "{#": "#}"}
OPENERS = ("#", ";", "//", "--", *CLOSERS)
UTF_16 = {"UTF-16LE": (b"\xff\xfe", 1), "UTF-16BE": (b"\xfe\xff", 0)}  # byte order mark; which byte of "#" is 0
FIX_HEADER = "fix the header, then: ./run doit"
LARGEST = 4 << 20  # bytes of a managed file
LONGEST = 4096  # characters of a header's value


@dataclass(frozen=True, slots=True)
class Header:
    """The value of one header, and its line."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """One file in `templates/`. Its text preserves bytes that are not UTF-8 (surrogateescape).

    `name` is relative to `templates/`. `fault` is the error of the file or its headers. A folder that cannot be read has
    `is_folder` and a fault.
    """

    name: str
    text: str = ""
    headers: Mapping[str, Header] = field(default_factory=dict)
    fault: PkiError | None = None
    is_folder: bool = False

    @property
    def is_managed(self) -> bool:
        """Return whether the file has a target, or a fault that must be reported."""
        return "deploy-target" in self.headers or self.fault is not None


def template_files(folders: TemplateFolders) -> Iterator[TemplateFile]:
    """Yield the templates of a project, sorted by name, without hidden files and backups of editors."""
    for file in folders.files():
        if file.fault:
            yield TemplateFile(file.name, fault=file.fault, is_folder=True)
        else:
            yield _read_template(file.folder, file.name)


def read(path: Path, shown: str) -> bytes:
    """Return the content of a regular file, truncated after `LARGEST`. Raises PkiError, with `shown` as its name."""
    try:
        # O_NONBLOCK: opening a FIFO without a writer would block
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise PkiError(f"{shown}: is not a regular file", f"rm {in_project(shown)}, or move it away")
            parts = [os.read(handle, 65536)]
            while parts[-1] and sum(map(len, parts)) <= LARGEST:
                parts.append(os.read(handle, 1 << 20))
        finally:
            os.close(handle)
    except OSError as error:
        if path.is_symlink():
            to = os.readlink(path)
            raise PkiError(
                f"{shown}: is a link to {to}: {error.strerror}", f"create that file, or: rm {in_project(shown)}"
            ) from None
        look = f"ls -l {in_project(shown)}"
        hint = f"chown or chmod it: {look}" if isinstance(error, PermissionError) else look
        raise PkiError(f"{shown}: cannot be read: {error.strerror}", hint) from None
    return b"".join(parts)


def usage_fault(folder: Path, name: str) -> PkiError | None:
    """Return why a file must not be used: it is a link out of the folder, or every user can write it. Else None."""
    return link_fault(folder, name) or _writable_fault(folder, name)


def _writable_fault(folder: Path, name: str) -> PkiError | None:
    part = name
    while part:
        with suppress(OSError):  # a missing or inaccessible file is reported when it is read
            if os.stat(f"{folder}/{part}").st_mode & stat.S_IWOTH:
                open_ = in_project(f"templates/{part}")
                what = "can" if part == name else f"is in templates/{part}, which can"
                return PkiError(f"templates/{name}: {what} be written by every user", f"chmod o-w {open_}")
        part = part.rpartition("/")[0]
    return None


def link_fault(folder: Path, name: str) -> PkiError | None:
    """Return the error of a file if any part of its path is a link out of the folder, else None."""
    if ".." in name.split("/"):
        return None  # Jinja2 refuses this name
    path = f"{folder}/{name}"
    real, base = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath((real, base)) == base:
        return None
    shown = f"templates/{name}"
    place = in_project(shown)
    copy = f"cp --remove-destination {shlex.quote(real)} {place}"
    if not os.path.islink(path):
        link = next(parent for parent in reversed(Path(name).parents) if os.path.islink(f"{folder}/{parent}"))
        return PkiError(
            f"{shown}: templates/{link} is a link to {real}, outside templates/",
            f"rm {in_project(f'templates/{link}')}, and copy the folder itself there",
        )
    return PkiError(
        f"{shown}: is a link to {real}, outside templates/",
        f"rm {place}; if hosts may get its content, copy it there: {copy}",
    )


def included_files(folder: Path, name: str, path: str) -> list[tuple[str, str]]:
    """Return text and name of each file that the file `name` includes by a `path` relative to its own folder.

    A path to a folder includes its *.cnf and *.conf files. Raises PkiError if the path, or a link on it, is outside
    `folder`.
    """
    base = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(base, os.path.dirname(name), path))
    hint = f"move it into templates/, beside templates/{name}, or copy its lines into that file"
    if os.path.commonpath((real, base)) != base or os.path.isabs(path):
        raise PkiError("is outside templates/", hint)
    if not os.path.exists(real):
        raise PkiError("does not exist relative to this file", hint)
    paths = [real]
    if os.path.isdir(real):
        paths = sorted(f"{real}/{entry}" for entry in os.listdir(real) if entry.endswith((".cnf", ".conf")))
    files = list[tuple[str, str]]()
    for file in paths:
        if os.path.commonpath((os.path.realpath(file), base)) != base:
            raise PkiError("is outside templates/", hint)
        shown = f"templates/{os.path.relpath(file, base)}"
        content = read(Path(file), shown)
        if len(content) > LARGEST:
            raise PkiError(f"{shown}: is larger than {LARGEST >> 20} MB", "include less")
        files.append((content.decode("utf-8", errors="surrogateescape"), shown))
    return files


def _read_template(folder: Path, name: str) -> TemplateFile:
    shown = f"templates/{name}"
    try:
        content = read(folder / name, shown)
    except PkiError as fault:
        return TemplateFile(name, fault=fault)
    text, encoding = _decode(content[:LARGEST])
    headers, problems = _parse_headers(text, shown)
    if encoding and (headers or problems):
        old, new = in_project(shown), in_project(f"{shown}.new")
        copy = f"iconv -f {encoding} -t UTF-8 {old} >{new} && mv {new} {old}"
        problems.append(PkiError(f"{shown}: is {encoding} text, as written by Windows; hosts need UTF-8", copy))
    is_managed = "deploy-target" in headers or problems
    if is_managed and os.path.islink(f"{folder}/{name}") and (outside := link_fault(folder, name)):
        return TemplateFile(name, "", headers, outside)
    if is_managed and (is_open := _writable_fault(folder, name)):
        problems.append(is_open)
    if len(content) > LARGEST and (headers or problems):
        problems.append(PkiError(f"{shown}: is larger than {LARGEST >> 20} MB", "deliver less, or in parts"))
    return TemplateFile(name, text, headers, FaultsError.of(problems) if problems else None)


def _decode(content: bytes) -> tuple[str, str]:
    """Return the text without its byte order mark, and the encoding if it is not UTF-8, else ""."""
    for encoding, (mark, blank) in UTF_16.items():
        is_marked = content.startswith(mark)
        if is_marked or (content[blank : blank + 1] == b"\0" and "deploy-".encode(encoding) in content[:LONGEST]):
            return content.decode(encoding, errors="replace").removeprefix("\ufeff"), encoding
    return content.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff"), ""


def _parse_headers(text: str, shown: str) -> tuple[dict[str, Header], list[PkiError]]:
    """Return the headers in the leading comment lines, and all their faults; a duplicate header is omitted."""
    headers: dict[str, Header] = {}
    problems: list[PkiError] = []
    duplicates: set[str] = set()
    for number, comment in _leading_comments(text):
        match = HEADER.match(comment)
        if not match:
            continue
        name, value = match[1], match[2].removesuffix("-->").removesuffix("#}").strip()
        place = f"{shown}:{number}: {name}"
        if name not in HEADERS:
            problems.append(
                PkiError(f"{place}: unknown header; expected one of {', '.join(sorted(HEADERS))}", FIX_HEADER)
            )
        elif name in headers:
            problems.append(PkiError(f"{place}: duplicate header", FIX_HEADER))
            duplicates.add(name)
        elif not value:
            problems.append(PkiError(f"{place}: is empty", FIX_HEADER))
        elif name == CERTIFICATE and value not in {"yes", "no"}:
            problems.append(PkiError(f"{place}: {value!a}: expected yes or no", FIX_HEADER))
        elif len(value) > LONGEST:
            problems.append(PkiError(f"{place}: is longer than {LONGEST} characters", FIX_HEADER))
        elif fault := line_fault(value):
            problems.append(PkiError(f"{place}: {fault}", FIX_HEADER))
        else:
            headers[name] = Header(value, number)
    if headers and "deploy-target" not in headers and not problems:
        first = min(header.line for header in headers.values())
        problems.append(PkiError(f"{shown}:{first}: deploy-target is missing", FIX_HEADER))
    return {name: header for name, header in headers.items() if name not in duplicates}, problems


def _leading_comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each comment line before the first other line."""
    closing = ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        opener = next((mark for mark in OPENERS if bare.startswith(mark)), "")
        if bare and not opener and not closing:
            return
        if opener in CLOSERS:
            closing = CLOSERS[opener]
        if closing and closing in bare:
            closing = ""
        yield number, bare.removeprefix(opener).lstrip(" \t#;-/")
