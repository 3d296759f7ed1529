"""Metric samples of the project, collected while ledger and cache are open. What the run has read is not read again.

`Samples` maps the name of a metric (without prefix) to its values by label values, in the order of the labels in
`metric_definitions.METRICS`. Instants are seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from cryptography import x509

from pki.authority import crls
from pki.ceremony.online import needs
from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.common.remedies import for_commands_folder
from pki.common.visible import visible_line
from pki.config.fields import Access
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Leaf
from pki.monitor import adopted_cas
from pki.monitor.check_result import Level
from pki.monitor.checks import check_authorities, check_certificates, check_machine
from pki.monitor.checks.check_context import CheckedProject
from pki.monitor.unseen_services import unseen_services
from pki.project.authorities import own_authorities
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509.revocation import crl_number

Labels = tuple[str, ...]
Samples = dict[str, dict[Labels, float]]


def certificates(checked: CheckedProject) -> Samples:
    """Return the dates of each leaf; a certificate that this run has checked is not read again."""
    levels: tuple[Access, ...] = ("tls", "mtls")
    hosts = {leaf_name(name, level): name for name in checked.project.inventory.hosts for level in levels}
    begins, ends = dict[Labels, float](), dict[Labels, float]()
    for name, leaf in checked.plan.leaves.items():
        if dates := _dates(checked.project.store, checked.project.cache, leaf):
            labels = (name, leaf.profile, hosts.get(name, "") if leaf.profile != "client" else "")
            begins[labels], ends[labels] = dates
    return {"certificate_not_before_timestamp_seconds": begins, "certificate_not_after_timestamp_seconds": ends}


def _dates(store: Store, cache: Cache, leaf: Leaf) -> tuple[float, float] | None:
    """Return notBefore and notAfter of the certificate of a leaf; None if it has none that can be read."""
    if cached := cache.checked_in_this_run(leaf.artifact):
        not_before, not_after = cached[:2]
        return not_before, not_after
    certificate = check_certificates.read_current_certificate(store, leaf)
    if certificate is None:
        return None
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def samples_of_project(checked: CheckedProject) -> Samples:
    """Return all other samples; a metric whose source cannot be read is left out, and a check reports why."""
    samples: Samples = {}
    for collect in COLLECTORS:
        with suppress(PkiError):
            samples |= collect(checked)
    return samples


# -- authorities -----------------------------------------------------------------------------------------------------


def _authorities(checked: CheckedProject) -> Samples:
    """Return the dates of every live generation, and the end of the signing period of those that sign now."""
    project, begins, ends = checked.project, dict[Labels, float](), dict[Labels, float]()
    signing_period_end = dict[Labels, float]()
    for authority in own_authorities(project.authorities):
        signing = project.authorities.issuing(authority)
        for name in project.authorities.live(authority):
            if generation := project.authorities.generation(name):
                begins[name, authority] = generation.not_before.timestamp()
                ends[name, authority] = generation.not_after.timestamp()
        if signing:
            signing_period_end[signing.name, authority] = needs.signing_period_end(
                project.authorities, signing
            ).timestamp()
    for authority in project.store.external_authorities():
        for generation in filter(None, map(project.authorities.generation, project.authorities.live(authority))):
            begins[generation.name, "external"] = generation.not_before.timestamp()
            ends[generation.name, "external"] = generation.not_after.timestamp()
        if newest := project.authorities.issuing(authority):
            end_of_period = needs.signing_period_end(project.authorities, newest)
            signing_period_end[newest.name, "external"] = end_of_period.timestamp()
    for name in map(GenerationName, project.inventory.authorities.adopted):
        if end := adopted_cas.expiry_of(project.authorities, name):
            ends[name, "adopted"] = end.timestamp()
    due_dates: dict[Labels, float] = {
        (need.what,): need.by.timestamp()
        for need in needs.find_requirements(project.authorities)
        if not need.has_no_deadline
    }
    return {
        "authority_not_before_timestamp_seconds": begins,
        "authority_not_after_timestamp_seconds": ends,
        "authority_signs_until_timestamp_seconds": signing_period_end,
        "ceremony_by_timestamp_seconds": due_dates,
    }


def _profiles(checked: CheckedProject) -> Samples:
    rules = checked.project.inventory.profiles
    before = {("server",): rules.server.renew_before, ("client",): rules.client.renew_before}
    if checked.project.inventory.authorities.peer:
        before["peer",] = rules.peer.renew_before
    return {"profile_renew_before_seconds": {labels: left.total_seconds() for labels, left in before.items()}}


def _crls(checked: CheckedProject) -> Samples:
    project = checked.project
    begins, ends, numbers = dict[Labels, float](), dict[Labels, float](), dict[Labels, float]()
    refresh, series_ends = dict[Labels, float](), dict[Labels, float]()
    for artifact in checked.plan.artifacts:
        kind, name = artifact.id.kind, artifact.id.name
        if kind != "crl":
            continue
        authority = (
            "adopted" if project.inventory.authorities.is_adopted(name) else GenerationName.parse(name).authority
        )
        labels = (name, authority)
        is_root = GenerationName.parse(name).is_root
        if values := _root_crl(project, name) if is_root else _crl(project.store, project.cache, name):
            begins[labels], ends[labels], numbers[labels] = values
        if not is_root:
            refresh[labels] = project.inventory.authorities.crl_rule(name).refresh.total_seconds()
        elif last_expiry := needs.series_end(project.authorities, name):
            series_ends[labels] = last_expiry.timestamp()
    return {
        "crl_this_update_timestamp_seconds": begins,
        "crl_next_update_timestamp_seconds": ends,
        "crl_number": numbers,
        "crl_refresh_seconds": refresh,
        "presigned_crl_end_timestamp_seconds": series_ends,
    }


def _crl(store: Store, cache: Cache, name: str) -> tuple[float, float, float] | None:
    """Return thisUpdate, nextUpdate and number of the CRL of an intermediate; None if it cannot be read."""
    if cached := cache.checked_in_this_run(ArtifactId("crl", name)):
        this_update, next_update, number = cached[:3]
        return this_update, next_update, number
    crl = check_authorities.read_published_crl(store, name)
    if crl is None:
        return None
    return _dated(crl, crl_number(crl))


def _root_crl(project: Project, root: str) -> tuple[float, float, float] | None:
    """Return the dates and the number of the pre-signed CRL that is due. A CRL without entries counts as False."""
    present_crl = crls.Crls(project).due_presigned(root)
    number = next(
        (presigned.number for presigned in project.authorities.presigned_crls(root) if presigned.crl is present_crl),
        None,
    )
    return None if present_crl is None or number is None else _dated(present_crl, number)


def _dated(crl: x509.CertificateRevocationList, number: int) -> tuple[float, float, float] | None:
    end = crl.next_update_utc
    return (crl.last_update_utc.timestamp(), end.timestamp(), number) if end else None


# -- hosts and services -----------------------------------------------------------------------------------------------


def _deployments(checked: CheckedProject) -> Samples:
    """Return the states of hosts that are not well, since when deployments to them fail, and their first expiry."""
    states = set(_host_states(checked))
    counts = Counter(state for _, state in states)
    findings = [finding for finding in checked.findings if finding.topic == "hosts" and finding.level]
    # An unreachable host is also failing. Drift that this run restored (`is_over`) leaves the host well.
    unwell = {host for host, state in states if state not in {"drift", "unreachable"}}
    unwell |= {finding.about.name for finding in findings if finding.about.kind == "drift" and not finding.is_over}
    failing_hosts = [(finding.about.name, finding) for finding in findings if finding.about.kind == "deploy"]
    return {
        "deployment_state": dict.fromkeys(sorted(states), 1),
        "deployments": {
            ("well",): len(checked.plan.deliveries.keys() - unwell),
            **{
                (state,): counts[state]
                for state in ("pending", "failing", "unreachable", "pinned", "not_verified", "drift")
            },
        },
        "deployment_failing_since_timestamp_seconds": {
            (host,): (finding.since or checked.project.now).timestamp() for host, finding in failing_hosts
        },
        "deployment_expires_timestamp_seconds": {
            (host,): finding.until.timestamp() for host, finding in failing_hosts if finding.until
        },
    }


def _host_states(checked: CheckedProject) -> Iterator[tuple[str, str]]:
    """Yield each state other than well of each host; a host can have several."""
    deliveries, run = checked.plan.deliveries, checked.run
    kinds = {"deploy": "failing", "pinned": "pinned", "verification": "not_verified", "drift": "drift"}
    for finding in checked.findings:
        kind, host = finding.about.kind, finding.about.name
        is_problem_of_host = finding.topic == "hosts" and finding.level and host in deliveries
        if is_problem_of_host and kind in kinds:
            yield host, kinds[kind]
            if kind == "deploy" and deliveries[host].records.contact.is_unreached:
                yield host, "unreachable"
    for host, delivery in deliveries.items():
        if ArtifactId("deploy", host) in run.failed:
            yield host, "failing"
        elif ArtifactId("deploy", host) in run.blocked or delivery.is_behind(checked.project.cache):
            yield host, "pending"


def _probes(checked: CheckedProject) -> Samples:
    probes = [((probe.host, probe.service, probe.name), probe) for probe in checked.probes]
    reached_probes = [(labels, probe) for labels, probe in probes if probe.reached]
    unseen_probes = [
        ((probe.host, probe.service, probe.name), probe) for probe in unseen_services(checked.project.inventory)
    ]
    return {
        "probe_success": {
            labels: float(probe.is_well) for labels, probe in probes if probe.wrong or not probe.unverifiable
        },
        "probe_unverifiable_info": {
            (*labels, visible_line(probe.unverifiable)): 1
            for labels, probe in (*probes, *unseen_probes)
            if probe.unverifiable
        },
        "probe_reached": {labels: float(probe.reached) for labels, probe in probes},
        "probe_duration_seconds": {labels: probe.seconds for labels, probe in probes},
        "probe_not_after_timestamp_seconds": {
            labels: probe.not_after.timestamp() for labels, probe in reached_probes if probe.not_after
        },
        "probe_tls_info": {(*labels, probe.version): 1 for labels, probe in reached_probes if probe.version},
        "probe_wrong_info": {
            (*labels, probe.fault, visible_line(probe.phrase)): 1 for labels, probe in probes if probe.wrong
        },
    }


# -- the project itself -------------------------------------------------------------------------------------------------


def _ledger(checked: CheckedProject) -> Samples:
    if not checked.project.ledger_view.has_ledger:
        return {"ledger_certificates_total": {(): 0}, "ledger_revocations_total": {(): 0}}
    issued, revoked = check_machine.ledger_counts(checked.project.ledger_view)
    return {"ledger_certificates_total": {(): issued}, "ledger_revocations_total": {(): revoked}}


def _checks(checked: CheckedProject) -> Samples:
    levels = Counter(finding.level for finding in checked.findings)
    worst = dict[Labels, float]()
    for finding in checked.findings:
        if finding.level:
            labels = (
                visible_line(finding.subject),
                finding.topic,
                visible_line(for_commands_folder(str(finding.remedy))),
            )
            worst[labels] = max(finding.level, worst.get(labels, 0))
    return {"checks": {(level.word,): levels[level] for level in Level}, "check_level": worst}


COLLECTORS: tuple[Callable[[CheckedProject], Samples], ...] = (
    *(_authorities, _profiles, _crls, _deployments, _probes, _ledger, _checks),
)
