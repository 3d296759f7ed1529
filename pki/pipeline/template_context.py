"""What every host's templates may know of the project, each value with a digest that tells whether it changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import crl_size
from pki.common import filesystem
from pki.common.cache import signature, token
from pki.common.errors import PkiError
from pki.config.identifiers import AUTHORITIES
from pki.config.model import Inventory, StrictModel
from pki.deploy.release import SharedValue
from pki.project.project import Project
from pki.x509 import canonical


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """A part of pki.yaml as templates see it: its fields and properties, and none of its methods."""

    _part: StrictModel

    def __getattr__(self, name: str) -> Any:
        part, kinds = self._part, type(self._part).__mro__
        is_property = any(isinstance(vars(kind).get(name), property) for kind in kinds if issubclass(kind, StrictModel))
        if not is_property and name not in {**type(part).model_fields, **(part.model_extra or {})}:
            raise AttributeError(f"{type(part).__name__!r} object has no attribute {name!r}")
        return _viewed(getattr(part, name))

    def __str__(self) -> str:
        return str(self._part)


def _viewed(value: object) -> object:
    if isinstance(value, StrictModel):
        return View(value)
    if isinstance(value, dict):
        return {key: _viewed(one) for key, one in value.items()}
    return tuple(map(_viewed, value)) if isinstance(value, tuple) else value


class Said(SharedValue):
    """The inventory as templates see it; each of its sections is prepared once."""

    def __init__(self, said: Inventory) -> None:
        super().__init__()
        self._said = said
        self._view = View(said)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._view, name)
        vars(self)[name] = value
        return value

    def content(self, section: str) -> object:
        return self._said.model_dump(mode="json", include={section} if section else None)


class Generations(SharedValue):
    """Live generations by authority, newest first, as templates see them: what issuer pins are made of."""

    def __init__(self, project: Project) -> None:
        super().__init__()
        self._project = project

    def __getattr__(self, authority: str) -> list[dict[str, str]]:
        if authority not in AUTHORITIES:
            raise AttributeError(authority)
        generations = [self._project.generation(name) for name in reversed(self._project.live(authority))]
        return [
            {"name": g.name, "subject": g.subject, "common_name": g.common_name, "base64": g.base64}
            for g in generations
            if g is not None
        ]

    def content(self, section: str) -> object:
        return [getattr(self, authority) for authority in ([section] if section else AUTHORITIES)]


class Revoked(SharedValue):
    """Serial numbers on the CRLs of every live client authority, for proxies that know no CRLs: `revoked.client`.

    Without a project it is empty: what a host without mutual TLS has to know.
    """

    def __init__(self, project: Project | None) -> None:
        super().__init__()
        self._project = project
        self._read: tuple[int, list[int]] = (0, [])

    def _files(self) -> list[str]:
        project = self._project
        return [str(project.store.crl(name)) for name in project.live("client")] if project else []

    @property
    def client(self) -> list[int]:
        """Read once, however many hosts want it, until a CRL is made again."""
        files = self._files()
        state = signature(files)
        if not state or state != self._read[0]:
            self._read = state, sorted(entry.serial_number for file in files for entry in _entries(file))
        return self._read[1]

    def digest(self, section: str) -> str:
        """Remembered: a run with nothing to do reads no CRL for it."""
        if self._project is None:
            return super().digest(section)
        files = self._files()
        known = self._project.cache.recall("revoked.client", section)
        if known is None:
            known = token(self.client)
            self._project.cache.remember("revoked.client", section, files, known)
        return str(known)

    def content(self, _section: str) -> object:
        return self.client


def _entries(file: str) -> Iterable[x509.RevokedCertificate]:
    """What the CRL in a file lists; nothing where there is none. Raises PkiError where it is damaged."""
    if (data := filesystem.read(file)) is None:
        return ()
    try:
        if (crl := canonical.read_crl(data, Encoding.DER)) is not None:
            return list(crl)
    except canonical.UNREADABLE:
        pass
    raise PkiError(f"{file}: is damaged", "./run doit")


class TooLarge(SharedValue):
    """What the publishing host's proxy cannot serve: `too_large.crls`, the generations whose CRLs outgrew it.

    Without a project it is empty: what a host that publishes nothing has to know.
    """

    def __init__(self, project: Project | None) -> None:
        super().__init__()
        self._project = project

    @property
    def crls(self) -> list[str]:
        return [one.generation for one in crl_size.sizes(self._project) if not one.fits] if self._project else []

    def digest(self, _section: str) -> str:
        """Never kept: a CRL may grow within a run."""
        return token(self.crls)

    def content(self, _section: str) -> object:
        return self.crls
