"""`python -m tests.documentation`: build the site, or write the reference, the pictures or the man page in docs/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.remedies import as_started
from tests.documentation import man_page, pictures, reference, site


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="invoke docs", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=PROGRAM / "build/docs", metavar="DIR")
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--man", action="store_true")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        if given.reference or given.pictures or given.man:
            written = reference.write(PROGRAM / "docs/reference") if given.reference else []
            written += pictures.write(PROGRAM / "docs/images") if given.pictures else []
            written += man_page.write(PROGRAM / "docs/doit-pki.1") if given.man else []
            print("\n".join(f"wrote {path.relative_to(PROGRAM)}" for path in written) or "up to date")
            return 0
        count = site.build(given.output)
    except PkiError as error:
        print(error.message + (f"\n→ {as_started(error.hint)}" if error.hint else ""), file=sys.stderr)
        return 1
    print(f"built {count} pages: {given.output}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
