"""Render templates with Jinja2, and find what a template depends on: variables, artifacts, included files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    Environment,
    FileSystemLoader,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
    pass_context,
    select_autoescape,
)
from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, modifies_known_mutable
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

from pki.common.errors import FaultsError, PkiError
from pki.common.file_headers import usage_fault
from pki.common.limited_process import TOO_LARGE
from pki.common.template_delimiters import RAW
from pki.common.template_folders import TemplateFolders
from pki.common.template_names import UnknownValue, did_you_mean
from pki.common.visible import in_one_line

HARMLESS = (  # nodes that cannot need much time or memory: no loops, calls or arithmetic, and only HARMLESS_FILTERS
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Test,
    nodes.Filter,
)
HARMLESS_FILTERS = {"default", "d", "lower", "upper", "trim", "first", "last", "string", "sha256"}
HYPHENATED = re.compile(r"(?<![^\s(])([^\s-]{0,14}-[^\s]{1,18})(?![^\s])")  # short enough for one line of a phone
WHOLE = Markup('<span class="whole">{}</span>')
WORDS = {
    RecursionError: "nests, calls or includes itself without end",
    MemoryError: TOO_LARGE,
    UnicodeDecodeError: "is not UTF-8 text",
}
FIX = "fix the template, then: ./run doit"
EJECT = "./run invoke templates.eject"
FIX_OR_RAW = f"fix the template ({RAW}), then: ./run doit"
UNENDED = {"Missing end of comment tag": "{# begins a comment of the template, but no #} ends it"}
IN_NAMESPACE = "{% set ns = namespace(all=[]) %}, then {% set ns.all = ns.all + [one] %}"
IP_TYPES = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)
PLAIN = (str, bytes, int, float, tuple, list, dict, set, frozenset, date, time, timedelta, *IP_TYPES)
CALLABLE = (*PLAIN, BlockReference, LoopContext, Macro, TemplateModule, Cycler, Joiner, Namespace)


class RestrictedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 for untrusted templates: a template reads values, but cannot change them or access anything else.

    In addition to Jinja2's rules, only methods of plain values and of Jinja2's own objects can be called, not methods
    of this program's objects: `model.parse_raw` of pydantic, for example, would execute its input.
    """

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read this attribute; methods only of values in CALLABLE."""
        is_callable = not isinstance(value, Undefined) and callable(value)
        return super().is_safe_attribute(obj, attr, value) and (not is_callable or isinstance(obj, CALLABLE))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Return the undefined value whose use raises SecurityError with an explanation."""
        what = f"a template may not use {attribute!r} of {_kind(obj)}"
        if modifies_known_mutable(obj, attribute):
            what = f"a template may not change {_kind(obj)} by {attribute!r}; use namespace(): {IN_NAMESPACE}"
        return self.undefined(what, obj=obj, name=attribute, exc=SecurityError)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


class TemplateLoader(BaseLoader):
    """Loads the files of a project and of the program that templates may use."""

    def __init__(self, folders: TemplateFolders) -> None:
        self._folders = folders
        self._loaders = {folder: FileSystemLoader(folder) for folder in folders.folders}

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return the text of a template. Raises PkiError for a file that must not be used."""
        folder = self._folders.folder_of(template)
        if fault := usage_fault(folder, template):
            raise fault
        return self._loaders[folder].get_source(environment, template)


class Templates:
    """The Jinja2 templates of a project. Undefined names are errors; text is preserved exactly.

    Nothing is evaluated before it is rendered: `reads` and `is_harmless` are safe for any template.
    """

    def __init__(self, folders: TemplateFolders) -> None:
        self._folders = folders
        # no escaping: these are configuration files, not HTML
        self._environment = _environment(RestrictedEnvironment, TemplateLoader(folders), autoescape=False)
        self._environment.optimized = False  # the optimizer computes constants when a template is compiled
        self._environment.finalize = _unchanged
        self._environment.globals["range"] = range  # the limits of the rendering process replace that of Jinja2's range
        self._texts: dict[str, Template] = {}

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render the file `name`, a path below `templates/`. Raises PkiError with file and line."""
        try:
            return self._environment.get_template(name).render(context)
        except PkiError:
            raise
        except Exception as error:  # noqa: BLE001 - a template can raise anything
            raise self._fault(name, error) from None

    def render_text(self, text: str, context: Mapping[str, Any]) -> str:
        """Render a short text such as the value of a header. Raises PkiError."""
        try:
            if text not in self._texts:
                self._texts[text] = self._environment.from_string(text)
            return self._texts[text].render(context)
        except PkiError:
            raise
        except Exception as error:  # noqa: BLE001 - a template can raise anything
            raise PkiError(_message(error)) from None

    def reads(self, name: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Return the variables, artifacts and files that a template and its included files use.

        A variable has at most one dot (`inventory.domains`), or none if it is used whole. A file whose name is computed
        is `*`: any file. Raises PkiError with all faults of these files.
        """
        variables, artifacts, files, pending_names = set[str](), set[str](), set[str](), [name]
        faults: list[PkiError] = []
        while pending_names:
            current = pending_names.pop()
            try:
                tree = self._parse(current)
                faults_within = list(self._faults_within(current, tree))
                variables |= set[str]() if faults_within else _variables(tree)
                artifacts |= _artifacts(tree)
            except PkiError as fault:
                faults.append(fault)
                continue
            except Exception as error:  # noqa: BLE001 - such as RecursionError in the parser
                faults.append(self._fault(current, error))
                continue
            faults += faults_within
            for referenced_name in meta.find_referenced_templates(tree):
                if referenced_name is None:
                    files.add("*")
                elif referenced_name not in files:
                    files.add(referenced_name)
                    pending_names += (
                        [referenced_name]
                        if self._exists(referenced_name) and not self._usage_fault(referenced_name)
                        else []
                    )
        if faults:
            raise FaultsError.of(faults)
        return frozenset(variables), frozenset(artifacts), frozenset(files)

    def text_reads(self, text: str) -> set[str]:
        """Return the variables that a short text uses, in the form of `reads`. Raises PkiError."""
        try:
            return _variables(self._environment.parse(text))
        except Exception as error:  # noqa: BLE001 - such as RecursionError in the parser
            raise PkiError(_message(error)) from None

    def is_harmless(self, text: str) -> bool:
        """Return whether a short text can be rendered without limits: it only reads and compares values.

        Raises PkiError if it cannot be parsed.
        """
        try:
            tree = self._environment.parse(text)
            return all(
                isinstance(node, HARMLESS) and (not isinstance(node, nodes.Filter) or node.name in HARMLESS_FILTERS)
                for node in (tree, *tree.find_all(nodes.Node))
            )
        except Exception as error:  # noqa: BLE001 - such as RecursionError in the parser
            raise PkiError(_message(error)) from None

    def lex(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Yield line, kind and text of each token of a template. Raises TemplateSyntaxError."""
        return self._environment.lex(text)

    def place_of(self, name: str, frames: Iterable[tuple[str, int]]) -> str:
        """Return the place in a template, such as `templates/a.conf:5`, for Python frames, innermost first."""
        for file, line in frames:
            inner = self._name_of(file)
            if inner and self._exists(inner):
                with suppress(Exception):  # the template cannot be compiled: its name alone is the place
                    return f"templates/{inner}:{self._environment.get_template(inner).get_corresponding_lineno(line)}"
        return f"templates/{name}"

    def _parse(self, name: str) -> nodes.Template:
        try:
            assert self._environment.loader is not None
            source, _, _ = self._environment.loader.get_source(self._environment, name)
            return self._environment.parse(source, name)
        except PkiError:
            raise
        except Exception as error:  # noqa: BLE001 - also errors of the system, and bytes that are not text
            raise self._fault(name, error) from None

    def _exists(self, name: str) -> bool:
        return ".." not in name.split("/") and self._folders.path(name).is_file()

    def _usage_fault(self, name: str) -> PkiError | None:
        return usage_fault(self._folders.folder_of(name), name)

    def _faults_within(self, name: str, tree: nodes.Template) -> Iterator[PkiError]:
        """Yield all faults at which the compiler or the first rendering would stop."""
        tables = {nodes.Filter: ("filter", self._environment.filters), nodes.Test: ("test", self._environment.tests)}
        asks_first = any(node.name in {"filter", "test"} for node in tree.find_all(nodes.Test))
        for node in () if asks_first else tree.find_all((nodes.Filter, nodes.Test)):
            kind, names = tables[type(node)]
            if node.name not in names:
                suggestion = did_you_mean(node.name, names)
                yield PkiError(f"templates/{name}:{node.lineno}: unknown {kind} {node.name!r}{suggestion}", FIX)
        blocks = set[str]()
        for block in tree.find_all(nodes.Block):
            if block.name in blocks:
                yield PkiError(f"templates/{name}:{block.lineno}: block {block.name!r} is defined twice", FIX)
            blocks.add(block.name)
        for statement in tree.find_all((nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)):
            target = getattr(statement, "template", None)
            if isinstance(target, nodes.Const) and isinstance(target.value, str):
                is_needed = not getattr(statement, "ignore_missing", False)
                if is_needed and not self._exists(target.value):
                    yield PkiError(f"templates/{name}:{statement.lineno}: templates/{target.value} does not exist", FIX)
                elif self._exists(target.value) and (fault := self._usage_fault(target.value)):
                    yield PkiError(f"templates/{name}:{statement.lineno}: {fault.message}", fault.hint)

    def _fault(self, name: str, error: BaseException) -> PkiError:
        if isinstance(error, TemplateSyntaxError):
            name, line = error.name or name, error.lineno
        else:
            name, line = self._place_within(error) or (name, 0)
        hint = FIX_OR_RAW if isinstance(error, TemplateSyntaxError | UndefinedError) else FIX
        if self._folders.folder_of(name) == self._folders.program != self._folders.project:
            hint = f"copy this template of the program into the project, and change it there: {EJECT} {name}"
        return PkiError(f"templates/{name}{f':{line}' if line else ''}: {_message(error)}", hint)

    def _place_within(self, error: BaseException) -> tuple[str, int] | None:
        """Return file and line at which a template failed, from the parser or the frames of the traceback, or None."""
        place, trace = None, error.__traceback__
        while trace:
            if inner := self._name_of(trace.tb_frame.f_code.co_filename):
                place = inner, trace.tb_lineno
            if isinstance(parser := trace.tb_frame.f_locals.get("self"), Parser) and parser.name:
                place = parser.name, parser.stream.current.lineno
            trace = trace.tb_next
        return place

    def _name_of(self, file: str) -> str:
        for folder in self._folders.folders:
            prefix = f"{folder}{os.sep}"
            if file.startswith(prefix):
                return file.removeprefix(prefix)
        return ""


@pass_context
def _unchanged(_context: object, value: object) -> object:
    """Return a value unchanged. As `finalize` with a context, it prevents computing output at compile time."""
    return value


def _message(error: BaseException) -> str:
    """Return the message of an error of a template, in one line."""
    if isinstance(error, TemplateNotFound):
        return f"templates/{error.name} does not exist" if error.name else "an included file does not exist"
    if isinstance(error, TemplateError):
        text = in_one_line(error.message or str(error))
        return UNENDED.get(text, text)
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    for kind, words in WORDS.items():
        if isinstance(error, kind):
            return words
    return f"{in_one_line(str(error))[:300]} ({type(error).__name__})"


class Pages:
    """The program's own pages in one folder. Values in HTML pages are escaped."""

    def __init__(self, folder: Path) -> None:
        self._environment = _page_environment(folder)

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render the page `name`; a fault in it is a bug of this program and raises any exception."""
        return self._environment.get_template(name).render(context)


@cache
def _page_environment(folder: Path) -> Environment:
    """Return the environment of a folder, which caches its compiled pages."""
    environment = _environment(Environment, FileSystemLoader(folder), autoescape=select_autoescape())
    environment.filters["whole_words"] = _whole_words
    return environment


def _whole_words(text: str) -> Markup:
    """Return a text as HTML in which no name, option or date is broken at one of its hyphens."""
    parts = HYPHENATED.split(text)  # every second part is one
    return Markup("").join(WHOLE.format(part) if number % 2 else part for number, part in enumerate(parts))


def _environment(
    kind: type[Environment], loader: BaseLoader, *, autoescape: bool | Callable[[str | None], bool]
) -> Environment:
    environment = kind(
        loader=loader,
        undefined=UnknownValue,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,
    )
    environment.filters["sha256"] = _sha256
    return environment


def _sha256(text: str) -> str:
    """Return the SHA-256 of a text. With `{{ artifact("cert:media") | sha256 }}` a file changes whenever another does."""
    return hashlib.sha256(text.encode()).hexdigest()


def _undeclared(tree: nodes.Template) -> set[str]:
    """Return the undeclared variables, like `meta.find_undeclared_variables` without the optimizer."""
    assert tree.environment is not None
    generator = meta.TrackingCodeGenerator(tree.environment)
    generator.optimizer = None
    generator.visit(tree)
    return generator.undeclared_identifiers


def _variables(tree: nodes.Template) -> set[str]:
    dotted = set[str]()
    counts = dict.fromkeys(_undeclared(tree), 0)
    for name in tree.find_all(nodes.Name):
        if name.name in counts:
            counts[name.name] += 1
    for access in tree.find_all(nodes.Getattr):
        if isinstance(access.node, nodes.Name) and access.node.name in counts:
            dotted.add(f"{access.node.name}.{access.attr}")
            counts[access.node.name] -= 1
    return dotted | {name for name, uses in counts.items() if uses > 0}


def _artifacts(tree: nodes.Template) -> set[str]:
    """Return the constant arguments of `artifact(…)`, such as `trust:roots`."""
    return {
        call.args[0].value
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name)
        and call.node.name == "artifact"
        and call.args
        and isinstance(call.args[0], nodes.Const)
    }
