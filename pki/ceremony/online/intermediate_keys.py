"""Create the key and the certificate request of an intermediate that a ceremony is to certify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.ceremony.online import ceremony_archive
from pki.ceremony.request_response import Request, RequestedIntermediate
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import RESTORE, in_project, run_for
from pki.config.identifiers import GenerationName
from pki.project.ca_keys import KeyRing
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import certificate_signing, keys, pkcs11


@dataclass(frozen=True, slots=True)
class IntermediateKeys:
    """The keys of new intermediates: new, or kept from an earlier request."""

    project: Project

    def prepare_certificate_request(self, name: str, common_name: str) -> bytes:
        """Return the certificate request (CSR, PEM) of a planned generation. Creates its key if there never was one.

        Raises PkiError when the key is missing or damaged, or the generation was certified before: a lost key is never
        replaced silently.
        """
        path = self.project.store.authority_file(name, "request.pem")
        present_csr = filesystem.read(path)
        has_key = any(self.project.store.authority_file(name, file).exists() for file in ("key.pem", "key.uri"))
        if present_csr is not None and (fault := self.project.keys.fault(name)):
            raise PkiError(fault.message, lost_key_hint(self.project.store, name, fault.hint))
        if present_csr is not None and has_key and _has_common_name(present_csr, common_name):
            return present_csr
        key = self._existing_key(self.project.keys, name) if has_key else self._new_key(name)
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            certificate_signing.subject_name(self.project.inventory.organisation, common_name)
        )
        csr = builder.sign(key, keys.signature_hash(key)).public_bytes(Encoding.PEM)
        filesystem.write(path, csr)
        return csr

    def _new_key(self, name: str) -> keys.PrivateKey:
        """Create a key in a token, or in a file under a new passphrase; the file is opened again to verify it."""
        self._check_uncertified(name)
        rule = self.project.inventory.authorities.intermediate(GenerationName.parse(name).authority)
        if rule.token:
            return self._key_in_token(self.project.keys, name, rule.token, rule.key)
        path = self.project.store.authority_file(name, "key.pem")
        passphrase = self.project.passphrases.new(name)
        filesystem.write(path, keys.encrypted_pem(keys.new_key(rule.key), passphrase), filesystem.SECRET)
        return self.project.keys.from_pem(name, filesystem.read(path) or b"", self.project.store.shown(path))

    def _existing_key(self, key_ring: KeyRing, name: str) -> keys.PrivateKey:
        """Return the key of an interrupted run that wrote no request, or whose request has another name."""
        self._check_uncertified(name)
        uri = filesystem.read(self.project.store.authority_file(name, "key.uri"))
        if uri is not None:
            return self._key_in_token(
                key_ring,
                name,
                uri.decode().strip(),
                self.project.inventory.authorities.intermediate(GenerationName.parse(name).authority).key,
            )
        path = self.project.store.authority_file(name, "key.pem")
        try:
            return key_ring.from_pem(name, filesystem.read(path) or b"", self.project.store.shown(path))
        except PkiError as error:
            raise PkiError(error.message, lost_key_hint(self.project.store, name, error.hint)) from None

    def _check_uncertified(self, name: str) -> None:
        """Raise PkiError for a generation that was certified before: its key is in use, or lost."""
        if self.project.store.authority_file(name, "cert.pem").exists():
            raise PkiError(f"{name}: has a certificate already", "./run invoke status")
        if name in ceremony_archive.certified_generations(self.project.store, self.project.ledger_view):
            raise PkiError(
                f"ca/{GenerationName.parse(name).authority}/{name}/: is missing, and {name} was certified", RESTORE
            )

    def _key_in_token(self, key_ring: KeyRing, name: str, address: str, kind: str) -> keys.PrivateKey:
        """Return a key in a token, created if missing; `key.uri` gets its address."""
        uri = pkcs11.parse(address).with_object(name)
        pin = key_ring.pin(name)
        filesystem.write(self.project.store.authority_file(name, "key.uri"), f"{uri}\n".encode())
        try:
            return pkcs11.open_key(uri, pin.value, pin.source)  # an interrupted run created it
        except PkiError:
            return pkcs11.generate(uri, pin.value, kind, pin.source)


def lost_key_hint(store: Store, name: str, hint: str) -> str:
    """Return the hint for a lost key of a generation that is not certified yet."""
    folder = in_project(store.shown(store.authority_file(name, "key.pem").parent))
    return f"{hint}; without a backup: mv {folder} {folder}.lost, then: {run_for(store.home)} invoke ceremony.request --drop-earlier"


def has_requested_key(store: Store, requested: RequestedIntermediate) -> bool:
    """Return whether the key in `ca/` is the one that a request asks to certify."""
    present_csr = filesystem.read(store.authority_file(requested.name, "request.pem"))
    return present_csr is not None and _public_key(present_csr) == _public_key(requested.request.encode())


def faults(store: Store, key_ring: KeyRing, request: Request) -> Iterator[str]:
    """Yield where the keys in a request are not those in `ca/`. The keys of external authorities never are."""
    for requested in request.intermediates:
        if requested.is_external:
            continue
        if fault := key_ring.fault(requested.name):
            yield f"{fault.message} ({lost_key_hint(store, requested.name, fault.hint)})"
        elif not has_requested_key(store, requested):
            yield f"{requested.name}: the key in ca/ is not the certified one ({RESTORE})"


def _public_key(csr: bytes) -> bytes:
    """Return the public key of a certificate request, or b"" if the request is damaged."""
    try:
        return keys.public_der(x509.load_pem_x509_csr(csr).public_key())
    except ValueError:
        return b""


def _has_common_name(csr: bytes, common_name: str) -> bool:
    try:
        csr_object = x509.load_pem_x509_csr(csr)
    except ValueError:
        return False
    return any(attribute.value == common_name for attribute in csr_object.subject)
