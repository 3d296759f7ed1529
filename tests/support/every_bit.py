"""What the reader of each kind of file must make of any damage: how many flips of a bit it takes for the file itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pki.authority import certificates, crls
from pki.common import cache as common_cache
from pki.common import filesystem, sealed_records
from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.deploy import receipt, release
from pki.deploy.contact import Contact
from pki.deploy.delivery_history import History
from pki.deploy.folder import FolderTransport
from pki.ledger import last_seen
from pki.monitor import probes
from pki.monitor.alerts.notification_history import Addresses, Channel, NotificationHistory
from pki.monitor.checks import check_machine
from pki.monitor.checks.check_context import LastRun
from pki.project import layout
from pki.project.generations import read_presigned_crl
from pki.project.project import Project
from tests.support.ceremonies import RealHome
from tests.support.damage import flips, swapped
from tests.support.projects import START

Read = Callable[[], object]  # None, a list of faults or PkiError: the file is taken for damaged


def tolerated(path: Path, read: Read, step: int = 1) -> list[int]:
    """The bits of a file whose flip its reader does not notice; read as it is, the file must be sound."""
    data = path.read_bytes()
    assert _accepts(read), f"{path} is sound and is not taken for it"
    missed = []
    with swapped() as files:
        for bit, changed in flips(data, step):
            files.contents[str(path)] = changed
            if _accepts(read):
                missed.append(bit)
    return missed


def _accepts(read: Read) -> bool:
    try:
        result = read()
    except PkiError:
        return False
    return result is not None and result is not False


def again(project: Project) -> Project:
    """The same project for one who has read nothing of it yet, and believes no cache."""
    again = Project(
        project.inventory, project.store, project.now, Cache(project.store.home, project.now), project.passphrases
    )
    again.cache.read_all()
    return again


def authority(home: RealHome, generation: str) -> tuple[Path, Read]:
    project = home.project()
    path = project.store.authority_file(generation, "cert.pem")
    original = path.read_bytes()

    def read() -> bool | None:
        reopened = again(project)
        generation_read = reopened.authorities.generation(generation)
        assert generation_read is not None
        assert generation_read.pem == original, "another certificate was taken for that of the authority"
        return generation not in reopened.authorities.recovered

    return path, read


def presigned_crl(home: RealHome) -> tuple[Path, Read]:
    project = home.project()
    path = project.store.presigned_crls("root-1")[0]
    issuer = project.authorities.existing("root-1")
    return path, lambda: read_presigned_crl(filesystem.read(path) or b"", path, issuer)


def crl(home: RealHome, generation: str, form: str) -> tuple[Path, Read]:
    project = home.project()
    path = project.store.crl(generation, form)

    def read() -> bool:
        judge = crls.Crls(again(project))
        return not (judge.stale_root_reasons if generation.startswith("root") else judge.stale_reasons)(generation)

    return path, read


def leaf(home: RealHome, name: str, file: str) -> tuple[Path, Read]:
    project, plan = home.project(), home.plan()
    leaf = plan.leaves[name]
    path = Path(project.store.leaf_file(leaf, file))
    return path, lambda: not certificates.LeafCertificates(project).undeliverable_reasons(leaf)


def derived(home: RealHome, path: str) -> tuple[Path, Read]:
    plan = home.plan()
    artifact = next(candidate for candidate in plan.artifacts if str(home.path / path) in candidate.targets)
    return home.path / path, lambda: not artifact.reasons()


def cache(home: RealHome) -> tuple[Path, Read]:
    path = home.path / "build" / ".seen.json"
    return path, lambda: common_cache.load(path)[1] or None


def manifest(home: RealHome) -> tuple[Path, Read]:
    folder = home.path / "build" / "release" / "media"
    return folder / "manifest.json", lambda: release.load(folder)


def receipt_of(home: RealHome) -> tuple[Path, Read]:
    path = home.path / "build" / "receipts" / "media.json"
    return path, lambda: receipt.load(path)


def delivered(home: RealHome) -> tuple[Path, Read]:
    root = home.path / "build" / "hosts" / "media"
    return root.with_name(".media.files"), lambda: FolderTransport(root).delivered_paths(None)


def host_file(home: RealHome) -> tuple[Path, Read]:
    taken = receipt.load(home.path / "build" / "receipts" / "media.json")
    assert taken is not None
    root = home.path / "build" / "hosts" / "media"
    path = root / next(file["path"] for file in taken.files if file["path"].endswith(".pem")).lstrip("/")
    return path, lambda: not FolderTransport(root).drift(taken)


def contact(home: RealHome) -> tuple[Path, Read]:
    path = home.path / "build" / "contacts" / "media.json"
    Contact().failed(START, PkiError("cannot be reached")).save(path)
    return path, lambda: Contact.load(path) != Contact()


def history(home: RealHome) -> tuple[Path, Read]:
    log = History(home.path / "build" / "history" / "media")
    for count in range(3):
        log.add_log_entry(START, "f" * 24, "delivered", files=count)
    whole = log.log_entries()

    def read() -> bool:
        notes = log.log_entries()
        assert all(note in whole for note in notes), "a line says what was never written"
        return len(notes) == len(whole)

    return log.folder / "log.jsonl", read


def alerts(home: RealHome) -> tuple[Path, Read]:
    ca = home.path / "ca"
    channels = {"email": Channel(failing_since="2026-11-20T06:00:00Z", message="refused")}
    NotificationHistory(Addresses.of(home.project().inventory), channels).save(ca, START)
    path = ca / layout.ALERTS
    return path, lambda: NotificationHistory.load(ca, START).channels or None


def last_backup(home: RealHome) -> tuple[Path, Read]:
    path = home.path / "ca" / last_seen.LAST_BACKUP
    head = {"events": 7, "head": hashlib.sha256(b"x").hexdigest()}
    filesystem.write(
        path, sealed_records.encode_sealed({"at": "2026-11-20T06:00:00Z", "file": "b.age", "ledger": head})
    )
    return path, lambda: check_machine.read_last_backup(path)


def report(home: RealHome) -> tuple[Path, Read]:
    place = home.project().store
    return place.report("status.json"), lambda: LastRun.load(place).at


def probed(home: RealHome) -> tuple[Path, Read]:
    project = home.project()
    service = next(iter(project.inventory.hosts["media"].services))
    probe_result = probes.ProbeResult("media", service, "jellyfin.lab.internal", 443, "tls")
    probes.save(project.store, [probe_result], START)
    return project.store.report(probes.FILE), lambda: probes.load(project.inventory, project.store) or None


KINDS: dict[str, Callable[[RealHome], tuple[Path, Read]]] = {
    "root certificate": lambda home: authority(home, "root-1"),
    "intermediate certificate": lambda home: authority(home, "server-1"),
    "pre-signed CRL": presigned_crl,
    "CRL in DER": lambda home: crl(home, "client-1", "crl"),
    "CRL in PEM": lambda home: crl(home, "client-1", "pem"),
    "root CRL in DER": lambda home: crl(home, "root-1", "crl"),
    "root CRL in PEM": lambda home: crl(home, "root-1", "pem"),
    "tls.pem": lambda home: leaf(home, "media", "tls.pem"),
    "key.pem": lambda home: leaf(home, "media", "key.pem"),
    "cert.pem": lambda home: leaf(home, "media", "cert.pem"),
    "chain.pem": lambda home: leaf(home, "media", "chain.pem"),
    "fullchain.pem": lambda home: leaf(home, "media", "fullchain.pem"),
    "tls.pem of a client": lambda home: leaf(home, "client-admin", "tls.pem"),
    "CRL bundle": lambda home: derived(home, "build/crl/bundle-client.pem"),
    "trust bundle": lambda home: derived(home, "build/trust/client-chain.pem"),
    "root in DER": lambda home: derived(home, "build/trust/root-1.crt"),
    "cache": cache,
    "manifest": manifest,
    "receipt": receipt_of,
    "list of a folder host's files": delivered,
    "file of a folder host": host_file,
    "contact record": contact,
    "history": history,
    "notification history": alerts,
    "record of the last backup": last_backup,
    "report": report,
    "probes": probed,
}
