"""The console blocks of docs/: those that one project can answer are typed, and print what is shown; the others say why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.test_remedy_lab import Bench, bench

__all__ = ["bench"]

HOSTS = "hosts that ssh reaches: tests/integration"
DRIVES = "drives and an offline machine: tests/integration/test_air_gap.py"
PACKAGES = "a package registry, or the system's packages"
OTHERS = "a program or a file of somebody else"
SECONDS = re.compile(r"\(\d+\.\d s\)")


def identity(bench: Bench) -> None:
    """A laptop of its own, which the first block of the page adds."""
    assert bench.invoke("client.add", "admin@laptop", "--email", "admin@lab.internal").status == 0


def nothing(_bench: Bench) -> None:
    """The project as it was built."""


BLOCKS: dict[tuple[str, str], str | Callable[[Bench], None]] = {
    ("adopt.md", "cp -a /etc/easy-rsa/pki ca/legacy"): OTHERS,
    ("adopt.md", "./run invoke ledger.import ca/legacy --dry-run"): OTHERS,
    ("ansible.md", "./run pip install --require-hashes -r requirements-ansible.lock"): PACKAGES,
    ("ansible.md", "./run invoke deploy.export /srv/overlap --vault vault-passphrase"): HOSTS,
    ("backup.md", "./run invoke backup /media/stick"): DRIVES,
    ("backup.md", "./run invoke restore pki-backup-20261123T060000Z.age --to /srv/pki"): "a folder of this machine",
    ("backup.md", "./run doit"): HOSTS,
    ("backup.md", "./run invoke health"): nothing,
    ("backup.md", "./run invoke ledger.accept-loss"): "an older ledger: tests/test_held_roots.py",
    ("backup.md", "sh run invoke ceremony.sign /mnt/vault/ceremonies/0003/request.yaml"): DRIVES,
    ("backup.md", "./run pip install --require-hashes -r requirements-postgresql.lock"): PACKAGES,
    ("ceremony.md", "./run doit"): DRIVES,
    ("ceremony.md", "./run invoke ceremony.accept /media/exchange/response-0001"): DRIVES,
    ("ceremony.md", "sh run invoke ceremony.change-passphrase --vault /mnt/vault"): DRIVES,
    ("clients.md", "./run doit"): identity,
    ("demo.md", "./run invoke demo.vlans"): "machines of its own: tests/integration/test_vlans.py",
    ("deploy.md", "ssh -o HostName=10.30.0.10 -l root media true"): HOSTS,
    ("deploy.md", ""): HOSTS,
    ("deploy.md", "./run invoke deploy.accept-root"): HOSTS,
    ("reliability.md", "./run invoke campaign years"): "minutes to hours: tests/integration/test_campaigns.py",
    ("revocation.md", "./run invoke revoke admin@laptop --reason key-compromise"): HOSTS,
    ("revocation.md", "./run invoke client.add admin@laptop --email admin@lab.internal"): nothing,
    ("schedule.md", "sudo ./run invoke schedule --install"): "systemd: tests/integration/test_schedule.py",
    ("schedule.md", "systemd-ask-password -n | systemd-creds encrypt --name=pki-server -"): "systemd",
    (
        "schedule.md",
        "./run invoke timeline --years 3",
    ): "a project outside the sandbox, shown shortened: tests/test_timeline.py",
    ("tokens.md", "./run pip install --require-hashes -r requirements-hsm.lock"): PACKAGES,
    ("tokens.md", "apt install softhsm2 opensc"): PACKAGES,
    ("trust-of-editors.md", "docker run -e PKI_SAFE_DIRECTORIES='*' -v /srv/pki:/pki -e PKI_HOME=/pki …"): OTHERS,
    ("trust.md", "openssl x509 -in ca/root/root-1/cert.pem -noout -fingerprint -sha256"): nothing,
    ("watching.md", "./run invoke health"): "two faults, shown shortened: tests/test_remedy_lab.py",
    ("watching.md", "./run doit"): HOSTS,
    ("watching.md", "./run pip install --require-hashes -r requirements-notify.lock"): PACKAGES,
}


def blocks() -> dict[tuple[str, str], str]:
    """Each block by its page and its first command, without what follows a comment sign."""
    found = {}
    for page in sorted((PROJECT / "docs").glob("*.md")):
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            first = re.search(r"(?m)^[$#] (.*?)(?: +#.*)?$", block)
            command = first[1] if first else ""
            found.setdefault((page.name, command if len(command) < 80 else command[:67]), block)
    return found


def test_each_block_is_typed_or_says_what_it_needs() -> None:
    assert blocks().keys() == BLOCKS.keys()


def words(text: str) -> str:
    return " ".join(SECONDS.sub("(… s)", text).split())


@pytest.mark.parametrize("key", [key for key, how in BLOCKS.items() if callable(how)], ids=" ".join)
def test_a_block_prints_what_is_shown(bench: Bench, key: tuple[str, str], tmp_path: Path) -> None:
    """A line `…` stands for any lines; a block that shows nothing is typed alone."""
    prepare = BLOCKS[key]
    assert callable(prepare)
    prepare(bench)
    parts = re.split(r"(?m)^\$ (.*)\n", blocks()[key])[1:]
    for command, shown in zip(parts[::2], parts[1::2], strict=True):
        said = bench.type(re.sub(r" +#.*", "", command))
        assert said.status == 0, (command, said)
        pattern = ".*".join(re.escape(words(part)) for part in re.split(r"(?m)^…$", shown))
        printed = words((said.out + said.error).replace(str(tmp_path), "/home/you"))
        assert not shown.strip() or re.fullmatch(pattern, printed), f"{command} prints:\n{said.out}\nshown is:\n{shown}"
