"""The command that changes the program: its changes are what they say, repeatable, and explained where nothing notices them."""

from __future__ import annotations

import ast
from types import FunctionType

import pytest
from cosmic_ray.mutating import mutate_code

from tests.mutants import changes, equivalent, runner
from tests.mutants.changes import Change
from tests.mutants.executed import PROJECT, Executed, Timed
from tests.mutants.operators import OPERATORS


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_changes_what_its_examples_say(name: str) -> None:
    for example in OPERATORS[name].examples():
        changed = mutate_code(example.pre_mutation_code, OPERATORS[name], example.occurrence)
        assert changed is not None
        assert ast.dump(ast.parse(changed.strip())) == ast.dump(ast.parse(example.post_mutation_code.strip()))


def test_the_same_seed_draws_the_same_changes_and_each_changes_one_statement() -> None:
    drawn = changes.drawn(["pki/x509/profiles.py"], 7, 3)
    assert drawn == changes.drawn(["pki/x509/profiles.py"], 7, 3) != changes.drawn(["pki/x509/profiles.py"], 8, 3)
    assert len(drawn) == 3
    for change in drawn:
        assert changes.meaning(change.source) != changes.meaning((PROJECT / change.path).read_text())
        assert change.first <= change.line <= change.last


def test_types_and_docstrings_are_no_part_of_what_a_module_means() -> None:
    plain = "def f(a):\n    b = a\n    return b\n"
    typed = "def f(a: int | None) -> int:\n    b = a  # why\n    return b\n"
    assert changes.meaning(plain) == changes.meaning(typed)
    assert changes.meaning(plain) != changes.meaning(plain.replace("b = a", "b = -a"))


def test_a_module_is_named_with_or_without_its_folder_and_ending() -> None:
    assert changes.modules(["x509/keys", "pki/x509/keys.py"]) == ["pki/x509/keys.py"] * 2
    assert "pki/authority/crls.py" in changes.modules(["authority"])
    with pytest.raises(SystemExit, match="unknown module 'nothing'"):
        changes.modules(["nothing"])


def change_of(path: str, old: str, new: str) -> Change:
    source = (PROJECT / path).read_text()
    assert source.count(old) == 1
    return Change(path, 1, 1, 1, old, new, source.replace(old, new))


def test_a_change_within_a_function_is_put_into_the_function_that_others_imported() -> None:
    """Every reference sees the change, whoever imported the function before."""
    from pki.config.delivery_window import is_in_window  # noqa: PLC0415 - as other modules do

    change = change_of("pki/config/delivery_window.py", "return start <= moment < end", "return True")
    assert not runner.is_import(change)
    code = is_in_window.__code__
    copy = FunctionType(code, is_in_window.__globals__)
    runner.put_in(change, {code: [copy]})
    noon = is_in_window.__globals__["time"](12)
    assert (is_in_window(noon, "02:00-04:00"), copy(noon, "02:00-04:00")) == (False, True)


def test_a_change_of_a_constant_or_a_default_concerns_the_import() -> None:
    assert runner.is_import(change_of("pki/config/limits.py", "days=25 * 365", "days=26 * 365"))
    assert runner.is_import(
        change_of("pki/x509/profiles.py", "digital_signature: bool = False", "digital_signature: bool = True")
    )


def test_a_change_is_tried_with_the_tests_that_execute_it_the_fastest_first() -> None:
    tests = {name: Timed(name, seconds, ("fixture shared",) if name == "c" else ()) for name, seconds in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 0.1))}  # fmt: skip
    executed = Executed(tests, {"pki/x.py": {3: {"a"}, 4: {"b", "fixture shared"}}})
    assert [test.name for test in executed.chosen(executed.contexts("pki/x.py", 3, 4))] == ["b", "c", "a"]
    assert executed.chosen(executed.contexts("pki/x.py", 9, 9)) == []


def test_each_change_that_is_explained_is_still_one_and_has_a_reason() -> None:
    for (path, before, after), reason in equivalent.explained().items():
        lines = " ".join(line.strip() for line in (PROJECT / path).read_text().splitlines())
        assert before in lines, f"{path} has no line {before!r} any more: remove it from tests/mutants/equivalent.toml"
        assert before != after
        assert len(reason) > 20, f"{path}: why does nobody notice that {after!r} stands for {before!r}?"
