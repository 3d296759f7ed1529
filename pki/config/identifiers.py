"""The names of artifacts and of the generations of authorities, as values: built and taken apart here and nowhere else.

Both are text too, because doit, the ledger, the report and the file system key by it.
"""

from __future__ import annotations

import re
from typing import Self

NUMBERED = re.compile(r"(root|server|client)-([1-9][0-9]*)")


class ArtifactId(str):
    """The identity of an artifact: its kind and its name, `cert` and `media`; as text `cert:media`."""

    __slots__ = ("kind", "name")

    kind: str
    name: str

    def __new__(cls, kind: str, name: str) -> Self:
        made = str.__new__(cls, f"{kind}:{name}")
        made.kind = kind
        made.name = name
        return made

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what the ledger, a report or a user says; text without a colon has no kind."""
        if isinstance(text, cls):
            return text
        kind, colon, name = text.partition(":")
        if colon:
            return cls(kind, name)
        bare = super().__new__(cls, text)
        bare.kind, bare.name = "", text
        return bare

    @property
    def parts(self) -> tuple[str, str]:
        return self.kind, self.name

    @property
    def short(self) -> str:
        """The name as people type it: the kind is said of everything but certificates."""
        return self.name if self.kind == "cert" else self

    def __reduce__(self) -> tuple[object, ...]:
        return ArtifactId.parse, (str(self),)


class GenerationName(str):
    """The name of one key pair of an authority: `root` and 1; as text `root-1`.

    An adopted CA has one generation, which has the name of the CA and the number 0.
    """

    __slots__ = ("authority", "number")

    authority: str
    number: int

    def __new__(cls, authority: str, number: int = 0) -> Self:
        made = super().__new__(cls, f"{authority}-{number}" if number else authority)
        made.authority, made.number = authority, number
        return made

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the name of a folder, of a ledger's row, or what a user says."""
        if isinstance(text, cls):
            return text
        found = NUMBERED.fullmatch(text)
        return cls(found[1], int(found[2])) if found else cls(text)

    @property
    def is_root(self) -> bool:
        return self.authority == "root" and self.number > 0

    @property
    def following(self) -> GenerationName:
        """The name of the next generation of the same authority."""
        return GenerationName(self.authority, self.number + 1)

    def __reduce__(self) -> tuple[object, ...]:
        return GenerationName.parse, (str(self),)


AUTHORITIES = ("root", "server", "client")
