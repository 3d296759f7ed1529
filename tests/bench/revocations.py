"""CRLs with a hundred thousand entries: a project that has them, and what a run costs there."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from cryptography import x509

from tests.bench import measure, peers, project
from tests.bench.measure import Cost
from tests.bench.project import PROJECT
from tests.bench.table import Bound, Findings, Row, megabytes, seconds

DAYS = 100  # that the revoked certificates have left
HEAD = """\
organisation: Example Lab
domains: [lab.internal]
permit_addresses: [10.0.0.0/8]
publish: {url: "http://pki.lab.internal", host: nginx}
sandbox: true
networks: {lan: 10.0.0.0/8}
hosts:
"""
HOST = '  {0}: {{network: lan, address: 10.0.0.{1}, proxy: {0}, services: {{app-{0}: {{upstream: "http://127.0.0.1:8080", access: mtls}}}}}}\n'


@dataclass
class Crowded:
    """A project with a host for each of three proxies, all of them behind mTLS, and many revoked clients."""

    home: Path
    entries: int
    _numbers: count[int] = field(default_factory=lambda: count(1_000_000))

    def doit(self, *arguments: str) -> Cost:
        return measure.run([sys.executable, "-m", "doit", *arguments], PROJECT, {"PKI_HOME": self.home})

    def revoke(self, how_many: int) -> list[tuple[str, int]]:
        """Put revocations into the ledger's table, behind its back: recording them one by one takes minutes."""
        now = int(time.time())
        found = [(f"{x509.random_serial_number():040x}", now - number) for number in range(how_many)]
        rows = [(next(self._numbers), serial, "client-1", "superseded", at, now + DAYS * 86400) for serial, at in found]
        with closing(sqlite3.connect(self.home / "ca/ledger.db")) as db, db:
            db.executemany("insert into revocations values (?, ?, ?, ?, ?, ?)", rows)
        return found


def crowded(folder: Path, entries: int) -> Crowded:
    """The project after its first runs, and the entries as a bare loop reads them in `entries` beside it."""
    home = project.lay_said(folder / "crowded", HEAD + "".join(HOST.format(*one) for one in _hosts()))
    made = Crowded(home, entries)
    made.doit()
    made.doit()
    return made


def _hosts() -> list[tuple[str, int]]:
    return [(proxy, number) for number, proxy in enumerate(project.PROXIES, 10)]


def measured(folder: Path, entries: int) -> Findings:
    """One more revocation beside so many, and the run after that, against a bare loop that signs as many."""
    made, listing = crowded(folder, entries), folder / "entries"
    without = measure.median([made.doit() for _ in range(3)])
    listing.write_text("".join(f"{serial} {at}\n" for serial, at in made.revoke(entries)))
    made.doit()

    def one_more() -> Cost:
        made.revoke(1)
        return made.doit("crl")

    ours, bare = measure.in_turn(3, one_more, peers.bare("revoke", listing, folder / "bare-crl"))
    follows = made.doit()
    made.doit()  # the first look after a build fills what is remembered
    idle = measure.median([made.doit() for _ in range(3)])
    rows = [
        _ratio(f"one more on a CRL of {entries} / bare loop", ours, bare, 3),
        _ratio("bundle, three releases, three deliveries of it / bare loop", follows, bare, None),
        _ratio("nothing to do with it / without it", idle, without, 2),
        *(
            Row(f"peak memory, {what}", megabytes(cost.peak), "", cost.peak / 1e6, Bound(200, unit=" MB"), " MB")
            for what, cost in (("one more", ours), ("what follows", follows))
        ),
    ]
    remarks = [
        "ours: a whole run of doit, its start, ledger and report included; the bare loop: the same entries built, signed,",
        "verified, written as DER and PEM, each flushed",
    ]
    return Findings("revocations", rows, remarks)


def _ratio(what: str, ours: Cost, peer: Cost, bound: float | None) -> Row:
    ratio, cpu = ours.seconds / peer.seconds, ours.cpu / peer.cpu
    return Row(what, seconds(ours.seconds), seconds(peer.seconds), ratio, Bound(bound) if bound else None, cpu=cpu)
