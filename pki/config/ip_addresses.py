"""IPv4 and IPv6 addresses and networks of pki.yaml, each in its canonical form (RFC 5952 for IPv6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

Value = TypeVar("Value", IpAddress, IpNetwork)

IPV4_TEXT = re.compile(r"[0-9.]+")
EXPECTED = "expected an address such as 10.10.0.10 or fd00:10::10"
EXPECTED_NETWORK = "expected a network such as 10.10.0.0/24 or fd00:10::/64"
LINK_LOCAL, MULTICAST, MAPPED = IPv6Network("fe80::/10"), IPv6Network("ff00::/8"), IPv6Network("::ffff:0:0/96")
# Name constraints that permit one of these alone permit no address in use.
UNUSED_IPV4 = IPv4Network("192.0.0.8/32")  # RFC 7600, the dummy address
UNUSED_IPV6 = IPv6Network("100::/64")  # RFC 6666, discard-only
UNCERTIFIED: dict[IpNetwork, str] = {
    LINK_LOCAL: "link-local",
    MULTICAST: "multicast",
    MAPPED: "IPv4-mapped",
    UNUSED_IPV4: "dummy",
    UNUSED_IPV6: "discard-only",
}


def parse_address(text: str) -> IpAddress:
    """Return the address that a text names. Raises ValueError for one that cannot be the address of a service."""
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        raise ValueError(EXPECTED) from None
    if isinstance(address, IPv6Address) and (fault := _fault(address)):
        raise ValueError(fault)
    return address


def _fault(address: IPv6Address) -> str:
    """Return why an IPv6 address must not be in pki.yaml or in a certificate, or ""."""
    if address in LINK_LOCAL:
        return "link-local addresses are valid on one link only; expected one that is routed, such as fd00:10::10"
    if address.scope_id:
        return f"a zone is valid on one machine only; expected an address without %{address.scope_id}"
    if address.ipv4_mapped:
        return f"an IPv4 address in the form of IPv6; write {address.ipv4_mapped}"
    if address.is_multicast:
        return "multicast addresses name no single host; expected one such as fd00:10::10"
    return "names every address of a machine; expected the address of one host" if address.is_unspecified else ""


def parse_network(text: str) -> IpNetwork:
    """Return the network that a text names. Raises ValueError for one that has no addresses of services."""
    try:
        network = IPv6Network(text) if ":" in text else IPv4Network(text)
    except ValueError:
        raise ValueError(EXPECTED_NETWORK + _without_host_bits(text)) from None
    for block, what in UNCERTIFIED.items():
        if is_within(network, (block,)):
            raise ValueError(f"{what} addresses ({block}) cannot be certified; {EXPECTED_NETWORK}")
    return network


def _without_host_bits(text: str) -> str:
    """Return the network around an address with a prefix length, as a suggestion, or ""."""
    try:
        return f" (did you mean {ip_network(text, strict=False)}?)"
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Return whether a name is an address and not a DNS name, whatever it may be used for."""
    if ":" not in name:
        return name[-1:].isdigit() and IPV4_TEXT.fullmatch(name) is not None
    try:
        return bool(IPv6Address(name))
    except AddressValueError:
        return False


def canonical_address(text: str) -> str:
    """Return the canonical form of an IPv6 address; any other text unchanged."""
    return str(IPv6Address(text)) if ":" in text and is_address(text) else text


def is_within(block: IpNetwork, networks: tuple[IpNetwork, ...]) -> bool:
    """Return whether one of some networks contains a network."""
    return any(
        (isinstance(block, IPv4Network) and isinstance(network, IPv4Network) and block.subnet_of(network))
        or (isinstance(block, IPv6Network) and isinstance(network, IPv6Network) and block.subnet_of(network))
        for network in networks
    )


def url_host(host: str) -> str:
    """Return a host as it is in a URL and in a Host header: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def canonical_url(url: str) -> str:
    """Return a URL with the canonical form of an IPv6 address in it. Raises ValueError for one that is refused."""
    parts = urlsplit(url)
    if ":" not in (parts.hostname or ""):
        return url
    port = "" if parts.port is None else f":{parts.port}"
    return urlunsplit(parts._replace(netloc=f"[{parse_address(parts.hostname or '')}]{port}"))


# -- fields of pki.yaml: one value, or a list of values ---------------------------------------------------------------


def _address(value: Any) -> IpAddress:
    return value if isinstance(value, IPv4Address | IPv6Address) else parse_address(_text(value, EXPECTED))


def _network(value: Any) -> IpNetwork:
    return value if isinstance(value, IPv4Network | IPv6Network) else parse_network(_text(value, EXPECTED_NETWORK))


def _text(value: Any, expected: str) -> str:
    """Return a scalar. To YAML, an address that ends in a colon is a mapping."""
    if isinstance(value, dict):
        raise ValueError(f"{expected}; write one that ends in a colon in quotes")  # noqa: TRY004 - pydantic catches it
    return str(value)


def _one_or_several(kind: Any, parse: Callable[[Any], IpAddress | IpNetwork]) -> GetPydanticSchema:
    """Return the schema of a field that has one value or, for a list of several, a tuple of them."""

    def validate(value: Any, several: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, list | tuple):
            return parse(value)
        values = several(value)
        return values[0] if len(values) == 1 else values

    def as_text(value: Any) -> str | list[str]:
        return [str(part) for part in value] if isinstance(value, tuple) else str(value)

    several = Annotated[
        tuple[kind, ...],
        Field(min_length=1),
        WrapValidator(validate, json_schema_input_type=kind | Annotated[list[kind], Field(min_length=1)]),
        PlainSerializer(as_text),
    ]

    def schema(_source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(several)

    return GetPydanticSchema(schema)


Address = Annotated[IpAddress, BeforeValidator(_address)]
Network = Annotated[IpNetwork, BeforeValidator(_network)]
Addresses = Annotated[IpAddress | tuple[IpAddress, ...], _one_or_several(Address, _address)]
Networks = Annotated[IpNetwork | tuple[IpNetwork, ...], _one_or_several(Network, _network)]


def as_tuple(value: Value | tuple[Value, ...] | None) -> tuple[Value, ...]:
    """Return the values of a field with one value, several, or none."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
