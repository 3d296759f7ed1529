"""The project in figures, gathered while ledger and memo are open: what a run has scene of it, and nothing read twice.

`Samples` are values by the name of their metric without its prefix, then by the values of its labels, in the order in
which `metrics.py` names them. Instants are seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

from cryptography import x509

from pki.authority import crls
from pki.ceremony.online import needs
from pki.common.errors import PkiError
from pki.common.visible import plain
from pki.config.fields import Access
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Leaf
from pki.monitor import external_cas
from pki.monitor.check_result import Level
from pki.monitor.checks import check_authorities, check_certificates, check_machine
from pki.monitor.checks.check_context import CheckContext
from pki.project.project import Project

Labels = tuple[str, ...]
Samples = dict[str, dict[Labels, float]]


def certificates(context: CheckContext) -> Samples:
    """From when and until when each leaf is valid; one that the run found sound is not read again."""
    levels: tuple[Access, ...] = ("tls", "mtls")
    hosts = {leaf_name(name, level): name for name in context.project.inventory.hosts for level in levels}
    begins, ends = dict[Labels, float](), dict[Labels, float]()
    for name, leaf in context.plan.leaves.items():
        if dates := _dates(context.project, leaf):
            labels = (name, leaf.profile, hosts.get(name, "") if leaf.profile == "server" else "")
            begins[labels], ends[labels] = dates
    return {"certificate_not_before_timestamp_seconds": begins, "certificate_not_after_timestamp_seconds": ends}


def _dates(project: Project, leaf: Leaf) -> tuple[float, float] | None:
    if kept := project.cache.seen(leaf.artifact):
        return kept[0], kept[1]
    found = check_certificates.certificate(project, leaf)
    return (found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()) if found else None


def others(context: CheckContext) -> Samples:
    """Everything else that a look knows; what cannot be looked at is left out, and a check says why."""
    found: Samples = {}
    for look in CHECKS:
        with suppress(PkiError):
            found |= look(context)
    return found


# -- what signs -------------------------------------------------------------------------------------------------------


def _authorities(context: CheckContext) -> Samples:
    """Every generation that is live, and until when those that sign now are usable."""
    project, begins, ends, usable = context.project, dict[Labels, float](), dict[Labels, float](), dict[Labels, float]()
    for authority in AUTHORITIES:
        signs = project.issuing(authority)
        for name in project.live(authority):
            if found := project.generation(name):
                begins[name, authority] = found.certificate.not_valid_before_utc.timestamp()
                ends[name, authority] = found.certificate.not_valid_after_utc.timestamp()
        if signs:
            usable[signs.name, authority] = needs.signs_until(project, signs).timestamp()
    for name in map(GenerationName, project.inventory.authorities.adopted):
        if end := external_cas.end_of(project, name):
            ends[name, "adopted"] = end.timestamp()
    due: dict[Labels, float] = {
        (one.what,): one.by.timestamp() for one in needs.find_requirements(project) if not one.is_growth
    }
    return {
        "authority_not_before_timestamp_seconds": begins,
        "authority_not_after_timestamp_seconds": ends,
        "authority_usable_until_timestamp_seconds": usable,
        "ceremony_by_timestamp_seconds": due,
    }


def _profiles(context: CheckContext) -> Samples:
    rules = context.project.inventory.profiles
    before = {("server",): rules.server.renew_before, ("client",): rules.client.renew_before}
    return {"profile_renew_before_seconds": {labels: left.total_seconds() for labels, left in before.items()}}


def _crls(context: CheckContext) -> Samples:
    project = context.project
    begins, ends, numbers = dict[Labels, float](), dict[Labels, float](), dict[Labels, float]()
    refresh, crl_series = dict[Labels, float](), dict[Labels, float]()
    for artifact in context.plan.artifacts:
        kind, name = artifact.id.kind, artifact.id.name
        if kind != "crl":
            continue
        authority = "adopted" if project.is_adopted(name) else GenerationName.parse(name).authority
        labels = (name, authority)
        if found := _root_crl(project, name) if authority == "root" else _crl(project, name):
            begins[labels], ends[labels], numbers[labels] = found
        if authority != "root":
            refresh[labels] = project.crl_rule(name).refresh.total_seconds()
        elif last := needs.series_end(project, name):
            crl_series[labels] = last.timestamp()
    return {
        "crl_this_update_timestamp_seconds": begins,
        "crl_next_update_timestamp_seconds": ends,
        "crl_number": numbers,
        "crl_refresh_seconds": refresh,
        "presigned_crl_end_timestamp_seconds": crl_series,
    }


def _crl(project: Project, name: str) -> tuple[float, float, float] | None:
    if kept := project.cache.seen(ArtifactId("crl", name)):
        return kept[0], kept[1], kept[2]
    found = check_authorities.published(project, name)
    if found is None:
        return None
    return _dated(found, found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)


def _root_crl(project: Project, root: str) -> tuple[float, float, float] | None:
    """The pre-signed CRL of a root that is due; an empty CRL is false."""
    present = crls.due_presigned(project, root)
    number = next((one.number for one in project.presigned_crls(root) if one.crl is present), None)
    return None if present is None or number is None else _dated(present, number)


def _dated(crl: x509.CertificateRevocationList, number: int) -> tuple[float, float, float] | None:
    end = crl.next_update_utc
    return (crl.last_update_utc.timestamp(), end.timestamp(), number) if end else None


# -- hosts and services -----------------------------------------------------------------------------------------------


def _deployments(context: CheckContext) -> Samples:
    """What each host is that is not simply well, since when it fails, and when what it has runs out."""
    found = set(_troubles(context))
    counts = Counter(state for _, state in found)
    troubled = {host for host, state in found if state not in {"drift", "unreachable"}}
    lasting = [one.about for one in context.checks if one.topic == "hosts" and one.level and not one.passing]
    troubled |= {one.name for one in lasting if one.kind == "drift"}
    failing = [one for one in context.checks if one.topic == "hosts" and one.level and one.about.kind == "deploy"]
    hosts = [(one.about.name, one) for one in failing]
    return {
        "deployment_state": dict.fromkeys(sorted(found), 1),
        "deployments": {
            ("well",): len(context.plan.deliveries.keys() - troubled),
            **{
                (state,): counts[state]
                for state in ("pending", "failing", "unreachable", "pinned", "not_verified", "drift")
            },
        },
        "deployment_failing_since_timestamp_seconds": {
            (host,): (one.since or context.project.now).timestamp() for host, one in hosts
        },
        "deployment_runs_out_timestamp_seconds": {(host,): one.until.timestamp() for host, one in hosts if one.until},
    }


def _troubles(context: CheckContext) -> Iterator[tuple[str, str]]:
    deliveries, run = context.plan.deliveries, context.run
    kinds = {"deploy": "failing", "pinned": "pinned", "verification": "not_verified", "drift": "drift"}
    for check in context.checks:
        kind, host = check.about.kind, check.about.name
        if check.topic == "hosts" and check.level and kind in kinds and host in deliveries:
            yield host, kinds[kind]
            if kind == "deploy" and deliveries[host].contact.is_unreached:
                yield host, "unreachable"
    for host, delivery in deliveries.items():
        if ArtifactId("deploy", host) in run.failed:
            yield host, "failing"
        elif ArtifactId("deploy", host) in run.unmet or delivery.is_behind(context.project.cache):
            yield host, "pending"


def _probes(context: CheckContext) -> Samples:
    probes = [((one.host, one.service, one.name), one) for one in context.probes]
    there = [(labels, one) for labels, one in probes if one.reached]
    return {
        "probe_success": {labels: float(one.is_well) for labels, one in probes},
        "probe_reached": {labels: float(one.reached) for labels, one in probes},
        "probe_duration_seconds": {labels: one.seconds for labels, one in probes},
        "probe_not_after_timestamp_seconds": {
            labels: one.not_after.timestamp() for labels, one in there if one.not_after
        },
        "probe_tls_info": {(*labels, one.version): 1 for labels, one in there if one.version},
        "probe_wrong_info": {(*labels, one.fault, plain(one.phrase)): 1 for labels, one in probes if one.wrong},
    }


# -- the project itself -------------------------------------------------------------------------------------------------


def _ledger(context: CheckContext) -> Samples:
    if not context.project.has_ledger:
        return {"ledger_certificates_total": {(): 0}, "ledger_revocations_total": {(): 0}}
    issued, revoked = check_machine.counts(context.project)
    return {"ledger_certificates_total": {(): issued}, "ledger_revocations_total": {(): revoked}}


def _checks(context: CheckContext) -> Samples:
    levels = Counter(one.level for one in context.checks)
    found = dict[Labels, float]()
    for one in context.checks:
        if one.level:
            labels = (plain(one.subject), one.topic, plain(str(one.remedy)))
            found[labels] = max(one.level, found.get(labels, 0))
    return {"checks": {(level.word,): levels[level] for level in Level}, "check_level": found}


CHECKS: tuple[Callable[[CheckContext], Samples], ...] = (
    *(_authorities, _profiles, _crls, _deployments, _probes, _ledger, _checks),
)
