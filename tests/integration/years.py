"""A project that grows old: the days on which something changes, and what other programs say of all that is served then.

Nothing waits: doit is given its day, OpenSSL its `-attime`, and GnuTLS, whose certtool takes none before 3.8, a faked clock.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pki.deploy import managed_file_reader
from pki.deploy.managed_files import Library
from pki.monitor import forecast
from pki.pipeline import plan as pipeline_plan
from pki.x509 import pkcs8
from tests.integration.conftest import TIMEOUT, faketime
from tests.support import judges
from tests.support.projects import START, Home, Report

PURPOSES = {"sslserver": "1.3.6.1.5.5.7.3.1", "sslclient": "1.3.6.1.5.5.7.3.2"}
Roots = Callable[[int], Mapping[str, bytes]]


def moment(day: int) -> datetime:
    return START + timedelta(days=day)


@contextmanager
def quick_years() -> Iterator[None]:
    """Spare a thousand runs what is judged elsewhere: the price of a passphrase, and reading the same templates again."""
    read, find = dict[Path, Library](), managed_file_reader.read_library

    def find_once(folder: Path, *about: object) -> Library:
        if folder not in read:
            read[folder] = find(folder, *about)  # type: ignore[arg-type]
        return read[folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pkcs8, "ROUNDS", 1000)
        patch.setattr(managed_file_reader, "read_library", find_once)
        yield


@dataclass(frozen=True)
class Identity:
    """A chain as it is shown to others: what it is called, what it is for, its leaf, and what is sent along."""

    name: str
    purpose: str
    leaf: bytes
    chain: bytes

    @classmethod
    def of(cls, name: str, purpose: str, pem: bytes) -> Identity:
        leaf, *chain = judges.PEM_CERTIFICATE.findall(pem)
        return cls(name, purpose, leaf, b"".join(chain))

    @property
    def end(self) -> datetime:
        return x509.load_pem_x509_certificate(self.leaf).not_valid_after_utc

    @property
    def certificates(self) -> list[x509.Certificate]:
        return judges.certificates(self.leaf + self.chain)


@dataclass
class Years:
    """A home, the day of its last run, every client certificate that it ever made, and all that a judge objected to.

    `trusted` tells for a day which roots a client may have: all that is served must be sound for each of them alone.
    """

    home: Home
    work: Path
    trusted: Roots
    day: int = 0
    installed: dict[bytes, Identity] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    looks: int = 0
    _gap: int = 1
    _looked: set[tuple[int, int]] = field(default_factory=set)
    _runs: int = 0

    # -- time --

    def run(self, day: int) -> Report:
        """One run on a day; what clients are given then stays in their browsers until it ends."""
        report = self.home.doit(days=day)
        assert report.status == 0, (day, report.failed)
        self.day, self._runs = day, self._runs + 1
        found = self.clients()
        self.installed |= {one.leaf: one for one in found}
        return report

    def walk(self, until: int) -> Iterator[tuple[int, Report]]:
        """Run doit on every day on which it would do something, and look around just before and just after.

        Between two runs nothing changes, and a chain is valid in one stretch of time: what is sound at both ends of the
        time between them is sound on every day in it.
        """
        while (day := self.next_change(until)) is not None:
            self.look(day)
            report = self.run(day)
            self.look(day)
            yield day, report

    def next_change(self, until: int) -> int | None:
        """The first day up to `until` on which doit would do something that it would not do today."""
        calm, hint = self.day, self._gap
        now = self._outlook(calm)
        while True:
            probe = min(calm + hint, until)
            if self._outlook(probe) != now:
                break
            if probe == until:
                return None
            calm, hint = probe, 1 if calm == self.day else hint * 2
        while probe - calm > 1:
            middle = probe - 1 if probe - self.day == self._gap else (calm + probe) // 2
            if self._outlook(middle) == now:
                calm = middle
            else:
                probe = middle
        self._gap = probe - self.day
        return probe

    def _outlook(self, day: int) -> set[str]:
        project = self.home.project(day)
        plan = pipeline_plan.plan(project)
        found = {artifact.name for artifact, _ in forecast.due_artifacts(plan)}
        found |= {f"{note.subject} needs a person" for note in forecast.required_actions(project, plan)}
        project.close(run_succeeded=False)
        return found

    # -- what is there --

    def servers(self) -> list[Identity]:
        """What each host was delivered to show: key, leaf and chain in one file."""
        found = sorted(self.home.path.glob("build/hosts/*/etc/doit-pki/*.pem"))
        return [
            Identity.of(f"{path.parts[-4]}/{path.name}", "sslserver", data)
            for path in found
            if judges.PEM_KEY.search(data := path.read_bytes())
        ]

    def clients(self) -> list[Identity]:
        found = sorted(self.home.path.glob("ca/clients/*/fullchain.pem"))
        return [Identity.of(f"client {path.parent.name}", "sslclient", path.read_bytes()) for path in found]

    def crls(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.home.path.glob("build/crl/*-[0-9]*.pem"))

    # -- judgement --

    def look(self, day: int) -> None:
        """Let everybody judge what is served, as it is now, on a day."""
        if (day, self._runs) in self._looked:
            return
        self._looked.add((day, self._runs))
        self.looks += 1
        shown, crls = [*self.servers(), *self.clients()], self.crls()
        assert shown
        for who, roots in self.trusted(day).items():
            for fault in (*self._openssl(shown, roots, crls, day), *self._gnutls(shown, roots, crls, day)):
                self.faults.append(f"day {day}, who trusts {who}: {fault}")
        self.faults += [f"day {day}: {fault}" for fault in self._unpublished(shown, day)]
        self.faults += [f"day {day}: {fault}" for fault in self.kept_out(day)]

    def kept_out(self, day: int) -> list[str]:
        """Client certificates that have not ended, and that a host with the delivered files would not let in."""
        host = next(self.home.path.glob("build/hosts/*/etc/doit-pki/client-crl.pem")).parent
        trust, crls = (host / "client-ca.pem").read_bytes() + (host / "roots.pem").read_bytes(), host / "client-crl.pem"
        alive = [one for one in self.installed.values() if one.end > moment(day)]
        alone = [Identity(f"{one.name} without its chain", one.purpose, one.leaf, b"") for one in alive]
        return self._openssl([*alive, *alone], trust, crls.read_bytes(), day)

    def _openssl(self, shown: list[Identity], roots: bytes, crls: bytes, day: int) -> list[str]:
        """`openssl verify` at its strictest, once for all leaves that send the same chain along."""
        faults = []
        (self.work / "roots.pem").write_bytes(roots)
        (self.work / "crls.pem").write_bytes(crls)
        for purpose, chain in sorted({(one.purpose, one.chain) for one in shown}):
            (self.work / "chain.pem").write_bytes(chain)
            leaves = []
            for number, one in enumerate(one for one in shown if (one.purpose, one.chain) == (purpose, chain)):
                leaves.append(self.work / f"{one.name.replace('/', ' ')} {number}.pem")
                leaves[-1].write_bytes(one.leaf)
            done = subprocess.run(
                [
                    *("openssl", "verify", "-x509_strict", "-crl_check_all", "-policy_check", "-purpose", purpose),
                    *("-attime", str(int(moment(day).timestamp())), "-no-CApath", "-no-CAstore"),
                    *("-CAfile", self.work / "roots.pem", "-CRLfile", self.work / "crls.pem"),
                    *(("-untrusted", self.work / "chain.pem") if chain else ()),
                    *leaves,
                ],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            said = done.stdout + done.stderr
            if done.returncode or said.count(": OK") != len(leaves):
                faults.append(f"OpenSSL: {[leaf.stem for leaf in leaves]}: {said.strip()}")
        return faults

    def _gnutls(self, shown: list[Identity], roots: bytes, crls: bytes, day: int) -> list[str]:
        """`certtool --verify`, once for all that send the same chain along."""
        faults = []
        (self.work / "roots.pem").write_bytes(roots)
        (self.work / "crls.pem").write_bytes(crls)
        for one in {(one.purpose, one.chain): one for one in shown}.values():
            done = subprocess.run(
                [
                    *("certtool", "--verify", "--verify-purpose", PURPOSES[one.purpose]),
                    *("--load-ca-certificate", self.work / "roots.pem", "--load-crl", self.work / "crls.pem"),
                ],
                input=(one.leaf + one.chain).decode(),
                env={**os.environ, **faketime(f"{moment(day):%Y-%m-%d %H:%M:%S}"), "TZ": "UTC"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            if done.returncode or "Chain verification output: Verified." not in done.stdout:
                said = done.stdout.strip().splitlines()[-1:]
                faults.append(f"GnuTLS: {one.name}: {said} {done.stderr.strip()[-200:]}")
        return faults

    def _unpublished(self, shown: list[Identity], day: int) -> Iterator[str]:
        """What certificates point at and the publishing host does not have, or not in its time."""
        (host,) = self.home.path.glob("build/hosts/*/var/www/pki")
        installed = [one for one in self.installed.values() if one.end > moment(day)]
        named = {cert for one in (*shown, *installed) for cert in one.certificates}
        for cert in named:
            (point,) = judges.extension_of(cert, x509.CRLDistributionPoints)
            (access,) = judges.extension_of(cert, x509.AuthorityInformationAccess)
            crl_path = host / "crl" / point.full_name[0].value.rpartition("/")[2]
            ca_path = host / "ca" / access.access_location.value.rpartition("/")[2]
            if cert.not_valid_after_utc < moment(day):
                continue
            if not crl_path.exists() or not ca_path.exists():
                yield f"{judges.common_name(cert)} names {crl_path.name}, {ca_path.name}, and not both are published"
                continue
            ca = x509.load_der_x509_certificate(ca_path.read_bytes())
            cert.verify_directly_issued_by(ca)
            try:
                judges.assert_is_crl(x509.load_der_x509_crl(crl_path.read_bytes()), ca, moment(day))
            except AssertionError as error:
                yield f"{crl_path.name} is not what {judges.common_name(cert)} needs: {error}"
