"""Which certificate is meant by a name that somebody types: its own, or that of a client, service, host or DNS name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.fields import CLIENT_PREFIX
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Inventory, Leaf
from pki.ledger.types import Issued
from pki.monitor.dependents import NOT_SEEN

SHOWN = 20  # names, before the others are only counted
Meaning = tuple[str, str]  # a leaf, and how it was understood: "" for its own name


@dataclass(frozen=True, slots=True)
class Names:
    """What a name may stand for: leaves in pki.yaml and templates/, and the valid certificates in the ledger."""

    inventory: Inventory
    leaves: Mapping[str, Leaf]
    issued: Collection[Issued] = ()
    say: Callable[[str], None] = field(default=lambda text: Screen().line(text))

    def leaf(self, name: str, command: str) -> str:
        """Return the leaf that a name stands for, and say so unless it is its own name. Raises PkiError.

        `command` is what was typed before the name: it is named where the name stands for several.
        """
        found = self.find(name)
        leaves = dict.fromkeys(leaf for leaf, _ in found)
        if len(leaves) > 1:
            which = " or ".join(f"./run invoke {command} {leaf}" for leaf in leaves)
            raise PkiError(
                f"{name}: stands for {', '.join(ArtifactId('cert', leaf) for leaf in leaves)}", f"say which: {which}"
            )
        if not found:
            raise not_seen(name, {*self.leaves, *self.inventory.clients})
        leaf, how = found[0]
        if how:
            self.say(f"{name} is {how}: {ArtifactId('cert', leaf)}")
        return leaf

    def find(self, name: str) -> list[Meaning]:
        """Return what a name may stand for; nearer meanings hide others: a leaf of that name, then a client."""
        bare = ArtifactId.parse(name).short
        known = {*self.leaves, *(one.artifact.short for one in self.issued)}
        if bare in known:
            return [(bare, "")]
        if (client := f"{CLIENT_PREFIX}{bare}") in known:
            return [(client, "the client")]
        declared = [one for one in (*self._services(bare), *self._hosts(bare)) if one[0] in known]
        declared += [
            (one.name, "a name in the certificate") for one in self.leaves.values() if is_among(bare, one.names)
        ]
        declared += [
            (one.name, "the common name of the certificate") for one in self.leaves.values() if one.common_name == bare
        ]
        gone = ((one.artifact.short, "a name in the certificate") for one in self.issued if is_among(bare, one.names))
        return declared or list(gone)

    def _services(self, name: str) -> Iterator[Meaning]:
        for host, said in self.inventory.hosts.items():
            if name in said.services:
                yield leaf_name(host, said.services[name].access), f"a service on {host}"

    def _hosts(self, name: str) -> Iterator[Meaning]:
        if name in self.inventory.hosts:
            yield leaf_name(name, "tls"), "a host"
            yield leaf_name(name, "mtls"), "a host"


def is_among(name: str, names: Iterable[str]) -> bool:
    """Whether a DNS name, address or mailbox is one of those of a certificate, or covered by a wildcard among them."""
    wanted = name.lower().rstrip(".")
    label, _, parent = wanted.partition(".")
    return any(one.lower() in ({wanted, f"*.{parent}"} if label and parent else {wanted}) for one in names)


def not_seen(name: str, names: Iterable[str]) -> PkiError:
    """Return the error for a name that nothing here declares: which says nothing of what others have."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    hint = f"did you mean {close[0]}?" if close else f"declared here: {shown}" if known else "./run doit"
    return PkiError(f"{name}: {NOT_SEEN}", hint)
