"""Checks of authorities, their keys, their CRLs, the pre-signed CRLs of a root, and the ceremonies that are due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import ca_state, crl_size
from pki.authority import crls as issued_crls
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.cache import Cache, digest_of
from pki.common.durations import in_words
from pki.common.errors import SET_CLOCK, ErrorCode, PkiError
from pki.common.reasons import joined
from pki.common.remedies import Remedy
from pki.config.identifiers import ALL_AUTHORITIES, ROOTS, ArtifactId, GenerationName
from pki.monitor.check_result import Finding, Level, level_by_time_left, rerun
from pki.monitor.checks import check_machine
from pki.monitor.checks.check_context import CheckContext
from pki.pipeline.artifact import Artifact
from pki.project.authorities import own_authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.project.secrets import Passphrases
from pki.x509 import canonical

DAY = timedelta(days=1)
ROOT_LEVELS = ((Level.NOTICE, 730), (Level.WARNING, 365), (Level.CRITICAL, 183))  # days left of a ten-year root
TEN_YEARS = timedelta(days=3650)
CEREMONY_SOON, CEREMONY_NOW = timedelta(days=30), timedelta(days=7)
REQUEST_CEREMONY = "./run invoke ceremony.request; see docs/how-to/ceremony.md"


def check_roots(context: CheckContext) -> Iterator[Finding]:
    """Report roots that pki.yaml names, or that `build/` shows, and that `ca/` does not have."""
    try:
        context.project.roots.check()
    except PkiError as error:
        yield Finding("authority:root", Level.CRITICAL, error.message, error.hint)


def check_authorities(context: CheckContext) -> Iterator[Finding]:
    """Report authorities that cannot sign, and a root that nears its expiry."""
    project = context.project
    remedy = "./run doit" if project.inventory.sandbox else REQUEST_CEREMONY
    for name in own_authorities(project.authorities):
        if reasons := ca_state.stale_reasons(project.now, project.authorities, name):
            failure = context.run.failure(ArtifactId("authority", name))
            yield Finding(
                ArtifactId("authority", name), Level.CRITICAL, reasons[0], failure.hint if failure else remedy
            )
    for root in filter(None, map(project.authorities.issuing, ROOTS)):
        if not (level := root_level(context, root)):
            continue
        expiry, what = root.not_after, "the root of clusters" if root.authority == "root-peer" else "the root"
        text = f"{what} {_expiry_text(context, expiry)}"
        yield Finding(ArtifactId("authority", root.name), level, text, remedy, until=expiry)
    signing = [generation for name in ALL_AUTHORITIES if (generation := project.authorities.issuing(name))]
    if signing:
        first_to_expire = min(signing, key=lambda generation: needs.signing_period_end(project.authorities, generation))
        until = needs.signing_period_end(project.authorities, first_to_expire)
        requested = "no ceremony is requested before" if until > project.now else "a ceremony is requested since"
        text = f"{', '.join(generation.name for generation in signing)}; {requested} {until:%Y-%m-%d} ({first_to_expire.name})"
        yield Finding("authorities", Level.OK, text)


def root_level(context: CheckContext, root: Generation) -> Level:
    """Return the level for the time that a root has left.

    A root of ten years gets a notice two years, a warning one year and a critical finding half a year before its expiry.
    A shorter root gets them proportionally later.
    """
    share, left = min(1.0, (root.not_after - root.not_before) / TEN_YEARS), root.not_after - context.now
    return max((level for level, days in ROOT_LEVELS if left <= days * DAY * share), default=Level.OK)


def check_ceremonies(context: CheckContext) -> Iterator[Finding]:
    """Report the ceremony that is due, and by when. New names in pki.yaml alone set no deadline."""
    notes = [note for note in context.notes if note.subject == "ceremony"]
    if not notes:
        yield Finding("ceremony", Level.OK, "none due")
        return
    if context.project.roots.awaits_first_ceremony:
        yield Finding("ceremony", Level.NOTICE, notes[0].text, notes[0].remedy)
        return
    requirements = needs.find_requirements(context.project.authorities)
    until = min((requirement.by for requirement in requirements if not requirement.has_no_deadline), default=None)
    level = level_by_time_left(until - context.now, CEREMONY_SOON, CEREMONY_NOW) if until else Level.NOTICE
    yield Finding("ceremony", level, notes[0].text, notes[0].remedy, until=until)


# -- keys -------------------------------------------------------------------------------------------------------------


def check_keys(context: CheckContext) -> Iterator[Finding]:
    """Report intermediate keys that cannot be decrypted with their passphrases.

    A thorough check decrypts all keys. Any other check decrypts the keys whose files changed since the last time, and
    reports also what the run found when it used a key.
    """
    project, decrypted_keys = context.project, decrypt_keys(context.project, thorough=context.thorough)
    exposed_paths = {project.store.shown(path) for path in check_machine.secret_paths(context)}
    for name, error in {**project.keys.open_faults, **project.signing_keys.faults()}.items():
        if error.code is ErrorCode.EXPOSED and error.about in exposed_paths:
            continue  # check_permissions reports it
        text = f"cannot be used: {error.message}; nothing can be renewed or revoked with it"
        yield Finding(
            ArtifactId("key", name), Level.CRITICAL, text, error.hint or f"./run invoke ca.change-passphrase {name}"
        )
    if decrypted_keys and context.thorough:
        joined = " and ".join(filter(None, [", ".join(decrypted_keys[:-1]), decrypted_keys[-1]]))
        yield Finding("keys", Level.OK, f"{joined} can be decrypted")


def decrypt_keys(project: Project, *, thorough: bool) -> list[str]:
    """Decrypt the keys of the intermediates that sign certificates or CRLs; return the names of those that it decrypted.

    Without `thorough`, only the keys whose files changed since they were last decrypted.
    """
    decrypted_keys = list[str]()
    for generation in chain.from_iterable(map(project.signing_keys.generations, needs.ISSUING)):
        if project.passphrases.is_interactive(generation.name):  # a check asks no questions
            continue
        if thorough or _has_changed(project.store, project.passphrases, project.cache, generation):
            with suppress(PkiError):  # recorded in project.keys.open_faults
                project.keys.issuer(generation)
                project.cache.remember(
                    _key_id(generation),
                    generation.fingerprint,
                    _key_files(project.store, project.passphrases, generation),
                    "",
                    by_state=True,
                )
                decrypted_keys.append(generation.name)
    return decrypted_keys


def _has_changed(store: Store, passphrases: Passphrases, cache: Cache, generation: Generation) -> bool:
    """Return whether the key or its passphrase file changed since the key was last decrypted."""
    files = _key_files(store, passphrases, generation)
    return bool(files) and cache.recall(_key_id(generation), generation.fingerprint) is None


def _key_id(generation: Generation) -> ArtifactId:
    return ArtifactId("key", generation.name)


def _key_files(store: Store, passphrases: Passphrases, generation: Generation) -> list[str]:
    """Return the files of a key and its passphrase; none for a key in a token or a passphrase from elsewhere."""
    key, passphrase = store.authority_file(generation.name, "key.pem"), passphrases.file_of(generation.name)
    return [str(key), str(passphrase)] if passphrase and passphrase.exists() and key.exists() else []


# -- CRLs -------------------------------------------------------------------------------------------------------------


def check_crls(context: CheckContext) -> Iterator[Finding]:
    """Report generations without a CRL that is valid for long enough: without a valid CRL, servers refuse every client."""
    expiries, expected_count = list[datetime](), 0
    for artifact in context.plan.artifacts:
        if artifact.id.kind == "crl":
            name = artifact.id.name
            is_root = GenerationName.parse(name).is_root
            findings = list(_series(context, name) if is_root else _crl(context, artifact, name))
            yield from findings
            expected_count += 1
            expiry = _expiry(context, name)
            if expiry and expiry > context.now:
                expiries.append(expiry)
            elif expiry is None and not findings:
                text = joined(artifact.reasons()) or "cannot be read"
                yield Finding(artifact.id, Level.NOTICE, f"{text}; the next run issues it", rerun(artifact.id))
    if expiries:
        count = f"{len(expiries)} of {expected_count}" if len(expiries) < expected_count else str(len(expiries))
        yield Finding("crls", Level.OK, f"{count} valid; the next expiry is on {min(expiries):%Y-%m-%d}")


def check_crl_sizes(context: CheckContext) -> Iterator[Finding]:
    """Report CRLs that are, or will soon be, too large for the proxy of the publishing host."""
    for size in crl_size.sizes(context.project.inventory, context.project.store, context.project.authorities):
        if size.complaint:
            level = Level.NOTICE if size.fits else Level.WARNING
            yield Finding(ArtifactId("crl", size.generation), level, size.complaint, crl_size.REMEDY)


def _crl(context: CheckContext, artifact: Artifact, name: str) -> Iterator[Finding]:
    """Report a CRL that is missing, expired, or was not renewed although its renewal has been due for some time."""
    rule, expiry = context.project.inventory.authorities.crl_rule(name), _expiry(context, name)
    # The next daily run may be up to a day away, so a CRL is late only after two days, or less for a short lifetime.
    grace = min(2 * DAY, (rule.lifetime - rule.refresh) / 2)
    due_date = expiry - rule.lifetime + rule.refresh if expiry else None
    is_due = due_date is not None and context.now >= due_date
    is_late = due_date is not None and context.now >= due_date + grace
    is_expired = expiry is not None and expiry <= context.now
    failure = context.run.failure(artifact.id) or (context.failure_of_key(name) if is_due else None)
    if failure is None and not is_late and not is_expired:
        if expiry is None and context.thorough and context.project.authorities.generation(name):
            text = "missing or damaged; the next run issues it"
            yield Finding(artifact.id, Level.NOTICE, text, rerun(artifact.id))
        return
    text = _expiry_text(context, expiry) if expiry else "does not exist"
    text += f", and cannot be renewed: {failure.message}" if failure else ", and was not renewed"
    left = expiry - context.now if expiry else timedelta()
    level = max(Level.WARNING, level_by_time_left(left, rule.lifetime, min(3 * DAY, rule.lifetime / 7)))
    yield Finding(artifact.id, level, text, (failure.hint if failure else "") or rerun(artifact.id), until=expiry)


def _expiry(context: CheckContext, name: str) -> datetime | None:
    """Return the nextUpdate of the CRL in `build/`; a CRL that the run has checked is not read again."""
    if GenerationName.parse(name).is_root:
        present_crl = issued_crls.Crls(context.project).due_presigned(name)
        return None if present_crl is None else present_crl.next_update_utc  # a CRL without entries counts as False
    if cached_dates := context.project.cache.checked_in_this_run(ArtifactId("crl", name)):
        _, not_after = cached_dates[:2]  # of the CRL that was up to date, in seconds since 1970
        return datetime.fromtimestamp(not_after, UTC)
    crl = read_published_crl(context.project.store, name)
    return None if crl is None else crl.next_update_utc


def read_published_crl(store: Store, name: str) -> x509.CertificateRevocationList | None:
    """Return the CRL of a generation in `build/`, or None if it is damaged or has no number.

    Compare the result with None: a CRL without entries counts as False.
    """
    crl = canonical.read_crl(filesystem.read(store.crl(name)) or b"", Encoding.DER)
    try:
        if crl is not None:
            crl.extensions.get_extension_for_class(x509.CRLNumber)
    except (*canonical.UNREADABLE, x509.ExtensionNotFound):
        return None
    return crl


def _series(context: CheckContext, root: str) -> Iterator[Finding]:
    """Report a root without a valid pre-signed CRL, with a gap in the series, or with a missing one."""
    project, subject = context.project, ArtifactId("crl", root)
    generation = project.authorities.generation(root)
    if generation is None:
        return
    if early := project.authorities.not_yet_valid(generation):
        yield Finding(subject, Level.CRITICAL, f"none of its pre-signed CRLs is valid now: {early}", SET_CLOCK)
        return
    present_crl = issued_crls.Crls(project).due_presigned(root)
    if present_crl is None:
        yield _no_valid_crl(context, root)
        return
    covered_until = present_crl.next_update_utc
    assert covered_until is not None  # read_presigned_crl refuses a CRL without nextUpdate
    future_crls = [crl for crl in project.authorities.presigned_crls(root) if crl.this_update > context.now]
    for crl in sorted(future_crls, key=lambda crl: (crl.this_update, crl.next_update)):
        if crl.this_update > covered_until:
            text = f"none of its pre-signed CRLs covers {covered_until:%Y-%m-%d} to {crl.this_update:%Y-%m-%d}"
            yield Finding(
                subject,
                _presigned_level(context, covered_until),
                text,
                f"{_restore_remedy(root)}; or: {_new_crls(project.store, root)}",
                until=covered_until,
            )
        covered_until = max(covered_until, crl.next_update)
    if missing_number := _missing_number(context, root):
        yield Finding(
            subject,
            _presigned_level(context, covered_until),
            f"its last pre-signed CRL, {missing_number}, is not in ca/",
            _restore_remedy(root),
            until=covered_until,
        )


def _no_valid_crl(context: CheckContext, root: str) -> Finding:
    """Return the finding for a root of which no pre-signed CRL is valid now."""
    last_crl = read_published_crl(context.project.store, root)
    expiry = last_crl.next_update_utc if last_crl is not None else None
    until = expiry if expiry and expiry > context.now else None
    when = f" from {until:%Y-%m-%d} on, when the CRL that they have expires" if until else ""
    text = f"{issued_crls.Crls(context.project).no_presigned_reason(root)}; every server refuses every client{when}"
    remedy = f"{_restore_remedy(root)}; or: {_new_crls(context.project.store, root)}"
    return Finding(ArtifactId("crl", root), Level.CRITICAL, text, remedy, until=until)


def _presigned_level(context: CheckContext, end: datetime) -> Level:
    return max(Level.WARNING, level_by_time_left(end - context.now, 60 * DAY, 30 * DAY))


def _restore_remedy(root: str) -> str:
    return f"put ca/{GenerationName.parse(root).authority}/{root}/crl/ back from a backup (./run invoke restore FILE --to DIR)"


def _new_crls(store: Store, root: str) -> Remedy:
    from pki.ceremony.online.ceremony_archive import new_crls_remedy  # noqa: PLC0415 - slow to import, rarely needed

    return new_crls_remedy(store, root)


def _missing_number(context: CheckContext, root: str) -> int:
    """Return the number of the newest CRL of a root in the ledger if its file is missing; else 0."""
    project = context.project
    numbers = [presigned_crl.number for presigned_crl in project.authorities.presigned_crls(root)]

    def read() -> int:
        last_crl = project.ledger.last_crl(root) if project.ledger_view.has_ledger else None
        return last_crl.number if last_crl and last_crl.number not in numbers else 0

    return project.ledger_view.cached(f"pre-signed CRLs {root}", digest_of(numbers), read)


def _expiry_text(context: CheckContext, end: datetime) -> str:
    """Return `expires in 12 days, on 2026-12-05` or `expired on 2026-11-05`."""
    if end <= context.now:
        return f"expired on {end:%Y-%m-%d}"
    return f"expires in {in_words(end - context.now)}, on {end:%Y-%m-%d}"
