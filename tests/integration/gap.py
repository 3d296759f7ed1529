"""A machine with a network and one without, and a drive between them."""

from __future__ import annotations

import re
from pathlib import Path

from pki.ceremony import words
from tests.integration import air_gap
from tests.integration.air_gap import Machine
from tests.integration.conftest import LiveHome, run
from tests.integration.gnutls_judge import gnutls
from tests.integration.openssl_judge import GENERATIONS, certificate_of, verify
from tests.support.leavings import is_idle

PASSPHRASE = words.new_passphrase()  # which lies nowhere yet, not even in the tests of a clone
LEAVES = {"build/certs/web": "sslserver", "build/certs/web-mtls": "sslserver", "ca/clients/admin": "sslclient"}


class Gap:
    """An online machine, an offline one, and a stick."""

    def __init__(self, folder: Path) -> None:
        self.online = air_gap.machine(folder / "online", "project")
        self.offline = air_gap.machine(folder / "offline")
        self.stick, self.vault = folder / "stick", folder / "offline/vault"
        self.project = LiveHome(self.online.folder / "project")
        for path in (self.stick, self.vault):
            path.mkdir()
        self.passphrase_file = self.offline.folder / "passphrase"
        self.passphrase_file.write_text(f"{PASSPHRASE}\n")
        self.words = ""

    def found(self, more: str = "", secrets: str = "") -> None:
        """A project, its first run, and the request that this prepared."""
        self.online.invoke("init", "project", *air_gap.PROJECT_FOLDER)
        with (self.project.path / "pki.yaml").open("a") as text:
            text.write(more)
        with (self.project.path / "secrets.yaml").open("a") as text:
            text.write(secrets)
        said = self.online.run("doit", ok=False)
        assert "created   ceremony:request" in said
        assert "ceremony.request" in said
        said = self.online.invoke("ceremony.request", "--output", self.stick)
        self.words = air_gap.words_in(said)
        assert "can be performed" in self.online.invoke("ceremony.rehearse")

    def hold(self, offline: Machine, root: tuple[str | Path, ...], sign: tuple[str | Path, ...]) -> str:
        """Root and response on the offline machine, whose checks find nothing; returns the response's words."""
        rest = ("--vault", self.vault, "--words", self.words, *air_gap.despite_swap(), *air_gap.folder_as_vault())
        request = self.stick / "request-0001.yaml"
        said = offline.invoke("ceremony.root", request, *rest, *root)
        assert "fit     network: no network interface is up" in said
        said = offline.invoke("ceremony.sign", request, *rest, "--output", self.stick, *sign)
        return air_gap.words_in(said)

    def settle(self, typed: str) -> None:
        """Take the response in; a run delivers everything, and the next one has nothing to do."""
        self.online.invoke("ceremony.accept", self.stick / "response-0001", "--words", typed)
        assert "deploy:web" in self.online.run("doit")
        assert is_idle(self.online.run("doit"))
        assert (self.project.path / "build/hosts/web/etc/doit-pki").is_dir()

    def judge(self) -> None:
        """Openssl and GnuTLS look at every leaf and CRL; both sides compute everything again."""
        for leaf, purpose in LEAVES.items():
            assert verify(self.project, leaf, purpose).endswith(": OK\n")
            assert "Chain verification output: Verified." in gnutls(self.project, leaf, purpose)
        for generation in GENERATIONS:
            said = run(
                *("certtool", "--verify-crl", "--load-ca-certificate", certificate_of(self.project, generation)),
                *("--infile", self.project.path / f"build/crl/{generation}.pem"),
            )
            assert "Verification output: Verified." in said
        heads = {
            re.findall(r"head (\w+)", self.online.invoke("ceremony.verify"))[0],
            re.findall(r"head (\w+)", self.offline.invoke("ceremony.verify", self.vault))[0],
        }
        assert len(heads) == 1
