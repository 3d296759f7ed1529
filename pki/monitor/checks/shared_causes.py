"""Services whose fault a failed deployment to their host explains: one cause is one finding."""

from __future__ import annotations

from pki.common.errors import ErrorCode, PkiError
from pki.config.identifiers import ArtifactId
from pki.deploy import preflight
from pki.deploy.contact import Contact
from pki.deploy.protocol import Step, command_name
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.probes import ProbeFault, ProbeResult


def is_explained_by_delivery(context: CheckContext, result: ProbeResult) -> bool:
    """Return whether the failed deployment to its host explains what is wrong with a service.

    That is so if the service failed verification, or its proxy could not be reloaded.
    """
    contact = _contact(context, result.host)
    if contact is None or not contact.failing_since or not result.wrong:
        return False
    return result.service in contact.services or _is_unreloaded(context, result, contact)


def services_explained_by_delivery(context: CheckContext, host: str) -> list[ProbeResult]:
    """Return the services of a host that do not answer and whose fault its failed deployment explains."""
    return [
        result
        for result in context.probes
        if result.host == host and result.fault == ProbeFault.SILENT and is_explained_by_delivery(context, result)
    ]


def is_unreachable(context: CheckContext, host: str) -> bool:
    """Return whether ssh cannot reach the host, which check_hosts reports."""
    failure, contact = context.run.failure(ArtifactId("deploy", host)), _contact(context, host)
    return (failure is not None and failure.code is ErrorCode.UNREACHABLE) or (
        contact is not None and contact.is_unreached
    )


def _is_unreloaded(context: CheckContext, result: ProbeResult, contact: Contact) -> bool:
    """Return whether the reload command that failed is the one that makes the proxy serve a certificate of this service."""
    command, payload = contact.failed_at(Step.RELOAD), context.plan.deliveries[result.host].payloads.desired()
    if not command or payload is None:
        return False
    try:
        return command in map(command_name, preflight.reload_commands(payload, result.name))
    except PkiError:  # a damaged release, which check_files reports
        return False


def _contact(context: CheckContext, host: str) -> Contact | None:
    delivery = context.plan.deliveries.get(host)
    return delivery.records.contact if delivery and delivery.records.is_contacted else None
