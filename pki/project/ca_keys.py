"""The private keys of the authorities, decrypted: from `ca/`, from a PKCS#11 token, or from an adopted CA's folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError, exposed_secret
from pki.common.remedies import RESTORE, here
from pki.config.authority_rules import AdoptedRule
from pki.config.identifiers import GenerationName
from pki.project import adopted_ca
from pki.project.generations import Generation, damage_error
from pki.project.layout import Store
from pki.project.secrets import Passphrase, Passphrases
from pki.x509 import canonical, pkcs11
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey, open_key, public_der
from pki.x509.pkcs8 import is_whole


@dataclass
class KeyRing:
    """The decrypted keys of one run, each decrypted once: trying a passphrase takes 0.1 s."""

    store: Store
    passphrases: Passphrases
    adopted: dict[str, AdoptedRule]
    open_faults: dict[str, PkiError] = field(default_factory=dict)  # by generation whose key could not be opened
    _issuers: dict[str, Issuer | PkiError] = field(default_factory=dict)

    def issuer(self, generation: Generation) -> Issuer:
        """Return a generation with its key, which is decrypted once.

        Raises PkiError with the command that fixes what is missing.
        """
        if generation.fingerprint not in self._issuers:
            try:
                self._issuers[generation.fingerprint] = self.open(generation)
            except PkiError as error:
                self._issuers[generation.fingerprint] = error
        issuer = self._issuers[generation.fingerprint]
        if isinstance(issuer, PkiError):
            raise PkiError(issuer.message, issuer.hint, issuer.code, about=issuer.about)
        return issuer

    def open(self, generation: Generation) -> Issuer:
        """Return a generation with its key, which is decrypted now."""
        try:
            return self._opened(generation)
        except PkiError as error:
            error.about = error.about or generation.name
            self.open_faults[generation.name] = error
            raise

    def fault(self, name: str) -> PkiError | None:
        """Return what is wrong with the key of an intermediate, or None. Checks only what needs no passphrase."""
        if self.store.authority_file(name, "key.uri").exists():
            return None
        path = self.store.authority_file(name, "key.pem")
        try:
            data, shown = filesystem.read(path), self.store.shown(path)
        except PkiError as error:  # unreadable, or not a regular file
            return PkiError(error.message, f"{error.hint}; then: {self.lost_key_remedy(name)}")
        if state := _key_file_state(data):
            return PkiError(f"{shown}: the key of {name} is {state}", self.lost_key_remedy(name))
        if (filesystem.mode_of(path) or 0) & 0o077:
            return exposed_secret(shown)
        return self.passphrases.fault([name], shown)

    def from_pem(self, name: str, data: bytes, shown: str) -> PrivateKey:
        """Return the key of a generation from its PEM; tries each passphrase that is stored for it."""
        passphrases = self.passphrases.candidates(name)
        for passphrase in passphrases[:-1]:
            with suppress(PkiError):  # the next passphrase may be right
                return open_key(data, passphrase.value, shown, passphrase.source)
        last = passphrases[-1].value if passphrases else None  # its error is reported
        try:
            return open_key(data, last, shown, self.passphrases.source_of(name))
        except PkiError as error:
            hint = "; ".join(filter(None, [error.hint, self.lost_key_remedy(name)]))
            raise PkiError(error.message, hint, error.code) from None

    def lost_key_remedy(self, name: str) -> str:
        """Return how to continue without the key of an intermediate: a backup, else a ceremony for its successor."""
        if not self.store.authority_file(name, "cert.pem").exists():
            return str(RESTORE)  # not certified yet: no certificate depends on the key
        request = here("invoke", "ceremony.request", "--revoke", name, "--reason", "superseded")
        return f"{RESTORE}; if no backup has the key, a ceremony replaces it: {request}"

    def pin(self, name: str) -> Passphrase:
        """Return the PIN of the token with a generation's key, stored under its name or its authority's."""
        authority = GenerationName.parse(name).authority
        for secret_name in (name, authority):
            pins = self.passphrases.candidates(secret_name)
            if pins:
                return pins[0]
        source = self.passphrases.source_of(name)
        raise PkiError(f"{source}: holds no PIN for the token of {name}", f"add it there, as {authority}: PIN")

    def adopted_files(self, name: str) -> tuple[Path, Path]:
        """Return certificate and key file of an adopted authority."""
        return adopted_ca.adopted_files(self.store, self.adopted[name])

    def _opened(self, generation: Generation) -> Issuer:
        if generation.name in self.adopted:
            return self._open_adopted(generation)
        uri = filesystem.read(self.store.authority_file(generation.name, "key.uri"))
        if uri is not None:
            pin = self.pin(generation.name)
            token_key = pkcs11.open_key(pkcs11.parse(uri.decode().strip()), pin.value, pin.source)
            return Issuer(generation.certificate, token_key)
        if fault := self.fault(generation.name):
            raise fault
        path = self.store.authority_file(generation.name, "key.pem")
        key = self.from_pem(generation.name, filesystem.read(path) or b"", self.store.shown(path))
        if public_der(key.public_key()) != public_der(generation.certificate.public_key()):
            raise damage_error(self.store.shown(path), f"its key is not that of {generation.name}")
        return Issuer(generation.certificate, key)

    def _opened_adopted(self, name: str, data: bytes, shown: str) -> PrivateKey:
        """Decrypt a key of an adopted CA. Only its owner knows the passphrase, and no backup contains it."""
        passphrases, source = self.passphrases.candidates(name), self.passphrases.source_of(name)
        try:
            return open_key(data, passphrases[0].value if passphrases else None, shown, source)
        except PkiError as error:
            line = f"{source}: {name}: PASSPHRASE"
            if not passphrases:
                hint = f"write into {line}; or name where it comes from in pki.yaml: secrets: {{{name}: prompt}}"
            elif self.passphrases.is_elsewhere(name):
                hint = f"correct what {source} holds for {name}"
            else:
                hint = f"correct it in {line}"
            raise PkiError(error.message, f"{error.hint}; {hint}" if error.hint else hint) from None

    def _open_adopted(self, generation: Generation) -> Issuer:
        certificate, path = self.adopted_files(generation.name)
        shown = self.store.shown(path)
        adopted_ca.check(generation.certificate, self.store.shown(certificate))
        data = filesystem.read(path)
        if data is None:
            raise PkiError(
                f"{shown}: the key of {generation.name} is missing", "put it there, or restore it from a backup"
            )
        if (filesystem.mode_of(path) or 0) & 0o077:
            raise exposed_secret(shown)
        if b"ENCRYPTED" in data:  # in the label of PKCS#8, and in a header of the older format of OpenSSL
            return Issuer(generation.certificate, self._opened_adopted(generation.name, data, shown))
        return Issuer(generation.certificate, open_key(data, None, shown, ""))


def _key_file_state(data: bytes | None) -> str:
    """Return why a file is not an encrypted key: missing, not encrypted or damaged.

    Returns "" if it looks intact; only its passphrase can show more.
    """
    if data is None:
        return "missing"
    if canonical.read_key(data):
        return "not encrypted"
    return "" if is_whole(data) and canonical.is_encrypted_key(data) else "damaged"
