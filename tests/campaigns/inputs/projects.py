"""Projects that trials damage: each is built once in a process and copied for each trial."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.authority.import_ca import importer
from pki.backup import write_backup
from pki.ceremony import drives, lint, second_opinion
from pki.ceremony.offline import machine_check
from pki.ceremony.online.make_request import RequestOptions
from pki.common import age
from pki.ledger import database
from pki.x509 import pkcs8
from pki.x509.export import pkcs12
from tests.support.asked_once import remembered
from tests.support.ceremonies import RealHome, drives_at, real_home
from tests.support.copies import copy_project
from tests.support.oldca import OldCa
from tests.support.projects import PROJECT, START, Home

MOUNTS = drives.MOUNTS
OPEN = b"age-encryption.org/v1\nopen\n"  # what stands before a backup that a trial did not encrypt
WORDS = "trumpet velvet cactus orbit mango thistle"
LAB = """\
organisation: Example Lab
templates: {without: all}
domains: [lab.internal]
permit_addresses: [10.0.0.0/8]
publish: {url: "http://pki.lab.internal", host: monitoring}
sandbox: true
secrets: secrets.yaml
ledger: sqlite

authorities:
  root:   {lifetime: 10y, key: ec-p384, crl: {lifetime: 13mo, presigned: 2}}
  server: {lifetime: 2y,  key: ec-p384, crl: {lifetime: 21d, refresh: 7d}}
  client: {lifetime: 2y,  key: ec-p384, crl: {lifetime: 21d, refresh: 7d}}
  legacy: {adopt: ca/legacy}

profiles:
  server: {lifetime: 90d, renew_before: 30d, key: ec-p256}
  client: {lifetime: 180d, renew_before: 30d, key: ec-p256}

networks: {mgmt: 10.10.0.0/24, av: 10.30.0.0/24}

hosts:
  monitoring:
    network: mgmt
    address: 10.10.0.10
    proxy: nginx
    services:
      grafana: {upstream: "http://127.0.0.1:3000", access: mtls}
  media:
    network: av
    address: 10.30.0.10
    proxy: caddy
    names: [media.lab.internal, 10.30.0.10]
    services:
      jellyfin: {upstream: "http://127.0.0.1:8096", access: tls}
  switch:
    network: mgmt
    address: 10.10.0.2
    names: [switch.lab.internal]
    request: requests/switch.csr
    deliver: none

clients:
  admin: {email: admin@lab.internal}
  guest: {email: guest@lab.internal}

alerts:
  email: {to: admin@lab.internal, from: pki@lab.internal, smtp: outbox}
"""
CNF = """\
# deploy-target: /etc/ssl/printer.cnf
# deploy-hosts: media
# deploy-mode: 0644
# deploy-owner: root:root
# deploy-reload: systemctl reload caddy
[ req ]
prompt = no
distinguished_name = dn
req_extensions = v3
[ dn ]
O = Example Lab
CN = printer.lab.internal
[ v3 ]
subjectAltName = @alt
extendedKeyUsage = serverAuth
[ alt ]
DNS.1 = printer.lab.internal
DNS.2 = scanner.lab.internal
"""
SSH = """\
    deliver: ssh
    proxy: nginx
"""


def quickly() -> None:
    """Make this process skip what only protects from theft and power loss: rounds of passphrases, and syncs."""
    pkcs8.ROUNDS = pkcs12.ROUNDS = 1000
    database.SYNCHRONOUS = "OFF"
    os.fsync = lambda _: None  # type: ignore[assignment]
    serialization.load_pem_private_key = cache(serialization.load_pem_private_key)
    age.decrypt = _opened(cache(age.decrypt))
    lint.findings = remembered(lint.findings)
    second_opinion.signature_fault = remembered(second_opinion.signature_fault)
    machine_check.check_machine = lambda *_: []  # type: ignore[assignment] # the machine is fit for a ceremony


def _opened(unseal: Callable[[bytes, str, str], bytes]) -> Callable[[bytes, str, str], bytes]:
    """Let a backup that begins with OPEN be read without a passphrase, which takes a second."""

    def opened(data: bytes, passphrase: str, name: str) -> bytes:
        return data.removeprefix(OPEN) if data.startswith(OPEN) else unseal(data, passphrase, name)

    return opened


def _request() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "switch.lab.internal")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _templates(home: Path, *names: str) -> None:
    for name in names:
        target = home / "templates" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "templates" / name, target)


def _old_ca() -> OldCa:
    old = OldCa()
    for name, serial in (("web", 1), ("alice", 2), ("bob", 3)):
        old.issue(name, serial, names=(f"{name}.old.example",))
    old.revoke(2, "keyCompromise")
    return old


def lab(place: Path) -> Path:
    """A sandbox with a revoked client, an adopted CA, a device's request, a backup, and deliveries of two days."""
    home = Home(place / "project")
    home.path.mkdir()
    home.write("pki.yaml", LAB)
    home.write("requests/switch.csr", "").write_bytes(_request())
    home.write("templates/printer.cnf", CNF)
    files = ("nginx/pki-services.conf", "tls/tls-mtls.pem", "tls/tls.pem", "tls/client-crl.pem", "tls/client-chain.pem")
    _templates(home.path, *files, "caddy/Caddyfile", "publish/crl.crl", "publish/index.html")
    old = _old_ca()
    old.keep(home.path / "ca/legacy")
    home.path.joinpath("ca").chmod(0o700)
    old.openssl_ca(place / "issuance_records")
    _run(home, -20, "authority")
    project = home.project(-20)
    project.ledger.record_adopted_ca(
        importer.read(
            project.authorities, project.ledger_view, "legacy", place / "issuance_records", "issuance_records"
        ).issuance_records,
        at=project.now,
    )
    project.ledger.close()
    _run(home, -20)
    old.issue("dora", 4, names=("dora.old.example",))
    old.revoke(1, "superseded")
    old.openssl_ca(place / "issuance_records")
    project = home.project(-19)
    guest = project.ledger.certificates(artifact="cert:client-guest")[-1]
    project.ledger.record_revocation(guest, reason="superseded", at=project.now)
    project.ledger.close()
    _run(home, -19)
    _run(home, 0)
    (place / "words").write_text(f"{WORDS}\n")
    project = home.project()
    with contextlib.redirect_stdout(io.StringIO()):
        write_backup.BackupWriter(project).write(place / "b.age", WORDS)
    (place / "archive").write_bytes(age.decrypt((place / "b.age").read_bytes(), WORDS, "b.age"))
    project.close(run_succeeded=False)
    return home.path


def offline(place: Path) -> Path:
    """A project with an offline root, whose second ceremony was held and is not yet accepted; `vault` is beside it."""
    home = real_home(place)
    shutil.rmtree(home.path / "templates")
    home.edit("organisation:", "templates: {without: all}\norganisation:")
    _templates(home.path, "nginx/pki-services.conf", "tls/tls-mtls.pem", "tls/tls.pem", "publish/crl.crl")
    home.ceremony()
    _run(home, 0)
    asked = home.ask(RequestOptions(generations=("server",)), days=0)
    shutil.copy(asked.path, place / "request.yaml")
    home.answer(asked.path)
    (place / "secret").write_text("tuna-river-cabin-moss-kettle-orbit\n")
    return home.path


def fleet(place: Path) -> Path:
    """A sandbox with a host that Ansible delivers to, and the events of a run elsewhere in `events`."""
    home = Home(place / "project")
    home.path.mkdir()
    text = LAB.replace("  legacy: {adopt: ca/legacy}\n", "").replace("    proxy: nginx\n", SSH)
    text = text[: text.index("  switch:\n")] + text[text.index("\nclients:") :]
    home.write("pki.yaml", text.replace("networks:", "deploy: {engine: ansible}\n\nnetworks:"))
    _templates(home.path, "nginx/pki-services.conf", "tls/tls-mtls.pem", "tls/client-crl.pem", "caddy/Caddyfile")
    _run(home, 0, "release")
    manifest = json.loads(home.read("build/release/monitoring/manifest.json"))
    events = place / "events"
    events.mkdir()
    for number, event in enumerate(_events(manifest["release"], manifest["files"]), 1):
        (events / f"{number}-event.json").write_text(json.dumps(event))
    return home.path


def _events(digest: str, files: list[dict[str, str]]) -> Iterator[dict[str, object]]:
    """What ansible-runner leaves of a delivery that went well."""
    looked = [{"n": number, "is": "absent", "sha256": "", "path": file["path"]} for number, file in enumerate(files, 1)]
    verifications = {"grafana": ["verified", "verified"]}
    answers = [{"pki-apply": 1, "date": int(START.timestamp())}, *looked, {"looked": True}, {"state": "kept"}]
    result = {"release": digest, "answers": answers, "verifications": verifications, "changed": True, "greeted": True}
    data = {"task_action": "doit.pki.deliver", "host": "monitoring", "res": result}
    yield {"event": "playbook_on_start", "event_data": {}}
    yield {"event": "runner_on_ok", "event_data": data}
    yield {"event": "playbook_on_stats", "event_data": {"ok": {"monitoring": 1}}}


def _run(home: Home, days: float, *what: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        report = home.doit(*what, days=days)
    if report.status:
        raise RuntimeError(f"a project does not build: {report.failed} {said.getvalue()}")


PROJECTS: dict[str, Callable[[Path], Path]] = {"lab": lab, "offline": offline, "fleet": fleet}


@cache
def _root() -> Path:
    """The folder for projects that all processes of one pool share; the last of them removes it."""
    quickly()
    root = Path(tempfile.gettempdir()) / f"campaign-inputs-{os.getppid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    users = os.open(root / "users", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(users, fcntl.LOCK_SH)
    Finalize(None, _leave, (root, users), exitpriority=1)
    return root


def _leave(root: Path, users: int) -> None:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(root, ignore_errors=True)


@cache
def built(name: str) -> Path:
    """The folder around a project, built by the first process that asks: never written to afterwards."""
    place, whole = _root() / name, _root() / f"{name}.whole"
    drives.MOUNTS = MOUNTS
    with (_root() / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            PROJECTS[name](place)
            whole.touch()
    return place


def copied(name: str, place: Path) -> Home:
    """A copy of a project and of what is beside it, for one trial; `place` is not there yet."""
    copy_project(built(name), place)
    return (RealHome if name == "offline" else Home)(place / "project")


def mounted(name: str, place: Path) -> None:
    """Let the kernel's list of mounts be what it is beside a copy: the vault and the exchange folder are drives."""
    drives.MOUNTS = MOUNTS
    if name == "offline":
        drives_at({"sda": place / "vault", "sdb": place / "out"}, place / "mounts")
        drives.MOUNTS = place / "mounts"
