"""The keys that sign: each is opened only while clock and ledger can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from pki.common.errors import PkiError
from pki.project.authorities import Authorities
from pki.project.ca_keys import KeyRing
from pki.project.generations import Generation
from pki.x509.certificate_signing import Issuer


@dataclass
class SigningKeys:
    """The authorities with their keys. The checks raise PkiError where nothing may be signed."""

    authorities: Authorities
    keys: KeyRing
    check_clock: Callable[[], None]
    check_ledger: Callable[[], None]
    _can_sign: dict[str, bool] = field(default_factory=dict)

    def issuer(self, authority: str) -> Issuer:
        """Return the signing generation of an authority with its key.

        Raises PkiError with the command that fixes what is missing.
        """
        self.check_clock()
        signing = self.authorities.issuing(authority)
        if signing is None:
            raise self.authorities.missing_authority(authority)
        self.check_ledger()
        return self.keys.issuer(signing)

    def crl_issuer(self, generation: Generation) -> Issuer:
        """Return a generation, also an older one, with its key, for signing a CRL.

        Raises PkiError with the command that fixes what is missing.
        """
        self.check_clock()
        self.check_ledger()
        return self.keys.open(generation)

    def can_sign(self, name: str) -> bool:
        """Return whether the key of a generation can be decrypted.

        A passphrase from a source other than the secrets file is not read. The answer is then whether the key file looks
        intact.
        """
        if name not in self._can_sign:
            self._can_sign[name] = self._opens(name)
        return self._can_sign[name]

    def _opens(self, name: str) -> bool:
        generation = self.authorities.generation(name)
        if generation is None or name in self.keys.adopted:
            return True
        with suppress(PkiError):
            if self.keys.fault(name) is None:
                in_file = self.keys.store.authority_file(name, "key.pem").exists()
                return not in_file or self.keys.passphrases.is_elsewhere(name) or bool(self.keys.issuer(generation))
        return False

    def generations(self, authority: str) -> list[Generation]:
        """Return the generations that sign certificates or CRLs now, oldest first: each one until it expires or is revoked.

        The clock alone decides what has expired. Unlike `Authorities.live`, this opens no ledger, because checks of keys
        run also where the ledger cannot be opened.
        """
        issuing = self.authorities.issuing(authority)
        names = self.authorities.store.generations(authority)
        existing = [generation for name in names if (generation := self.authorities.generation(name))]
        return [
            generation
            for generation in existing
            if generation == issuing
            or (generation.not_after > self.authorities.now and not self.authorities.is_revoked_by_root(generation))
        ]

    @cached_property
    def cached_faults(self) -> dict[str, PkiError]:
        """Return the result of `faults`, computed once."""
        return self.faults()

    def faults(self) -> dict[str, PkiError]:
        """Return what is wrong with keys that sign or wait for a ceremony, by generation.

        An older generation still signs its CRL. Only what shows without a passphrase, and what this run found when it
        decrypted keys.
        """
        signing = [
            generation.name for authority in ("server", "client", "peer") for generation in self.generations(authority)
        ]
        names = [*signing, *self.keys.store.prepared()]
        faults: dict[str, PkiError] = {name: fault for name in names if (fault := self.keys.fault(name))}
        return {
            **faults,
            **{name: fault for name, fault in self.keys.open_faults.items() if name not in self.keys.adopted},
        }
