"""The roots that must be in `ca/`: those that pki.yaml names, and those that files of earlier runs show."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.config.identifiers import ALL_AUTHORITIES
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.missing_roots import MissingRoot, find_missing, has_named_root, refusal, roots_in_receipts


@dataclass
class RootCheck:
    """Decides whether a root is missing in `ca/`. If one is, nothing may be signed, and no ledger may be created."""

    inventory: Inventory
    store: Store
    cache: Cache
    authorities: Authorities

    @cached_property
    def missing(self) -> tuple[MissingRoot, ...]:
        """Return the roots that pki.yaml names, or that `build/` shows, and that `ca/` does not contain.

        With `sandbox: true`, returns also the roots under which real hosts were deployed.
        """
        missing_roots = find_missing(self.inventory, self.store)
        if missing_roots:  # a root with a damaged file is not missing if the ledger has a copy
            missing_roots = tuple(root for root in missing_roots if root.fingerprint not in self._recovered_roots())
        if missing_roots or not self.inventory.sandbox:
            return missing_roots
        folder = str(self.store.receipt("any-host").parent)
        rows = self.cache.cached("roots of real hosts", "", [folder], self._rows_of_real_hosts)
        return tuple(MissingRoot(name, fingerprint, evidence) for name, fingerprint, evidence in rows)

    def _rows_of_real_hosts(self) -> list[tuple[str, str, str]]:
        """Return the roots of real hosts as JSON stores them."""
        roots = roots_in_receipts(self.store, real_hosts=True)
        return [(root.name, root.fingerprint, root.evidence) for root in roots]

    @property
    def is_older(self) -> bool:
        """Return whether `ca/` is an older copy: it contains one root that pki.yaml names, and lacks another."""
        return not self.inventory.sandbox and bool(self.missing) and has_named_root(self.inventory, self.store)

    @property
    def awaits_first_ceremony(self) -> bool:
        """Return whether no ceremony has created an authority yet; false in a sandbox, and where a root is missing."""
        has_authorities = any(self.store.generations(authority) for authority in ALL_AUTHORITIES)
        return not (self.inventory.sandbox or has_authorities or self.missing)

    def _recovered_roots(self) -> set[str]:
        """Return the SHA-256 of the roots whose file is damaged and whose certificate the ledger has."""
        fingerprints = set[str]()
        for name in self.store.roots():
            with suppress(PkiError):  # the ledger has no copy either
                root = self.authorities.generation(name)  # fills `recovered`
                if root and name in self.authorities.recovered:
                    fingerprints.add(root.fingerprint)
        return fingerprints

    def check(self) -> None:
        """Raise PkiError where a root is missing, or a sandbox project contains a root that is not a sandbox root."""
        if self.missing:
            raise refusal(self.missing, self.inventory, self.store)
        for name in self.store.roots() if self.inventory.sandbox else ():
            root = self.authorities.generation(name)
            if root and not root.is_sandbox:
                raise PkiError(
                    f"pki.yaml says sandbox: true, and {name} in ca/ (SHA-256 {root.fingerprint}) is not a sandbox root",
                    "remove sandbox: true from pki.yaml; a sandbox needs its own folder: ./run invoke init DIR",
                )

    def expect(self) -> None:
        """Continue although roots are missing: a response that contains all of them is about to be stored."""
        self.__dict__["missing"] = ()
