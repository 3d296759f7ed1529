"""Write the kit for the offline machine: the program, its wheels, the open request and the steps to print.

SHA256SUMS lists every file, so the SHA-256 of that file identifies the whole kit. The same program and request give the
same kit.
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
from pki.common.program_files import program_files

NAME = "doit-pki-kit"
PROJECT = "project"  # file in the kit: the project's folder on the online machine, and how its commands begin
PROGRAM_LOCK, PIP_LOCK, HSM_LOCK = "requirements.lock", "requirements-kit.lock", "requirements-hsm.lock"
PYTHON = re.compile(r"3\.(1[1-9]|[2-9][0-9])")
PLATFORM = re.compile(
    r"(?:manylinux_2_(?P<glibc>[1-9][0-9]?)|manylinux2014|musllinux_1_[0-9]+)_(?P<machine>[a-z0-9_]+)"
)
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600
MISSING_WHEEL = re.compile(r"No matching distribution found for (\S+)")
TIMEOUT = 900  # seconds for a download
OTHER_DRIVE = "is the drive read-only, or full? use another one, or free space"


@dataclass(frozen=True, slots=True)
class Machine:
    """The offline machine: Python version and platform; an empty field means the same as this machine."""

    python: str = ""
    platform: str = ""

    def __post_init__(self) -> None:
        if self.python and not PYTHON.fullmatch(self.python):
            raise PkiError(
                f"--python {self.python}: expected a version such as 3.13", "python3 --version shows it on that machine"
            )
        if self.platform and not PLATFORM.fullmatch(self.platform):
            raise PkiError(
                f"--platform {self.platform}: expected a name such as manylinux_2_28_x86_64",
                "Linux with glibc 2.28 or newer; uname -m shows the last part",
            )

    @property
    def version(self) -> str:
        """Return the Python version, such as 3.13."""
        return self.python or f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def architecture(self) -> str:
        """Return the architecture, such as x86_64."""
        match = PLATFORM.fullmatch(self.platform)
        return match["machine"] if match else platform.machine()

    def __str__(self) -> str:
        return f"Python {self.version} on {self.architecture}"

    def options(self) -> Iterator[str]:
        """Yield pip's options for this machine; wheels for every older glibc fit too (PEP 600)."""
        if self.python:
            yield f"--python-version={self.python}"
        match = PLATFORM.fullmatch(self.platform)
        if match and match["glibc"]:
            for minor in range(int(match["glibc"]), 4, -1):
                yield f"--platform=manylinux_2_{minor}_{self.architecture}"
                if minor in OLD_NAMES:
                    yield f"--platform={OLD_NAMES[minor]}_{self.architecture}"
        elif match:
            yield f"--platform={self.platform}"


def check_place(folder: Path) -> Path:
    """Return the folder for the kit. Raises PkiError when it cannot be written there."""
    if not folder.is_dir():
        raise PkiError(f"{folder}: is not a folder", "mount the drive, then name its folder")
    check_no_vault(folder)
    target = folder / NAME
    if target.exists():
        raise PkiError(f"{target}: exists already", "nothing is overwritten; delete it, or name another folder")
    if not os.access(folder, os.W_OK):
        raise PkiError(f"{folder}: cannot be written to", OTHER_DRIVE)
    return target


def check_no_vault(folder: Path) -> None:
    """Raise PkiError when a folder is on a vault, which must never be in a machine with a network."""
    if vault_identity.is_vault(folder):
        raise PkiError(
            f"{folder}: is a vault: a root key is on it, and this machine has a network",
            f"umount {folder} and unplug it; name the exchange drive",
        )


def write_kit(target: Path, program: Path, machine: Machine, extra: dict[str, bytes], *, hsm: bool) -> tuple[str, int]:
    """Write a kit completely or not at all; `extra` are the files of this ceremony.

    Return the SHA-256 of its SHA256SUMS and the number of files in that list. Raises PkiError.
    """
    unfinished = target.with_name(f".{target.name}.new")
    with tempfile.TemporaryDirectory(prefix="kit-") as scratch:
        wheels = download_wheels(program, Path(scratch), machine, hsm=hsm)
        files = program_files(program) | {f"wheels/{path.name}": path for path in wheels}
        extra = extra | {"wheels/made-for": f"{machine.version} {machine.architecture}\n".encode()}
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            written_paths = _write_files(unfinished, files, extra)
            unfinished.rename(target)
        except OSError as error:
            raise PkiError(f"{target}: cannot be written: {error.strerror}", OTHER_DRIVE) from None
        except PkiError as error:
            raise PkiError(error.message, OTHER_DRIVE) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return written_paths


def _write_files(folder: Path, files: dict[str, Path], extra: dict[str, bytes]) -> tuple[str, int]:
    """Write all files and SHA256SUMS for `sha256sum -c`. Return its SHA-256 and the number of files."""
    contents = {name: path.read_bytes() for name, path in files.items()} | extra
    lines = [f"{request_response.digest(content)}  {name}\n" for name, content in sorted(contents.items())]
    contents["SHA256SUMS"] = "".join(lines).encode()
    filesystem.write_all({folder / name: (content, filesystem.PUBLIC) for name, content in contents.items()})
    with suppress(PermissionError):  # FAT has no modes; `sh run` works there
        (folder / "run").chmod(0o755)
    return request_response.digest(contents["SHA256SUMS"]), len(lines)


# -- wheels -----------------------------------------------------------------------------------------------------------


def download_wheels(program: Path, folder: Path, machine: Machine, *, hsm: bool) -> list[Path]:
    """Download every locked wheel that the machine needs, and pip. Raises PkiError that names a missing wheel."""
    for lock in (HSM_LOCK if hsm else PROGRAM_LOCK, PIP_LOCK):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", *machine.options()]
        command += ["--requirement", str(program / lock), "--dest", str(folder)]
        try:
            done = subprocess.run(
                command, cwd=program, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise PkiError("the download of the wheels takes too long", "is the network slow? try again") from None
        if done.returncode:
            raise _download_error(done.stderr.decode(errors="replace"), machine)
    return sorted(folder.glob("*.whl"))


def _download_error(output: str, machine: Machine) -> PkiError:
    """Return an error for pip's error output."""
    if re.search(r"NewConnectionError|Failed to establish|Temporary failure|Network is unreachable|ProxyError", output):
        return PkiError(
            "the wheels cannot be downloaded: there is no network", "make the kit on a machine with a network"
        )
    if "DO NOT MATCH THE HASHES" in output:
        return PkiError(
            "a wheel does not have the hash of the lock file: it was changed", "try again on another network"
        )
    if match := MISSING_WHEEL.search(output):
        return PkiError(
            f"no wheel of {match[1]} fits {machine}", "name the offline machine with --python and --platform"
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    lines = errors or output.splitlines()[-1:] or ["no reason"]
    return PkiError(f"the wheels cannot be downloaded: {lines[-1].removeprefix('ERROR: ')}", "is pip set up here?")
