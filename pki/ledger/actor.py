"""Who records something: the account, and on whose behalf, as far as the environment tells."""

from __future__ import annotations

import os
import pwd

LONGEST = 64  # characters of each part


def present() -> str:
    """Return who runs this process, such as `root (sudo alice) (PKI_ACTOR nightly run)`.

    The account is that of the process. SUDO_USER and PKI_ACTOR are what the environment says: a note, and no proof. Each
    part is cut to 64 characters; `?` replaces a character that is not printable and the brackets, so that no value can
    pass for another part.
    """
    try:
        account = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        account = f"uid {os.geteuid()}"
    parts = [_plain(account)]
    for label, name in (("sudo", "SUDO_USER"), ("PKI_ACTOR", "PKI_ACTOR")):
        if value := _plain(os.environ.get(name, "")):
            parts.append(f"({label} {value})")
    return " ".join(parts)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() and c not in "()" else "?" for c in text.strip()[:LONGEST])
