"""The paths of what a project must not lose: its authorities and ceremonies, in `ca/`."""

from __future__ import annotations

import os
from pathlib import Path

from pki.config.identifiers import ALL_AUTHORITIES, AUTHORITIES, OWN_FOLDERS, PEER_AUTHORITIES, ROOTS, GenerationName
from pki.ledger.last_seen import authority_certificates


class CaFiles:
    """The files in `ca/`, the folder of the authorities."""

    ca: Path

    def generations(self, authority: str) -> list[GenerationName]:
        """Return the generations of an authority that have a certificate, oldest first: `server-1`, `server-2`."""
        folder = os.path.join(self.ca, authority)
        names = map(GenerationName.parse, _entries(folder))
        generations = (generation for generation in names if generation.number and generation.authority == authority)
        return sorted(
            (generation for generation in generations if os.path.lexists(f"{folder}/{generation}/cert.pem")),
            key=lambda generation: generation.number,
        )

    def roots(self) -> list[GenerationName]:
        """Return all roots that have a certificate: those of servers and clients, then those of clusters."""
        return [name for authority in ROOTS for name in self.generations(authority)]

    def external_authorities(self) -> list[str]:
        """Return the external authorities that have a certificate, also those that pki.yaml no longer declares."""
        names = sorted(path.name for path in self.ca.iterdir()) if self.ca.is_dir() else []
        return [name for name in names if name not in OWN_FOLDERS and self.generations(name)]

    def authorities(self) -> tuple[str, ...]:
        """Return root, server, client, and those for clusters and the external authorities that have a certificate."""
        peers = (name for name in PEER_AUTHORITIES if self.generations(name))
        return (*AUTHORITIES, *peers, *self.external_authorities())

    def prepared(self) -> list[GenerationName]:
        """Return the intermediates whose request waits for a certificate."""
        requests = (path for path in self.files("request.pem") if not (path.parent / "cert.pem").exists())
        return [GenerationName.parse(path.parent.name) for path in requests]

    def files(self, name: str) -> list[Path]:
        """Return the files called `name` of all intermediates, certified or not."""
        paths = (
            path
            for authority in ALL_AUTHORITIES
            if authority not in ROOTS
            for path in (self.ca / authority).glob(f"{authority}-[0-9]*/{name}")
        )
        return sorted(path for path in paths if GenerationName.parse(path.parent.name).number)

    @property
    def is_initialised(self) -> bool:
        """Return whether an authority has a certificate: then a ledger must exist too."""
        return bool(authority_certificates(self.ca))

    def authority_file(self, generation: str, name: str) -> Path:
        """Return the path of `cert.pem`, `key.pem`, `request.pem` … of a generation, below `ca/`."""
        parsed = GenerationName.parse(generation)
        folders = (parsed.authority, generation) if parsed.number else (generation,)
        return self.ca.joinpath(*folders, name)

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
        files = (name.removesuffix(".pem") for name in _entries(folder) if name.endswith(".pem"))
        return [folder / f"{number}.pem" for number in sorted(filter(str.isdecimal, files), key=int)]


def _entries(folder: str | Path) -> list[str]:
    """Return the names in a folder; none if there is no such folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
