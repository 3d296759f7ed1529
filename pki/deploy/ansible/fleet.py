"""One contact for all hosts that Ansible delivers to: prepared, run, and each host's outcome filed.

doit keeps one task for each host. The first of them that acts takes along all the others that this run was asked for
and that wait too; these then find what became of them. Nothing of it outlives the run, which `token` stands for.
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
from pki.common.filesystem import leave_all_to_owner
from pki.common.reasons import Reason
from pki.common.visible import plain
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
from pki.deploy.receipt import instant
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint
from pki.deploy.transaction import HostOutcome
from pki.deploy.verification import Verification, failed_services
from pki.project.layout import Store

BEFORE_SSH = re.compile(r"^.*?(over|via) ssh: ", re.DOTALL | re.IGNORECASE)  # what Ansible puts before ssh's own words
MESSAGE_LENGTH = 4000  # characters that are looked at of a message of Ansible
NOT_REACHED = "not reached: too many hosts failed before it"


@dataclass
class Fleet:
    """The hosts of one project; `waiting` names those that this run was asked for, that are due and whose release is."""

    store: Store
    settings: Ansible
    waiting: Callable[[], Iterable[Delivery]]
    token: str = field(default_factory=lambda: os.urandom(8).hex())

    # -- what a task asks --

    def unreported(self, host: str) -> list[Reason]:
        """What was done on a host in this run and is not said yet."""
        return _done(self._recorded(host) or {})

    def deliver(self, delivery: Delivery, now: datetime) -> list[Reason]:
        """What was done. Raises PkiError, which is filed by then."""
        with self.store.turn("fleet"):  # other processes of this run wait, and find themselves taken along
            told = self._recorded(delivery.host)
            if told is None:
                self._contact([delivery, *(one for one in self.waiting() if one.host != delivery.host)], now)
                told = self._recorded(delivery.host) or {}
            done = _done(told)
            if told.get("has_more"):
                self._outcome_path(delivery.host).unlink(missing_ok=True)
                self._contact([delivery], now)
                told = self._recorded(delivery.host) or {}
                done += _done(told)
        if "message" in told:
            raise PkiError(told["message"], told["hint"], ErrorCode(told["code"]))
        self._outcome_path(delivery.host).unlink(missing_ok=True)
        return done

    # -- one contact --

    def _contact(self, deliveries: Iterable[Delivery], now: datetime) -> None:
        """Deliver to all that have heard nothing in this run, those last that failed the last time."""
        payloads: dict[str, tuple[Delivery, HostPayload]] = {}
        for delivery in sorted(deliveries, key=lambda one: bool(one.contact.failing_since)):
            if self._recorded(delivery.host) is None:
                try:
                    payloads[delivery.host] = (delivery, prepare_payload(delivery, now))
                except PkiError as error:
                    self._record(delivery.host, error=_record_failure(delivery, error, now))
        if not payloads:
            return
        folder = self.store.ansible() / "project"
        try:
            playbooks.write(folder, [one for _, one in payloads.values()], self.settings)
            report = runner.run(folder, self._command(), f"{instant(now)}-{self.token[:4]}".replace(":", ""))
        except PkiError as error:
            for host in payloads:
                self._record(host, error=error)
            return
        finally:
            playbooks.remove_secrets(folder)
            leave_all_to_owner(self.store.ansible())
        for host, (delivery, host_payload) in payloads.items():
            if host in report.results:
                self._record(host, **_record_result(delivery, host_payload, report.results[host], now))
            else:
                self._record(host, error=self._without_result(report))

    def _command(self) -> str:
        said = self.settings.command
        return str(self.store.home / said) if "/" in said else said

    def _without_result(self, report: runner.Report) -> PkiError:
        if report.complaint:
            return PkiError(
                f"Ansible broke off: {plain(report.complaint)}", f"its log: {self.store.ansible() / 'runs'}"
            )
        return PkiError(NOT_REACHED, "fix those, then: ./run doit")

    # -- what became of each, for its own task --

    def _outcome_path(self, host: str) -> Path:
        return self.store.ansible() / "told" / f"{host}.json"

    def _recorded(self, host: str) -> dict[str, Any] | None:
        told = sealed_records.unsealed(filesystem.read_if_possible(self._outcome_path(host))) or {}
        return told if told.get("run") == self.token else None

    def _record(
        self, host: str, *, done: Iterable[Reason] = (), error: PkiError | None = None, has_more: bool = False
    ) -> None:
        """`has_more`: the host told of files that came from here and are not wanted, which another contact takes away."""
        told: dict[str, Any] = {"done": [one.as_json() for one in done], "has_more": has_more}
        if error:
            told = {"message": error.message, "hint": error.hint, "code": error.code.value}
        filesystem.make_folder(self._outcome_path(host).parent, 0o700)
        filesystem.write(self._outcome_path(host), sealed_records.sealed({"run": self.token, **told}))


def _done(told: Mapping[str, Any]) -> list[Reason]:
    return [Reason.from_json(one) for one in told.get("done", [])]


def prepare_payload(delivery: Delivery, now: datetime) -> HostPayload:
    """A host's release, ready to leave. Raises PkiError when it must not."""
    payload = delivery.desired_payload()
    if payload is None:
        raise PkiError("its release is missing", "./run doit")
    delivery.require_accepted_root()
    change = delivery.change(payload, delivery.receipt, now)
    findings = delivery.check(change)
    sent = [
        InstalledCrl("", content) for path in delivery.history.crls().values() if (content := filesystem.read(path))
    ]
    return HostPayload(change, findings, tuple(change.replaceable_crls(sent)))


def collect(delivery: Delivery, result: Mapping[str, Any], now: datetime) -> list[Reason]:
    """File what became of a host elsewhere: what was done there. Raises PkiError, which is filed by then."""
    host_payload = prepare_payload(delivery, now)
    may_lack_it = result.get("failed") or result.get("unreachable")  # Ansible's own words, before our action began
    if ("release" in result or not may_lack_it) and result.get("release") != host_payload.change.payload.release.digest:
        raise PkiError("took another release than the present one", "export again, and let Ansible run")
    filed = _record_result(delivery, host_payload, result, now)
    if error := filed.get("error"):
        raise error
    return list(filed["done"])


def _record_result(
    delivery: Delivery, host_payload: HostPayload, result: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    try:
        outcome = _outcome(host_payload, result)
    except PkiError as error:
        return {"error": _record_failure(delivery, error, now)}
    done = delivery.record_outcome(host_payload.change, outcome, now)
    return {"done": done, "has_more": outcome.receipt.files != host_payload.change.files}


def _record_failure(delivery: Delivery, error: PkiError, now: datetime) -> PkiError:
    payload = delivery.desired_payload()
    return delivery.record_failure(payload, error, now) if payload else error


def _outcome(host_payload: HostPayload, result: Mapping[str, Any]) -> HostOutcome:
    """What a host's answers mean, as they do in our own dialogue. Raises PkiError."""
    change, said = host_payload.change, list(_answers(result))
    way, verifications = (
        change.destination.transport,
        _verifications(result, (one.service for one in change.destination.endpoints)),
    )
    if refusal := host_output.refusal(said, way.host, command_lines(change.rows)):
        raise refusal_error(refusal, change.rows)
    if error := next((answer["error"] for answer in said if "error" in answer), ""):
        raise PkiError(plain(error), f"./run invoke deploy.bootstrap {way.host}", ErrorCode.NEEDS_BOOTSTRAP)
    if fault := _fault(way, change.destination.endpoints, result):
        raise fault
    looked = file_states(way.host, change.rows, [answer for answer in said if "is" in answer])
    differs = change.without_held_back(looked)
    if differs and all(answer.get("state") != "kept" for answer in said):
        raise PkiError("was looked at, and nothing was delivered", "let Ansible run without --check")
    outcome = change.outcome(host_payload.findings, differs, verifications)
    outcome = replace(outcome, writable=writable_folders(said))
    return outcome.with_surplus(surplus_files(way.host, said)) if change.needs_surplus_list else outcome


def _fault(way: Transport, endpoints: Iterable[Endpoint], result: Mapping[str, Any]) -> PkiError | None:
    """What went wrong with a host, by what our action, or Ansible itself, says of it."""
    words = str(result.get("msg", "failed"))[:MESSAGE_LENGTH]
    if "nonsense" in result:
        line = str(result["nonsense"])
        return invalid_answer(way.host, line) if result.get("greeted") else way.greeting_error(line)
    if isinstance(unknown := result.get("unknown"), list) and unknown:
        return regression_error(way.host, (f"{plain(str(path))} is unknown here" for path in unknown))
    if result.get("unreachable"):
        return way.connection_error(255, BEFORE_SSH.sub("", words))
    if "after" in result:
        after = str(result["after"])
        verifications = _verifications(result, [one.service for one in endpoints]) or {}
        return ServiceRefusal(plain(str(result.get("wrong", words))), plain(after), failed_services(verifications))
    if "rc" in result:
        return _contact_error(way, result)
    return PkiError(f"Ansible: {plain(words)}", "its log says more") if result.get("failed") else None


def _contact_error(way: Transport, result: Mapping[str, Any]) -> PkiError:
    """What the exit status of a contact means, with what stood on its error channel."""
    complaint, status = str(result.get("complaint", ""))[-MESSAGE_LENGTH:], result["rc"]
    _, stopped, what = complaint.rpartition(host_output.STOPPED)
    if stopped:
        return way.limit_error(plain(what))
    failure = way.connection_error if result.get("greeted") else way.start_error
    return failure(status if isinstance(status, int) else 1, complaint)


def _answers(result: Mapping[str, Any]) -> Iterator[host_output.Answer]:
    """The answers of pki-apply, read once more: events may come from elsewhere."""
    found = result.get("answers")
    for one in found if isinstance(found, list) else []:
        if answer := host_output.validated(one):
            yield answer


def _verifications(result: Mapping[str, Any], services: Iterable[str]) -> dict[str, Verification] | None:
    """What was seen of each service, as far as it is known here."""
    found = result.get("verifications")
    if not isinstance(found, dict):
        return None
    try:
        seen = {name: Verification.from_json(found[name]) for name in services if name in found}
    except (TypeError, ValueError):  # events may come from elsewhere
        return None
    return {name: Verification(one.verdict, plain(one.text)) for name, one in seen.items()}
