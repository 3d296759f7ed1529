"""What a host really serves, seen from outside: fresh handshakes, each judged by the certificate that was deployed.

A service is verified when several handshakes in a row serve the deployed certificate, its chain and name verify from the
root, a client without a certificate is refused, the probe is let in, the canary, which is revoked, is refused, in a
session that it resumes too, and a request whose Host is another name than that of the handshake is refused. One for
everybody (`access: tls`) gives a client without a certificate what it gives the probe. Where the
certificate is the one that was served before a change, nothing tells the new workers of a proxy from the old ones,
which go on answering for a moment after the reload: there it is looked at twice.
This module imports nothing of ours but its neighbours `handshake` and `entry`: Ansible carries all three along.
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
    Endpoint,
    NotVerified,
    Prober,
    Unreached,
    error_text,
    fetch_certificate,
    fingerprint,
    is_reachable,
    is_refusal,
    request,
    request_status,
)

ROUNDS = 3  # good handshakes in a row
VERIFY_TIMEOUT = 20.0  # seconds for a service to come back
SETTLING = 2.0  # seconds in which a reload takes effect after its command ended
WIDTH = 8  # services of one host that are looked at at the same time
CROSSED = "crossed.invalid"
DEMANDS_CERTIFICATE = "demands a client certificate, which access: tls in pki.yaml does not ask for"
NO_HTTP = "does not answer as an HTTP server"
GATEWAY_TIMEOUT = 504
ANSWERED = 204  # what a proxy says to the probe that answers it itself
REFUSED = {*NO_ENTRY, 404, 421}


class Verdict(StrEnum):
    """What a look at a service after a change, or without one, comes to."""

    VERIFIED = "verified"
    PASSED_ON = "passed on"  # verified, by what the upstream answers to the probe
    NO_UPSTREAM = "no upstream"  # verified, as far as the proxy goes
    UNREACHED = "unreached"
    UNDECIDED = "undecided"  # what was seen proves nothing
    WRONG = "wrong"


class Verification(NamedTuple):
    """What was seen of a service: a verdict, and a phrase that reads well after its name."""

    verdict: Verdict
    text: str

    @property
    def is_verified(self) -> bool:
        return self.verdict in {Verdict.VERIFIED, Verdict.PASSED_ON, Verdict.NO_UPSTREAM}

    def __str__(self) -> str:
        return self.text

    @classmethod
    def from_json(cls, said: Sequence[str]) -> Verification:
        """Read back two texts. Raises ValueError and TypeError."""
        verdict, text = said
        return cls(Verdict(verdict), str(text))


VERIFIED = Verification(Verdict.VERIFIED, "verified")
PASSED_ON = Verification(Verdict.PASSED_ON, "verified, and the probe is passed on to what is behind the proxy")
NO_ANSWER_UPSTREAM = Verification(Verdict.NO_UPSTREAM, "verified, but what is behind the proxy does not answer")
NOT_VERIFIED = Verification(Verdict.UNREACHED, "not verified: could not be reached from here")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a release says of a service: the SHA-256 of its certificate, and what becomes of the test identities.

    `answers` is whether its proxy answers the probe itself, `revokes` whether it was told that the canary is revoked.
    """

    fingerprint: str
    answers: bool = False
    revokes: bool = False


@dataclass(frozen=True, slots=True)
class Before:
    """A service before a change: the status that our client certificate gets, the SHA-256 of what it serves.

    The status is 0 and the digest empty when there was no answer.
    """

    status: int = 0
    served: str = ""

    @property
    def had_upstream(self) -> bool:
        """Whether something behind the proxy answered before the change."""
        return self is not NO_CHANGE and self.status not in {0, *NO_UPSTREAM}


NO_CHANGE = Before(status=403)  # what may be the application's own word, where no change is to blame


class WronglyAdmitted(NotVerified):
    """That somebody got in who should be refused."""


# -- a host's services, before and after a change ---------------------------------------------------------------------


def check_before(endpoints: Sequence[Endpoint], prober: Prober) -> dict[str, Before]:
    """Service → what it was before a change, for those that can be reached."""
    found = map_parallel(partial(_before, prober=prober), endpoints)
    return {one.service: before for one, before in zip(endpoints, found, strict=True) if before}


def _before(endpoint: Endpoint, prober: Prober) -> Before | None:
    if not is_reachable(endpoint):
        return None
    try:
        answer = request(endpoint, prober.as_probe)
        return Before(answer.status, answer.fingerprint)
    except (OSError, NotVerified):
        return Before()


def verify_services(
    endpoints: Sequence[Endpoint],
    expectations: Mapping[str, Expectation],
    before: Mapping[str, Before] | None,
    prober: Prober,
) -> dict[str, Verification]:
    """Service → what was seen of it; `promises` by the endpoint's name, `before` is None where nothing was changed.

    One that is out of reach, and was before a change, stays not verified.
    """
    found = map_parallel(partial(_verify_service, expectations=expectations, before=before, prober=prober), endpoints)
    return {one.service: seen for one, seen in zip(endpoints, found, strict=True)}


def failed_services(verifications: Mapping[str, Verification]) -> tuple[str, ...]:
    """The services that disprove a change."""
    return tuple(name for name, seen in verifications.items() if seen.verdict is Verdict.WRONG)


def failure_text(verifications: Mapping[str, Verification]) -> str:
    """What disproves a change, as one phrase; empty when nothing does."""
    return "; ".join(f"{name} {verifications[name]}" for name in failed_services(verifications))


def as_json(verifications: Mapping[str, Verification]) -> dict[str, list[str]]:
    """Texts alone, for files and for Ansible."""
    return {name: [seen.verdict.value, seen.text] for name, seen in verifications.items()}


def _verify_service(
    endpoint: Endpoint, expectations: Mapping[str, Expectation], before: Mapping[str, Before] | None, prober: Prober
) -> Verification:
    known, expectation = before or {}, expectations.get(endpoint.name)
    if endpoint.service not in known and not is_reachable(endpoint):
        return NOT_VERIFIED
    if expectation is None:
        return VERIFIED
    was = NO_CHANGE if before is None else known.get(endpoint.service, Before())
    found = _verify_until_timeout(endpoint, expectation, was, prober)
    if found.is_verified and was.served == expectation.fingerprint:
        time.sleep(SETTLING)
        found = _verify_until_timeout(endpoint, expectation, was, prober)
    return found


def _verify_until_timeout(endpoint: Endpoint, expectation: Expectation, before: Before, prober: Prober) -> Verification:
    """What is seen of a service as soon as nothing is wrong with it, or when time is up."""
    deadline = time.monotonic() + VERIFY_TIMEOUT
    while True:
        try:
            return _verify_once(endpoint, expectation, before, prober)
        except (NotVerified, Unreached) as seen:
            found = str(seen)
        except OSError as error:
            found = f"does not answer: {error_text(error)}"
        if time.monotonic() > deadline:
            return Verification(Verdict.WRONG, found)
        time.sleep(0.25)


def _verify_once(endpoint: Endpoint, expectation: Expectation, before: Before, prober: Prober) -> Verification:
    for _ in range(ROUNDS):
        _handshake(endpoint, expectation, prober)
    found = VERIFIED
    if endpoint.access == "mtls":
        check_without_certificate(endpoint, prober)
        status = request(endpoint, prober.as_probe).status
        found = check_identities(endpoint, expectation, before, status, prober)
    else:
        try:
            status = public_status(endpoint, prober)
        except TimeoutError:  # after good handshakes: the proxy waits for what is behind it
            status = GATEWAY_TIMEOUT
    if status in {0, *NO_UPSTREAM}:
        found = _upstream_verification(status, before)
    status = request_status(endpoint, prober.as_probe, CROSSED)
    if status and status not in REFUSED:
        raise NotVerified(f"answers {status} to a request for another name than that of the handshake")
    return found


def _handshake(endpoint: Endpoint, expectation: Expectation, prober: Prober) -> None:
    try:
        certificate, _ = fetch_certificate(endpoint, prober.as_probe)
    except ssl.SSLCertVerificationError as error:
        raise NotVerified(f"serves what does not verify: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise NotVerified(f"refuses the handshake: {error.reason}") from None
    if wrong := certificate_mismatch(certificate, expectation):
        raise NotVerified(wrong)


def certificate_mismatch(certificate: bytes, expectation: Expectation) -> str:
    """That a certificate is not the deployed one, as a phrase that reads well after a service's name; else empty."""
    digest = fingerprint(certificate)
    if digest == expectation.fingerprint:
        return ""
    return (
        f"serves another certificate (SHA-256 {digest[:16]}…) than the deployed one ({expectation.fingerprint[:16]}…)"
    )


def check_without_certificate(endpoint: Endpoint, prober: Prober) -> None:
    """Nobody is let in without a certificate. Raises LetIn, and OSError.

    Refused is an alert or a status that says so; a connection refused or a time-out proves nothing.
    """
    status = request_status(endpoint, prober.without_certificate)
    if status and status not in NO_ENTRY:
        raise WronglyAdmitted(f"answers {status} to a client without a certificate")


def public_status(endpoint: Endpoint, prober: Prober) -> int:
    """The status that a service gives to everybody, 0 if it speaks no HTTP. Raises Unproven where it demands a certificate, and OSError.

    In TLS 1.3 a demand is refused after the handshake: only a request shows it. It is an alert, or a status other than
    that for the probe, so many times in a row: the content may differ for other reasons.
    """
    for _ in range(ROUNDS):
        bare = _status_or_alert(endpoint, prober.without_certificate)
        if bare is None:
            raise NotVerified(DEMANDS_CERTIFICATE)
        known = _status_or_alert(endpoint, prober.as_probe)
        if bare == known:
            return bare
    raise NotVerified(
        f"{DEMANDS_CERTIFICATE}: answers {bare or 'nothing'} without one, and {known or 'nothing'} to the probe"
    )


def _status_or_alert(endpoint: Endpoint, context: ssl.SSLContext) -> int | None:
    """The status of an answer, None for an alert about the client's certificate, 0 for anything else than an answer."""
    try:
        return request(endpoint, context).status
    except ssl.SSLError as error:
        return None if is_refusal(error) else 0
    except (TimeoutError, ConnectionRefusedError):
        raise
    except (ConnectionError, NotVerified):
        return 0


def _upstream_verification(status: int, before: Before) -> Verification:
    """What is filed of a service whose upstream does not answer. Raises Unproven where it did before the change."""
    what = f"answers {status}: what is behind the proxy does not answer" if status else NO_HTTP
    if before.had_upstream:
        raise NotVerified(f"{what}, and did before the change")
    return NO_ANSWER_UPSTREAM if status else Verification(Verdict.UNDECIDED, f"not verified: {NO_HTTP}")


def check_identities(
    endpoint: Endpoint, expectation: Expectation, before: Before, status: int, prober: Prober
) -> Verification:
    """The probe, which got `status`, is let in, and the canary is not where its proxy knows of it.

    Raises Unproven, LetIn for the canary, and Unreached.
    """
    if expectation.answers and status != ANSWERED:
        raise NotVerified(f"answers {status} to the probe, and its configuration says {ANSWERED}")
    if status in {400, 421, 495, 496} or (status == 403 and before.status != 403):
        raise NotVerified(f"refuses our own client certificate with {status}")
    if expectation.revokes and endpoint.revokes and prober.canary:
        if status in NO_ENTRY:
            text = f"not verified: the probe and the canary, which is revoked, both get {status}"
            return Verification(Verdict.UNDECIDED, text)
        if found := admission(endpoint, prober.as_canary):
            raise WronglyAdmitted(f"lets the canary {found}, which is revoked")
    return VERIFIED if expectation.answers else PASSED_ON


# -- all of them at the same time -------------------------------------------------------------------------------------


def map_parallel(look: Callable[[Item], Result], what: Sequence[Item], width: int = WIDTH) -> list[Result]:
    """What is found at each of several places, so many at the same time."""
    if len(what) < 2:
        return [look(one) for one in what]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - brings logging along, which few runs need

    with ThreadPoolExecutor(min(width, len(what))) as pool:
        return list(pool.map(look, what))
