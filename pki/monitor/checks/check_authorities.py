"""Health of what signs: authorities, their keys, their CRLs, the root's series of pre-signed CRLs, and the ceremonies that are due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import ca_state, crl_size
from pki.authority import crls as issued_crls
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.cache import token
from pki.common.durations import in_words
from pki.common.errors import SET_CLOCK, ErrorCode, PkiError
from pki.common.reasons import joined
from pki.common.remedies import Remedy
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.monitor.check_result import Finding, Level, by_time_left, rerun
from pki.monitor.checks import check_machine
from pki.monitor.checks.check_context import View
from pki.pipeline.artifact import Artifact
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import canonical

DAY = timedelta(days=1)
ROOT_MARKS = ((Level.NOTICE, 730), (Level.WARNING, 365), (Level.CRITICAL, 183))  # days of a root of ten years
TEN_YEARS = timedelta(days=3650)
CEREMONY_SOON, CEREMONY_NOW = timedelta(days=30), timedelta(days=7)
ASK = "./run invoke ceremony.request, and docs/ceremony.md"


def roots(view: View) -> Iterator[Finding]:
    """Every root that pki.yaml names, or that `build/` shows, is in `ca/`."""
    try:
        view.project.check_roots()
    except PkiError as error:
        yield Finding("authority:root", Level.CRITICAL, error.message, error.hint)


def authorities(view: View) -> Iterator[Finding]:
    """Each authority can sign, and its root does not near its end."""
    project = view.project
    for name in AUTHORITIES:
        if reasons := ca_state.stale_reasons(project, name):
            failure = view.run.failure(ArtifactId("authority", name))
            remedy = failure.hint if failure else "./run doit" if project.inventory.sandbox else ASK
            yield Finding(ArtifactId("authority", name), Level.CRITICAL, reasons[0], remedy)
    root = project.issuing("root")
    if root and (level := root_level(view, root)):
        end = root.certificate.not_valid_after_utc
        remedy = "./run doit" if project.inventory.sandbox else ASK
        yield Finding(
            ArtifactId("authority", root.name), level, f"the root itself {_ends(view, end)}", remedy, until=end
        )
    there = [found for name in AUTHORITIES if (found := project.issuing(name))]
    if there:
        first = min(there, key=lambda found: needs.signs_until(project, found))
        text = f"{', '.join(found.name for found in there)}; {first.name} is usable until {needs.signs_until(project, first):%Y-%m-%d}"
        yield Finding("authorities", Level.OK, text)


def root_level(view: View, root: Generation) -> Level:
    """Two years, one, half a year before the end; as much less as the root lives less than ten years."""
    cert = root.certificate
    share = min(1.0, (cert.not_valid_after_utc - cert.not_valid_before_utc) / TEN_YEARS)
    left = cert.not_valid_after_utc - view.now
    return max((level for level, days in ROOT_MARKS if left <= days * DAY * share), default=Level.OK)


def ceremonies(view: View) -> Iterator[Finding]:
    """A ceremony that is due, by when; what pki.yaml outgrew may wait for as long as its admin likes."""
    found = [note for note in view.notes if note.subject == "ceremony"]
    if not found:
        yield Finding("ceremony", Level.OK, "none is due")
        return
    ends = [need.by for need in needs.find_requirements(view.project) if not need.is_growth]
    until = min(ends, default=None)
    level = by_time_left(until - view.now, CEREMONY_SOON, CEREMONY_NOW) if until else Level.NOTICE
    yield Finding("ceremony", level, found[0].text, found[0].remedy, until=until)


# -- keys -------------------------------------------------------------------------------------------------------------


def keys(view: View) -> Iterator[Finding]:
    """The keys of the intermediates open with their passphrases.

    A thorough look opens all; another one those that the run used, and those whose files changed since they opened.
    """
    project, opened = view.project, list[str]()
    for authority in ("server", "client"):
        found = project.issuing(authority)
        if (
            found
            and not project.passphrases.is_interactive(found.name)
            and (view.thorough or _has_changed(project, found))
        ):
            with suppress(PkiError):  # kept by the project
                project.keys.issuer(found)
                project.cache.remember(_key_id(found), found.fingerprint, _key_files(project, found), "", by_state=True)
                opened.append(found.name)
    told = {project.store.shown(path) for path in check_machine.secrets(view)}
    for name, error in {**project.keys.open_faults, **project.key_faults()}.items():
        if error.code is ErrorCode.EXPOSED and error.about in told:
            continue
        text = f"nothing can be renewed or revoked with it: {error.message}"
        yield Finding(
            ArtifactId("key", name), Level.CRITICAL, text, error.hint or f"./run invoke ca.change-passphrase {name}"
        )
    if opened and view.thorough:
        yield Finding("keys", Level.OK, f"{' and '.join(opened)} {'open' if len(opened) > 1 else 'opens'}")


def _has_changed(project: Project, found: Generation) -> bool:
    """Whether a key, or the file of its passphrase, is not as it was when the key opened the last time."""
    files = _key_files(project, found)
    return bool(files) and project.cache.recall(_key_id(found), found.fingerprint) is None


def _key_id(found: Generation) -> ArtifactId:
    return ArtifactId("key", found.name)


def _key_files(project: Project, found: Generation) -> list[str]:
    """The files by which a key opens; none where it lies in a token, or its passphrase comes from no file."""
    key, passphrase = project.store.authority_file(found.name, "key.pem"), project.passphrases.file_of(found.name)
    return [str(key), str(passphrase)] if passphrase and passphrase.exists() and key.exists() else []


# -- CRLs -------------------------------------------------------------------------------------------------------------


def crls(view: View) -> Iterator[Finding]:
    """Every live generation has a CRL that is valid for long enough; a server without one refuses every client."""
    ends, expected = list[datetime](), 0
    for artifact in view.plan.artifacts:
        if artifact.id.kind == "crl":
            name = artifact.id.name
            told = list(_series(view, name) if GenerationName.parse(name).is_root else _crl(view, artifact, name))
            yield from told
            expected += 1
            if end := _end(view, name):
                ends.append(end)
            elif not told:
                text = joined(artifact.reasons()) or "cannot be read"
                yield Finding(artifact.name, Level.NOTICE, f"{text}: the next run makes it", rerun(artifact.name))
    if ends:
        count = f"{len(ends)} of {expected}" if len(ends) < expected else str(len(ends))
        yield Finding("crls", Level.OK, f"{count}; the first one ends on {min(ends):%Y-%m-%d}")


def sizes(view: View) -> Iterator[Finding]:
    """The publishing host's proxy serves every CRL, and will for a while."""
    for one in crl_size.sizes(view.project):
        if one.complaint:
            level = Level.NOTICE if one.fits else Level.WARNING
            yield Finding(ArtifactId("crl", one.generation), level, one.complaint, crl_size.REMEDY)


def _crl(view: View, artifact: Artifact, name: str) -> Iterator[Finding]:
    rule, end = view.project.crl_rule(name), _end(view, name)
    is_due = end is not None and view.now >= end - rule.lifetime + rule.refresh
    failure = view.run.failure(artifact.name) or (view.failure_of_key(name) if is_due else None)
    late = end is not None and view.now >= end - rule.lifetime + rule.refresh + min(
        2 * DAY, (rule.lifetime - rule.refresh) / 2
    )
    is_over = end is not None and end <= view.now
    if failure is None and not late and not is_over:
        if end is None and view.thorough and view.project.generation(name):
            text = "is not there, or damaged: the next run makes it"
            yield Finding(artifact.name, Level.NOTICE, text, rerun(artifact.name))
        return
    text = _ends(view, end) if end else "there is none"
    text += f", and cannot be renewed: {failure.message}" if failure else ", and was not renewed"
    left = end - view.now if end else timedelta()
    level = max(Level.WARNING, by_time_left(left, rule.lifetime, min(3 * DAY, rule.lifetime / 7)))
    yield Finding(artifact.name, level, text, (failure.hint if failure else "") or rerun(artifact.name), until=end)


def _end(view: View, name: str) -> datetime | None:
    """When a CRL in `build/` ends; what the run itself has seen is not read again."""
    if GenerationName.parse(name).is_root:
        present = issued_crls.due_presigned(view.project, name)
        return None if present is None else present.next_update_utc  # an empty CRL is false
    if seen := view.project.cache.seen(ArtifactId("crl", name)):
        return datetime.fromtimestamp(seen[1], UTC)
    there = published(view.project, name)
    return None if there is None else there.next_update_utc


def published(project: Project, name: str) -> x509.CertificateRevocationList | None:
    """The CRL of a generation as it lies in `build/`; an empty one is false. None for one that bears no number."""
    found = canonical.read_crl(filesystem.read(project.store.crl(name)) or b"", Encoding.DER)
    try:
        if found is not None:
            found.extensions.get_extension_for_class(x509.CRLNumber)
    except (*canonical.UNREADABLE, x509.ExtensionNotFound):
        return None
    return found


def _series(view: View, root: str) -> Iterator[Finding]:
    """A root's pre-signed CRLs: one is valid now, the next begins before it ends, and none is missing."""
    project, subject = view.project, ArtifactId("crl", root)
    found = project.generation(root)
    if found is None:
        return
    if early := project.before(found):
        yield Finding(
            subject,
            Level.CRITICAL,
            f"none of its pre-signed CRLs is valid now: {early}",
            SET_CLOCK,
        )
        return
    present = issued_crls.due_presigned(project, root)
    if present is None:
        last = published(project, root)
        lasts = last.next_update_utc if last is not None else None
        until = lasts if lasts and lasts > view.now else None
        when = f" from {until:%Y-%m-%d} on, when the one that they have ends" if until else ""
        text = f"{issued_crls.no_presigned_reason(project, root)}; every server refuses every client{when}"
        remedy = f"{_back(root)}; or: {_new_crls(project, root)}"
        yield Finding(subject, Level.CRITICAL, text, remedy, until=until)
        return
    end, spans = (
        present.next_update_utc,
        [(one.crl.last_update_utc, one.crl.next_update_utc) for one in project.presigned_crls(root)],
    )
    assert end is not None
    for start, following_end in sorted((s, e) for s, e in spans if e and s > view.now):
        if start > end:
            text = f"none of its pre-signed CRLs covers {end:%Y-%m-%d} to {start:%Y-%m-%d}"
            yield Finding(
                subject, _presigned_level(view, end), text, f"{_back(root)}; or: {_new_crls(project, root)}", until=end
            )
        end = max(end, following_end)
    if missing := _unheld(view, root):
        yield Finding(
            subject,
            _presigned_level(view, end),
            f"its last pre-signed CRL, {missing}, is not in ca/",
            _back(root),
            until=end,
        )


def _presigned_level(view: View, end: datetime) -> Level:
    return max(Level.WARNING, by_time_left(end - view.now, 60 * DAY, 30 * DAY))


def _back(root: str) -> str:
    return f"put ca/root/{root}/crl/ back from a backup (./run invoke restore FILE --to DIR)"


def _new_crls(project: Project, root: str) -> Remedy:
    from pki.ceremony.online.ceremony_archive import new_crls_remedy  # noqa: PLC0415 - which a run with nothing to tell needs not

    return new_crls_remedy(project, root)


def _unheld(view: View, root: str) -> int:
    """The number of the newest CRL that the ledger knows of a root, if its file is gone; else 0."""
    project = view.project
    numbers = [presigned_crl.number for presigned_crl in project.presigned_crls(root)]
    known = token(numbers)
    missing = project.recall_from_ledger(f"pre-signed CRLs {root}", known)
    if missing is None:
        last = project.ledger.last_crl(root) if project.has_ledger else None
        missing = last[0] if last and last[0] not in numbers else 0
        project.remember_from_ledger(f"pre-signed CRLs {root}", known, missing)
    return int(missing)


def _ends(view: View, end: datetime) -> str:
    """`ends in 12 days, on 2026-12-05` or `ended on 2026-11-05`."""
    if end <= view.now:
        return f"ended on {end:%Y-%m-%d}"
    return f"ends in {in_words(end - view.now)}, on {end:%Y-%m-%d}"
