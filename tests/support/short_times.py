"""A project whose certificates live for hours."""

from __future__ import annotations

from tests.support.projects import Home


def shorten(home: Home, *, server: str, client: str, crl: str) -> None:
    text = (home.path / "pki.yaml").read_text()
    head, _, rest = text.partition("profiles:\n")
    rest = rest[rest.index("\n\n") :]
    head = head.replace("crl: {lifetime: 21d, refresh: 7d}", f"crl: {crl}")
    (home.path / "pki.yaml").write_text(f"{head}profiles:\n  server: {server}\n  client: {client}\n{rest}")
