"""The commands that the program prints for a reader to type, found in its source by the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.projects import PROJECT

UNKNOWN = "X"  # what is put in at run time: a name, a folder, a reason
FIELD = re.compile(r"\{[^{}]*\}")  # of a text that is formatted later
COMMAND = re.compile(r"(?:\./run|X) (?=(?:invoke|doit|pip|badkeys)\b)|\./run (?=\S)")
MARKS = ";,:.)'\"`"  # that end a command
# A word of prose that follows a command without a comma. A name of a host or a file never stands there.
PROSE = {
    *(
        "a",
        "and",
        "at",
        "brings",
        "creates",
        "delivers",
        "deploys",
        "for",
        "here",
        "in",
        "is",
        "issues",
        "it",
        "makes",
        "on",
        "onto",
        "or",
    ),
    *("puts", "restores", "say", "says", "see", "shows", "then", "tries", "what", "when", "with", "wrote", "writes"),
}


@dataclass(frozen=True, slots=True)
class Printed:
    """One command as it is printed, without `./run`, and where its text is."""

    place: str
    words: tuple[str, ...]


def printed(package: Path = PROJECT / "pki") -> list[Printed]:
    """Return each command in each text of a package, docstrings excepted."""
    return [printed for path in sorted(package.rglob("*.py")) for printed in _in_tree(_tree(path), path.as_posix())]


def in_source(source: str, place: str) -> list[Printed]:
    """Return the commands in the texts of one module, and those that `here` makes."""
    return list(_in_tree(ast.parse(source), place))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _in_tree(tree: ast.Module, place: str) -> Iterator[Printed]:
    nodes = list(ast.walk(tree))
    values = {**_imported(nodes), **_constants(tree)}
    passed = {id(part) for node in nodes for part in _docstring(node)}
    passed |= {id(node.value) for node in tree.body if isinstance(node, ast.Assign) and _name(node) in values}
    passed |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr | ast.BinOp) for part in _within(node)}
    for node in nodes:
        where = f"{place}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.Call(func=ast.Name(id="here"), args=words):
                yield Printed(where, tuple(text(word, values) for word in words))
            case ast.JoinedStr() | ast.BinOp() | ast.Constant(value=str()) | ast.Name(ctx=ast.Load()):
                if id(node) not in passed:
                    yield from (Printed(where, words) for words in commands(text(node, values)))


def _within(node: ast.AST) -> Iterator[ast.AST]:
    return (inner for part in ast.iter_child_nodes(node) for inner in ast.walk(part))


def commands(printed: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command in a text, up to where its sentence goes on."""
    for start in COMMAND.finditer(printed):
        words = tuple(_words(printed[start.end() :].partition("\n")[0]))
        if words:
            yield words


def _words(rest: str) -> Iterator[str]:
    for word in re.findall(r'"[^"]*"|\S+|  ', rest):
        if word in PROSE or word[0] in "(→>&|" or word == "  ":
            return
        bare = word if word[0] == '"' else word.rstrip(MARKS)
        if bare:
            yield bare
        if bare != word:
            return


def text(node: ast.AST, values: Mapping[str, str]) -> str:  # noqa: PLR0911 - one line for each kind of node
    """Return a text as far as the source says it, with a word for what it does not say."""
    match node:
        case ast.Constant(value=str(string)):
            return FIELD.sub(UNKNOWN, string)
        case ast.JoinedStr(values=parts):
            return "".join(text(part, values) for part in parts)
        case ast.FormattedValue(value=value):
            return text(value, values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text(left, values) + text(right, values)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Call(func=ast.Name(id="ArtifactId"), args=[ast.Constant(value=str(kind)), *_]):
            return f"{kind}:{UNKNOWN}"
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[ast.GeneratorExp(elt=element)]):
            return text(element, values)
        case ast.Call(func=ast.Name(id="run_for")):
            return "./run"
    return UNKNOWN


def _constants(tree: ast.Module) -> dict[str, str]:
    constants = dict[str, str]()
    for node in tree.body:
        if isinstance(node, ast.Assign) and (name := _name(node)):
            value = text(node.value, constants)
            if value != UNKNOWN:
                constants[name] = value
    return constants


def _name(node: ast.Assign) -> str:
    target = node.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


@cache
def _constants_of(module: str) -> Mapping[str, str]:
    path = PROJECT.joinpath(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    return _constants(_tree(file)) if file.exists() else {}


def _imported(nodes: Iterable[ast.AST]) -> dict[str, str]:
    return {
        name.asname or name.name: value
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pki.")
        for name in node.names
        if (value := _constants_of(node.module or "").get(name.name))
    }


def _docstring(node: ast.AST) -> list[ast.AST]:
    match node:
        case (
            ast.Module(body=[ast.Expr(value=value), *_])
            | ast.FunctionDef(body=[ast.Expr(value=value), *_])
            | ast.ClassDef(body=[ast.Expr(value=value), *_])
        ):
            return [value] if isinstance(value, ast.Constant) else []
    return []
