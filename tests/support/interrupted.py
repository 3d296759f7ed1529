"""pki-apply killed before any of its steps: each program that it starts is one, and is counted."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.hosts import FolderHost

SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = (
    *("awk", "cat", "chmod", "chown", "cp", "date", "dd", "ln", "mkdir", "mv", "readlink", "rm", "sha256sum"),
    *("stat", "sync", "tail", "tar", "touch", "tr", "wc"),
)
COUNTING = """\
#!/bin/sh
read -r last <{root}/fuse
echo x >>{root}/count
[ "$(/usr/bin/wc -l <{root}/count)" -lt "$last" ] || kill -9 0
PATH={path}
exec {name} "$@"
"""


def insist_on_programs(shell: str | Path, path: str, count: Path) -> None:
    """A shell that is asked for `cat` must start the program: the busybox of busybox-static does it itself."""
    (count.parent / "fuse").write_text("9\n")
    subprocess.run([shell, "-c", "cat /dev/null"], env={"PATH": path}, check=True)
    assert count.exists(), f"{shell} starts no program for cat: apt install busybox, in place of busybox-static"


def fused(host: FolderHost, path: str = SYSTEM, shell: str | Path = "/bin/sh") -> Path:
    """The script once more; every program that it starts is counted, and its process group killed before one of them."""
    folder, program = host.root / "counting", host.root / "fused"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(COUNTING.format(root=host.root, path=path, name=name))
        (folder / name).chmod(0o755)
    insist_on_programs(shell, f"{folder}:{path}", host.root / "count")
    text = host.program.read_text()
    assert text.count(f"PATH={path}\n") == 1
    program.write_text(text.replace(f"PATH={path}\n", f"PATH={folder}:{path}\n"))
    program.chmod(0o755)
    return program


def blow(program: Path, words: bytes, at: int, *arguments: str) -> bool:
    """Let it be killed before the program of a number; whether it came so far."""
    (program.parent / "count").unlink(missing_ok=True)
    (program.parent / "fuse").write_text(f"{at}\n")
    done = subprocess.run(
        [program, *arguments], input=words, capture_output=True, timeout=300, check=False, start_new_session=True
    )
    return done.returncode not in {0, 1}
