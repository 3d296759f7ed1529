"""The installed program: a wheel in an environment of its own, without the clone, from `init` to an upgrade."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from pki import __version__
from pki.cli.collection import COMMANDS, GROUPS
from pki.common.program_files import program_files
from tests.documentation import man_page
from tests.support.projects import PROJECT

BUILD = """
import os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, sys.argv[1])
from pki.common import wheel
print(getattr(wheel, sys.argv[2])(sys.argv[3]))
"""
SYSTEM = "/usr/bin:/bin"
CANNOT_IMPORT = "doit-pki cannot be imported here; type ./run doit, or activate its environment first"


def build(source: Path, what: str, folder: Path) -> Path:
    """Build a wheel or an sdist as pip does, without a network."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BUILD, source, what, folder], capture_output=True, text=True, check=True
    )
    return folder / done.stdout.splitlines()[-1]


@dataclass(frozen=True)
class Installation:
    """An environment with the program, and a project that it created."""

    environment: Path
    project: Path

    def install(self, wheel: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.environment / "bin/python"), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", "--force-reinstall", wheel], check=True, capture_output=True)

    def type(
        self, line: str, cwd: Path | None = None, *, path: str = "", more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Type a line in a shell that finds the installed command, or in `path`, and no clone."""
        env = {"PATH": path or f"{self.environment}/bin:{SYSTEM}", "HOME": "/nonexistent", **(more or {})}
        return subprocess.run(
            ["sh", "-c", line], cwd=cwd or self.project, env=env, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree in the sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(PROJECT, "build_sdist", folder)) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"doit_pki-{__version__}"


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The wheel in an environment that borrows the packages of this one, and a sandbox that it has built."""
    folder = tmp_path_factory.mktemp("installed")
    made = Installation(folder / "env", folder / "my project")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made.environment], check=True)
    packages = made.environment / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    made.install(wheel)
    done = made.type("doit-pki init 'my project' --yes --sandbox", folder)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^  ((?:cd|doit-pki doit\b).*)$", done.stdout, re.MULTILINE)
    done = made.type(" && ".join(commands), folder)
    assert done.returncode == 0, done.stderr
    assert "deployed  deploy:pki" in done.stdout
    yield made
    shutil.rmtree(folder)


def test_wheel_holds_each_file_of_the_program(source: Path, wheel: Path) -> None:
    """It is built from the sdist, so both are complete."""
    assert {path.name for path in PROJECT.glob("*.md")} <= {path.name for path in source.iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        run = archive.getinfo("pki/program/run")
    page = f"doit_pki-{__version__}.data/data/share/man/man1/doit-pki.1"
    assert names == {page, *(name if name.startswith("pki/") else f"pki/program/{name}" for name in program_files())}
    assert run.external_attr >> 16 & 0o111


@pytest.mark.parametrize(
    "typed", ["doit-pki doit", "./run doit", "python -m doit", "python -m doit -n 2", "../env/bin/doit-pki doit"]
)
def test_nothing_is_left_to_do_however_it_is_started(installed: Installation, typed: str) -> None:
    done = installed.type(typed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "typed", ["doit-pki plan", "doit-pki invoke plan", "./run invoke plan", "python -m invoke plan"]
)
def test_a_command_is_typed_as_it_is_started(installed: Installation, typed: str) -> None:
    done = installed.type(typed)
    assert (done.returncode, done.stdout) == (0, "13 tasks up to date\n"), done.stderr


def test_each_hint_can_be_typed_where_it_is_read(installed: Installation, tmp_path: Path) -> None:
    """In the project, below it, elsewhere, and where a shell does not find the command."""
    named = {"PKI_HOME": str(installed.project)}
    for cwd, path, more, hint in (
        (installed.project, "", {}, "doit-pki ledger.list"),
        (installed.project / "templates", "", {}, "doit-pki ledger.list"),
        (tmp_path, "", named, f"PKI_HOME={shlex.quote(str(installed.project))} doit-pki ledger.list"),
        (installed.project, SYSTEM, {}, f"{installed.environment}/bin/doit-pki ledger.list"),
    ):
        command = shlex.quote(str(installed.environment / "bin/doit-pki"))
        done = installed.type(f"{command} ledger.show 12ab", cwd, path=path, more=more)
        assert done.stderr == f"12ab: no certificate with this serial number\n→ {hint}\n"
        assert "client-admin" in installed.type(hint, cwd, path=path).stdout
    done = installed.type(f"{shlex.quote(str(installed.project))}/run invoke ledger.show 12ab", tmp_path, path=SYSTEM)
    hint = done.stderr.splitlines()[1].removeprefix("→ ")
    assert hint == f"{shlex.quote(f'{installed.project}/run')} invoke ledger.list"
    assert "client-admin" in installed.type(hint, tmp_path, path=SYSTEM).stdout


def test_a_command_outside_of_any_project_says_so(installed: Installation, tmp_path: Path) -> None:
    for typed, status in (("doit-pki doit", 3), ("doit-pki renew admin", 1), (f"{PROJECT}/run invoke plan", 1)):
        done = installed.type(typed, tmp_path)
        assert (done.returncode, done.stdout) == (status, "")
        assert "there is no project here: neither this folder nor one above it contains pki.yaml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_and_completion_are_those_of_the_command(installed: Installation, tmp_path: Path) -> None:
    assert installed.type("doit-pki --version", tmp_path).stdout == f"doit-pki {__version__}\n"
    said = installed.type("doit-pki --help", tmp_path).stdout
    assert said.startswith("Usage: doit-pki doit")
    assert "./run" not in said
    assert re.search(r"^Certificates and clients:\n\n(  .*\n)*  renew  ", said, re.MULTILINE)
    assert "Development" not in said
    assert installed.type("doit-pki plan -h", tmp_path).stdout.startswith("Usage: doit-pki plan")
    assert installed.type("doit-pki --complete pl", tmp_path).stdout == "plan\n"
    assert "cert:client-admin" in installed.type("doit-pki --complete doit cert").stdout
    assert installed.type("doit-pki --complete explain adm").stdout == "admin\n"
    assert installed.type("doit-pki pln", tmp_path).stderr == "No idea what 'pln' is!\n→ did you mean plan?\n"


def test_the_man_page_is_made_from_the_help_of_the_command(installed: Installation) -> None:
    """`./run invoke docs --man` writes it. `man` warns of each mistake in it, and of characters that ASCII lacks."""
    page = installed.environment / "share/man/man1/doit-pki.1"
    assert page.read_text() == man_page.text(installed.environment / "bin")
    done = installed.type(f"LC_ALL=C man --warnings -l {page}")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ +client\.revoke\n +Revoke ", done.stdout, re.MULTILINE)


SCREENS = ("doit", "plan", "health", "explain admin", "explain admin --json", "plan --json", "revoke nobody --yes")
WORDS = {"doit", "invoke", "pip", *COMMANDS, *(f"{group}.{name}" for group in GROUPS for name in GROUPS[group])}
COMMAND = re.compile(r"(?:^|(?<=[\s`>:(]))(?:\./run|doit-pki) [a-z][a-z.-]*(?: [a-z][a-z.-]+)?")


def test_each_printed_command_begins_with_the_word_that_is_right_where_it_is_read(
    installed: Installation, tmp_path: Path
) -> None:
    """Screens: as the program was started. Page, metrics, mail and alert rules: in the folder of the project."""
    project = tmp_path / "lab"
    hosts = "--host pki,proxy=nginx --host web,address=127.0.0.1,network=lan,proxy=nginx --network lan=127.0.0.0/8"
    service = "--service pki/prometheus=http://127.0.0.1:9090,mtls"
    assert installed.type(f"doit-pki init lab --yes --sandbox {hosts} {service}", tmp_path).returncode == 0
    text = (project / "pki.yaml").read_text().replace("  web:\n", "  web:\n    deliver: ssh\n    ssh: {port: 1}\n")
    mail = "alerts: {email: {to: a@lab.internal, from: b@lab.internal}}\n"
    (project / "pki.yaml").write_text(f"{text}{mail}metrics: {{textfile: /nonexistent/pki.prom}}\n")
    screens = [installed.type(f"doit-pki {line}", project) for line in SCREENS]
    printed = {word for done in screens for word in COMMAND.findall(done.stdout + done.stderr)}
    assert {word for word in printed if not word.startswith("doit-pki ") or word.startswith("doit-pki invoke")} == set()
    assert {"doit-pki health", "doit-pki deploy.run web"} <= {" ".join(one.split()[:3]) for one in printed}
    report = project / "build/report"
    [letter] = (report / "outbox").glob("*.eml")
    rules = project / "build/hosts/pki/etc/prometheus/doit-pki.rules.yml"
    for path in (report / "status.html", report / "pki.prom", letter, rules):
        data = path.read_bytes()
        text = message_from_bytes(data, policy=default).get_body().get_content() if path is letter else data.decode()
        found = [word for word in COMMAND.findall(text) if word.split()[1] in WORDS]  # others are prose
        assert found, path
        assert {word for word in found if not word.startswith(("./run doit", "./run invoke"))} == set(), path
    first = (report / "pki.prom").read_text()
    done = installed.type("./run doit", project, path=SYSTEM)
    assert "./run invoke health" in done.stdout
    remedies = [re.findall(r'remedy="([^"]*)"', text) for text in (first, (report / "pki.prom").read_text())]
    assert remedies[0] == remedies[1]


def test_the_line_for_cron_runs_the_installed_program(installed: Installation) -> None:
    done = installed.type("doit-pki schedule --cron")
    [line] = re.findall(r"^\d+ \d+ \* \* \* (.*) # doit-pki", done.stdout, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", line], cwd="/", env={"PATH": SYSTEM}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_that_is_gone_is_said_in_a_sentence(installed: Installation) -> None:
    beside = installed.environment.with_name("gone")
    installed.environment.rename(beside)
    try:
        done = installed.type("./run doit", path=SYSTEM)
        assert (done.returncode, done.stderr.splitlines()[1]) == (
            1,
            "→ pipx install doit-pki, or name another one: DOIT_PKI=/path/to/doit-pki/run ./run doit",
        )
        for name in ("dodo.py", "tasks.py"):
            done = installed.type(f"/usr/bin/python3 {name}")
            assert (done.returncode, done.stderr) == (1, f"{CANNOT_IMPORT}\n")
    finally:
        beside.rename(installed.environment)


def test_an_upgrade_finds_the_project_as_it_was(installed: Installation, source: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(source, newer)
    file = newer / "pki/__init__.py"
    file.write_text(file.read_text().replace(__version__, "9.0.0"))
    installed.install(build(newer, "build_wheel", tmp_path))
    assert installed.type("doit-pki --version").stdout == "doit-pki 9.0.0\n"
    done = installed.type("doit-pki doit")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
