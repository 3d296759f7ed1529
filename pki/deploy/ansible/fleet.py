"""Delivery to many hosts by one Ansible run, whose outcomes are recorded host by host.

doit has one task for each host. The first one runs Ansible for all hosts that this run must deliver to; the others
then find their outcomes. The outcomes are valid for one run, which `token` identifies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, PkiError
from pki.common.filesystem import give_all_to_folder_owner
from pki.common.reasons import Reason
from pki.common.timestamps import instant
from pki.common.visible import visible_line
from pki.config.model import Ansible
from pki.deploy import host_output
from pki.deploy.ansible import playbooks, runner
from pki.deploy.ansible.playbooks import HostPayload
from pki.deploy.delivery import Delivery
from pki.deploy.installed_crls import InstalledCrl, regression_error
from pki.deploy.protocol import (
    ServiceRefusal,
    command_lines,
    file_states,
    invalid_answer,
    refusal_error,
    surplus_files,
    writable_folders,
)
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint
from pki.deploy.transaction import HostOutcome
from pki.deploy.verification import Verification, failed_services
from pki.project.layout import Store

BEFORE_SSH = re.compile(r"^.*?(over|via) ssh: ", re.DOTALL | re.IGNORECASE)  # Ansible's prefix of a message of ssh
MESSAGE_LENGTH = 4000  # characters of a message of Ansible that are used
NOT_REACHED = "not reached: too many hosts failed before it"


@dataclass
class Fleet:
    """The hosts of one project; `waiting` returns the deliveries of this run that are due and whose release is ready."""

    store: Store
    settings: Ansible
    waiting: Callable[[], Iterable[Delivery]]
    token: str = field(default_factory=lambda: os.urandom(8).hex())

    # -- for the task of a host --

    def unreported(self, host: str) -> list[Reason]:
        """Return what was done on a host in this run and is not reported yet."""
        return _done(self._recorded(host) or {})

    def deliver(self, delivery: Delivery, now: datetime) -> list[Reason]:
        """Return what was done on a host. Raises PkiError, which is recorded by then."""
        with self.store.hold_lock("fleet"):  # other processes of this run wait, and then find their outcomes
            outcome = self._recorded(delivery.host)
            if outcome is None:
                self._contact([delivery, *(other for other in self.waiting() if other.host != delivery.host)], now)
                outcome = self._recorded(delivery.host) or {}
            done = _done(outcome)
            if outcome.get("has_more"):
                self._outcome_path(delivery.host).unlink(missing_ok=True)
                self._contact([delivery], now)
                outcome = self._recorded(delivery.host) or {}
                done += _done(outcome)
        if "message" in outcome:
            raise PkiError(outcome["message"], outcome["hint"], ErrorCode(outcome["code"]))
        self._outcome_path(delivery.host).unlink(missing_ok=True)
        return done

    # -- one run of Ansible --

    def _contact(self, deliveries: Iterable[Delivery], now: datetime) -> None:
        """Deliver to all hosts without an outcome in this run, last to those that failed before."""
        payloads: dict[str, tuple[Delivery, HostPayload]] = {}
        for delivery in sorted(deliveries, key=lambda delivery: bool(delivery.records.contact.failing_since)):
            if self._recorded(delivery.host) is None:
                try:
                    payloads[delivery.host] = (delivery, prepare_payload(delivery, now))
                except PkiError as error:
                    self._record(delivery.host, error=_record_failure(delivery, error, now))
        if not payloads:
            return
        folder = self.store.ansible() / "project"
        try:
            playbooks.write(folder, [payload for _, payload in payloads.values()], self.settings)
            report = runner.run(folder, self._command(), f"{instant(now)}-{self.token[:4]}".replace(":", ""))
        except PkiError as error:
            for host in payloads:
                self._record(host, error=error)
            return
        finally:
            playbooks.remove_secrets(folder)
            give_all_to_folder_owner(self.store.ansible())
        for host, (delivery, host_payload) in payloads.items():
            if host in report.results:
                self._record(host, **_record_result(delivery, host_payload, report.results[host], now))
            else:
                self._record(host, error=self._without_result(report))

    def _command(self) -> str:
        command = self.settings.command
        return str(self.store.home / command) if "/" in command else command

    def _without_result(self, report: runner.Report) -> PkiError:
        """Return the error for a host of which a run of Ansible has no result."""
        if report.complaint:
            return PkiError(
                f"Ansible stopped: {visible_line(report.complaint)}", f"its log: {self.store.ansible() / 'runs'}"
            )
        return PkiError(NOT_REACHED, "fix those hosts, then: ./run doit")

    # -- the outcome of a host, for its own task --

    def _outcome_path(self, host: str) -> Path:
        return self.store.ansible() / "outcomes" / f"{host}.json"

    def _recorded(self, host: str) -> dict[str, Any] | None:
        outcome = sealed_records.decode_sealed(filesystem.read_if_possible(self._outcome_path(host))) or {}
        return outcome if outcome.get("run") == self.token else None

    def _record(
        self, host: str, *, done: Iterable[Reason] = (), error: PkiError | None = None, has_more: bool = False
    ) -> None:
        """Record the outcome of a host; `has_more`: it has surplus files, which another run must remove."""
        outcome: dict[str, Any] = {"done": [reason.as_json() for reason in done], "has_more": has_more}
        if error:
            outcome = {"message": error.message, "hint": error.hint, "code": error.code.value}
        filesystem.make_folder(self._outcome_path(host).parent, 0o700)
        filesystem.write(self._outcome_path(host), sealed_records.encode_sealed({"run": self.token, **outcome}))


def _done(outcome: Mapping[str, Any]) -> list[Reason]:
    return [Reason.from_json(reason) for reason in outcome.get("done", [])]


def prepare_payload(delivery: Delivery, now: datetime) -> HostPayload:
    """Return the checked release of a host for delivery. Raises PkiError when it must not be delivered."""
    payload = delivery.payloads.desired()
    if payload is None:
        raise PkiError("its release is missing", "./run doit")
    delivery.root_acceptance.require_accepted_root()
    change = delivery.change(payload, delivery.records.receipt, now)
    contents = change.check_release(delivery.payloads.delivered)
    sent = [
        InstalledCrl("", content)
        for path in delivery.records.history.crls().values()
        if (content := filesystem.read(path))
    ]
    return HostPayload(change, contents, tuple(change.replaceable_crls(sent)))


def collect(delivery: Delivery, result: Mapping[str, Any], now: datetime) -> list[Reason]:
    """Record the outcome of a host from a run elsewhere, and return what was done. Raises PkiError, recorded by then."""
    host_payload = prepare_payload(delivery, now)
    failed_before_action = "release" not in result and bool(result.get("failed") or result.get("unreachable"))
    if not failed_before_action and result.get("release") != host_payload.change.payload.release.digest:
        raise PkiError("took another release than the present one", "run deploy.export and the playbook again")
    outcome = _record_result(delivery, host_payload, result, now)
    if error := outcome.get("error"):
        raise error
    return list(outcome["done"])


def _record_result(
    delivery: Delivery, host_payload: HostPayload, result: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    try:
        outcome = _outcome(host_payload, result)
    except PkiError as error:
        return {"error": _record_failure(delivery, error, now)}
    host_outcome = delivery.record_outcome(host_payload.change, outcome, now)
    return {"done": host_outcome, "has_more": outcome.receipt.files != host_payload.change.files}


def _record_failure(delivery: Delivery, error: PkiError, now: datetime) -> PkiError:
    payload = delivery.payloads.desired()
    return delivery.records.record_failure(payload, error, now) if payload else error


def _outcome(host_payload: HostPayload, result: Mapping[str, Any]) -> HostOutcome:
    """Return what a host's answers mean, as in our own dialogue. Raises PkiError."""
    change, answers = host_payload.change, list(_answers(result))
    transport, endpoints = change.destination.transport, change.destination.endpoints
    verifications = _verifications(result, [endpoint.service for endpoint in endpoints])
    if refusal := host_output.refusal(answers, transport.host, command_lines(change.rows)):
        raise refusal_error(refusal, change.rows)
    if error := next((answer["error"] for answer in answers if "error" in answer), ""):
        raise PkiError(
            visible_line(error), f"./run invoke deploy.bootstrap {transport.host}", ErrorCode.NEEDS_BOOTSTRAP
        )
    if fault := _fault(transport, endpoints, result):
        raise fault
    states = file_states(transport.host, change.rows, [answer for answer in answers if "is" in answer])
    changed_states = change.note_states(states)
    if changed_states and all(answer.get("state") != host_output.ChangeState.KEPT for answer in answers):
        raise PkiError("was only checked, nothing was delivered", "run the playbook without --check")
    outcome = change.outcome(host_payload.contents, changed_states, verifications)
    outcome = replace(outcome, writable=writable_folders(answers))
    return outcome.with_surplus(surplus_files(transport.host, answers)) if change.needs_surplus_list else outcome


def _fault(transport: Transport, endpoints: Iterable[Endpoint], result: Mapping[str, Any]) -> PkiError | None:
    """Return what went wrong with a host, from the result of our action or a message of Ansible; None if nothing did."""
    ansible_output = str(result.get("msg", "failed"))[:MESSAGE_LENGTH]
    if "nonsense" in result:
        line = str(result["nonsense"])
        return invalid_answer(transport.host, line) if result.get("greeted") else transport.greeting_error(line)
    if isinstance(unknown_crls := result.get("unknown"), list) and unknown_crls:
        return regression_error(
            transport.host, (f"{visible_line(str(path))} is an unknown CRL" for path in unknown_crls)
        )
    if result.get("unreachable"):
        return transport.connection_error(255, BEFORE_SSH.sub("", ansible_output))
    if "after" in result:
        after = str(result["after"])
        verifications = _verifications(result, [endpoint.service for endpoint in endpoints]) or {}
        return ServiceRefusal(
            visible_line(str(result.get("wrong", ansible_output))), visible_line(after), failed_services(verifications)
        )
    if "rc" in result:
        return _contact_error(transport, result)
    return PkiError(f"Ansible: {visible_line(ansible_output)}", "see its log") if result.get("failed") else None


def _contact_error(transport: Transport, result: Mapping[str, Any]) -> PkiError:
    """Return the error for the exit status and standard error of a contact."""
    errors, status = str(result.get("complaint", ""))[-MESSAGE_LENGTH:], result["rc"]
    _, stopped, what = errors.rpartition(host_output.STOPPED)
    if stopped:
        return transport.limit_error(visible_line(what))
    error_of = transport.connection_error if result.get("greeted") else transport.start_error
    return error_of(status if isinstance(status, int) else 1, errors)


def _answers(result: Mapping[str, Any]) -> Iterator[host_output.Answer]:
    """Yield the valid answers of pki-apply: events may come from elsewhere."""
    answers = result.get("answers")
    for value in answers if isinstance(answers, list) else []:
        if answer := host_output.validated(value):
            yield answer


def _verifications(result: Mapping[str, Any], services: Iterable[str]) -> dict[str, Verification] | None:
    """Return the verification of each known service, None where the result has none."""
    results = result.get("verifications")
    if not isinstance(results, dict):
        return None
    try:
        verifications = {name: Verification.from_json(results[name]) for name in services if name in results}
    except (TypeError, ValueError):  # events may come from elsewhere
        return None
    return {
        name: Verification(verification.verdict, visible_line(verification.text))
        for name, verification in verifications.items()
    }
