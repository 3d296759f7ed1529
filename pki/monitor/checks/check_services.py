"""Checks of services by their probe results: no answer, wrong certificate, or clients accepted that must be refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from pki.common.remedies import Place, Remedy, at, here
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Leaf
from pki.config.service_protocols import program_of
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_certificates, check_hosts, shared_causes
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.probes import ProbeFault, ProbeResult
from pki.monitor.unseen_services import unseen_services
from pki.pipeline.delivery_targets import jump_transport

CRITICAL_FAULTS = {ProbeFault.WRONGLY_ADMITTED, ProbeFault.UNVERIFIED}
NAMED = 5  # services that one finding lists
NOT_VERIFIABLE = "docs/how-to/services.md: what each server must permit the probe"
OLD_OPENSSL = "docs/explanation/post-quantum.md: which OpenSSL the Python of this machine needs"
NEWER = "docs/how-to/proxies.md: configure it to allow only TLS 1.2 and 1.3"


def check_services(context: CheckContext) -> Iterator[Finding]:
    """Report services that do not serve what was deployed. Services that fail for the same reason are one finding."""
    by_host: dict[str, list[ProbeResult]] = {}
    for result in context.probes:
        by_host.setdefault(result.host, []).append(result)
    yield from _unprobed(context)
    for host, results in by_host.items():
        silent = [
            result
            for result in results
            if result.fault == ProbeFault.SILENT and not shared_causes.is_explained_by_delivery(context, result)
        ]
        if silent and not shared_causes.is_unreachable(context, host):
            is_all = len(silent) == len(results) and not any(result.fingerprint for result in silent)
            yield from _silent(context, host, silent, is_all=is_all)
        for result in results:
            if result.fault not in {ProbeFault.SILENT, ProbeFault.JUMP, ProbeFault.PROBE_FAILED} and (
                check := _answering(context, result)
            ):
                yield check
    if not_compared := [result for result in context.probes if not (result.wrong or result.is_compared)]:
        verb, pronoun = ("answers", "it") if len(not_compared) == 1 else ("answer", "them")
        text = f"{_names_of(not_compared)} {verb}; not compared, because no deployment to {pronoun} is recorded"
        remedy = here("invoke", "deploy.push", not_compared[0].host)
        yield Finding("services", Level.NOTICE, text, remedy)
    yield from _not_verifiable(context)
    count = sum(1 for result in context.probes if result.is_well)
    if count:
        yield Finding(
            "services", Level.OK, f"{count} {'services serve' if count > 1 else 'service serves'} what was deployed"
        )


def _not_verifiable(context: CheckContext) -> Iterator[Finding]:
    """Report services whose answers do not show who is let in, and those whose protocol cannot be asked from here."""
    for result in context.probes:
        if result.unverifiable and not result.wrong:
            remedy = NOT_VERIFIABLE if result.fingerprint else OLD_OPENSSL
            yield Finding(result.subject, Level.NOTICE, result.open_question, remedy)
    if unseen := list(unseen_services(context.project.inventory)):
        yield Finding("services", Level.OK, f"not verifiable from here: {_names_of(unseen)}")


def check_last_probes(context: CheckContext) -> Iterator[Finding]:
    """Report the cached probe results with their times, and the failed deployments that explain them; open no connection."""
    yield from check_hosts.failed_deliveries_with_services(context)
    for finding in check_services(context):
        host = finding.about.name.partition("/")[0]
        results = [
            result
            for result in context.probes
            if finding.subject in {result.subject, "services", ArtifactId("jump", result.via)}
        ]
        if not results:  # a finding about all services of a host
            results = [result for result in context.probes if result.host == host]
        times = [result.at for result in results if result.at]
        when = f" (probed {min(times):%Y-%m-%d %H:%M})" if times else ""
        yield replace(finding, what=f"{finding.message}{when}")


def failing_subjects(probes: Sequence[ProbeResult]) -> frozenset[str]:
    """Return the subjects of findings that are not solved, because a service that they are about still fails."""
    wrong = [result for result in probes if result.wrong]
    names: set[str] = {name for result in wrong for name in (result.subject, ArtifactId("service", result.host))}
    names |= {ArtifactId("jump", result.via) for result in wrong if result.fault == ProbeFault.JUMP}
    if any(result.fault == ProbeFault.PROBE_FAILED for result in wrong):
        names.add("services")
    return frozenset(names)


def _unprobed(context: CheckContext) -> Iterator[Finding]:
    """Report jump hosts that do not forward, and services that could not be probed."""
    probes = context.probes
    for via in sorted({result.via for result in probes if result.fault == ProbeFault.JUMP}):
        behind = [result for result in probes if result.via == via and result.fault == ProbeFault.JUMP]
        text = f"the services behind it cannot be probed ({_names_of(behind)}): {behind[0].wrong}"
        login = _login(context, behind[0])
        after = ", as the account that runs doit; docs/how-to/probes.md#behind-a-jump-host"
        yield Finding(ArtifactId("jump", via), Level.WARNING, text, Remedy(f"{login} true", after=after))
    if not_probed := [result for result in probes if result.fault == ProbeFault.PROBE_FAILED]:
        yield Finding("services", Level.WARNING, f"{_names_of(not_probed)} {not_probed[0].wrong}", "./run doit")


def _login(context: CheckContext, result: ProbeResult) -> str:
    """Return the ssh command that logs in to the jump host of a service, with the options that our tunnel uses."""
    jump = jump_transport(
        context.project.inventory, context.project.store, context.project.inventory.hosts[result.host]
    )
    return shlex.join(jump.login_command) if jump else f"ssh {shlex.quote(result.via)}"


def _names_of(results: Sequence[ProbeResult]) -> str:
    """Return the names of the first services as text, and how many more there are."""
    names = ", ".join(f"{result.host}/{result.service}" for result in results[:NAMED])
    return f"{names} and {len(results) - NAMED} more" if len(results) > NAMED else names


def _silent(context: CheckContext, host: str, silent: Sequence[ProbeResult], *, is_all: bool) -> Iterator[Finding]:
    """Report services that do not answer: one finding if no service of the host answers, else one for each service."""
    if is_all and len(silent) > 1:
        text = f"none of its {len(silent)} services can be reached: {silent[0].wrong}"
        yield Finding(ArtifactId("service", host), Level.WARNING, text, _remedy(context, silent[0]))
        return
    for result in silent:
        yield Finding(result.subject, Level.WARNING, result.wrong, _remedy(context, result))


def _answering(context: CheckContext, result: ProbeResult) -> Finding | None:
    """Report a service that answers and fails; None if nothing is wrong, or the failed deployment explains it."""
    until = _expiry_of_old_certificate(context, result)
    level = Level.WARNING if result.wrong else Level.OK
    if result.fault in CRITICAL_FAULTS:
        level = Level.CRITICAL
    texts, remedy = [result.wrong] if result.wrong else [], _remedy(context, result)
    if until:
        texts += [f"the certificate that it serves expires on {until:%Y-%m-%d}"]
        level = max(level, check_certificates.level_when_late(_leaf(context, result), until - context.now))
    elif level is Level.WARNING and shared_causes.is_explained_by_delivery(context, result):
        texts, level = [], Level.OK
    if result.outdated:
        texts += [f"still accepts {result.outdated.replace('v', ' ')}"]
        level, remedy = max(level, Level.NOTICE), remedy if level else NEWER
    return Finding(result.subject, level, "; ".join(texts), remedy, until=until) if texts else None


def _expiry_of_old_certificate(context: CheckContext, result: ProbeResult) -> datetime | None:
    """Return when the served certificate expires, if that is near and a newer certificate was issued already; else None."""
    leaf = context.plan.leaves.get(_leaf_name(result))
    if result.not_after is None or leaf is None:
        return None
    if context.now < leaf.renewal_start(result.not_after) + check_certificates.GRACE:
        return None
    newest = check_certificates.certificate_expiry(context, leaf)
    return result.not_after if newest and newest > result.not_after else None


def _leaf(context: CheckContext, result: ProbeResult) -> Leaf:
    return context.plan.leaves[_leaf_name(result)]


def _leaf_name(result: ProbeResult) -> str:
    return leaf_name(result.host, "mtls" if result.access == "mtls" else "tls")


def _remedy(context: CheckContext, result: ProbeResult) -> Remedy | str:
    """Return what to type: on the host, or on the machine that runs doit."""
    host = context.project.inventory.hosts[result.host]
    program = program_of(host, result.service)
    own_reload = host.reload if host.services[result.service].is_proxied else None  # its unit is unknown then
    is_ours = host.transport in {"ssh", "local", "command"}
    push = here("invoke", "deploy.push", result.host) if is_ours else f"copy the release of {result.host} to it"
    if result.fault == ProbeFault.SILENT:
        port = f"check that this machine can reach port {result.port}; if it never can: probe: none in pki.yaml"
        if not program or not program.unit or own_reload:
            return f"on {result.host}: {port}"
        return at(Place.HOST, f"systemctl status {program.unit}", result.host, after=f"; {port}")
    if result.fault == ProbeFault.UPSTREAM:
        return f"check the upstream of {result.host}: {host.services[result.service].upstream}"
    reload = own_reload or (program.reload if program else "")
    if not reload:
        return push
    return at(Place.HOST, reload, result.host, after=f"; if that does not help: {push}")
