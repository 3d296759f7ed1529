"""A project uses the program's templates, unless it has a file with the same path, or leaves them out in pki.yaml."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pki.common import template_folders
from pki.common.errors import PkiError
from pki.common.template_folders import TemplateFolders
from pki.common.templating import Templates
from pki.deploy import release
from tests.support.projects import PROJECT, Home

OURS = "nginx/pki-services.conf"


@pytest.fixture
def bare(home: Home) -> Home:
    """A built project whose folder templates/ has no file; its hosts get the program's templates."""
    shutil.rmtree(home.path / "templates")
    (home.path / "templates").mkdir()
    return home


def managed(home: Home, host: str = "monitoring") -> dict[str, bytes]:
    """Return managed file → content in the release of a host."""
    found = release.load(home.project().store.release(host))
    assert found
    files = home.project().store.release(host) / "files"
    return {file.managed: (files / file.path.lstrip("/")).read_bytes() for file in found.files}


def test_the_program_s_templates_make_the_same_files_as_copies_of_them(bare: Home) -> None:
    assert bare.doit().made == {}


def test_a_file_of_the_project_replaces_that_of_the_program_until_it_is_removed(bare: Home) -> None:
    theirs = (PROJECT / "templates" / OURS).read_text()
    path = bare.write(f"templates/{OURS}", f"{theirs}# mine\n")
    assert set(bare.doit().made) == {"release:monitoring", "deploy:monitoring"}
    assert b"# mine" in b"".join(managed(bare).values())
    path.unlink()
    assert set(bare.doit().made) == {"release:monitoring", "deploy:monitoring"}
    assert b"# mine" not in b"".join(managed(bare).values())


def test_templates_that_are_left_out_are_not_delivered(bare: Home) -> None:
    before = set(managed(bare))
    text = bare.read("pki.yaml").decode()
    bare.write("pki.yaml", f"{text}templates: {{without: {OURS}}}\n")
    assert set(bare.doit().made) == {"release:monitoring", "deploy:monitoring"}
    assert before - set(managed(bare)) == {OURS}
    bare.write("pki.yaml", f"{text}templates: {{without: all}}\n")
    bare.write("templates/mine.conf", "# deploy-target: /etc/mine\n# deploy-hosts: monitoring\nmine\n")
    assert bare.doit().status == 0
    assert set(managed(bare)) == {"mine.conf"}


def test_a_newer_template_of_the_program_makes_releases_again(
    bare: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    shutil.copytree(PROJECT / "templates", program)
    monkeypatch.setattr("pki.project.project_templates.PROGRAM_TEMPLATES", program)
    assert bare.doit().made == {}
    sources = next(artifact for artifact in bare.plan().artifacts if str(artifact.id) == "release:monitoring").sources
    assert str(program / OURS) in sources
    with (program / OURS).open("a") as file:
        file.write("# newer\n")
    assert set(bare.doit().made) == {"release:monitoring", "deploy:monitoring"}


def test_a_template_includes_others_of_the_project_and_of_the_program(bare: Home) -> None:
    bare.write("templates/mine.conf", f"# deploy-target: /etc/mine\n# deploy-hosts: media\n{{% include '{OURS}' %}}\n")
    assert "release:media" in bare.doit().made
    assert b"proxy" in managed(bare, "media")["mine.conf"]
    bare.write(f"templates/{OURS}", "# {{ inventory.organisation }}\n")
    assert "release:media" in bare.doit().made
    assert managed(bare, "media")["mine.conf"].endswith(b"# Example Lab\n")


def test_a_fault_of_the_program_s_template_says_how_to_change_it(bare: Home) -> None:
    with pytest.raises(PkiError, match="is undefined") as caught:
        Templates(bare.project().templates).render(OURS, {})
    assert caught.value.hint.endswith(f"./run invoke templates.eject {OURS}")


# -- what cannot be read ----------------------------------------------------------------------------------------------


def own(tmp_path: Path, *names: str) -> TemplateFolders:
    """Return a project with some files, over a program with `a/one.conf` and `b/two.conf`."""
    program, project = tmp_path / "program", tmp_path / "project"
    for name in ("program/a/one.conf", "program/b/two.conf", *(f"project/{name}" for name in names)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    project.mkdir(exist_ok=True)
    return TemplateFolders(project, program)


def test_each_path_is_used_once_and_that_of_the_project_first(tmp_path: Path) -> None:
    folders = own(tmp_path, "a/one.conf", "c.conf", ".hidden", "b/two.conf~")
    assert [(file.name, file.folder.name) for file in folders.files()] == [
        ("a/one.conf", "project"),
        ("b/two.conf", "program"),
        ("c.conf", "project"),
    ]
    assert folders.path("b/two.conf").read_text() == "program/b/two.conf"
    assert folders.path("gone.conf") == tmp_path / "project/gone.conf"
    assert folders.path("/etc/passwd").is_relative_to(tmp_path / "project")


def test_a_dangling_link_of_the_project_is_its_file(tmp_path: Path) -> None:
    folders = own(tmp_path, "a/x")
    (folders.project / "a/one.conf").symlink_to("nowhere")
    assert [file.folder.name for file in folders.files() if file.name == "a/one.conf"] == ["project"]
    assert folders.folder_of("a/one.conf") == folders.project


def test_below_a_folder_that_is_a_link_nothing_of_the_program_is_used(tmp_path: Path) -> None:
    folders = own(tmp_path)
    (folders.project / "a").symlink_to(tmp_path)
    assert [(file.name, bool(file.fault)) for file in folders.files()] == [("a", True), ("b/two.conf", False)]


def test_a_folder_that_cannot_be_entered_hides_no_file_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, lstat = own(tmp_path, "a/x"), os.lstat

    def refuse(path: object, **options: object) -> os.stat_result:
        if str(path).endswith("project/a/one.conf"):
            raise PermissionError(13, "Permission denied")
        return lstat(path, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(template_folders.os, "lstat", refuse)
    [fault] = [file.fault for file in folders.files() if file.name == "a/one.conf"]
    assert fault
    assert fault.message == "templates/a/one.conf: cannot be read: Permission denied"
    assert folders.folder_of("a/one.conf") == folders.project


def test_the_clone_s_own_project_has_the_program_s_templates_once() -> None:
    folders = TemplateFolders(PROJECT / "templates", PROJECT / "templates")
    assert {file.folder for file in folders.files()} == {PROJECT / "templates"}
    assert folders.offered() == frozenset()
