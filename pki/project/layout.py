"""The disk: what each file is called, its mode, atomic writes, PEM sections, the lock.

Every file is written beside its place, flushed to disk and renamed, so a reader sees the old or the new one, whole.
The name of the file beside is fixed (`.NAME.new`): what a killed run left there, the next write takes over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pki.common import locks
from pki.common.filesystem import make_folder
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.config.model import Leaf
from pki.ledger.last_seen import authority_certificates

BEFORE_RESTORE = "ca.before-restore-"  # and the time: a folder beside ca/ with what was in the way of a restore
RESTORING = ".restore.new"  # what a restore is about to put in place
ALERTS = ".alerts.json"  # in ca/: who is told, and what was told last


class Store:
    """The folders of one project, below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = home / "ca"
        self.build = home / "build"
        self.offline = home / "offline"
        self.templates = home / "templates"

    def shown(self, path: Path) -> str:
        """A path as messages show it: relative to the project."""
        return str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path)

    # -- authorities --

    def generations(self, authority: str) -> list[GenerationName]:
        """Names of an authority's generations that have a certificate, oldest first: `server-1`, `server-2`."""
        folder = self.ca / authority
        names = (GenerationName.parse(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
        found = (one for one in names if one.number and one.authority == authority)
        return sorted((one for one in found if os.path.lexists(folder / one / "cert.pem")), key=lambda one: one.number)

    def prepared(self) -> list[GenerationName]:
        """Names of the intermediates whose request waits for a certificate."""
        waiting = (path for path in self.files("request.pem") if not (path.parent / "cert.pem").exists())
        return [GenerationName.parse(path.parent.name) for path in waiting]

    def files(self, name: str) -> list[Path]:
        """The files of a name of all intermediates, certified or not."""
        found = (path for one in AUTHORITIES[1:] for path in (self.ca / one).glob(f"{one}-[0-9]*/{name}"))
        return sorted(path for path in found if GenerationName.parse(path.parent.name).number)

    @property
    def is_initialised(self) -> bool:
        """Whether an authority has a certificate: the ledger, which knew it before, must be there too."""
        return bool(authority_certificates(self.ca))

    def authority_file(self, generation: str, name: str) -> Path:
        """`cert.pem`, `key.pem`, `request.pem` … of a generation, below `ca/`."""
        found = GenerationName.parse(generation)
        return (self.ca / found.authority if found.number else self.ca) / generation / name

    def cross_certificates(self, root: str) -> list[Path]:
        """The certificates that older roots gave to the key of a root."""
        return sorted(self.authority_file(root, "cert.pem").parent.glob("cross-root-*.pem"))

    def ceremony(self, number: int) -> Path:
        """The folder of one ceremony: its request, and once it was held, its response."""
        return self.ca / "ceremonies" / f"{number:04}"

    def ceremonies(self) -> list[Path]:
        """The folders of all ceremonies that were ever asked for, oldest first."""
        return [path.parent for path in sorted((self.ca / "ceremonies").glob("[0-9][0-9][0-9][0-9]/request.yaml"))]

    def presigned_crls(self, root: str) -> list[Path]:
        """The pre-signed root CRLs of a generation, in the order of their numbers."""
        folder = self.authority_file(root, "crl")
        return sorted(folder.glob("[0-9]*.pem"), key=lambda p: int(p.stem)) if folder.is_dir() else []

    # -- what doit makes --

    def leaf_file(self, leaf: Leaf, name: str) -> str:
        """The path of one of a leaf's files, as text: ten thousand leaves are asked for theirs every day.

        Clients' keys are kept in `ca/`, because nobody can make the one on a device again; a host called client-x is none.
        """
        if client := leaf.client:
            return f"{self.ca}/clients/{client}/{name}"
        return f"{self.build}/certs/{leaf.name}/{name}"

    def bundle(self, leaf: Leaf) -> Path:
        """The file from which a leaf's others are cut: tls.pem, or fullchain.pem where the key is elsewhere."""
        return Path(self.leaf_file(leaf, "fullchain.pem" if leaf.request else "tls.pem"))

    def crl(self, generation: str, form: str = "crl") -> Path:
        """`form` is `crl` (DER) or `pem`."""
        return self.build / "crl" / f"{generation}.{form}"

    def client_crl_bundle(self) -> Path:
        return self.build / "crl" / "bundle-client.pem"

    def ca_der(self, generation: str) -> Path:
        return self.trust(f"{generation}.crt")

    def trust(self, name: str) -> Path:
        return self.build / "trust" / name

    def release(self, host: str) -> Path:
        return self.build / "release" / host

    def receipt(self, host: str) -> Path:
        return self.build / "receipts" / f"{host}.json"

    def history(self, host: str) -> Path:
        """What a host was sent: its last releases and a log."""
        return self.build / "history" / host

    def contact(self, host: str) -> Path:
        return self.build / "contacts" / f"{host}.json"

    def host_root(self, host: str) -> Path:
        """The root directory of a host that is delivered into a folder."""
        return self.build / "hosts" / host

    def report(self, name: str) -> Path:
        """What a run leaves for people and their programs to read."""
        return self.build / "report" / name

    @property
    def notification_folder(self) -> Path:
        """Where it is kept who was told what: `ca/`; while it is lost, among the reports."""
        return self.ca if self.ca.is_dir() else self.build / "report"

    def ansible(self) -> Path:
        """What Ansible is given, and what came of it."""
        return self.build / "ansible"

    # -- one run at a time --

    def check_locks(self) -> None:
        """Raise PkiError that names it when the lock of a run cannot be used."""
        if self.ca.is_dir():
            locks.insist(self.ca / ".run.lock")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project alone; a second run waits and says for whom."""
        with self.turn("run.lock", lambda holder: f"waiting for another run (process {holder}) to end"):
            with self.turn("workers.lock"):
                """A worker of a run that was killed may still be at its last write: the kernel is ending it."""
            yield

    def join_run(self) -> bool:
        """In a worker of a run: keep the next run out for as long as this process lives.

        False where there is a next run already, because the one that this process worked for is gone.
        """
        make_folder(self.ca, 0o700)
        return locks.share(self.ca / ".workers.lock")

    @contextmanager
    def turn(
        self, name: str, waiting: Callable[[str], str] | None = None, *, within: Path | None = None
    ) -> Iterator[None]:
        """Hold one of the project's locks, a file in `ca/` or `within` another folder, as `locks.held` does."""
        folder = within or self.ca
        make_folder(folder, 0o700)
        with locks.held(folder / f".{name}", waiting):
            yield
