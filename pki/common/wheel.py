"""The build backend: flit's, and the files beside the package go into the wheel, so that an installed program has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flit_core import wheel
from flit_core.buildapi import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from pki.common.program_files import IN_PACKAGE, PROGRAM, program_files

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

MAN_PAGE = "docs/doit-pki.1"


class WheelBuilder(wheel.WheelBuilder):  # type: ignore[misc]
    """flit's builder of wheels, with the files of the program that are not in its package."""

    def copy_module(self) -> None:
        """Add the package, then the other files of the program, below `pki/program/`."""
        super().copy_module()
        for name, path in program_files().items():
            if not name.startswith("pki/"):
                self._add_file(path, f"pki/{IN_PACKAGE}/{name}")

    def add_data_directory(self) -> None:
        """Add the man page, which pip copies into `share/man/` of the environment."""
        data = self.dist_info.removesuffix(".dist-info") + ".data/data"
        self._add_file(PROGRAM / MAN_PAGE, f"{data}/share/man/man1/{Path(MAN_PAGE).name}")


def build_wheel(folder: str, _settings: Any = None, _metadata: str | None = None) -> str:
    """Build the wheel in `folder`, from the source tree in the current folder; return its name."""
    beside = Path(folder) / ".doit-pki.whl.new"
    with beside.open("w+b") as file:
        builder = WheelBuilder.from_ini_path(Path("pyproject.toml"), file)
        builder.build()
    name: str = builder.wheel_filename
    beside.rename(beside.with_name(name))
    return name
