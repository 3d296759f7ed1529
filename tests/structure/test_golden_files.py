"""Golden files: certificates, CRLs, releases, receipts, ceremonies and ledgers stay byte for byte as they are."""

from __future__ import annotations

from pathlib import Path

from tests.golden import projects, record
from tests.support.projects import PROJECT

GOLDEN = PROJECT / "tests" / "golden" / "files.txt"


def test_two_projects_are_written_byte_for_byte_as_before(tmp_path: Path) -> None:
    """Where this is to change: tests/golden/__main__.py says how the list is written, and how to see the difference."""
    known = dict(line.split(" ", 1)[::-1] for line in GOLDEN.read_text().splitlines())
    now = dict(line.split(" ", 1)[::-1] for line in record.lines(projects.built(tmp_path)))
    assert sorted(known.keys() ^ now.keys()) == []
    assert [name for name, digest in now.items() if known[name] != digest] == []


def test_nothing_in_them_is_left_to_chance(tmp_path: Path) -> None:
    """The same part of the story draws the same keys wherever the projects are."""
    with projects.fixed() as stream:
        projects.example(tmp_path, stream)
    found = record.tree(tmp_path)
    assert {"example/ca/root/root-1/cert.pem", "example/ca/ledger.db", "example/build/crl/client-1.crl"} <= found.keys()
    assert all(str(tmp_path).encode() not in data for data in found.values())
