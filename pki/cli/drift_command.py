"""The command deploy.drift: compare hosts with what was deployed to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import (
    command_with,
    project_as_it_is,
)
from pki.cli.deploy_commands import deliveries_of
from pki.cli.json_output import DriftOutput, DriftRow, ReasonOutput
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy import drift as drifts
from pki.deploy.delivery import Delivery
from pki.deploy.transaction import differences

PARALLEL_HOSTS = 10


@command_with(may_lack="host")
def drift(context: Context, host: str | None = None, json: bool = False) -> None:
    """Compare hosts with what was deployed there, and change nothing.

    The next run repairs what this command finds. --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    deliveries = deliveries_of(project)
    chosen = [deliveries[require_one_of(host, deliveries, "host")]] if host else list(deliveries.values())
    with ThreadPoolExecutor(PARALLEL_HOSTS) as pool:
        drift_results = pool.map(lambda delivery: _drift(delivery, project.now), chosen)
        results = dict(zip((delivery.host for delivery in chosen), drift_results, strict=True))
    for name, result in results.items():
        if not isinstance(result, PkiError):
            deliveries[name].records.record_drift(result.drift, result.writable)
    if json:
        DriftOutput(at=project.now, hosts=[_drift_row(name, result) for name, result in results.items()]).show()
    else:
        _print_drift(screen, results)
    if any(isinstance(result, PkiError) for result in results.values()):
        raise Exit(code=1)
    if any(result.phrases for result in results.values() if not isinstance(result, PkiError)):
        raise Exit(code=2)


def _print_drift(screen: Screen, results: Mapping[str, _DriftResult | PkiError]) -> None:
    for host, result in results.items():
        name = ArtifactId("deploy", host)
        if isinstance(result, PkiError):
            screen.failed(name, result.message, result.hint)
            continue
        for reason in result.phrases:
            screen.due(name, str(reason))
        if result.writable:
            screen.line(f"→ {drifts.permission_remedy(result.writable, host)}")
    unchanged_hosts = [result for result in results.values() if not isinstance(result, PkiError) and not result.phrases]
    if len(unchanged_hosts) == len(results):
        waiting_count = sum(result.waiting for result in unchanged_hosts)
        suffix = f"; {counted(waiting_count, 'change')} to be made by the next run" if waiting_count else ""
        screen.line(f"{counted(len(results), 'host')} without drift{suffix}")


def _drift_row(host: str, result: _DriftResult | PkiError) -> DriftRow:
    if isinstance(result, PkiError):
        return DriftRow(host=host, reached=False, error=result.message, remedy=result.hint, differences=[], waiting=0)
    differences = [ReasonOutput.of(reason) for reason in result.phrases]
    remedy = str(drifts.permission_remedy(result.writable, host)) if result.writable else ""
    return DriftRow(host=host, reached=True, error="", remedy=remedy, differences=differences, waiting=result.waiting)


class _DriftResult(NamedTuple):
    """The drift of a host. `phrases` are what is printed: the drift, and folders that others can write.

    `waiting` is the number of changes that the next run makes for other reasons.
    """

    phrases: Sequence[Reason]
    drift: tuple[Reason, ...] = ()
    writable: tuple[Reason, ...] = ()
    waiting: int = 0


def _drift(delivery: Delivery, now: datetime) -> _DriftResult | PkiError:
    """Compare one host with what was deployed there; return the error, and record it, if that is not possible."""
    try:
        receipt, payload = delivery.records.receipt, delivery.payloads.desired()
        if receipt is None and not delivery.records.has_lost_receipt:
            return _DriftResult([Why.NEVER_DEPLOYED()])
        if receipt is None:
            return _DriftResult([Why.RECEIPT_DAMAGED()])
        if not delivery.records.is_contacted:
            return _DriftResult(delivery.records.folder_transport.drift(receipt))
        if payload is None:
            return _DriftResult([Why.STATED(text="its release is missing: ./run doit")])
        with delivery.change(payload, receipt, now).session() as session:
            states = session.inspect()
            session.end()
    except PkiError as error:
        delivery.records.record_unreached(error, now)
        return error
    reasons = drifts.drift_reasons(states, receipt)
    drifted_states = [state for state in states if drifts.drift_reasons([state], receipt)]
    drift_texts = differences(drifted_states)
    waiting_count = len(differences(states)) - len(drift_texts)
    return _DriftResult([*drift_texts, *session.writable], reasons, session.writable, waiting_count)
