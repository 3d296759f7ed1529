"""The floors of the house: a module imports only from floors below, as docs/architecture.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PACKAGE = PROJECT / "pki"
TABLE = PROJECT / "docs" / "architecture.md"
ROW = re.compile(r"^\|\s*(\d+)\s*\|([^|]+)\|([^|]*)\|\s*$", re.MULTILINE)
DOORS = {"dodo.py", "tasks.py"}
ONE_ROOM = {
    "ansible": "deploy/",
    "doit": "pipeline/",
    "invoke": "commands/",
    "jinja2": "templating.py",
    "yaml": "documents.py",
    "smtplib": "watch/",
    "apprise": "watch/",
    "prometheus_client": "watch/",
    "sqlalchemy": "ledger/",
    "rich": "screen.py",
    "segno": "trust/",
    "shamir_mnemonic": "ceremony/",
    "pkcs11": "tokens/",
    "pyrage": "sealing.py",
    "zxcvbn": "strength.py",
    "badkeys": "weakkeys.py",
    "gmpy2": "weakkeys.py",
}


# -- reading ----------------------------------------------------------------------------------------------------------


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name; a folder's `__init__` bears the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> Iterator[str]:
    """Dotted names of the modules that a file imports, wherever in it, those that it loads by name included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            inner = {f"{node.module}.{name.name}" for name in node.names}
            yield from (inner & known) or {str(node.module)}
            if inner & known and inner - known:
                yield str(node.module)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in {"import_module", "__import__"}
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def graph(package: Path) -> dict[str, set[str]]:
    """Module → modules of the same package that it imports."""
    known = modules(package)
    return {
        name: {found for found in imports(path, set(known)) if found in known} - {name} for name, path in known.items()
    }


def room(module: str) -> str:
    """`pki.deploy.release` lies in the room `deploy/`, `pki.errors` is the room `errors.py`."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    is_folder = len(parts) > 1 or (PACKAGE / parts[0]).is_dir()
    return f"{parts[0]}/" if is_folder else f"{parts[0]}.py"


def table(text: str) -> dict[str, int]:
    """Room → floor, from the rows `| floor | module | one line |`."""
    return {name: int(floor) for floor, cell, _ in ROW.findall(text) for name in re.findall(r"`([^`]+)`", cell)}


def trespasses(imported: dict[str, set[str]], floors: dict[str, int]) -> list[str]:
    """Imports that do not go down; inside a folder any direction will do."""
    return [
        f"{module} (floor {floors[room(module)]}) imports {other} (floor {floors[room(other)]})"
        for module, others in imported.items()
        for other in sorted(others)
        if {room(module), room(other)} <= floors.keys()
        and room(module) != room(other)
        and floors[room(other)] >= floors[room(module)]
    ]


def circle(imported: dict[str, set[str]]) -> list[str]:
    """One circle of imports, empty when there is none."""
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(imported[module]):
            if found := walk(other, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in imported if (found := walk(module, []))), [])


@pytest.fixture(scope="module")
def floors() -> dict[str, int]:
    assert TABLE.exists(), f"{TABLE} is not there"
    return table(TABLE.read_text())


# -- the house --------------------------------------------------------------------------------------------------------


def test_every_room_stands_in_the_table_and_the_table_names_nothing_else(floors: dict[str, int]) -> None:
    rooms = {room(module) for module in modules(PACKAGE)} - {""}
    assert floors.keys() - DOORS == rooms


def test_every_import_goes_to_a_floor_below(floors: dict[str, int]) -> None:
    assert trespasses(graph(PACKAGE), floors) == []


def test_there_is_no_import_circle() -> None:
    assert circle(graph(PACKAGE)) == []


def test_nothing_is_imported_for_the_type_checker_alone() -> None:
    assert [str(path) for path in modules(PACKAGE).values() if "TYPE_CHECKING" in path.read_text()] == []


@pytest.mark.parametrize("library", ONE_ROOM)
def test_each_big_library_is_known_to_one_room(library: str) -> None:
    known = modules(PACKAGE)
    users = {
        room(name)
        for name, path in known.items()
        if library in {found.partition(".")[0] for found in imports(path, set(known))}
    }
    assert users == {ONE_ROOM[library]}


@pytest.mark.parametrize("door", sorted(DOORS))
def test_the_doors_are_short(door: str) -> None:
    assert len((PROJECT / door).read_text().splitlines()) < 80


def test_nothing_in_the_house_imports_the_doors_or_the_tests() -> None:
    known = modules(PACKAGE)
    found = {top.partition(".")[0] for path in known.values() for top in imports(path, set(known))}
    assert not found & {"dodo", "tasks", "tests"}


def test_every_module_opens_with_a_line_that_says_what_it_is() -> None:
    bare = [name for name, path in modules(PACKAGE).items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


def test_only_the_doors_take_the_clock() -> None:
    """Promise 10: `now` is handed down, so nothing below a door asks for it."""
    asking = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.time)\(")
    assert [name for name, path in modules(PACKAGE).items() if asking.search(path.read_text())] == []


# -- the guards themselves --------------------------------------------------------------------------------------------


def test_the_guard_sees_an_import_that_goes_up_or_sideways() -> None:
    floors = table("| floor | module | what |\n|--|--|--|\n| 1 | `errors.py` | x |\n| 1 | `model.py` | y |\n")
    assert floors == {"errors.py": 1, "model.py": 1}
    assert trespasses({"pki.errors": {"pki.model"}}, floors) == ["pki.errors (floor 1) imports pki.model (floor 1)"]
    assert trespasses({"pki.errors": {"pki.model"}}, {"errors.py": 2, "model.py": 1}) == []


def test_the_guard_sees_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pki.store",
        "from pki import store",
        "from pki.store import write",
        "def f():\n    from pki.store import write",
        "import_module('pki.store')",
        "importlib.import_module('pki.store')",
    ],
)
def test_the_guard_sees_every_way_to_import(tmp_path: Path, line: str) -> None:
    (tmp_path / "module.py").write_text(line)
    assert list(imports(tmp_path / "module.py", {"pki", "pki.store"})) == ["pki.store"]
