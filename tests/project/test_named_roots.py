"""pki.yaml names the roots of a project: read in any spelling, written by ceremony.accept, every other line kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pki.ceremony import verify_response
from pki.ceremony.online import accept_response
from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import InventoryError, PkiError
from pki.config import editing, editor_schemas, loader
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import PROJECT, Home

ONE, TWO = "ab" * 32, "cd" * 32
EXAMPLE = (PROJECT / "pki.yaml").read_text().replace("sandbox: true", "sandbox: false")


def written(folder: Path, text: str) -> Path:
    path = folder / "pki.yaml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "spelling",
    [ONE, ONE.upper(), ":".join("AB" for _ in range(32)), f"[{ONE}]", f"\n  - {ONE.upper()}", f'["{ONE}"]'],
)
def test_a_fingerprint_means_the_same_in_every_spelling(tmp_path: Path, spelling: str) -> None:
    assert loader.load(written(tmp_path, f"{EXAMPLE}\nroots: {spelling}\n")).roots == (ONE,)


@pytest.mark.parametrize(
    ("roots", "fault"),
    [
        (ONE[1:], "roots[0]: expected the SHA-256 of a root certificate: 64 hexadecimal digits"),
        (f"{ONE}00", "expected the SHA-256"),
        (f"[{ONE}, {'xy' * 32}]", "roots[1]: expected the SHA-256"),
        ("", "expected the SHA-256"),
        (f"[{ONE}, {TWO}, {ONE.upper()}]", "roots[2]: duplicate of roots[0]"),
        (f"{{root-1: {ONE}}}", "roots: expected a list"),
    ],
)
def test_a_fault_in_roots_is_told_with_its_place_and_hides_no_other(tmp_path: Path, roots: str, fault: str) -> None:
    path = written(tmp_path, f"{EXAMPLE}\nroots: {roots}\n".replace("host: monitoring", "host: nobody"))
    with pytest.raises(InventoryError) as refused:
        loader.load(path)
    assert fault in str(refused.value)
    assert "'nobody'" in str(refused.value)


def test_a_sandbox_is_refused_where_pki_yaml_names_a_root(tmp_path: Path) -> None:
    text = EXAMPLE.replace("sandbox: false", "sandbox: true")
    with pytest.raises(
        InventoryError, match=r"sandbox: must not be true, because roots lists .* ./run invoke restore FILE"
    ):
        loader.load(written(tmp_path, f"{text}\nroots: [{ONE}]\n"))


def test_roots_stand_in_the_schema_and_in_the_documents() -> None:
    assert '"roots"' in editor_schemas.pki_yaml_schema()
    assert "| `roots` |" in (PROJECT / "docs/reference/pki-yaml.md").read_text()


# -- writing ----------------------------------------------------------------------------------------------------------

COMMENTED = f"roots:   # ours\n- {ONE}   # root-1\n"
LAYOUTS = {
    "none": "",
    "block": f"roots:\n  - {ONE}\n",
    "commented": COMMENTED,
    "brackets": f"roots: [{ONE}]   # ours, see [1]\n",
    "empty brackets": "roots: []\n",
    "brackets over lines": f"roots: [\n  {ONE},\n]\n",
    "scalar": f"roots: {ONE.upper()}\n",
    "deep": f"roots:\n      - {ONE}\n",
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_more_root_changes_no_other_line(tmp_path: Path, layout: str, last: bool, ending: str) -> None:
    section = LAYOUTS[layout]
    text = (EXAMPLE + section if last else section + EXAMPLE).replace("\n", ending)
    path = written(tmp_path, text)
    before = loader.load(path)
    edit = editing.add_roots(path, {"root-2": TWO})
    changed = edit.text
    editing.write(edit)
    assert loader.load(path) == before.model_copy(update={"roots": (*before.roots, TWO)})
    kept = EXAMPLE.replace("\n", ending).splitlines(keepends=True)
    assert [line for line in changed.splitlines(keepends=True) if line in kept] == kept
    assert (COMMENTED.replace("\n", ending) in changed) == (layout == "commented")
    assert editing.add_roots(path, {"root-2": TWO}).text == changed


def test_a_file_without_a_last_newline_gets_one_more_root(tmp_path: Path) -> None:
    path = written(tmp_path, EXAMPLE + f"roots: [{ONE}]")
    editing.write(editing.add_roots(path, {"root-2": TWO}))
    assert loader.load(path).roots == (ONE, TWO)


def test_a_layout_that_is_not_understood_is_left_alone_and_the_lines_are_shown(tmp_path: Path) -> None:
    parts = '{organisation: X, domains: [x.y], publish: {url: "http://x.y", host: a}, networks: {l: 10.0.0.0/8}, '
    path = written(tmp_path, parts + "hosts: {a: {network: l}}}\n")
    before = path.read_bytes()
    with pytest.raises(PkiError, match="has a layout that this program cannot edit") as refused:
        editing.add_roots(path, {"root-1": ONE, "root-2": TWO})
    assert f"roots:\n  - {ONE}\n  - {TWO}" in refused.value.hint
    assert path.read_bytes() == before


# -- accepting --------------------------------------------------------------------------------------------------------


def fingerprint(home: Home, root: str) -> str:
    return home.project().authorities.existing(root).fingerprint


def test_an_accepted_root_is_named_and_a_rollover_adds_its_successor(real: RealHome) -> None:
    assert real.project().inventory.roots == (fingerprint(real, "root-1"),)
    real.ceremony(RequestOptions(generations=("root",)), days=1)
    assert real.project().inventory.roots == (fingerprint(real, "root-1"), fingerprint(real, "root-2"))
    assert "   # root-2\n" in real.read("pki.yaml").decode()
    text = real.read("pki.yaml")
    real.ceremony(RequestOptions(crls=True), days=2)
    assert real.read("pki.yaml") == text


def test_a_project_that_names_no_root_yet_names_all_with_its_next_ceremony(real: RealHome) -> None:
    text = real.read("pki.yaml").decode()
    real.write("pki.yaml", text[: text.index("roots:")] + text[text.index("# root-1\n") + 9 :])
    fingerprint = real.project().authorities.existing("root-1").fingerprint
    [note] = real.doit().data["notes"]
    assert (note["subject"], fingerprint in note["remedy"]) == ("roots", True)
    real.ceremony(RequestOptions(generations=("root",)), days=1)
    assert real.project().inventory.roots == (fingerprint, real.project().authorities.existing("root-2").fingerprint)


def test_the_sandbox_names_no_root(home: Home) -> None:
    assert home.project().inventory.roots == ()


def test_nothing_is_filed_where_pki_yaml_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_home(tmp_path)
    folder = real.answer(real.ask().path)
    before = real.read("pki.yaml")
    opened = os.open

    def refuse(path: str | Path, *given: int) -> int:
        if str(path).endswith(".pki.yaml.new"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *given)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PkiError, match=r"pki\.yaml: cannot be written: Permission denied"):
        real.accept(folder)
    monkeypatch.undo()
    assert not real.project().store.generations("root")
    assert real.project().ledger.certificates() == []
    real.write("pki.yaml", f"{before.decode()}\nroots: [{named(folder)}]\n")  # by hand
    real.accept(folder)
    assert real.project().inventory.roots == (fingerprint(real, "root-1"),)


def named(folder: Path) -> str:
    return accept_response.fingerprint(verify_response.read_response(folder).certificates["root-1", "root-1"])


STEPS: dict[str, Callable[[Path], bool]] = {
    "before the first certificate": lambda path: path.name == "cert.pem" and "server" in str(path),
    "before the root": lambda path: path.name == "cert.pem" and "root-1" in str(path),
    "before pki.yaml": lambda path: path.name == "pki.yaml",
    "before the response": lambda path: path.name == "response.yaml",
}


@pytest.mark.parametrize("step", STEPS)
def test_accepting_that_was_killed_is_repeated_and_ends_with_the_root_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = real_home(tmp_path)
    folder = real.answer(real.ask().path)
    replace = os.replace

    def killed(old: Path, new: Path) -> None:
        if STEPS[step](Path(new)):
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        real.accept(folder)
    monkeypatch.undo()
    assert (real.project().store.home / "ca/ceremonies/0001/response.yaml").exists() is False
    real.accept(folder)
    assert real.project().inventory.roots == (fingerprint(real, "root-1"),)
    assert real.doit().status == 0
