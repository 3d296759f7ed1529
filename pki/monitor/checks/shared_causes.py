"""One cause, told once: the services of which the failed delivery to their host tells already."""

from __future__ import annotations

from pki.common.errors import ErrorCode, PkiError
from pki.config.identifiers import ArtifactId
from pki.deploy import preflight
from pki.deploy.contact import Contact
from pki.deploy.protocol import Step, command_name
from pki.monitor.checks.check_context import View
from pki.monitor.probes import Fault, Probed


def is_told(view: View, one: Probed) -> bool:
    """Return whether the delivery to the host of a service failed for what is wrong with that service.

    The service itself disproved the delivery, or its proxy could not be reloaded.
    """
    contact = _contact(view, one.host)
    if contact is None or not contact.failing_since or not one.wrong:
        return False
    return one.service in contact.services or _is_unreloaded(view, one, contact)


def told(view: View, host: str) -> list[Probed]:
    """Return the services of a host that answer nobody, and of which its failed delivery tells."""
    return [one for one in view.probes if one.host == host and one.fault == Fault.SILENT and is_told(view, one)]


def is_unreached(view: View, host: str) -> bool:
    """Return whether ssh does not get to a host, which the look at hosts tells."""
    failure, contact = view.run.failure(ArtifactId("deploy", host)), _contact(view, host)
    return (failure is not None and failure.code is ErrorCode.UNREACHABLE) or (
        contact is not None and contact.is_unreached
    )


def _is_unreloaded(view: View, one: Probed, contact: Contact) -> bool:
    """Whether the command that failed is the one after which the proxy serves the certificate of a service."""
    command, payload = contact.failed_at(Step.RELOAD), view.plan.deliveries[one.host].desired_payload()
    if not command or payload is None:
        return False
    try:
        return command in map(command_name, preflight.reload_commands(payload, one.name))
    except PkiError:  # a damaged release: it is told as such
        return False


def _contact(view: View, host: str) -> Contact | None:
    delivery = view.plan.deliveries.get(host)
    return delivery.contact if delivery and delivery.is_remote else None
