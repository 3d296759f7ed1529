"""The artifacts of the authorities, and of the request for the next ceremony."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pki.authority import ca_state
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.common.remedies import RESTORE, here
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.pipeline.artifact import Artifact
from pki.project.project import Project


def planned_generations(project: Project) -> tuple[GenerationName, ...]:
    """Return the generations that the sandbox's ceremony will create in this run.

    What depends on them is planned in the same run.
    """
    ceremony_needs = needs.find_requirements(project)
    if all(need.is_growth for need in ceremony_needs):
        return ()
    return tuple(needs.new_generations(ceremony_needs))


def authority_artifacts(project: Project) -> Iterator[Artifact]:
    """Yield an artifact for the certificate of each authority."""
    newest = {
        authority: issuing.name if (issuing := project.issuing(authority)) else GenerationName(authority, 1)
        for authority in AUTHORITIES
    }
    performer = next((name for name in AUTHORITIES if project.planned and _sandbox_reasons(project, name)), "")
    for name in AUTHORITIES:
        key = "key.uri" if project.store.authority_file(newest[name], "key.uri").exists() else "key.pem"
        files = ("cert.pem",) if name == "root" else ("cert.pem", key)
        planned = [
            generation for generation in project.planned if name == performer and generation not in newest.values()
        ]
        yield Artifact(
            id=ArtifactId("authority", name),
            targets=(
                *(str(project.store.authority_file(newest[name], file)) for file in files),
                *(str(project.store.authority_file(generation, "cert.pem")) for generation in planned),
            ),
            sources=() if name == "root" else (_certificate_path(project, "root"),),
            make=partial(_make_authority, project, name),
            stale=partial(_authority_stale, project, name),
            doc=f"the {name} authority, which only a ceremony (or the sandbox) creates",
        )


def _authority_stale(project: Project, name: str) -> list[Reason]:
    """Return what is wrong with an authority; in the sandbox also why it needs a ceremony.

    A run performs one ceremony for all authorities, with the first artifact that needs it.
    """
    damaged = [
        path for generation in project.store.generations(name) if (path := _damaged_certificate(project, generation))
    ]
    if damaged:
        return [Why.RESTORED(file=path) for path in damaged]
    if not project.inventory.sandbox:
        return ca_state.stale_reasons(project, name)
    before = AUTHORITIES[: AUTHORITIES.index(name)]
    return [] if any(_sandbox_reasons(project, authority) for authority in before) else _sandbox_reasons(project, name)


def _sandbox_reasons(project: Project, name: str) -> list[Reason]:
    """Return why an authority of the sandbox needs a ceremony."""
    if name == "root" and needs.is_ceremony_unfinished(project):
        return [Why.CEREMONY_INTERRUPTED()]
    due = [
        Why.CEREMONY_DUE(why=need.why, what=need.what)
        for need in needs.find_requirements(project)
        if need.authority == name and not need.is_growth
    ]
    return ca_state.stale_reasons(project, name) or due


def _damaged_certificate(project: Project, generation: str) -> str:
    """Return the path of a generation's certificate if it is damaged and the ledger has a copy; else ""."""
    ca = project.generation(generation)
    return (
        project.store.shown(project.store.authority_file(generation, "cert.pem"))
        if ca and generation in project.recovered
        else ""
    )


def _make_authority(project: Project, name: str) -> Outcome:
    """Restore damaged certificates from the ledger; in the sandbox perform the ceremony.

    Raises PkiError where a ceremony of the user is needed.
    """
    reasons = restored = _authority_stale(project, name)
    for generation in project.store.generations(name):
        if _damaged_certificate(project, generation):
            filesystem.write(project.store.authority_file(generation, "cert.pem"), project.recovered[generation])
            reasons = _authority_stale(project, name)
    if not reasons:
        return Outcome(Verb.UPDATED, tuple(restored))
    if project.inventory.sandbox:
        from pki.ceremony.online import sandbox_ceremony  # noqa: PLC0415 - takes long, and most runs need none

        sandbox_ceremony.perform_ceremony(project)
        reasons = ca_state.stale_reasons(project, name)
    if reasons and (issuing := project.issuing(name)) is None:
        raise project.missing_authority(name)
    if reasons:
        if issuing and issuing.certificate.not_valid_after_utc < project.now:
            project.clock.check()  # with a wrong clock a ceremony does not help
        is_lost = reasons[0].code is not Why.AUTHORITY_EXPIRED  # no backup contains a newer one of an expired authority
        request = here(
            "invoke", "ceremony.request", home=project.store.home, before=f"{RESTORE}, or: " if is_lost else ""
        )
        raise PkiError(f"{reasons[0]}; needs a ceremony", request)
    return Outcome(Verb.CREATED)


def request_artifacts(project: Project) -> Iterator[Artifact]:
    """Yield the request for the ceremony that is needed next; the sandbox performs its own ceremonies."""
    if not project.inventory.sandbox:
        yield Artifact(
            id=ArtifactId("ceremony", "request"),
            targets=(),
            sources=(),
            make=partial(_make_request, project),
            stale=partial(_request_stale, project),
            doc="the request for the next root ceremony, with the keys to certify",
        )


def _make_request(project: Project) -> Outcome:
    from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

    if needs.find_requirements(project):
        make_request.prepare_request(project)
    return Outcome(Verb.CREATED)


def _request_stale(project: Project) -> list[Reason]:
    from pki.ceremony.online import make_request  # noqa: PLC0415 - takes long, and most runs need none

    needed = needs.find_requirements(project)
    return make_request.outdated_reasons(project, needed) if needed else []


def _certificate_path(project: Project, authority: str) -> str:
    generation = project.issuing(authority)
    return str(
        project.store.authority_file(generation.name if generation else GenerationName(authority, 1), "cert.pem")
    )
