"""Read the managed files below `templates/`: their headers, what they refer to, the leaves that they declare."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple, get_args

from pki.common import template_delimiters
from pki.common.cache import Cache
from pki.common.errors import FaultsError, PkiError, from_bug
from pki.common.file_headers import CERTIFICATE, FIX_HEADER, TemplateFile, included_files, read, template_files
from pki.common.limited_process import Begin, LimitedProcess, LimitExceededError
from pki.common.template_folders import TemplateFolders
from pki.common.templating import FIX, Templates
from pki.config import openssl_cnf, openssl_cnf_syntax
from pki.config.fields import Access, Proxy, TrustStore
from pki.config.identifiers import ArtifactId
from pki.config.model import Host
from pki.config.name_fields import LABEL
from pki.config.recipes import RECIPES
from pki.deploy.managed_files import CA_HOST, Library, ManagedFile, UnassignedFile

COMMENT = re.compile(r"^\s*(#)(?!.*\{[%#]).*?(\\?\r?)$")
UNDECLARED = openssl_cnf.CnfRemark(
    "has a section [ req ], but declares no certificate",
    "write # deploy-certificate: yes, or: no, into its header",
)
EXPRESSION = re.compile(r"\{\{.*?\}\}")
SERVICE = re.compile(rf"service:{LABEL}")  # a service that no host has is allowed


class References(NamedTuple):
    """The variables that a file reads, the artifacts that it names, the files that it includes."""

    reads: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


def read_library(
    folders: TemplateFolders,
    context: Mapping[str, object],
    hosts: Mapping[str, Host],
    networks: Iterable[str],
    cache: Cache,
) -> Library:
    """Read every template of a project; `context` is what `deploy-hosts` may use (`inventory`)."""
    selectors = {"all", CA_HOST, *hosts, *(f"network:{name}" for name in networks)}
    selectors |= {*(f"proxy:{name}" for name in get_args(Proxy)), *(f"access:{level}" for level in get_args(Access))}
    selectors |= {*(f"trust:{kind}" for kind in get_args(TrustStore)), *(f"recipe:{name}" for name in RECIPES)}
    reader = Reader(folders, Templates(folders), context, selectors, cache)
    files, unassigned = [], []
    for source in template_files(folders):
        if source.is_managed:
            file = reader.read(source)
            if file.selectors:
                files.append(file)
            else:
                unassigned.append(
                    UnassignedFile(
                        source.name,
                        file.fault or PkiError(f"{file.place('deploy-hosts')}: names no host"),
                        source.is_folder,
                    )
                )
    reader.end()
    return Library(tuple(files), reader.templates, tuple(unassigned))


class Reader:
    """Reads the templates of a project; `context` as for `read_library`, `selectors` are those that `deploy-hosts` may name."""

    def __init__(
        self,
        folders: TemplateFolders,
        templates: Templates,
        context: Mapping[str, object],
        selectors: set[str],
        cache: Cache,
    ) -> None:
        self.templates = templates
        self._folders = folders
        self._context = context
        self._selectors_allowed = selectors
        self._cache = cache
        self._limited = LimitedProcess(self._render)

    def end(self) -> None:
        """End the process that renders untrusted text."""
        self._limited.end()

    def read(self, source: TemplateFile) -> ManagedFile:
        """Return one managed file, with all of its faults; without selectors where its hosts cannot be determined."""
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
                reads, artifacts, files = self._references_of(file, source.text)
                for included in sorted(files):
                    for name in self._folders.names() if included == "*" else [included]:
                        digest.update(self._content(name))
                file = replace(file, digest=digest.hexdigest(), reads=reads, artifacts=artifacts)
                request, remarks = self._request(file, source.text)
                file = replace(file, request=request, remarks=(*remarks, *self._accidental_comments(file, source.text)))
        except PkiError as fault:
            faults.append(fault)
        except Exception as error:  # noqa: BLE001 - a fault in one file must not stop the others
            bug = from_bug(error)
            faults.append(PkiError(f"templates/{source.name}: {bug.message}", bug.hint))
        return replace(file, fault=FaultsError.of(faults)) if faults else file

    def _request(self, file: ManagedFile, text: str) -> openssl_cnf.RequestReading:
        """Return the leaf that a file declares, and remarks about it. Raises PkiError with all faults."""
        header, shown = file.headers.get(CERTIFICATE), f"templates/{file.name}"
        if not file.is_request:
            is_other = not header and file.may_declare and openssl_cnf.is_request(text)
            return openssl_cnf.RequestReading(None, (UNDECLARED,) if is_other else ())
        config = openssl_cnf_syntax.Configuration()
        if openssl_cnf.is_request(text) or openssl_cnf.has_include(text):
            has_template_syntax = any(opening in text for opening in ("{{", "{%", "{#"))
            body, faults = self._rendered_body(file, text) if has_template_syntax else (text, {})
            folder = self._folders.folder_of(file.name)
            config = openssl_cnf_syntax.parse(body, shown, partial(included_files, folder, file.name), faults)
        if "req" not in config.sections:
            if header:
                raise PkiError(f"{file.place(CERTIFICATE)}: there is no section [ req ]", "remove the header")
            return openssl_cnf.RequestReading(None)
        request = openssl_cnf.read_request(config, shown, self._folders.path(file.name).parent)
        return request._replace(remarks=()) if header and request.request else request

    def _accidental_comments(self, file: ManagedFile, text: str) -> Iterator[openssl_cnf.CnfRemark]:
        """Yield remarks about text that the template comments out, possibly by mistake."""
        if "deploy-artifact" in file.headers:
            return  # the file has only headers
        for lines in template_delimiters.find_swallowed_lines(text, self.templates.lex):
            what = f"line {lines}: {{# begins a template comment: everything up to #}} is left out"
            yield openssl_cnf.CnfRemark(what, template_delimiters.RAW_OR_BLANK)

    def _rendered_body(self, file: ManagedFile, text: str) -> tuple[str, dict[str, PkiError]]:
        """Return the text from which names are read: rendered with `inventory` alone, or unchanged if that fails.

        With an unchanged text, return the errors of each `{{ … }}` that fails although it uses `inventory` alone.
        Comments are removed, because headers may use variables of a host; line numbers stay.
        """
        body = "\n".join(COMMENT.sub(r"#\2", line) for line in text.split("\n"))
        try:
            return self._inventory_alone(body, f"request:{file.name}", file.digest), {}
        except PkiError as error:
            if "{%" in body or "{#" in body:
                what = f"templates/{file.name}: its names are read with `inventory` alone: {error.message}"
                raise PkiError(what, "use no other variable in the names, or write # deploy-certificate: no") from None
        return text, dict(self._faults_of_expressions(file, body))

    def _faults_of_expressions(self, file: ManagedFile, body: str) -> Iterator[tuple[str, PkiError]]:
        """Yield each `{{ … }}` of a text that cannot be rendered for any host, and its error."""
        for expression in sorted(set(EXPRESSION.findall(body))):
            names = {name.partition(".")[0] for name in self.templates.text_reads(expression)}
            try:
                if names <= self._context.keys():
                    self._inventory_alone(expression, f"request:{file.name}:{expression}", file.digest)
            except PkiError as error:
                yield expression, PkiError(error.message, FIX)

    def _selectors(self, file: ManagedFile) -> tuple[str, ...]:
        """Return the parts of `deploy-hosts`. Raises PkiError with the unknown ones."""
        value, place = file.header("deploy-hosts"), file.place("deploy-hosts")
        if "{" in value:
            value = self._rendered(value, place)
        selectors = tuple(part.strip() for part in value.split(",") if part.strip())
        unknown = [
            selector
            for selector in selectors
            if selector not in self._selectors_allowed and not SERVICE.fullmatch(selector)
        ]
        if unknown:
            quoted_names = " and ".join(repr(selector[:80]) for selector in unknown[:10])
            verb = "name" if len(unknown) > 1 else "names"
            raise PkiError(
                f"{place}: {quoted_names} {verb} no host, proxy, network, access, service, recipe or trust store"
            )
        return selectors

    def _rendered(self, value: str, place: str) -> str:
        """Return the value of `deploy-hosts`, rendered with what follows from pki.yaml alone."""
        try:
            return self._inventory_alone(value, f"deploy-hosts:{value}", "")
        except PkiError as error:
            raise PkiError(f"{place}: {error.message}", FIX_HEADER) from None

    def _inventory_alone(self, text: str, name: str, key: str) -> str:
        """Render a text with what follows from pki.yaml alone; `name` and `key` are those of the cache."""
        if self.templates.is_harmless(text):
            return self.templates.render_text(text, self._context)
        try:
            return self._cache.cached(
                name, key, [str(self._folders.project.parent / "pki.yaml")], lambda: self._limited.ask(text)
            )
        except LimitExceededError as error:
            raise PkiError(error.what) from None

    def _render(self, text: str, _begin: Begin) -> str:
        return self.templates.render_text(text, self._context)

    def _content(self, name: str) -> bytes:
        """Return the content of an included file, empty if it cannot be read: rendering reports that."""
        try:
            return read(self._folders.path(name), name)
        except (PkiError, ValueError):
            return b""

    def _references_of(self, file: ManagedFile, text: str) -> References:
        """Return what a file refers to, parsed once for each content."""
        name = ArtifactId("template", file.name)
        if cached := self._cache.recall(name, file.digest):
            return References(*map(frozenset, cached))
        references = _references(file, text, self.templates)
        included_paths = [str(self._folders.path(other)) for other in sorted(references.files)]
        # a file of the program is not in the cache: the project can replace it without a change of that file
        if "*" not in references.files and all(file.startswith(f"{self._folders.project}/") for file in included_paths):
            self._cache.remember(name, file.digest, included_paths, [sorted(part) for part in references])
        return references


def _references(file: ManagedFile, text: str, templates: Templates) -> References:
    """Parse a file for what it refers to."""
    reads, artifacts, files = References()
    if "deploy-artifact" in file.headers:
        artifacts = frozenset({file.header("deploy-artifact")})
    elif any("\udc80" <= character <= "\udcff" for character in text):
        raise PkiError(f"templates/{file.name}: is not UTF-8 text", "deliver binary files with deploy-artifact")
    else:
        reads, artifacts, files = templates.reads(file.name)
    for name, header in file.headers.items():
        if name != "deploy-hosts" and "{" in header.value:
            reads |= _header_reads(file, name, templates)
    return References(reads, artifacts, files)


def _header_reads(file: ManagedFile, header: str, templates: Templates) -> set[str]:
    try:
        return templates.text_reads(file.header(header))
    except PkiError as error:
        raise PkiError(f"{file.place(header)}: {error.message}", FIX_HEADER) from None
