"""Probes: connect to every service as its clients do, in parallel, and record what it serves and whom it accepts.

A probe is one connection, or a few, to a service. The probe identity is the certificate for it, which must be let in.
A service is probed once, and once more if it timed out. `deploy.verification` waits for a service after a deployment.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

from cryptography import x509
from pydantic import TypeAdapter

from pki.common import filesystem, sealed_records
from pki.common.errors import from_os_error
from pki.common.timestamps import instant
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.deploy import tls_client, verification
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import NO_UPSTREAM, Answer, Endpoint, NotVerifiable, NotVerified, Unreached
from pki.deploy.verification import WronglyAdmitted
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.plan import Plan
from pki.project.layout import Store

PARALLEL_PROBES = 128  # services probed at the same time
PARALLEL_REPEATS = 8  # few: this machine is then busy with these alone
FORMAT = 2
FILE = "probes.json"


class ProbeFault(StrEnum):
    """The fault of a service, worst first."""

    WRONGLY_ADMITTED = "entry"  # a client that must be refused is accepted
    UNVERIFIED = "unverified"  # name, chain or dates of its certificate are invalid
    REFUSAL = "refusal"  # a client that must be accepted is refused
    NOT_HTTP = "broken"  # it does not answer in its protocol (HTTP, or what it `speaks`) behind TLS
    OTHER_CERTIFICATE = "other"  # it serves a valid certificate that is not the deployed one
    SILENT = "silent"  # no answer
    UPSTREAM = "upstream"  # the proxy answers, its upstream does not
    JUMP = "jump"  # its jump host does not forward
    PROBE_FAILED = "unseen"  # the probe failed here, not at the service


def service_id(host: str, service: str) -> ArtifactId:
    """Return the name of a service in status, health and metrics: `service:HOST/SERVICE`."""
    return ArtifactId("service", f"{host}/{service}")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of probing one service.

    `wrong` is the rest of a sentence that begins with the name of the service, such as `does not answer`, with all faults;
    "" if all is well. `fault` is the worst of them. `unverifiable` is why the answers do not show who is let in, or why no
    handshake is possible from here; "" if they do. `reached` tells whether anything answered, `timed_out` whether a step
    timed out. `not_after`, `fingerprint` (SHA-256, hexadecimal) and `version` (`TLSv1.3`) are from the handshake, empty
    without one; `outdated` is the version below TLS 1.2 that it still accepts, or "". `via` is its jump host,
    `is_compared` whether a deployed certificate is known for it, `seconds` the duration of the probe, `at` its time.
    """

    host: str
    service: str
    name: str
    port: int
    access: str
    wrong: str = ""
    reached: bool = True
    not_after: datetime | None = None
    fingerprint: str = ""
    version: str = ""
    seconds: float = 0.0
    fault: str = ""
    outdated: str = ""
    via: str = ""
    is_compared: bool = True
    at: datetime | None = None
    unverifiable: str = ""
    timed_out: bool = False

    @property
    def subject(self) -> ArtifactId:
        """Return the subject of findings about this service."""
        return service_id(self.host, self.service)

    @property
    def phrase(self) -> str:
        """Return the faults as the rest of a sentence that begins with the name of the service."""
        return f"is behind {self.via}: {self.wrong}" if self.fault == ProbeFault.JUMP else self.wrong

    @property
    def open_question(self) -> str:
        """Return what cannot be verified from here, and why; "" if everything can. Without a handshake, that is all."""
        if not self.unverifiable:
            return ""
        return f"{'who is let in is ' if self.fingerprint else ''}not verifiable from here: {self.unverifiable}"

    @property
    def is_well(self) -> bool:
        """Return whether the service serves what was deployed, and lets in whom it should, without any fault."""
        return self.reached and self.is_compared and not self.wrong and not self.unverifiable


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to probe, and the host that it belongs to."""

    probe_target: ProbeTarget
    endpoint: Endpoint


def probe_services(
    store: Store, now: datetime, plan: Plan, hosts: Container[str] | None = None
) -> Sequence[ProbeResult]:
    """Probe every service that can be reached from here, or those of `hosts`; a silent one does not delay the others."""
    behind: dict[Transport | None, list[Target]] = {}
    for probe_target in plan.probe_targets():
        if hosts is not None and probe_target.host not in hosts:
            continue
        behind.setdefault(probe_target.jump, []).extend(
            Target(probe_target, endpoint) for endpoint in probe_target.endpoints
        )
    targets = [target for group in behind.values() for target in group]
    if not targets:
        return ()
    try:
        targets[0].probe_target.prober.load_contexts()
    except OSError as error:
        cause = f"{store.shown(Path(error.filename))}: {error.strerror}" if error.filename else str(error)
        return [replace(_not_probed(target, cause), at=now) for target in targets]
    groups = verification.map_parallel(
        lambda transport: _probe_via(transport, behind[transport]), list(behind), len(behind)
    )
    results: dict[tuple[str, str], list[tuple[Endpoint, ProbeResult]]] = {}
    for target, result in zip(targets, (result for group in groups for result in group), strict=True):
        results.setdefault(_sort_key(result), []).append((target.endpoint, result))
    return [replace(_combined(results[key]), at=now) for key in sorted(results)]


def _combined(results: Sequence[tuple[Endpoint, ProbeResult]]) -> ProbeResult:
    """Return one result for a service with several addresses: what an address that answers serves, and all faults.

    A fault that not all addresses have is named with its address. A service that answers at one address is reached.
    """
    if len(results) == 1:
        return results[0][1]
    order = ["", *reversed(ProbeFault)]
    faults = [(endpoint, result.wrong) for endpoint, result in results if result.wrong]
    is_one_fault = len(faults) == len(results) and len({wrong for _, wrong in faults}) == 1
    texts = [faults[0][1]] if is_one_fault else [endpoint.located(wrong) for endpoint, wrong in faults]
    return replace(
        next((result for _, result in results if result.fingerprint), results[0][1]),
        fault=max((result.fault for _, result in results), key=order.index),
        wrong="; ".join(texts),
        reached=any(result.reached for _, result in results),
        is_compared=all(result.is_compared for _, result in results),
        not_after=min((result.not_after for _, result in results if result.not_after), default=None),
        unverifiable=next((result.unverifiable for _, result in results if result.unverifiable), ""),
        outdated=next((result.outdated for _, result in results if result.outdated), ""),
        seconds=max(result.seconds for _, result in results),
    )


def merge(earlier: Iterable[ProbeResult], newer: Iterable[ProbeResult]) -> Sequence[ProbeResult]:
    """Return all results after some services were probed again: newer ones replace older ones."""
    return sorted({_sort_key(result): result for result in (*earlier, *newer)}.values(), key=_sort_key)


def _sort_key(result: ProbeResult) -> tuple[str, str]:
    return result.host, result.service


def _probe_via(transport: Transport | None, targets: Sequence[Target]) -> list[ProbeResult]:
    """Probe the services behind one jump host, or, with None, those that are reached directly."""
    if transport is None:
        return _probe_all(targets)
    from pki.deploy.tunnel import Tunnel  # noqa: PLC0415 - few projects need it

    with Tunnel(transport, [target.endpoint for target in targets]) as tunnel:
        tunnelled = [replace(target, endpoint=local) for target, local in zip(targets, tunnel.endpoints, strict=True)]
        results = [_blank(target) for target in targets] if tunnel.fault else _probe_all(tunnelled)
    if tunnel.fault:  # ssh reports refused forwardings only when it ends, so the fault may be known only now
        results = [
            probe_result if probe_result.fingerprint else _not_forwarded(probe_result, tunnel.fault)
            for probe_result in results
        ]
    return results


def _probe_all(targets: Sequence[Target]) -> list[ProbeResult]:
    """Probe services in parallel; then probe those that timed out once more, a few at a time.

    A step also times out while this machine is too busy to read an answer. If all services of one batch time out again, they
    or the network are the cause, and the other results stay: a network that is down costs one more time limit.
    """
    results = verification.map_parallel(_probe, targets, PARALLEL_PROBES)
    late = [number for number, result in enumerate(results) if result.timed_out]
    for start in range(0, len(late), PARALLEL_REPEATS):
        batch = late[start : start + PARALLEL_REPEATS]
        repeated = verification.map_parallel(_probe, [targets[number] for number in batch], PARALLEL_REPEATS)
        for number, result in zip(batch, repeated, strict=True):
            results[number] = result
        if all(result.timed_out for result in repeated):
            break
    return results


# -- one service ------------------------------------------------------------------------------------------------------


def _probe(target: Target) -> ProbeResult:
    """Probe one service and measure the time; an unexpected error is a result too."""
    started = time.monotonic()
    try:
        result = _exchange(target)
    except Exception as error:  # noqa: BLE001 - one service must not hide the others
        result = _not_probed(target, repr(error))
    return replace(result, seconds=round(time.monotonic() - started, 3))


def _exchange(target: Target) -> ProbeResult:
    """Connect as the probe identity, then as the clients that must be refused."""
    endpoint, prober = target.endpoint, target.probe_target.prober
    blank, expectation = _blank(target), target.probe_target.expectations.get(endpoint.name)
    try:
        if expectation is None:
            return replace(
                _served(blank, *tls_client.fetch_certificate(endpoint, prober.unverified)), is_compared=False
            )
        answer = tls_client.request(endpoint, prober.as_probe) if endpoint.access == "mtls" else None
        certificate, version = (
            (answer.certificate, answer.version) if answer else tls_client.fetch_certificate(endpoint, prober.as_probe)
        )
    except NotVerifiable as why:
        return replace(blank, unverifiable=str(why), is_compared=expectation is not None)
    except (OSError, NotVerified) as error:
        return _unanswered(target, error)
    result = replace(_served(blank, certificate, version), outdated=tls_client.legacy_version(endpoint, prober))
    if mismatch := verification.certificate_mismatch(certificate, expectation):
        result = _add_fault(result, ProbeFault.OTHER_CERTIFICATE, mismatch)
    return _check_access(result, target, expectation, answer) if answer else _check_open_access(result, target)


def _unanswered(target: Target, error: Exception) -> ProbeResult:
    """Return the result for a service that does not answer the probe identity, with the cause."""
    fault, text = ProbeFault.NOT_HTTP, str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        fault, text = ProbeFault.UNVERIFIED, f"serves a certificate that does not verify: {error.verify_message}"
    elif isinstance(error, ssl.SSLEOFError | ConnectionError) and target.endpoint.tunnel:
        fault, text = ProbeFault.SILENT, "does not answer its jump host"
    elif isinstance(error, ssl.SSLError) and tls_client.is_refusal(error):
        fault, text = ProbeFault.REFUSAL, f"refuses our own client certificate: {error.reason}"
    elif isinstance(error, ssl.SSLError):
        text = f"aborts the handshake: {error.reason or error}"
    elif isinstance(error, ConnectionResetError) and target.endpoint.speaks != "https":
        text = f"completes the handshake and {tls_client.error_text(error)}"
    elif isinstance(error, OSError):
        fault, text = ProbeFault.SILENT, f"does not answer: {tls_client.error_text(error)}"
    if fault is ProbeFault.SILENT:
        timed_out = isinstance(error, TimeoutError)
        return _add_fault(replace(_blank(target), timed_out=timed_out), fault, text, reached=False)
    return _add_fault(_served_unverified(target), fault, text)


def _check_access(
    result: ProbeResult, target: Target, expectation: verification.Expectation, answer: Answer
) -> ProbeResult:
    """Add to the result whom an mTLS service accepts; the probe identity got `answer`."""
    endpoint, prober = target.endpoint, target.probe_target.prober
    for attempt in (
        lambda: verification.check_without_certificate(endpoint, prober),
        lambda: verification.check_identities(endpoint, expectation, verification.NO_CHANGE, answer, prober),
    ):
        try:
            attempt()
        except WronglyAdmitted as entry:
            result = _add_fault(result, ProbeFault.WRONGLY_ADMITTED, str(entry))
        except NotVerified as refusal:
            result = _add_fault(result, ProbeFault.REFUSAL, str(refusal))
        except NotVerifiable as why:
            result = replace(result, unverifiable=result.unverifiable or str(why))
        except Unreached as why:
            result = _add_fault(result, ProbeFault.NOT_HTTP, str(why))
        except OSError as error:
            result = replace(result, timed_out=result.timed_out or isinstance(error, TimeoutError))
            result = _add_fault(result, ProbeFault.NOT_HTTP, f"stops answering: {tls_client.error_text(error)}")
    return _upstream(result, answer.status) if endpoint.is_proxied else result


def _check_open_access(result: ProbeResult, target: Target) -> ProbeResult:
    """Add to the result what a service with `access: tls` answers to clients without a certificate."""
    try:
        status = verification.public_status(target.endpoint, target.probe_target.prober)
    except NotVerified as demand:
        return _add_fault(result, ProbeFault.REFUSAL, str(demand))
    except TimeoutError:
        whose = "its upstream does not answer" if target.endpoint.is_proxied else "timed out"
        fault = ProbeFault.UPSTREAM if target.endpoint.is_proxied else ProbeFault.NOT_HTTP
        text = f"completes the handshake but answers no request: {whose}"
        return _add_fault(replace(result, timed_out=True), fault, text)
    except OSError as error:
        return _add_fault(result, ProbeFault.NOT_HTTP, f"stops answering: {tls_client.error_text(error)}")
    if not status:
        what = verification.NO_HTTP if target.endpoint.speaks == "https" else f"does not speak {target.endpoint.speaks}"
        return _add_fault(result, ProbeFault.NOT_HTTP, what)
    return _upstream(result, status) if target.endpoint.is_proxied else result


def _upstream(result: ProbeResult, status: int) -> ProbeResult:
    """Add to the result that the upstream does not answer, if the status is 502, 503 or 504."""
    if status not in NO_UPSTREAM or result.wrong:
        return result
    return _add_fault(result, ProbeFault.UPSTREAM, f"answers {status}: its upstream does not answer the proxy")


def _blank(target: Target) -> ProbeResult:
    endpoint, jump = target.endpoint, target.probe_target.jump
    return ProbeResult(
        target.probe_target.host,
        endpoint.service,
        endpoint.name,
        endpoint.port,
        endpoint.access,
        via=jump.host if jump else "",
    )


def _served_unverified(target: Target) -> ProbeResult:
    """Return what is served to a client that accepts every certificate."""
    try:
        return _served(
            _blank(target), *tls_client.fetch_certificate(target.endpoint, target.probe_target.prober.unverified)
        )
    except (OSError, NotVerified):
        return _blank(target)


def _served(result: ProbeResult, certificate: bytes, version: str) -> ProbeResult:
    try:
        end = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        end = None
    return replace(result, not_after=end, fingerprint=tls_client.fingerprint(certificate), version=version)


def _add_fault(result: ProbeResult, fault: ProbeFault, wrong: str, *, reached: bool = True) -> ProbeResult:
    """Add a fault to a result."""
    order = list(ProbeFault)
    worst = min(fault, ProbeFault(result.fault or fault), key=order.index)
    text = f"{result.wrong}; {wrong}" if result.wrong else wrong
    return replace(result, fault=str(worst), wrong=text, reached=reached)


def _not_forwarded(result: ProbeResult, wrong: str) -> ProbeResult:
    return replace(result, fault=str(ProbeFault.JUMP), wrong=wrong, reached=False)


def _not_probed(target: Target, why: str) -> ProbeResult:
    return _add_fault(_blank(target), ProbeFault.PROBE_FAILED, f"could not be probed: {why}", reached=False)


# -- the stored results ------------------------------------------------------------------------------------------


@cache
def _adapter() -> TypeAdapter[list[ProbeResult]]:
    return TypeAdapter(list[ProbeResult])


def save(store: Store, results: Iterable[ProbeResult], now: datetime) -> None:
    """Write the results to build/report/probes.json, or remove that file if there are no services. Raises PkiError."""
    path, entries = store.report(FILE), _adapter().dump_python(list(results), mode="json")
    if entries:
        data = {"format": FORMAT, "at": instant(now), "probes": entries}
        filesystem.write(path, sealed_records.encode_sealed(data, indent=1))
    elif path.exists():
        try:
            path.unlink()
        except OSError as error:
            raise from_os_error(error, path, "cannot be removed") from None


def load(inventory: Inventory, store: Store) -> Sequence[ProbeResult]:
    """Load the last results of the services that pki.yaml still declares; empty if there are none."""
    try:
        data = sealed_records.decode_sealed(filesystem.read_if_possible(store.report(FILE))) or {}
        results = _adapter().validate_python(data["probes"]) if data["format"] == FORMAT else []
    except (ValueError, KeyError, TypeError):
        return ()
    hosts = inventory.hosts
    return [result for result in results if result.host in hosts and result.service in hosts[result.host].services]
