"""Code acts on codes: outside the modules that print, none reads a message, a hint or a reason.

The test follows the syntax tree: what is read from a field of that name, what is assigned from it, and what a function
of the same module returns of it. `==`, `in`, the methods that search or cut a text, and regular expressions count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.projects import PROJECT

PACKAGE = PROJECT / "pki"
TEXTS = {"message", "messages", "hint", "hints", "reason", "reasons", "remedy", "remedies", "why", "wrong"}
MAKING = {"joined", "joined_lines", "remedy_of"}  # functions of other modules that make a text of values
READING = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "rsplit"),
    *("splitlines", "find", "rfind", "index", "rindex", "count", "replace", "strip", "lstrip", "rstrip"),
    *("lower", "upper", "casefold", "translate", "fullmatch", "match", "search", "findall", "finditer", "sub"),
}
PRINTING = {  # what turns values into lines, letters, pages and graphics
    "common/errors.py",
    "common/reasons.py",
    "common/remedies.py",
    "common/terminal.py",
    "common/visible.py",
    "monitor/alerts/mail_text.py",
    "monitor/alerts/notify.py",
    "monitor/status_page/render.py",
    "monitor/status_page/update_page.py",
}

OTHER_MEANINGS = {  # names of fields and variables that are no text for people there
    "ceremony/word_correction.py": {"wrong"},  # a word that was typed
    "cli/client_commands.py": {"reason"},  # a code of `revoke --reason`
    "cli/revoke_command.py": {"reason"},
    "deploy/tls_client.py": {"reason"},  # OpenSSL's name of an alert
    "x509/crl_signing.py": {"reason"},  # a code of RFC 5280 §5.3.1
    "x509/revocation.py": {"reason"},
    "ledger/recorder.py": {"reason"},
    "ledger/rows.py": {"reason"},
    "authority/import_ca/revocations.py": {"reason"},
}


class Reader(ast.NodeVisitor):
    """Finds what reads texts; `returning` are the functions of the module that return one."""

    def __init__(self, names: frozenset[str], returning: frozenset[str] = frozenset()) -> None:
        self.names, self.returning, self.found, self.texts = names, returning, list[int](), set[str]()
        self.returns = set[str]()
        self._function = ""

    def is_text(self, node: ast.AST | None) -> bool:  # noqa: C901, PLR0911, PLR0912 - one line for each kind of node
        match node:
            case ast.Name(id=name):
                return name in self.names or name in self.texts
            case ast.Attribute(attr=name):
                return name in self.names
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
                return key in self.names or self.is_text(value)
            case ast.Subscript(value=value):
                return self.is_text(value)
            case ast.Call(func=ast.Name(id=name)) if name in MAKING:
                return True
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
        sides = [part for side in (node.left, *node.comparators) for part in _parts(side)]
        is_searched = any(isinstance(one, ast.In | ast.NotIn) for one in node.ops)
        is_compared = any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops) and any(map(_is_string, sides))
        if (is_searched or is_compared) and any(map(self.is_text, sides)):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        is_reading = isinstance(node.func, ast.Attribute) and node.func.attr in READING
        if is_reading and any(map(self.is_text, (node.func.value, *node.args))):
            self.found.append(node.lineno)
        self.generic_visit(node)


def _parts(node: ast.AST) -> list[ast.AST]:
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]


def _is_string(node: ast.AST) -> bool:
    """Whether a side of `==` is text for certain, or a constant that may be: values are compared as values."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr() | ast.Call(func=ast.Name(id="str")):
            return True
        case ast.Name(id=name):
            return name.isupper()
    return False


def reads(source: str, names: frozenset[str] = frozenset(TEXTS)) -> list[int]:
    """Return the lines that read a text, which fields and variables of these `names` hold."""
    tree, returning = ast.parse(source), frozenset[str]()
    while True:
        reader = Reader(names, returning)
        reader.visit(tree)
        if reader.returns <= returning:
            return sorted(set(reader.found))
        returning |= reader.returns


def modules() -> Iterator[tuple[str, str, list[int]]]:
    """Each module that does not print: its name, its source and the lines that read a text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in PRINTING:
            names = frozenset(TEXTS - OTHER_MEANINGS.get(name, set()))
            yield name, path.read_text(), reads(path.read_text(), names)


def test_no_code_reads_a_message_a_hint_or_a_reason() -> None:
    found = []
    for name, source, numbers in modules():
        lines = source.splitlines()
        found += [f"{name}:{number}: {lines[number - 1].strip()}" for number in numbers]
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
        "for line in joined(found).split('; '): pass",
        "missing = [str(reason) for reason in reasons if 'x' in str(reason)]",
        'if (found := e.hint or "x") != "y": pass',
    ],
)
def test_the_guard_sees_every_way_to_read_a_text(planted: str) -> None:
    assert reads(planted) != []


@pytest.mark.parametrize("harmless", ["print(error.message)", 'x = f"{a.message}; {a.hint}"', "y = error.code is X"])
def test_the_guard_leaves_alone_what_only_passes_texts_on(harmless: str) -> None:
    assert reads(harmless) == []
