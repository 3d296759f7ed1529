"""Whether a project is consistent, read from its files and the rows of its ledger by code that imports none of ours.

`believable` holds at every moment, also right after a process was killed. `finished` holds once a run has ended well.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.support import judges
from tests.support.judges import Identity

Rows = dict[str, list[dict[str, Any]]]
"""The tables of a ledger, by their names."""

KINDS = {"certificate": "certificates", "revocation": "revocations", "crl": "crls", "decision": "decisions"}
LEAVES = ("build/certs/*", "ca/clients/*")
LITTER = (".*.new", ".restore.new", "*.db-journal", "*.pki-new", "*.pki-old")
CANARY = "doit-pki-canary"


# -- the ledger -------------------------------------------------------------------------------------------------------


def ledger_rows(home: Path) -> Rows:
    """The rows of `ca/ledger.db`, read from a copy, so that looking changes nothing; empty where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (home / "ca").glob("ledger.db*"):
            shutil.copy(path, folder)
        copy = Path(folder, "ledger.db")
        return database_rows(copy) if copy.exists() else {}


def database_rows(path: Path) -> Rows:
    """The rows of an SQLite database."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in tables}  # noqa: S608


def ledger_faults(rows: Rows) -> Iterator[str]:
    """What is wrong with a ledger: the hash chain recomputed, and what may be there once only."""
    if not rows.get("head"):
        return
    sealed = {(kind, row["seq"]): _digest(row) for kind, table in KINDS.items() for row in rows.get(table, ())}
    previous = "0" * 64
    for number, event in enumerate(sorted(rows["events"], key=lambda one: int(one["seq"])), 1):
        if (event["seq"], event["previous"]) != (number, previous):
            yield f"event {event['seq']} does not follow event {number - 1}"
        if _digest({name: value for name, value in event.items() if name != "hash"}) != event["hash"]:
            yield f"event {event['seq']} was changed"
        if sealed.pop((event["kind"], event["seq"]), None) != event["row"]:
            yield f"the row of event {event['seq']} ({event['kind']}) is missing or was changed"
        previous = event["hash"]
    yield from (f"{kind} {seq} has no event" for kind, seq in sealed)
    [head] = rows["head"]
    if (head["seq"], head["hash"]) != (len(rows["events"]), previous):
        yield f"the head names event {head['seq']}, and the newest is {len(rows['events'])}"
    yield from _repeated(rows)


def _repeated(rows: Rows) -> Iterator[str]:
    for table in ("certificates", "revocations"):
        times = Counter((row["issuer"], row["serial"]) for row in rows[table])
        yield from (f"{number} {table} of {one}" for one, number in times.items() if number > 1)
    for issuer in {row["issuer"] for row in rows["crls"]}:
        numbers = [row["number"] for row in rows["crls"] if row["issuer"] == issuer]
        if issuer.partition("-")[0] != "root" and any(later <= one for one, later in pairwise(numbers)):
            yield f"the CRL numbers of {issuer} do not rise: {numbers}"


def lost_events(before: Rows, after: Rows) -> list[int]:
    """The numbers of events that a ledger had, and that it has no more."""
    there = {event["hash"] for event in after.get("events", ())}
    return [event["seq"] for event in before.get("events", ()) if event["hash"] not in there]


def revoked(rows: Rows, issuer: str, at: datetime) -> set[int]:
    """The serial numbers that the CRL of an issuer must list at a moment."""
    return {
        int(row["serial"], 16)
        for row in rows.get("revocations", ())
        if row["issuer"] == issuer and row["not_after"] > at.timestamp()
    }


def issued(rows: Rows) -> Counter[str]:
    """How many certificates each artifact was ever given."""
    return Counter(str(row["artifact"]) for row in rows.get("certificates", ()))


def _digest(row: Mapping[str, Any]) -> str:
    values = {name: value for name, value in row.items() if value is not None}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# -- at every moment --------------------------------------------------------------------------------------------------


def believable(home: Path, rows: Rows) -> Iterator[str]:
    """What is wrong however a process ended: recorded before visible, whole pairs, a whole ledger."""
    recorded = {int(row["serial"], 16) for row in rows.get("certificates", ())}
    for path, certificate in visible_certificates(home):
        if certificate.serial_number not in recorded:
            yield f"{path.relative_to(home)} is visible, and the ledger does not know it"
    yield from ledger_faults(rows)
    for pattern in ("ca/**/tls.pem", "build/**/tls.pem"):
        yield from (f"{path.relative_to(home)} is no pair" for path in home.glob(pattern) if not is_pair(path))


def visible_certificates(home: Path) -> Iterator[tuple[Path, x509.Certificate]]:
    """Every certificate in the files of a project, those of adopted CAs aside."""
    for folder in ("ca", "build"):
        for path in (home / folder).rglob("*"):
            if path.suffix in {".pem", ".crt"} and not path.name.startswith(".") and path.is_file():
                if "legacy" in path.relative_to(home).parts:
                    continue
                data = path.read_bytes()
                yield from ((path, one) for one in judges.certificates(data))
                if path.suffix == ".crt" and not data.startswith(b"-----"):
                    yield path, x509.load_der_x509_certificate(data)


def is_pair(path: Path) -> bool:
    """Whether a file holds a whole key and its certificate first."""
    try:
        data = path.read_bytes()
        key, certificate = load_pem_private_key(data, None).public_key(), x509.load_pem_x509_certificate(data)
    except ValueError:
        return False
    return _spki(key) == _spki(certificate.public_key())


def _spki(key: Any) -> bytes:
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


# -- after a run that ended well --------------------------------------------------------------------------------------


def finished(home: Path, rows: Rows, now: datetime) -> Iterator[str]:
    """What is wrong after a run that ended well at `now`: in leaves, CRLs, hosts, and what lies beside them."""
    yield from believable(home, rows)
    roots = judges.certificates((home / "build/trust/roots.pem").read_bytes())
    crls = {path.stem: path for path in (home / "build/crl").glob("*-[0-9]*.pem")}
    lists = [judges.crls(path.read_bytes())[0] for path in crls.values()]
    for generation, path in sorted(crls.items()):
        yield from crl_faults(home, generation, path, rows, now)
    for pattern in LEAVES:
        for folder in sorted(home.glob(pattern)):
            yield from leaf_faults(home, folder, roots, lists, now)
    yield from host_faults(home)
    left = [path for pattern in LITTER for path in home.rglob(pattern)]
    yield from (f"{path.relative_to(home)} was left behind" for path in left)


def crl_faults(home: Path, generation: str, path: Path, rows: Rows, now: datetime) -> Iterator[str]:
    """A CRL in both forms, as its issuer signed it and the ledger recorded it, with every revocation."""
    [crl] = judges.crls(path.read_bytes())
    der = path.with_suffix(".crl").read_bytes()
    if crl.public_bytes(Encoding.DER) != der:
        yield f"{generation}: the two forms of the CRL differ"
    folder = home / "ca" / generation.rpartition("-")[0] / generation
    try:
        judges.assert_is_crl(crl, judges.certificate(folder / "cert.pem"), now)
    except AssertionError as fault:
        yield f"{generation}: its CRL at {now}: {fault}"
    recorded = {row.get("sha256") for row in rows["crls"]} | {row["pem"] for row in rows["crls"]}
    if not recorded & {hashlib.sha256(der).hexdigest(), path.read_text()}:
        yield f"{generation}: its CRL is not in the ledger"
    if missing := revoked(rows, generation, now) - {entry.serial_number for entry in crl}:
        yield f"{generation}: its CRL lacks {missing}"


def leaf_faults(
    home: Path,
    folder: Path,
    roots: list[x509.Certificate],
    crls: list[x509.CertificateRevocationList],
    now: datetime,
) -> Iterator[str]:
    """The files of a leaf agree, and OpenSSL takes its chain, unless it is the one that is revoked on purpose."""
    name = folder.relative_to(home)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    if "tls.pem" not in whole:
        return
    if whole["tls.pem"] != whole.get("key.pem", b"") + whole.get("fullchain.pem", b""):
        yield f"{name}: tls.pem is not key.pem and fullchain.pem"
    if whole.get("fullchain.pem") != whole.get("cert.pem", b"") + whole.get("chain.pem", b""):
        yield f"{name}: fullchain.pem is not cert.pem and chain.pem"
    identity = Identity.read(folder / "tls.pem")
    fault = judges.openssl_fault(identity, roots, now, crls)
    has_left = folder.parent.name == "clients" and f"\n  {folder.name}:" not in (home / "pki.yaml").read_text()
    is_refused = any(identity.leaf.serial_number in {entry.serial_number for entry in crl} for crl in crls)
    if bool(fault) != (folder.name == CANARY or (has_left and is_refused)):
        yield f"{name}: OpenSSL says {fault or 'nothing against one that was revoked'}"


def host_faults(home: Path) -> Iterator[str]:
    """Each host that is delivered into a folder holds its release, byte for byte."""
    for path in (home / "build/release").glob("*/files/**/*"):
        if path.is_file():
            host, _, rest = str(path.relative_to(home / "build/release")).partition("/files/")
            there = home / "build/hosts" / host
            if there.exists() and (not (there / rest).exists() or (there / rest).read_bytes() != path.read_bytes()):
                yield f"{host}: /{rest} is not that of its release"
