"""Programs that bring files to hosts as people use them: ansible's copy in a loop, and pyinfra's files.put."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench import measure
from tests.bench.measure import Broken, Cost, Part, Side
from tests.bench.targets import OWNER, Targets

LOCK = Path(__file__).with_name("requirements-deliverers.lock")
PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        src: "{{ item.src }}"
        dest: "{{ item.dest }}"
        mode: "{{ item.mode }}"
        owner: "{{ item.user }}"
        group: "{{ item.group }}"
      loop: "{{ files }}"
      loop_control: {label: "{{ item.dest }}"}
      notify: reload
  handlers:
    - name: reload
      ansible.builtin.command: "true"
"""
DEPLOY = """\
from pyinfra import host
from pyinfra.operations import files, server

changes = [
    files.put(src=one["src"], dest=one["dest"], mode=one["mode"], user=one["user"], group=one["group"])
    for one in host.data.files
]
server.shell(commands=["true"], _if=lambda: any(change.did_change() for change in changes))
"""


def programs(folder: Path, given: Path | None) -> Path | None:
    """The folder with the programs: of an environment that was `given`, or of a new one; None where that cannot be made."""
    if given:
        return given / "bin" if (given / "bin").is_dir() else given
    try:
        measure.run([sys.executable, "-m", "venv", folder], folder.parent)
        measure.run([folder / "bin/pip", "install", "-q", "--no-deps", "--require-hashes", "-r", LOCK], folder.parent)
    except Broken:
        return None
    return folder / "bin"


def ansible(made: Targets, programs: Path, width: int) -> Side | None:
    """ansible-playbook with its connections kept open and its modules piped, which its makers advise for speed."""
    program = programs / "ansible-playbook"
    if not program.exists():
        return None
    folder, files = _folder(made, "ansible")
    hosts = {name: {"files": files[name], "ansible_python_interpreter": sys.executable} for name in made.names}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(PLAYBOOK)
    (folder / "ansible.cfg").write_text("")
    settings: dict[str, Part] = {
        "ANSIBLE_CONFIG": folder / "ansible.cfg",
        "ANSIBLE_FORKS": str(width),
        "ANSIBLE_HOME": folder / "home",
        "ANSIBLE_REMOTE_TEMP": folder / "there",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_SSH_ARGS": f"-F {made.free} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_CONTROL_PATH": f"{folder}/%%C",
        "LC_ALL": "C.UTF-8",
    }

    def run() -> Cost:
        return measure.run([program, "-i", folder / "hosts.json", folder / "play.yml"], folder, settings)

    def play() -> Cost:
        try:
            return _checked(run, files)
        finally:
            for name in made.names:
                _hang_up(made, folder, name)

    return play


def _hang_up(made: Targets, folder: Path, name: str) -> None:
    """End the connection that was kept open: the next round opens its own."""
    command = ["ssh", "-F", made.free, "-o", f"ControlPath={folder}/%C", "-O", "exit", name]
    subprocess.run(command, capture_output=True, check=False)


def pyinfra(made: Targets, programs: Path, width: int) -> Side | None:
    """Pyinfra with so many hosts at once."""
    program = programs / "pyinfra"
    if not program.exists():
        return None
    folder, files = _folder(made, "pyinfra")
    way = {"ssh_config_file": str(made.free), "ssh_known_hosts_file": str(made.folder / "known_hosts")}
    hosts = [(name, {**way, "ssh_key": str(made.folder / "keys" / name), "files": files[name]}) for name in made.names]
    (folder / "inventory.py").write_text(f"hosts = {hosts!r}\n")
    (folder / "deploy.py").write_text(DEPLOY)
    settings: dict[str, Part] = {"HOME": folder, "LC_ALL": "C.UTF-8"}
    command: list[Part] = [program, "-y", "--parallel", str(width), "inventory.py", "deploy.py"]
    return lambda: _checked(lambda: measure.run(command, folder, settings), files)


def _checked(side: Side, files: Mapping[str, list[dict[str, str]]]) -> Cost:
    """What a program took; no figure when it left something out."""
    cost = side()
    for file in (file for there in files.values() for file in there):
        if Path(file["src"]).read_bytes() != Path(file["dest"]).read_bytes():
            raise Broken(f"{file['dest']} was not brought up to date")
    return cost


def _folder(made: Targets, name: str) -> tuple[Path, Mapping[str, list[dict[str, str]]]]:
    """A folder for a program, in which every host holds its present release, and what is to be there by host."""
    folder = made.folder / name
    files = {host: list(_files(made, host, folder / "roots" / host)) for host in made.names}
    for there in files.values():
        for file in there:
            Path(file["dest"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file["src"], file["dest"])
            Path(file["dest"]).chmod(int(file["mode"], 8))
    return folder, files


def _files(made: Targets, host: str, root: Path) -> Iterator[dict[str, str]]:
    user, _, group = OWNER.partition(":")
    folder = made.home / "build/release" / host / "files"
    for file in made.payload(host).release.files:
        there = root / Path(file.path).relative_to(made.root(host))
        yield {"src": str(file.below(folder)), "dest": str(there), "mode": file.mode, "user": user, "group": group}
