"""Managed files: find them below `templates/`, read their headers, say for which hosts they are.

A file is managed when a comment line among its first lines carries `deploy-target:`. There is no list of them
anywhere. What is wrong with a file is kept with it, so that it stops only the releases that would use it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

from pki import opensslconf
from pki.errors import PkiError
from pki.model import Host
from pki.scalars import LABEL, Access, Proxy, TrustStore
from pki.templating import Templates

CA_HOST = "ca"
DEFAULTS = {"deploy-hosts": CA_HOST, "deploy-owner": "root:root", "deploy-mode": ""}
HEADERS = {"deploy-target", "deploy-set", "deploy-artifact", "deploy-validate", "deploy-reload", *DEFAULTS}
SERVICE = re.compile(rf"service:{LABEL}")  # of any host, or of none: most houses have no such service
HEADER = re.compile(r"(deploy-[a-z]+)\s*:\s*(.*)")
CLOSERS = {"<!--": "-->", "{#": "#}"}
OPENERS = ("#", ";", "//", "--", *CLOSERS)


class Memory(Protocol):
    """What an earlier run found, by name and by what it depends on; `memo.py` is one."""

    def recall(self, name: str, known: str) -> Any: ...

    def remember(self, name: str, known: str, files: list[str], finding: Any) -> None: ...


class Uses(NamedTuple):
    """The variables that a file reads, the artifacts that it names, the files that it takes in."""

    reads: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Header:
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class ManagedFile:
    """One managed file.

    `name` is its path below `templates/`; `selectors` are the parts of `deploy-hosts`; `reads` the variables that it
    uses; `artifacts` those that it names, with variables where a header has them; `digest` covers the file and every
    file that it takes in.
    """

    name: str
    headers: Mapping[str, Header]
    digest: str
    selectors: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    request: opensslconf.Request | None = None
    fault: PkiError | None = None

    def header(self, name: str) -> str:
        found = self.headers.get(name)
        return found.value if found else DEFAULTS.get(name, "")

    def place(self, header: str) -> str:
        """`templates/nginx/site.conf:3: deploy-mode`: where a message says that something is wrong."""
        found = self.headers.get(header)
        return f"templates/{self.name}:{found.line if found else 1}: {header}"

    def is_for(self, name: str, host: Host | None) -> bool:
        """Whether this file belongs on a host; `host` is None for the machine that runs doit."""
        if host is None:
            return CA_HOST in self.selectors
        if host.scope == "certificates" and "deploy-artifact" not in self.headers:
            return False
        return any(
            selector in {"all", name, f"proxy:{host.proxy}", f"network:{host.network}"}
            or (selector.startswith("trust:") and selector[6:] in host.trust)
            or (selector.startswith("access:") and selector[7:] in {s.access for s in host.services.values()})
            or (selector.startswith("service:") and selector[8:] in host.services)
            for selector in self.selectors
        )

    @property
    def leaf_name(self) -> str:
        return Path(self.name).stem


@dataclass(frozen=True, slots=True)
class Selection:
    """The managed files of one host, or of many alike.

    `digests` are those of the templates, `digest` one for all of them; `reads` the variables, as `inventory.domains`, `inventory`, `domains`;
    `faults` what is wrong with any of the files.
    """

    files: tuple[ManagedFile, ...]
    digest: str
    digests: Mapping[str, str]
    reads: tuple[tuple[str, str, str], ...]
    faults: tuple[PkiError, ...]

    @classmethod
    def of(cls, files: tuple[ManagedFile, ...]) -> Selection:
        reads = frozenset[str]().union(*(file.reads for file in files))
        digests = {f"template {file.name}": file.digest for file in files}
        return cls(
            files,
            hashlib.sha256(repr(digests).encode()).hexdigest(),
            digests,
            tuple((name, name.partition(".")[0], name.partition(".")[2]) for name in sorted(reads)),
            tuple(file.fault for file in files if file.fault),
        )


@dataclass(frozen=True, slots=True)
class Library:
    """All managed files, in the order of their names, and the templates that render them.

    `lost` is what is wrong with files of which nobody can tell for which host they are, `lost_files` their names.
    """

    files: tuple[ManagedFile, ...]
    templates: Templates
    lost: tuple[PkiError, ...] = ()
    lost_files: tuple[str, ...] = ()
    _alike: dict[Hashable, Selection] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._named.update(selector for file in self.files for selector in file.selectors)

    def for_host(self, name: str, host: Host | None) -> Selection:
        """The files of one host; hosts that no selector tells apart share one selection."""
        if name in self._alike:
            return self._alike[name]
        alike: Hashable = name
        if host is not None and name not in self._named:
            alike = (
                host.proxy,
                host.network,
                host.scope,
                frozenset(host.trust),
                frozenset(service.access for service in host.services.values()),
                frozenset(name for name in host.services if f"service:{name}" in self._named),
            )
        if alike not in self._alike:
            self._alike[alike] = Selection.of(tuple(file for file in self.files if file.is_for(name, host)))
        self._alike[name] = self._alike[alike]
        return self._alike[name]


def find(
    folder: Path, context: Mapping[str, object], hosts: Mapping[str, Host], networks: Iterable[str], memory: Memory
) -> Library:
    """Read every file below `folder`. `context` is what `deploy-hosts` may use (`inventory`)."""
    templates = Templates(folder)
    known = {"all", CA_HOST, *hosts, *(f"network:{name}" for name in networks)}
    known |= {*(f"proxy:{name}" for name in get_args(Proxy)), *(f"access:{level}" for level in get_args(Access))}
    known |= {f"trust:{kind}" for kind in get_args(TrustStore)}
    files, lost, lost_files = [], [], []
    for path in _walk(folder):
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        headers, problems = _headers(text)
        if "deploy-target" not in headers and not problems:
            continue
        name = path.relative_to(folder).as_posix()
        file = _managed(name, text, headers, problems, templates, folder, context, memory)
        unknown = [one for one in file.selectors if one not in known and not SERVICE.fullmatch(one)]
        if unknown:
            lost.append(
                PkiError(
                    f"{file.place('deploy-hosts')}: {unknown[0]!r} names no host, proxy, network, access, service or trust store"
                )
            )
            lost_files.append(name)
        elif file.fault and not file.selectors:
            lost.append(file.fault)
            lost_files.append(name)
        else:
            files.append(file)
    return Library(tuple(files), templates, tuple(lost), tuple(lost_files))


def _walk(folder: Path) -> list[Path]:
    return sorted(
        Path(root) / name
        for root, folders, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and not name.endswith("~")
    )


def _managed(
    name: str,
    text: str,
    headers: dict[str, Header],
    problems: list[str],
    templates: Templates,
    folder: Path,
    context: Mapping[str, object],
    memory: Memory,
) -> ManagedFile:
    """One managed file with everything that is known of it, or with what is wrong with it."""
    digest = hashlib.sha256(text.encode("utf-8", errors="surrogateescape"))
    plain = ManagedFile(name, headers, digest.hexdigest())
    if problems:
        return replace(plain, fault=PkiError(f"templates/{name}:{problems[0]}"))
    try:
        rendered = render_header(plain, "deploy-hosts", templates, context)
        plain = replace(plain, selectors=tuple(part.strip() for part in rendered.split(",") if part.strip()))
        reads, artifacts, files = _remembered(plain, text, templates, folder, memory)
        for other in sorted(files):
            for path in _walk(folder) if other == "*" else [folder / other]:
                digest.update(path.read_bytes() if path.exists() else b"")
        is_request = name.endswith(".cnf") and opensslconf.is_request(text)
        request = opensslconf.read(text, f"templates/{name}") if is_request else None
    except PkiError as fault:
        return replace(plain, fault=fault)
    return replace(plain, digest=digest.hexdigest(), reads=reads, artifacts=artifacts, request=request)


def _remembered(file: ManagedFile, text: str, templates: Templates, folder: Path, memory: Memory) -> Uses:
    """What a file uses, taken apart once for each text that it had."""
    name = f"template:{file.name}"
    if known := memory.recall(name, file.digest):
        return Uses(*map(frozenset, known))
    found = _uses(file, text, templates)
    if "*" not in found.files:
        taken_in = [str(folder / other) for other in sorted(found.files)]
        memory.remember(name, file.digest, taken_in, [sorted(part) for part in found])
    return found


def _uses(file: ManagedFile, text: str, templates: Templates) -> Uses:
    reads, artifacts, files = Uses()
    if "deploy-artifact" in file.headers:
        artifacts = frozenset({file.header("deploy-artifact")})
    elif any("\udc80" <= letter <= "\udcff" for letter in text):
        raise PkiError(f"templates/{file.name}: is not UTF-8 text", "deliver binary files with deploy-artifact")
    else:
        reads, artifacts, files = templates.reads(file.name)
    for name, header in file.headers.items():
        if name != "deploy-hosts" and "{" in header.value:
            reads |= _header_reads(file, name, templates)
    return Uses(reads, artifacts, files)


def render_header(file: ManagedFile, header: str, templates: Templates, context: Mapping[str, object]) -> str:
    """A header's value for one host. Raises PkiError that names file, line and header."""
    value = file.header(header)
    if "{" not in value:
        return value
    try:
        return templates.render_text(value, context).strip()
    except PkiError as error:
        raise PkiError(f"{file.place(header)}: {error.message}", "mend the header, then run doit again") from None


def _header_reads(file: ManagedFile, header: str, templates: Templates) -> set[str]:
    try:
        return templates.text_reads(file.header(header))
    except PkiError as error:
        raise PkiError(f"{file.place(header)}: {error.message}", "mend the header, then run doit again") from None


def _headers(text: str) -> tuple[dict[str, Header], list[str]]:
    """The headers among the leading comment lines, and what is wrong with them as `LINE: ...`."""
    headers: dict[str, Header] = {}
    problems: list[str] = []
    for number, comment in _leading_comments(text):
        found = HEADER.match(comment)
        if not found:
            continue
        name, value = found[1], found[2].removesuffix("-->").removesuffix("#}").strip()
        if name not in HEADERS:
            problems.append(f"{number}: {name}: no such header; expected one of {', '.join(sorted(HEADERS))}")
        elif name in headers:
            problems.append(f"{number}: {name}: stands twice")
        elif not value:
            problems.append(f"{number}: {name}: is empty")
        else:
            headers[name] = Header(value, number)
    if headers and "deploy-target" not in headers and not problems:
        problems.append(f"{min(h.line for h in headers.values())}: there is no deploy-target")
    return headers, problems


def _leading_comments(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each comment line before the first line that is none."""
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
