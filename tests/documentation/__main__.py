"""`python -m tests.documentation`: build the site, or write the reference or the pictures in docs/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.remedies import as_started
from tests.documentation import site


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="invoke docs", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=PROGRAM / "build/docs", metavar="DIR")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        count = site.build(given.output)
    except PkiError as error:
        print(error.message + (f"\n→ {as_started(error.hint)}" if error.hint else ""), file=sys.stderr)
        return 1
    print(f"built {count} pages: {given.output}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
