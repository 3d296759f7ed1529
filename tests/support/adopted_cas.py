"""CAs of easy-rsa and of openssl, adopted."""

from __future__ import annotations

from tests.support.projects import Home


def adopt(home: Home, name: str = "legacy", folder: str = "", rest: str = "") -> None:
    """Name an adopted authority in pki.yaml."""
    line = f"  {name}: {{adopt: {folder or f'ca/{name}'}{rest}}}\n"
    home.edit("  client: {lifetime: 2y,", f"{line}  client: {{lifetime: 2y,")
