"""What is to be on a host: a release, and where the content of each of its files lies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.deploy import release as releases
from pki.deploy.release import File, Release


@dataclass(frozen=True, slots=True)
class Payload:
    """A release with its contents; `folders` maps a file's path to the release folder that holds it."""

    release: Release
    folders: Mapping[str, Path]

    @classmethod
    def of(cls, folder: Path) -> Payload | None:
        """The release in a folder, None when there is none."""
        release = releases.load(folder)
        return cls(release, {file.path: folder for file in release.files}) if release else None

    def with_crls_of(self, newer: Payload) -> Payload:
        """The same with the CRLs of a newer release: revocation never goes back."""
        files = [file for file in self.release.files if not file.crl]
        files += [file for file in newer.release.files if file.crl]
        here = {file.path: (newer if file.crl else self).folders[file.path] for file in files}
        return Payload(replace(self.release, files=tuple(sorted(files, key=lambda file: file.path))), here)

    def crls(self) -> Payload:
        """The CRLs alone."""
        return Payload(
            replace(self.release, files=tuple(file for file in self.release.files if file.crl)), self.folders
        )

    def content(self, file: File) -> bytes:
        """A file's content, which must be what the manifest says."""
        place = file.below(self.folders[file.path] / "files")
        content = filesystem.read(place)
        if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
            filesystem.distrust(place)
            raise PkiError(f"the release's copy of {file.path} is damaged", "./run doit")
        return content

    @property
    def manifest_paths(self) -> set[str]:
        """The manifests whose state tells whether this is still what is wanted."""
        return {str(folder / "manifest.json") for folder in self.folders.values()}
