"""What is killed in the campaign `kills`: each work prepares a project, and names the command that is begun and killed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ceremony import request_response, words
from pki.ceremony.online.make_request import Wish
from tests import judges, old_ledgers
from tests.campaigns import consistency, projects
from tests.campaigns.campaign import CampaignError
from tests.campaigns.scenes import SECRET, Command, Scene
from tests.hosts import FolderHost
from tests.integration.conftest import now
from tests.oldca import OldCa


@dataclass(frozen=True)
class Work:
    """One kind of work. `prepare` returns the command; with `repeats` the same command must do once it was killed."""

    prepare: Callable[[Scene, random.Random], Command]
    calls: int
    """Changes of the disk that the command makes, about."""
    seconds: float
    base: str = "built"
    repeats: tuple[int, ...] = ()
    """Exit statuses of the command that is typed again; none where `doit` alone must do."""
    check: Callable[[Scene], None] = lambda _: None
    forgets: bool = False
    """Whether the ledger may lose events: a restore replaces it."""


def _doit(chance: random.Random) -> Command:
    return ("doit", "-n", "3") if chance.random() < 0.3 else ("doit",)


def first_build(_scene: Scene, chance: random.Random) -> Command:
    return _doit(chance)


def renewal(scene: Scene, chance: random.Random) -> Command:
    scene.days += 61
    return _doit(chance)


def deployment(scene: Scene, chance: random.Random) -> Command:
    """A template of every host with nginx changes, and a service comes or goes."""
    scene.home.add_service(f"extra{chance.randrange(1 << 30)}")
    return _doit(chance)


def revocation(_scene: Scene, _chance: random.Random) -> Command:
    return ("invoke", "revoke", "admin", "--reason", "superseded", "--yes")


def withdrawal(scene: Scene, chance: random.Random) -> Command:
    """A client leaves, after it was added."""
    name = f"guest{chance.randrange(1 << 30)}@x"
    scene.run("invoke", "client.add", name, "--email", "guest@lab.internal")
    return ("invoke", "client.revoke", name, "--reason", "key-compromise", "--yes")


def addition(_scene: Scene, chance: random.Random) -> Command:
    return ("invoke", "client.add", f"guest{chance.randrange(1 << 30)}@x", "--email", "guest@lab.internal")


def importing(scene: Scene, _chance: random.Random) -> Command:
    """The records of a CA that is adopted, which grew since the last time."""
    folder = scene.desk / "books"
    if scene.adopted is None:
        scene.adopted = OldCa(until=now() + timedelta(days=3650))
        scene.home.edit("  client: {lifetime: 2y,", "  legacy: {adopt: ca/legacy}\n  client: {lifetime: 2y,")
        scene.adopted.keep(scene.home.path / "ca/legacy")
    for _ in range(20):
        scene.adopted.issue(f"device-{scene.serials}", scene.serials, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))
        if scene.serials % 3 == 0:
            scene.adopted.revoke(scene.serials, "keyCompromise")
        scene.serials += 1
    scene.adopted.openssl_ca(folder)
    return ("invoke", "ledger.import", "books")


def is_imported(scene: Scene) -> None:
    assert scene.adopted is not None
    recorded = [row["serial"] for row in scene.rows()["certificates"] if row["issuer"] == "legacy"]
    if len(recorded) != len(scene.adopted.issued):
        raise CampaignError("not imported", f"{len(recorded)} of {len(scene.adopted.issued)} certificates")
    crl = judges.crls(scene.home.read("build/crl/legacy.pem"))[0]
    revoked = {number for number in scene.adopted.issued if number % 3 == 0}
    if missing := revoked - {entry.serial_number for entry in crl}:
        raise CampaignError("not imported", f"the CRL lacks {missing}")


def backup(scene: Scene, _chance: random.Random) -> Command:
    (scene.desk / "backup.age").unlink(missing_ok=True)
    return ("invoke", "backup", "backup.age", *SECRET)


def is_whole_backup(scene: Scene) -> None:
    """Where a file has the name of the backup, the whole project can be restored from it."""
    target = scene.desk / "elsewhere"
    if (scene.desk / "backup.age").exists():
        scene.run("invoke", "restore", "backup.age", "--to", "elsewhere", *SECRET)
        faults = list(consistency.ledger_faults(consistency.ledger_rows(target)))
        if faults or not (target / "ca/server/server-1/key.pem").exists():
            raise CampaignError("a backup is not whole", "\n".join(faults))
        shutil.rmtree(target)
    (scene.desk / "again.age").unlink(missing_ok=True)
    scene.run("invoke", "backup", "again.age", *SECRET)


def restore(scene: Scene, chance: random.Random) -> Command:
    """A client leaves after the backup; then much of `ca/` is lost, or nothing is."""
    (scene.desk / "backup.age").unlink(missing_ok=True)
    name = f"guest{chance.randrange(1 << 30)}@x"
    scene.run("invoke", "client.add", name, "--email", "guest@lab.internal")
    scene.run("invoke", "backup", "backup.age", *SECRET)
    scene.run("invoke", "client.revoke", name, "--reason", "key-compromise", "--yes", statuses=(0, 2))
    lost = chance.choice(["nothing", "ca/server", "ca/client/client-1/key.pem", "secrets.yaml"])
    path = scene.home.path / lost
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return ("invoke", "restore", "backup.age", "--yes", *SECRET)


def upgrade(scene: Scene, chance: random.Random) -> Command:
    """The ledger is one that an earlier program wrote."""
    (scene.home.path / "ca/.last-backup.json").unlink(missing_ok=True)  # it names an event by the hash of today
    has_decisions = bool(scene.rows()["decisions"])
    old_ledgers.lay(scene.home.path, 2 if has_decisions else chance.choice([1, 2]))
    return ("doit",)


def acceptance(scene: Scene, chance: random.Random) -> Command:
    """The response of the first ceremony is accepted; later, that of one for new CRLs, or for new intermediates."""
    if (scene.home.path / "ca/root").exists():
        wish = chance.choice([Wish(ladder=True), Wish(generations=("server", "client"))])
        scene.home.answer(scene.home.ask(wish, scene.days).path, scene.days)
    response = max(scene.home.out.glob("response-*"))
    typed = words.first(request_response.digest((response / "response.yaml").read_bytes()))
    return ("invoke", "ceremony.accept", str(response), "--words", typed)


def over_ssh(scene: Scene, _chance: random.Random) -> Command:
    """A host that sshd serves, without a port: the client starts it."""
    if scene.host is None:
        scene.host = prepared_host(scene)
    scene.days += 61
    return ("doit",)


HOST = """\
  gate:
    network: av
    address: 10.30.0.99
    deliver: ssh
    names: [gate.lab.internal]
    trust: none
"""


def prepared_host(scene: Scene) -> FolderHost:
    """A host in a folder, as `deploy.bootstrap` leaves it: pki-apply, a key whose forced command that is."""
    host, home = FolderHost.new(scene.desk / "gate", name="gate"), scene.home.path
    key = home / "ca/deploy/id_ed25519"
    key.parent.mkdir()
    for path in (key, host.root / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    (host.root / "authorized").write_text(
        f'restrict,command="{host.program}" {key.with_suffix(".pub").read_text()}', encoding="utf-8"
    )
    (host.root / "sshd_config").write_text(
        f"HostKey {host.root}/host_key\nAuthorizedKeysFile {host.root}/authorized\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel ERROR\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    (home / "ssh_config").write_text(
        f"Host *\n    ProxyCommand setsid /usr/sbin/sshd -i -f {host.root}/sshd_config\n"
        f"    UserKnownHostsFile {host.root}/known_hosts\n    StrictHostKeyChecking accept-new\n"
        f"    User {os.environ.get('USER') or 'root'}\n"
    )
    scene.home.write(
        "templates/gate.pem",
        f"# deploy-target: {host.etc}/gate.pem\n# deploy-hosts: gate\n# deploy-artifact: tls:gate\n",
    )
    scene.home.write(
        "templates/gate-crl.pem",
        f"# deploy-target: {host.etc}/crl.pem\n# deploy-hosts: gate\n# deploy-artifact: crl:client\n",
    )
    scene.home.edit("deploy-hosts: all", "deploy-hosts: monitoring, forge, media", "templates/trust/roots.pem")
    scene.home.edit("hosts:\n", f"deploy: {{ssh_config: ssh_config}}\n\nhosts:\n{HOST}")
    projects.in_process(scene.home, days=scene.days)
    return host


def is_on_host(scene: Scene) -> None:
    assert scene.host is not None
    if Path(scene.host.path("gate.pem")).read_bytes() != scene.home.read("build/certs/gate/tls.pem"):
        raise CampaignError("not deployed", "gate.pem is not what was issued")
    if left := scene.host.litter():
        raise CampaignError("litter on a host", "\n".join(left))


WORKS = {
    "first build": Work(first_build, 700, 2.5, base="new"),
    "renewal": Work(renewal, 164, 1.8),
    "deployment": Work(deployment, 57, 1.2),
    "revocation": Work(revocation, 99, 1.8, repeats=(0, 1, 2)),
    "withdrawal": Work(withdrawal, 87, 1.5, repeats=(0, 1, 2)),
    "addition": Work(addition, 52, 1.5, repeats=(0, 1)),
    "import": Work(importing, 8, 1.0, repeats=(0,), check=is_imported),
    "backup": Work(backup, 20, 1.2, check=is_whole_backup),
    "restore": Work(restore, 129, 1.5, repeats=(0,), forgets=True),
    "upgrade": Work(upgrade, 27, 1.0),
    "acceptance": Work(acceptance, 38, 1.3, base="answered", repeats=(0, 1)),
    "ssh": Work(over_ssh, 170, 2.5, check=is_on_host),
}
