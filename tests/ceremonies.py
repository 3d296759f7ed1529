"""Real ceremonies in a few lines: a house outside the sandbox, its vault, and a clock."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki import issue
from pki.ceremony import custody, hold, sitting, words
from pki.ceremony.sitting import Ceremony
from pki.ceremony.vault import Vault
from pki.handover import accepting, asking
from pki.handover.asking import Open, Wish
from tests.conftest import Home, bare_home

SECRET = "tuna-river-cabin-moss-kettle-orbit"
NOTHING_MORE = Wish()


@dataclass(frozen=True)
class RealHome(Home):
    """A house without `sandbox: true`, with the vault beside it; `days` move the clock of everybody."""

    @property
    def vault(self) -> Vault:
        return Vault(self.path.parent / "vault")

    @property
    def out(self) -> Path:
        return self.path.parent / "out"

    def copy(self, path: Path) -> RealHome:
        """House, vault and responses once more: a ceremony takes a second, a copy nothing."""
        shutil.copytree(self.path.parent, path, symlinks=True)
        return RealHome(path / self.path.name)

    def ask(self, wish: Wish = NOTHING_MORE, days: float = 0) -> Open:
        """The request for the next ceremony, as `invoke ceremony.request` prepares it."""
        house = self.house(days)
        asked = asking.prepare(house, wish)
        house.close(settled=False)
        return asked

    def open(self, path: Path, days: float = 0) -> Ceremony:
        """A sitting at the offline machine over a request."""
        now = self.moment(days)
        return sitting.opened(self.vault, path.read_bytes(), str(path), lambda: now)

    def answer(self, path: Path, days: float = 0, secret: str = SECRET) -> Path:
        """Make the roots that a request asks for, and sign it; returns the folder of the response."""
        held = self.open(path, days)
        sitting.confirmed(held, [], words.first(held.digest))
        if any(root.name not in held.known.roots for root in held.request.roots):
            hold.make_roots(held, lambda _, kind: custody.in_file(issue.new_key(kind), secret))
        return hold.sign(held, lambda _: secret, self.out)

    def accept(self, folder: Path, days: float = 0) -> list[str]:
        """Take a response in, its digest confirmed; returns the CRLs that are to be destroyed."""
        house = self.house(days)
        try:
            return accepting.file(house, accepting.brought(house, folder))
        finally:
            house.close(settled=False)

    def ceremony(self, wish: Wish = NOTHING_MORE, days: float = 0) -> list[str]:
        """A whole ceremony in one day."""
        return self.accept(self.answer(self.ask(wish, days).path, days), days)

    def certificate(self, generation: str, name: str = "cert.pem") -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.house().store.authority_file(generation, name).read_bytes())

    def ladder(self, root: str = "root-1") -> list[x509.CertificateRevocationList]:
        """The root CRLs in `ca/`, in the order of their numbers."""
        return [x509.load_pem_x509_crl(path.read_bytes()) for path in self.house().store.rungs(root)]

    def published(self, generation: str = "root-1") -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(self.read(f"build/crl/{generation}.crl"))


def first_ceremony(path: Path) -> RealHome:
    """A house outside the sandbox after its first ceremony and its first whole run."""
    home = real_home(path)
    home.ceremony()
    report = home.doit()
    assert report.status == 0, report.failed
    return home


def real_home(path: Path) -> RealHome:
    """The example without its sandbox line, before its first ceremony."""
    home = RealHome(bare_home(path / "house").path)
    home.edit("sandbox: true", "sandbox: false")
    for folder in (home.vault.folder, home.out):
        folder.mkdir()
    return home
