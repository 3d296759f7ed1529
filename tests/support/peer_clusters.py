"""A cluster in the example: the authority of clusters, and the host media as a member."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.support.projects import Home

MEMBER = "[media.lab.internal, 10.30.0.10]"
ADDRESS = "    address: 10.30.0.10\n"


def declare(home: Home, rule: str = "{}") -> None:
    """Write the authority of clusters into the pki.yaml of the example, and make media a member."""
    home.edit("  client: {lifetime: 2y,", f"  peer: {rule}\n  client: {{lifetime: 2y,")
    home.edit(ADDRESS, f"{ADDRESS}    peer: {MEMBER}\n")


def withdraw(home: Home, rule: str = "{}") -> None:
    """Remove from pki.yaml what `declare` wrote."""
    home.edit(f"  peer: {rule}\n", "")
    home.edit(f"    peer: {MEMBER}\n", "")


def openssl_verify(trust: Path, chain: Path, at: datetime, purpose: str, crls: Sequence[Path] = ()) -> str:
    """Let OpenSSL verify the first certificate of `chain` as a `sslserver` or `sslclient`; return its error, or ""."""
    lists = ["-crl_check_all", *(part for crl in crls for part in ("-CRLfile", str(crl)))] if crls else []
    command = ("openssl", "verify", "-x509_strict", "-attime", str(int(at.timestamp())), "-purpose", purpose, *lists)
    done = subprocess.run(
        (*command, "-CAfile", str(trust), "-untrusted", str(chain), str(chain)),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
