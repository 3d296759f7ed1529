"""Which roots are missing: named by pki.yaml, or shown by what was made under them, and not in `ca/`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from pki.common import filesystem, pem
from pki.common.errors import PkiError
from pki.common.remedies import RESTORE, Place, Remedy, here
from pki.config.fields import CA_NAME, SANDBOX
from pki.config.identifiers import GenerationName
from pki.config.model import Inventory
from pki.project.layout import BEFORE_RESTORE, RESTORING, Store

GENERATION = re.compile(r"(root|server|client)-[0-9]+")
NUMBERED = "DIR/response-NNNN"
HAND_OUT = Remedy(
    "sh run invoke ceremony.sign DIR/ceremonies/NNNN/request.yaml --vault DIR --output DIR",
    Place.OFFLINE,
    before="with its highest NNNN, ",
)
ACCEPT = here("invoke", "ceremony.accept", NUMBERED, placeholders=[NUMBERED])
DEPLOYED = {"ssh", "local", "ansible"}  # transports of receipts from real hosts


@dataclass(frozen=True, slots=True)
class MissingRoot:
    """A root that is missing: its name and SHA-256, each empty where it is not known, and the file that shows it."""

    name: str
    fingerprint: str
    evidence: str

    @property
    def text(self) -> str:
        known = f"SHA-256 {self.fingerprint}" if self.fingerprint else ""
        if self.name:
            return f"{self.name} ({known})" if known else self.name
        return f"the root with {known}" if known else "the root"


def find_missing(inventory: Inventory, project: Store) -> tuple[MissingRoot, ...]:
    """Return the roots that are missing from `ca/`; reads `build/` only where `ca/` contains no root.

    Where pki.yaml names roots, these are the ones that count. Otherwise a certificate, CRL or receipt of a CA that is not
    a sandbox shows that there was a root.
    """
    names = project.generations("root")
    if inventory.roots:
        present = {found for name in names if (found := _fingerprint_of(project, name))}
        lost = [root for root in inventory.roots if root not in present]
        shown = {one.fingerprint: one.name for one in _trusted(project)} if lost else {}
        places = {root: f"root-{place}" for place, root in enumerate(inventory.roots, 1)}
        free = {root: name for root, name in places.items() if name not in names}
        return tuple(MissingRoot(shown.get(root) or free.get(root, ""), root, "pki.yaml") for root in lost)
    return () if names else shown_roots(inventory, project)


def shown_roots(inventory: Inventory, project: Store) -> tuple[MissingRoot, ...]:
    """Return the roots that are not a sandbox's and that `build/`, or a restore that was interrupted, shows."""
    sources: tuple[Callable[[], Iterator[MissingRoot]], ...] = (
        lambda: _trusted(project),
        lambda: _moved_aside(project),
        lambda: receipts(project),
        lambda: _crls(project),
        lambda: _leaves(project),
        lambda: _delivered(project, inventory.organisation),
    )
    for source in sources:
        if found := {(one.fingerprint, one.name): one for one in source()}:
            return tuple(found.values())
    return ()


def receipts(project: Store, *, real_hosts: bool = False) -> Iterator[MissingRoot]:
    """Roots that receipts name: of all hosts, or of `real_hosts`, which were deployed by ssh or on this machine."""
    for path in sorted((project.build / "receipts").glob("*.json")):
        with suppress(ValueError, AttributeError, TypeError, RecursionError):
            receipt = json.loads(_content(path))
            if not real_hosts or receipt.get("transport") in DEPLOYED:
                for fingerprint, subject in (receipt.get("roots") or {}).items():
                    if SANDBOX not in subject:
                        yield MissingRoot(_generation(subject), fingerprint, project.shown(path))


def refusal(missing: tuple[MissingRoot, ...], inventory: Inventory, project: Store) -> PkiError:
    """What every command that writes says: what is missing, what brings it back, and how a copy starts again."""
    named = [one for one in missing if one.evidence == "pki.yaml"]
    if named:
        text = f"{_listed(named)} is missing: pki.yaml names it (roots), and ca/ does not contain it"
        others = [
            f"{name} (SHA-256 {found})"
            for name in project.generations("root")
            if (found := _fingerprint_of(project, name)) and found not in inventory.roots
        ]
        text += f"; ca/ contains {', '.join(others)}" if others else ""
    else:
        there = "ca/ contains no root" if not project.generations("root") else "ca/ contains a sandbox"
        text = f"{_listed(missing)} is missing: {missing[0].evidence} shows it, and {there}"
    if inventory.sandbox:
        text += "; sandbox: true is refused"
    hint = str(RESTORE)
    if has_named_root(inventory, project):
        hint += f"\nwhere no backup has it, the vault has: {HAND_OUT}; then: {ACCEPT}"
    return PkiError(
        text, f"{hint}\nto start again with a new CA, remove these in a copy: {_removed(inventory, project)}"
    )


def has_named_root(inventory: Inventory, project: Store) -> bool:
    """Whether `ca/` contains a root that pki.yaml names."""
    return any(_fingerprint_of(project, name) in inventory.roots for name in project.generations("root"))


def _listed(missing: tuple[MissingRoot, ...] | list[MissingRoot]) -> str:
    return ", ".join(one.text for one in missing)


def _removed(inventory: Inventory, project: Store) -> str:
    """What shows that there was a CA, or holds its secrets."""
    items = [project.home / RESTORING, *sorted(project.home.glob(f"{BEFORE_RESTORE}*"))]
    items = [project.ca, project.build, *items, project.home / inventory.secrets.file]
    there = [f"{project.shown(path)}{'/' if path.is_dir() else ''}" for path in items if path.exists()]
    there = ["`roots:` in pki.yaml", *there] if inventory.roots else there
    return ", ".join(there if inventory.ledger == "sqlite" else [*there, "the database of `ledger:` in pki.yaml"])


# -- what shows a root ------------------------------------------------------------------------------------------------


def _fingerprint_of(project: Store, name: str) -> str:
    """SHA-256 of a root in `ca/`; empty for a file that is no certificate."""
    with suppress(ValueError):
        return _sha256(x509.load_pem_x509_certificate(_content(project.authority_file(name, "cert.pem"))))
    return ""


def _trusted(project: Store) -> Iterator[MissingRoot]:
    """Roots that others are told to trust."""
    for path in sorted((project.build / "trust").glob("root-*.crt")):
        with suppress(ValueError):
            yield from _roots([x509.load_der_x509_certificate(_content(path))], project.shown(path), path.stem)
    for path in sorted((project.build / "trust").glob("*.pem")):
        yield from _roots(_certificates(path), project.shown(path))


def _moved_aside(project: Store) -> Iterator[MissingRoot]:
    """Roots that a restore moved aside, or was about to place."""
    for folder in (f"{BEFORE_RESTORE}*", RESTORING):
        for path in sorted(project.home.glob(f"{folder}/ca/root/root-*/cert.pem")):
            yield from _roots(_certificates(path), project.shown(path), path.parent.name)


def _crls(project: Store) -> Iterator[MissingRoot]:
    for path in sorted((project.build / "crl").glob("*.*")):
        if GENERATION.fullmatch(path.stem):
            load = x509.load_der_x509_crl if path.suffix == ".crl" else x509.load_pem_x509_crl
            with suppress(ValueError):
                yield from _issuers([load(_content(path)).issuer], project.shown(path))


def _leaves(project: Store) -> Iterator[MissingRoot]:
    for path in sorted((project.build / "certs").glob("*/*.pem")):
        yield from _issuers([one.issuer for one in _certificates(path)], project.shown(path))


def _delivered(project: Store, organisation: str) -> Iterator[MissingRoot]:
    """Certificates of our own in what hosts got: a template may hold any other certificate."""
    for folder in ("release", "history", "hosts"):
        for path in sorted((project.build / folder).rglob("*")):
            certificates = _certificates(path)
            ours = [one for one in certificates if organisation in _values(one.issuer, NameOID.ORGANIZATION_NAME)]
            yield from _issuers([one.issuer for one in ours], project.shown(path))


def _roots(certificates: list[x509.Certificate], shown: str, name: str = "") -> Iterator[MissingRoot]:
    for one in certificates:
        if one.subject == one.issuer and SANDBOX not in one.subject.rfc4514_string():
            yield MissingRoot(name or _generation(_common_name(one.subject)), _sha256(one), shown)


def _issuers(names: list[x509.Name], shown: str) -> Iterator[MissingRoot]:
    """What issuers tell: that there was a root, whose name is known where it issued by itself."""
    for name in names:
        common_name = _common_name(name)
        if CA_NAME.search(common_name) and SANDBOX not in name.rfc4514_string():
            generation = _generation(common_name)
            yield MissingRoot(generation if GenerationName.parse(generation).is_root else "", "", shown)


def _certificates(path: Path) -> list[x509.Certificate]:
    found = []
    for section in pem.sections(_content(path), "CERTIFICATE"):
        with suppress(ValueError):
            found.append(x509.load_pem_x509_certificate(section.whole))
    return found


def _content(path: Path) -> bytes:
    """The content of a file; of nothing else, for which a reader might wait."""
    return filesystem.read_if_possible(path) or b""


def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _generation(common_name: str) -> str:
    """`root-1` for `Example Lab Root CA 1`; empty for any other name."""
    found = CA_NAME.search(common_name)
    return GenerationName(found[1].lower(), int(found[2])) if found else ""


def _common_name(name: x509.Name) -> str:
    return next(iter(_values(name, NameOID.COMMON_NAME)), "")


def _values(name: x509.Name, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(kind)]
