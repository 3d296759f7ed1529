"""pki.yaml → `Inventory`: strict, every fault at once, each with its line and YAML path."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from pki import documents
from pki.errors import InventoryError, PkiError
from pki.model import Access, Client, Host, Inventory, Leaf, brief

PRIVATE_BLOCKS = tuple(IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
APPLE_LIMIT = timedelta(days=825)

Fault = tuple[documents.Path, str]


def load(path: Path) -> Inventory:
    """Read and check pki.yaml.

    Raises InventoryError with all faults of the file, or PkiError when there is no such file.
    """
    return load_with_tree(path)[0]


def load_with_tree(path: Path) -> tuple[Inventory, Any]:
    """The inventory, and the tree of text that `sound` turns into it again."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PkiError(f"{path}: there is no inventory", "name its folder: PKI_HOME=DIR") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PkiError(f"{path.name}: cannot be read: {error}") from None
    tree = documents.load(text, path.name)
    return _checked(copy.deepcopy(tree), text, path.name), tree


def sound(tree: Any) -> Inventory | None:
    """The inventory of a tree in which `load` found no fault, without looking for any again."""
    try:
        return Inventory.model_validate(tree)
    except ValidationError:
        return None


def _checked(tree: Any, text: str, name: str) -> Inventory:
    faults: list[Fault] = []
    cut: set[documents.Path] = set()
    inventory = _validated(tree, faults, cut)
    if inventory is not None:
        faults += _cross_faults(inventory, cut)
    if faults or inventory is None:
        lines = sorted({(documents.line_of(text, where), _dotted(where), what) for where, what in faults})
        raise InventoryError([f"{name}:{line}: {where}{what}" for line, where, what in lines])
    return inventory


class _Schema(GenerateJsonSchema):
    """Defaults as pki.yaml would say them."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return brief(dft)
        return dft.model_dump(mode="json", by_alias=True) if isinstance(dft, BaseModel) else super().encode_default(dft)


def schema() -> str:
    """The JSON Schema of pki.yaml, for editors."""
    found = Inventory.model_json_schema(by_alias=True, schema_generator=_Schema)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "pki.yaml"
    return json.dumps(found, indent=2) + "\n"


# -- names and leaves -------------------------------------------------------------------------------------------------


def permitted_addresses(inventory: Inventory) -> tuple[IPv4Network, ...]:
    """IPv4 networks in which IP names may lie; by default the private blocks around `networks`."""
    if inventory.permit_addresses is not None:
        return inventory.permit_addresses
    around = {
        next((block for block in PRIVATE_BLOCKS if network.subnet_of(block)), network)
        for network in inventory.networks.values()
    }
    return tuple(sorted(around))


def service_names(inventory: Inventory, host: Host, service: str) -> tuple[str, ...]:
    """The names under which a service is reached: its own `names`, else `<service>.<first domain>`."""
    return host.services[service].names or (f"{service}.{inventory.domains[0]}",)


def leaf_name(host: str, access: Access) -> str:
    return f"{host}-mtls" if access == "mtls" else host


def host_leaves(inventory: Inventory, name: str, host: Host) -> Iterator[Leaf]:
    """One leaf per access level of a host, with the names of its services there."""
    rule = inventory.profiles.server
    by_access: dict[Access, list[str]] = {"tls": list(host.names), "mtls": []}
    for service_name, service in host.services.items():
        by_access[service.access] += service_names(inventory, host, service_name)
    for access, names in by_access.items():
        if not names:
            continue
        dns = tuple(n for n in names if not _is_address(n))
        yield Leaf(
            name=leaf_name(name, access),
            profile="server",
            common_name=dns[0] if dns and len(dns[0]) <= 64 else "",
            dns=dns,
            addresses=tuple(n for n in names if _is_address(n)),
            emails=(),
            key=host.key or rule.key,
            rekey=(host.rekey or rule.rekey) == "new",
            lifetime=rule.lifetime,
            renew_before=rule.renew_before,
            request=host.request,
            declared=f"hosts.{name}",
        )


def client_leaf(inventory: Inventory, name: str, client: Client) -> Leaf:
    rule = inventory.profiles.client
    return Leaf(
        name=f"client-{name}",
        profile="client",
        common_name=name if "@" in name else client.email,  # Java reads a CN without @ as a DNS name
        dns=(),
        addresses=(),
        emails=(client.email,),
        key=client.key or rule.key,
        rekey=(client.rekey or rule.rekey) == "new",
        lifetime=rule.lifetime,
        renew_before=rule.renew_before,
        request=client.request,
        declared=f"clients.{name}",
    )


def _is_address(name: str) -> bool:
    return name[-1].isdigit() and name.replace(".", "").isdigit()


# -- what pydantic says, in the house's words ------------------------------------------------------------------------


def _validated(tree: Any, faults: list[Fault], cut: set[documents.Path]) -> Inventory | None:
    """The inventory, or as much of it as is sound.

    What is faulty is reported and cut out, and the rest looked at again, so that no fault hides another.
    """
    while True:
        try:
            return Inventory.model_validate(tree)
        except ValidationError as error:
            found = [(_location(detail), _phrase(detail)) for detail in error.errors(include_url=False)]
        faults += [fault for fault in found if fault[0] not in cut]
        places = {_place(where) for where, _ in found}
        removed = [_cut(tree, place) for place in sorted(places, key=len, reverse=True)]
        if places <= cut or None in removed:
            return None
        cut |= places | {place for place in removed if place}


def _location(detail: ErrorDetails) -> documents.Path:
    return tuple(step for step in detail["loc"] if step != "[key]")


STAND_INS: dict[documents.Path, Any] = {
    ("organisation",): "x",
    ("domains",): ["stand.in"],
    ("publish", "url"): "http://stand.in",
}


def _place(where: documents.Path) -> documents.Path:
    """The smallest whole thing around a fault: a service, a host's field, a client, a list, a section's field."""
    if where[:1] in {("domains",), ("permit_addresses",)}:
        return where[:1]
    if where[:1] == ("hosts",):
        return where[: 4 if where[2:3] == ("services",) else 3]
    return where[:2]


def _cut(tree: Any, place: documents.Path) -> documents.Path | None:
    """Take `place` out of the tree. Returns what was taken, or None when the rest means nothing without it."""
    if not place or not isinstance(tree, dict):
        return None
    node: Any = tree
    for step in place[:-1]:
        node = node.get(step)
        if not isinstance(node, dict):  # gone already, with another fault
            return place
    if place in STAND_INS:
        node[place[-1]] = STAND_INS[place]
    elif node.pop(place[-1], None) is None:  # a field that must be there: without it, the whole around it goes
        return _cut(tree, place[:-1]) if len(place) > 2 else None
    return place


def _phrase(detail: ErrorDetails) -> str:
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "unknown key" + _did_you_mean(str(detail["loc"][-1]), _known_keys(detail["loc"]))
    if kind == "literal_error":
        words = [word for word in str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ") if word]
        listed = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
        return f"expected {listed}, got {got!r}" + _did_you_mean(str(got), words)
    if kind == "value_error":
        return f"{context['error']}, got {got!r}"
    if kind == "string_pattern_mismatch" and "a-z0-9-" in str(context["pattern"]):
        return f"expected lower-case letters, digits and hyphens, got {got!r}"
    expected = {
        "string_pattern_mismatch": "expected text of another form",
        "string_type": "expected text",
        "string_too_long": "expected a shorter name",
        "tuple_type": "expected a list",
        "too_short": "expected at least one",
        "dict_type": "expected a mapping",
        "model_type": "expected a mapping",
        "bool_parsing": "expected true or false",
        "bool_type": "expected true or false",
        "int_parsing": "expected a whole number",
        "greater_than_equal": f"expected at least {context.get('ge')}",
        "less_than_equal": f"expected at most {context.get('le')}",
        "time_delta_type": "expected a number and a unit such as 90d",
        "ip_v4_address": "expected an IPv4 address such as 10.10.0.10",
        "ip_v4_network": "expected an IPv4 network such as 10.10.0.0/24",
    }.get(kind, detail["msg"].lower())
    return f"{expected}, got {_shown(got)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    model: Any = Inventory
    for step in loc[:-1]:
        fields = getattr(model, "model_fields", {})
        field = next((f for n, f in fields.items() if str(step) in (n, f.alias)), None)
        model = _models_within(field.annotation)[-1:] if field else model
        model = model[0] if isinstance(model, list) and model else model
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _models_within(annotation: Any) -> list[Any]:
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_within(part)]


def _dotted(where: documents.Path) -> str:
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") + ": " if text else ""


# -- rules between fields --------------------------------------------------------------------------------------------


def _cross_faults(inventory: Inventory, cut: set[documents.Path]) -> Iterator[Fault]:
    """Faults between fields; what was `cut` out as faulty in itself is not blamed on its neighbours."""
    if not {"authorities", "profiles"} & {place[0] for place in cut}:
        yield from _lifetime_faults(inventory)
    yield from _place_faults(inventory, cut)
    if not {"domains", "permit_addresses"} & {place[0] for place in cut}:
        yield from _name_faults(inventory)
    yield from _leaf_faults(inventory)


def _lifetime_faults(inventory: Inventory) -> Iterator[Fault]:
    authorities = inventory.authorities
    for name in ("server", "client"):
        authority, profile = getattr(authorities, name), getattr(inventory.profiles, name)
        if authority.lifetime > authorities.root.lifetime:
            yield (
                ("authorities", name, "lifetime"),
                f"{brief(authority.lifetime)} outlives the root's {brief(authorities.root.lifetime)}",
            )
        if profile.lifetime >= authority.lifetime:
            yield (
                ("profiles", name, "lifetime"),
                f"{brief(profile.lifetime)} is not shorter than the {name} authority's {brief(authority.lifetime)}",
            )
        if profile.renew_before >= profile.lifetime:
            yield (
                ("profiles", name, "renew_before"),
                f"{brief(profile.renew_before)} is not shorter than the lifetime of {brief(profile.lifetime)}",
            )
        if authority.crl.refresh >= authority.crl.lifetime:
            yield (
                ("authorities", name, "crl", "refresh"),
                f"{brief(authority.crl.refresh)} is not shorter than the CRL's lifetime of {brief(authority.crl.lifetime)}",
            )
    if inventory.profiles.server.lifetime > APPLE_LIMIT:
        yield ("profiles", "server", "lifetime"), "more than 825d, which Apple's systems refuse"
    if authorities.root.crl.lifetime < timedelta(days=60):
        yield ("authorities", "root", "crl", "lifetime"), "expected at least 60d: rungs overlap by 30d"


def _place_faults(inventory: Inventory, cut: set[documents.Path]) -> Iterator[Fault]:
    seen: dict[IPv4Address, str] = {}
    for name, host in inventory.hosts.items():
        if name == "ca":
            yield ("hosts", name), "this name is kept for the machine that runs doit"
        network = inventory.networks.get(host.network)
        if network is None and not {("networks",), ("networks", host.network)} & cut:
            hint = _did_you_mean(host.network, list(inventory.networks))
            yield ("hosts", name, "network"), f"{host.network!r} is not one of the networks{hint}"
        if network and host.address is not None and host.address not in network:
            yield (
                ("hosts", name, "address"),
                f"{host.address} lies outside network {host.network} ({network})",
            )
        if host.address is not None and seen.setdefault(host.address, name) != name:
            yield ("hosts", name, "address"), f"{host.address} is host {seen[host.address]}'s already"
    if inventory.publish.host not in inventory.hosts and not {("hosts",), ("hosts", inventory.publish.host)} & cut:
        hint = _did_you_mean(inventory.publish.host, list(inventory.hosts))
        yield ("publish", "host"), f"{inventory.publish.host!r} is not one of the hosts{hint}"


def _name_faults(inventory: Inventory) -> Iterator[Fault]:
    seen = dict[str, str]()
    for host_name, host in inventory.hosts.items():
        places: list[tuple[documents.Path, tuple[str, ...]]] = [(("hosts", host_name, "names"), host.names)]
        places += [
            (("hosts", host_name, "services", service), service_names(inventory, host, service))
            for service in host.services
        ]
        for where, names in places:
            for name in names:
                if name in seen:
                    yield where, f"{name} is taken already, by {seen[name]}"
                seen[name] = _dotted(where)[:-2]
                if fault := name_fault(inventory, name):
                    yield where, fault


def name_fault(inventory: Inventory, name: str) -> str:
    """Why a DNS name or an IPv4 address may not be certified in this house; empty when it may."""
    if _is_address(name):
        blocks = permitted_addresses(inventory)
        if not any(IPv4Address(name) in block for block in blocks):
            return f"{name} lies outside permit_addresses ({', '.join(map(str, blocks)) or 'none'})"
    elif not any(name == domain or name.endswith(f".{domain}") for domain in inventory.domains):
        return f"{name} lies outside domains ({', '.join(inventory.domains)})"
    return ""


def _leaf_faults(inventory: Inventory) -> Iterator[Fault]:
    seen = {f"client-{name}": f"clients.{name}" for name in inventory.clients}
    for name, host in inventory.hosts.items():
        found = [leaf.name for leaf in host_leaves(inventory, name, host)]
        for leaf in found:
            if leaf in seen:
                yield ("hosts", name), f"its certificate would be called {leaf}, as that of {seen[leaf]} is"
            seen[leaf] = f"hosts.{name}"
        if host.request and len(found) > 1:
            yield (
                ("hosts", name, "request"),
                "one request cannot serve two access levels; split the host in two",
            )
        if host.request and not found:
            yield ("hosts", name, "request"), "the host has no name to certify; give it names or services"
