"""The program's templates: which of them a project has, changed, or should compare with a newer version."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pki import __version__
from pki.common.template_folders import TemplateFolders
from pki.config import scaffold, template_versions
from pki.config.template_versions import Original
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import PROJECT, START, Home, bare_home

NAME = "nginx/pki-drain.conf"
FILE = f"templates/{NAME}"


@pytest.fixture
def project(tmp_path: Path) -> Home:
    """A project before its first run, with templates of which none is recorded."""
    return bare_home(tmp_path / "project")


@pytest.fixture
def invoke(project: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(project.path), pki_now=START)

    return call


@pytest.fixture
def invoke_home(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=START)

    return call


def row(said: Said, name: str = NAME) -> list[str]:
    """Return the cells of one template in the output of templates.list."""
    line = next(line for line in said.out.splitlines() if line.startswith(f"{name} "))
    return line.split("  ", 1)[0:1] + [cell.strip() for cell in line.split("  ")[1:] if cell.strip()]


def without(home: Home, *names: str) -> None:
    """Let pki.yaml leave out templates of the program."""
    home.write("pki.yaml", f"{home.read('pki.yaml').decode()}templates: {{without: [{', '.join(names)}]}}\n")


def copied_from(home: Home, text: str, version: str = "0.1.0", name: str = NAME) -> None:
    """Record that the template was copied from an older version with this text."""
    record = template_versions.encode_originals({name: Original(version, text.encode())})
    home.write("templates/.versions.json", record.decode())


def older() -> str:
    """Return the text of the template in a version before this one."""
    return f"# of an older version\n{(PROJECT / FILE).read_text()}"


# -- templates.list ---------------------------------------------------------------------------------------------------


def test_the_list_names_the_origin_of_each_template(project: Home, invoke: Invoke) -> None:
    for name in ("tls/tls.pem", "grafana/doit-pki.json"):
        (project.path / "templates" / name).unlink()
    without(project, "grafana/doit-pki.json")
    project.write("templates/mine.conf", "mine\n")
    project.edit("deploy-target", "deploy-target ", FILE)
    said = invoke("templates.list")
    assert said.status == 0, said.error
    assert row(said) == [NAME, "project", "changed", "unknown"]
    assert row(said, "caddy/Caddyfile") == ["caddy/Caddyfile", "project", "unchanged copy", __version__]
    assert row(said, "tls/tls.pem") == ["tls/tls.pem", "program", __version__]
    assert row(said, "grafana/doit-pki.json") == ["grafana/doit-pki.json", "without", "not used"]
    assert row(said, "mine.conf") == ["mine.conf", "project"]


@pytest.mark.parametrize(("mine", "state"), [("", "unchanged copy"), ("# mine\n", "changed")])
def test_the_list_shows_that_the_program_has_a_newer_version(
    project: Home, invoke: Invoke, mine: str, state: str
) -> None:
    project.write(FILE, older() + mine)
    copied_from(project, older())
    assert row(invoke("templates.list")) == [NAME, "project", f"{state}; the program has a newer version", "0.1.0"]


# -- templates.diff ---------------------------------------------------------------------------------------------------


def test_the_diff_shows_what_the_project_changed(project: Home, invoke: Invoke) -> None:
    assert invoke("templates.diff").out == "no template differs from the program's\n"
    assert invoke("templates.diff", NAME).out == "it is equal to the program's\n"
    project.write(FILE, (PROJECT / FILE).read_text() + "# mine \x1b[2J\n")
    for said in (invoke("templates.diff"), invoke("templates.diff", FILE)):
        assert said.status == 0, said.error
        assert said.out.startswith(f"--- {NAME} (program {__version__})\n+++ {NAME} (project)\n@@ ")
        assert "\n+# mine \\x1b[2J\n" in said.out


def test_a_private_key_in_a_template_is_never_shown(project: Home, invoke: Invoke) -> None:
    project.write(FILE, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n")
    said = invoke("templates.diff")
    assert "MC4C" not in said.out
    assert said.out.endswith("differ, and have a private key\n")


def test_a_template_that_one_side_lacks_is_an_error_where_it_is_named(project: Home, invoke: Invoke) -> None:
    (project.path / FILE).unlink()
    project.write("templates/mine.conf", "mine\n")
    said = invoke("templates.diff", NAME)
    assert (said.status, said.error.splitlines()[0]) == (1, f"{FILE}: is not in the project")
    assert said.error.endswith(f"run invoke templates.eject {NAME}\n")
    assert invoke("templates.accept", NAME).error.startswith(f"{FILE}: does not exist\n")
    said = invoke("templates.diff", "mine.conf")
    assert said.error.startswith("templates/mine.conf: the program has no such template\n")
    assert invoke("templates.diff").out == "no template differs from the program's\n"


def test_a_template_of_very_many_lines_is_not_compared(project: Home, invoke: Invoke) -> None:
    project.write(FILE, "line\n" * 10_000)
    assert invoke("templates.diff", NAME).out.endswith("(project): differ, and have more than 10000 lines\n")


def test_a_link_to_a_file_outside_is_not_read(project: Home, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("secret\n")
    (project.path / FILE).unlink()
    (project.path / FILE).symlink_to(tmp_path / "shadow")
    said = invoke("templates.diff")
    assert said.status == 1
    assert said.error.startswith(f"{FILE}: is a link to {tmp_path}/shadow, outside templates/")
    assert "secret" not in said.out + said.error


def test_a_newer_version_is_compared_three_ways(project: Home, invoke: Invoke) -> None:
    project.write(FILE, f"{older()}# mine\n")
    copied_from(project, older())
    out = invoke("templates.diff", NAME).out
    program, ours = out.split(f"--- {NAME} (program 0.1.0, as copied)\n")[1:]
    assert program.startswith(f"+++ {NAME} (program {__version__})\n")
    assert "\n-# of an older version\n" in program
    assert "mine" not in program
    assert ours.startswith(f"+++ {NAME} (project)\n")
    assert "\n+# mine\n" in ours
    assert out.endswith(f"run invoke templates.accept {NAME}\n")


def test_an_unchanged_copy_of_an_older_version_is_replaced_by_the_printed_command(
    project: Home, invoke: Invoke
) -> None:
    project.write(FILE, older())
    copied_from(project, older())
    command = invoke("templates.diff").out.splitlines()[-1].partition(" invoke ")[2]
    assert invoke(*command.split()).status == 0
    assert not (project.path / "templates/nginx/pki-drain.conf").exists()
    assert json.loads(project.read("templates/.versions.json")) == {}
    assert row(invoke("templates.list")) == [NAME, "program", __version__]


# -- templates.remove-copies ------------------------------------------------------------------------------------------


def test_unchanged_copies_are_removed_and_hosts_get_the_same(home: Home, invoke_home: Invoke) -> None:
    home.write(FILE, f"{older()}# mine\n")
    home.write("templates/publish/ca.pem", "# of an earlier version\n")
    copied_from(home, "# of an earlier version\n", name="publish/ca.pem")
    assert home.doit().status == 0
    said = invoke_home("templates.remove-copies")
    assert said.status == 0, said.error
    copied = [name for name in template_versions.program_templates() if not name.startswith("recipes/")]
    assert said.out.count("removed") == len(copied) - 2
    assert "1 unchanged copies of an earlier version stay" in said.out
    left = sorted(str(path.relative_to(home.path)) for path in (home.path / "templates").rglob("*") if path.is_file())
    assert left == ["templates/.versions.json", FILE, "templates/publish/ca.pem"]
    assert home.doit().made == {}
    assert invoke_home("templates.remove-copies", "--outdated").out.count("removed") == 1
    assert not (home.path / "templates/publish").exists()


def test_copies_stay_until_it_is_recorded_what_an_older_project_lacks(project: Home, invoke: Invoke) -> None:
    said = invoke("templates.remove-copies")
    assert (said.status, said.error.splitlines()[0]) == (1, "this version has not run here yet")
    assert (project.path / FILE).exists()


def test_a_copy_that_is_left_out_otherwise_is_never_removed(home: Home, invoke_home: Invoke) -> None:
    without(home, "caddy/Caddyfile")
    assert invoke_home("templates.remove-copies", "caddy/Caddyfile").out.startswith("no unchanged copy")
    assert (home.path / "templates/caddy/Caddyfile").exists()


# -- templates.diff --three-way ---------------------------------------------------------------------------------------


def test_a_merge_never_lands_in_templates_by_itself(project: Home, invoke: Invoke, tmp_path: Path) -> None:
    base = (PROJECT / FILE).read_text()
    project.write(FILE, f"{older()}# mine\n")
    copied_from(project, older())
    said = invoke("templates.diff", NAME, "--three-way")
    assert said.status == 0, said.error
    assert said.out.startswith(f"{base}# mine\n→ no conflict")
    merged = str(tmp_path / "merged.conf")
    said = invoke("templates.diff", NAME, "--three-way", "--output", merged)
    assert (tmp_path / "merged.conf").read_text() == f"{base}# mine\n"
    assert project.read(FILE).decode() == f"{older()}# mine\n"
    for place, fault in ((merged, "exists already"), (f"{project.path}/templates/x.conf", "is in templates/")):
        assert fault in invoke("templates.diff", NAME, "--output", place).error


def test_a_conflict_shows_the_text_that_was_copied_ours_and_the_program_s(project: Home, invoke: Invoke) -> None:
    first, _, rest = (PROJECT / FILE).read_text().partition("\n")
    project.write(FILE, f"# of mine\n{rest}")
    copied_from(project, f"# copied\n{rest}")
    assert invoke("templates.diff", NAME, "--three-way").out.startswith(
        f"<<<<<<< {NAME} (project)\n# of mine\n||||||| {NAME} (program 0.1.0, as copied)\n# copied\n=======\n{first}\n"
        f">>>>>>> {NAME} (program {__version__})\n"
    )
    assert "→ 1 conflict; " in invoke("templates.diff", NAME, "--three-way").out


def test_three_versions_need_git_and_a_record(project: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(FILE, "mine\n")
    assert "the version that it was copied from is not recorded" in invoke("templates.diff", NAME, "--three-way").error
    copied_from(project, older())
    monkeypatch.setenv("PATH", "/nowhere")
    assert invoke("templates.diff", NAME, "--three-way").error.startswith("git is not installed")
    assert invoke("templates.diff", "--three-way").error.startswith("--three-way needs the name of one template")


# -- templates.eject --------------------------------------------------------------------------------------------------


def test_eject_copies_one_template_and_records_its_version(project: Home, invoke: Invoke) -> None:
    (project.path / FILE).unlink()
    said = invoke("templates.eject", FILE)
    assert said.status == 0, said.error
    assert project.read(FILE) == (PROJECT / FILE).read_bytes()
    record = json.loads(project.read("templates/.versions.json"))
    assert record == {NAME: {"version": __version__, "text": (PROJECT / FILE).read_text()}}


def test_eject_overwrites_nothing(project: Home, invoke: Invoke) -> None:
    project.write(FILE, "mine\n")
    said = invoke("templates.eject", NAME)
    assert (said.status, said.error.splitlines()[0]) == (1, f"{FILE}: exists already, and is never overwritten")
    assert project.read(FILE) == b"mine\n"
    (project.path / FILE).unlink()
    (project.path / FILE).symlink_to("nowhere")
    assert "exists already" in invoke("templates.eject", NAME).error
    assert (project.path / FILE).is_symlink()
    assert not (project.path / "templates/.versions.json").exists()


def test_eject_does_not_create_the_folder_whose_absence_protects_deployed_files(project: Home, invoke: Invoke) -> None:
    (project.path / "templates").rename(project.path / "aside")
    assert row(invoke("templates.list")) == [NAME, "program", __version__]
    said = invoke("templates.eject", NAME)
    assert (said.status, said.error.splitlines()[0]) == (1, "templates/ is missing")
    assert not (project.path / "templates").exists()


def test_eject_writes_nothing_outside_of_the_project(project: Home, invoke: Invoke, tmp_path: Path) -> None:
    (project.path / "templates/nginx").rename(tmp_path / "nginx")
    (project.path / "templates/nginx").symlink_to(tmp_path / "nginx")
    (tmp_path / "nginx/pki-drain.conf").unlink()
    assert "outside templates/" in invoke("templates.eject", NAME).error
    assert not (tmp_path / "nginx/pki-drain.conf").exists()


@pytest.mark.parametrize("command", ["eject", "diff", "accept"])
def test_an_unknown_template_is_refused_with_the_closest_name(invoke: Invoke, command: str) -> None:
    said = invoke(f"templates.{command}", "nginx/drain.conf")
    assert said.status == 1
    assert said.error == f"unknown template 'nginx/drain.conf'\n→ did you mean {NAME}?\n"
    assert "defined: apache/pki-services.conf, " in invoke(f"templates.{command}", "../../../etc/passwd").error


# -- newer versions ---------------------------------------------------------------------------------------------------


def test_plan_and_health_report_a_newer_version_until_it_is_accepted(project: Home, invoke: Invoke) -> None:
    project.write(FILE, f"{older()}# mine\n")
    copied_from(project, older())
    text = "is based on version 0.1.0; the program has a newer one"
    for command in ("plan", "health"):
        line, remedy = invoke(command).out.partition(FILE)[2].splitlines()[:2]
        assert line.strip() == text, command
        assert remedy.endswith(f"run invoke templates.diff {NAME} --three-way"), command
    assert invoke("templates.accept", NAME).status == 0
    assert project.read(FILE).endswith(b"# mine\n")
    for command in ("plan", "health"):
        assert text not in invoke(command).out, command
    assert row(invoke("templates.list")) == [NAME, "project", "changed", __version__]


def test_only_templates_with_an_older_original_are_reported(project: Home) -> None:
    templates = TemplateFolders(project.path / "templates")
    assert list(template_versions.notices(templates)) == []
    copied_from(project, older())  # the project has the newer one already
    assert list(template_versions.notices(templates)) == []
    (project.path / FILE).unlink()
    assert list(template_versions.notices(templates)) == []
    copied_from(project, (PROJECT / FILE).read_text(), __version__)
    project.write(FILE, "mine\n")
    assert list(template_versions.notices(templates)) == []


def test_templates_that_are_no_text_are_recorded_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "logo").write_bytes(b"\x89PNG\xff\x00")
    os.mkfifo(tmp_path / "pipe")  # reading it would block
    templates = template_versions.program_templates(tmp_path)
    assert templates == {"logo": b"\x89PNG\xff\x00"}
    record = template_versions.encode_originals(template_versions.originals_of(templates))
    (tmp_path / ".versions.json").write_bytes(record)
    assert template_versions.read_originals(tmp_path)["logo"].content == templates["logo"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"version": "1", "text": "\\ud800"}}',
        "{",
        "[]",
        "7",
        '{"a": 1}',
        '{"a": {"version": "0.1.0"}}',
        "[" * 5000,
    ],
)
def test_a_damaged_record_is_reported_and_stops_nothing(project: Home, invoke: Invoke, text: str) -> None:
    project.write("templates/.versions.json", text)
    (notice,) = template_versions.notices(TemplateFolders(project.path / "templates"))
    assert (notice.subject, notice.text) == ("templates/.versions.json", "templates/.versions.json: is damaged")
    (project.path / FILE).unlink()
    assert invoke("templates.eject", NAME).status == 1
    assert not (project.path / FILE).exists()


def test_a_new_project_has_no_copies(tmp_path: Path) -> None:
    tree = {"organisation": "Lab", "domains": [], "publish": {"url": "", "host": ""}, "networks": {}, "hosts": {}}
    files = scaffold.project_files(tmp_path, {**tree, "clients": {}}, PROJECT)
    assert {name: content for name, (content, _) in files.items() if name.startswith("templates/")} == {
        "templates/.versions.json": b"{}\n"
    }
