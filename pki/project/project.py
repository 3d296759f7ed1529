"""One project at one moment: its configuration, its files, its authorities and their keys, its ledger and its clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, TypeVar

from pki.common import state_format
from pki.common.cache import Cache
from pki.common.child_processes import LIBPQ_PASSWORD, remove_from_environment
from pki.common.errors import LedgerError
from pki.common.template_folders import TemplateFolders
from pki.config import loader
from pki.config.fields import LEDGER_IN_SECRETS
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.ledger import last_seen
from pki.ledger.types import Ledger
from pki.project import machine_guard
from pki.project.authorities import Authorities
from pki.project.ca_keys import KeyRing
from pki.project.clock_guard import ClockGuard, Evidence
from pki.project.host_decisions import HostDecisions
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.project_templates import templates_of
from pki.project.root_check import RootCheck
from pki.project.run_state import RunState
from pki.project.safe_directories import check_owner
from pki.project.secrets import Passphrases, ledger_url
from pki.project.signing_keys import SigningKeys


class Endable(Protocol):
    """A resource that `Project.close` ends."""

    def end(self) -> None: ...


E = TypeVar("E", bound=Endable)


@dataclass
class Project:
    """The parts of one project, each created when it is first used. A function takes the parts that it needs.

    The parts need one another in a circle: the authorities take damaged certificates from the ledger, the ledger may
    only be created while no root is missing, and the roots are among the authorities. So some parts get a function that returns the other part when
    it is called (the lambdas below), instead of the part.
    """

    inventory: Inventory
    store: Store
    now: datetime
    cache: Cache
    passphrases: Passphrases
    evidence: Callable[[Project], Evidence] | None = None  # other clocks, to confirm ours; default: only the kernel's
    run: RunState = field(default_factory=RunState)
    upgrades_ledger: bool = False
    _at_end: list[Endable] = field(default_factory=list, init=False)

    @classmethod
    def open(
        cls,
        home: Path,
        now: datetime,
        evidence: Callable[[Project], Evidence] | None = None,
        *,
        upgrades_ledger: bool = False,
    ) -> Project:
        """Open the project in the folder `home`; upgrade the ledger of an older version first, or not before it is written.

        Raises InventoryError with every fault in pki.yaml, and PkiError where another account owns the project, or a
        newer program has changed it in a way that this one does not know.
        """
        check_owner(home)
        state_format.check(home / "ca")
        path, cache = home / "pki.yaml", Cache(home, now)
        data = loader.read(path)
        digest = hashlib.sha256(data).hexdigest()  # the cache is keyed by the code already
        config = loader.parse_valid(tree) if (tree := cache.recall("pki.yaml", digest)) is not None else None
        if config is None:
            config, tree = loader.load_with_tree(path, data)
            cache.remember("pki.yaml", digest, [], tree)
        store = Store(home)
        if config.ledger.startswith("postgresql"):
            remove_from_environment([LIBPQ_PASSWORD])
        return cls(
            config, store, now, cache, Passphrases(store, config.secrets), evidence, upgrades_ledger=upgrades_ledger
        )

    @cached_property
    def clock(self) -> ClockGuard:
        """Return the guard of the clock, which is asked before anything is signed or recorded."""
        evidence = partial(self.evidence, self) if self.evidence else None
        return ClockGuard(self.now, lambda: self.ledger_view.last_event(), evidence)  # noqa: PLW0108 - the view needs the clock

    def _check_writing(self) -> None:
        """Raise PkiError if nothing may be recorded because of the clock, or because another machine runs doit."""
        self.clock.check()
        machine_guard.guard_of(self.ledger_view, self.now).check_writing()

    @cached_property
    def templates(self) -> TemplateFolders:
        """Return the templates that the project uses: its own, and those of the program."""
        return templates_of(self.inventory, self.store)

    @cached_property
    def authorities(self) -> Authorities:
        """Return the certificates of the authorities, and their pre-signed CRLs."""
        return Authorities(self.inventory, self.store, self.now, self._recorded_certificates, self.clock.has_passed)

    @cached_property
    def roots(self) -> RootCheck:
        """Return the check that no root is missing."""
        return RootCheck(self.inventory, self.store, self.cache, self.authorities)

    @cached_property
    def ledger_view(self) -> LedgerView:
        """Return the ledger with its cache and its guard."""
        return LedgerView(
            self.inventory,
            self.store,
            self.cache,
            self._check_writing,
            self._ledger_address,
            lambda: self.roots.check(),  # noqa: PLW0108 - the roots need the authorities
            lambda: self.authorities,
            self.upgrades_ledger,
        )

    @property
    def ledger(self) -> Ledger:
        """Return the opened ledger. Raises PkiError where a root is missing and opening it would create a new one."""
        return self.ledger_view.ledger

    @cached_property
    def revocations(self) -> Revocations:
        """Return the revocations in the ledger."""
        return Revocations(self.ledger_view, self.now)

    @cached_property
    def host_decisions(self) -> HostDecisions:
        """Return the decisions about hosts in the ledger."""
        return HostDecisions(self.ledger_view, self.cache, self.now)

    @cached_property
    def keys(self) -> KeyRing:
        """Return the private keys of the authorities."""
        return KeyRing(self.store, self.passphrases, self.inventory.authorities.adopted)

    @cached_property
    def signing_keys(self) -> SigningKeys:
        """Return the keys for signing, which clock and ledger guard."""
        return SigningKeys(self.authorities, self.keys, self.clock.check, self.ledger_view.check)

    def _ledger_address(self) -> str:
        """Return `sqlite` or the URL of the ledger's database. Raises PkiError if the secret with the URL is missing."""
        if self.inventory.ledger != LEDGER_IN_SECRETS:
            return self.inventory.ledger
        return ledger_url(self.passphrases)

    def _recorded_certificates(self, authority: str) -> list[bytes]:
        """Return the certificates of an authority in the ledger, as PEM; none where it cannot be read."""
        if not (self.store.ca / last_seen.PROJECT_ID).exists():  # opening the ledger might create the file
            return []
        try:
            if not self.ledger_view.has_ledger:
                return []
            recorded = self.ledger.certificates(artifact=ArtifactId("authority", authority))
        except LedgerError:
            return []
        return [certificate.pem.encode() for certificate in recorded]

    def expect_roots(self) -> None:
        """Permit missing roots, because a response that contains all of them is about to be stored."""
        self.roots.expect()
        self.forget_ledger_state()

    def forget_ledger_state(self) -> None:
        """Forget what is cached of the ledger, after events were recovered or a loss was accepted."""
        self.ledger_view.forget_state()
        self.host_decisions.read_again()
        self.revocations.read_again()

    def close_at_end(self, resource: E) -> E:
        """Register a resource that `close` ends, and return it."""
        self._at_end.append(resource)
        return resource

    def close(self, *, run_succeeded: bool) -> None:
        """Close the ledger and cache what the next run needs of it.

        `run_succeeded` means that the run acted on every event in the ledger. Revocations, decisions and the
        last event are cached, because every process that deploys would have to open the ledger for them.
        """
        self.revocations.remember()
        self.host_decisions.remember()
        if self.ledger_view.has_ledger:
            self.ledger_view.remember_state(run_succeeded=run_succeeded)
        if self.ledger_view.is_open:
            self.ledger_view.last_event()  # this caches it
        self.ledger_view.close()
        for resource in self._at_end:
            resource.end()
