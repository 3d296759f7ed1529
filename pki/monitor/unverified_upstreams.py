"""Upstreams that are not verified, and certificates of theirs that end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509

from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.errors import PkiError
from pki.common.remedies import in_project
from pki.config import upstreams
from pki.config.model import Host, Upstream
from pki.monitor.check_result import named
from pki.pipeline.desired_state import Notice
from pki.project.project import Project

SOON = timedelta(days=30)


def phrases(project: Project, name: str) -> list[str]:
    """What status says of a host: the services whose upstreams are not verified."""
    host = project.inventory.hosts.get(name)
    found = [service for service, _ in _unverified(host)] if host else []
    return [f"upstreams not verified (verify: none): {named(found)}"] if found else []


def notes(project: Project) -> Iterator[Notice]:
    """One note of all upstreams that are not verified, and one of each file of CAs that ends."""
    hosts = project.inventory.hosts
    found = [(name, service, one) for name, host in hosts.items() for service, one in _unverified(host)]
    if found:
        shown = named([f"{service} on {name} ({one.url})" for name, service, one in found])
        text = f"not verified (verify: none), so whoever is between proxy and upstream reads and changes everything: {shown}"
        _, service, one = found[0]
        file = f"upstreams/{service}.pem"
        fetch = f"mkdir -p {in_project('upstreams')}; {upstreams.fetch_command(one, in_project(file))}"
        remedy = f"{fetch}; compare it on the device; then ca: {file} in place of verify: none"
        yield Notice("upstreams", text, remedy)
    yield from _ending(project)


def _unverified(host: Host) -> Iterator[tuple[str, Upstream]]:
    for service, one in host.services.items():
        if one.upstream.verify:
            yield service, one.upstream


def _ending(project: Project) -> Iterator[Notice]:
    """Files of CAs in which a certificate ended, or ends soon."""
    users = dict[str, list[tuple[str, str]]]()
    for name, host in project.inventory.hosts.items():
        for service, file in upstreams.ca_files(host).items():
            users.setdefault(file, []).append((name, service))
    for file, end in _ends(project, list(users)).items():
        moment = datetime.fromtimestamp(end, UTC)
        if moment < project.now + SOON:
            verb = "ended" if moment < project.now else "ends"
            whose = named([f"{service} on {name}" for name, service in users[file]])
            host_name, service = users[file][0]
            text = f"a certificate in it {verb} on {moment:%Y-%m-%d}, and then its upstream is refused: {whose}"
            remedy = f"renew it on the device, then: {upstreams.fetch_command(project.inventory.hosts[host_name].services[service].upstream, in_project(file))}"
            yield Notice(file, text, remedy)


def _ends(project: Project, files: list[str]) -> dict[str, int]:
    """When the first certificate of each file ends; remembered as long as no file changed."""
    paths, known = [str(project.store.home / file) for file in files], digest_of(files)
    kept: dict[str, int] | None = project.cache.recall("upstreams", known) if files else {}
    if kept is None:
        kept = {}
        for file, path in zip(files, paths, strict=True):
            with suppress(PkiError):  # which the release tells
                found = x509.load_pem_x509_certificates(upstreams.read_ca_certificates(filesystem.read(path), file))
                kept[file] = min(int(one.not_valid_after_utc.timestamp()) for one in found)
        project.cache.remember("upstreams", known, paths, kept)
    return kept
