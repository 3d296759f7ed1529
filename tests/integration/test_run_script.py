"""`./run` itself: what it says where Python is too old or incomplete, and that it costs nothing when all is there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.air_gap import Terminal
from tests.integration.conftest import TIMEOUT, run
from tests.support.projects import PROJECT

TOOLS = ("sh", "dirname", "cmp", "cp", "rm", "flock", "mkdir", "cat", "find")
LOCKS = ("requirements.lock", "requirements-dev.lock")
INSTALLED = ("pyproject.toml", *LOCKS)  # copies of these in the environment are those that it was made of


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout before its first run, on a machine with a shell, a few tools and no Python."""
    folder = tmp_path / "checkout"
    (folder / "bin").mkdir(parents=True)
    for name in ("run", *INSTALLED):
        shutil.copy(PROJECT / name, folder)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (folder / "bin" / tool).symlink_to(found)
    return folder


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def start(checkout: Path, *arguments: str, python: str | Path = "python3") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "run", *arguments],
        env={"PATH": str(checkout / "bin"), "PYTHON": str(python)},
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_old_python_is_refused_with_the_packages_to_install(checkout: Path) -> None:
    old = program(checkout / "old", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    done = start(checkout, "doit", python=old)
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed, found: Python 3.9.2" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_missing_python_is_said_plainly(checkout: Path) -> None:
    done = start(checkout, "doit")
    assert done.returncode == 1
    assert "found: no python3" in done.stderr or "not found" in done.stderr
    assert "apt install" in done.stderr


def test_packages_that_cannot_be_fetched_are_said_in_a_sentence(checkout: Path) -> None:
    program(checkout / ".venv/bin/python", '[ "$1" = -c ]')  # it has pip, which fails
    done = start(checkout, "doit")
    assert done.returncode == 1
    assert "run: not all packages could be installed" in done.stderr
    assert "https_proxy=http://HOST:PORT" in done.stderr
    assert not (checkout / ".venv/requirements.lock").exists()


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_python_without_venv_is_refused_with_the_package_of_its_version(checkout: Path, module: str) -> None:
    lacking = program(
        checkout / "lacking",
        f'case "$*" in *{module}*) echo "No module named {module}" >&2; exit 1 ;; esac\nexec {sys.executable} "$@"',
    )
    done = start(checkout, "doit", python=lacking)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert f"apt install python{version}-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_newer_python_beside_an_old_one_is_found(checkout: Path) -> None:
    old = program(checkout / "old", "exit 1")
    program(checkout / "bin" / "python3.12", 'case "$*" in *ensurepip*) exit 1 ;; *"%d.%d"*) echo 3.12 ;; esac')
    assert "apt install python3.12-venv" in start(checkout, "doit", python=old).stderr


@pytest.mark.parametrize("task", ["test", "lint", "bench", "integration", "campaign", "mutants"])
def test_tasks_that_need_the_tools_of_development_install_them(checkout: Path, task: str) -> None:
    program(checkout / ".venv/bin/python", f'echo "$@" >> {checkout}/asked')
    program(checkout / ".venv/bin/invoke", "exit 0")
    for name in INSTALLED[:2]:
        shutil.copy(checkout / name, checkout / ".venv")
    assert start(checkout, "invoke", task).returncode == 0
    asked = checkout / "asked"
    assert asked.exists(), "nothing was installed"
    assert f"--require-hashes -r {checkout}/{LOCKS[1]}" in asked.read_text()


def test_nothing_is_installed_and_nothing_said_when_all_is_there(checkout: Path) -> None:
    """Nor is anything started that takes time: a shell and two small tools are all that there is."""
    program(checkout / ".venv/bin/python", f"echo asked >>{checkout}/asked")
    program(checkout / ".venv/bin/pytest", "echo here")
    for name in INSTALLED:
        shutil.copy(checkout / name, checkout / ".venv")
    for tool in set(TOOLS) - {"sh", "dirname", "cmp"}:
        (checkout / "bin" / tool).unlink()
    for command in (("sh", "-c", "echo here"), ("pytest",)):
        done = start(checkout, *command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")
    assert not (checkout / "asked").exists()


def test_the_program_is_installed_again_where_its_plugins_for_doit_changed(checkout: Path) -> None:
    """The environment of a clone keeps the plugins that pyproject.toml named when it was made."""
    program(checkout / ".venv/bin/python", f'echo "$@" >> {checkout}/asked')
    for name in INSTALLED:
        shutil.copy(checkout / name, checkout / ".venv")
    (checkout / "pyproject.toml").write_text("changed")
    assert start(checkout, "sh", "-c", "exit 0").returncode == 0
    assert f"--editable {checkout}" in (checkout / "asked").read_text()
    (checkout / "asked").unlink()
    assert start(checkout, "sh", "-c", "exit 0").returncode == 0
    assert not (checkout / "asked").exists()


ENVIRONMENT = f"""
case "$*" in *ensurepip*) exit 0 ;; *"-m venv"*) ;; *) exec {sys.executable} "$@" ;; esac
for last; do :; done
mkdir -p "$last/bin" "$last/lib/python3.11/site-packages/pki"
echo '#!/bin/sh' >"$last/bin/python" && {shutil.which("chmod")} +x "$last/bin/python"
: >"$last/lib/python3.11/site-packages/pki/__init__.py"
"""


def first_run(
    checkout: Path, *command: str, shell: str = "dash", mask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Start `run` with a Python that makes an environment of a few files in no time."""
    return subprocess.run(
        [shutil.which(shell) or shell, checkout / "run", *command],
        env={"PATH": str(checkout / "bin"), "PYTHON": str(program(checkout / "quick/python3", ENVIRONMENT))},
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        umask=mask,
    )


def writable_by_others(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.rglob("*")) if not path.is_symlink() and path.stat().st_mode & 0o022]


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    ("mask", "kept"), [(0o000, 0o022), (0o002, 0o022), (0o022, 0o022), (0o027, 0o027), (0o050, 0o072), (0o077, 0o077)]
)
def test_group_and_others_may_not_write_and_the_mask_is_otherwise_kept(
    checkout: Path, shell: str, mask: int, kept: int
) -> None:
    done = first_run(checkout, "sh", "-c", "umask; ulimit -S -c; ulimit -H -c; mkdir made", shell=shell, mask=mask)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{kept:04o}", "0", "0"]
    assert (checkout / "made").stat().st_mode & 0o777 == 0o777 & ~kept
    assert (checkout / ".venv/bin/python").exists()
    assert not writable_by_others(checkout / ".venv")


def test_group_and_others_may_not_write_for_busybox_too(checkout: Path) -> None:
    busybox = checkout / "shell/sh"
    busybox.parent.mkdir()
    busybox.symlink_to(shutil.which("busybox") or "busybox")
    done = first_run(checkout, "sh", "-c", "umask; ulimit -c", shell=str(busybox), mask=0)
    assert (done.returncode, done.stdout.split()) == (0, ["0022", "0"]), done.stderr


@pytest.mark.parametrize("name", ["", "bin", "bin/python", "lib/python3.11/site-packages/pki"])
def test_environment_that_every_account_can_write_to_is_made_again(checkout: Path, name: str) -> None:
    assert first_run(checkout, "sh", "-c", "exit 0").returncode == 0
    (checkout / ".venv/planted").touch()
    (checkout / ".venv" / name).chmod(0o777)
    again = first_run(checkout, "sh", "-c", "exit 0")
    assert again.returncode == 0, again.stderr
    assert f"every account can write to {checkout}/.venv, and may have changed what is in it" in again.stderr
    assert not (checkout / ".venv/planted").exists()
    assert not writable_by_others(checkout / ".venv")
    assert first_run(checkout, "sh", "-c", "exit 0").stderr == ""


def test_environment_that_the_group_can_write_to_stays(checkout: Path) -> None:
    """A private group for each account is what Debian and RHEL have by default."""
    assert first_run(checkout, "sh", "-c", "exit 0").returncode == 0
    for path in (checkout / ".venv", checkout / ".venv/bin/python"):
        path.chmod(0o775)
    assert first_run(checkout, "sh", "-c", "exit 0").stderr == ""


def test_exit_status_is_that_of_the_command() -> None:
    done = subprocess.run([PROJECT / "run", "sh", "-c", "exit 7"], check=False)
    assert done.returncode == 7


def test_project_is_the_folder_where_the_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "pki.yaml").touch()
    said = run(PROJECT / "run", "sh", "-c", 'echo "$PKI_HOME"', cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    assert said == f"{tmp_path}\n"


def test_file_names_are_relative_to_where_the_command_is_typed(tmp_path: Path) -> None:
    run(PROJECT / "run", "invoke", "schema", "--output", "below.json", cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    assert '"title": "pki.yaml"' in (tmp_path / "below.json").read_text()


@pytest.mark.parametrize(
    "lock", [*LOCKS, *(f"requirements-{name}.lock" for name in ("docs", "hsm", "notify", "kit", "postgresql"))]
)
def test_lock_holds_versions_and_hashes_and_no_addresses(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert "://" not in text
    pinned = re.findall(r"^[A-Za-z0-9._-]+==.+?(?=^[A-Za-z0-9]|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert pinned
    assert all("--hash=sha256:" in one for one in pinned)


# -- what is typed behind `./run` -------------------------------------------------------------------------------------


def test_a_command_that_is_also_a_program_of_the_system_is_not_started(tmp_path: Path) -> None:
    program(tmp_path / "init", "echo the init of the system")
    path = f"{tmp_path}:{os.environ['PATH']}"
    for typed in ("init", "status", "statsu"):
        done = subprocess.run([PROJECT / "run", typed], env={"PATH": path}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(f"→ did you mean ./run invoke {typed.replace('statsu', 'status')}\n")


@pytest.mark.parametrize("arguments", [("doit",), ("invoke", "plan")])
def test_ctrl_c_in_the_first_second_is_answered_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for moment in ("run", "pki/cli/start.py", "_rust"):  # the shell, the beginning of Python, the middle of its imports
        begun = subprocess.Popen(
            [PROJECT / "run", *arguments],
            env={"PATH": os.environ["PATH"], "PKI_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        process = Path(f"/proc/{begun.pid}")
        while begun.poll() is None:
            if moment in (process / "cmdline").read_text() or moment in (process / "maps").read_text():
                begun.send_signal(signal.SIGINT)
                break
        said = begun.communicate(timeout=TIMEOUT)[0]
        last = "".join(said.splitlines()[-1:]).removeprefix("run: ")
        told = {(130, "stopped; nothing was done"), (130, "stopped"), (-signal.SIGINT, "")}
        assert (begun.returncode, last) in told, (moment, said)
        assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [("invoke", "plan"), ("invoke", "--list"), ("doit", "list"), ("--help",)])
def test_output_that_cannot_be_written_is_said_in_a_sentence(arguments: tuple[str, ...]) -> None:
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", PROJECT / "run", *arguments], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in closed.stderr
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROJECT / "run", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode in {1, 3}
    assert "Traceback" not in done.stderr


def test_a_folder_is_named_as_seen_from_where_the_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    done = subprocess.run(
        [PROJECT / "run", "doit"],
        env={"PATH": os.environ["PATH"], "PKI_HOME": "lab"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert f"{tmp_path}/lab/pki.yaml: there is no inventory" in done.stderr


COMPLETE = """\
eval "$("$1" --completion)"
COMP_LINE=$2 COMP_POINT=${#2}
_doit_pki
echo "${COMPREPLY[*]}"
"""


COMPLETED = {
    "./run ": "doit invoke",
    "./run invoke pl": "plan",
    "./run invoke revoke --no": "--no-replace",
    "./run doit li": "list",
    "./run invoke explain med": "media",
}


@pytest.mark.parametrize(("line", "completed"), COMPLETED.items())
def test_bash_completes_what_is_typed_behind_run(line: str, completed: str) -> None:
    typed = ["bash", "-c", COMPLETE, "bash", str(PROJECT / "run"), line]
    assert run(*typed, cwd=PROJECT, env={"PATH": os.environ["PATH"]}) == f"{completed}\n"


def test_fish_completes_what_is_typed_behind_run() -> None:
    lines = [f"complete -C {shlex.quote(line)} | string join ' '" for line in COMPLETED]
    script = "; ".join(["./run --completion fish | source", *lines, "true"])
    assert run("fish", "--no-config", "-c", script, cwd=PROJECT).splitlines() == list(COMPLETED.values())


def test_zsh_completes_what_is_typed_behind_run(tmp_path: Path) -> None:
    """At a terminal: nothing else asks zsh to complete. The first line has two answers, which are listed."""
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path), "PS1": "here# "}
    ready = "here# \x1b[?2004h"  # the second half is sent when zsh reads keys
    zsh = Terminal(["zsh", "-f", "-i"], PROJECT, environment)
    zsh.see(ready)
    zsh.type('eval "$(./run --completion zsh)"')
    zsh.see(ready)
    for line, completed in COMPLETED.items():
        zsh.press(f"{line}\t".encode())
        for word in completed.split():
            zsh.see(word.removeprefix(line.split()[-1]))
        zsh.press(b"\x15")  # Ctrl-U empties the line; Ctrl-C would be taken for the end of the completion
    zsh.type("exit")
    zsh.end()
    zsh.close()


def test_completion_for_another_shell_names_those_that_there_are() -> None:
    said = run(PROJECT / "run", "--completion", "tcsh", ok=False)
    assert said == "no completion for 'tcsh'\n→ ./run --completion bash, zsh or fish\n"
