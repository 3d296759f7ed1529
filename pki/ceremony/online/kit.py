"""The kit for the offline machine: the program, its wheels, the open request and the printed script, on one medium.

Whatever is in it stands in SHA256SUMS, and the SHA-256 of that file stands for all of it. The same program and the same
request give the same kit.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki.ceremony import request_response, vault_identity
from pki.common import filesystem
from pki.common.errors import PkiError

NAME = "doit-pki-kit"
PROJECT = "project"  # in the kit: the folder of the project on the online machine
SINGLE = ("run", "tasks.py", "dodo.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
FOLDERS = ("docs", "pki", "templates")
LOCKS = ("requirements.lock", "requirements-kit.lock", "requirements-hsm.lock")
PYTHON = re.compile(r"3\.(1[1-9]|[2-9][0-9])")
PLATFORM = re.compile(
    r"(?:manylinux_2_(?P<glibc>[1-9][0-9]?)|manylinux2014|musllinux_1_[0-9]+)_(?P<machine>[a-z0-9_]+)"
)
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600
LACKING = re.compile(r"No matching distribution found for (\S+)")
TIMEOUT = 900
ANOTHER = "is the medium read-only, or full? take another one, or make room"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kit is to run on; an empty field means: as this machine."""

    python: str = ""
    platform: str = ""

    def __post_init__(self) -> None:
        if self.python and not PYTHON.fullmatch(self.python):
            raise PkiError(
                f"--python {self.python}: expected a version such as 3.13", "python3 --version says it there"
            )
        if self.platform and not PLATFORM.fullmatch(self.platform):
            raise PkiError(
                f"--platform {self.platform}: expected a name such as manylinux_2_28_x86_64",
                "Linux with glibc 2.28 or newer; uname -m says the last part",
            )

    @property
    def version(self) -> str:
        return self.python or f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def architecture(self) -> str:
        found = PLATFORM.fullmatch(self.platform)
        return found["machine"] if found else platform.machine()

    def __str__(self) -> str:
        return f"Python {self.version} on {self.architecture}"

    def options(self) -> Iterator[str]:
        """How pip is told; a system takes wheels for every older glibc too."""
        if self.python:
            yield f"--python-version={self.python}"
        found = PLATFORM.fullmatch(self.platform)
        if found and found["glibc"]:
            for minor in range(int(found["glibc"]), 4, -1):
                yield f"--platform=manylinux_2_{minor}_{self.architecture}"
                if minor in OLD_NAMES:
                    yield f"--platform={OLD_NAMES[minor]}_{self.architecture}"
        elif found:
            yield f"--platform={self.platform}"


def check_place(folder: Path) -> Path:
    """Where the kit will lie. Raises PkiError when it cannot be put there."""
    if not folder.is_dir():
        raise PkiError(f"{folder}: is not a folder", "mount the medium, then name its folder")
    insist_no_vault(folder)
    target = folder / NAME
    if target.exists():
        raise PkiError(
            f"{target}: is there already", "nothing is ever overwritten; take it away, or name another folder"
        )
    if not os.access(folder, os.W_OK):
        raise PkiError(f"{folder}: cannot be written to", ANOTHER)
    return target


def insist_no_vault(folder: Path) -> None:
    """Raise PkiError where a folder is the drive of a vault, which must never be in a machine with a network."""
    if vault_identity.is_vault(folder):
        raise PkiError(
            f"{folder}: is a vault: a root key is on it, and this machine has a network",
            f"umount {folder} and take it out; name the exchange drive",
        )


def write(target: Path, program: Path, machine: Machine, extra: dict[str, bytes], *, hsm: bool) -> tuple[str, int]:
    """Write a kit, whole or not at all; `extra` are files of this ceremony.

    Returns the digest of its SHA256SUMS, and how many files that names.
    """
    beside = target.with_name(f".{target.name}.new")
    with tempfile.TemporaryDirectory(prefix="kit-") as scratch:
        wheels = download(program, Path(scratch), machine, hsm=hsm)
        files = {path.relative_to(program).as_posix(): path for path in _program(program)}
        files |= {f"wheels/{path.name}": path for path in wheels}
        extra = extra | {"wheels/made-for": f"{machine.version} {machine.architecture}\n".encode()}
        try:
            shutil.rmtree(beside, ignore_errors=True)
            written = _written(beside, files, extra)
            beside.rename(target)
        except OSError as error:
            raise PkiError(f"{target}: cannot be written: {error.strerror}", ANOTHER) from None
        except PkiError as error:
            raise PkiError(error.message, ANOTHER) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return written


def _program(program: Path) -> Iterator[Path]:
    """What of a checkout is the program: no project, no keys, no tests, nothing that a run left there."""
    yield from (program / name for name in (*SINGLE, *LOCKS))
    for folder in FOLDERS:
        for path in sorted((program / folder).rglob("*")):
            parts = path.relative_to(program).parts
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
                yield path


def _written(folder: Path, files: dict[str, Path], extra: dict[str, bytes]) -> tuple[str, int]:
    """Every file in its place and on disk, with a list of their digests as `sha256sum -c` reads it."""
    contents = {name: path.read_bytes() for name, path in files.items()} | extra
    lines = [f"{request_response.digest(content)}  {name}\n" for name, content in sorted(contents.items())]
    contents["SHA256SUMS"] = "".join(lines).encode()
    filesystem.write_all({folder / name: (content, filesystem.PUBLIC) for name, content in contents.items()})
    with suppress(PermissionError):  # FAT has no modes; `sh run` works there
        (folder / "run").chmod(0o755)
    return request_response.digest(contents["SHA256SUMS"]), len(lines)


# -- wheels -----------------------------------------------------------------------------------------------------------


def download(program: Path, folder: Path, machine: Machine, *, hsm: bool) -> list[Path]:
    """Fetch every locked wheel that the machine needs, and pip; raises PkiError that names one that is not there."""
    for lock in (LOCKS[2 if hsm else 0], LOCKS[1]):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", *machine.options()]
        command += ["--requirement", str(program / lock), "--dest", str(folder)]
        try:
            done = subprocess.run(
                command, cwd=program, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise PkiError("the wheels do not arrive", "is the network slow? try again") from None
        if done.returncode:
            raise _fault(done.stderr.decode(errors="replace"), machine)
    return sorted(folder.glob("*.whl"))


def _fault(said: str, machine: Machine) -> PkiError:
    """What pip's complaint means."""
    if re.search(r"NewConnectionError|Failed to establish|Temporary failure|Network is unreachable|ProxyError", said):
        return PkiError("the wheels cannot be downloaded: there is no network", "make the kit where there is one")
    if "DO NOT MATCH THE HASHES" in said:
        return PkiError("a wheel is not the one that the lock names: it was changed on its way", "try again elsewhere")
    if found := LACKING.search(said):
        return PkiError(f"no wheel of {found[1]} fits {machine}", "--python and --platform say which machine is meant")
    lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-1:] or ["no reason"]
    return PkiError(f"the wheels cannot be downloaded: {lines[-1].removeprefix('ERROR: ')}", "is pip set up here?")
