"""Others that do a part of what we do, each ready to be measured; None where the program is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.bench import measure
from tests.bench.measure import Cost, Part, Side
from tests.bench.project import PROJECT

EASYRSA = Path("/usr/share/easy-rsa/easyrsa")
EASYRSA_SETTINGS = {"EASYRSA_BATCH": "1", "EASYRSA_ALGO": "ec", "EASYRSA_CURVE": "prime256v1"}

EMPTY_TASKS = """\
DOIT_CONFIG = {{"reporter": "zero", "verbosity": 0}}


def _empty():
    for number in range({count}):
        yield {{"name": str(number), "actions": [], "uptodate": [True]}}


def task_cert():
    yield from _empty()


def task_release():
    yield from _empty()


def task_deploy():
    yield from _empty()
"""


def bare(verb: str, listing: Path, folder: Path) -> Side:
    """A loop of bare.py over the files that `listing` names, below `folder`."""
    command: list[Part] = [sys.executable, "-m", "tests.bench.bare", verb, listing, folder]
    return lambda: measure.run(command, PROJECT)


def empty_doit(folder: Path, hosts: int) -> Side:
    """Bare doit with three empty tasks for each host."""
    folder.mkdir()
    (folder / "dodo.py").write_text(EMPTY_TASKS.format(count=hosts))
    return lambda: measure.run([sys.executable, "-m", "doit"], folder)


def gnu_make(home: Path, hosts: Iterable[str], makefile: Path) -> Side | None:
    """GNU make with an explicit rule for each file of each host; a recipe that ran would fail the run."""
    if not shutil.which("make"):
        return None
    rules, goals = [], []
    for host in hosts:
        folder, manifest = f"build/certs/{host}", f"build/release/{host}/manifest.json"
        receipt = f"build/receipts/{host}.json"
        rules.append(f"{folder}/tls.pem: ca/server/server-1/cert.pem\n\tfalse\n")
        rules += [f"{folder}/{name}.pem: {folder}/tls.pem\n\tfalse\n" for name in ("key", "cert", "chain", "fullchain")]
        rules.append(f"{manifest}: {folder}/tls.pem build/trust/roots.pem\n\tfalse\n")
        rules.append(f"{receipt}: {manifest}\n\tfalse\n")
        goals += [f"{folder}/{name}.pem" for name in ("key", "cert", "chain", "fullchain")] + [receipt]
    makefile.write_text(f"all: {' '.join(goals)}\n" + "".join(rules))
    return lambda: measure.run(["make", "-r", "-R", "-s", "-f", makefile, "all"], home)


def easyrsa(folder: Path, count: int) -> Side | None:
    """easy-rsa with P-256 throughout; its CA is made beforehand. Each call makes `count` new pairs."""
    if not EASYRSA.exists():
        return None
    folder.mkdir()
    settings: dict[str, Part] = {**EASYRSA_SETTINGS, "EASYRSA_PKI": folder / "pki"}
    for step in (["init-pki"], ["build-ca", "nopass"]):
        measure.run([EASYRSA, *step], folder, settings)
    made = iter(range(1_000_000))

    def pairs() -> Cost:
        names = [f"host-{next(made):05}.lab.internal" for _ in range(count)]
        costs = [measure.run([EASYRSA, "build-server-full", name, "nopass"], folder, settings) for name in names]
        return measure.total(costs)

    return pairs


def cfssl(folder: Path, count: int) -> Side | None:
    """The cfssl program with a P-384 CA, made beforehand, and P-256 leaves. Each call makes `count` new pairs."""
    if not shutil.which("cfssl") or not shutil.which("cfssljson"):
        return None
    folder.mkdir()
    authority = {"CN": "Bench CA", "key": {"algo": "ecdsa", "size": 384}}
    (folder / "ca.json").write_text(json.dumps(authority))
    _shell("cfssl gencert -initca ca.json | cfssljson -bare ca", folder)
    request = {"CN": "h.lab.internal", "hosts": ["h.lab.internal"], "key": {"algo": "ecdsa", "size": 256}}
    (folder / "csr.json").write_text(json.dumps(request))
    one = "cfssl gencert -ca ca.pem -ca-key ca-key.pem -config config.json csr.json | cfssljson -bare $1"
    usages = ["digital signature", "server auth"]
    policy = {"signing": {"default": {"expiry": "2160h", "usages": usages}}}
    (folder / "config.json").write_text(json.dumps(policy))
    made = iter(range(1_000_000))

    def pairs() -> Cost:
        names = [f"host-{next(made):05}" for _ in range(count)]
        costs = [measure.run(["sh", "-c", one, "sh", name], folder) for name in names]
        return measure.total(costs)

    return pairs


def _shell(line: str, folder: Path) -> None:
    subprocess.run(["sh", "-c", line], cwd=folder, check=True, capture_output=True)
