"""The paths of a project: what each file is called, and the locks of a run."""

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

BEFORE_RESTORE = "ca.before-restore-"  # plus the time: the folder beside ca/ for files that a restore replaced
RESTORING = ".restore.new"  # the folder in which a restore prepares its files
ALERTS = ".alerts.json"  # in ca/: recipients, and the last notification of each


class Store:
    """The folders and files of one project, below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = home / "ca"
        self.build = home / "build"
        self.offline = home / "offline"
        self.templates = home / "templates"

    def shown(self, path: Path) -> str:
        """Return a path as messages show it: relative to the project where possible."""
        return str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path)

    # -- authorities --

    def generations(self, authority: str) -> list[GenerationName]:
        """Return the generations of an authority that have a certificate, oldest first: `server-1`, `server-2`."""
        folder = self.ca / authority
        names = (GenerationName.parse(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
        generations = (generation for generation in names if generation.number and generation.authority == authority)
        return sorted(
            (generation for generation in generations if os.path.lexists(folder / generation / "cert.pem")),
            key=lambda generation: generation.number,
        )

    def prepared(self) -> list[GenerationName]:
        """Return the intermediates whose request waits for a certificate."""
        requests = (path for path in self.files("request.pem") if not (path.parent / "cert.pem").exists())
        return [GenerationName.parse(path.parent.name) for path in requests]

    def files(self, name: str) -> list[Path]:
        """Return the files called `name` of all intermediates, certified or not."""
        paths = (
            path for authority in AUTHORITIES[1:] for path in (self.ca / authority).glob(f"{authority}-[0-9]*/{name}")
        )
        return sorted(path for path in paths if GenerationName.parse(path.parent.name).number)

    @property
    def is_initialised(self) -> bool:
        """Return whether an authority has a certificate: then a ledger must exist too."""
        return bool(authority_certificates(self.ca))

    def authority_file(self, generation: str, name: str) -> Path:
        """Return the path of `cert.pem`, `key.pem`, `request.pem` … of a generation, below `ca/`."""
        parsed = GenerationName.parse(generation)
        return (self.ca / parsed.authority if parsed.number else self.ca) / generation / name

    def cross_certificates(self, root: str) -> list[Path]:
        """Return the certificates that older roots issued for the key of a root."""
        return sorted(self.authority_file(root, "cert.pem").parent.glob("cross-root-*.pem"))

    def ceremony(self, number: int) -> Path:
        """Return the folder of one ceremony: its request and, once it was held, its response."""
        return self.ca / "ceremonies" / f"{number:04}"

    def ceremonies(self) -> list[Path]:
        """Return the folders of all ceremonies that were ever requested, oldest first."""
        return [path.parent for path in sorted((self.ca / "ceremonies").glob("[0-9][0-9][0-9][0-9]/request.yaml"))]

    def presigned_crls(self, root: str) -> list[Path]:
        """Return the files of the pre-signed CRLs of a root, lowest number first."""
        folder = self.authority_file(root, "crl")
        return sorted(folder.glob("[0-9]*.pem"), key=lambda p: int(p.stem)) if folder.is_dir() else []

    # -- files that doit creates --

    def leaf_file(self, leaf: Leaf, name: str) -> str:
        """Return the path of one of a leaf's files, as text because a run computes it for ten thousand leaves.

        Keys of clients are in `ca/`: a key that is installed on a device cannot be replaced by a new one. A host
        called client-x is not a client.
        """
        if client := leaf.client:
            return f"{self.ca}/clients/{client}/{name}"
        return f"{self.build}/certs/{leaf.name}/{name}"

    def bundle(self, leaf: Leaf) -> Path:
        """Return the file from which a leaf's other files are split.

        It is tls.pem, or fullchain.pem where the private key is not here.
        """
        return Path(self.leaf_file(leaf, "fullchain.pem" if leaf.request else "tls.pem"))

    def crl(self, generation: str, form: str = "crl") -> Path:
        """Return the path of a CRL; `form` is `crl` (DER) or `pem`."""
        return self.build / "crl" / f"{generation}.{form}"

    def client_crl_bundle(self) -> Path:
        """Return the path of the file with the CRLs of every live client chain."""
        return self.build / "crl" / "bundle-client.pem"

    def ca_der(self, generation: str) -> Path:
        """Return the path of the published certificate (DER) of a generation."""
        return self.trust(f"{generation}.crt")

    def trust(self, name: str) -> Path:
        """Return the path of a file that clients and servers need in order to trust the project."""
        return self.build / "trust" / name

    def release(self, host: str) -> Path:
        """Return the folder of a host's release."""
        return self.build / "release" / host

    def receipt(self, host: str) -> Path:
        """Return the path of a host's receipt, the record of its last deployment."""
        return self.build / "receipts" / f"{host}.json"

    def history(self, host: str) -> Path:
        """Return the folder with the last releases of a host and the log of its deployments."""
        return self.build / "history" / host

    def contact(self, host: str) -> Path:
        """Return the path of the record of the last contact with a host."""
        return self.build / "contacts" / f"{host}.json"

    def host_root(self, host: str) -> Path:
        """Return the root directory of a host whose release is written into a folder."""
        return self.build / "hosts" / host

    def report(self, name: str) -> Path:
        """Return the path of a report of the last run, for people and monitoring programs."""
        return self.build / "report" / name

    @property
    def notification_folder(self) -> Path:
        """Return the folder of the notification history: `ca/`, or that of the reports while `ca/` is lost."""
        return self.ca if self.ca.is_dir() else self.build / "report"

    def ansible(self) -> Path:
        """Return the folder of the files that Ansible reads and writes."""
        return self.build / "ansible"

    # -- one run at a time --

    def check_locks(self) -> None:
        """Raise PkiError that names the file when the lock of a run cannot be used."""
        if self.ca.is_dir():
            locks.require_usable(self.ca / ".run.lock")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the project; another run waits, and prints which process it waits for."""
        with self.turn("run.lock", lambda holder: f"waiting for another run (process {holder}) to end"):
            with self.turn("workers.lock"):
                pass  # a worker of a killed run may be in its last write while the kernel ends it
            yield

    def join_run(self) -> bool:
        """Keep the next run waiting while this process, a worker of a run, exists.

        Returns False where the next run has started already, because the run of this worker was killed.
        """
        make_folder(self.ca, 0o700)
        return locks.hold_shared(self.ca / ".workers.lock")

    @contextmanager
    def turn(
        self, name: str, waiting: Callable[[str], str] | None = None, *, within: Path | None = None
    ) -> Iterator[None]:
        """Hold one of the project's locks, a file in `ca/` or in the folder `within`, as `locks.held` does."""
        folder = within or self.ca
        make_folder(folder, 0o700)
        with locks.exclusive(folder / f".{name}", waiting):
            yield
