"""The leaves that OpenSSL request configurations among the managed files declare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

from pki.common.errors import PkiError, as_pki_error
from pki.config import openssl_cnf
from pki.config.error_messages import dotted_path
from pki.config.fields import KeyKind, ProfileName
from pki.config.ip_addresses import canonical_address, is_address, parse_address
from pki.config.leaf_certificates import (
    address_claims,
    client_claims,
    host_claims,
    is_test_name,
    is_within_domains,
    name_fault,
    new_name_registry,
    renew_before,
)
from pki.config.model import Inventory, Leaf
from pki.config.name_claims import Claim, Conflict, Key, NameRegistry, Place
from pki.config.name_fields import common_name, dns_name, email_address, is_like_dns_name, leaf_file_name
from pki.deploy.managed_files import Library, ManagedFile


class DeclaredLeaves(NamedTuple):
    """The leaves that `*.cnf` files declare, and the library in which each invalid file has its fault."""

    library: Library
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class _Declaration:
    file: ManagedFile
    leaf: Leaf
    claims: tuple[Claim, ...]


def request_leaves(
    config: Inventory,
    library: Library,
    used_names: Collection[str],
    line_of: Callable[[Place], str],
    holders: Callable[[], Collection[tuple[str, Key]]],
) -> DeclaredLeaves:
    """Return the leaves that `*.cnf` files declare, in addition to the leaves of pki.yaml, which are called `used_names`.

    `line_of` returns the line of a place in pki.yaml as text: ` (pki.yaml:26)`. `holders` returns pairs of a leaf with a
    valid certificate and a name in the certificate: if two files request one name, the file whose leaf already has the
    name keeps it. Both functions are slow, and are called only if a name is requested twice.
    """
    declarations, faults = list[_Declaration](), dict[str, PkiError]()
    for file in library.files:
        if file.request is not None:
            try:
                declarations.append(_declaration(config, file, file.request))
            except PkiError as error:
                faults[file.name] = error
            except Exception as error:  # noqa: BLE001 - an error in one declaration does not affect the others
                bug = as_pki_error(error)
                faults[file.name] = PkiError(f"{_shown(file.name)}: {bug.message}", bug.hint)
    names, leaves = _names_of_pki_yaml(config, declarations), dict[str, Leaf]()
    for declaration in _by_precedence(declarations, holders):
        if declaration.leaf.name in used_names or declaration.leaf.name in leaves:
            faults[declaration.file.name] = PkiError(
                f"{_shown(declaration.file.name)}: another leaf is called {declaration.leaf.name}", "rename the file"
            )
        elif fault := _fault(config, declaration, names, line_of):
            faults[declaration.file.name] = fault
        else:
            leaves[declaration.leaf.name] = declaration.leaf
            names.add(declaration.claims)
    files = tuple(replace(file, fault=faults[file.name]) if file.name in faults else file for file in library.files)
    return DeclaredLeaves(replace(library, files=files), tuple(leaves.values()))


def _by_precedence(
    declarations: list[_Declaration], holders: Callable[[], Collection[tuple[str, Key]]]
) -> list[_Declaration]:
    """Return the declarations in the order in which they get their names.

    That is the order of the file names, except that a leaf comes first if it already has a name that several files
    request.
    """
    counts = Counter(key for declaration in declarations for key in {claim.key for claim in declaration.claims})
    contested_keys = {key for key, count in counts.items() if count > 1}
    if not contested_keys:
        return declarations
    held_names = holders()
    return sorted(
        declarations,
        key=lambda declaration: not any((declaration.leaf.name, key) in held_names for key in contested_keys),
    )


# -- which names are free ---------------------------------------------------------------------------------------------


def _names_of_pki_yaml(config: Inventory, declarations: list[_Declaration]) -> NameRegistry:
    """Return the names of pki.yaml that a declaration could conflict with; all names would take long for many hosts."""
    names = new_name_registry(config)
    keys = {claim.key for declaration in declarations for claim in declaration.claims}
    servers = {name for kind, name in keys if kind == "server"}
    if any(is_address(name) for name in servers):
        names.add(claim for claim in address_claims(config) if claim.name in servers)
    if servers:
        names.add(host_claims(config, servers))
    if any(kind == "client" for kind, _ in keys):
        names.add(claim for claim in client_claims(config) if claim.key in keys)
    return names


def _fault(
    config: Inventory, declaration: _Declaration, names: NameRegistry, line_of: Callable[[Place], str]
) -> PkiError | None:
    """Return everything that is wrong with the names of a declaration; None if the names are free."""
    conflicts = names.conflicts(declaration.claims)
    parts = [_conflict(conflict, line_of) for conflict in conflicts]
    for claim in declaration.claims:
        is_in_pki_yaml = any(len(other.place) > 1 for other in names.claims_on(claim))
        if claim.kind == "server" and claim.name.startswith("*.") and not is_in_pki_yaml:
            parts.append(f"{_place(claim.place)}: {claim.name}: no host in pki.yaml has this wildcard")
    if not parts:
        return None
    owner = declaration.claims[0].owner
    if declaration.leaf.profile == "client":  # its only claim is its CN
        hint = "write another CN"
    elif not conflicts:
        hint = f"list the names one by one, or in pki.yaml: hosts.{owner if owner in config.hosts else 'HOST'}.names"
    elif owner in config.hosts:
        hint = f"remove it from one of them; where both serve it: hosts.{owner}.shared: true in pki.yaml"
    else:
        hint = "remove it from one of them; where a host serves it too: deploy-hosts: HOST, and hosts.HOST.shared: true"
    return PkiError("; ".join(dict.fromkeys(parts)), hint)


def _conflict(conflict: Conflict, line_of: Callable[[Place], str]) -> str:
    claim, holder = conflict
    prefix = "CN " if claim.kind == "client" else ""
    return f"{_place(claim.place)}: {prefix}{claim.name} belongs to {_place(holder.place, line_of)}"


def _place(place: Place, line_of: Callable[[Place], str] = lambda _: "") -> str:
    """Return a place for messages: a file in templates/, or a path in pki.yaml, which has several parts, with its line."""
    is_in_pki_yaml = len(place) > 1
    return f"{dotted_path(place)}{line_of(place) if is_in_pki_yaml else ''}"


# -- the declaration in one file -----------------------------------------------------------------------------------------------


def _declaration(config: Inventory, file: ManagedFile, request: openssl_cnf.CnfRequest) -> _Declaration:
    """Return the declaration of a file. Raises PkiError with everything that is wrong in the file itself."""
    profile = cast("ProfileName", request.profile)
    try:
        name = leaf_file_name(file.leaf_name, profile)
    except ValueError as error:
        raise PkiError(
            f"{_shown(file.name)}: its certificate has the name of the file: {error}", "rename the file"
        ) from None
    if is_test_name(name):
        raise PkiError(f"{_shown(file.name)}: another leaf is called {name}", "rename the file")
    rule = config.profiles.server if profile == "server" else config.profiles.client
    dns, addresses, cn = list(request.dns), list(request.addresses), request.common_name
    if profile == "server" and cn and not _is_description(cn, request):  # TLS clients read only subjectAltName
        names = addresses if is_address(cn) else dns
        names.insert(0, canonical_address(cn))
    leaf = Leaf(
        name=name,
        profile=profile,
        common_name=cn,
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
    if faults := list(dict.fromkeys(_name_faults(config, leaf))):
        places = ((request.places.get(at, _shown(file.name)), what) for at, what in faults)
        raise PkiError("; ".join(f"{place}: {what}" for place, what in places))
    return _Declaration(file, leaf, tuple(_claims(config, file, request, leaf)))


def _is_description(cn: str, request: openssl_cnf.CnfRequest) -> bool:
    """Return whether the CN of a server adds no name: it is a description, or repeats a name of subjectAltName."""
    names = {name.lower() for name in (*request.dns, *request.addresses)}
    if not names:
        return False  # without subjectAltName, the CN must be the name
    if canonical_address(cn).lower() in names:
        return True
    if ":" in cn:
        return not is_address(cn)
    is_label = re.fullmatch(r"[A-Za-z0-9_-]+", cn) is not None
    if is_label:  # a description beside DNS names; beside addresses a short host name, which some programs use
        return bool(request.dns)
    return re.fullmatch(r"[A-Za-z0-9._*-]+", cn) is None


def _claims(config: Inventory, file: ManagedFile, request: openssl_cnf.CnfRequest, leaf: Leaf) -> Iterator[Claim]:
    """Yield a claim on each name of a leaf, for the host that its file is for; for the file itself if that is not one host."""
    place = f"templates/{file.name}"
    host = config.hosts.get(file.selectors[0]) if len(file.selectors) == 1 else None
    owner = file.selectors[0] if host and leaf.profile == "server" else place
    common_names = (leaf.common_name,) if leaf.profile == "client" else ()
    for name in dict.fromkeys((*common_names, *leaf.dns, *leaf.addresses)):
        location = request.places.get(name, place)
        kind: Literal["client", "server"] = "client" if leaf.profile == "client" else "server"
        yield Claim(kind, name, owner, (location,), is_shared=bool(host and host.shared))


def _name_faults(config: Inventory, leaf: Leaf) -> Iterator[tuple[str, str]]:
    """Yield each name of a leaf that is wrong, with the fault."""
    checks: list[tuple[Callable[[str], object], tuple[str, ...]]] = [
        (dns_name, leaf.dns),
        (email_address, leaf.emails),
        (parse_address, leaf.addresses),
    ]
    for check, names in checks:
        for name in names:
            try:
                check(name)
            except ValueError as error:
                is_name_shown = ascii(name)[1:-1] in str(error)
                yield name, str(error) if is_name_shown else f"{error}, got {name!a}"
                continue
            if check is not email_address and (fault := name_fault(config, name)):
                yield name, fault
            elif check is not email_address and is_test_name(name):
                yield name, f"{name} is reserved for the test identities"
            elif leaf.profile == "client" and name.startswith("*"):
                yield name, f"{name}: a client cannot have a wildcard"
    if leaf.profile == "client":
        yield from ((leaf.common_name, what) for what in _common_name_faults(config, leaf))
    elif not leaf.names:
        yield "", "contains no name: subjectAltName = DNS:NAME in the section that req_extensions names"
    elif leaf.common_name not in leaf.names:
        yield from ((leaf.common_name, what) for what in _text_faults(leaf.common_name))


def _common_name_faults(config: Inventory, leaf: Leaf) -> Iterator[str]:
    cn = leaf.common_name
    if not cn:
        yield "has no CN, which identifies a client: CN = NAME"
        return
    if faults := list(_text_faults(cn)):
        yield from faults
        return
    if is_test_name(cn):
        yield f"CN {cn} is reserved for the test identities"
    elif is_like_dns_name(cn) and not is_within_domains(config, cn.lower()):
        yield (
            f"CN {cn} looks like a DNS name, which OpenSSL checks against the name constraints; "
            f"write {cn}@device, or {cn}.{config.domains[0]}"
        )
    for name, client in config.clients.items():
        if (client.email or "").lower() == cn.lower():
            yield f"CN {cn} is the e-mail address of clients.{name}"


def _text_faults(cn: str) -> Iterator[str]:
    """Yield what is wrong with a CN as text; at most 64 characters (RFC 5280, ub-common-name)."""
    try:
        common_name(cn)
    except ValueError as error:
        yield str(error)
    if len(cn) > 64:
        yield "its CN is longer than 64 characters"


def _shown(name: str) -> str:
    """Return the path of a managed file in messages, with unprintable characters escaped."""
    return f"templates/{name if name.isascii() and name.isprintable() else ascii(name)}"
