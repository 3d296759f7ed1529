"""The folder of the program, and the package in it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PROGRAM = PACKAGE.parent  # a clone of the repository: `run`, `pki/`, `templates/`
