"""OpenSSL request configurations among the managed files: the leaves that they declare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import NamedTuple, cast

from pki.common.errors import PkiError, of_any
from pki.config import openssl_cnf
from pki.config.error_messages import dotted_path
from pki.config.fields import (
    KeyKind,
    ProfileName,
    common_name,
    dns_name,
    email_address,
    is_like_dns_name,
    leaf_file_name,
)
from pki.config.leaf_certificates import (
    address_claims,
    host_claims,
    is_address,
    is_test_name,
    is_within_domains,
    name_fault,
    new_name_registry,
    renew_before,
)
from pki.config.model import Inventory, Leaf
from pki.config.name_claims import Claim, Conflict, Key, NameRegistry, Place
from pki.deploy.managed_files import Library, ManagedFile


class Declared(NamedTuple):
    """What `*.cnf` files declare: the library with what is wrong kept at its file, and leaves."""

    library: Library
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class _Declaration:
    file: ManagedFile
    leaf: Leaf
    claims: tuple[Claim, ...]


def request_leaves(
    said: Inventory,
    library: Library,
    taken: Collection[str],
    line: Callable[[Place], str],
    holders: Callable[[], Collection[tuple[str, Key]]],
) -> Declared:
    """The leaves that `*.cnf` files declare, beside those of pki.yaml, whose names are `taken`.

    `line` says where a place of pki.yaml stands: ` (pki.yaml:26)`. `holders` are leaves with a valid certificate, each
    with a name in it: of two files that ask for one name, the one that has it keeps it. Both are asked only where two
    ask for one name.
    """
    found, faults = list[_Declaration](), dict[str, PkiError]()
    for file in library.files:
        if file.request is not None:
            try:
                found.append(_declaration(said, file, file.request))
            except PkiError as error:
                faults[file.name] = error
            except Exception as error:  # noqa: BLE001 - whatever is in one declaration stops that one alone
                told = of_any(error)
                faults[file.name] = PkiError(f"{_shown(file.name)}: {told.message}", told.hint)
    names, leaves = _taken(said, found), dict[str, Leaf]()
    for one in _in_order(found, holders):
        if one.leaf.name in taken or one.leaf.name in leaves:
            faults[one.file.name] = PkiError(
                f"{_shown(one.file.name)}: there is another leaf called {one.leaf.name}", "rename the file"
            )
        elif fault := _fault(said, one, names, line):
            faults[one.file.name] = fault
        else:
            leaves[one.leaf.name] = one.leaf
            names.add(one.claims)
    files = tuple(replace(file, fault=faults[file.name]) if file.name in faults else file for file in library.files)
    return Declared(replace(library, files=files), tuple(leaves.values()))


def _in_order(found: list[_Declaration], holders: Callable[[], Collection[tuple[str, Key]]]) -> list[_Declaration]:
    """Who comes first gets a name: by the names of the files, but for those that have a contested name already."""
    counts = Counter(key for one in found for key in {claim.key for claim in one.claims})
    contested = {key for key, count in counts.items() if count > 1}
    if not contested:
        return found
    held = holders()
    return sorted(found, key=lambda one: not any((one.leaf.name, key) in held for key in contested))


# -- whose names they are ---------------------------------------------------------------------------------------------


def _taken(said: Inventory, found: list[_Declaration]) -> NameRegistry:
    """The names of pki.yaml that matter here."""
    names = new_name_registry(said)
    wanted = {claim.key for one in found for claim in one.claims}
    servers = {name for kind, name in wanted if kind == "server"}
    if any(is_address(name) for name in servers):
        names.add(claim for claim in address_claims(said) if claim.name in servers)
    if servers:
        names.add(host_claims(said, servers))
    clients = (name for kind, name in wanted if kind == "client" and name in said.clients)
    names.add(Claim("client", name, f"clients.{name}", ("clients", name)) for name in clients)
    return names


def _fault(said: Inventory, one: _Declaration, names: NameRegistry, line: Callable[[Place], str]) -> PkiError | None:
    """Everything that is wrong with the names of a declaration, beside those that others have."""
    conflicts = names.conflicts(one.claims)
    parts = [_conflict(conflict, line) for conflict in conflicts]
    for claim in one.claims:
        held = any(len(other.place) > 1 for other in names.claims_on(claim))
        if claim.kind == "server" and claim.name.startswith("*.") and not held:
            parts.append(f"{_place(claim.place)}: {claim.name}: no host of pki.yaml has this wildcard")
    if not parts:
        return None
    owner = one.claims[0].owner
    if one.leaf.profile == "client":
        hint = "write another CN"
    elif not conflicts:
        hint = f"write the names out, or in pki.yaml: hosts.{owner if owner in said.hosts else 'HOST'}.names"
    elif owner in said.hosts:
        hint = f"take it out of one of them; where both serve it: hosts.{owner}.shared: true in pki.yaml"
    else:
        hint = "take it out of one of them; where a host serves it too: deploy-hosts: HOST, and hosts.HOST.shared: true"
    return PkiError("; ".join(dict.fromkeys(parts)), hint)


def _conflict(conflict: Conflict, line: Callable[[Place], str]) -> str:
    claim, held = conflict
    what = "CN " if claim.kind == "client" else ""
    return f"{_place(claim.place)}: {what}{claim.name} belongs to {_place(held.place, line)}"


def _place(place: Place, line: Callable[[Place], str] = lambda _: "") -> str:
    return f"{dotted_path(place)[:-2]}{line(place) if len(place) > 1 else ''}"


# -- what one file says -----------------------------------------------------------------------------------------------


def _declaration(said: Inventory, file: ManagedFile, request: openssl_cnf.Request) -> _Declaration:
    """Raises PkiError with everything that is wrong with a file by itself."""
    profile = cast("ProfileName", request.profile)
    try:
        name = leaf_file_name(file.leaf_name, profile)
    except ValueError as error:
        raise PkiError(
            f"{_shown(file.name)}: its certificate is called after the file: {error}", "rename the file"
        ) from None
    if is_test_name(name):
        raise PkiError(f"{_shown(file.name)}: there is another leaf called {name}", "rename the file")
    rule = said.profiles.server if profile == "server" else said.profiles.client
    dns, addresses, called = list(request.dns), list(request.addresses), request.common_name
    if profile == "server" and called and not _is_description(called, request):
        (addresses if is_address(called) else dns).insert(0, called)
    leaf = Leaf(
        name=name,
        profile=profile,
        common_name=called,
        dns=tuple(dns),
        addresses=tuple(addresses),
        emails=tuple(request.emails),
        key=cast("KeyKind", request.key) if request.key else rule.key,
        rekey=rule.rekey == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, name),
        request=None,
        declared=f"templates/{file.name}",
    )
    if faults := list(dict.fromkeys(_name_faults(said, leaf))):
        places = ((request.places.get(at, _shown(file.name)), what) for at, what in faults)
        raise PkiError("; ".join(f"{place}: {what}" for place, what in places))
    return _Declaration(file, leaf, tuple(_claims(said, file, request, leaf)))


def _is_description(called: str, request: openssl_cnf.Request) -> bool:
    """Whether the CN of a server is text for people, or one of its names: then it is no further name."""
    names = {name.lower() for name in (*request.dns, *request.addresses)}
    if called.lower() in names or not names:
        return bool(names)
    is_label = re.fullmatch(r"[A-Za-z0-9_-]+", called) is not None  # a short host name: some read it without DNS names
    return bool(request.dns) if is_label else re.fullmatch(r"[A-Za-z0-9._*-]+", called) is None


def _claims(said: Inventory, file: ManagedFile, request: openssl_cnf.Request, leaf: Leaf) -> Iterator[Claim]:
    """The names of a leaf, for the one host that its file is for, or else for the file itself."""
    place = f"templates/{file.name}"
    host = said.hosts.get(file.selectors[0]) if len(file.selectors) == 1 else None
    owner = file.selectors[0] if host and leaf.profile == "server" else place
    for name in (leaf.common_name,) if leaf.profile == "client" else (*leaf.dns, *leaf.addresses):
        at = request.places.get(name, place)
        yield Claim(leaf.profile, name, owner, (at,), is_shared=bool(host and host.shared))


def _name_faults(said: Inventory, leaf: Leaf) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of a leaf, each with the name."""
    checks: list[tuple[Callable[[str], str], tuple[str, ...]]] = [(dns_name, leaf.dns), (email_address, leaf.emails)]
    for check, names in [*checks, (_address, leaf.addresses)]:
        for name in names:
            try:
                check(name)
            except ValueError as error:
                yield name, str(error) if error.args and ascii(name)[1:-1] in str(error) else f"{error}, got {name!a}"
                continue
            if check is not email_address and (fault := name_fault(said, name)):
                yield name, fault
            elif check is not email_address and is_test_name(name):
                yield name, f"{name} is kept for the certificates that prove deliveries and revocations"
            elif leaf.profile == "client" and name.startswith("*"):
                yield name, f"{name}: a wildcard is no name of a client"
    if leaf.profile == "client":
        yield from ((leaf.common_name, what) for what in _common_name_faults(said, leaf))
    elif not leaf.names:
        yield "", "names nothing: subjectAltName = DNS:NAME in the section that req_extensions names"
    elif leaf.common_name not in leaf.names:
        yield from ((leaf.common_name, what) for what in _text_faults(leaf.common_name))


def _common_name_faults(said: Inventory, leaf: Leaf) -> Iterator[str]:
    called = leaf.common_name
    if not called:
        yield "has no CN, by which services tell clients apart: CN = NAME"
        return
    if faults := list(_text_faults(called)):
        yield from faults
        return
    if is_test_name(called):
        yield f"CN {called} is kept for the certificates that prove deliveries and revocations"
    elif is_like_dns_name(called) and not is_within_domains(said, called.lower()):
        yield (
            f"CN {called} looks like a DNS name, which OpenSSL holds against the name constraints; "
            f"write {called}@device, or {called}.{said.domains[0]}"
        )
    for name, client in said.clients.items():
        if client.email.lower() == called.lower():
            yield f"CN {called} is the e-mail address of clients.{name}"


def _text_faults(called: str) -> Iterator[str]:
    """What is wrong with a CN as a text; OpenSSL makes none that is longer (RFC 5280, ub-common-name)."""
    try:
        common_name(called)
    except ValueError as error:
        yield str(error)
    if len(called) > 64:
        yield "its CN is longer than 64 characters"


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        note = ": IPv6 names cannot be certified here (docs/profiles.md)" if ":" in text else ""
        raise ValueError(f"expected an IPv4 address, got {text!a}{note}") from None


def _shown(name: str) -> str:
    """The path of a managed file, whatever characters are in it."""
    return f"templates/{name if name.isascii() and name.isprintable() else ascii(name)}"
