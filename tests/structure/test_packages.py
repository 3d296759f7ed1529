"""The packages: a module imports only from packages below its own, as docs/explanation/architecture.md says."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.projects import PROJECT

PACKAGE = PROJECT / "pki"
TABLE = PROJECT / "docs/explanation/architecture.md"
ROW = re.compile(r"^\|\s*`(\w+)`\s*\|[^|]+\|[^|]*\|\s*$", re.MULTILINE)
ENTRY_POINTS = {"dodo.py", "tasks.py"}
ONE_PACKAGE = {
    "ansible": "deploy",
    "doit": "pipeline",
    "flit_core": "common",
    "invoke": "cli",
    "jinja2": "common",
    "yaml": "common",
    "smtplib": "monitor",
    "apprise": "monitor",
    "prometheus_client": "monitor",
    "sqlalchemy": "ledger",
    "rich": "common",
    "segno": "authority",
    "shamir_mnemonic": "ceremony",
    "pkcs11": "x509",
    "pyrage": "common",
    "zxcvbn": "common",
    "badkeys": "x509",
    "gmpy2": "x509",
}


# -- reading ----------------------------------------------------------------------------------------------------------


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name; a folder's `__init__` has the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> tuple[str, ...]:
    """Dotted names of the modules that a file imports, wherever in it, those that it loads by name included."""
    return _imports_read_once(path, frozenset(known))


@cache
def _imports_read_once(path: Path, known: frozenset[str]) -> tuple[str, ...]:
    return tuple(_imports(path, known))


def _imports(path: Path, known: frozenset[str]) -> Iterator[str]:
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


def package(module: str) -> str:
    """`pki.deploy.release` is in the package `deploy`; `pki` itself is in none."""
    return [*module.split("."), ""][1]


def order(text: str) -> list[str]:
    """The packages in the order of the table, the lowest first."""
    return ROW.findall(text)


def upward(imported: dict[str, set[str]], packages: list[str]) -> list[str]:
    """Imports that do not go down; within a package any direction will do that makes no cycle."""
    rank = {name: number for number, name in enumerate(packages)}
    return [
        f"{module} imports {other}"
        for module, others in imported.items()
        for other in sorted(others)
        if {package(module), package(other)} <= rank.keys()
        and package(module) != package(other)
        and rank[package(other)] >= rank[package(module)]
    ]


def cycle(imported: dict[str, set[str]]) -> list[str]:
    """One cycle of imports, empty when there is none."""
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
def packages() -> list[str]:
    return order(TABLE.read_text())


# -- the packages -----------------------------------------------------------------------------------------------------


def test_the_table_names_the_packages_and_nothing_else(packages: list[str]) -> None:
    found = {
        path.name
        for path in PACKAGE.iterdir()
        if path.name != "__init__.py" and (path.is_file() or any(path.rglob("*.py")))
    }
    assert found == set(packages)


def test_every_import_goes_to_a_package_below(packages: list[str]) -> None:
    assert upward(graph(PACKAGE), packages) == []


def test_there_is_no_import_cycle() -> None:
    assert cycle(graph(PACKAGE)) == []


def test_each_file_that_the_table_of_tasks_names_exists() -> None:
    table = TABLE.read_text().partition("## Where to change what")[2]
    named = re.findall(r"`([a-z_0-9]+/[\w./-]*)`", table)
    assert len(named) > 50
    assert [name for name in named if not ((PACKAGE / name).exists() or (PROJECT / name).exists())] == []


def names_of(path: Path) -> set[str]:
    """What a Python file defines at its top, and `Class.name` for the functions and fields of its classes."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        own = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        own += [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []
        own += [str(node.name)] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
        inner = getattr(node, "body", ())
        members = [one.name for one in inner if isinstance(one, ast.FunctionDef)]
        members += [
            one.target.id for one in inner if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        names |= {*own, *(f"{own[0]}.{member}" for member in members if own)}
    return names


def undefined(table: str) -> list[str]:
    """Functions, classes and constants in rows of the table of tasks that no file of their row defines."""
    missing = []
    for row in table.splitlines():
        files = [PACKAGE / name for name in re.findall(r"`([a-z_0-9]+/[\w./-]*\.py)`", row)]
        defined = {name for path in files if path.exists() for name in names_of(path)}
        named = re.findall(r"`(_\w+|[A-Z]\w+(?:\.\w+)?)`", row.partition(" | ")[2])
        missing += [f"{row.split('|')[1].strip()}: {name}" for name in named if name not in defined]
    return missing


def test_each_function_that_the_table_of_tasks_names_is_in_a_file_of_its_row() -> None:
    table = TABLE.read_text().partition("## Where to change what")[2]
    assert undefined(table) == []
    row = "| the text | `_read` and `Cache.cached` in `common/cache.py` | `tests/common/test_cache.py` | |"
    assert undefined(row) == ["the text: _read"]


def test_no_module_of_ours_is_imported_by_a_text() -> None:
    """What a text imports has the type Any; where start-up time matters, an import is inside a function."""
    by_text = re.compile(r"""(?:import_module|__import__)\(f?["']pki[."']""")
    assert [name for name, path in modules(PACKAGE).items() if by_text.search(path.read_text())] == []


def folder(module: str) -> str:
    """`pki.monitor.alerts.smtp` is in the folder `monitor/alerts`, `pki.monitor.probes` in `monitor`."""
    parts = module.split(".")[1:]
    is_folder = (PACKAGE / "/".join(parts)).is_dir()
    return "/".join(parts if is_folder else parts[:-1])


def test_the_folders_of_a_package_import_one_another_in_one_direction() -> None:
    arrows = {
        (folder(module), folder(other))
        for module, others in graph(PACKAGE).items()
        for other in others
        if package(module) == package(other) and folder(module) != folder(other)
    }
    assert [arrow for arrow in sorted(arrows) if arrow[::-1] in arrows] == []


def test_only_the_online_part_of_a_ceremony_knows_projects_and_the_ledger() -> None:
    """The offline machine has no project: what it runs must not need one."""
    known = graph(PACKAGE)
    apart = {name: others for name, others in known.items() if folder(name) in {"ceremony", "ceremony/offline"}}
    assert len(apart) > 20
    assert {
        f"{name} imports {other}"
        for name, others in apart.items()
        for other in others
        if package(other) in {"project", "ledger"} or other == "pki.config.loader" or folder(other) == "ceremony/online"
    } == set()


def test_x509_works_on_values_in_memory() -> None:
    """Four modules need the operating system: for a page, a token's library, random bytes, and the list of weak keys."""
    known = modules(PACKAGE)
    users = {
        name
        for name, path in known.items()
        if package(name) == "x509" and {"os", "io", "pathlib", "pki.common.filesystem"} & set(imports(path, set(known)))
    }
    assert {name.removeprefix("pki.x509.") for name in users} == {
        *("export.passphrase_sheet", "pkcs11.sessions", "pkcs8", "weak_keys"),
    }


def test_only_the_entry_points_import_the_commands() -> None:
    assert [
        name for name, others in graph(PACKAGE).items() if package(name) != "cli" and "cli" in map(package, others)
    ] == []


def test_nothing_is_imported_for_the_type_checker_alone() -> None:
    assert [str(path) for path in modules(PACKAGE).values() if "TYPE_CHECKING" in path.read_text()] == []


@pytest.mark.parametrize("library", ONE_PACKAGE)
def test_each_big_library_is_known_to_one_package(library: str) -> None:
    known = modules(PACKAGE)
    users = {
        package(name)
        for name, path in known.items()
        if library in {found.partition(".")[0] for found in imports(path, set(known))}
    }
    assert users == {ONE_PACKAGE[library]}


def test_one_module_uses_undocumented_features_of_doit(trees: dict[str, ast.Module]) -> None:
    """The others import what doit's documentation describes: how a program loads its tasks and starts doit."""
    documented = {
        *("doit.cmd_base.ModuleTaskLoader", "doit.doit_cmd.DoitMain", "doit.exceptions.InvalidDodoFile"),
        "doit.task.Task",  # the type of what a loader yields
    }
    imported = {
        f"{node.module}.{alias.name}"
        for name, tree in trees.items()
        if name != "pipeline/doit_internals.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("doit.")
        for alias in node.names
    }
    assert imported == documented


@pytest.mark.parametrize("entry_point", sorted(ENTRY_POINTS))
def test_the_entry_points_are_short(entry_point: str) -> None:
    assert len((PROJECT / entry_point).read_text().splitlines()) < 80


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in modules(PACKAGE).values()}


def test_modules_functions_and_classes_stay_short(trees: dict[str, ast.Module]) -> None:
    assert [name for name in trees if len((PACKAGE / name).read_text().splitlines()) > 400] == []
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    long_functions = {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 45
    }
    assert long_functions == set()
    wide = {
        node.name
        for node in nodes
        if isinstance(node, ast.ClassDef)
        and sum(isinstance(one, ast.FunctionDef) and not one.name.startswith("_") for one in node.body) > 15
    }
    assert wide == set()


def test_few_functions_take_a_whole_project(trees: dict[str, ast.Module]) -> None:
    """Others take the parts that they use: a signature shows what a function depends on."""
    arguments = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.arg)]
    whole = [one for one in arguments if one.annotation and ast.unparse(one.annotation) == "Project"]
    assert 0 < len(whole) < 60


def test_each_public_class_has_a_name_of_its_own(trees: dict[str, ast.Module]) -> None:
    names = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_no_file_name_is_used_twice() -> None:
    names = Counter(path.name for path in modules(PACKAGE).values() if path.name != "__init__.py")
    assert [name for name, times in names.items() if times > 1] == []


def test_nothing_below_imports_the_entry_points_or_the_tests() -> None:
    known = modules(PACKAGE)
    found = {top.partition(".")[0] for path in known.values() for top in imports(path, set(known))}
    assert not found & {"dodo", "tasks", "tests"}


def test_every_module_opens_with_a_line_that_says_what_it_is() -> None:
    bare = [name for name, path in modules(PACKAGE).items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


def test_only_the_entry_points_take_the_clock() -> None:
    """Promise 10: `now` is handed down, so nothing below an entry point asks for it."""
    asking = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.time)\(")
    assert [name for name, path in modules(PACKAGE).items() if asking.search(path.read_text())] == []


# -- the guards themselves --------------------------------------------------------------------------------------------


def test_the_guard_sees_an_import_that_goes_up() -> None:
    packages = order("| package | what | not |\n|--|--|--|\n| `common` | x | |\n| `config` | y | z |\n")
    assert packages == ["common", "config"]
    assert upward({"pki.common.a": {"pki.config.b"}}, packages) == ["pki.common.a imports pki.config.b"]
    assert upward({"pki.config.b": {"pki.common.a"}, "pki.config.c": {"pki.config.b"}}, packages) == []


def test_the_guard_sees_a_cycle() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pki.module",
        "from pki import module",
        "from pki.module import write",
        "def f():\n    from pki.module import write",
        "import_module('pki.module')",
        "importlib.import_module('pki.module')",
    ],
)
def test_the_guard_sees_every_way_to_import(tmp_path: Path, line: str) -> None:
    (tmp_path / "module.py").write_text(line)
    assert list(imports(tmp_path / "module.py", {"pki", "pki.module"})) == ["pki.module"]


# -- the tests --------------------------------------------------------------------------------------------------------


def test_no_test_imports_another_one() -> None:
    """What several of them use is in `tests/support/`. One file runs the tests of another with other programs."""
    known = modules(PROJECT / "tests")
    tests = {name for name in known if name.rpartition(".")[2].startswith("test_")}
    found = {
        (name, other) for name, path in known.items() for other in imports(path, set(known)) if other in tests - {name}
    }
    assert found == {("tests.integration.test_apply_elsewhere", "tests.test_pki_apply")}


def test_each_package_has_a_folder_of_tests(packages: list[str]) -> None:
    assert [name for name in packages if not list((PROJECT / "tests" / name).glob("test_*.py"))] == ["demo"]
    assert list((PROJECT / "tests/integration").glob("test_lab.py")), "the demo is nothing but real programs"
