"""The artifacts of the authorities, and of the request for the next ceremony."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pki.authority import ca_state
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.common.remedies import RESTORE, here
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Inventory
from pki.pipeline.artifact import Artifact
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.project import Project


def planned_generations(authorities: Authorities) -> tuple[GenerationName, ...]:
    """Return the generations that the sandbox's ceremony will create in this run.

    What depends on them is planned in the same run.
    """
    ceremony_needs = needs.find_requirements(authorities)
    if all(need.is_growth for need in ceremony_needs):
        return ()
    return tuple(needs.new_generations(ceremony_needs))


@dataclass(frozen=True, slots=True)
class AuthorityArtifacts:
    """The artifacts of authorities and requests: read from `ca/`, and in a sandbox made by its ceremony."""

    project: Project

    def authorities(self) -> Iterator[Artifact]:
        """Yield an artifact for the certificate of each authority."""
        newest = {
            authority: issuing.name
            if (issuing := self.project.authorities.issuing(authority))
            else GenerationName(authority, 1)
            for authority in AUTHORITIES
        }
        performer = next(
            (
                name
                for name in AUTHORITIES
                if self.project.authorities.planned
                and _sandbox_reasons(self.project.store, self.project.now, self.project.authorities, name)
            ),
            "",
        )
        for name in AUTHORITIES:
            key = "key.uri" if self.project.store.authority_file(newest[name], "key.uri").exists() else "key.pem"
            files = ("cert.pem",) if name == "root" else ("cert.pem", key)
            planned = [
                generation
                for generation in self.project.authorities.planned
                if name == performer and generation not in newest.values()
            ]
            yield Artifact(
                id=ArtifactId("authority", name),
                targets=(
                    *(str(self.project.store.authority_file(newest[name], file)) for file in files),
                    *(str(self.project.store.authority_file(generation, "cert.pem")) for generation in planned),
                ),
                sources=()
                if name == "root"
                else (_certificate_path(self.project.store, self.project.authorities, "root"),),
                make=partial(self._make_authority, name),
                stale=partial(
                    _authority_stale,
                    self.project.inventory,
                    self.project.store,
                    self.project.now,
                    self.project.authorities,
                    name,
                ),
                doc=f"the {name} authority, which only a ceremony (or the sandbox) creates",
            )

    def _make_authority(self, name: str) -> Outcome:
        """Restore damaged certificates from the ledger; in the sandbox perform the ceremony.

        Raises PkiError where a ceremony of the user is needed.
        """
        reasons = restored = _authority_stale(
            self.project.inventory, self.project.store, self.project.now, self.project.authorities, name
        )
        for generation in self.project.store.generations(name):
            if _damaged_certificate(self.project.store, self.project.authorities, generation):
                filesystem.write(
                    self.project.store.authority_file(generation, "cert.pem"),
                    self.project.authorities.recovered[generation],
                )
                reasons = _authority_stale(
                    self.project.inventory, self.project.store, self.project.now, self.project.authorities, name
                )
        if not reasons:
            return Outcome(Verb.UPDATED, tuple(restored))
        created = Outcome(Verb.CREATED)
        if self.project.inventory.sandbox:
            if not self.project.store.generations("root"):
                created = Outcome(Verb.CREATED, (_nothing_before(self.project.authorities),))
            from pki.ceremony.online import sandbox_ceremony  # noqa: PLC0415 - takes long, and most runs need none

            sandbox_ceremony.perform_ceremony(self.project)
            reasons = ca_state.stale_reasons(self.project.now, self.project.authorities, name)
        if reasons and (issuing := self.project.authorities.issuing(name)) is None:
            raise self.project.authorities.missing_authority(name)
        if reasons:
            if issuing and issuing.certificate.not_valid_after_utc < self.project.now:
                self.project.clock.check()  # with a wrong clock a ceremony does not help
            is_lost = (
                reasons[0].code is not Why.AUTHORITY_EXPIRED
            )  # no backup contains a newer one of an expired authority
            request = here(
                "invoke", "ceremony.request", home=self.project.store.home, before=f"{RESTORE}, or: " if is_lost else ""
            )
            raise PkiError(f"{reasons[0]}; needs a ceremony", request)
        return created

    def requests(self) -> Iterator[Artifact]:
        """Yield the request for the ceremony that is needed next; the sandbox performs its own ceremonies."""
        if not self.project.inventory.sandbox:
            yield Artifact(
                id=ArtifactId("ceremony", "request"),
                targets=(),
                sources=(),
                make=partial(self._make_request),
                stale=partial(
                    _request_stale,
                    self.project.inventory,
                    self.project.store,
                    self.project.now,
                    self.project.authorities,
                ),
                doc="the request for the next root ceremony, with the keys to certify",
            )

    def _make_request(self) -> Outcome:
        from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

        if needs.find_requirements(self.project.authorities):
            make_request.RequestPreparation(self.project).prepare()
        return Outcome(Verb.CREATED)


def _nothing_before(authorities: Authorities) -> Reason:
    """Return why the first ceremony of a sandbox creates all authorities."""
    return Why.NO_GENERATIONS(names=", ".join(need.what for need in needs.find_requirements(authorities)))


def _authority_stale(
    inventory: Inventory, store: Store, now: datetime, authorities: Authorities, name: str
) -> list[Reason]:
    """Return what is wrong with an authority; in the sandbox also why it needs a ceremony.

    A run performs one ceremony for all authorities, with the first artifact that needs it.
    """
    damaged = [
        path for generation in store.generations(name) if (path := _damaged_certificate(store, authorities, generation))
    ]
    if damaged:
        return [Why.RESTORED(file=path) for path in damaged]
    if not inventory.sandbox:
        return ca_state.stale_reasons(now, authorities, name)
    before = AUTHORITIES[: AUTHORITIES.index(name)]
    return (
        []
        if any(_sandbox_reasons(store, now, authorities, authority) for authority in before)
        else _sandbox_reasons(store, now, authorities, name)
    )


def _sandbox_reasons(store: Store, now: datetime, authorities: Authorities, name: str) -> list[Reason]:
    """Return why an authority of the sandbox needs a ceremony."""
    if name == "root" and needs.is_ceremony_unfinished(store):
        return [Why.CEREMONY_INTERRUPTED()]
    due = [
        Why.CEREMONY_DUE(why=need.why, what=need.what)
        for need in needs.find_requirements(authorities)
        if need.authority == name and not need.is_growth
    ]
    return ca_state.stale_reasons(now, authorities, name) or due


def _damaged_certificate(store: Store, authorities: Authorities, generation: str) -> str:
    """Return the path of a generation's certificate if it is damaged and the ledger has a copy; else ""."""
    ca = authorities.generation(generation)
    return (
        store.shown(store.authority_file(generation, "cert.pem")) if ca and generation in authorities.recovered else ""
    )


def _request_stale(inventory: Inventory, store: Store, now: datetime, authorities: Authorities) -> list[Reason]:
    from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

    needed = needs.find_requirements(authorities)
    return make_request.outdated_reasons(inventory, store, now, authorities, needed) if needed else []


def _certificate_path(store: Store, authorities: Authorities, authority: str) -> str:
    generation = authorities.issuing(authority)
    return str(store.authority_file(generation.name if generation else GenerationName(authority, 1), "cert.pem"))
