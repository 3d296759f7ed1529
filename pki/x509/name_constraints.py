"""Build the name constraints of an intermediate (RFC 5280 §4.2.1.10), and check names against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from cryptography import x509

from pki.config.name_fields import ADDRESS

NO_IPV4 = IPv4Network("0.0.0.0/0")
NO_IPV6 = IPv6Network("::/0")
UNUSED_IPV6 = IPv6Network("100::/64")  # RFC 6666, discard-only: permitting it alone permits no IPv6 in use


def build_name_constraints(domains: Sequence[str], addresses: Sequence[IPv4Network]) -> x509.NameConstraints:
    """Return name constraints that permit `domains` with their subdomains, IPv4 `addresses`, and no IPv6 in use.

    RFC 5280 §4.2.1.10: a type of name without a subtree is unrestricted, so IP addresses are always constrained.
    Permitting 100::/64 replaces excluding ::/0, which crashes JDK 17 beside permitted IPv4 networks.
    """
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    if not addresses:
        return x509.NameConstraints(permitted, [x509.IPAddress(NO_IPV4), x509.IPAddress(NO_IPV6)])
    permitted += [x509.IPAddress(network) for network in addresses]
    return x509.NameConstraints([*permitted, x509.IPAddress(UNUSED_IPV6)], None)


@dataclass(frozen=True, slots=True)
class PermittedNames:
    """The DNS names and IPv4 addresses that the name constraints of an intermediate permit."""

    domains: tuple[str, ...]
    networks: tuple[IPv4Network, ...]

    @classmethod
    def of_ca(cls, ca: x509.Certificate) -> PermittedNames:
        """Read the name constraints of a CA certificate. Raises x509.ExtensionNotFound if it has none."""
        constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
        subtrees = list(constraints.permitted_subtrees or ())
        return cls(
            tuple(f".{tree.value}" for tree in subtrees if isinstance(tree, x509.DNSName)),
            tuple(
                tree.value
                for tree in subtrees
                if isinstance(tree, x509.IPAddress) and isinstance(tree.value, IPv4Network)
            ),
        )

    def permits(self, name: str) -> bool:
        """Return whether a DNS name or an IPv4 address, as text, is permitted."""
        if ADDRESS.fullmatch(name):
            return any(IPv4Address(name) in network for network in self.networks)
        return f".{name}".endswith(self.domains)
