"""Jinja2, and what a template depends on: which variables it reads, which other files it takes in; our own pages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    meta,
    nodes,
    select_autoescape,
)

from pki.errors import PkiError


class Templates:
    """The Jinja2 templates below one folder: undefined names are errors, text is kept to the last byte."""

    def __init__(self, folder: Path) -> None:
        self._environment = _environment(folder, autoescape=False)  # configuration files, not HTML
        self._texts: dict[str, Template] = {}

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render the file `name` (relative to the folder). Raises PkiError that names file and line."""
        try:
            return self._environment.get_template(name).render(context)
        except TemplateError as error:
            raise _fault(name, error) from None

    def render_text(self, text: str, context: Mapping[str, Any]) -> str:
        """Render a short text such as a header's value."""
        try:
            if text not in self._texts:
                self._texts[text] = self._environment.from_string(text)
            return self._texts[text].render(context)
        except TemplateError as error:
            raise PkiError(str(error.message or error)) from None

    def reads(self, name: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """The variables that a template and its includes read, the artifacts that they name, the files they take in.

        Variables are dotted for one step (`inventory.domains`), or bare where they are used whole. A file whose name
        is computed counts as `*`: any file.
        """
        variables, artifacts, files, waiting = set[str](), set[str](), set[str](), [name]
        while waiting:
            current = waiting.pop()
            tree = self._parse(current)
            variables |= _variables(tree)
            artifacts |= _artifacts(tree)
            for found in meta.find_referenced_templates(tree):
                if found is None:
                    files.add("*")
                elif found not in files:
                    files.add(found)
                    waiting.append(found)
        return frozenset(variables), frozenset(artifacts), frozenset(files)

    def text_reads(self, text: str) -> set[str]:
        """The variables that a short text reads, as `reads` names them."""
        try:
            return _variables(self._environment.parse(text))
        except TemplateError as error:
            raise PkiError(str(error.message or error)) from None

    def _parse(self, name: str) -> nodes.Template:
        try:
            assert self._environment.loader is not None
            source, _, _ = self._environment.loader.get_source(self._environment, name)
            return self._environment.parse(source, name)
        except TemplateError as error:
            raise _fault(name, error) from None


class Pages:
    """Our own pages below one folder: whatever is put into one of HTML is text, never markup."""

    def __init__(self, folder: Path) -> None:
        self._environment = _of_pages(folder)

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render the page `name`; what is wrong with it is our own fault and ends in a traceback."""
        return self._environment.get_template(name).render(context)


@cache
def _of_pages(folder: Path) -> Environment:
    """One for each folder: what a page is compiled to is kept in it."""
    return _environment(folder, autoescape=select_autoescape())


def _environment(folder: Path, *, autoescape: bool | Callable[[str | None], bool]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,  # noqa: S701 - on for HTML, off for configuration files
    )
    environment.filters["sha256"] = _sha256
    return environment


def _sha256(text: str) -> str:
    """`{{ artifact("cert:media") | sha256 }}`: a file that must change whenever another one does."""
    return hashlib.sha256(text.encode()).hexdigest()


def _variables(tree: nodes.Template) -> set[str]:
    dotted = set[str]()
    counts = dict.fromkeys(meta.find_undeclared_variables(tree), 0)
    for name in tree.find_all(nodes.Name):
        if name.name in counts:
            counts[name.name] += 1
    for access in tree.find_all(nodes.Getattr):
        if isinstance(access.node, nodes.Name) and access.node.name in counts:
            dotted.add(f"{access.node.name}.{access.attr}")
            counts[access.node.name] -= 1
    return dotted | {name for name, uses in counts.items() if uses > 0}


def _artifacts(tree: nodes.Template) -> set[str]:
    """The constant names in `artifact("trust:roots")`."""
    return {
        call.args[0].value
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name)
        and call.node.name == "artifact"
        and call.args
        and isinstance(call.args[0], nodes.Const)
    }


def _fault(name: str, error: TemplateError) -> PkiError:
    line = error.lineno if isinstance(error, TemplateSyntaxError) else _line_within(name, error)
    place = f"templates/{name}:{line}" if line else f"templates/{name}"
    return PkiError(f"{place}: {error.message or error}", "mend the template, then run doit again")


def _line_within(name: str, error: BaseException) -> int | None:
    """The line of the template on which rendering stopped, from the frames that Jinja2 rewrites to it."""
    line, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename.endswith(name):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
