"""A manifest, a receipt or a list of files whose digest is right, but whose values no program of ours writes, is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pki.common import sealed_records
from pki.deploy import receipt, release
from tests.support.projects import Home

Change = Callable[[dict[str, Any]], object]
ODD_FILES: tuple[Change, ...] = (
    lambda file: file.update(mode="bebd1ecb"),
    lambda file: file.update(mode="0999"),
    lambda file: file.update(mode=420),
    lambda file: file.update(path="etc/x"),
    lambda file: file.update(path="/etc/../../x"),
    lambda file: file.update(path="/etc/a\0b"),
    lambda file: file.update(path="/etc/\ud800"),
    lambda file: file.update(path=["/etc/x"]),
    lambda file: file.pop("path"),
)
ODD_MANIFESTS: tuple[Change, ...] = (
    *(lambda record, change=change: change(record["files"][0]) for change in ODD_FILES),  # type: ignore[misc] # bound
    lambda record: record["files"][0].update(crl="no"),
    lambda record: record["files"][0].update(reload=[]),
    lambda record: record["files"].insert(0, "/etc/x"),
    lambda record: record.update(files={}),
    lambda record: record.update(host=None),
    lambda record: record.update(inputs=[]),
    lambda record: record["uses"].update({"tls:media": {}}),
)


def changed(home: Home, path: str, change: Change) -> None:
    record = sealed_records.decode_sealed(home.read(path))
    assert record
    before = json.dumps(record)
    change(record)
    assert json.dumps(record) != before
    (home.path / path).write_bytes(sealed_records.encode_sealed(record))


@pytest.mark.parametrize("change", ODD_MANIFESTS)
def test_a_manifest_of_another_shape_is_damaged_and_made_again(home: Home, change: Change) -> None:
    folder = home.path / "build/release/media"
    assert release.load(folder)
    changed(home, "build/release/media/manifest.json", change)
    assert release.load(folder) is None
    report = home.doit()
    assert (report.status, report.made["release:media"]) == (0, "its manifest was damaged")
    assert release.load(folder)


@pytest.mark.parametrize("change", ODD_FILES)
def test_a_receipt_of_another_shape_is_damaged_and_the_host_is_deployed_again(home: Home, change: Change) -> None:
    path = "build/receipts/media.json"
    changed(home, path, lambda record: change(record["files"][0]))
    assert receipt.load(home.path / path) is None
    assert home.doit().status == 0
    assert receipt.load(home.path / path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("files"),
        lambda record: record.update(files=[1]),
        lambda record: record.update(files="/"),
    ],
)
def test_a_list_of_files_of_another_shape_is_damaged_and_written_again(home: Home, change: Change) -> None:
    path = "build/hosts/.media.files"
    before = home.read(path)
    changed(home, path, change)
    report = home.doit()
    assert (report.status, "deploy:media" in report.made) == (0, True), report.failed
    assert home.read(path) == before
