"""The actor of an event: the account and program of the process, and the user on whose behalf it runs."""

from __future__ import annotations

import os
import pwd

from pki import __version__

LONGEST = 64  # characters of each part


def current_actor() -> str:
    """Return the actor of this process, such as `root (doit-pki 0.2.0) (sudo alice) (PKI_ACTOR nightly run)`.

    The account is that of the process. SUDO_USER and PKI_ACTOR come from the environment: information, not proof. Each
    part has at most 64 characters; `?` replaces brackets and characters that are not printable, so that no value can
    imitate another part.
    """
    try:
        account = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        account = f"uid {os.geteuid()}"
    parts = [_plain(account), f"(doit-pki {__version__})"]
    for label, name in (("sudo", "SUDO_USER"), ("PKI_ACTOR", "PKI_ACTOR")):
        if value := _plain(os.environ.get(name, "")):
            parts.append(f"({label} {value})")
    return " ".join(parts)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() and c not in "()" else "?" for c in text.strip()[:LONGEST])
