"""Changes of the shell scripts that run on hosts: a guard that is gone, a condition turned round, a flush or mask left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CONFINED = "MUTANTS_CONFINED"
BOX = r"""
set -e
awk '{ print $5 }' /proc/self/mountinfo | while read -r at; do
    case $at in /proc | /proc/* | /sys | /sys/*) ;; *) mount -o remount,bind,ro "$at" 2>/dev/null || true ;; esac
done
for folder in / /etc /usr "$PWD"; do
    ! (: >"$folder/.probe") 2>/dev/null || { rm -f "$folder/.probe"; echo "$folder could be written to" >&2; exit 1; }
done
mount -t tmpfs tmpfs "$0"
TMPDIR=$0 MUTANTS_CONFINED=1 exec "$@"
"""

CHANGES = (
    (re.compile(r"\|\| (?:stop|refuse|fail) (?:'[^']*'|\"[^\"]*\")"), "|| true"),
    (re.compile(r"(?:\|\||&&) (?:return|exit)(?: [0-9])?(?=[ ;}]|$)"), "|| true"),
    (re.compile(r"\) return 1 ;;"), ") : ;;"),
    (re.compile(r"(?<=[;&|{(] )sync [^;&|)]*|^ *sync [^;&|)]*"), "true "),
    (re.compile(r"umask [0-7w-]+(?: && )?"), "true && "),
    (re.compile(r"(?<![!(\[] )(?<=[;&|{(] )\[ |(?<=if )\[ |^ *\[ "), "! [ "),
    (re.compile(r"! \[ "), "[ "),
    (re.compile(r"(?<=[;&|{(] )rm -r?f [^;&|)]*|^ *rm -r?f [^;&|)]*"), "true "),
    (re.compile(r" && "), " || "),
    (re.compile(r" -O \.| -L | -f | -d | -e "), " -n "),
)


def changed(source: str) -> Iterator[tuple[int, str]]:
    """The number of a line, and the script with one place of it changed; comments and quoted messages stay."""
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            continue
        code = line.partition(" # ")[0]
        for pattern, instead in CHANGES:
            for found in pattern.finditer(code):
                indent = (
                    found[0][: len(found[0]) - len(found[0].lstrip(" "))] if pattern.pattern.startswith("(?") else ""
                )
                new = line[: found.start()] + indent + instead + line[found.end() :]
                yield number + 1, "".join([*lines[:number], new, *lines[number + 1 :]])


def is_script(source: str) -> bool:
    """Whether a shell understands it."""
    return subprocess.run(["sh", "-n"], input=source, text=True, capture_output=True, check=False).returncode == 0


def confine(box: Path, arguments: Sequence[str]) -> None:
    """Start this program again where nothing but a new, empty folder can be written: a script without its guards may do anything."""
    if CONFINED in os.environ:
        return
    box.mkdir(exist_ok=True)
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    os.execvp(alone[0], [*alone, "sh", "-c", BOX, str(box), sys.executable, "-m", "tests.mutants", *arguments])  # noqa: S606 - it is the same program
