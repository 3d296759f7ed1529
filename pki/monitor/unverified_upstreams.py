"""Upstreams whose certificates are not verified, and CA files for upstreams that expire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509

from pki.common import filesystem
from pki.common.cache import Cache, digest_of
from pki.common.counts import join_names
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.common.remedies import in_project
from pki.config import upstreams
from pki.config.model import Host, Inventory, Upstream
from pki.project.layout import Store

SOON = timedelta(days=30)


def phrases(inventory: Inventory, name: str) -> list[str]:
    """Return what `invoke status` shows about a host: its services whose upstreams are not verified."""
    host = inventory.hosts.get(name)
    services = [service for service, _ in _unverified(host)] if host else []
    return [f"upstreams not verified (verify: none): {join_names(services)}"] if services else []


def notes(inventory: Inventory, store: Store, now: datetime, cache: Cache) -> Iterator[Notice]:
    """Yield one notice for all upstreams that are not verified, and one for each CA file that expires."""
    hosts = inventory.hosts
    unverified_upstreams = [
        (name, service, upstream) for name, host in hosts.items() for service, upstream in _unverified(host)
    ]
    if unverified_upstreams:
        names = join_names(
            [f"{service} on {name} ({upstream.url})" for name, service, upstream in unverified_upstreams]
        )
        text = f"not verified (verify: none): an attacker between proxy and upstream can read and change everything: {names}"
        _, service, upstream = unverified_upstreams[0]
        file = f"upstreams/{service}.pem"
        fetch = f"mkdir -p {in_project('upstreams')}; {upstreams.fetch_command(upstream, in_project(file))}"
        remedy = f"{fetch}; compare it with the device; then replace verify: none by ca: {file}"
        yield Notice("upstreams", text, remedy)
    yield from _expiring(inventory, store, now, cache)


def _unverified(host: Host) -> Iterator[tuple[str, Upstream]]:
    for service, service_spec in host.services.items():
        if service_spec.upstream and service_spec.upstream.verify:
            yield service, service_spec.upstream


def _expiring(inventory: Inventory, store: Store, now: datetime, cache: Cache) -> Iterator[Notice]:
    """Yield a notice for each CA file that contains a certificate that expired or expires soon."""
    users = dict[str, list[tuple[str, str]]]()
    for name, host in inventory.hosts.items():
        for service, file in upstreams.ca_files(inventory, host).items():
            users.setdefault(file, []).append((name, service))
    for file, end in _first_expiries(store, cache, list(users)).items():
        moment = datetime.fromtimestamp(end, UTC)
        if moment < now + SOON:
            verb = "expired" if moment < now else "expires"
            services = join_names([f"{service} on {name}" for name, service in users[file]])
            host_name, service = users[file][0]
            upstream = inventory.hosts[host_name].services[service].upstream
            assert upstream, "ca_files lists upstreams"
            text = f"a certificate in it {verb} on {moment:%Y-%m-%d}; then the proxy refuses its upstream: {services}"
            remedy = f"renew it on the device, then: {upstreams.fetch_command(upstream, in_project(file))}"
            yield Notice(file, text, remedy)


def _first_expiries(store: Store, cache: Cache, files: list[str]) -> dict[str, int]:
    """Return the first expiry in each file, in seconds since 1970; cached while no file changes."""
    paths = [str(store.home / file) for file in files]

    def read() -> dict[str, int]:
        expiries: dict[str, int] = {}
        for file, path in zip(files, paths, strict=True):
            with suppress(PkiError):  # the release reports a file that cannot be read
                certificates = x509.load_pem_x509_certificates(
                    upstreams.read_ca_certificates(filesystem.read(path), file)
                )
                expiries[file] = min(int(certificate.not_valid_after_utc.timestamp()) for certificate in certificates)
        return expiries

    return cache.cached("upstreams", digest_of(files), paths, read) if files else {}
