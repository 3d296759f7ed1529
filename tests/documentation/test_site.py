"""The sources of the site and the checks of the built one: mistakes in pages and links are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki.common.errors import PkiError
from tests.documentation import links, pages, site


def program_with(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_links_lead_to_pages_of_the_site_and_other_files_become_their_paths(tmp_path: Path) -> None:
    index = "[Revoke](how-to/revoke.md#lost) [us](../README.md) ![picture](images/a.svg) [x](https://example.com)\n"
    page = "[back](../index.md) [`policy.py`](../../pki/policy.py) [code](../../pki/policy.py)\n\n```md\n[a](gone.md)\n```\n"
    files = {"docs/index.md": index, "docs/how-to/revoke.md": page, "docs/images/a.svg": "<svg/>"}
    program = program_with(tmp_path / "program", {**files, "README.md": "[site](docs/index.md)", "pki/policy.py": ""})
    navigation = pages.stage(program, tmp_path / "docs")
    shown = {path.relative_to(tmp_path / "docs").as_posix(): path.read_text() for path in tmp_path.glob("docs/**/*.*")}
    assert shown == {
        "index.md": index.replace("../README.md", "project/readme.md"),
        "how-to/revoke.md": "[back](../index.md) `policy.py` code (`pki/policy.py`)\n\n```md\n[a](gone.md)\n```\n",
        "images/a.svg": "<svg/>",
        "project/readme.md": "[site](../index.md)",
    }
    assert '{ "How-to guides" = ["how-to/revoke.md"] },' in navigation


def test_every_missing_file_and_every_page_without_a_link_is_named(tmp_path: Path) -> None:
    files = {"docs/index.md": "# Index\n\n[a](how-to/gone.md)", "docs/how-to/b.md": "[c](../../gone.py#x)"}
    with pytest.raises(PkiError) as caught:
        pages.stage(program_with(tmp_path / "program", files), tmp_path / "docs")
    assert caught.value.message.splitlines() == [
        "docs/how-to/b.md:1: ../../gone.py does not exist",
        "docs/index.md:3: how-to/gone.md does not exist",
        "docs/index.md: has no link to docs/how-to/b.md",
    ]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.html", '<a href="b.html"></a>', "b.html leads nowhere"),
        ("a.html", '<a href="#b"></a>', "#b leads nowhere"),
        ("a.html", '<p style="background: url(//b.example/c.png)"></p>', "loads //b.example/c.png"),
        ("a.html", '<script src="https://b.example/c.js"></script>', "loads https://b.example/c.js"),
        ("a.html", '<link rel="stylesheet" href="https://b.example/c.css">', "loads https://b.example/c.css"),
        ("a.css", '@import "https://b.example/c.css";', "loads https://b.example/c.css"),
        ("a.svg", "<style>@font-face { src: url(https://b.example/c) }</style>", "loads https://b.example/c"),
    ],
)
def test_a_broken_link_and_an_address_of_another_host_are_found(
    tmp_path: Path, name: str, text: str, fault: str
) -> None:
    program_with(tmp_path, {name: text, "c.html": '<a id="d" href="#d"></a><a href="https://e.example">e</a>'})
    assert links.find_faults(tmp_path) == [f"{name}: {fault}"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    program_with(tmp_path, {"mine.txt": ""})
    with pytest.raises(PkiError, match="is not a site of this program"):
        site.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
