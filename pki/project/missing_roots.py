"""Find roots that are missing in `ca/`: pki.yaml names them, or files below `build/` show that they existed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
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

GENERATION = re.compile(r"(root|server|client|root-peer|peer)-[0-9]+")
RESPONSE_FOLDER = "DIR/response-NNNN"
HAND_OUT = Remedy(
    "sh run invoke ceremony.sign DIR/ceremonies/NNNN/request.yaml --vault DIR --output DIR",
    Place.OFFLINE,
    before="with its highest NNNN, ",
)
ACCEPT = here("invoke", "ceremony.accept", RESPONSE_FOLDER, placeholders=[RESPONSE_FOLDER])
DEPLOYED = {"ssh", "local", "ansible"}  # transports of receipts from real hosts


@dataclass(frozen=True, slots=True)
class MissingRoot:
    """A missing root: its name and SHA-256, each "" if unknown, and the file that shows that the root existed."""

    name: str
    fingerprint: str
    evidence: str

    @property
    def text(self) -> str:
        """Return name and fingerprint, as far as they are known."""
        digest = f"SHA-256 {self.fingerprint}" if self.fingerprint else ""
        if self.name:
            return f"{self.name} ({digest})" if digest else self.name
        return f"the root with {digest}" if digest else "the root"


def find_missing(inventory: Inventory, store: Store) -> tuple[MissingRoot, ...]:
    """Return the roots that are missing from `ca/`. Reads `build/` only where `ca/` contains no root.

    Where pki.yaml names roots, these count. Otherwise a certificate, CRL or receipt of a CA that is not a sandbox CA
    shows that there was a root.
    """
    names = store.roots()
    if inventory.roots:
        present_fingerprints = {_fingerprint_of(store, name) for name in names}
        missing_roots = [root for root in inventory.roots if root not in present_fingerprints]
        names_in_files = {root.fingerprint: root.name for root in _trusted(store)} if missing_roots else {}
        # pki.yaml lists the roots in the order of their generations: the position gives the name, unless it is in use
        # only where no root of clusters can be among them
        in_order = () if inventory.authorities.peer else inventory.roots
        names_by_position = {root: f"root-{number}" for number, root in enumerate(in_order, 1)}
        unused_names = {root: name for root, name in names_by_position.items() if name not in names}
        return tuple(
            MissingRoot(names_in_files.get(root) or unused_names.get(root, ""), root, "pki.yaml")
            for root in missing_roots
        )
    return () if names else roots_shown_by_files(inventory, store)


def roots_shown_by_files(inventory: Inventory, store: Store) -> tuple[MissingRoot, ...]:
    """Return the roots of a CA in production that `build/`, or an interrupted restore, shows.

    The sources are in the order of what they know of a root. The first source that shows a root is used alone.
    """
    sources: tuple[Callable[[], Iterator[MissingRoot]], ...] = (
        lambda: _trusted(store),
        lambda: _moved_aside(store),
        lambda: roots_in_receipts(store),
        lambda: _crls(store),
        lambda: _leaves(store),
        lambda: _delivered(store, inventory.organisation),
    )
    for source in sources:
        roots = {(root.fingerprint, root.name): root for root in source()}
        if roots:
            return tuple(roots.values())
    return ()


def roots_in_receipts(store: Store, *, real_hosts: bool = False) -> Iterator[MissingRoot]:
    """Yield the roots that receipts name.

    With `real_hosts` only receipts of hosts that were deployed by ssh, by Ansible or on this machine are read.
    """
    for path in sorted((store.build / "receipts").glob("*.json")):
        with suppress(ValueError, AttributeError, TypeError, RecursionError):  # a damaged receipt shows nothing
            receipt = json.loads(_content(path))
            if not real_hosts or receipt.get("transport") in DEPLOYED:
                for fingerprint, subject in (receipt.get("roots") or {}).items():
                    if SANDBOX not in subject:
                        yield MissingRoot(_generation(subject), fingerprint, store.shown(path))


def refusal(missing: tuple[MissingRoot, ...], inventory: Inventory, store: Store) -> PkiError:
    """Return the error of every command that writes: which root is missing, how to restore it, how to start again."""
    named = [root for root in missing if root.evidence == "pki.yaml"]
    if named:
        text = f"{_joined(named)} is missing: pki.yaml names it (roots), and ca/ does not contain it"
        fingerprints = {name: _fingerprint_of(store, name) for name in store.roots()}
        others = [
            f"{name} (SHA-256 {fingerprint})"
            for name, fingerprint in fingerprints.items()
            if fingerprint and fingerprint not in inventory.roots
        ]
        text += f"; ca/ contains {', '.join(others)}" if others else ""
    else:
        present = "ca/ contains a sandbox" if store.generations("root") else "ca/ contains no root"
        text = f"{_joined(missing)} is missing: {missing[0].evidence} shows it, and {present}"
    if inventory.sandbox:
        text += "; sandbox: true is refused"
    hint = str(RESTORE)
    if has_named_root(inventory, store):
        hint += f"\nif no backup contains it, the vault does: {HAND_OUT}; then: {ACCEPT}"
    return PkiError(
        text, f"{hint}\nto start again with a new CA, remove these in a copy: {_files_of_old_ca(inventory, store)}"
    )


def has_named_root(inventory: Inventory, store: Store) -> bool:
    """Return whether `ca/` contains a root that pki.yaml names."""
    return any(_fingerprint_of(store, name) in inventory.roots for name in store.roots())


def _joined(missing: Sequence[MissingRoot]) -> str:
    return ", ".join(root.text for root in missing)


def _files_of_old_ca(inventory: Inventory, store: Store) -> str:
    """Return, as text, the files that show that there was a CA, or that contain its secrets."""
    restore_folders = [store.home / RESTORING, *sorted(store.home.glob(f"{BEFORE_RESTORE}*"))]
    paths = [store.ca, store.build, *restore_folders, store.home / inventory.secrets.file]
    items = ["`roots:` in pki.yaml"] if inventory.roots else []
    items += [f"{store.shown(path)}{'/' if path.is_dir() else ''}" for path in paths if path.exists()]
    items += [] if inventory.ledger == "sqlite" else ["the database of `ledger:` in pki.yaml"]
    return ", ".join(items)


# -- what shows a root ------------------------------------------------------------------------------------------------


def _fingerprint_of(store: Store, name: str) -> str:
    """Return the SHA-256 of a root in `ca/`; "" for a file that is not a certificate."""
    with suppress(ValueError):
        return _sha256(x509.load_pem_x509_certificate(_content(store.authority_file(name, "cert.pem"))))
    return ""


def _trusted(store: Store) -> Iterator[MissingRoot]:
    """Yield the roots in the trust files."""
    for path in sorted((store.build / "trust").glob("root-*.crt")):
        with suppress(ValueError):
            yield from _roots([x509.load_der_x509_certificate(_content(path))], store.shown(path), path.stem)
    for path in sorted((store.build / "trust").glob("*.pem")):
        yield from _roots(_certificates(path), store.shown(path))


def _moved_aside(store: Store) -> Iterator[MissingRoot]:
    """Yield the roots in folders of an interrupted restore."""
    for folder in (f"{BEFORE_RESTORE}*", RESTORING):
        for path in sorted(store.home.glob(f"{folder}/ca/root*/root-*/cert.pem")):
            yield from _roots(_certificates(path), store.shown(path), path.parent.name)


def _crls(store: Store) -> Iterator[MissingRoot]:
    for path in sorted((store.build / "crl").glob("*.*")):
        if GENERATION.fullmatch(path.stem):
            load = x509.load_der_x509_crl if path.suffix == ".crl" else x509.load_pem_x509_crl
            with suppress(ValueError):
                yield from _issuers([load(_content(path)).issuer], store.shown(path))


def _leaves(store: Store) -> Iterator[MissingRoot]:
    for path in sorted((store.build / "certs").glob("*/*.pem")):
        yield from _issuers([certificate.issuer for certificate in _certificates(path)], store.shown(path))


def _delivered(store: Store, organisation: str) -> Iterator[MissingRoot]:
    """Yield the issuers of our own certificates in releases and on folder hosts.

    Only issuers with the organisation of the project count, because a template may contain any other certificate.
    """
    for folder in ("release", "history", "hosts"):
        for path in sorted((store.build / folder).rglob("*")):
            issuers = [certificate.issuer for certificate in _certificates(path)]
            own_issuers = [name for name in issuers if organisation in _values(name, NameOID.ORGANIZATION_NAME)]
            yield from _issuers(own_issuers, store.shown(path))


def _roots(certificates: list[x509.Certificate], shown: str, name: str = "") -> Iterator[MissingRoot]:
    for certificate in certificates:
        if certificate.subject == certificate.issuer and SANDBOX not in certificate.subject.rfc4514_string():
            yield MissingRoot(name or _generation(_common_name(certificate.subject)), _sha256(certificate), shown)


def _issuers(names: list[x509.Name], shown: str) -> Iterator[MissingRoot]:
    """Yield a root for each issuer that is a CA of this program. The name of the root is known only if it is the issuer."""
    for name in names:
        common_name = _common_name(name)
        if CA_NAME.search(common_name) and SANDBOX not in name.rfc4514_string():
            generation = _generation(common_name)
            yield MissingRoot(generation if GenerationName.parse(generation).is_root else "", "", shown)


def _certificates(path: Path) -> list[x509.Certificate]:
    certificates = []
    for section in pem.sections(_content(path), "CERTIFICATE"):
        with suppress(ValueError):
            certificates.append(x509.load_pem_x509_certificate(section.whole))
    return certificates


def _content(path: Path) -> bytes:
    """Return the content of a regular file; b"" for anything else, which could block a reader."""
    return filesystem.read_if_possible(path) or b""


def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _generation(common_name: str) -> str:
    """Return `root-1` for `Example Lab Root CA 1`; "" for any other name."""
    match = CA_NAME.search(common_name)
    return GenerationName(match[1].lower(), int(match[2])) if match else ""


def _common_name(name: x509.Name) -> str:
    return next(iter(_values(name, NameOID.COMMON_NAME)), "")


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]
