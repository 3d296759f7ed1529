"""The identifiers of artifacts (`cert:media`) and of generations of CAs (`server-2`).

Both are subclasses of str, because doit, the ledger, the report and the file system use them as text. They are built
and parsed only here.
"""

from __future__ import annotations

import re
from typing import Self

NUMBERED = re.compile(
    r"([a-z](?:[a-z0-9-]*[a-z0-9])?)-([1-9][0-9]*)"
)  # the name of an adopted CA has no number at its end


class ArtifactId(str):
    """The identifier of an artifact: `cert:media` has the kind `cert` and the name `media`."""

    __slots__ = ("kind", "name")

    kind: str
    name: str

    def __new__(cls, kind: str, name: str) -> Self:
        identifier = str.__new__(cls, f"{kind}:{name}")
        identifier.kind = kind
        identifier.name = name
        return identifier

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of an identifier; without a colon, the kind is ""."""
        if isinstance(text, cls):
            return text
        kind, colon, name = text.partition(":")
        if colon:
            return cls(kind, name)
        unnamed = super().__new__(cls, text)
        unnamed.kind, unnamed.name = "", text
        return unnamed

    @property
    def parts(self) -> tuple[str, str]:
        """Return kind and name."""
        return self.kind, self.name

    @property
    def short(self) -> str:
        """Return the identifier for users: the name alone for a certificate, else kind and name."""
        return self.name if self.kind == "cert" else self

    def __reduce__(self) -> tuple[object, ...]:
        return ArtifactId.parse, (str(self),)


class GenerationName(str):
    """The name of one generation (key pair) of an authority: `root-1` is number 1 of `root`.

    An adopted CA has one generation, with the name of the CA and the number 0.
    """

    __slots__ = ("authority", "number")

    authority: str
    number: int

    def __new__(cls, authority: str, number: int = 0) -> Self:
        identifier = super().__new__(cls, f"{authority}-{number}" if number else authority)
        identifier.authority, identifier.number = authority, number
        return identifier

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a name. A name without a number is an adopted CA."""
        if isinstance(text, cls):
            return text
        match = NUMBERED.fullmatch(text)
        return cls(match[1], int(match[2])) if match else cls(text)

    @property
    def is_root(self) -> bool:
        """Return whether this is a root of the project: of its servers and clients, or of its clusters (`root-peer-1`)."""
        return self.authority in ROOTS and self.number > 0

    @property
    def is_external(self) -> bool:
        """Return whether this is an external authority: an intermediate whose key is on the server of somebody else."""
        return self.number > 0 and self.authority not in ALL_AUTHORITIES

    @property
    def profile(self) -> str:
        """Return the profile of its certificate in the ledger: root, server-ca, client-ca, peer-ca or external-ca."""
        return "root" if self.is_root else f"{'external' if self.is_external else self.authority}-ca"

    @property
    def following(self) -> GenerationName:
        """Return the name of the next generation of the same authority."""
        return GenerationName(self.authority, self.number + 1)

    def __reduce__(self) -> tuple[object, ...]:
        return GenerationName.parse, (str(self),)


AUTHORITIES = ("root", "server", "client")  # of every project
PEER_AUTHORITIES = ("root-peer", "peer")  # only with `authorities.peer`: a root of their own, and its intermediate
ALL_AUTHORITIES = (*AUTHORITIES, *PEER_AUTHORITIES)
INTERMEDIATES = {"root": ("server", "client"), "root-peer": ("peer",)}  # of each root; none is below two roots
ROOTS = tuple(INTERMEDIATES)
OWN_FOLDERS = (*ALL_AUTHORITIES, "clients", "ceremonies")  # of `ca/`; external authorities have folders beside them


def root_authority(authority: str) -> str:
    """Return the root authority above an authority, `root` or `root-peer`; of a root itself."""
    return "root-peer" if authority in PEER_AUTHORITIES else "root"
