"""Changes of one place in a module: drawn from a seed, without those that change nothing."""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tests.mutants import shell
from tests.mutants.executed import PROJECT
from tests.mutants.operators import OPERATORS


@dataclass(frozen=True)
class Change:
    """One changed place: where it is, how the lines were and are, and the whole module with the change."""

    path: str
    line: int
    first: int
    last: int
    """The lines of the statement, or of its head when it contains others."""
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  →  {self.after}"


def modules(names: list[str]) -> list[str]:
    """The files that a name means: a file, a module or a package below `pki/`.

    >>> modules(["x509/certificate_signing", "monitor/checks/check_files"])
    ['pki/x509/certificate_signing.py', 'pki/monitor/checks/check_files.py']
    """
    found: list[str] = []
    for name in names:
        plain = name.removeprefix("pki/").removesuffix(".py").rstrip("/")
        place, file = PROJECT / "pki" / plain, PROJECT / "pki" / f"{plain}.py"
        files = sorted(place.rglob("*.py")) if place.is_dir() else [one for one in (place, file) if one.is_file()]
        if not files:
            raise SystemExit(f"unknown module {name!r}: name a file or folder below pki/, for example authority/crls")
        found += [path.relative_to(PROJECT).as_posix() for path in files]
    return found


def is_shell(path: str) -> bool:
    return not path.endswith(".py")


def drawn(paths: list[str], seed: int, at_most: int) -> list[Change]:
    """At most so many changes of these modules, each place of each operator with the same chance."""
    sources = {path: (PROJECT / path).read_text(encoding="utf-8") for path in paths}
    if all(map(is_shell, paths)):
        return _drawn_of_scripts(sources, seed, at_most)
    places = [place for path in paths for place in _places(path, sources[path])]
    random.Random(f"{seed}/{' '.join(paths)}").shuffle(places)  # noqa: S311 - a sample, and no secret
    changes: list[Change] = []
    for path, operator, occurrence, line in places:
        if len(changes) == at_most:
            break
        if change := _change(path, sources[path], operator, occurrence, line):
            changes.append(change)
    return sorted(changes, key=lambda change: (change.path, change.line))


def _drawn_of_scripts(sources: dict[str, str], seed: int, at_most: int) -> list[Change]:
    every = [(path, line, after) for path, source in sources.items() for line, after in shell.changed(source)]
    random.Random(f"{seed}/{' '.join(sources)}").shuffle(every)  # noqa: S311 - as above
    changes: list[Change] = []
    for path, line, after in every:
        if len(changes) == at_most:
            break
        if shell.is_script(after):
            changes.append(Change(path, line, line, line, *_difference(sources[path], after), after))
    return sorted(changes, key=lambda change: change.line)


def _places(path: str, source: str) -> Iterator[tuple[str, str, int, int]]:
    nodes, lines = list(ast_nodes(get_ast(source))), source.splitlines()
    for name, operator in OPERATORS.items():
        spans = [span for node in nodes for span in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(spans):
            if not lines[start[0] - 1].lstrip().startswith("@"):  # a frozen class is a promise to readers
                yield path, name, occurrence, start[0]


def _change(path: str, source: str, operator: str, occurrence: int, line: int) -> Change | None:
    changed = mutate_code(source, OPERATORS[operator], occurrence)
    try:
        if changed is None or meaning(changed) == meaning(source):
            return None
    except SyntaxError:
        return None
    before, after = _difference(source, changed)
    first, last = _statement(source, line)
    return Change(path, line, first, last, before, after, changed)


def meaning(source: str) -> str:
    """What the interpreter makes of a module: without comments, docstrings and the types of functions and variables."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    return ast.dump(tree)


def _difference(before: str, after: str) -> tuple[str, str]:
    changed = [
        line for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]  # fmt: skip
    sides = ("".join(" " + line[1:].strip() for line in changed if line.startswith(side)).strip() for side in "-+")
    old, new = sides
    return old, new


def _statement(source: str, line: int) -> tuple[int, int]:
    """The first and last line of the innermost statement that contains a line; of a compound one that of its head."""
    first, last = line, line
    for node in ast.walk(ast.parse(source)):  # outer statements come before inner ones
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body and isinstance(body, list) else node.end_lineno or node.lineno
            if line <= max(end, node.lineno):
                first, last = node.lineno, max(end, node.lineno)
    return first, last
