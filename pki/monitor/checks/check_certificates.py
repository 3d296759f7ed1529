"""Health of certificates: what is overdue, what nears its end and cannot be renewed, and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509

from pki.authority import certificates, renewal
from pki.authority.renewal import Current
from pki.common import filesystem
from pki.common.reasons import Why, joined
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.check_result import Finding, Level, by_time_left, rerun
from pki.monitor.checks.check_authorities import ASK
from pki.monitor.checks.check_context import View
from pki.project.project import Project
from pki.x509 import canonical

DAY = timedelta(days=1)
GRACE = 2 * DAY  # for a renewal that is due: the next daily run does it
WARNING, CRITICAL = 14 * DAY, 7 * DAY


def leaves(view: View) -> Iterator[Finding]:
    """Every certificate is as pki.yaml wants it and renewed in time; one that the run found sound is not read again."""
    project, run = view.project, view.run
    troubled, now = run.failed.keys() | run.unmet.keys(), view.now.timestamp()
    first = ends = 0
    for name, leaf in view.plan.leaves.items():
        artifact = ArtifactId("cert", name)
        kept = project.cache.recalled(artifact)
        if kept is None or artifact in troubled or kept[1] - leaf.renew_before.total_seconds() <= now:
            told = list(_leaf(view, artifact, leaf))
            yield from told
            kept = project.cache.recalled(artifact)
            if not (kept or told) and (view.thorough or run.covers(artifact)):
                yield _left_out(view, artifact, leaf)
        if kept:
            ends, first = ends + 1, min(first or kept[1], kept[1])
    if ends:
        yield Finding(
            "certificates",
            Level.OK,
            f"{counted(ends, len(view.plan.leaves))}; the first one ends on {datetime.fromtimestamp(first, UTC):%Y-%m-%d}",
        )


def counted(there: int, expected: int) -> str:
    """How many are well; of how many, where some are not."""
    return f"{there} of {expected}" if there < expected else str(there)


def _left_out(view: View, artifact: str, leaf: Leaf) -> Finding:
    """What the count of certificates leaves out, and nothing else tells."""
    reasons = certificates.stale_reasons(view.project, leaf) or [
        Why.STATED(text="is not counted, and nothing says why")
    ]
    return Finding(artifact, Level.NOTICE, f"{joined(reasons)}: the next run makes it", rerun(artifact))


def _leaf(view: View, artifact: str, leaf: Leaf) -> Iterator[Finding]:
    project, failure = view.project, view.run.failure(artifact)
    if waits := certificates.blocked_by(project, leaf):
        until = end(view, leaf)
        assert until is not None
        yield Finding(artifact, by_time_left(until - view.now, WARNING, CRITICAL), waits, ASK, until=until)
        return
    reasons = certificates.stale_reasons(project, leaf)
    if not reasons and (issuer := project.issuing(leaf.authority)) and (blocked := view.failure_of_key(issuer.name)):
        found = certificates.examine(project, leaf)
        due = renewal.unsigned_reasons(project, leaf, found) if isinstance(found, Current) else []
        reasons, failure = due, blocked
    if not reasons:
        return
    until = end(view, leaf)
    is_late = until is not None and view.now >= until - leaf.renew_before + min(GRACE, leaf.renew_before / 2)
    if failure is None and not is_late:
        if until is None and view.thorough and project.issuing(leaf.authority):
            yield Finding(artifact, Level.NOTICE, f"{joined(reasons)}: the next run makes it", rerun(artifact))
        return  # the next run sees to it
    text = joined(reasons)
    text += f"; cannot be renewed: {failure.message}" if failure else "; was not renewed"
    left = until - view.now if until else timedelta()
    yield Finding(artifact, level(leaf, left), text, (failure.hint if failure else "") or rerun(artifact), until=until)


def level(leaf: Leaf, left: timedelta) -> Level:
    """How bad it is that a certificate which should have been renewed has this much left."""
    return max(Level.WARNING, by_time_left(left, leaf.renew_before, min(CRITICAL, leaf.renew_before / 4)))


def end(view: View, leaf: Leaf) -> datetime | None:
    """When the certificate that a leaf has at present ends, whatever else is wrong with it."""
    held = certificates.examine(view.project, leaf)
    if isinstance(held, Current):
        return held.not_after
    cert = certificate(view.project, leaf)
    return cert.not_valid_after_utc if cert else None


def certificate(project: Project, leaf: Leaf) -> x509.Certificate | None:
    """The certificate that a leaf has at present, read from its file, whatever is wrong with it."""
    return canonical.read_first_certificate(filesystem.read(project.store.bundle(leaf)) or b"")
