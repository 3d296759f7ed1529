"""OpenSSL request configurations among the managed files: the leaves that they declare."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address
from typing import cast

from pki import opensslconf
from pki.errors import PkiError, of_any
from pki.leaves import name_fault, renew_before
from pki.managed import Library, ManagedFile
from pki.model import Inventory, Leaf
from pki.scalars import KeyKind, ProfileName, dns_name, email_address

LEAF_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def request_leaves(said: Inventory, library: Library, taken: Collection[str]) -> tuple[Library, list[Leaf]]:
    """The leaves that `*.cnf` files declare, and the library with what is wrong with a declaration kept at its file."""
    leaves: dict[str, Leaf] = {}
    files = []
    for file in library.files:
        if file.request is None:
            files.append(file)
            continue
        try:
            leaves[file.leaf_name] = _leaf(said, file, file.request, {*taken, *leaves})
            files.append(file)
        except Exception as error:  # noqa: BLE001 - whatever is in one declaration stops that one alone
            told = of_any(error)
            files.append(replace(file, fault=PkiError(f"templates/{file.name}: {told.message}", told.hint)))
    return replace(library, files=tuple(files)), list(leaves.values())


def _leaf(said: Inventory, file: ManagedFile, request: opensslconf.Request, taken: Collection[str]) -> Leaf:
    if not LEAF_NAME.fullmatch(file.leaf_name):
        raise PkiError("its certificate is called after the file", "name it in letters, digits, . _ and -")
    if file.leaf_name in taken:
        raise PkiError(f"there is another leaf called {file.leaf_name}", "rename the file")
    profile = cast("ProfileName", request.profile)
    rule = said.profiles.server if profile == "server" else said.profiles.client
    dns, emails = list(request.dns), list(request.emails)
    common_name = request.common_name
    if profile == "server" and common_name and common_name not in (*dns, *request.addresses):
        dns.insert(0, common_name)
    try:
        dns = [dns_name(name) for name in dns]
        emails = [email_address(email) for email in emails]
        addresses = tuple(str(IPv4Address(address)) for address in request.addresses)
    except ValueError as error:
        raise PkiError(str(error)) from None
    for name in (*dns, *addresses):
        if fault := name_fault(said, name):
            raise PkiError(fault)
    if profile == "client" and "." in common_name and "@" not in common_name and common_name not in dns:
        raise PkiError(f"CN {common_name} looks like a DNS name, which OpenSSL holds against the name constraints")
    if not (dns or addresses or emails):
        raise PkiError("names nothing: give it a CN or a subjectAltName")
    return Leaf(
        name=file.leaf_name,
        profile=profile,
        common_name=common_name if len(common_name) <= 64 else "",
        dns=tuple(dns),
        addresses=addresses,
        emails=tuple(emails),
        key=cast("KeyKind", request.key) if request.key else rule.key,
        rekey=rule.rekey == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, file.leaf_name),
        request=None,
        declared=f"templates/{file.name}",
    )
