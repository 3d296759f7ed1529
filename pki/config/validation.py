"""The rules between the fields of pki.yaml. A new rule is a function here that yields faults; `find_cross_faults` calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import time, timedelta
from typing import TypeVar

from pki.common.durations import backdate, is_usable, longest_pause
from pki.common.remedies import RESTORE
from pki.common.template_folders import program_names
from pki.config import client_rules, service_rules
from pki.config.authority_rules import AuthorityRules, CrlRule
from pki.config.delivery_window import is_in_window
from pki.config.error_messages import Fault, Place, did_you_mean, dotted_path
from pki.config.fields import EXPECTED_SECRETS, PKCS12, SECRET, parse_jump_host
from pki.config.identifiers import OWN_FOLDERS
from pki.config.ip_addresses import IpAddress
from pki.config.leaf_certificates import (
    RESERVED_HOSTS,
    address_claims,
    host_claims,
    host_leaves,
    name_fault,
    new_name_registry,
)
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.config.model import ALL_TEMPLATES, Host, Inventory, ServerRule
from pki.config.proxies import PROGRAMS
from pki.config.released_templates import RELEASED
from pki.config.time_fields import format_duration

PositionText = Callable[[Place], str]
T = TypeVar("T")

APPLE_LIMIT = timedelta(days=825)  # of server certificates below a root that users installed: support.apple.com/103769
UNSAVED_FOLDERS = ("build", "offline")  # a backup does not contain them
MINIMUM_USE_DIVISOR = 4  # a certificate is in use for at least 1/4 of its lifetime, despite renew_spread


def find_cross_faults(
    inventory: Inventory, removed_places: set[Place], position_text: PositionText = lambda _: ""
) -> Iterator[Fault]:
    """Yield the faults between fields: path and message.

    `removed_places` are the places with a fault of their own; a rule that depends on one of them is skipped.
    `position_text` returns the position of a second place in a message, such as ` (pki.yaml:26)`, or "" without a file.
    """
    invalid_keys = {place[0] for place in removed_places}
    if invalid_keys.isdisjoint({"authorities", "profiles"}):
        yield from _lifetime_faults(inventory)
        yield from _root_faults(inventory.authorities)
        if "schedule" not in invalid_keys:
            yield from _schedule_faults(inventory)
    if "authorities" not in invalid_keys:
        yield from _adopted_faults(inventory)
        yield from _external_faults(inventory.authorities)
    yield from _named_root_faults(inventory)
    yield from _secret_file_faults(inventory)
    yield from _host_faults(inventory, removed_places)
    if invalid_keys.isdisjoint({"domains", "permit_addresses"}):
        yield from _name_faults(inventory, position_text)
        yield from client_rules.find_faults(inventory, removed_places, position_text)
        yield from service_rules.find_faults(inventory)
    yield from _leaf_faults(inventory)
    yield from _template_faults(inventory)


def _template_faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield paths in `templates.without` that no version of the program has: nothing would be left out."""
    without = inventory.templates.without if inventory.templates else ()
    names = program_names() | RELEASED.keys()
    for position, name in enumerate(without):
        place = ("templates", "without", position)
        if name == ALL_TEMPLATES and len(without) > 1:
            yield place, f"{ALL_TEMPLATES} cannot be combined: it leaves out every template of the program"
        elif name not in {ALL_TEMPLATES, *names}:
            yield place, f"the program has no template {name!r}{did_you_mean(name, sorted(names))}"


def _lifetime_faults(inventory: Inventory) -> Iterator[Fault]:
    authorities = inventory.authorities
    for name in _issuing_names(authorities):
        authority, profile = getattr(authorities, name), getattr(inventory.profiles, name)
        if authority.lifetime > authorities.root.lifetime:
            yield (
                ("authorities", name, "lifetime"),
                f"{format_duration(authority.lifetime)} outlives the root's {format_duration(authorities.root.lifetime)}",
            )
        if profile.lifetime >= authority.lifetime:
            yield (
                ("profiles", name, "lifetime"),
                f"{format_duration(profile.lifetime)} is not shorter than the {name} authority's {format_duration(authority.lifetime)}",
            )
        elif profile.lifetime + authority.overlap >= authority.lifetime:
            yield (
                ("authorities", name, "overlap"),
                _no_signing_period(authority.overlap, authority.lifetime, profile.lifetime),
            )
        earliest_renewal = profile.lifetime - profile.renew_before - profile.renew_spread
        if not is_usable(profile.lifetime, profile.renew_before):
            yield ("profiles", name, "renew_before"), _no_time_of_use(profile)
        elif profile.renew_spread and earliest_renewal < profile.lifetime / MINIMUM_USE_DIVISOR:
            yield ("profiles", name, "renew_spread"), _renews_too_early(profile)
        crl_fault = _crl_fault(authority.crl)
        if crl_fault:
            yield ("authorities", name, "crl", "refresh"), crl_fault
    if inventory.profiles.server.lifetime > APPLE_LIMIT:
        yield ("profiles", "server", "lifetime"), "more than 825d, the limit of Apple's systems"


def _issuing_names(authorities: AuthorityRules) -> tuple[str, ...]:
    """Return the intermediates of the project, which are also the names of the profiles."""
    return ("server", "client", *(["peer"] if authorities.peer else []))


def _no_time_of_use(profile: ServerRule) -> str:
    """Return the message for a `renew_before` that renews a certificate when it is issued, or before."""
    before, lifetime, backdating = profile.renew_before, profile.lifetime, backdate(profile.lifetime)
    if before >= lifetime:
        return f"{format_duration(before)} is not shorter than the lifetime of {format_duration(lifetime)}"
    return (
        f"{format_duration(before)} leaves no time of use: notBefore of a certificate of {format_duration(lifetime)} is {format_duration(backdating)} before its "
        f"issue; expected at most {format_duration(lifetime - 2 * backdating)}"
    )


def _schedule_faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield faults of a `schedule` whose runs are too far apart to renew certificates and CRLs in time."""
    pause = longest_pause(inventory.schedule)
    if not pause:
        return
    reason = f"is shorter than {format_duration(pause)}, the longest time between two runs (schedule)"
    for name in _issuing_names(inventory.authorities):
        crl, before = getattr(inventory.authorities, name).crl, getattr(inventory.profiles, name).renew_before
        if before < pause:
            yield ("profiles", name, "renew_before"), f"{format_duration(before)} {reason}"
        if timedelta() < crl.lifetime - crl.refresh < pause:
            remaining = f"a CRL of {format_duration(crl.lifetime)} is valid for {format_duration(crl.lifetime - crl.refresh)} after its refresh"
            yield ("authorities", name, "crl", "lifetime"), f"{remaining}, which {reason}"


def _renews_too_early(profile: ServerRule) -> str:
    """Return the message for a `renew_spread` that renews some certificates too early."""
    minimum = profile.lifetime / MINIMUM_USE_DIVISOR
    longest = (profile.lifetime - profile.renew_before - minimum) // timedelta(days=1)
    limit = f"at most {longest}d" if longest > 0 else "no spread at all"
    return (
        f"{format_duration(profile.renew_spread)} before renew_before ({format_duration(profile.renew_before)}) renews some certificates in the "
        f"first quarter of their {format_duration(profile.lifetime)}; expected {limit}"
    )


def _root_faults(authorities: AuthorityRules) -> Iterator[Fault]:
    longest, root = authorities.longest_intermediate, authorities.root
    if longest <= root.lifetime <= longest + root.overlap:
        yield (
            ("authorities", "root", "overlap"),
            _no_signing_period(root.overlap, root.lifetime, longest),
        )
    if authorities.root.lifetime > ROOT_LIMIT:
        yield (
            ("authorities", "root", "lifetime"),
            f"root lifetime exceeds the limit of {format_duration(ROOT_LIMIT)}",
        )
    if authorities.root.crl.lifetime > PRESIGNED_CRL_LIMIT:
        yield (
            ("authorities", "root", "crl", "lifetime"),
            f"lifetime of a pre-signed CRL exceeds the limit of {format_duration(PRESIGNED_CRL_LIMIT)}",
        )
    if authorities.root.crl.lifetime < timedelta(days=60):
        yield ("authorities", "root", "crl", "lifetime"), "expected at least 60d: pre-signed CRLs overlap by 30d"


def _named_root_faults(inventory: Inventory) -> Iterator[Fault]:
    for position, root in enumerate(inventory.roots):
        if root in inventory.roots[:position]:
            yield ("roots", position), f"duplicate of roots[{inventory.roots.index(root)}]"
    if inventory.roots and inventory.sandbox:
        yield (
            ("sandbox",),
            f"must not be true, because roots lists the root of a production CA; if ca/ is lost: {RESTORE}",
        )


def _adopted_faults(inventory: Inventory) -> Iterator[Fault]:
    adopted, owners = inventory.authorities.adopted, dict[str, str]()
    own_folders = [f"ca/{name}" for name in (*OWN_FOLDERS, *inventory.authorities.externals)]
    for name, rule in adopted.items():
        place = ("authorities", name, "adopt")
        if fault := _crl_fault(rule.crl):
            yield ("authorities", name, "crl", "refresh"), fault
        if any(f"{rule.adopt}/".startswith(f"{folder}/") for folder in UNSAVED_FOLDERS):
            yield place, f"{rule.adopt} is not in a backup; expected a folder such as ca/{name}"
        if rule.adopt == "ca" or any(f"{rule.adopt}/".startswith(f"{folder}/") for folder in own_folders):
            yield place, f"{rule.adopt} is used by the project itself; expected a folder such as ca/{name}"
        if owners.setdefault(rule.adopt, name) != name:
            yield place, f"{rule.adopt} is already used by {owners[rule.adopt]}"
    for name in inventory.secrets.names:
        if not re.fullmatch(SECRET, name) and name not in adopted:
            yield ("secrets", name), EXPECTED_SECRETS
    for name, source in inventory.secrets.named.items():
        if re.fullmatch(PKCS12, name) and (source.prompt is not None or source.fd is not None):
            text = f"{source.description} cannot be read by every run; expected file, command, credential or env"
            yield ("secrets", name), text


def _external_faults(authorities: AuthorityRules) -> Iterator[Fault]:
    """Yield faults of external authorities: lifetimes, and requests that a backup lacks or that two of them share."""
    owners = dict[str, str]()
    for name, rule in authorities.externals.items():
        place, lifetime = ("authorities", name), format_duration(rule.lifetime)
        if name in OWN_FOLDERS:
            yield place, f"ca/{name} is used by the project itself; expected a name such as acme"
        if rule.lifetime > authorities.root.lifetime:
            yield (*place, "lifetime"), f"{lifetime} outlives the root's {format_duration(authorities.root.lifetime)}"
        if rule.overlap >= rule.lifetime:
            overlap = format_duration(rule.overlap)
            yield (*place, "overlap"), f"{overlap} is not shorter than the lifetime of {lifetime}"
        if any(rule.external.startswith(f"{folder}/") for folder in ("ca", *UNSAVED_FOLDERS)):
            fault = f"{rule.external} is in a folder of the program; expected a file such as requests/{name}.csr"
            yield (*place, "external"), fault
        if owners.setdefault(rule.external, name) != name:
            fault = f"{rule.external} is already used by authorities.{owners[rule.external]}"
            yield (*place, "external"), f"{fault}: each intermediate needs a key of its own"


def _secret_file_faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield faults of files with passphrases that no backup would contain: `archive_format.is_restorable` has the same rule."""
    for name in sorted(inventory.secrets.files()):
        folder = name.partition("/")[0]
        if folder.startswith(".") or folder in UNSAVED_FOLDERS:
            fault = f"{name}: a backup contains no hidden file and nothing of build/ or offline/"
            yield ("secrets",), f"{fault}; move it to a folder such as requests/, and write its new path here"


def _crl_fault(rule: CrlRule) -> str:
    if rule.refresh < rule.lifetime:
        return ""
    return f"{format_duration(rule.refresh)} is not shorter than the CRL's lifetime of {format_duration(rule.lifetime)}"


def _no_signing_period(overlap: timedelta, lifetime: timedelta, longest: timedelta) -> str:
    """Return the message for an `overlap` that leaves a CA no signing period.

    The signing period ends before the CA expires by the longest lifetime of a certificate below it, plus `overlap`, in
    which the ceremony for its successor takes place.
    """
    return f"{format_duration(overlap)} leaves no signing period: certificates of {format_duration(longest)} must end before the authority, which is valid for {format_duration(lifetime)}"


def _host_faults(inventory: Inventory, removed_places: set[Place]) -> Iterator[Fault]:
    owners: dict[IpAddress, str] = {}
    for name, host in inventory.hosts.items():
        if name in RESERVED_HOSTS:
            yield ("hosts", name), f"this name is reserved for {RESERVED_HOSTS[name]}"
        yield from _window_faults(inventory, name)
        yield from _trust_faults(name, host)
        yield from _probe_faults(inventory, name)
        if host.reload and not host.proxy:
            fault = "reloads the proxy, and this host has none: write proxy, or leave reload out"
            yield ("hosts", name, "reload"), fault
        is_network_invalid = not removed_places.isdisjoint({("networks",), ("networks", host.network)})
        if not inventory.blocks(host.network) and not is_network_invalid:
            defined_text = f"; defined: {', '.join(inventory.networks) or 'none'}"
            hint = did_you_mean(host.network, list(inventory.networks)) or defined_text
            yield ("hosts", name, "network"), f"unknown network {host.network!r}{hint}"
        yield from _address_faults(inventory, name, owners)
    publisher = inventory.publish.host
    is_publisher_invalid = not removed_places.isdisjoint({("hosts",), ("hosts", publisher)})
    if publisher not in inventory.hosts and not is_publisher_invalid:
        yield ("publish", "host"), f"unknown host {publisher!r}{did_you_mean(publisher, list(inventory.hosts))}"
    yield from _publisher_faults(inventory)
    yield from _local_faults(inventory)


def _address_faults(inventory: Inventory, name: str, owners: dict[IpAddress, str]) -> Iterator[Fault]:
    """Yield faults of the addresses of a host, and add it to `owners`, the first host of each address so far."""
    host, place = inventory.hosts[name], ("hosts", name, "address")
    blocks = inventory.blocks(host.network)
    for address in host.addresses:
        if blocks and not any(address in block for block in blocks):
            yield place, f"{address} is outside network {host.network} ({', '.join(map(str, blocks))})"
        if owners.setdefault(address, name) != name:
            yield place, f"{address} is already used by host {owners[address]}"
    repeated_address = _first_repeated(host.addresses)
    if repeated_address is not None:
        yield place, f"{repeated_address} is listed twice"


def _trust_faults(name: str, host: Host) -> Iterator[Fault]:
    if "none" in host.trust and len(host.trust) > 1:
        yield ("hosts", name, "trust"), "none cannot be combined: it means no trust store of the host"
    repeated_entry = _first_repeated(host.trust)
    if repeated_entry is not None:
        yield ("hosts", name, "trust"), f"{repeated_entry} is listed twice"


def _first_repeated(values: Sequence[T]) -> T | None:
    """Return the first value that a list contains more than once, or None."""
    return next((value for value in values if values.count(value) > 1), None)


def _probe_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """Yield faults of `probe`: a host without services, or a jump host that is the host itself or this machine."""
    host, place = inventory.hosts[name], ("hosts", name, "probe")
    if host.probe not in {None, "none"} and not host.is_probed:
        yield place, f"{name} has no service {'that can be probed' if host.services else 'to probe'}; leave it out"
    jump = parse_jump_host(host.jump)[1]
    if jump == name:
        yield place, f"{jump} is this host itself; write direct, or the name of another host"
    elif jump in inventory.hosts and inventory.hosts[jump].deliver == "local":
        yield place, f"{jump} is this machine; write direct"


def _publisher_faults(inventory: Inventory) -> Iterator[Fault]:
    publisher_name = inventory.publish.host
    publisher = inventory.hosts.get(publisher_name)
    if publisher and publisher.proxy and not PROGRAMS[publisher.proxy].serves_files:
        yield (
            ("publish", "host"),
            f"{publisher.proxy}, the proxy of {publisher_name}, serves no files; name a host with another proxy or without one",
        )
    if publisher and publisher.proxy and publisher.port == inventory.publish.port:
        yield (
            ("hosts", publisher_name, "port"),
            f"{publisher.port} is the port of publish.url, on which it serves plain http",
        )


def _local_faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield faults of more than one `local` delivery: pki-apply stores one release for each machine."""
    local_places = ["deploy.ca"] if inventory.deploy.ca == "local" else []
    for name, host in inventory.hosts.items():
        if host.deliver == "local":
            if local_places:
                yield (
                    ("hosts", name, "deliver"),
                    f"{local_places[0]} already delivers to this machine; only one can be local",
                )
            local_places.append(f"hosts.{name}")


def _window_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """Yield faults of a `window` that contains no time of `schedule`: the host would never be deployed."""
    window, times = inventory.hosts[name].window, inventory.schedule
    if window and not times:
        yield ("hosts", name, "window"), "needs schedule: [06:00], the times at which cron runs doit"
    elif window and not any(is_in_window(time.fromisoformat(run), window) for run in times):
        yield ("hosts", name, "window"), f"{window} contains no run: doit runs at {', '.join(times)} (schedule)"


def _name_faults(inventory: Inventory, position_text: PositionText) -> Iterator[Fault]:
    """Yield faults of names outside the name constraints, duplicates on one host, and conflicts between hosts."""
    names, at_host = new_name_registry(inventory), dict[tuple[str, str], Place]()
    names.add(address_claims(inventory))
    for claim in host_claims(inventory):
        if fault := name_fault(inventory, claim.name):
            yield claim.place, fault
        first_place = at_host.setdefault((claim.owner, claim.name), claim.place)
        if first_place is not claim.place and not _may_share_name(inventory, first_place, claim.place):
            is_same_place = first_place == claim.place
            fault = "is listed twice" if is_same_place else f"is already used by {dotted_path(first_place)}"
            yield claim.place, f"{claim.name} {fault}"
        elif conflict := names.conflict(claim):
            other = conflict.earlier_claim
            fault = f"{claim.name} is already used by {dotted_path(other.place)}{position_text(other.place)}"
            yield claim.place, f"{fault}; if both hosts serve it: hosts.{claim.owner}.shared: true"
        names.add([claim])


def _may_share_name(inventory: Inventory, first: Place, second: Place) -> bool:
    """Return whether a host may use a name at two places: in its peer certificate and in another one, or in two services."""
    if first != second and "peer" in {first[2], second[2]}:
        return True
    return service_rules.share_name(inventory, first, second)


def _leaf_faults(inventory: Inventory) -> Iterator[Fault]:
    owners = {f"client-{name}": f"clients.{name}" for name in inventory.clients}
    for name, host in inventory.hosts.items():
        leaves = [leaf.name for leaf in host_leaves(inventory, name, host)]
        for leaf in leaves:
            if leaf in owners:
                yield ("hosts", name), f"its certificate would be called {leaf}, like that of {owners[leaf]}"
            owners[leaf] = f"hosts.{name}"
        if host.peer and inventory.authorities.peer is None:
            yield ("hosts", name, "peer"), "needs the authority of clusters: write authorities: {peer: {}}"
        requested = [leaf for leaf in host_leaves(inventory, name, host) if leaf.request]
        if len(requested) > 1:
            yield (
                ("hosts", name, "request"),
                "one request cannot serve two access levels; split the host into two",
            )
        if host.request and not requested:
            yield ("hosts", name, "request"), "the host has no name to certify; give it names or services"
