"""A release together with the places where the contents of its files are stored."""

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
    """A release with its contents; `folders` maps the path of a file to the release folder that stores its content."""

    release: Release
    folders: Mapping[str, Path]

    @classmethod
    def of(cls, folder: Path) -> Payload | None:
        """Return the release in a folder, None if there is none."""
        release = releases.load(folder)
        return cls(release, {file.path: folder for file in release.files}) if release else None

    def with_crls_of(self, newer: Payload) -> Payload:
        """Return the same release with the CRLs of a newer one: revocation never goes back."""
        files = [file for file in self.release.files if not file.crl]
        files += [file for file in newer.release.files if file.crl]
        folders = {file.path: (newer if file.crl else self).folders[file.path] for file in files}
        return Payload(replace(self.release, files=tuple(sorted(files, key=lambda file: file.path))), folders)

    def crls(self) -> Payload:
        """Return the CRLs alone."""
        return Payload(
            replace(self.release, files=tuple(file for file in self.release.files if file.crl)), self.folders
        )

    def content(self, file: File) -> bytes:
        """Return the content of a file. Raises PkiError when it does not match the manifest."""
        path = file.below(self.folders[file.path] / "files")
        content = filesystem.read(path)
        if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
            filesystem.invalidate_cached(path)
            raise PkiError(f"the release's copy of {file.path} is damaged", "./run doit")
        return content

    @property
    def manifest_paths(self) -> set[str]:
        """The manifests that this payload was read from: it is out of date when one of them changes."""
        return {str(folder / "manifest.json") for folder in self.folders.values()}
