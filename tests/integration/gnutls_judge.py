"""GnuTLS as a judge of chains."""

from __future__ import annotations

from tests.integration.conftest import LiveHome, run

USAGE = {"sslserver": "1.3.6.1.5.5.7.3.1", "sslclient": "1.3.6.1.5.5.7.3.2"}


def gnutls(home: LiveHome, leaf: str, purpose: str, *, ok: bool = True) -> str:
    return run(
        *("certtool", "--verify", "--load-ca-certificate", home.path / "build/trust/roots.pem"),
        *("--infile", home.path / leaf / "fullchain.pem", "--verify-purpose", USAGE[purpose]),
        ok=ok,
    )
