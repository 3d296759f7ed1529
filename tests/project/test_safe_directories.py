"""Whose project it is: one of another account is refused before anything of it is read, and nobody honest is shut out."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.monitor.check_result import Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from pki.monitor.report.run import Run
from pki.project import safe_directories
from pki.project.safe_directories import PARTS, VARIABLE, check_owner, writable_by_others
from tests.support.commands import said_by
from tests.support.projects import START, Home

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")
every_part = pytest.mark.parametrize("part", PARTS, ids=["folder", "pki.yaml", "templates", "ca"])


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home folder of whoever runs the tests, as if from a plain login."""
    folder = tmp_path / "account"
    folder.mkdir()
    for name in (VARIABLE, "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def project_at(tmp_path: Path) -> Path:
    """What a project is made of, as far as it matters here."""
    path = tmp_path / "project"
    for folder in (path, path / "templates", path / "ca"):
        folder.mkdir(mode=0o755)
    (path / "pki.yaml").write_text("not: [read\n")
    return path


def refusal(project_at: Path) -> PkiError:
    with pytest.raises(PkiError) as refused:
        check_owner(project_at)
    return refused.value


def seen(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        yield str(path), path.lstat().st_mtime_ns


# -- another account --------------------------------------------------------------------------------------------------


@as_root
@every_part
def test_a_project_of_another_account_is_refused_with_its_owner_and_the_command_that_allows_it(
    project_at: Path, part: str
) -> None:
    os.chown(project_at / part, NOBODY, NOBODY)
    error = refusal(project_at)
    assert error.message == (
        f"the project of another account is not read: {project_at / part} belongs to nobody; this account is root"
    )
    assert error.hint == (
        f"if you trust its owner: mkdir -p ~/.config/doit-pki && echo {project_at} >> ~/.config/doit-pki/safe-directories"
    )


@as_root
def test_what_the_refusal_says_allows_the_project_and_no_other(project_at: Path, account: Path, tmp_path: Path) -> None:
    odd = (tmp_path / "it's a $(touch x) project").resolve()
    project_at.rename(odd)
    (tmp_path / "other").mkdir()
    for one in (odd, tmp_path / "other"):
        os.chown(one, NOBODY, NOBODY)
    command = refusal(odd).hint.partition(": ")[2]
    for _ in range(2):  # the folder may be there already
        subprocess.run(["sh", "-c", command], check=True, cwd=account)
    check_owner(odd)
    refusal(tmp_path / "other")
    assert not (account / "x").exists()


@as_root
@pytest.mark.parametrize("command", ["plan", "status", "health", "timeline", "backup x", "ledger.list", "client.list"])
def test_no_command_reads_or_writes_the_project_of_another_account(
    home: Home, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = home.path.parent / "run"
    home.write(
        "templates/x", f"# deploy-target: /x\n# deploy-hosts: {{{{ lipsum.__globals__.os.system('touch {mark}') }}}}\n"
    )
    os.chown(home.path, NOBODY, NOBODY)
    before = list(seen(home.path))
    said = said_by(capsys, *command.split(), pki_home=str(home.path), pki_now=home.moment())
    assert said.status == 1
    assert "the project of another account is not read" in said.error
    assert list(seen(home.path)) == before
    assert not mark.exists()


@as_root
@pytest.mark.parametrize("arguments", [[], ["list"], ["info", "cert:media"], ["--clock-is-right"]])
def test_doit_reads_and_writes_nothing_of_another_account_and_tells_nobody(
    home: Home, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(home.path / "templates", NOBODY, NOBODY)
    before = list(seen(home.path))
    assert Run(home.path, home.moment(200)).main(arguments) == 3
    assert "nothing was done: the project of another account is not read" in capsys.readouterr().err
    assert list(seen(home.path)) == before


@as_root
def test_a_backup_is_not_restored_over_the_project_of_another_account(
    project_at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    said = said_by(capsys, "restore", str(project_at / "pki.yaml"), "--to", str(project_at), pki_now=START)
    assert said.status == 1
    assert "the project of another account is not read" in said.error


@as_root
@pytest.mark.parametrize("command", ["--help", "--version", "--list", "schema", "plan --help"])
def test_commands_that_read_no_project_are_exempt(
    project_at: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    assert said_by(capsys, *command.split(), pki_home=str(project_at), pki_now=START).status == 0


@as_root
def test_a_new_project_is_made_beside_one_of_another_account(
    project_at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    settings = {"pki_home": str(project_at), "pki_now": START, "pki_called_from": str(tmp_path)}
    said = said_by(capsys, "init", "new", "--yes", "--organisation", "Lab", "--domain", "lab.internal", **settings)
    assert said.status == 0, said
    assert (tmp_path / "new/pki.yaml").exists()


# -- whose projects are read ------------------------------------------------------------------------------------------


@as_root
@every_part
def test_root_reads_under_sudo_what_belongs_to_the_account_that_typed_it(
    project_at: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(project_at / part, NOBODY, NOBODY)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    check_owner(project_at)
    for other in ("1000", "", "65534x", "-1", "0"):
        monkeypatch.setenv("SUDO_UID", other)
        refusal(project_at)


@as_root
def test_sudo_to_an_account_other_than_root_lends_it_no_trust(
    project_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(project_at, 1000, 1000)
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert "sudo -u nobody sh -c " in refusal(project_at).hint


@as_root
def test_every_account_reads_its_own_project_and_one_of_root(project_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    check_owner(project_at)
    for part in PARTS:
        os.chown(project_at / part, NOBODY, NOBODY)
    check_owner(project_at)
    os.chown(project_at / "ca", 54321, 54321)
    assert f"{project_at}/ca belongs to 54321; this account is nobody" in refusal(project_at).message


@as_root
@pytest.mark.parametrize("named", ["*", "/elsewhere:{0}", "{0}/", "{0}/../project:", "{0}/ca/.."])
def test_the_environment_names_safe_directories(project_at: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    monkeypatch.setenv(VARIABLE, named.format(project_at))
    check_owner(project_at)


@as_root
@pytest.mark.parametrize("named", ["", ":", "/", "/elsewhere", "{0}/templates", "{0}x", "**"])
def test_what_names_another_folder_allows_nothing(
    project_at: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    monkeypatch.setenv(VARIABLE, named.format(project_at))
    refusal(project_at)


def name_in_file(account: Path, text: str) -> Path:
    path = account / safe_directories.LIST_FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@as_root
@pytest.mark.parametrize(
    ("line", "is_safe"), [("{0}", True), ("*", True), ("# {0}", False), ("{0}x", False), ("", False)]
)
def test_the_file_names_safe_directories_one_on_each_line(
    project_at: Path, account: Path, line: str, is_safe: bool
) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    name_in_file(account, f"# mine\n/elsewhere\n\n{line.format(project_at)}\n")
    check_owner(project_at) if is_safe else refusal(project_at)


@as_root
def test_a_file_of_names_that_is_none_or_holds_odd_lines_is_no_traceback(project_at: Path, account: Path) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    path = name_in_file(account, f"\0\n\xff\n~\n..\n{project_at}x\n")
    refusal(project_at)
    path.unlink()
    path.mkdir()
    refusal(project_at)


@as_root
def test_without_a_home_folder_the_command_names_the_file_in_full(
    project_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    os.chown(project_at, NOBODY, NOBODY)
    file = f"{pwd.getpwuid(0).pw_dir}/{safe_directories.LIST_FILE}"
    said = f"if you trust its owner: mkdir -p {os.path.dirname(file)} && echo {project_at} >> {file}"
    assert refusal(project_at).hint == said


@as_root
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_file_that_others_can_write_names_nothing(project_at: Path, account: Path, how: str) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    path = name_in_file(account, f"{project_at}\n")
    os.chown(path, NOBODY, NOBODY) if how == "owner" else path.chmod(0o666)
    assert refusal(project_at).message == f"{path}: belongs to another account, or every user can write it"


@as_root
def test_under_sudo_the_file_is_that_of_root_and_the_command_says_so(
    project_at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    entry = pwd.struct_passwd(("root", "x", 0, 0, "", str(root), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    monkeypatch.setenv("SUDO_UID", "1000")
    os.chown(project_at, NOBODY, NOBODY)
    command = refusal(project_at).hint.partition(": ")[2]
    assert command.startswith("sudo sh -c ")
    subprocess.run(["sh", "-c", command.removeprefix("sudo ")], check=True)
    assert (root / safe_directories.LIST_FILE).read_text() == f"{project_at}\n"
    check_owner(project_at)


@as_root
def test_a_link_to_a_project_is_that_project(project_at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(project_at)
    os.chown(project_at, NOBODY, NOBODY)
    assert f"echo {project_at} >> " in refusal(link).hint
    for name in (link, project_at):
        monkeypatch.setenv(VARIABLE, str(name))
        check_owner(link)
        check_owner(project_at)


@as_root
def test_a_part_that_is_a_link_is_judged_by_what_it_leads_to(project_at: Path, tmp_path: Path) -> None:
    (project_at / "templates").rename(tmp_path / "shared")
    (project_at / "templates").symlink_to(tmp_path / "shared")
    check_owner(project_at)
    os.chown(tmp_path / "shared", NOBODY, NOBODY)
    assert f"{project_at}/templates belongs to nobody" in refusal(project_at).message


@as_root
def test_a_relative_project_is_named_by_its_whole_path(project_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(project_at, NOBODY, NOBODY)
    monkeypatch.chdir(project_at.parent)
    assert f"echo {project_at} >> " in refusal(Path("project")).hint
    monkeypatch.setenv(VARIABLE, str(project_at))
    check_owner(Path("project"))
    monkeypatch.chdir(project_at)
    check_owner(Path("."))


def test_a_folder_that_is_no_project_yet_is_told_as_before(tmp_path: Path) -> None:
    check_owner(tmp_path / "nothing")


# -- what every user, or a group, can write ---------------------------------------------------------------------------


@every_part
@pytest.mark.parametrize("named", ["", "*"])
def test_a_project_that_every_user_can_write_is_refused_until_it_is_closed(
    project_at: Path, part: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, named)
    path = project_at / part
    path.chmod(path.stat().st_mode | 0o1002 if path.is_dir() else 0o666)
    error = refusal(project_at)
    assert error.message == f"{path} can be written by every user of this machine"
    subprocess.run(["sh", "-c", error.hint.partition("then: ")[2]], check=True)
    check_owner(project_at)


@as_root
def test_all_that_is_wrong_with_a_project_is_said_at_once(project_at: Path) -> None:
    for part in PARTS:
        (project_at / part).chmod(0o777)
        os.chown(project_at / part, NOBODY, NOBODY)
    said = refusal(project_at)
    assert len(said.message.splitlines()) == 2
    assert all(said.message.count(f"{project_at / part}") >= 2 for part in PARTS)


def group(monkeypatch: pytest.MonkeyPatch, name: str, *members: str) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group((name, "x", number, list(members))))


@every_part
def test_what_a_group_can_write_is_a_warning_of_health_and_no_refusal(
    home: Home, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(monkeypatch, "staff", "eve")
    for one in PARTS:
        (home.path / one).chmod((home.path / one).stat().st_mode & ~0o022)
    (home.path / part).chmod((home.path / part).stat().st_mode | 0o020)
    project = home.project()
    found = health_report.run_checks(project, home.plan(), LastRun.load(project.store))
    [told] = [one for one in found if one.topic == "project"]
    assert (told.level, told.message) == (Level.WARNING, "can be written by the group staff")
    subprocess.run(["sh", "-c", told.remedy], check=True)
    assert list(writable_by_others(home.path)) == []


def test_a_group_of_its_own_is_quiet_as_with_a_umask_of_002(project_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(project_at.stat().st_uid).pw_name
    for part in PARTS:
        (project_at / part).chmod((project_at / part).stat().st_mode | 0o020)
    for members in ((), (me,)):
        group(monkeypatch, me, *members)
        check_owner(project_at)
        assert list(writable_by_others(project_at)) == []
    group(monkeypatch, me, me, "eve")
    assert len(list(writable_by_others(project_at))) == len(PARTS)


def test_a_folder_above_in_which_every_user_may_exchange_the_project_is_a_warning(project_at: Path) -> None:
    project_at.parent.chmod(0o1777)
    assert list(writable_by_others(project_at)) == []
    project_at.parent.chmod(0o777)
    [(path, text, remedy)] = writable_by_others(project_at)
    assert path == str(project_at.parent)
    assert text == f"can be written by every user, who can put another folder in the place of {project_at}"
    subprocess.run(["sh", "-c", remedy.rpartition("or: ")[2]], check=True)
    assert list(writable_by_others(project_at)) == []
