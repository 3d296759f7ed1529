"""What the proxy and the servers of a host cannot do: refuse revoked clients (and until when), or remove every forged header."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pki.common.durations import at_least
from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.config.proxies import PROGRAMS, ServerProgram
from pki.deploy.delivery import Delivery
from pki.deploy.host_records import HostRecords
from pki.monitor import dependents
from pki.pipeline.plan import Plan
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView


def phrases(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, revocations: Revocations, delivery: Delivery
) -> list[str]:
    """Return what revoked clients can still do on a host; empty if none of its services requires client certificates."""
    texts = list[str]()
    for program in _programs(inventory, delivery):
        if since := _not_reached_since(delivery.records):
            meanwhile = _unreached(inventory, now, ledger_view, revocations, program)
            texts.append(f"not up to date since {since}: {_condition(delivery.records)}{meanwhile}")
        texts.append(
            program.exposure(
                timedelta() if program.revokes else longest_client_validity(inventory, now, ledger_view, revocations)
            )
        )
    return list(dict.fromkeys(filter(None, texts)))


def notes(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, revocations: Revocations, plan: Plan
) -> Iterator[Notice]:
    """Yield a notice for each host that ignores a revocation for longer than an old CRL is valid, or cannot be reached."""
    for delivery in plan.deliveries.values():
        notices = (
            notice
            for program in _programs(inventory, delivery)
            for notice in _notes_of_program(inventory, now, ledger_view, revocations, delivery, program)
        )
        yield from dict.fromkeys(notices)


def _notes_of_program(
    inventory: Inventory,
    now: datetime,
    ledger_view: LedgerView,
    revocations: Revocations,
    delivery: Delivery,
    program: ServerProgram,
) -> Iterator[Notice]:
    name = ArtifactId("deploy", delivery.host)
    is_ignored_for_long = inventory.profiles.client.lifetime > inventory.authorities.client.crl.lifetime
    if not program.revokes and is_ignored_for_long:
        short = "short lifetimes: profiles.client: {lifetime: 7d, renew_before: 3d}"
        is_proxy = program in PROGRAMS.values()
        remedy = (
            f"use another proxy, or {short}; docs/how-to/proxies.md"
            if is_proxy
            else f"{short}; docs/how-to/services.md"
        )
        yield Notice(name, program.exposure(longest_client_validity(inventory, now, ledger_view, revocations)), remedy)
    if since := _not_reached_since(delivery.records):
        meanwhile = _unreached(inventory, now, ledger_view, revocations, program)
        text = f"not up to date since {since}: {_condition(delivery.records)}{meanwhile}"
        yield Notice(
            name, text, f"fix the cause, then: ./run doit {name}; or stop the services of {delivery.host} until then"
        )


def forgeable_header_notes(inventory: Inventory) -> Iterator[Notice]:
    """Yield a notice for each host whose upstreams may mistake a client's header for a header of the proxy."""
    for name, host in inventory.hosts.items():
        services = [service for service, settings in host.services.items() if settings.is_proxied]
        is_ours = bool(services) and host.scope == "config" and host.deliver != "none"
        if is_ours and host.proxy and not PROGRAMS[host.proxy].has_patterns:
            yield Notice(
                ArtifactId("host", name),
                f"{host.proxy} removes forged headers by exact names only: the upstreams of {', '.join(services)} "
                "may accept X.Forwarded.Tls.Client.Cert.Info or X.Real.Ip from a client as the header of the proxy",
                "use upstreams that do not treat other bytes as - or _, or set aliasHeadersStrategy: docs/how-to/proxies.md",
            )


def longest_client_validity(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, revocations: Revocations
) -> timedelta:
    """Return for how long a client certificate of today stays valid at most, in whole units; cached."""

    def read() -> int:
        valid = (
            certificate
            for certificate in revocations.unexpired()
            if certificate.profile == "client" and not certificate.revoked
        )
        return max((int(certificate.not_after.timestamp()) for certificate in valid), default=0)

    end = ledger_view.cached("clients end", "", read, as_of=now)
    left = datetime.fromtimestamp(end, UTC) - now
    return at_least(max(timedelta(), min(left, inventory.profiles.client.lifetime)))


def _unreached(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, revocations: Revocations, program: ServerProgram
) -> str:
    crls = inventory.authorities.client.crl.lifetime
    return program.exposure_unreached(
        crls, timedelta() if program.is_dated else longest_client_validity(inventory, now, ledger_view, revocations)
    )


def _programs(inventory: Inventory, delivery: Delivery) -> list[ServerProgram]:
    """Return the proxy and the servers of a host that require client certificates."""
    host = inventory.hosts.get(delivery.host)
    uses = dependents.uses_of_host(delivery.host, host) if host else []
    return [program for use in uses if (program := use.program) is not None]


def _condition(records: HostRecords) -> str:
    """Return the condition under which old CRLs are on a host: without a receipt, nobody knows what is there."""
    return "" if records.receipt else "if it has files of an earlier deployment, "


def _not_reached_since(records: HostRecords) -> str:
    return records.contact.failing_since[:10] if records.is_contacted else ""
