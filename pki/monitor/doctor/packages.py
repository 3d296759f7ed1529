"""Python, the packages of the program, and the packages for optional parts."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from pki.common.program_files import IS_INSTALLED, PROGRAM
from pki.monitor.check_result import Level
from pki.monitor.doctor.observation import MachineObservation

NEEDED = (3, 11)
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
SHOWN = 4  # packages in one line
OF_CLONE = {"flit-core"}  # builds the clone's package; an installation does not have it


@dataclass(frozen=True, slots=True)
class Extra:
    """Packages for an optional part: the module that is imported, what needs it, and the command that installs it."""

    name: str
    module: str
    package: str
    use: str
    remedy: str

    @property
    def is_present(self) -> bool:
        """Return whether its module can be found."""
        return util.find_spec(self.module) is not None

    def observe(self) -> MachineObservation:
        """Return its version; that it is missing is no fault as long as no project needs it."""
        if self.is_present:
            return MachineObservation(f"extra {self.name}", f"{self.package} {_version(self.package)}: {self.use}")
        return MachineObservation(
            f"extra {self.name}", f"{self.package} is not installed; only for {self.use}", Level.OK, self.remedy
        )


EXTRAS = {
    extra.name: extra
    for extra in (
        Extra(
            "hsm",
            "pkcs11",
            "python-pkcs11",
            "keys in PKCS#11 tokens",
            "./run pip install --require-hashes -r requirements-hsm.lock",
        ),
        Extra(
            "ansible",
            "ansible_runner",
            "ansible-runner",
            "deploy.engine: ansible",
            "./run pip install --require-hashes -r requirements-ansible.lock",
        ),
        Extra(
            "postgresql",
            "psycopg",
            "psycopg",
            "a ledger in PostgreSQL",
            "./run pip install --require-hashes -r requirements-postgresql.lock",
        ),
        Extra(
            "notify",
            "apprise",
            "apprise",
            "alerts.notify",
            "./run pip install --require-hashes -r requirements-notify.lock",
        ),
    )
}


def observe_python() -> MachineObservation:
    """Return the version of Python; `run` refuses an older one before."""
    is_new_enough = sys.version_info[:2] >= NEEDED
    value = f"{platform.python_version()} ({sys.executable}); needed: {'.'.join(map(str, NEEDED))} or newer"
    return MachineObservation(
        "Python", value, Level.OK if is_new_enough else Level.CRITICAL, "" if is_new_enough else "apt install python3"
    )


def observe_venv() -> MachineObservation:
    """Return whether Python can create environments: `run` in a clone creates .venv again after an upgrade of Python."""
    missing = [name for name in ("venv", "ensurepip") if util.find_spec(name) is None]
    version = ".".join(map(str, sys.version_info[:2]))
    if not missing:
        return MachineObservation("venv", "modules venv and ensurepip are present")
    level = Level.OK if IS_INSTALLED else Level.WARNING
    return MachineObservation(
        "venv",
        f"no module {' and '.join(missing)}: no new environment can be created",
        level,
        f"apt install python{version}-venv",
    )


def observe_packages(lock: Path = PROGRAM / "requirements.lock") -> Iterator[MachineObservation]:
    """Yield missing packages, those at other versions than in the lock, and how many are at the locked version."""
    pins = {name: version for name, version in PIN.findall(lock.read_text()) if not (IS_INSTALLED and name in OF_CLONE)}
    present = {name: version for name in pins if (version := _version(name))}
    missing = [name for name in pins if name not in present]
    others = {name: version for name, version in present.items() if version != pins[name]}
    remedy = "./run pip install --require-hashes -r requirements.lock"
    if missing:
        yield MachineObservation("packages", f"not installed: {_names(missing)}", Level.CRITICAL, remedy)
    count = f"{len(present) - len(others)} of {len(pins)} at the version of {lock.name}"
    listed = _names([f"{name} {version} (locked: {pins[name]})" for name, version in others.items()])
    if others and IS_INSTALLED:  # pip and pipx choose versions in the ranges of pyproject.toml: nothing to correct
        yield MachineObservation("packages", f"{count}; at another version: {listed}")
        return
    if others:
        text = f"at another version than {lock.name}: {listed}"
        yield MachineObservation("packages", text, Level.WARNING, remedy)
    yield MachineObservation("packages", count)


def _version(package: str) -> str:
    """Return the version of an installed package, or ""."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _names(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
