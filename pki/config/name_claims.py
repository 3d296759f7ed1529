"""Who owns which name: the names that leaves ask for, wherever they are declared, and which of them exclude one another.

A CN belongs to one client. A DNS name or an address belongs to the server certificates of one host, unless another host
has `shared: true` in pki.yaml or is the upstream of the service, or the service says that its upstream has the name. Clients and servers never exclude one another, and a
wildcard is a name like any other: it takes nothing from the names that it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Place = tuple[str | int, ...]
Key = tuple[str, str]  # kind and name, as they are compared


def key_of(kind: str, name: str) -> Key:
    """What equal names have in common: readers of certificates ignore case and the number of blanks (RFC 4518)."""
    return kind, " ".join(name.lower().split())


@dataclass(frozen=True, slots=True)
class Claim:
    """One name that a leaf asks for.

    `kind` is `client` for the CN of a client certificate, `server` for a DNS name or an address of a server certificate.
    `owner` is the host or client, or the file where it is for no single host. `place` is the path in pki.yaml, or one
    text: `templates/switch.cnf:12`. `upstream` is the address to which the service that has the name passes requests on,
    `proves` the name that must be in the certificate of what is there.
    """

    kind: Literal["client", "server"]
    name: str
    owner: str
    place: Place
    is_shared: bool = False
    upstream: str = ""
    proves: str = ""

    @property
    def key(self) -> Key:
        return key_of(self.kind, self.name)


class Conflict(NamedTuple):
    """A claim on a name that is another's."""

    claim: Claim
    held: Claim


IsUpstream = Callable[[str, Claim], bool]  # whether a host is where a claim's service passes requests on to


@dataclass
class Names:
    """The names that are taken. The first claim holds a name; which later ones may join it, the rules above say."""

    is_upstream: IsUpstream
    _held: dict[Key, list[Claim]] = field(default_factory=dict)

    def conflicts(self, claims: Iterable[Claim]) -> list[Conflict]:
        """Every claim that may not be taken, each with the one that is in its way."""
        return [conflict for claim in claims for conflict in self._conflicts(claim)]

    def conflict(self, claim: Claim) -> Conflict | None:
        """The first claim that is in the way of one that may not be taken."""
        return next(self._conflicts(claim), None)

    def _conflicts(self, claim: Claim) -> Iterator[Conflict]:
        return (Conflict(claim, held) for held in self.holding(claim) if not self._may_join(claim, held))

    def take(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._held.setdefault(claim.key, []).append(claim)

    def holding(self, claim: Claim) -> list[Claim]:
        """The claims that hold the same name."""
        return self._held.get(claim.key, [])

    def _may_join(self, claim: Claim, held: Claim) -> bool:
        if claim.owner == held.owner or claim.is_shared or claim.name in {claim.proves, held.proves}:
            return True
        return self.is_upstream(claim.owner, held) or self.is_upstream(held.owner, claim)
