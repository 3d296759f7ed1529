"""Managed files: find them below `templates/`, read their headers, say for which hosts they are.

A file is managed when a comment line among its first lines carries `deploy-target:`. There is no list of them
anywhere. What is wrong with a file is kept with it, so that it stops only the releases that would use it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

from pki.common import template_delimiters
from pki.common.errors import FaultsError, PkiError, of_bug
from pki.common.file_headers import CERTIFICATE, DEFAULTS, Header, Source, names, read, sources, taken_in
from pki.common.limited_process import Begin, Confined, ExceededError
from pki.common.templating import Templates
from pki.common.visible import line_fault
from pki.config import openssl_cnf, openssl_cnf_syntax
from pki.config.fields import LABEL, Access, Proxy, TrustStore
from pki.config.identifiers import ArtifactId
from pki.config.model import Host

CA_HOST = DEFAULTS["deploy-hosts"]
FIX_HEADER = "fix the header, then: ./run doit"
OTHERS = (".conf", ".cfg", ".cnf")  # whatever the case of their letters; a *.cnf declares a certificate by itself
COMMENT = re.compile(r"^\s*(#)(?!.*\{[%#]).*?(\\?\r?)$")
UNDECLARED = openssl_cnf.CnfRemark(
    "has a section [ req ], and declares no certificate",
    "write # deploy-certificate: yes into its header, or: no",
)
SERVICE = re.compile(rf"service:{LABEL}")  # of any host, or of none: most projects have no such service


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
    request: openssl_cnf.Request | None = None
    remarks: tuple[openssl_cnf.CnfRemark, ...] = ()
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
    def is_request(self) -> bool:
        """Whether this file declares a leaf if it is an OpenSSL request configuration."""
        found = self.headers.get(CERTIFICATE)
        return found.value == "yes" if found else self.name.endswith(".cnf")

    @property
    def may_declare(self) -> bool:
        """Whether this file may declare a leaf, whatever is wrong with its headers."""
        return self.is_request or self.name.lower().endswith(OTHERS)

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
class Lost:
    """A file, or a folder with all that is in it, of which nobody can tell for which hosts it is."""

    name: str
    fault: PkiError
    is_folder: bool = False

    def covers(self, name: str) -> bool:
        return name == self.name or (self.is_folder and (self.name == "." or name.startswith(f"{self.name}/")))


@dataclass(frozen=True, slots=True)
class Library:
    """All managed files, in the order of their names, and the templates that render them."""

    files: tuple[ManagedFile, ...]
    templates: Templates
    lost: tuple[Lost, ...] = ()
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
                frozenset(name for name in host.services if ArtifactId("service", name) in self._named),
            )
        if alike not in self._alike:
            self._alike[alike] = Selection.of(tuple(file for file in self.files if file.is_for(name, host)))
        self._alike[name] = self._alike[alike]
        return self._alike[name]


def find(
    folder: Path, context: Mapping[str, object], hosts: Mapping[str, Host], networks: Iterable[str], memory: Memory
) -> Library:
    """Read every file below `folder`. `context` is what `deploy-hosts` may use (`inventory`)."""
    known = {"all", CA_HOST, *hosts, *(f"network:{name}" for name in networks)}
    known |= {*(f"proxy:{name}" for name in get_args(Proxy)), *(f"access:{level}" for level in get_args(Access))}
    known |= {f"trust:{kind}" for kind in get_args(TrustStore)}
    reader = Reader(folder, Templates(folder), context, known, memory)
    files, lost = [], []
    for source in sources(folder):
        if source.is_managed:
            file = reader.read(source)
            if file.selectors:
                files.append(file)
            else:
                lost.append(
                    Lost(
                        source.name,
                        file.fault or PkiError(f"{file.place('deploy-hosts')}: names nothing"),
                        source.is_folder,
                    )
                )
    reader.end()
    return Library(tuple(files), reader.templates, tuple(lost))


class Reader:
    """Reads the files below one folder; `known` are the selectors that may stand in `deploy-hosts`."""

    def __init__(
        self, folder: Path, templates: Templates, context: Mapping[str, object], known: set[str], memory: Memory
    ) -> None:
        self.templates = templates
        self._folder = folder
        self._context = context
        self._known = known
        self._memory = memory
        self._limited = Confined(self._render)

    def end(self) -> None:
        self._limited.end()

    def read(self, source: Source) -> ManagedFile:
        """One managed file with everything that is known of it, or with all that is wrong with it.

        It has no selectors where nobody can tell for which hosts it is.
        """
        digest = hashlib.sha256(source.text.encode("utf-8", errors="surrogateescape"))
        file = ManagedFile(source.name, source.headers, digest.hexdigest())
        faults = [source.fault] if source.fault else []
        try:
            if not faults or "deploy-hosts" in source.headers:
                file = replace(file, selectors=self._selectors(file))
        except PkiError as fault:
            faults.append(fault)
        try:
            if not source.fault:
                reads, artifacts, files = self._remembered(file, source.text)
                for other in sorted(files):
                    for name in names(self._folder) if other == "*" else [other]:
                        digest.update(self._content(name))
                file = replace(file, digest=digest.hexdigest(), reads=reads, artifacts=artifacts)
                request, remarks = self._request(file, source.text)
                file = replace(file, request=request, remarks=(*remarks, *self._cut_out(file, source.text)))
        except PkiError as fault:
            faults.append(fault)
        except Exception as error:  # noqa: BLE001 - whatever is in one file stops that file alone
            bug = of_bug(error)
            faults.append(PkiError(f"templates/{source.name}: {bug.message}", bug.hint))
        return replace(file, fault=FaultsError.of(faults)) if faults else file

    def _request(self, file: ManagedFile, text: str) -> openssl_cnf.RequestReading:
        """The leaf that a file declares, and what there is to say of it. Raises PkiError with all that is wrong."""
        said, shown = file.headers.get(CERTIFICATE), f"templates/{file.name}"
        if not file.is_request:
            is_other = not said and file.may_declare and openssl_cnf.is_request(text)
            return openssl_cnf.RequestReading(None, (UNDECLARED,) if is_other else ())
        found = openssl_cnf_syntax.Configuration()
        if openssl_cnf.is_request(text) or openssl_cnf.has_include(text):
            body = self._rendered_body(file, text) if "{{" in text or "{%" in text or "{#" in text else text
            found = openssl_cnf_syntax.parse(body, shown, partial(taken_in, self._folder, file.name))
        if "req" not in found.sections:
            if said:
                raise PkiError(f"{file.place(CERTIFICATE)}: there is no section [ req ]", "take the header out")
            return openssl_cnf.RequestReading(None)
        reading = openssl_cnf.read_request(found, shown, (self._folder / file.name).parent)
        return reading._replace(remarks=()) if said and reading.request else reading

    def _cut_out(self, file: ManagedFile, text: str) -> Iterator[openssl_cnf.CnfRemark]:
        """What comments of the template may take out of a file by mistake."""
        for lines in (
            template_delimiters.cut_out(text, self.templates.lex) if "deploy-artifact" not in file.headers else ()
        ):
            what = f"line {lines}: {{# begins a comment of the template: all up to #}} is left out"
            yield openssl_cnf.CnfRemark(what, template_delimiters.MEANT)

    def _rendered_body(self, file: ManagedFile, text: str) -> str:
        """The text from which names are read: rendered with `inventory`; as it is where it needs more than that.

        Comments are left out, for headers may use variables of a host. Line numbers stay.
        """
        body = "\n".join(COMMENT.sub(r"#\2", line) for line in text.split("\n"))
        try:
            return self._inventory_alone(body, f"request:{file.name}", file.digest)
        except PkiError as error:
            if "{%" in body or "{#" in body:
                what = f"templates/{file.name}: its names are read with `inventory` alone: {error.message}"
                raise PkiError(what, "write the names without other variables, or # deploy-certificate: no") from None
        return text

    def _selectors(self, file: ManagedFile) -> tuple[str, ...]:
        """The parts of `deploy-hosts`. Raises PkiError that names those that are none."""
        value, place = file.header("deploy-hosts"), file.place("deploy-hosts")
        if "{" in value:
            value = self._rendered(value, place)
        selectors = tuple(part.strip() for part in value.split(",") if part.strip())
        if unknown := [one for one in selectors if one not in self._known and not SERVICE.fullmatch(one)]:
            shown = " and ".join(repr(one[:80]) for one in unknown[:10])
            verb = "name" if len(unknown) > 1 else "names"
            raise PkiError(f"{place}: {shown} {verb} no host, proxy, network, access, service or trust store")
        return selectors

    def _rendered(self, value: str, place: str) -> str:
        """The value of `deploy-hosts`, which follows from pki.yaml alone."""
        try:
            return self._inventory_alone(value, f"deploy-hosts:{value}", "")
        except PkiError as error:
            raise PkiError(f"{place}: {error.message}", FIX_HEADER) from None

    def _inventory_alone(self, text: str, name: str, known: str) -> str:
        """A text rendered with what follows from pki.yaml alone; `name` and `known` are those of the cache."""
        if self.templates.is_harmless(text):
            return self.templates.render_text(text, self._context)
        if (kept := self._memory.recall(name, known)) is None:
            try:
                kept = self._limited.ask(text)
            except ExceededError as error:
                raise PkiError(error.what) from None
            self._memory.remember(name, known, [str(self._folder.parent / "pki.yaml")], kept)
        return str(kept)

    def _render(self, text: str, _begin: Begin) -> str:
        return self.templates.render_text(text, self._context)

    def _content(self, name: str) -> bytes:
        """What is in a file that another one takes in; nothing where it cannot be read, as its rendering says."""
        try:
            return read(self._folder / name, name)
        except (PkiError, ValueError):
            return b""

    def _remembered(self, file: ManagedFile, text: str) -> Uses:
        """What a file uses, taken apart once for each text that it had."""
        name = ArtifactId("template", file.name)
        if known := self._memory.recall(name, file.digest):
            return Uses(*map(frozenset, known))
        found = _uses(file, text, self.templates)
        if "*" not in found.files:
            taken_in = [str(self._folder / other) for other in sorted(found.files)]
            self._memory.remember(name, file.digest, taken_in, [sorted(part) for part in found])
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
        value = templates.render_text(value, context).strip()
    except PkiError as error:
        raise PkiError(f"{file.place(header)}: {error.message}", FIX_HEADER) from None
    if fault := line_fault(value):
        raise PkiError(f"{file.place(header)}: {fault}", FIX_HEADER)
    return value


def _header_reads(file: ManagedFile, header: str, templates: Templates) -> set[str]:
    try:
        return templates.text_reads(file.header(header))
    except PkiError as error:
        raise PkiError(f"{file.place(header)}: {error.message}", FIX_HEADER) from None
