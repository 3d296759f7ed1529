"""Health of services, as a sweep saw them from outside: who does not answer, serves another certificate, lets in too many."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from pki.common.remedies import Place, Remedy, at, here
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Leaf
from pki.config.proxies import PROGRAMS
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_certificates, check_hosts, shared_causes
from pki.monitor.checks.check_context import View
from pki.monitor.probes import Fault, Probed
from pki.pipeline.delivery_targets import jump_transport

CRITICAL = {Fault.ENTRY, Fault.UNVERIFIED}
NAMED = 5  # services that one check names
NEWER = "docs/proxies.md (what they hold to): its configuration permits TLS 1.2 and 1.3 alone"


def services(view: View) -> Iterator[Finding]:
    """Every service answers as it was deployed; of those that cannot be asked for one reason it is said once."""
    by_host: dict[str, list[Probed]] = {}
    for one in view.probes:
        by_host.setdefault(one.host, []).append(one)
    yield from _unasked(view)
    for host, found in by_host.items():
        silent = [one for one in found if one.fault == Fault.SILENT and not shared_causes.is_told(view, one)]
        if silent and not shared_causes.is_unreached(view, host):
            yield from _silent(view, host, silent, is_all=len(silent) == len(found))
        for one in found:
            if one.fault not in {Fault.SILENT, Fault.JUMP, Fault.UNSEEN} and (check := _one(view, one)):
                yield check
    if unknown := [one for one in view.probes if not (one.wrong or one.is_compared)]:
        text = f"{_listed(unknown)} answers, and was not compared: nobody knows here what was deployed there"
        remedy = here("invoke", "deploy.push", unknown[0].host)
        yield Finding("services", Level.NOTICE, text, remedy)
    well = sum(1 for one in view.probes if one.is_well)
    if well:
        yield Finding(
            "services", Level.OK, f"{well} {'services answer' if well > 1 else 'service answers'} as deployed"
        )


def last_seen(view: View) -> Iterator[Finding]:
    """What the last look said of each service, with its time, and of the deliveries that tell it; opens no connection."""
    yield from check_hosts.failing_services(view)
    for check in services(view):
        host = check.about.name.partition("/")[0]
        about = [one for one in view.probes if check.subject in {one.subject, "services", ArtifactId("jump", one.via)}]
        times = [one.at for one in about or view.probes if one.at and (about or one.host == host)]
        when = f" (seen {min(times):%Y-%m-%d %H:%M})" if times else ""
        yield replace(check, what=f"{check.message}{when}")


def subjects(probes: Sequence[Probed]) -> frozenset[str]:
    """Subjects of checks that cannot be over, for something of what they are about is wrong still."""
    wrong = [one for one in probes if one.wrong]
    names = {name for one in wrong for name in (one.subject, ArtifactId("service", one.host))}
    names |= {ArtifactId("jump", one.via) for one in wrong if one.fault == Fault.JUMP}
    return frozenset(names | ({"services"} if any(one.fault == Fault.UNSEEN for one in wrong) else set()))


def _unasked(view: View) -> Iterator[Finding]:
    """Jump hosts that forward nothing, and what keeps us here from looking."""
    probes = view.probes
    for via in sorted({one.via for one in probes if one.fault == Fault.JUMP}):
        behind = [one for one in probes if one.via == via and one.fault == Fault.JUMP]
        text = f"nothing is seen of what lies behind it ({_listed(behind)}): {behind[0].wrong}"
        login = _login(view, behind[0])
        after = ", as the account that runs doit; docs/watching.md#behind-a-jump-host"
        yield Finding(ArtifactId("jump", via), Level.WARNING, text, Remedy(f"{login} true", after=after))
    if unseen := [one for one in probes if one.fault == Fault.UNSEEN]:
        yield Finding("services", Level.WARNING, f"{_listed(unseen)} {unseen[0].wrong}", "./run doit")


def _login(view: View, one: Probed) -> str:
    """Return how a person logs in to the jump host before a service, as our tunnel does."""
    jump = jump_transport(view.project, view.project.inventory.hosts[one.host])
    return shlex.join(jump.login_command) if jump else f"ssh {shlex.quote(one.via)}"


def _listed(some: Sequence[Probed]) -> str:
    named = ", ".join(f"{one.host}/{one.service}" for one in some[:NAMED])
    return f"{named} and {len(some) - NAMED} more" if len(some) > NAMED else named


def _silent(view: View, host: str, silent: Sequence[Probed], *, is_all: bool) -> Iterator[Finding]:
    if is_all and len(silent) > 1:
        text = f"none of its {len(silent)} services can be reached: {silent[0].wrong}"
        yield Finding(ArtifactId("service", host), Level.WARNING, text, _remedy(view, silent[0]))
        return
    for one in silent:
        yield Finding(one.subject, Level.WARNING, one.wrong, _remedy(view, one))


def _one(view: View, one: Probed) -> Finding | None:
    """What is wrong with a service that answers; None where nothing is, or the delivery to its host has said it."""
    until = _end(view, one)
    level = Level.CRITICAL if one.fault in CRITICAL else Level.WARNING if one.wrong else Level.OK
    said, remedy = [one.wrong] if one.wrong else [], _remedy(view, one)
    if until:
        said += [f"the certificate that it serves ends on {until:%Y-%m-%d}"]
        level = max(level, check_certificates.level(_leaf(view, one), until - view.now))
    elif level is Level.WARNING and shared_causes.is_told(view, one):
        said, level = [], Level.OK
    if one.outdated:
        said += [f"still speaks {one.outdated.replace('v', ' ')}"]
        level, remedy = max(level, Level.NOTICE), remedy if level else NEWER
    return Finding(one.subject, level, "; ".join(said), remedy, until=until) if said else None


def _end(view: View, one: Probed) -> datetime | None:
    """When what it serves ends, where that nears, and no other look tells it: that of a newer one lies here already."""
    leaf = view.plan.leaves.get(_leaf_name(one))
    if one.not_after is None or leaf is None or view.now < one.not_after - leaf.renew_before + check_certificates.GRACE:
        return None
    newest = check_certificates.end(view, leaf)
    return one.not_after if newest and newest > one.not_after else None


def _leaf(view: View, one: Probed) -> Leaf:
    return view.plan.leaves[_leaf_name(one)]


def _leaf_name(one: Probed) -> str:
    return leaf_name(one.host, "mtls" if one.access == "mtls" else "tls")


def _remedy(view: View, one: Probed) -> Remedy | str:
    """What to type: on the host, and where that is not it, here."""
    host = view.project.inventory.hosts[one.host]
    program = PROGRAMS[host.proxy] if host.proxy else None
    is_ours = host.deliver in {"ssh", "local"}
    push = here("invoke", "deploy.push", one.host) if is_ours else f"bring what doit made for {one.host} there"
    if one.fault == Fault.SILENT:
        port = f"whether port {one.port} is open to this machine; else probe: in pki.yaml"
        if not program or not program.unit:
            return f"on {one.host}: {port}"
        return at(Place.HOST, f"systemctl status {program.unit}", one.host, after=f", and {port}")
    if one.fault == Fault.UPSTREAM:
        return f"look at what is behind {one.host}: {host.services[one.service].upstream}"
    if not program or not program.reload:
        return push
    return at(Place.HOST, program.reload, one.host, after=f"; if that is not it: {push}")
