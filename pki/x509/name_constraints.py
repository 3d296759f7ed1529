"""Build the name constraints of an intermediate (RFC 5280 §4.2.1.10), and check names against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from cryptography import x509

from pki.config.ip_addresses import UNUSED_IPV4, UNUSED_IPV6, IpNetwork, is_address

ALL_IPV4 = IPv4Network("0.0.0.0/0")
ALL_IPV6 = IPv6Network("::/0")


def build_name_constraints(domains: Sequence[str], addresses: Sequence[IpNetwork]) -> x509.NameConstraints:
    """Return name constraints that permit `domains` with their subdomains, `addresses`, and no other address in use.

    RFC 5280 §4.2.1.10: a type of name without a subtree is unrestricted. GnuTLS treats IPv4 and IPv6 as two types, so
    there is always a subtree of each. If only one of the two has permitted networks, the other one gets an unused block
    instead of an exclusion. The reason is JDK 17: it crashes on an excluded ::/0 beside permitted IPv4 networks, and
    refuses every address on an excluded 0.0.0.0/0 beside permitted IPv6 networks. Without any permitted network, JDK 17
    has neither fault, and both are excluded.
    """
    permitted_names: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    if not addresses:
        return x509.NameConstraints(permitted_names, [x509.IPAddress(ALL_IPV4), x509.IPAddress(ALL_IPV6)])
    versions = {network.version for network in addresses}
    unused_families = (UNUSED_IPV4, UNUSED_IPV6)
    blocks = [*addresses, *(network for network in unused_families if network.version not in versions)]
    return x509.NameConstraints([*permitted_names, *map(x509.IPAddress, blocks)], None)


@dataclass(frozen=True, slots=True)
class PermittedNames:
    """The DNS names and addresses that the name constraints of an intermediate permit. `domains` begin with a dot."""

    domains: tuple[str, ...]
    networks: tuple[IpNetwork, ...]

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
                if isinstance(tree, x509.IPAddress)
                and isinstance(tree.value, IPv4Network | IPv6Network)
                and tree.value not in {UNUSED_IPV4, UNUSED_IPV6}
            ),
        )

    def permits(self, name: str) -> bool:
        """Return whether a DNS name, in lower case, or an address is permitted."""
        if is_address(name):
            return any(ip_address(name) in network for network in self.networks)
        return f".{name}".endswith(self.domains)
