"""Build both projects and print their lines: `./run python -m tests.golden FOLDER > tests/golden/files.txt`.

With one folder for each of two commits, `diff -r` shows what a changed line stands for.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from tests.golden import projects, record
from tests.support.projects import hasty, keys_opened_once

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    with hasty(), keys_opened_once(), redirect_stdout(sys.stderr):
        projects.built(folder)
    print("\n".join(record.lines(folder)))
