"""The artifacts of the authorities, and of the request for the next ceremony."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from pki.authority import ca_state
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.common.remedies import RESTORE, here
from pki.config.identifiers import ROOTS, ArtifactId, GenerationName, root_authority
from pki.pipeline.artifact import Artifact
from pki.project.authorities import Authorities, own_authorities
from pki.project.project import Project


def planned_generations(authorities: Authorities) -> tuple[GenerationName, ...]:
    """Return the generations that the sandbox's ceremony will create in this run.

    Artifacts that depend on these generations are planned in the same run.
    """
    ceremony_needs = needs.find_requirements(authorities)
    if all(requirement.has_no_deadline for requirement in ceremony_needs):
        return ()  # the user requests a ceremony that only permits more names, also in a sandbox
    return tuple(needs.new_generations(ceremony_needs))


@dataclass(frozen=True, slots=True)
class AuthorityArtifacts:
    """The artifacts of authorities and requests: read from `ca/`, and in a sandbox made by its ceremony."""

    project: Project

    def authorities(self) -> Iterator[Artifact]:
        """Yield an artifact for the certificate of each authority."""
        store, planned = self.project.store, self.project.authorities.planned
        names = own_authorities(self.project.authorities)
        present_generations = {name: self._issuing_or_first(name) for name in names}
        # The sandbox's only ceremony of a run is performed by the first authority that needs it.
        performer = next((name for name in names if planned and self._sandbox_reasons(name)), "")
        for name in names:
            key = "key.uri" if store.authority_file(present_generations[name], "key.uri").exists() else "key.pem"
            files = ("cert.pem",) if name in ROOTS else ("cert.pem", key)  # the key of a root is never in ca/
            created_generations = [
                generation for generation in planned if generation not in present_generations.values()
            ]
            yield Artifact(
                id=ArtifactId("authority", name),
                targets=(
                    *(str(store.authority_file(present_generations[name], file)) for file in files),
                    *(
                        str(store.authority_file(generation, "cert.pem"))
                        for generation in (created_generations if name == performer else ())
                    ),
                ),
                sources=() if name in ROOTS else (self.certificate_path(root_authority(name)),),
                make=partial(self._make_authority, name),
                stale=partial(self._authority_stale, name),
                doc=f"the {name} authority, which only a ceremony (or the sandbox) creates",
            )

    def _make_authority(self, name: str) -> Outcome:
        """Restore damaged certificates from the ledger; in the sandbox perform the ceremony.

        Raises PkiError if the user must perform a ceremony.
        """
        reasons = restored_reasons = self._authority_stale(name)
        for generation in self._existing(name):
            if self._damaged_certificate(generation):
                filesystem.write(
                    self.project.store.authority_file(generation, "cert.pem"),
                    self.project.authorities.recovered[generation],
                )
                reasons = self._authority_stale(name)
        if not reasons:
            return Outcome(Verb.UPDATED, tuple(restored_reasons))
        outcome = Outcome(Verb.CREATED)
        if self.project.inventory.sandbox:
            if not self.project.store.generations("root"):
                outcome = Outcome(Verb.CREATED, (self._no_generations_reason(),))
            from pki.ceremony.online import sandbox_ceremony  # noqa: PLC0415 - takes long, and most runs need none

            sandbox_ceremony.perform_ceremony(self.project)
            reasons = ca_state.stale_reasons(self.project.now, self.project.authorities, name)
        if reasons and (issuing_generation := self.project.authorities.issuing(name)) is None:
            raise self.project.authorities.missing_authority(name)
        if reasons:
            if issuing_generation and issuing_generation.not_after < self.project.now:
                self.project.clock.check()  # with a wrong clock a ceremony does not help
            is_expired = reasons[0].code is Why.AUTHORITY_EXPIRED
            alternative = "" if is_expired else f"{RESTORE}, or: "  # a backup has no newer certificate of an expired CA
            request = here("invoke", "ceremony.request", home=self.project.store.home, before=alternative)
            raise PkiError(f"{reasons[0]}; needs a ceremony", request)
        return outcome

    def requests(self) -> Iterator[Artifact]:
        """Yield the request for the ceremony that is needed next; the sandbox performs its own ceremonies."""
        if not self.project.inventory.sandbox:
            yield Artifact(
                id=ArtifactId("ceremony", "request"),
                targets=(),
                sources=(),
                make=self._make_request,
                stale=self._request_stale,
                doc="the request for the next root ceremony, with the keys to certify",
            )

    def _make_request(self) -> Outcome:
        from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

        if needs.find_requirements(self.project.authorities):  # else `stale` was caused by a request that is not needed
            make_request.RequestPreparation(self.project).prepare()
        return Outcome(Verb.CREATED)

    def _no_generations_reason(self) -> Reason:
        """Return why the first ceremony of a sandbox creates all authorities."""
        return Why.NO_GENERATIONS(
            names=", ".join(requirement.what for requirement in needs.find_requirements(self.project.authorities))
        )

    def _authority_stale(self, name: str) -> list[Reason]:
        """Return what is wrong with an authority; in the sandbox also why the authority needs a ceremony.

        The sandbox performs one ceremony in a run, for all authorities. Only the first authority that needs it has reasons.
        """
        damaged_paths = [path for generation in self._existing(name) if (path := self._damaged_certificate(generation))]
        if damaged_paths:
            return [Why.RESTORED(file=path) for path in damaged_paths]
        if not self.project.inventory.sandbox:
            return ca_state.stale_reasons(self.project.now, self.project.authorities, name)
        names = own_authorities(self.project.authorities)
        is_earlier_due = any(map(self._sandbox_reasons, names[: names.index(name)]))
        return [] if is_earlier_due else self._sandbox_reasons(name)

    def _of_artifact(self, name: str) -> tuple[str, ...]:
        """Return the authorities of an artifact: an external one has none of its own, and is in that of the root."""
        store, externals = self.project.store, self.project.inventory.authorities.externals
        return (name, *{**externals, **dict.fromkeys(store.external_authorities())}) if name == "root" else (name,)

    def _existing(self, name: str) -> list[GenerationName]:
        """Return the generations of an artifact that have a certificate."""
        return [
            generation
            for authority in self._of_artifact(name)
            for generation in self.project.store.generations(authority)
        ]

    def _sandbox_reasons(self, name: str) -> list[Reason]:
        """Return why an authority of the sandbox needs a ceremony."""
        if name == "root" and needs.is_ceremony_unfinished(self.project.store):
            return [Why.CEREMONY_INTERRUPTED()]
        names = self._of_artifact(name)
        ceremony_reasons = [
            Why.CEREMONY_DUE(why=requirement.why, what=requirement.what)
            for requirement in needs.find_requirements(self.project.authorities)
            if requirement.authority in names and not requirement.has_no_deadline
        ]
        return ca_state.stale_reasons(self.project.now, self.project.authorities, name) or ceremony_reasons

    def _damaged_certificate(self, generation: str) -> str:
        """Return the path of a generation's certificate if it is damaged and the ledger has a copy; else ""."""
        ca = self.project.authorities.generation(generation)  # reads the file, and so fills `recovered`
        if ca is None or generation not in self.project.authorities.recovered:
            return ""
        return self.project.store.shown(self.project.store.authority_file(generation, "cert.pem"))

    def _request_stale(self) -> list[Reason]:
        from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

        project, requirements = self.project, needs.find_requirements(self.project.authorities)
        if not requirements:
            return []
        return make_request.outdated_reasons(
            project.inventory, project.store, project.now, project.authorities, requirements
        )

    def certificate_path(self, authority: str) -> str:
        """Return the path of the certificate of the generation that signs; before there is any, of generation 1."""
        return str(self.project.store.authority_file(self._issuing_or_first(authority), "cert.pem"))

    def _issuing_or_first(self, authority: str) -> GenerationName:
        generation = self.project.authorities.issuing(authority)
        return generation.name if generation else GenerationName(authority, 1)
