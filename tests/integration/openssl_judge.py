"""The openssl command as a judge of chains."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import LiveHome, run

SERVERS = ("build/certs/monitoring-mtls", "build/certs/forge-mtls", "build/certs/media")
CLIENTS = ("ca/clients/admin",)
PURPOSES = [*((leaf, "sslserver") for leaf in SERVERS), *((leaf, "sslclient") for leaf in CLIENTS)]
LEAVES = (*SERVERS, *CLIENTS)
GENERATIONS = ("root-1", "server-1", "client-1")


def verify(home: LiveHome, leaf: Path | str, purpose: str, *options: str, ok: bool = True) -> str:
    """`openssl verify` at its strictest, with the CRL of every authority in the chain."""
    crls = home.path / "crls.pem"
    crls.write_bytes(b"".join(home.read(f"build/crl/{generation}.pem") for generation in GENERATIONS))
    folder = home.path / leaf
    return run(
        *("openssl", "verify", "-x509_strict", "-crl_check_all", "-policy_check", "-purpose", purpose),
        *("-no-CApath", "-no-CAstore", "-CAfile", home.path / "build/trust/roots.pem", "-CRLfile", crls),
        *("-untrusted", folder / "chain.pem", *options, folder / "cert.pem"),
        ok=ok,
    )


def certificate_of(home: LiveHome, generation: str) -> Path:
    return home.path / "ca" / generation.partition("-")[0] / generation / "cert.pem"
