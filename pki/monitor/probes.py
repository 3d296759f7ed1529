"""Every service seen from outside, all at the same time: what it serves, and whom it lets in.

One look, and no second one: what a delivery waits for, until a service has come back, is `deploy.proof`'s business.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509

from pki.common import filesystem, sealed_records
from pki.common.errors import from_os_error
from pki.config.identifiers import ArtifactId
from pki.deploy import tls_client, verification
from pki.deploy.receipt import instant, moment
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import NO_UPSTREAM, Endpoint, NotVerified, Unreached
from pki.deploy.verification import WronglyAdmitted
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.project import Project

WIDTH = 128  # services that are looked at at the same time
FORMAT = 2
MOMENTS = ("not_after", "at")
FILE = "probes.json"


class Fault(StrEnum):
    """What is wrong with a service, worst first."""

    ENTRY = "entry"  # somebody gets in who should be refused
    UNVERIFIED = "unverified"  # name, chain or dates of its certificate are wrong
    REFUSAL = "refusal"  # who should get in is refused
    BROKEN = "broken"  # it answers otherwise than an HTTP server behind TLS does
    OTHER = "other"  # a good certificate, and not the deployed one
    SILENT = "silent"  # nobody answers
    UPSTREAM = "upstream"  # the proxy answers, and what is behind it does not
    JUMP = "jump"  # its jump host forwards nothing
    UNSEEN = "unseen"  # it could not be looked at, through no fault of its own


def service_id(host: str, service: str) -> ArtifactId:
    """One service of one host, as status, health and metrics name it."""
    return ArtifactId("service", f"{host}/{service}")


@dataclass(frozen=True, slots=True)
class Probed:
    """What was seen of one service. `wrong` is a phrase that reads well after its name; empty when all is as it should be.

    `fault` is the worst of what `wrong` says, empty without. `reached` is whether anything answered; `not_after`,
    `fingerprint` (SHA-256, hexadecimal) and `version` (`TLSv1.3`) are those of the handshake, empty without one;
    `outdated` is the version below TLS 1.2 that it still speaks, empty when it speaks none; `via` is the jump host that
    it lies behind; `is_compared`: somebody knows what it should serve; `seconds` is what the look took, which was `at` that moment.
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

    @property
    def subject(self) -> ArtifactId:
        return service_id(self.host, self.service)

    @property
    def phrase(self) -> str:
        """What is wrong with it, as it reads well after its name."""
        return f"lies behind {self.via}, and {self.wrong}" if self.fault == Fault.JUMP else self.wrong

    @property
    def is_well(self) -> bool:
        """Whether it was seen to be as it was deployed."""
        return self.reached and self.is_compared and not self.wrong


@dataclass(frozen=True, slots=True)
class Target:
    """One service, and whose it is."""

    probe_target: ProbeTarget
    endpoint: Endpoint


def sweep(project: Project, plan: Plan, hosts: Container[str] | None = None) -> Sequence[Probed]:
    """Look at every service that can be seen from here, or at those of some hosts.

    One that does not answer holds up none of the others.
    """
    behind: dict[Transport | None, list[Target]] = {}
    for probe_target in plan.probe_targets():
        if hosts is not None and probe_target.host not in hosts:
            continue
        behind.setdefault(probe_target.jump, []).extend(Target(probe_target, one) for one in probe_target.endpoints)
    targets = [one for some in behind.values() for one in some]
    if not targets:
        return ()
    try:
        targets[0].probe_target.prober.load_contexts()
    except OSError as error:
        what = f"{project.store.shown(Path(error.filename))}: {error.strerror}" if error.filename else str(error)
        return [replace(_unseen(one, what), at=project.now) for one in targets]
    found = verification.map_parallel(lambda way: _behind(way, behind[way]), list(behind), len(behind))
    return sorted((replace(one, at=project.now) for some in found for one in some), key=_place)


def merged(before: Iterable[Probed], now: Iterable[Probed]) -> Sequence[Probed]:
    """What is known of all services after a look at some of them."""
    return sorted({_place(one): one for one in (*before, *now)}.values(), key=_place)


def _place(one: Probed) -> tuple[str, str]:
    return one.host, one.service


def _behind(way: Transport | None, targets: Sequence[Target]) -> list[Probed]:
    """What is seen of the services behind one jump host; without one, of those that are reached from here."""
    if way is None:
        return verification.map_parallel(_look, targets, WIDTH)
    from pki.deploy.tunnel import Tunnel  # noqa: PLC0415 - which few projects need

    with Tunnel(way, [one.endpoint for one in targets]) as tunnel:
        through = [replace(one, endpoint=end) for one, end in zip(targets, tunnel.endpoints, strict=True)]
        found = [_blank(one) for one in targets] if tunnel.fault else verification.map_parallel(_look, through, WIDTH)
    if tunnel.fault:
        found = [one if one.fingerprint else _unheard(one, tunnel.fault) for one in found]
    return found


# -- one service ------------------------------------------------------------------------------------------------------


def _look(target: Target) -> Probed:
    started = time.monotonic()
    try:
        seen = _seen(target)
    except Exception as error:  # noqa: BLE001 - what is odd about one service must not hide the others
        seen = _unseen(target, repr(error))
    return replace(seen, seconds=round(time.monotonic() - started, 3))


def _seen(target: Target) -> Probed:
    """What the service makes of the probe, and then of all the others."""
    endpoint, prober = target.endpoint, target.probe_target.prober
    blank, expectation = _blank(target), target.probe_target.expectations.get(endpoint.name)
    try:
        if expectation is None:
            return replace(
                _served(blank, *tls_client.fetch_certificate(endpoint, prober.unverified)), is_compared=False
            )
        if endpoint.access == "tls":
            certificate, version = tls_client.fetch_certificate(endpoint, prober.as_probe)
            status = 0
        else:
            status, certificate, version, _ = tls_client.request(endpoint, prober.as_probe)
    except (OSError, NotVerified) as error:
        return _unanswered(target, error)
    seen = replace(_served(blank, certificate, version), outdated=tls_client.legacy_version(endpoint, prober))
    if other := verification.certificate_mismatch(certificate, expectation):
        seen = _with(seen, Fault.OTHER, other)
    return _visited(seen, target, expectation, status) if endpoint.access == "mtls" else _asked(seen, target)


def _unanswered(target: Target, error: Exception) -> Probed:
    """A service from which the probe gets no answer, and why."""
    fault, wrong = Fault.BROKEN, str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        fault, wrong = Fault.UNVERIFIED, f"serves a certificate that does not verify: {error.verify_message}"
    elif isinstance(error, ssl.SSLEOFError | ConnectionError) and target.endpoint.tunnel:
        fault, wrong = Fault.SILENT, "does not answer its jump host"
    elif isinstance(error, ssl.SSLError) and tls_client.is_refusal(error):
        fault, wrong = Fault.REFUSAL, f"refuses our own client certificate: {error.reason}"
    elif isinstance(error, ssl.SSLError):
        wrong = f"aborts the handshake: {error.reason or error}"
    elif isinstance(error, OSError):
        fault, wrong = Fault.SILENT, f"does not answer: {tls_client.error_text(error)}"
    if fault is Fault.SILENT:
        return _with(_blank(target), fault, wrong, reached=False)
    return _with(_blindly(target), fault, wrong)


def _visited(seen: Probed, target: Target, expectation: verification.Expectation, status: int) -> Probed:
    """The same, and whom else it lets in; the probe got `status`."""
    endpoint, prober = target.endpoint, target.probe_target.prober
    for visit in (
        lambda: verification.check_without_certificate(endpoint, prober),
        lambda: verification.check_identities(endpoint, expectation, verification.NO_CHANGE, status, prober),
    ):
        try:
            visit()
        except WronglyAdmitted as entry:
            seen = _with(seen, Fault.ENTRY, str(entry))
        except NotVerified as refusal:
            seen = _with(seen, Fault.REFUSAL, str(refusal))
        except Unreached as why:
            seen = _with(seen, Fault.BROKEN, str(why))
        except OSError as error:
            seen = _with(seen, Fault.BROKEN, f"stops answering: {tls_client.error_text(error)}")
    return _upstream(seen, status)


def _asked(seen: Probed, target: Target) -> Probed:
    """The same of a service for everybody, and what it answers to those who have no certificate."""
    try:
        status = verification.public_status(target.endpoint, target.probe_target.prober)
    except NotVerified as demand:
        return _with(seen, Fault.REFUSAL, str(demand))
    except TimeoutError:
        return _with(seen, Fault.UPSTREAM, "answers a handshake, and no request: the upstream does not answer")
    except OSError as error:
        return _with(seen, Fault.BROKEN, f"stops answering: {tls_client.error_text(error)}")
    return _upstream(seen, status) if status else _with(seen, Fault.BROKEN, verification.NO_HTTP)


def _upstream(seen: Probed, status: int) -> Probed:
    """The same, and whether the answer says that the upstream does not answer."""
    if status not in NO_UPSTREAM or seen.wrong:
        return seen
    return _with(seen, Fault.UPSTREAM, f"answers {status}: the proxy answers, and what is behind it does not")


def _blank(target: Target) -> Probed:
    one, jump = target.endpoint, target.probe_target.jump
    return Probed(target.probe_target.host, one.service, one.name, one.port, one.access, via=jump.host if jump else "")


def _blindly(target: Target) -> Probed:
    """What is served to one who takes everything."""
    try:
        return _served(
            _blank(target), *tls_client.fetch_certificate(target.endpoint, target.probe_target.prober.unverified)
        )
    except OSError:
        return _blank(target)


def _served(seen: Probed, certificate: bytes, version: str) -> Probed:
    try:
        end = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        end = None
    return replace(seen, not_after=end, fingerprint=tls_client.fingerprint(certificate), version=version)


def _with(seen: Probed, fault: Fault, wrong: str, *, reached: bool = True) -> Probed:
    """The same, and what is wrong with it besides."""
    order = list(Fault)
    worst = min(fault, Fault(seen.fault or fault), key=order.index)
    text = f"{seen.wrong}; {wrong}" if seen.wrong else wrong
    return replace(seen, fault=str(worst), wrong=text, reached=reached)


def _unheard(seen: Probed, wrong: str) -> Probed:
    return replace(seen, fault=str(Fault.JUMP), wrong=wrong, reached=False)


def _unseen(target: Target, why: str) -> Probed:
    return _with(_blank(target), Fault.UNSEEN, f"could not be looked at: {why}", reached=False)


# -- what the last sweep saw ------------------------------------------------------------------------------------------


def keep(place: Store, found: Iterable[Probed], now: datetime) -> None:
    """Keep what a sweep saw for those who look later; nothing where there is no service to look at. Raises PkiError."""
    path, entries = place.report(FILE), [_as_json(one) for one in found]
    if entries:
        data = {"format": FORMAT, "at": instant(now), "probes": entries}
        filesystem.write(path, sealed_records.encode_sealed(data, indent=1))
    elif path.exists():
        try:
            path.unlink()
        except OSError as error:
            raise from_os_error(error, path, "cannot be removed") from None


def load(project: Project) -> Sequence[Probed]:
    """What the last sweep saw of the services that pki.yaml still knows; nothing when there was none."""
    try:
        data = sealed_records.decode_sealed(filesystem.read_if_possible(project.store.report(FILE))) or {}
        found = [_of(one) for one in data["probes"]] if data["format"] == FORMAT else []
    except (ValueError, KeyError, TypeError):
        return ()
    hosts = project.inventory.hosts
    return [one for one in found if one.host in hosts and one.service in hosts[one.host].services]


def _as_json(one: Probed) -> dict[str, Any]:
    return asdict(one) | {name: instant(at) if (at := getattr(one, name)) else None for name in MOMENTS}


def _of(data: dict[str, Any]) -> Probed:
    return Probed(**data | {name: moment(data[name]) if data[name] else None for name in MOMENTS})
