"""Real ceremonies in a few lines: a project outside the sandbox, its vault, and a clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

import tasks
from pki.ceremony import drives, request_response, transcript_chain, words
from pki.ceremony.offline import key_storage, machine_check, response_export, session, steps
from pki.ceremony.offline.session import CeremonySession
from pki.ceremony.online import accept_response, make_request
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.policy import VaultContents
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.cli.program import Program
from pki.x509 import keys
from tests.support.copies import copy_project
from tests.support.projects import START, Home, bare_home

SECRET = "tuna-river-cabin-moss-kettle-orbit"
NOTHING_MORE = RequestOptions()


@dataclass(frozen=True)
class RealHome(Home):
    """A project without `sandbox: true`, with the vault beside it; `days` move the clock of everybody."""

    @property
    def vault(self) -> Vault:
        return Vault(self.path.parent / "vault")

    @property
    def out(self) -> Path:
        return self.path.parent / "out"

    def copy(self, path: Path) -> RealHome:
        """Project, vault and responses once more: a ceremony takes a second, a copy nothing."""
        copy_project(self.path.parent, path)
        return RealHome(path / self.path.name)

    def ask(self, options: RequestOptions = NOTHING_MORE, days: float = 0) -> OpenRequest:
        """The request for the next ceremony, as `invoke ceremony.request` prepares it."""
        project = self.project(days)
        prepared = make_request.RequestPreparation(project).prepare(options)
        project.close(run_succeeded=False)
        return prepared

    def open(self, path: Path, days: float = 0) -> CeremonySession:
        """A sitting at the offline machine over a request."""
        now = self.moment(days)
        return session.open_session(self.vault, path.read_bytes(), str(path), lambda: now)

    def answer(self, path: Path, days: float = 0, secret: str = SECRET) -> Path:
        """Make the roots that a request asks for, and sign it; returns the folder of the response."""
        held = self.open(path, days)
        session.confirm_request(held, [], words.first(held.digest))
        if any(root.name not in held.contents.roots for root in held.request.roots):
            steps.make_roots(held, lambda _, kind: key_storage.store_in_file(keys.new_key(kind), secret))
        return steps.sign(held, lambda _: secret, self.out)

    def vault_is_ahead_of(self, path: Path) -> bool:
        """Whether the vault knows of ceremonies that the project of a request does not."""
        request = request_response.load(path.read_bytes(), str(path), request_response.Request)
        return VaultContents(self.vault.roots(), self.vault.history()).is_ahead_of(request)

    def answer_again(self, days: float = 0) -> Path:
        """The response of the last ceremony once more; returns its folder."""
        now, data = self.moment(days), (self.vault.history()[-1].folder / "request.yaml").read_bytes()
        folder = response_export.write_response_again(
            self.vault, data, self.out, lambda: Transcript(self.vault.transcript, lambda: now)
        )
        assert folder
        return folder

    def accept(self, folder: Path, days: float = 0) -> list[str]:
        """Take a response in, its digest confirmed; returns the CRLs that are to be destroyed."""
        project = self.project(days)
        try:
            return accept_response.ResponseAcceptance(project).store(
                accept_response.ResponseAcceptance(project).verify(folder)
            )
        finally:
            project.close(run_succeeded=False)

    def ceremony(self, options: RequestOptions = NOTHING_MORE, days: float = 0) -> list[str]:
        """A whole ceremony in one day."""
        return self.accept(self.answer(self.ask(options, days).path, days), days)

    def certificate(self, generation: str, name: str = "cert.pem") -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.project().store.authority_file(generation, name).read_bytes())

    def series(self, root: str = "root-1") -> list[x509.CertificateRevocationList]:
        """The root CRLs in `ca/`, in the order of their numbers."""
        return [x509.load_pem_x509_crl(path.read_bytes()) for path in self.project().store.presigned_crls(root)]

    def published(self, generation: str = "root-1") -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(self.read(f"build/crl/{generation}.crl"))


def first_ceremony(path: Path) -> RealHome:
    """A project outside the sandbox after its first ceremony and its first whole run."""
    home = real_home(path)
    home.ceremony()
    report = home.doit()
    assert report.status == 0, report.failed
    return home


def real_home(path: Path) -> RealHome:
    """The example without its sandbox line, before its first ceremony."""
    home = RealHome(bare_home(path / "project").path)
    home.edit("sandbox: true", "sandbox: false")
    for folder in (home.vault.folder, home.out):
        folder.mkdir()
    return home


def drives_at(folders: dict[str, Path], file: Path, kind: str = "ext4") -> None:
    """Write `file` as the kernel's list of mounts: each folder is a drive of its own, by the name of its device."""
    lines = ["1 0 254:0 / / rw - ext4 /dev/vda rw"]
    for number, (name, folder) in enumerate(folders.items(), 1):
        lines.append(f"{number + 1} 1 8:{16 * number + 1} / {folder.resolve()} rw shared:1 - {kind} /dev/{name}1 rw")
    file.write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class Typist:
    """Who types `./run invoke …` in the folder above a project, at a machine that is fit for a ceremony."""

    home: RealHome
    capsys: pytest.CaptureFixture[str]

    @property
    def desk(self) -> Path:
        return self.home.path.parent

    def __call__(self, *arguments: str, days: float = 0) -> tuple[int, str]:
        """Exit status and everything that was said."""
        settings = {
            "pki_home": str(self.home.path),
            "pki_now": START + timedelta(days=days),
            "pki_called_from": str(self.desk),
        }
        tasks.ns.configure(settings)
        self.capsys.readouterr()
        status = 0
        try:
            Program(tasks.ns).run(["invoke", *arguments])
        except SystemExit as left:
            status = int(left.code or 0)
        output = self.capsys.readouterr()
        return status, output.out + output.err

    def records(self) -> list[transcript_chain.Record]:
        """The transcript of the vault."""
        return transcript_chain.load(self.home.vault.transcript.read_bytes(), "transcript.jsonl")

    def words_of(self, file: str) -> str:
        return words.first(request_response.digest((self.desk / file).read_bytes()))


def fit_typist(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Whoever types at a machine that is fit, before the first ceremony, with a passphrase in the file `secret`.

    `vault`, `medium` and `out` are drives of their own.
    """
    fit = partial(machine_check.check_machine, swaps=Path("/nowhere"), interfaces=list)
    monkeypatch.setattr(machine_check, "check_machine", fit)
    home = real_home(tmp_path / "desk")
    drives_at({"sda": home.vault.folder, "sdb": home.out, "sdc": home.path.parent / "medium"}, tmp_path / "mounts")
    monkeypatch.setattr(drives, "MOUNTS", tmp_path / "mounts")
    (home.path.parent / "secret").write_text(f"{SECRET}\n")
    return Typist(home, capsys)
