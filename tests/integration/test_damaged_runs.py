"""Whole runs after one bit of a file flipped: what was damaged is as before, made again with a reason, or told.

OpenSSL judges what a run leaves. PKI_SAMPLES says how many flips of each kind there are (300 take an hour).
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ceremonies import RealHome
from tests.support.projects import START, Report

SAMPLES = int(os.environ.get("PKI_SAMPLES", "3"))
JUDGED = (
    "build/certs",
    "build/crl",
    "build/trust",
    "build/hosts",
    "build/release",
    "ca/root",
    "ca/server",
    "ca/client",
    "ca/clients",
)
LEAVES = ("build/certs/monitoring-mtls", "build/certs/forge-mtls", "build/certs/media", "ca/clients/admin")


JUDGED_BEFORE: dict[tuple[Path, str], tuple[bytes, bytes]] = {}  # what OpenSSL took already, byte for byte


@dataclass(frozen=True)
class Kind:
    """Files of a kind, by patterns below the project. What stays damaged after a run must be told, unless it is `needless`."""

    patterns: tuple[str, ...]
    needless: bool = False
    days: float = 0


KINDS = {
    "certificates of authorities": Kind(("ca/*/*/cert.pem",)),
    "pre-signed CRLs": Kind(("ca/root/*/crl/*.pem",)),
    "tls.pem": Kind(("build/certs/*/tls.pem", "ca/clients/*/tls.pem")),
    "files split from tls.pem": Kind(("build/certs/*/[cfk]*.pem", "ca/clients/*/[cfk]*.pem")),
    "CRLs": Kind(("build/crl/*-1.*",)),
    "CRL bundle": Kind(("build/crl/bundle-client.pem",)),
    "trust": Kind(("build/trust/*",)),
    "manifests": Kind(("build/release/*/manifest.json",)),
    "files of releases": Kind(("build/release/*/files/**/*",)),
    "files of hosts": Kind(("build/hosts/*/**/*",)),
    "lists of the files of hosts": Kind(("build/hosts/.*.files",)),
    "receipts": Kind(("build/receipts/*.json",)),
    "cache": Kind(("build/.seen.json",)),
    "report": Kind(("build/report/status.json",)),
    "ceremonies": Kind(("ca/ceremonies/*/re*.yaml", "ca/transcript.jsonl")),
    "secrets": Kind(("secrets.yaml",), days=8, needless=True),
    "keys of authorities": Kind(("ca/*/*/key.pem",), days=8, needless=True),
}


@dataclass
class Trial:
    """A project that is damaged again and again, and what it held while it was sound."""

    home: RealHome
    pristine: Path

    def restore(self) -> None:
        shutil.rmtree(self.home.path)
        shutil.copytree(self.pristine, self.home.path, symlinks=True)
        assert self.home.doit().status == 0

    def contents(self) -> dict[str, str]:
        found = (path for part in JUDGED for path in (self.home.path / part).rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def trial(real: RealHome, tmp_path: Path) -> Trial:
    found = Trial(real, tmp_path / "pristine")
    assert real.doit().status == 0
    shutil.copytree(real.path, found.pristine, symlinks=True)
    return found


def damaged(home: RealHome, kind: Kind, chance: random.Random) -> tuple[Path, bytes]:
    """Flip one bit in one of the files of a kind; returns the file and what it held."""
    files = sorted({path for pattern in kind.patterns for path in home.path.glob(pattern) if path.is_file()})
    path = chance.choice(files)
    before = path.read_bytes()
    bit = chance.randrange(8 * len(before))
    with path.open("r+b") as file:
        file.seek(bit // 8)
        file.write(bytes([before[bit // 8] ^ 1 << bit % 8]))
    return path, before


@pytest.mark.parametrize("name", KINDS)
def test_a_run_after_a_flipped_bit_leaves_nothing_wrong(
    trial: Trial, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, counts = KINDS[name], {"as before": 0, "made again": 0, "told": 0, "refused": 0, "needless": 0}
    for number in range(SAMPLES):
        chance = random.Random(f"{name} {number}")  # noqa: S311 - one that can be repeated
        sound = trial.contents()
        path, before = damaged(trial.home, kind, chance)
        capsys.readouterr()
        where = f"{name} {number}: {path.relative_to(trial.home.path)}"
        outcome = judged(trial, kind, path, before, sound, capsys, where)
        counts[outcome] += 1
        if outcome not in {"as before", "made again"} or kind.days:
            trial.restore()
    with capsys.disabled():
        print(f"\n{name}: {', '.join(f'{count} {what}' for what, count in counts.items() if count)}")


def judged(
    trial: Trial,
    kind: Kind,
    path: Path,
    before: bytes,
    sound: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> str:
    """What became of the damage, in one word; asserts that nothing is wrong."""
    home = trial.home
    report = run(home, kind)
    output = capsys.readouterr()
    said = output.out + output.err
    assert "Traceback" not in said, f"{where}\n{said}"
    assert "this is a bug in doit-pki" not in said, f"{where}\n{said}"
    if report is None or report.status:
        assert_named(report, said, path, where)
        return "refused"
    now = trial.contents()
    if path.exists() and path.read_bytes() != before and str(path) in sound and now[str(path)] != sound[str(path)]:
        judge(home, where, kind.days)
        assert report.made or report.data["notes"], f"{where}: changed without a word"
    if not kind.days and not report.made:
        others = {one for one in sound if sound[one] != now.get(one)} - {str(path)}
        assert not others, f"{where}: {others} changed without a reason"
    if report.made:
        judge(home, where, kind.days)
    if not path.exists() or path.read_bytes() == before:
        return "as before"
    if report.made and _is_made_again(path, before):
        return "made again"
    subjects = " ".join(f"{note['subject']} {note['text']}" for note in report.data["notes"])
    if path.name in subjects or "ceremon" in subjects:
        return "told"
    if path.name in {".seen.json", "status.json"}:
        return "made again"
    assert kind.needless or kind.days, f"{where}: is damaged still, and nobody says so"
    return "needless"


def _is_made_again(path: Path, before: bytes) -> bool:
    """Whether a file differs in more than a bit from what it was before its damage."""
    now = path.read_bytes()
    return len(now) != len(before) or sum(one != other for one, other in zip(now, before, strict=True)) > 1


def run(home: RealHome, kind: Kind) -> Report | None:
    """A run's report; None where nothing was done."""
    report = home.path / "build/report/status.json"
    if kind.patterns == ("build/report/status.json",):
        return home.doit(days=kind.days)
    before = report.stat().st_mtime_ns
    found = home.doit(days=kind.days)
    return found if report.stat().st_mtime_ns != before else None


def assert_named(report: Report | None, said: str, path: Path, where: str) -> None:
    """A run that fails says which file it was, or what cannot be done for it, with something to type."""
    text = said if report is None else " ".join(report.failed.values())
    assert path.name in text or path.parent.name in text, f"{where}\n{said}"
    assert re.search(r"restore|doit|ca\.change the passphrase|ceremony|put it|backup", text), f"{where}\n{said}"


# -- OpenSSL ----------------------------------------------------------------------------------------------------------


def judge(home: RealHome, where: str, days: float) -> None:
    """OpenSSL takes every leaf with its chain and CRLs, and every file of a host is the one of its release."""
    moment = str(int(START.timestamp() + days * 86400) + 60)
    crls = home.path.parent / "crls.pem"
    crls.write_bytes(b"".join(home.read(f"build/crl/{one}-1.pem") for one in ("root", "server", "client")))
    for leaf in LEAVES:
        folder = home.path / leaf
        if (home.path, leaf) in JUDGED_BEFORE and JUDGED_BEFORE[home.path, leaf] == (crls.read_bytes(), whole(folder)):
            continue
        purpose = "sslclient" if "clients" in leaf else "sslserver"
        openssl(
            where,
            *("verify", "-x509_strict", "-crl_check_all", "-purpose", purpose, "-attime", moment, "-no-CApath"),
            *("-no-CAstore", "-CAfile", home.path / "build/trust/roots.pem", "-CRLfile", crls),
            *("-untrusted", folder / "chain.pem", folder / "cert.pem"),
        )
        of_key = openssl(where, "pkey", "-in", folder / "key.pem", "-pubout")
        assert of_key == openssl(where, "x509", "-in", folder / "tls.pem", "-noout", "-pubkey"), where
        tls = (folder / "tls.pem").read_bytes()
        assert tls == (folder / "key.pem").read_bytes() + (folder / "fullchain.pem").read_bytes(), where
        JUDGED_BEFORE[home.path, leaf] = (crls.read_bytes(), whole(folder))
    for generation in ("root-1", "server-1", "client-1"):
        ca, crl = (
            home.path / "ca" / generation.partition("-")[0] / generation / "cert.pem",
            home.path / f"build/crl/{generation}.crl",
        )
        if JUDGED_BEFORE.get((home.path, generation)) != (crl.read_bytes(), ca.read_bytes()):
            openssl(where, "crl", "-in", crl, "-inform", "DER", "-CAfile", ca, "-noout")
            JUDGED_BEFORE[home.path, generation] = (crl.read_bytes(), ca.read_bytes())
    for path in (home.path / "build/release").glob("*/files/**/*"):
        if path.is_file():
            host, _, rest = str(path.relative_to(home.path / "build/release")).partition("/files/")
            assert path.read_bytes() == (home.path / "build/hosts" / host / rest).read_bytes(), f"{where}: {path}"
    media = home.path / "build/hosts/media/etc/doit-pki/media.pem"
    assert media.read_bytes() == home.read("build/certs/media/tls.pem"), where


def whole(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def openssl(where: str, *arguments: str | Path) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, f"{where}\nopenssl {' '.join(map(str, arguments))}\n{done.stdout + done.stderr!r}"
    return done.stdout


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_the_ledger_is_found_or_changes_nothing(
    trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    path, rows = trial.home.path / "ca/ledger.db", list(dumped(trial.home.path / "ca/ledger.db"))
    counts = {"refused": 0, "found by health": 0, "changes nothing": 0}
    for number in range(SAMPLES):
        chance = random.Random(f"ledger {number}")  # noqa: S311 - one that can be repeated
        damaged(trial.home, Kind(("ca/ledger.db",)), chance)
        capsys.readouterr()
        status = trial.home.doit().status
        output = capsys.readouterr()
        said = output.out + output.err
        assert "Traceback" not in said, f"ledger {number}\n{said}"
        counts[what_is_found(trial.home, path, rows, status, f"ledger {number}\n{said}")] += 1
        trial.restore()
    with capsys.disabled():
        print(f"\nledger: {', '.join(f'{count} {what}' for what, count in counts.items() if count)}")


def what_is_found(home: RealHome, path: Path, rows: list[str], status: int, where: str) -> str:
    if status:
        return "refused"
    project = home.project()
    if project.ledger.verify():
        project.ledger.close()
        return "found by health"
    project.ledger.close()
    assert list(dumped(path)) == rows, where
    return "changes nothing"


def dumped(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as db:
        yield from (line for line in db.iterdump() if line.startswith("INSERT"))
