"""Verify the services of a host from outside, with new handshakes, against the certificate that was deployed.

A service behind a proxy is verified when several handshakes in a row serve the deployed certificate, its chain and name
verify up to the root, a client without a certificate is refused, the probe is accepted, the revoked canary is refused
(also in a resumed session), and a request whose Host is another name than that of the handshake is refused. With
`access: tls`, a client without a certificate must get the same status as the probe. Servers that read the files
themselves are verified in their own protocol (`questions.py`); an answer that decides nothing is never "verified".

Where the certificate did not change, nothing distinguishes the new workers of a proxy from the old ones, which answer
for a moment after a reload. Such a service is verified twice.

Of our modules this one imports only `access`, `tls_client` and what they import: Ansible ships all of them.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple, TypeVar

from pki.deploy.access import admission
from pki.deploy.tls_client import (
    NO_ENTRY,
    NO_UPSTREAM,
    Answer,
    ClientContext,
    Endpoint,
    NotVerifiable,
    NotVerified,
    Prober,
    Unreached,
    error_text,
    fetch_certificate,
    fingerprint,
    is_reachable,
    is_refusal,
    request,
    request_reply,
)

ROUNDS = 3  # successful handshakes in a row
VERIFY_TIMEOUT = 20.0  # seconds in which a service must become verified
SETTLING = 2.0  # seconds after which a reload has taken effect
WIDTH = 8  # services of one host that are verified in parallel
CROSSED = "crossed.invalid"
DEMANDS_CERTIFICATE = "demands a client certificate, but pki.yaml says access: tls"
NO_HTTP = "does not answer as an HTTP server"
GATEWAY_TIMEOUT = 504
ANSWERED = 204  # the status of a proxy that answers the probe itself
REFUSED = {*NO_ENTRY, 404, 421}


class Verdict(StrEnum):
    """The result of a verification."""

    VERIFIED = "verified"
    PASSED_ON = "passed on"  # verified, by the upstream's answer to the probe
    NO_UPSTREAM = "no upstream"  # the proxy is verified, the upstream does not answer
    UNREACHED = "unreached"
    UNDECIDED = "undecided"  # the answers prove nothing
    WRONG = "wrong"


SEVERITY = (  # the verdicts, worst last
    Verdict.VERIFIED,
    Verdict.PASSED_ON,
    Verdict.NO_UPSTREAM,
    Verdict.UNDECIDED,
    Verdict.UNREACHED,
    Verdict.WRONG,
)


class Verification(NamedTuple):
    """The verdict on a service, and the rest of a sentence that begins with its name."""

    verdict: Verdict
    text: str

    @property
    def is_verified(self) -> bool:
        """Return whether the proxy of the service is verified."""
        return self.verdict in {Verdict.VERIFIED, Verdict.PASSED_ON, Verdict.NO_UPSTREAM}

    def __str__(self) -> str:
        return self.text

    @classmethod
    def from_json(cls, texts: Sequence[str]) -> Verification:
        """Return a verification from two texts. Raises ValueError and TypeError."""
        verdict, text = texts
        return cls(Verdict(verdict), str(text))


VERIFIED = Verification(Verdict.VERIFIED, "verified")
PASSED_ON = Verification(Verdict.PASSED_ON, "verified; the probe is passed on to the upstream")
NO_ANSWER_UPSTREAM = Verification(Verdict.NO_UPSTREAM, "verified, but the upstream does not answer")
# of a pinned host without this service, or whose release is lost, so that it gets CRLs alone
NO_CERTIFICATE = Verification(Verdict.UNDECIDED, "not verified: the release has no certificate for it")
NOT_VERIFIED = Verification(Verdict.UNREACHED, "not verified: cannot be reached from this machine")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Expectation:
    """The promises of a release about a service: the SHA-256 of its certificate, and its answers to the test identities.

    `answers` is whether its proxy answers the probe itself, `revokes` whether its CRLs list the canary.
    """

    fingerprint: str
    answers: bool = False
    revokes: bool = False


@dataclass(frozen=True, slots=True)
class ServiceBefore:
    """A service before a change: the status for the probe, and the SHA-256 of its certificate.

    The status is 0 and the digest "" when it did not answer.
    """

    status: int = 0
    served: str = ""

    @property
    def had_upstream(self) -> bool:
        """Return whether the upstream answered before the change."""
        return self is not NO_CHANGE and self.status not in {0, *NO_UPSTREAM}


NO_CHANGE = ServiceBefore(status=403)  # without a change, 403 is taken for the application's own answer


class WronglyAdmitted(NotVerified):
    """A client that must be refused was accepted."""


# -- the services of a host, before and after a change ----------------------------------------------------------------


def check_before(endpoints: Sequence[Endpoint], prober: Prober) -> dict[Endpoint, ServiceBefore]:
    """Return the state of each reachable endpoint before a change."""
    states = map_parallel(partial(_before, prober=prober), endpoints)
    return {endpoint: before for endpoint, before in zip(endpoints, states, strict=True) if before}


def _before(endpoint: Endpoint, prober: Prober) -> ServiceBefore | None:
    """Return the state of an endpoint; None if it accepts no connection."""
    if not is_reachable(endpoint):
        return None
    try:
        answer = request(endpoint, prober.as_probe)
        return ServiceBefore(answer.status, answer.fingerprint)
    except (OSError, NotVerified, Unreached):
        return ServiceBefore()


def verify_services(
    endpoints: Sequence[Endpoint],
    expectations: Mapping[str, Expectation],
    before: Mapping[Endpoint, ServiceBefore] | None,
    prober: Prober,
) -> dict[str, Verification]:
    """Return the verification of each service, at all of its addresses; `expectations` are by the endpoint's name.

    `before` is None where nothing was changed. An endpoint that is unreachable now and was before stays not verified.
    """
    verifications = map_parallel(
        partial(_verify_endpoint, expectations=expectations, before=before, prober=prober), endpoints
    )
    by_service: dict[str, list[tuple[Endpoint, Verification]]] = {}
    for endpoint, verification in zip(endpoints, verifications, strict=True):
        by_service.setdefault(endpoint.service, []).append((endpoint, verification))
    return {service: _combined(of_service) for service, of_service in by_service.items()}


def _combined(verifications: Sequence[tuple[Endpoint, Verification]]) -> Verification:
    """Return the worst verification of a service; the text names each address with that verdict, unless all have it."""
    worst = max((verification for _, verification in verifications), key=lambda result: SEVERITY.index(result.verdict))
    if all(verification == worst for _, verification in verifications):
        return worst
    texts = [
        endpoint.located(str(verification))
        for endpoint, verification in verifications
        if verification.verdict is worst.verdict
    ]
    return Verification(worst.verdict, "; ".join(texts))


def failed_services(verifications: Mapping[str, Verification]) -> tuple[str, ...]:
    """Return the services whose verification failed."""
    return tuple(name for name, verification in verifications.items() if verification.verdict is Verdict.WRONG)


def failure_text(verifications: Mapping[str, Verification]) -> str:
    """Return the failed verifications as one phrase, "" if none failed."""
    return "; ".join(f"{name} {verifications[name]}" for name in failed_services(verifications))


def as_json(verifications: Mapping[str, Verification]) -> dict[str, list[str]]:
    """Return verifications as texts, for receipts and for Ansible."""
    return {name: [verification.verdict.value, verification.text] for name, verification in verifications.items()}


def _verify_endpoint(
    endpoint: Endpoint,
    expectations: Mapping[str, Expectation],
    before: Mapping[Endpoint, ServiceBefore] | None,
    prober: Prober,
) -> Verification:
    """Return the verification of one endpoint. A service whose certificate did not change is verified twice (see above)."""
    states, expectation = before or {}, expectations.get(endpoint.name)
    if endpoint not in states and not is_reachable(endpoint):
        return NOT_VERIFIED
    if expectation is None:
        return NO_CERTIFICATE
    state = NO_CHANGE if before is None else states.get(endpoint, ServiceBefore())
    result = _verify_until_timeout(endpoint, expectation, state, prober)
    if result.is_verified and state.served == expectation.fingerprint:
        time.sleep(SETTLING)
        result = _verify_until_timeout(endpoint, expectation, state, prober)
    return result


def _verify_until_timeout(
    endpoint: Endpoint, expectation: Expectation, before: ServiceBefore, prober: Prober
) -> Verification:
    """Return the verification as soon as it succeeds, or the last failure when time is up."""
    deadline = time.monotonic() + VERIFY_TIMEOUT
    while True:
        try:
            return _verify_once(endpoint, expectation, before, prober)
        except NotVerifiable as why:
            return Verification(Verdict.UNDECIDED, f"not verifiable from here: {why}")
        except (NotVerified, Unreached) as error:
            failure = str(error)
        except OSError as error:
            failure = f"does not answer: {error_text(error)}"
        if time.monotonic() > deadline:
            return Verification(Verdict.WRONG, failure)
        time.sleep(0.25)


def _verify_once(endpoint: Endpoint, expectation: Expectation, before: ServiceBefore, prober: Prober) -> Verification:
    for _ in range(ROUNDS):
        _handshake(endpoint, expectation, prober)
    result = VERIFIED
    if endpoint.access == "mtls":
        check_without_certificate(endpoint, prober)
        answer = request(endpoint, prober.as_probe)
        result, status = check_identities(endpoint, expectation, before, answer, prober), answer.status
    elif endpoint.speaks != "https":
        public_status(endpoint, prober)
        return result
    else:
        try:
            status = public_status(endpoint, prober)
        except TimeoutError:  # after successful handshakes: the proxy waits for the upstream
            status = GATEWAY_TIMEOUT
    if not endpoint.is_proxied:  # the server itself: it has no upstream, and may serve one site at every name
        return result
    if status in {0, *NO_UPSTREAM}:
        result = _upstream_verification(status, before)
    status = request_reply(endpoint, prober.as_probe, CROSSED).status
    if status and status not in REFUSED:
        raise NotVerified(f"answers {status} to a request for another name than that of the handshake")
    return result


def _handshake(endpoint: Endpoint, expectation: Expectation, prober: Prober) -> None:
    try:
        certificate, _ = fetch_certificate(endpoint, prober.as_probe)
    except ssl.SSLCertVerificationError as error:
        raise NotVerified(f"serves a certificate that does not verify: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise NotVerified(f"refuses the handshake: {error.reason}") from None
    if mismatch := certificate_mismatch(certificate, expectation):
        raise NotVerified(mismatch)


def certificate_mismatch(certificate: bytes, expectation: Expectation) -> str:
    """Return, as a phrase after a service's name, that a certificate is not the deployed one; "" if it is."""
    digest = fingerprint(certificate)
    if digest == expectation.fingerprint:
        return ""
    return (
        f"serves another certificate (SHA-256 {digest[:16]}…) than the deployed one ({expectation.fingerprint[:16]}…)"
    )


def check_without_certificate(endpoint: Endpoint, prober: Prober) -> None:
    """Check that a client without a certificate is refused. Raises WronglyAdmitted, NotVerifiable, and OSError.

    Only a TLS alert, an HTTP status or an answer of the protocol is a refusal; connection errors and timeouts are
    inconclusive.
    """
    reply = request_reply(endpoint, prober.without_certificate)
    if not reply.status or reply.status in NO_ENTRY:
        return
    if endpoint.speaks == "https":
        raise WronglyAdmitted(f"answers {reply.status} to a client without a certificate")
    if not reply.is_certain:
        raise NotVerifiable(f"{reply.text}, also to a client without a certificate")
    raise WronglyAdmitted(f"lets a client without a certificate in: {reply.text}")


def public_status(endpoint: Endpoint, prober: Prober) -> int:
    """Return the status that a public service gives to everybody, 0 if it does not speak its protocol.

    Raises NotVerified where it demands a certificate, and OSError. In TLS 1.3 a server refuses a missing certificate
    after the handshake (RFC 8446 §4.4.2.4), so only a request shows it: an alert, or several times in a row another
    status than that for the probe. Contents are not compared, because they differ for other reasons.
    """
    for _ in range(ROUNDS):
        status = _status_or_alert(endpoint, prober.without_certificate)
        if status is None:
            raise NotVerified(DEMANDS_CERTIFICATE)
        probe_status = _status_or_alert(endpoint, prober.as_probe)
        if status == probe_status:
            return status
    raise NotVerified(
        f"{DEMANDS_CERTIFICATE}: answers {status or 'nothing'} without one, and {probe_status or 'nothing'} to the probe"
    )


def _status_or_alert(endpoint: Endpoint, context: ClientContext) -> int | None:
    """Return the status of an answer, None for an alert about the client's certificate, 0 for anything else."""
    try:
        return request(endpoint, context).status
    except ssl.SSLError as error:
        return None if is_refusal(error) else 0
    except (TimeoutError, ConnectionRefusedError):
        raise
    except (ConnectionError, NotVerified):
        return 0


def _upstream_verification(status: int, before: ServiceBefore) -> Verification:
    """Return the verification where the upstream does not answer. Raises NotVerified where it did before the change."""
    what = f"answers {status}: the upstream does not answer" if status else NO_HTTP
    if before.had_upstream:
        raise NotVerified(f"{what}, but it did before the change")
    return NO_ANSWER_UPSTREAM if status else Verification(Verdict.UNDECIDED, f"not verified: {NO_HTTP}")


def check_identities(
    endpoint: Endpoint, expectation: Expectation, before: ServiceBefore, answer: Answer, prober: Prober
) -> Verification:
    """Check `answer`, which the probe got, and the answer to the canary.

    Raises NotVerified, WronglyAdmitted for the canary, NotVerifiable and Unreached.
    """
    if endpoint.speaks != "https":
        return _check_identities_of_protocol(endpoint, expectation, answer, prober)
    status, answers = answer.status, expectation.answers and endpoint.is_proxied
    if answers and status != ANSWERED:
        raise NotVerified(f"answers {status} to the probe; its configuration says {ANSWERED}")
    if status in {400, 421, 495, 496} or (status == 403 and before.status != 403):
        raise NotVerified(f"refuses our own client certificate with {status}")
    if expectation.revokes and endpoint.revokes and prober.canary:
        if status in NO_ENTRY:
            return Verification(Verdict.UNDECIDED, f"not verified: the probe and the revoked canary both get {status}")
        if admission_text := admission(endpoint, prober.as_canary):
            raise WronglyAdmitted(f"lets the revoked canary {admission_text}")
    return VERIFIED if answers or not endpoint.is_proxied else PASSED_ON


def _check_identities_of_protocol(
    endpoint: Endpoint, expectation: Expectation, answer: Answer, prober: Prober
) -> Verification:
    """Check the answers to probe and canary of a server that does not speak HTTP. Raises as `check_identities`."""
    if answer.status in NO_ENTRY:
        if answer.reply.is_certain:
            raise NotVerified(f"refuses our own client certificate: {answer.reply.text}")
        raise NotVerifiable(f"TLS accepts the probe, and the server's own rules refuse it ({answer.reply.text})")
    if expectation.revokes and endpoint.revokes and prober.canary:
        if admission_text := admission(endpoint, prober.as_canary, witness=prober.as_probe):
            raise WronglyAdmitted(f"lets the revoked canary {admission_text}")
    elif not answer.reply.is_certain:
        raise NotVerifiable(answer.reply.text)
    return VERIFIED


# -- in parallel -------------------------------------------------------------------------------------------------------


def map_parallel(function: Callable[[Item], Result], items: Sequence[Item], width: int = WIDTH) -> list[Result]:
    """Return the results of a function for several items, computed by up to `width` threads."""
    if len(items) < 2:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - imports logging, which few runs need

    with ThreadPoolExecutor(min(width, len(items))) as pool:
        return list(pool.map(function, items))
