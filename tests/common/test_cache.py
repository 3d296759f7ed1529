"""A finding is computed once, and again when what it depends on changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki.common.cache import Cache
from tests.support.projects import START


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "build").mkdir()
    path = tmp_path / "crl.pem"
    path.write_text("a")
    return path


def read(cache: Cache, file: Path, key: str = "key") -> list[str]:
    """Return what the cache has of the file, or else what is in it now."""
    return cache.cached("name", key, [str(file)], lambda: [file.read_text()])


def test_a_finding_is_computed_again_only_after_its_key_or_its_file_changed(tmp_path: Path, file: Path) -> None:
    cache = Cache(tmp_path, START)
    assert read(cache, file) == ["a"]
    assert cache.cached("name", "key", [str(file)], lambda: ["computed again"]) == ["a"]
    assert cache.cached("name", "other key", [str(file)], lambda: ["b"]) == ["b"]
    file.write_text("another size")
    assert read(cache, file, "other key") == ["another size"]


def test_a_later_run_gets_the_finding_of_an_earlier_one(tmp_path: Path, file: Path) -> None:
    cache = Cache(tmp_path, START)
    read(cache, file)
    cache.save(whole=True)
    later = Cache(tmp_path, START)
    assert later.cached("name", "key", [str(file)], lambda: ["computed again"]) == ["a"]


def test_nothing_is_cached_of_a_file_that_is_missing(tmp_path: Path, file: Path) -> None:
    cache, missing = Cache(tmp_path, START), file.with_name("missing")
    assert cache.cached("name", "key", [str(missing)], lambda: [1]) == [1]
    assert cache.cached("name", "key", [str(missing)], lambda: [2]) == [2]
