"""Managed files, their headers, and which hosts get them.

A file is managed when a comment among its first lines contains `deploy-target:`; there is no list of them. The faults
of a file are stored with it, so that they stop only the releases that use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.file_headers import CERTIFICATE, DEFAULTS, FIX_HEADER, Header
from pki.common.templating import Templates
from pki.common.visible import line_fault
from pki.config import openssl_cnf
from pki.config.identifiers import ArtifactId
from pki.config.model import Host

CA_HOST = DEFAULTS["deploy-hosts"]
TEMPLATE = "template "  # begins the name of an input that is a template
# Endings of files that may be OpenSSL request configurations, in upper or lower case. `.cnf` needs no header for that.
REQUEST_SUFFIXES = (".conf", ".cfg", ".cnf")


@dataclass(frozen=True, slots=True)
class ManagedFile:
    """One managed file.

    `name` is its path below `templates/`; `selectors` are the parts of `deploy-hosts`; `reads` are the variables that
    it uses; `artifacts` are those that it names, with variables where a header has them; `digest` covers the file and
    every file that it includes.
    """

    name: str
    headers: Mapping[str, Header]
    digest: str
    selectors: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    request: openssl_cnf.CnfRequest | None = None
    remarks: tuple[openssl_cnf.CnfRemark, ...] = ()
    fault: PkiError | None = None

    def header(self, name: str) -> str:
        """Return the value of a header, its default if it is missing."""
        header = self.headers.get(name)
        return header.value if header else DEFAULTS.get(name, "")

    def place(self, header: str) -> str:
        """Return the place of a header for a message: `templates/nginx/site.conf:3: deploy-mode`."""
        entry = self.headers.get(header)
        return f"templates/{self.name}:{entry.line if entry else 1}: {header}"

    def is_for(self, name: str, host: Host | None) -> bool:
        """Return whether a host gets this file; `host` is None for the machine that runs doit."""
        if host is None:
            return CA_HOST in self.selectors
        if host.scope == "certificates" and "deploy-artifact" not in self.headers:
            return False  # such a host gets certificates and CRLs, and no configuration
        own_selectors = {
            *("all", name, f"proxy:{host.proxy}", f"network:{host.network}"),
            *(f"trust:{store}" for store in host.trust),
            *(f"access:{service.access}" for service in host.services.values()),
            *(f"service:{service}" for service in host.services),
            *(f"recipe:{service.recipe}" for service in host.services.values() if service.recipe),
        }
        return any(selector in own_selectors for selector in self.selectors)

    @property
    def is_request(self) -> bool:
        """Return whether the file is read as an OpenSSL request configuration.

        Its header `deploy-certificate` decides; without that header, its name does: `*.cnf`.
        """
        header = self.headers.get(CERTIFICATE)
        return header.value == "yes" if header else self.name.endswith(".cnf")

    @property
    def may_declare(self) -> bool:
        """Return whether the file may declare a leaf: it is read as a request configuration, or is called like one."""
        return self.is_request or self.name.lower().endswith(REQUEST_SUFFIXES)

    @property
    def leaf_name(self) -> str:
        """The name of the leaf that the file declares."""
        return Path(self.name).stem


@dataclass(frozen=True, slots=True)
class Selection:
    """The managed files of one host, or of several hosts that get the same files.

    `digests` are those of the templates, `digest` one for all of them. `reads` has one triple for each variable: its
    full name, the part before the first dot, the rest. `faults` are those of the files.
    """

    files: tuple[ManagedFile, ...]
    digest: str
    digests: Mapping[str, str]
    reads: tuple[tuple[str, str, str], ...]
    faults: tuple[PkiError, ...]

    @classmethod
    def of(cls, files: tuple[ManagedFile, ...]) -> Selection:
        """Return the selection of some files."""
        reads = frozenset[str]().union(*(file.reads for file in files))
        digests = {f"{TEMPLATE}{file.name}": file.digest for file in files}
        return cls(
            files,
            hashlib.sha256(repr(digests).encode()).hexdigest(),
            digests,
            tuple((name, name.partition(".")[0], name.partition(".")[2]) for name in sorted(reads)),
            tuple(file.fault for file in files if file.fault),
        )


@dataclass(frozen=True, slots=True)
class UnassignedFile:
    """A file, or a folder with its content, whose hosts cannot be determined."""

    name: str
    fault: PkiError
    is_folder: bool = False

    def covers(self, name: str) -> bool:
        """Return whether a path below `templates/` belongs to it."""
        return name == self.name or (self.is_folder and (self.name == "." or name.startswith(f"{self.name}/")))


@dataclass(frozen=True, slots=True)
class Library:
    """All managed files in the order of their names, and the templates that render them."""

    files: tuple[ManagedFile, ...]
    templates: Templates
    unassigned: tuple[UnassignedFile, ...] = ()
    _selections: dict[Hashable, Selection] = field(default_factory=dict)
    _used_selectors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._used_selectors.update(selector for file in self.files for selector in file.selectors)

    def for_host(self, name: str, host: Host | None) -> Selection:
        """Return the files of one host; hosts that no selector distinguishes share one selection."""
        if name in self._selections:
            return self._selections[name]
        key: Hashable = name
        if host is not None and name not in self._used_selectors:
            key = (
                host.proxy,
                host.network,
                host.scope,
                frozenset(host.trust),
                frozenset((service.access, service.recipe) for service in host.services.values()),
                frozenset(
                    service for service in host.services if ArtifactId("service", service) in self._used_selectors
                ),
            )
        if key not in self._selections:
            self._selections[key] = Selection.of(tuple(file for file in self.files if file.is_for(name, host)))
        self._selections[name] = self._selections[key]
        return self._selections[name]


def render_header(file: ManagedFile, header: str, templates: Templates, context: Mapping[str, object]) -> str:
    """Return the value of a header for one host. Raises PkiError with file, line and header."""
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
