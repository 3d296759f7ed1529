"""What clients and servers make of all that is deployed, and of the ledger: nothing of the program is asked or imported."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support import judges
from tests.support.judges import Identity

SLOW = timedelta(days=30)  # after which a client has the roots that are deployed
Crl = x509.CertificateRevocationList
Fault = tuple[str, str]
"""The host, or "" where it is all of them, and what is wrong."""


@lru_cache(maxsize=512)
def identity_in(data: bytes) -> Identity:
    leaf, *chain = judges.certificates(data)
    key = serialization.load_pem_private_key(data, None) if judges.PEM_KEY.search(data) else None
    return Identity(leaf, chain[0], key, tuple(chain[1:]))


@lru_cache(maxsize=64)
def certificates_in(data: bytes) -> list[x509.Certificate]:
    return judges.certificates(data)


@lru_cache(maxsize=256)
def crls_in(data: bytes) -> list[Crl]:
    return judges.crls(data) if data.startswith(b"-----") else [x509.load_der_x509_crl(data)]


@lru_cache(maxsize=256)
def listed_in(data: bytes) -> frozenset[int]:
    return frozenset(entry.serial_number for crl in crls_in(data) for entry in crl)


@lru_cache(maxsize=16)
def hosts_in(data: bytes) -> frozenset[str]:
    """The hosts that a pki.yaml declares: it takes longer to read than all that is deployed."""
    return frozenset(yaml.safe_load(data)["hosts"])


@dataclass
class Deployed:
    """The hosts of a project, as folders, and what was seen on them before."""

    hosts: Path
    publisher: str
    roots: list[tuple[datetime, bytes]] = field(default_factory=list)  # each set of roots, since when it is deployed
    clients: dict[bytes, Identity] = field(default_factory=dict)  # each that was handed out
    revoked: dict[int, x509.Certificate] = field(default_factory=dict)  # of which the command said that it is done
    ends: dict[int, datetime] = field(default_factory=dict)  # of each certificate that the ledger recorded
    listed: dict[str, dict[int, datetime]] = field(default_factory=dict)  # file → serial numbers that it listed

    # -- what is there --

    def names(self) -> list[str]:
        """The hosts that pki.yaml still declares, and that were delivered to."""
        declared = hosts_in((self.hosts.parents[1] / "pki.yaml").read_bytes())
        return sorted(path.name for path in self.hosts.iterdir() if path.is_dir() and path.name in declared)

    def servers(self, host: str) -> dict[str, bytes]:
        """Every key with its chain."""
        found = {path.name: path.read_bytes() for path in (self.hosts / host / "etc/doit-pki").glob("*.pem")}
        return {name: data for name, data in sorted(found.items()) if judges.PEM_KEY.search(data)}

    def published(self) -> dict[str, bytes]:
        """Each CRL at its published address."""
        folder = self.hosts / self.publisher / "var/www/pki/crl"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.crl"))}

    def views(self, now: datetime) -> list[bytes]:
        """The roots that clients have: those that are deployed now, and those that were some weeks ago."""
        data = (self.hosts / self.publisher / "etc/doit-pki/roots.pem").read_bytes()
        if not self.roots or self.roots[-1][1] != data:
            self.roots.append((now, data))
        late = [one for since, one in self.roots if since <= now - SLOW][-1:]
        return list(dict.fromkeys([data, *late]))

    # -- judgement --

    def faults(self, now: datetime) -> Iterator[Fault]:
        """All that somebody would refuse at a moment, and every revoked certificate that somebody would accept."""
        try:
            views, published = self.views(now), self.published()
            crls = [crl for data in published.values() for crl in crls_in(data)]
        except (OSError, ValueError) as error:
            yield self.publisher, f"what is published cannot be read: {error}"
            return
        for host in self.names():
            try:
                yield from ((host, fault) for fault in self._server_faults(host, views, crls, published, now))
                yield from ((host, fault) for fault in self._client_faults(host, now))
            except (OSError, ValueError, IndexError) as error:
                yield host, f"its files cannot be read: {error}"

    def _server_faults(
        self, host: str, views: list[bytes], crls: list[Crl], published: dict[str, bytes], now: datetime
    ) -> Iterator[str]:
        for name, data in self.servers(host).items():
            shown = identity_in(data)
            if _spki(shown.key.public_key()) != _spki(shown.leaf.public_key()):
                yield f"{name}: key and certificate do not match"
            for roots in views:
                if fault := judges.openssl_fault(shown, certificates_in(roots), now, crls):
                    yield f"{name}: a client refuses it: {fault}"
            for cert in (shown.leaf, *shown.chain):
                (point,) = judges.extension_of(cert, x509.CRLDistributionPoints)
                if point.full_name[0].value.rpartition("/")[2] not in published:
                    yield f"{name}: the CRL of {judges.common_name(cert)} is not published"
            if shown.leaf.serial_number in self.revoked:
                yield f"{name}: is revoked, and deployed"

    def _client_faults(self, host: str, now: datetime) -> Iterator[str]:
        folder = self.hosts / host / "etc/doit-pki"
        if not (folder / "client-crl.pem").exists():
            return
        trusted = certificates_in((folder / "client-ca.pem").read_bytes() + (folder / "roots.pem").read_bytes())
        crls = crls_in((folder / "client-crl.pem").read_bytes())
        listed = {entry.serial_number for crl in crls for entry in crl}
        for one in self.clients.values():
            if not one.leaf.not_valid_before_utc <= now <= one.leaf.not_valid_after_utc:
                continue
            if one.intermediate.serial_number in listed:  # revoked by the root: whoever has it needs a new one
                continue
            fault = judges.openssl_fault(one, trusted, now, crls)
            if fault and one.leaf.serial_number not in self.revoked:
                yield f"refuses the client {judges.common_name(one.leaf)}: {fault}"

    def lost(self, now: datetime, damaged: set[str]) -> Iterator[Fault]:
        """Serial numbers that a CRL once listed, and that are missing there before their time.

        Files of hosts that others `damaged` prove nothing.
        """
        files = {f"{self.publisher}/{name}": data for name, data in self.published().items()}
        for host in self.names():
            path = self.hosts / host / "etc/doit-pki/client-crl.pem"
            if path.exists():
                files[f"{host}/{path.name}"] = path.read_bytes()
        for name, data in files.items():
            if name.partition("/")[0] in damaged:
                continue
            found = listed_in(data)
            known = self.listed.setdefault(name, {})
            for serial, end in known.items():
                if serial not in found and now < end:
                    yield name.partition("/")[0], f"{name} does not list {serial:x} any more"
            far = datetime.max.replace(tzinfo=UTC)
            self.listed[name] = {serial: self.ends.get(serial, known.get(serial, far)) for serial in found} | {
                serial: end for serial, end in known.items() if now < end
            }

    def unlisted(self, now: datetime) -> Iterator[Fault]:
        """Certificates that were revoked and are on no CRL of their authority, though they have not ended."""
        published = self.published()
        for serial, cert in self.revoked.items():
            (point,) = judges.extension_of(cert, x509.CRLDistributionPoints)
            name = point.full_name[0].value.rpartition("/")[2]
            if now < cert.not_valid_after_utc and serial not in listed_in(published.get(name, b"-----")):
                yield self.publisher, f"{name} does not list the revoked {serial:x}"

    def openssl(self, now: datetime, work: Path) -> Iterator[Fault]:
        """What `openssl verify` has against each server."""
        (work / "roots.pem").write_bytes(self.views(now)[0])
        crls = [crl for data in self.published().values() for crl in crls_in(data)]
        (work / "crls.pem").write_bytes(b"".join(crl.public_bytes(serialization.Encoding.PEM) for crl in crls))
        for host in self.names():
            for name, data in self.servers(host).items():
                leaf, *chain = judges.PEM_CERTIFICATE.findall(data)
                (work / "leaf.pem").write_bytes(leaf)
                (work / "chain.pem").write_bytes(b"".join(chain))
                done = subprocess.run(
                    [
                        *("openssl", "verify", "-x509_strict", "-crl_check_all", "-purpose", "sslserver"),
                        *("-attime", str(int(now.timestamp())), "-no-CApath", "-no-CAstore"),
                        *("-CAfile", work / "roots.pem", "-CRLfile", work / "crls.pem"),
                        *("-untrusted", work / "chain.pem", work / "leaf.pem"),
                    ],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    yield host, f"{name}: openssl: {(done.stdout + done.stderr).strip()}"


def _spki(key: object) -> bytes:
    found: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


# -- the ledger -------------------------------------------------------------------------------------------------------

TABLES = {"certificate": "certificates", "revocation": "revocations", "crl": "crls", "decision": "decisions"}


@dataclass(frozen=True)
class Issued:
    """One certificate as the ledger has it."""

    artifact: str
    issuer: str
    serial: int
    start: datetime
    end: datetime
    why: str


@dataclass
class Chain:
    """The hash chain of a ledger, computed again from the rows; from where it was computed last, unless it changed."""

    path: Path
    seq: int = 0
    hash: str = "0" * 64

    def look(self, *, whole: bool = False) -> tuple[list[str], list[Issued]]:
        """Return what is wrong with the chain, and the certificates that were recorded since the last look."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            known = db.execute("SELECT hash FROM events WHERE seq = ?", [self.seq]).fetchone()
            start = self.seq if self.seq and known and known["hash"] == self.hash else 0
            seen = start
            faults, issued = self._follow(db, 0 if whole else start)
        return faults, [one for seq, one in issued if seq > seen]

    def certificate(self, serial: int) -> x509.Certificate:
        """A certificate that was recorded."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            (pem,) = db.execute("SELECT pem FROM certificates WHERE serial = ?", [f"{serial:040x}"]).fetchone()
        return x509.load_pem_x509_certificate(pem.encode())

    def _follow(self, db: sqlite3.Connection, start: int) -> tuple[list[str], list[tuple[int, Issued]]]:
        rows = {
            (kind, row["seq"]): dict(row)
            for kind, table in TABLES.items()
            for row in db.execute(f"SELECT * FROM {table} WHERE seq > ?", [start])  # noqa: S608 - of our own constants
        }
        in_order = sorted(rows.items(), key=lambda one: one[0][1])
        issued = [(seq, _issued(row)) for (kind, seq), row in in_order if kind == "certificate"]
        faults, seq, previous = [], start, self.hash if start else "0" * 64
        for event in map(dict, db.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", [start])):
            sealed, row = event.pop("hash"), rows.pop((event["kind"], event["seq"]), None)
            if event["seq"] != seq + 1 or event["previous"] != previous:
                faults.append(f"event {event['seq']} does not follow event {seq}")
            if _digest(event) != sealed or row is None or _digest(row) != event["row"]:
                faults.append(f"event {event['seq']} is not what was recorded")
            seq, previous = event["seq"], sealed
        head = db.execute("SELECT seq, hash FROM head").fetchone()
        if (head["seq"], head["hash"]) != (seq, previous) or rows:
            faults.append(f"the head is {head['seq']}, the last event is {seq}, {len(rows)} rows have no event")
        self.seq, self.hash = seq, previous
        return faults, issued


def _issued(row: dict[str, object]) -> Issued:
    start, end = (datetime.fromtimestamp(int(str(row[name])), UTC) for name in ("not_before", "not_after"))
    return Issued(str(row["artifact"]), str(row["issuer"]), int(str(row["serial"]), 16), start, end, str(row["reason"]))


def _digest(row: dict[str, object]) -> str:
    values = {name: value for name, value in row.items() if value is not None}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
