"""Retired words are used nowhere: neither in the names of the code, nor in the texts that people read.

`docs/explanation/glossary.md` has the words and what each of them means. `tests/retired_words.tsv` has the retired ones, each with how
often it may be used: never.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.projects import PROJECT

BUDGET = PROJECT / "tests/retired_words.tsv"


def budget(kind: str) -> dict[str, int]:
    """Each retired word (in names) or phrase (in texts), with how often it may still be there."""
    lines = (line.split("\t") for line in BUDGET.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {what: int(number) for one, what, number in lines if one == kind}


def words_of(name: str) -> Iterator[str]:
    """The words of an identifier: `_is_leafTold` has is, leaf and told."""
    for part in name.split("_"):
        yield from (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part))


def names_of(path: Path) -> Iterator[str]:
    """What a module defines: itself, its functions, classes, parameters, variables and fields."""
    yield from path.relative_to(PROJECT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def texts() -> Iterator[str]:
    """What people read: messages and docstrings, pages and templates, and the documents."""
    for path in sorted(PROJECT.glob("pki/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    others = ("pki/**/*.html", "pki/**/*.txt", "pki/deploy/host/*", "templates/**/*", "docs/**/*.md", "README.md")
    for path in sorted(path for pattern in others for path in PROJECT.glob(pattern) if path.is_file()):
        if path != PROJECT / "docs/explanation/glossary.md":
            yield path.read_text(encoding="utf-8", errors="replace")


def more_often(counts: Mapping[str, int], allowed: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What is there more often than allowed: how often, and how often it may be."""
    return {what: (counts[what], most) for what, most in allowed.items() if counts[what] > most}


def test_no_name_has_a_retired_word_more_often_than_before() -> None:
    modules = [*PROJECT.glob("pki/**/*.py"), PROJECT / "dodo.py", PROJECT / "tasks.py"]
    counts = Counter(word for path in modules for name in names_of(path) for word in words_of(name))
    assert not more_often(counts, budget("word")), "the glossary has another word"


def test_a_variable_is_named_for_what_it_is() -> None:
    vague = {"one", "found", "said", "wanted", "there", "known", "told", "kept", "seen", "gone"}
    nodes = [node for path in PROJECT.glob("pki/**/*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    fields = {id(node.target) for node in nodes if isinstance(node, ast.AnnAssign)}  # of what is printed as JSON
    names = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in fields}
    assert not vague & (names | {node.arg for node in nodes if isinstance(node, ast.arg)})


def test_no_text_has_a_retired_phrase_more_often_than_before() -> None:
    everything, allowed = "\n".join(texts()), budget("phrase")
    counts = {phrase: len(re.findall(phrase, everything, re.IGNORECASE)) for phrase in allowed}
    assert not more_often(counts, allowed), "the glossary has other words"


@pytest.mark.parametrize("name", ["house_of", "_HouseView", "in_house", "WholeHouse"])
def test_a_retired_word_is_seen_in_each_form_of_a_name(name: str) -> None:
    assert "house" in words_of(name)


def test_words_that_english_needs_are_no_retired_phrases() -> None:
    sentence = "not found: the known_hosts file of the trust store, whose values and entries are kept in the household"
    assert not [phrase for phrase in budget("phrase") if re.search(phrase, sentence)]
