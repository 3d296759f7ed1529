"""Build the site from docs/ with Zensical, check it, and put it in place."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from tests.documentation import links, pages
from tests.support.environments import environment

SETTINGS = Path(__file__).with_name("zensical.toml")
ASSETS = Path(__file__).with_name("assets")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MARK = ".doit-pki-docs"  # the file by which a built site is recognised, and replaced


def build(output: Path, program: Path = PROGRAM) -> int:
    """Build the site into `output`, and return the number of its pages.

    Raises PkiError with all warnings and broken links; then `output` is as before.
    """
    _check_replaceable(output)
    zensical = environment("docs") / "bin/zensical"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        navigation = pages.stage(program, folder / "docs")
        shutil.copytree(ASSETS, folder / "docs/assets")
        settings = SETTINGS.read_text().replace("[project]\n", f"[project]\n{navigation}\n", 1)
        (folder / "zensical.toml").write_text(settings)
        done = subprocess.run(
            [zensical, "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            warnings = COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0].strip()
            raise PkiError(f"the site was not built:\n{warnings}", "correct the pages, then: ./run invoke docs")
        site = folder / "site"
        if faults := links.find_faults(site):
            raise PkiError("\n".join(faults), "correct the pages, then: ./run invoke docs")
        (site / MARK).touch()
        _replace(output, site)
    return len(list(output.rglob("*.html")))


def _check_replaceable(output: Path) -> None:
    if output.exists() and not (output / MARK).exists() and (not output.is_dir() or any(output.iterdir())):
        raise PkiError(f"{output}: is not a site of this program", "name a new folder: ./run invoke docs --output DIR")


def _replace(output: Path, site: Path) -> None:
    """Copy the site beside its place, and rename it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f".{output.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(site, fresh)
    if output.exists():
        shutil.rmtree(output)
    fresh.rename(output)
