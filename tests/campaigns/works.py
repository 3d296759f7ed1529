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
from pki.ceremony.online.make_request import RequestOptions
from tests.campaigns import consistency, projects
from tests.campaigns.campaign import CampaignError
from tests.campaigns.scenes import SECRET, CheckContext, Command
from tests.integration.conftest import now
from tests.support import judges, old_ledgers
from tests.support.hosts import FolderHost
from tests.support.oldca import OldCa


@dataclass(frozen=True)
class Work:
    """One kind of work. `prepare` returns the command; with `repeats` the same command must do once it was killed."""

    prepare: Callable[[CheckContext, random.Random], Command]
    calls: int
    """Changes of the disk that the command makes, about."""
    seconds: float
    base: str = "built"
    repeats: tuple[int, ...] = ()
    """Exit statuses of the command that is typed again; none where `doit` alone must do."""
    check: Callable[[CheckContext], None] = lambda _: None
    forgets: bool = False
    """Whether the ledger may lose events: a restore replaces it."""


def _doit(chance: random.Random) -> Command:
    return ("doit", "-n", "3") if chance.random() < 0.3 else ("doit",)


def first_build(_context: CheckContext, chance: random.Random) -> Command:
    return _doit(chance)


def renewal(context: CheckContext, chance: random.Random) -> Command:
    context.days += 61
    return _doit(chance)


def deployment(context: CheckContext, chance: random.Random) -> Command:
    """A template of every host with nginx changes, and a service comes or goes."""
    context.home.add_service(f"extra{chance.randrange(1 << 30)}")
    return _doit(chance)


def revocation(_context: CheckContext, _chance: random.Random) -> Command:
    return ("invoke", "revoke", "admin", "--reason", "superseded", "--yes")


def withdrawal(context: CheckContext, chance: random.Random) -> Command:
    """A client leaves, after it was added."""
    name = f"guest{chance.randrange(1 << 30)}@x"
    context.run("invoke", "client.add", name, "--email", "guest@lab.internal")
    return ("invoke", "client.revoke", name, "--reason", "key-compromise", "--yes")


def addition(_context: CheckContext, chance: random.Random) -> Command:
    return ("invoke", "client.add", f"guest{chance.randrange(1 << 30)}@x", "--email", "guest@lab.internal")


def importing(context: CheckContext, _chance: random.Random) -> Command:
    """The records of a CA that is adopted, which grew since the last time."""
    folder = context.desk / "issuance_records"
    if context.adopted is None:
        context.adopted = OldCa(until=now() + timedelta(days=3650))
        context.home.edit("  client: {lifetime: 2y,", "  legacy: {adopt: ca/legacy}\n  client: {lifetime: 2y,")
        context.adopted.keep(context.home.path / "ca/legacy")
    for _ in range(20):
        context.adopted.issue(f"device-{context.serials}", context.serials, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))
        if context.serials % 3 == 0:
            context.adopted.revoke(context.serials, "keyCompromise")
        context.serials += 1
    context.adopted.openssl_ca(folder)
    return ("invoke", "ledger.import", "issuance_records")


def is_imported(context: CheckContext) -> None:
    assert context.adopted is not None
    recorded = [row["serial"] for row in context.rows()["certificates"] if row["issuer"] == "legacy"]
    if len(recorded) != len(context.adopted.issued):
        raise CampaignError("not imported", f"{len(recorded)} of {len(context.adopted.issued)} certificates")
    crl = judges.crls(context.home.read("build/crl/legacy.pem"))[0]
    revoked = {number for number in context.adopted.issued if number % 3 == 0}
    if missing := revoked - {entry.serial_number for entry in crl}:
        raise CampaignError("not imported", f"the CRL lacks {missing}")


def backup(context: CheckContext, _chance: random.Random) -> Command:
    (context.desk / "backup.age").unlink(missing_ok=True)
    return ("invoke", "backup", "backup.age", *SECRET)


def is_whole_backup(context: CheckContext) -> None:
    """Where a file has the name of the backup, the whole project can be restored from it."""
    target = context.desk / "elsewhere"
    if (context.desk / "backup.age").exists():
        context.run("invoke", "restore", "backup.age", "--to", "elsewhere", *SECRET)
        faults = list(consistency.ledger_faults(consistency.ledger_rows(target)))
        if faults or not (target / "ca/server/server-1/key.pem").exists():
            raise CampaignError("a backup is not whole", "\n".join(faults))
        shutil.rmtree(target)
    (context.desk / "again.age").unlink(missing_ok=True)
    context.run("invoke", "backup", "again.age", *SECRET)


def restore(context: CheckContext, chance: random.Random) -> Command:
    """A client leaves after the backup; then much of `ca/` is lost, or nothing is."""
    (context.desk / "backup.age").unlink(missing_ok=True)
    name = f"guest{chance.randrange(1 << 30)}@x"
    context.run("invoke", "client.add", name, "--email", "guest@lab.internal")
    context.run("invoke", "backup", "backup.age", *SECRET)
    context.run("invoke", "client.revoke", name, "--reason", "key-compromise", "--yes", statuses=(0, 2))
    lost = chance.choice(["nothing", "ca/server", "ca/client/client-1/key.pem", "secrets.yaml"])
    path = context.home.path / lost
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return ("invoke", "restore", "backup.age", "--yes", *SECRET)


def upgrade(context: CheckContext, chance: random.Random) -> Command:
    """The ledger is one that an earlier program wrote."""
    (context.home.path / "ca/.last-backup.json").unlink(missing_ok=True)  # it names an event by the hash of today
    has_decisions = bool(context.rows()["decisions"])
    old_ledgers.lay(context.home.path, 2 if has_decisions else chance.choice([1, 2]))
    return ("doit",)


def acceptance(context: CheckContext, chance: random.Random) -> Command:
    """The response of the first ceremony is accepted; later, that of one for new CRLs, or for new intermediates."""
    if (context.home.path / "ca/root").exists():
        options = chance.choice([RequestOptions(crls=True), RequestOptions(generations=("server", "client"))])
        context.home.answer(context.home.ask(options, context.days).path, context.days)
    response = max(context.home.out.glob("response-*"))
    typed = words.first(request_response.digest((response / "response.yaml").read_bytes()))
    return ("invoke", "ceremony.accept", str(response), "--words", typed)


def over_ssh(context: CheckContext, _chance: random.Random) -> Command:
    """A host that sshd serves, without a port: the client starts it."""
    if context.host is None:
        context.host = prepared_host(context)
    context.days += 61
    return ("doit",)


HOST = """\
  gate:
    network: av
    address: 10.30.0.99
    deliver: ssh
    names: [gate.lab.internal]
    trust: none
"""


def prepared_host(context: CheckContext) -> FolderHost:
    """A host in a folder, as `deploy.bootstrap` leaves it: pki-apply, a key whose forced command that is."""
    host, home = FolderHost.new(context.desk / "gate", name="gate"), context.home.path
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
    context.home.write(
        "templates/gate.pem",
        f"# deploy-target: {host.etc}/gate.pem\n# deploy-hosts: gate\n# deploy-artifact: tls:gate\n",
    )
    context.home.write(
        "templates/gate-crl.pem",
        f"# deploy-target: {host.etc}/crl.pem\n# deploy-hosts: gate\n# deploy-artifact: crl:client\n",
    )
    context.home.edit("deploy-hosts: all", "deploy-hosts: monitoring, forge, media", "templates/trust/roots.pem")
    context.home.edit("hosts:\n", f"deploy: {{ssh_config: ssh_config}}\n\nhosts:\n{HOST}")
    projects.in_process(context.home, days=context.days)
    return host


def is_on_host(context: CheckContext) -> None:
    assert context.host is not None
    if Path(context.host.path("gate.pem")).read_bytes() != context.home.read("build/certs/gate/tls.pem"):
        raise CampaignError("not deployed", "gate.pem is not what was issued")
    if left := context.host.litter():
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
