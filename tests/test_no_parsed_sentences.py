"""Code acts on codes: outside the modules that print, none reads a message, a hint or a reason.

The test follows the syntax tree: what is read from a field of that name, what is assigned from it, and what a function
of the same module returns of it. `==`, `in`, the methods that search or cut a text, and regular expressions count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PACKAGE = PROJECT / "pki"
TEXTS = {"message", "messages", "hint", "hints", "reason", "reasons", "remedy", "remedies"}
READING = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "rsplit"),
    *("splitlines", "find", "rfind", "index", "rindex", "count", "replace", "strip", "lstrip", "rstrip"),
    *("lower", "upper", "casefold", "translate", "fullmatch", "match", "search", "findall", "finditer", "sub"),
}
PRINTING = {  # what turns values into lines, letters, pages and graphics
    "errors.py",
    "reasons.py",
    "remedies.py",
    "screen.py",
    "visible.py",
    "watch/alerts/letter.py",
    "watch/alerts/notify.py",
    "watch/page/drawing.py",
    "watch/page/statuspage.py",
}


class Reader(ast.NodeVisitor):
    """Finds what reads texts; `returning` are the functions of the module that return one."""

    def __init__(self, returning: frozenset[str] = frozenset()) -> None:
        self.returning, self.found, self.texts = returning, list[int](), set[str]()
        self.returns = set[str]()
        self._function = ""

    def is_text(self, node: ast.AST | None) -> bool:
        match node:
            case ast.Name(id=name):
                return name in TEXTS or name in self.texts
            case ast.Attribute(attr=name):
                return name in TEXTS
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
                return key in TEXTS or self.is_text(value)
            case ast.Subscript(value=value):
                return self.is_text(value)
            case ast.Call(func=ast.Name(id="str"), args=[one]):
                return self.is_text(one)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in self.returning:
                return True
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                return name in READING and self.is_text(value)
            case ast.IfExp(body=one, orelse=other):
                return self.is_text(one) or self.is_text(other)
            case ast.BoolOp(values=values):
                return any(map(self.is_text, values))
            case ast.NamedExpr(value=value):
                return self.is_text(value)
            case ast.JoinedStr(values=values):
                return any(isinstance(one, ast.FormattedValue) and self.is_text(one.value) for one in values)
            case ast.BinOp(left=left, right=right):
                return self.is_text(left) or self.is_text(right)
        return False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, names, self.texts = self._function, self.texts, set(self.texts)
        self._function = node.name
        for _ in range(2):  # what is assigned further down in a loop
            known = len(self.found)
            self.generic_visit(node)
            if _ == 0:
                del self.found[known:]
        self._function, self.texts = outer, names

    def visit_Return(self, node: ast.Return) -> None:
        if self.is_text(node.value):
            self.returns.add(self._function)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._name(target, node.value)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._name(node.target, node.value)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._name(node.target, node.iter)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._name(node.target, node.iter)
        self.generic_visit(node)

    def _name(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._name(one, other)
        elif isinstance(target, ast.Name) and self.is_text(value):
            self.texts.add(target.id)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        is_about = any(map(self.is_text, sides)) or any(
            isinstance(side, ast.Tuple | ast.List | ast.Set) and any(map(self.is_text, side.elts)) for side in sides
        )
        if is_about and any(isinstance(one, ast.In | ast.NotIn | ast.Eq | ast.NotEq) for one in node.ops):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in READING:
            if self.is_text(node.func.value) or any(map(self.is_text, node.args)):
                self.found.append(node.lineno)
        self.generic_visit(node)


def reads(source: str) -> list[int]:
    """Return the lines that read a text."""
    tree, returning = ast.parse(source), frozenset[str]()
    while True:
        reader = Reader(returning)
        reader.visit(tree)
        if reader.returns <= returning:
            return sorted(set(reader.found))
        returning |= reader.returns


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in PRINTING:
            yield name, path


def test_no_code_reads_a_message_a_hint_or_a_reason() -> None:
    found = []
    for name, path in modules():
        lines = path.read_text().splitlines()
        found += [f"{name}:{number}: {lines[number - 1].strip()}" for number in reads(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        'if "is revoked" in reasons: pass',
        'if failure.hint == "x": pass',
        'if error.message.startswith("cannot"): pass',
        'def f(e):\n    return e.message\ndef g(e):\n    return f(e).removeprefix("x")',
        'def f(e):\n    said = f"{e.message}"\n    return said.split(":")',
        'x = [one for one in reasons if one.endswith(" edited")]',
        'if re.search("x", one["message"]): pass',
        "if (note.subject, note.message) in told: pass",
        'if (found := e.hint or "x") != "y": pass',
    ],
)
def test_the_guard_sees_every_way_to_read_a_text(planted: str) -> None:
    assert reads(planted) != []


@pytest.mark.parametrize("harmless", ["print(error.message)", 'x = f"{a.message}; {a.hint}"', "y = error.code is X"])
def test_the_guard_leaves_alone_what_only_passes_texts_on(harmless: str) -> None:
    assert reads(harmless) == []
