"""Podman without a network and without an image from elsewhere: its containers have nginx of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.conftest import TIMEOUT, run

IMAGE = "localhost/nginx:latest"
PROGRAMS = ("/usr/sbin/nginx",)
FOLDERS = ("tmp", "run", "var/log/nginx", "var/lib/nginx")
OPTIONS = "--storage-driver vfs --cgroup-manager cgroupfs --events-backend file"
LIMITS = ("--cgroups=disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
CGROUPS = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; echo; exec sleep infinity"


@dataclass(frozen=True)
class Engine:
    """An engine of its own: its images, its containers, and a program `podman` that knows where they are."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "bin/podman"

    def podman(self, *arguments: str | Path) -> str:
        return run(self.program, *arguments).strip()

    def start(self, name: str, mounts: Mapping[Path, str], *command: str) -> None:
        """Start a container in the network of this machine, with `mounts` (what is here: its place in there)."""
        volumes = (f"--volume={outside}:{inside}:ro" for outside, inside in mounts.items())
        self.podman("run", "--detach", "--name", name, "--network=host", *LIMITS, *volumes, IMAGE, *command)


@contextmanager
def podman_engine() -> Iterator[Engine]:
    """An engine with one image, until the block ends.

    It sees control groups of version 2 alone: the runtimes of Debian refuse a machine that has both versions.
    """
    folder = Path(tempfile.mkdtemp(prefix="pki-podman-"))  # a run root of Podman has at most 50 characters
    engine = Engine(folder)
    engine.program.parent.mkdir()
    machine = subprocess.Popen(["unshare", "--mount", "sh", "-c", CGROUPS], stdout=subprocess.PIPE)
    try:
        assert machine.stdout is not None
        machine.stdout.readline()
        places = f"--root {folder}/storage --runroot {folder}/run"
        podman = shutil.which("podman")
        assert podman is not None, "apt install podman crun"
        engine.program.write_text(f'#!/bin/sh\nexec nsenter -t {machine.pid} -m {podman} {places} {OPTIONS} "$@"\n')
        engine.program.chmod(0o755)
        engine.podman("import", _image(folder / "image.tar"), IMAGE)
        yield engine
        engine.podman("rm", "--all", "--force", "--time=0")
    finally:
        machine.kill()
        machine.wait(TIMEOUT)
        shutil.rmtree(folder)


def _image(path: Path) -> Path:
    """Write the root file system of a container: programs of this machine with their libraries."""
    root = path.parent / "image"
    files = {*PROGRAMS, *(library for program in PROGRAMS for library in re.findall(r"(/\S+)", run("ldd", program)))}
    for file in files:
        copy = root / file.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/:/sbin/nologin\nnobody:x:65534:65534::/:/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path
