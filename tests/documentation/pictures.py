"""The pictures of docs/images/ that programs make: the status page, and a session at a terminal. Chromium is needed.

`architecture.svg` is drawn by hand.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM

COLUMNS, LINES = 80, 40
SHOWN = "/srv/lab"  # as long as the folder in which the session is run, so that lines break at the same words
SESSION = (
    "./run invoke init {folder} --sandbox --yes",
    "cd {folder}",
    "./run doit",
    "./run invoke client.add admin@phone --email admin@lab.internal",
    "./run invoke client.revoke admin@phone --reason key-compromise --yes",
    "./run doit",
)
# rich's own format loads a font from another host
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="A session at a terminal" viewBox="0 0 {width} {height}">
<style>
text {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; }}
{styles}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#191919"/>
<defs>
{lines}
</defs>
<g transform="translate(9, 12)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def write(folder: Path) -> list[Path]:
    """Write the pictures into a folder; return their paths."""
    if not (chromium := shutil.which("chromium")):
        raise PkiError("chromium is not installed", "apt install chromium")
    with tempfile.TemporaryDirectory() as example:
        for name in ("pki.yaml", "templates"):
            source = PROGRAM / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, Path(example, name))
        _run("./run doit", PROGRAM, example)
        status = folder / "status.png"
        _screenshot(chromium, Path(example, "build/report/status.html"), status)
    session = folder / "session.svg"
    session.write_text(_session())
    return [status, session]


def _screenshot(chromium: str, page: Path, picture: Path) -> None:
    options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1")
    command = [chromium, *options, "--window-size=390,844", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode or not picture.exists():
        raise PkiError(f"chromium made no picture: {done.stderr.strip()}")


def _session() -> str:
    """Run the session in a project of its own; return what a terminal shows, as SVG."""
    folder = Path(tempfile.gettempdir()) / Path(SHOWN).name
    if folder.exists():
        raise PkiError(f"{folder}: already exists", f"is another session being run? otherwise: rm -r {folder}")
    folder.mkdir()
    try:
        texts = [_turn(command.format(folder=folder), folder) for command in SESSION]
    finally:
        shutil.rmtree(folder)
    screen = "\n".join(texts).replace(str(folder), SHOWN).replace(str(PROGRAM), "/opt/doit-pki")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    return console.export_svg(theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="session")


def _turn(command: str, folder: Path) -> str:
    """Run one command of the session; return the prompt, the command, and what a terminal shows of its output."""
    prompt = f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m"
    if command.startswith("cd "):
        return prompt
    is_first = not (folder / "pki.yaml").exists()
    shown = _run(command, PROGRAM if is_first else folder)
    return f"{prompt}\n{shown}".rstrip("\n")


def _run(command: str, folder: Path, home: str | None = None) -> str:
    """Run a command at a terminal of 80 columns; return what the terminal shows at its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TERM": "xterm-256color"}
    if home:
        environment["PKI_HOME"] = home
    process = subprocess.Popen(  # noqa: S602 - the commands of the session
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        shell=True,
    )
    os.close(theirs)
    output = bytearray()
    try:
        while data := os.read(ours, 1 << 16):
            output += data
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    if process.wait():
        raise PkiError(f"{command}: exit status {process.returncode}\n{output.decode()}")
    return _on_screen(output.decode())


def _on_screen(text: str) -> str:
    """Return the lines that stay: what a progress bar wrote and removed again is left out."""
    lines = [""]
    for part in re.split(r"(\r\n|\r|\n|\x1b\[\?25[lh]|\x1b\[\d*[AK])", text):
        if part.endswith("\n"):
            lines.append("")
        elif part.endswith("K"):
            lines[-1] = ""
        elif part.endswith("A") and part.startswith("\x1b"):
            lines.pop()
        elif part != "\r" and not part.startswith("\x1b[?25"):
            lines[-1] += part
    return "\n".join(lines)
