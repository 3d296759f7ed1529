"""Compare three versions of a template with `git merge-file`: what was copied, the project's, and the program's newer one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pki import __version__
from pki.common.errors import PkiError
from pki.common.remedies import here
from pki.config.template_versions import TemplateCopy
from pki.deploy.release import PRIVATE

TIMEOUT = 60  # seconds
MAX_CONFLICTS = 127  # git's exit status for this number or more; errors have a higher one
NO_CONFIGURATION = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Merged:
    """The project's template with the changes of the program; each conflict has markers and all three texts."""

    content: bytes
    conflicts: int


def merge(copy: TemplateCopy) -> Merged:
    """Return the merge of a template. Raises PkiError where a version is missing, or git is not installed."""
    diff = str(here("invoke", "templates.diff", copy.name))
    if copy.project is None or copy.program is None:
        raise PkiError(f"templates/{copy.name}: there are no two versions of it", "./run invoke templates.list")
    base = copy.original.content if copy.original else None
    if copy.released:  # the project's template is an unchanged copy of a released version
        base = copy.project
    if base is None:
        raise PkiError(
            f"templates/{copy.name}: the version that it was copied from is not recorded",
            f"{diff}; when it has what you want of the program's: {here('invoke', 'templates.accept', copy.name)}",
        )
    if PRIVATE.search(base + copy.project + copy.program):
        raise PkiError(f"templates/{copy.name}: has a private key, which is not shown", f"compare it yourself: {diff}")
    texts = {
        f"{copy.name} (project)": copy.project,
        f"{copy.name} (program {copy.based_on}, as copied)": base,
        f"{copy.name} (program {__version__})": copy.program,
    }
    return _merge_file(texts, diff)


def _merge_file(texts: dict[str, bytes], otherwise: str) -> Merged:
    """Merge three texts by their titles: ours, the base and theirs."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("ours", "base", "theirs")]
        for file, text in zip(files, texts.values(), strict=True):
            file.write_bytes(text)
        titles = [word for title in texts for word in ("-L", title)]
        command = ["git", "merge-file", "-p", "--diff3", *titles, *(file.name for file in files)]
        try:
            result = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **NO_CONFIGURATION},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            raise PkiError(
                "git is not installed, which compares three versions", f"install git, or: {otherwise}"
            ) from None
        except subprocess.TimeoutExpired:
            raise PkiError(f"git did not merge the template in {TIMEOUT} seconds", otherwise) from None
    if not 0 <= result.returncode <= MAX_CONFLICTS:
        message = result.stderr.decode(errors="replace").strip().splitlines()[:1] or ["no message"]
        raise PkiError(f"git cannot merge the template: {message[0]}", otherwise)
    return Merged(result.stdout, result.returncode)
