"""Values of headers of managed files that depend on the content: the mode of the file, the order of its certificates."""

from __future__ import annotations

import re

from pki.common.errors import PkiError
from pki.common.file_headers import FIX_HEADER
from pki.deploy.managed_files import ManagedFile

LOOSEST_SECRET = 0o640  # the most permissive mode of a file with a private key
ORDERS = ("leaf-first", "any")


def octal_mode(managed: ManagedFile, value: str, *, is_secret: bool) -> str:
    """Return the mode of a file as four octal digits; `value` is that of the header `deploy-mode`, or "".

    Raises PkiError for a mode that lets other accounts read a private key.
    """
    mode = value or ("0600" if is_secret else "0644")
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise PkiError(f"{managed.place('deploy-mode')}: expected an octal mode such as 0644, got {mode!r}")
    if is_secret and int(mode, 8) & ~LOOSEST_SECRET:
        raise PkiError(
            f"{managed.place('deploy-mode')}: {mode} lets other accounts read a private key",
            "use 0600, or 0640 at most",
        )
    return f"{int(mode, 8):04o}"


def is_any_order(managed: ManagedFile, value: str) -> bool:
    """Return whether `deploy-order` permits that the certificate of the key is not the first one of the file."""
    if value and value not in ORDERS:
        raise PkiError(f"{managed.place('deploy-order')}: expected {' or '.join(ORDERS)}, got {value!r}", FIX_HEADER)
    return value == "any"
