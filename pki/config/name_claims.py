"""Detect conflicts between leaves that claim the same name, in pki.yaml and in templates.

A CN belongs to one client. A DNS name or an address belongs to the server certificates of one host, unless another host
has `shared: true` in pki.yaml or is the upstream of the service, or the service says that its upstream has the name.
Names of clients and servers never conflict. A wildcard does not conflict with the names that it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Place = tuple[str | int, ...]
Key = tuple[str, str]  # kind and normalised name


def comparison_key(kind: str, name: str) -> Key:
    """Return the key by which names are compared: certificate parsers ignore case and repeated blanks (RFC 4518 §2)."""
    return kind, " ".join(name.lower().split())


@dataclass(frozen=True, slots=True)
class Claim:
    """One name that a leaf claims.

    `kind` is `client` for the CN of a client certificate, `server` for a DNS name or an address of a server certificate.
    `owner` is the host or client, or the template if it is not for a single host. `place` is the path in pki.yaml, or
    one text: `templates/switch.cnf:12`. `upstream` is the URL of the service's upstream, `proves` the name that must be
    in the upstream's certificate.
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
        """Return the key by which the name is compared."""
        return comparison_key(self.kind, self.name)


class Conflict(NamedTuple):
    """A claim, and the claim of another owner on the same name."""

    claim: Claim
    earlier_claim: Claim


IsUpstream = Callable[[str, Claim], bool]  # (host, claim): is the host the upstream of the claim's service?


@dataclass
class NameRegistry:
    """The claimed names. The first claim owns a name; the rules of this module decide which later ones may share it."""

    is_upstream: IsUpstream
    _claims: dict[Key, list[Claim]] = field(default_factory=dict)

    def conflicts(self, claims: Iterable[Claim]) -> list[Conflict]:
        """Return the conflicts of the claims with the names of this registry."""
        return [conflict for claim in claims for conflict in self._conflicts(claim)]

    def conflict(self, claim: Claim) -> Conflict | None:
        """Return the first conflict of a claim, or None."""
        return next(self._conflicts(claim), None)

    def _conflicts(self, claim: Claim) -> Iterator[Conflict]:
        return (Conflict(claim, earlier) for earlier in self.claims_on(claim) if not self._may_share(claim, earlier))

    def add(self, claims: Iterable[Claim]) -> None:
        """Add claims without checking for conflicts."""
        for claim in claims:
            self._claims.setdefault(claim.key, []).append(claim)

    def claims_on(self, claim: Claim) -> list[Claim]:
        """Return the claims on the same name as `claim`."""
        return self._claims.get(claim.key, [])

    def _may_share(self, claim: Claim, earlier: Claim) -> bool:
        """Return whether two claims on one name are no conflict, by the rules of this module."""
        if claim.owner == earlier.owner or claim.is_shared or claim.name in {claim.proves, earlier.proves}:
            return True
        return self.is_upstream(claim.owner, earlier) or self.is_upstream(earlier.owner, claim)
