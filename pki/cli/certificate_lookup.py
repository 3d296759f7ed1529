"""Find the certificate that a typed name means: a leaf, client, service, host or DNS name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.config.ip_addresses import canonical_address
from pki.config.leaf_certificates import leaf_name, peer_leaf_name
from pki.config.model import Inventory, Leaf
from pki.config.name_fields import CLIENT_PREFIX
from pki.ledger.types import Issued

SHOWN = 20  # names in a hint; the others are only counted


class Meaning(NamedTuple):
    """A leaf that a typed name may mean, and what the name is to it: `the client`; "" for the leaf's own name."""

    leaf: str
    how: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names of leaves in pki.yaml and templates/, and of the valid certificates in the ledger."""

    inventory: Inventory
    leaves: Mapping[str, Leaf]
    issued: Collection[Issued] = ()
    print_line: Callable[[str], None] = field(default=lambda text: Screen().line(text))

    def leaf(self, name: str, command: str) -> str:
        """Return the leaf that a name means; print how it was understood, unless it is the leaf's own name.

        `command` is the command that was typed, for the hint. Raises PkiError if the name means no leaf, or several.
        """
        meanings = self.find(name)
        leaves = dict.fromkeys(meaning.leaf for meaning in meanings)
        if len(leaves) > 1:
            commands = " or ".join(f"./run invoke {command} {leaf}" for leaf in leaves)
            raise PkiError(
                f"{name}: means {', '.join(ArtifactId('cert', leaf) for leaf in leaves)}",
                f"name one of them: {commands}",
            )
        if not meanings:
            raise not_declared(name, {*self.leaves, *self.inventory.clients})
        leaf, how = meanings[0]
        if how:
            self.print_line(f"{name} is {how}: {ArtifactId('cert', leaf)}")
        return leaf

    def find(self, name: str) -> list[Meaning]:
        """Return everything that a name may mean. A leaf of that name hides everything else, then a client of that name."""
        bare = name if "://" in name else ArtifactId.parse(name).short  # a SPIFFE ID is no artifact
        names = {*self.leaves, *(certificate.artifact.short for certificate in self.issued)}
        if bare in names:
            return [Meaning(bare, "")]
        if (client := f"{CLIENT_PREFIX}{bare}") in names:
            return [Meaning(client, "the client")]
        meanings = [meaning for meaning in (*self._services(bare), *self._hosts(bare)) if meaning.leaf in names]
        meanings += [
            Meaning(leaf.name, "a name in the certificate")
            for leaf in self.leaves.values()
            if is_among(bare, leaf.names)
        ]
        meanings += [
            Meaning(leaf.name, "the common name of the certificate")
            for leaf in self.leaves.values()
            if leaf.common_name == bare
        ]
        former_names = (
            Meaning(certificate.artifact.short, "a name in the certificate")
            for certificate in self.issued
            if is_among(bare, certificate.names)
        )
        return meanings or list(former_names)

    def _services(self, name: str) -> Iterator[Meaning]:
        for host, config in self.inventory.hosts.items():
            if name in config.services:
                yield Meaning(leaf_name(host, config.services[name].access), f"a service on {host}")

    def _hosts(self, name: str) -> Iterator[Meaning]:
        if name in self.inventory.hosts:
            yield Meaning(leaf_name(name, "tls"), "a host")
            yield Meaning(leaf_name(name, "mtls"), "a host")
            yield Meaning(peer_leaf_name(name), "a host")


def is_among(name: str, names: Iterable[str]) -> bool:
    """Return whether a DNS name, address or mailbox is one of `names`, or is covered by a wildcard among them."""
    lower = canonical_address(name).lower().rstrip(".")
    label, _, parent = lower.partition(".")
    matches = {lower, f"*.{parent}"} if label and parent else {lower}
    return any(candidate.lower() in matches for candidate in names)


def not_declared(name: str, names: Iterable[str]) -> PkiError:
    """Return the error for a name that nothing in this project declares, with the closest of `names`."""
    known_names = sorted(names)
    close = difflib.get_close_matches(name, known_names, n=1)
    shown = ", ".join(known_names[:SHOWN]) + (
        f" and {len(known_names) - SHOWN} more" if len(known_names) > SHOWN else ""
    )
    hint = f"declared here: {shown}" if known_names else "./run doit"
    if close:
        hint = f"did you mean {close[0]}?"
    return PkiError(f"{name}: not declared in pki.yaml", hint)
