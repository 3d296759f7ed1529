"""Name constraints of an intermediate (RFC 5280 §4.2.1.10): built, and read back to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from cryptography import x509

from pki.config.fields import ADDRESS

NO_IPV4 = IPv4Network("0.0.0.0/0")
NO_IPV6 = IPv6Network("::/0")
UNUSED_IPV6 = IPv6Network("100::/64")  # RFC 6666, discard-only: permitting it alone permits no IPv6 in use


def name_constraints(domains: Sequence[str], addresses: Sequence[IPv4Network]) -> x509.NameConstraints:
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    if not addresses:
        return x509.NameConstraints(permitted, [x509.IPAddress(NO_IPV4), x509.IPAddress(NO_IPV6)])
    permitted += [x509.IPAddress(network) for network in addresses]
    return x509.NameConstraints([*permitted, x509.IPAddress(UNUSED_IPV6)], None)


@dataclass(frozen=True, slots=True)
class Permitted:
    """What the name constraints of an intermediate admit, read once and asked often."""

    domains: tuple[str, ...]
    networks: tuple[IPv4Network, ...]

    @classmethod
    def by(cls, ca: x509.Certificate) -> Permitted:
        found = ca.extensions.get_extension_for_class(x509.NameConstraints).value
        trees = list(found.permitted_subtrees or ())
        return cls(
            tuple(f".{tree.value}" for tree in trees if isinstance(tree, x509.DNSName)),
            tuple(t.value for t in trees if isinstance(t, x509.IPAddress) and isinstance(t.value, IPv4Network)),
        )

    def admits(self, name: str) -> bool:
        """Whether a DNS name or an IPv4 address, as text, is permitted."""
        if ADDRESS.fullmatch(name):
            return any(IPv4Address(name) in network for network in self.networks)
        return f".{name}".endswith(self.domains)
