"""Checks of leaf certificates: overdue renewals, and certificates that near their expiry and cannot be renewed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509

from pki.authority import certificates, renewal
from pki.common import filesystem
from pki.common.reasons import Why, joined
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.check_result import Finding, Level, level_by_time_left, rerun
from pki.monitor.checks.check_authorities import REQUEST_CEREMONY
from pki.monitor.checks.check_context import CheckContext
from pki.project.layout import Store
from pki.x509 import canonical

DAY = timedelta(days=1)
GRACE = 2 * DAY  # after a renewal is due: the next daily run does it
WARNING, CRITICAL = 14 * DAY, 7 * DAY


def check_leaves(context: CheckContext) -> Iterator[Finding]:
    """Report leaves that differ from pki.yaml or were not renewed in time.

    A certificate that the run checked is not read again: the cache has its dates, in seconds since 1970.
    """
    project, run = context.project, context.run
    not_made, now = run.failed.keys() | run.blocked.keys(), context.now.timestamp()
    next_expiry = valid = 0
    for name, leaf in context.plan.leaves.items():
        artifact = ArtifactId("cert", name)
        dates = project.cache.checked_in_this_run(artifact)
        is_renewal_due = dates is not None and dates[1] - leaf.renew_before.total_seconds() <= now
        if dates is None or artifact in not_made or is_renewal_due:
            findings = list(_leaf(context, artifact, leaf))
            yield from findings
            dates = project.cache.checked_in_this_run(artifact)
            is_unexplained = not (dates or findings) and (context.thorough or run.covers(artifact))
            if is_unexplained and artifact not in project.revocations.replacement_stopped:
                yield _uncounted(context, artifact, leaf)
        if dates and dates[1] > now and not leaf.is_canary:  # the canary is revoked on purpose
            valid, next_expiry = valid + 1, min(next_expiry or dates[1], dates[1])
    expected = sum(not leaf.is_canary for leaf in context.plan.leaves.values())
    if valid:
        yield Finding(
            "certificates",
            Level.OK,
            f"{count_of_expected(valid, expected)} valid; the next expiry is on {datetime.fromtimestamp(next_expiry, UTC):%Y-%m-%d}",
        )


def count_of_expected(count: int, expected: int) -> str:
    """Return `4`, or `3 of 4` if some are missing."""
    return f"{count} of {expected}" if count < expected else str(count)


def _uncounted(context: CheckContext, artifact: str, leaf: Leaf) -> Finding:
    """Return a finding for a leaf that is missing in the count of certificates and has no other finding."""
    reasons = certificates.LeafCertificates(context.project).stale_reasons(leaf) or [
        Why.STATED(text="is not counted, for an unknown reason")
    ]
    return Finding(artifact, Level.NOTICE, f"{joined(reasons)}; the next run issues it", rerun(artifact))


def _leaf(context: CheckContext, artifact: str, leaf: Leaf) -> Iterator[Finding]:
    """Report a leaf whose renewal is blocked, failed or is late, or that has no certificate."""
    project, failure = context.project, context.run.failure(artifact)
    if blocker := certificates.LeafCertificates(project).no_gain_reason(leaf):
        until = certificate_expiry(context, leaf)
        assert until is not None  # no_gain_reason returns a reason only for a leaf with a certificate
        yield Finding(
            artifact, level_by_time_left(until - context.now, WARNING, CRITICAL), blocker, REQUEST_CEREMONY, until=until
        )
        return
    reasons = certificates.LeafCertificates(project).stale_reasons(leaf)
    issuer = project.authorities.issuing(leaf.authority)
    key_failure = context.failure_of_key(issuer.name) if issuer else None
    if key_failure and not reasons:  # stale_reasons leaves out a due renewal while its issuer cannot sign
        summary = certificates.LeafCertificates(project).examine(leaf).summary
        if summary:
            reasons = renewal.postponed_reasons(project.now, project.authorities, project.signing_keys, leaf, summary)
        failure = key_failure
    if not reasons:
        return
    until = certificate_expiry(context, leaf)
    is_late = until is not None and context.now >= leaf.renewal_start(until) + min(GRACE, leaf.renew_before / 2)
    if failure is None and not is_late:
        is_missing = until is None and artifact not in project.revocations.replacement_stopped  # which a notice reports
        if is_missing and context.thorough and issuer:
            yield Finding(artifact, Level.NOTICE, f"{joined(reasons)}; the next run issues it", rerun(artifact))
        return  # the next run renews it
    text = joined(reasons)
    text += f"; cannot be renewed: {failure.message}" if failure else "; was not renewed"
    left = until - context.now if until else timedelta()
    yield Finding(
        artifact, level_when_late(leaf, left), text, (failure.hint if failure else "") or rerun(artifact), until=until
    )


def level_when_late(leaf: Leaf, left: timedelta) -> Level:
    """Return the level for a certificate that should have been renewed and has `left` to its expiry."""
    return max(Level.WARNING, level_by_time_left(left, leaf.renew_before, min(CRITICAL, leaf.renew_before / 4)))


def certificate_expiry(context: CheckContext, leaf: Leaf) -> datetime | None:
    """Return when the present certificate of a leaf expires, whatever else is wrong with it."""
    summary = certificates.LeafCertificates(context.project).examine(leaf).summary
    if summary:
        return summary.not_after
    certificate = read_current_certificate(context.project.store, leaf)
    return certificate.not_valid_after_utc if certificate else None


def read_current_certificate(store: Store, leaf: Leaf) -> x509.Certificate | None:
    """Read the present certificate of a leaf from its file, whatever is wrong with it."""
    return canonical.read_first_certificate(filesystem.read(store.bundle(leaf)) or b"")
