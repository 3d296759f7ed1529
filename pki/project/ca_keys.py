"""The keys of the authorities, opened: from `ca/`, from a token, or from an adopted CA's own folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError, exposed
from pki.common.remedies import RESTORE
from pki.config.identifiers import GenerationName
from pki.config.model import AdoptedRule
from pki.project import external_ca
from pki.project.generations import Generation, damaged
from pki.project.layout import Store
from pki.project.secrets import Passphrase, Passphrases
from pki.x509 import canonical, pkcs11
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey, open_key, public_der
from pki.x509.pkcs8 import is_whole


@dataclass
class Keys:
    """What opens keys, and each that was opened: trying a passphrase takes 0.1 s."""

    store: Store
    passphrases: Passphrases
    adopted: dict[str, AdoptedRule]
    closed: dict[str, PkiError] = field(default_factory=dict)  # generations whose key could not be opened, and why
    _issuers: dict[str, Issuer | PkiError] = field(default_factory=dict)

    def issuer(self, found: Generation) -> Issuer:
        """A generation with its key, opened once. Raises PkiError with the command that fixes what is missing."""
        if found.fingerprint not in self._issuers:
            try:
                self._issuers[found.fingerprint] = self.open(found)
            except PkiError as error:
                self._issuers[found.fingerprint] = error
        kept = self._issuers[found.fingerprint]
        if isinstance(kept, PkiError):
            raise PkiError(kept.message, kept.hint, kept.code, about=kept.about)
        return kept

    def open(self, found: Generation) -> Issuer:
        """A generation with its key, opened now."""
        try:
            return self._opened(found)
        except PkiError as error:
            error.about = error.about or found.name
            self.closed[found.name] = error
            raise

    def fault(self, name: str) -> PkiError | None:
        """What can be seen to be wrong with the key of an intermediate without its passphrase; None for nothing."""
        if self.store.authority_file(name, "key.uri").exists():
            return None
        path = self.store.authority_file(name, "key.pem")
        try:
            data, shown = filesystem.read(path), self.store.shown(path)
        except PkiError as error:  # it cannot be read, or something else is in its place
            return PkiError(error.message, f"{error.hint}; then: {RESTORE}")
        if wrong := _wrong_with(data):
            return PkiError(f"{shown}: the key of {name} is {wrong}", RESTORE)
        if (filesystem.mode_of(path) or 0) & 0o077:
            return exposed(shown)
        return self.passphrases.fault([name], shown)

    def from_pem(self, name: str, data: bytes, shown: str) -> PrivateKey:
        """The key of a generation from its PEM, under whichever of its passphrases opens it."""
        found = self.passphrases.candidates(name)
        for one in found[:-1]:
            with suppress(PkiError):
                return open_key(data, one.value, shown, one.source)
        try:
            return open_key(data, found[-1].value if found else None, shown, self.passphrases.source_of(name))
        except PkiError as error:
            hint = f"{error.hint}; {RESTORE}" if error.hint else RESTORE
            raise PkiError(error.message, hint, error.code) from None

    def pin(self, name: str) -> Passphrase:
        """The PIN of the token that holds a generation's key: by the generation's name, or by its authority's."""
        authority = GenerationName.parse(name).authority
        for known in (name, authority):
            if found := self.passphrases.candidates(known):
                return found[0]
        source = self.passphrases.source_of(name)
        raise PkiError(f"{source}: holds no PIN for the token of {name}", f"put it there, as {authority}: PIN")

    def adopted_files(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of an adopted authority, wherever its folder is."""
        folder = self.store.home / self.adopted[name].adopt
        return external_ca.files(folder, self.store.shown(folder))

    def _opened(self, found: Generation) -> Issuer:
        if found.name in self.adopted:
            return self._open_adopted(found)
        uri = filesystem.read(self.store.authority_file(found.name, "key.uri"))
        if uri is not None:
            pin = self.pin(found.name)
            token_key = pkcs11.open_key(pkcs11.parse(uri.decode().strip()), pin.value, pin.source)
            return Issuer(found.certificate, token_key)
        if fault := self.fault(found.name):
            raise fault
        path = self.store.authority_file(found.name, "key.pem")
        key = self.from_pem(found.name, filesystem.read(path) or b"", self.store.shown(path))
        if public_der(key.public_key()) != public_der(found.certificate.public_key()):
            raise damaged(self.store.shown(path), f"its key is not that of {found.name}")
        return Issuer(found.certificate, key)

    def _opened_adopted(self, name: str, data: bytes, shown: str) -> PrivateKey:
        """Open an encrypted key that was made elsewhere: only its owner knows the passphrase, and no backup has it."""
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

    def _open_adopted(self, found: Generation) -> Issuer:
        certificate, path = self.adopted_files(found.name)
        shown = self.store.shown(path)
        external_ca.check(found.certificate, self.store.shown(certificate))
        data = filesystem.read(path)
        if data is None:
            raise PkiError(f"{shown}: the key of {found.name} is not there", "put it there, or back from a backup")
        if (filesystem.mode_of(path) or 0) & 0o077:
            raise exposed(shown)
        if b"ENCRYPTED" in data:  # PKCS#8 says so in its label, OpenSSL's older form in a header
            return Issuer(found.certificate, self._opened_adopted(found.name, data, shown))
        return Issuer(found.certificate, open_key(data, None, shown, ""))


def _wrong_with(data: bytes | None) -> str:
    """What is wrong with the file of an encrypted key, as a word; "" for nothing that can be seen without its passphrase."""
    if data is None:
        return "missing"
    if canonical.read_key(data):
        return "not encrypted"
    return "" if is_whole(data) and canonical.is_encrypted_key(data) else "damaged"
