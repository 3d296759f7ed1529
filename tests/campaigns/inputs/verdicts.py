"""What is a failure: of what a command said and how it ended, and of what it left."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.campaigns.campaign import CampaignError
from tests.campaigns.inputs.typed import MEMORY, Said
from tests.support import judges
from tests.support.judges import Identity

HANGS = {-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL}
SHOWN = 3000  # characters of output in a message
STATUSES = {0, 1, 2, 3, 4}
OURS = "this is a bug in doit-pki"  # what is said of an exception that nobody expected
PLACE = re.compile(r"at (pki/[\w/]+\.py):\d+")
FRAME = re.compile(r'File "[^"]*?/((?:pki|tests|site-packages)/[\w/.-]+\.py)", line (\d+)')
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
WARNING = re.compile(r"^.*\w+Warning: .*$", re.MULTILINE)
LOOKING = (  # what changes nothing but caches and reports
    *("plan", "status", "health", "explain", "timeline", "schedule", "schema"),
    *("ledger.verify", "ledger.list", "ledger.show", "client.list"),
    *("deploy.history", "deploy.diff", "ceremony.verify"),
)
WHOLE_OR_NOTHING = ("restore", "ceremony.accept", "ledger.import", "client.export", "init")
DONE = re.compile(r"(?m)^(restored|accepted|imported|exported|created) ")  # one of them carried out its work
WRITTEN_BY_ALL = re.compile(
    r"(^|/)(\.[^/]*lock|\.seen\.json|\.ledger[^/]*|ledger\.db-\w+)$|^project/ca/ledger\.db$|^project/build/report(/|$)"
)

Tree = Mapping[str, str]


def tree(place: Path) -> Tree:
    """Every file below a folder, caches, reports and locks aside: its path and what is in it."""
    found = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if WRITTEN_BY_ALL.search(name):
            continue
        if path.is_symlink() or not path.is_file():
            found[name] = "folder" if path.is_dir() else "special"
        else:
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


# -- what a command said ----------------------------------------------------------------------------------------------


def failure(kind: str, said: Said, what: object = "") -> CampaignError:
    """A failure of a command, with the beginning and the end of what it said."""
    shown = said.out if len(said.out) < SHOWN else f"{said.out[: SHOWN // 2]}\n…\n{said.out[-SHOWN // 2 :]}"
    return CampaignError(kind, f"{said.line[:SHOWN]}, exit {said.status}: {what}\n{shown}")


def ended_well(said: Said) -> None:
    """Raise CampaignError for a traceback, a signal, a hang, too much memory, and an exit status that none has."""
    if said.status in HANGS:
        raise failure(f"hang in {said.words[1:2]}", said, signal.Signals(-said.status).name)
    if "Traceback (most recent call last)" in said.out:
        frames = [found for found in FRAME.findall(said.out) if found[0].startswith("pki/")]
        raise failure(f"traceback from {frames[-1:]}", said)
    if OURS in said.out:
        places = PLACE.findall(said.out)
        raise failure(f"fault of ours at {places[:1]}", said)
    if said.status < 0:
        raise failure("signal", said, signal.Signals(-said.status).name)
    if said.memory > MEMORY:
        raise failure(f"memory in {said.words[1:2]}", said, f"{said.memory >> 20} MB")
    if said.status not in STATUSES:
        raise failure(f"status {said.status}", said)
    if warned := WARNING.search(said.out):
        raise failure("a warning of Python", said, warned[0])
    if found := CONTROLS.search(said.out.replace("\x1b[0m", "")):
        raise failure("control character", said, repr(found[0]))
    if said.status and not said.out.strip():
        raise failure("refused without a word", said)


def kept_secrets(said: Said, secrets: Iterable[str]) -> None:
    """Raise CampaignError where a secret, or a part of one, is in what a command said."""
    for secret in secrets:
        if secret in said.out:
            raise failure(f"secret said by {said.words[1:2]}", said, secret)


def names_it(said: Said, names: Iterable[str]) -> None:
    """Raise CampaignError where a refusal names neither the file nor a field of it."""
    if not any(name in said.out for name in names):
        raise failure(f"unclear in {said.words[:2]}", said, f"none of {list(names)}")


# -- what it left -----------------------------------------------------------------------------------------------------


def wrote_nothing_half(said: Said, before: Tree, after: Tree) -> None:
    """Raise CampaignError for files beside, and for changes by a command that refuses or only looks."""
    beside = [name for name in after if re.search(r"(^|/)\.[^/]+\.new(/|$)", name) and name not in before]
    if beside:
        raise failure("a file beside", said, beside)
    if said.words[0] != "invoke" or len(said.words) < 2:
        return
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    asked_for = [value for option, value in pairwise(said.words) if option == "--output"]
    if said.words[1] == "schema":
        changed = [name for name in changed if Path(name).name not in asked_for]
    refused = said.words[1] in WHOLE_OR_NOTHING and said.status == 1 and not DONE.search(said.out)
    if changed and (refused or said.words[1] in LOOKING):
        raise failure(f"changed by {said.words[1]}", said, changed)


def artifacts(home: Path, now: datetime, revoked: Iterable[int]) -> None:
    """Raise CampaignError unless everything in a project is what its clients would take, by readers that are not ours."""
    roots = [cert for path in home.glob("ca/root/*/cert.pem") for cert in judges.certificates(path.read_bytes())]
    crls = [crl for path in sorted(home.glob("build/crl/*.pem")) for crl in judges.crls(path.read_bytes())]
    _crls(home, now, set(revoked))
    for path in sorted([*home.glob("build/certs/*/*.pem"), *home.glob("ca/clients/*/*.pem")]):
        if path.name in {"tls.pem", "fullchain.pem"}:
            _leaf(path, roots, crls, now)
    for path in sorted(home.glob("build/hosts/*/etc/**/*.pem")):
        if len(judges.certificates(path.read_bytes())) > 1 and judges.PEM_KEY.search(path.read_bytes()):
            _leaf(path, roots, crls, now)


def _leaf(path: Path, roots: list[x509.Certificate], crls: list[x509.CertificateRevocationList], now: datetime) -> None:
    identity = Identity.read(path)
    serials = {entry.serial_number for crl in crls for entry in crl if crl.issuer == identity.leaf.issuer}
    used = [crl for crl in crls if crl.issuer in {identity.leaf.issuer, *(one.issuer for one in identity.chain)}]
    fault = judges.openssl_fault(identity, roots, now, used)
    if fault and identity.leaf.serial_number not in serials:
        raise CampaignError(f"wrong: {path.name}", f"{path}: {fault}")
    if identity.key and identity.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != (
        identity.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ):
        raise CampaignError("wrong: key", f"{path}: its key is not that of its certificate")


def _crls(home: Path, now: datetime, revoked: set[int]) -> None:
    listed = set()
    for path in sorted(home.glob("build/crl/*.crl")):
        crl = x509.load_der_x509_crl(path.read_bytes())
        listed |= {entry.serial_number for entry in crl}
        if crl.next_update_utc is None or not crl.last_update_utc <= now < crl.next_update_utc:
            raise CampaignError(
                "wrong: a CRL that is not current", f"{path}: {crl.last_update_utc} {crl.next_update_utc}"
            )
        issuers = [*home.glob(f"ca/*/{path.stem}/cert.pem"), *home.glob(f"ca/{path.stem}/cert.pem")]
        keys = [judges.certificates(one.read_bytes())[0].public_key() for one in issuers]
        if not any(crl.is_signature_valid(key) for key in keys):  # type: ignore[arg-type] # keys of CAs
            raise CampaignError("wrong: signature of a CRL", f"{path}")
        if [one.public_bytes(Encoding.DER) for one in judges.crls(path.with_suffix(".pem").read_bytes())] != [
            path.read_bytes()
        ]:
            raise CampaignError("wrong: two forms of a CRL", f"{path}")
    if lost := revoked - listed:
        raise CampaignError("wrong: a revocation is lost", f"{[f'{serial:x}' for serial in lost]}")
