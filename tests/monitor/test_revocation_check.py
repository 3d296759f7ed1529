"""How long a revocation waits for each service: a reload takes effect a moment after the deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pki.config.fields import Proxy
from pki.config.proxies import PROGRAMS
from pki.deploy import access, verification
from pki.deploy.tls_client import Endpoint, Prober, Unreached
from pki.monitor import dependents, revocation_check
from pki.monitor.revocation_check import Observation, RefusalVerdict, RevocationCheck
from tests.support.projects import Home

MTLS = Endpoint("grafana", "monitoring.lab.internal", "10.20.0.5", 443, "mtls")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_check, "PAUSE", 0)


@contextmanager
def checking(home: Home, leaf: str, folder: Path) -> Iterator[RevocationCheck]:
    """The check of a revoked leaf at one service, on the host `monitoring`, as if it were reached by ssh."""
    project = home.project()
    destination = SimpleNamespace(endpoints=(MTLS,), prober=Prober(folder / "roots.pem", None))
    delivery = SimpleNamespace(
        host="monitoring",
        records=SimpleNamespace(is_contacted=True, has_verified_services=True, receipt=None),
        destination=lambda: destination,
    )
    plan: Any = SimpleNamespace(leaves=home.plan().leaves, deliveries={"monitoring": delivery})
    revoked = [one for one in project.revocations.unexpired() if one.artifact == f"cert:{leaf}"]
    yield RevocationCheck(project, plan, revoked, folder)
    project.ledger_view.close()


def seen_at(check: RevocationCheck, *, is_unreplaced: bool, delivered: str = "monitoring") -> Observation:
    return next(
        observation
        for observation in check.probe_after({delivered}, is_unreplaced=is_unreplaced)
        if observation.place == "monitoring/grafana"
    )


@pytest.mark.parametrize("is_unreplaced", [False, True])
def test_a_service_has_time_to_refuse_a_revoked_client_with_and_without_replacement(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_unreplaced: bool
) -> None:
    answers = iter(["lets it in with 200", "lets it in with 200", "lets it in with 200", ""])
    monkeypatch.setattr(access, "acceptance_text", lambda *_: next(answers))
    monkeypatch.setattr(access, "open_session", lambda *_: None)
    with checking(home, "client-admin", tmp_path) as check:
        check.probe_before()
        seen = seen_at(check, is_unreplaced=is_unreplaced)
    assert seen.verdict is RefusalVerdict.VERIFIED, seen.text
    assert next(answers, "none left") == "none left"


def test_a_service_that_got_no_crl_is_asked_once(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["lets it in with 200", ""])
    monkeypatch.setattr(access, "acceptance_text", lambda *_: next(answers))
    with checking(home, "client-admin", tmp_path) as check:
        seen = seen_at(check, is_unreplaced=False, delivered="forge")
    assert (seen.verdict, next(answers)) == (RefusalVerdict.FAILED, "")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("", "refuses the revoked identity, as before the revocation"),
        (None, "refuses the revoked identity; before the revocation, it could not be asked"),
    ],
)
def test_what_was_not_seen_before_the_revocation_is_not_claimed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, text: str
) -> None:
    answers = iter([before, ""])

    def answer(*_: object) -> str:
        if (what := next(answers)) is None:
            raise Unreached("could not be reached")
        return what

    monkeypatch.setattr(access, "acceptance_text", answer)
    monkeypatch.setattr(access, "open_session", lambda *_: None)
    with checking(home, "client-admin", tmp_path) as check:
        check.probe_before()
        seen = seen_at(check, is_unreplaced=False, delivered="forge")
    assert seen.verdict is RefusalVerdict.UNVERIFIED
    assert seen.text.startswith(f"{text}; the new CRL was not deployed"), seen.text


def test_sessions_that_could_not_be_opened_are_not_said_to_be_missing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["lets it in with 200", "", "lets it in with 200", ""])
    monkeypatch.setattr(access, "acceptance_text", lambda *_: next(answers))
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", -1)  # each service is asked once

    def lost(*_: object) -> None:
        raise Unreached("could not be reached: timed out")

    texts = []
    for open_session in (lambda *_: None, lost):
        monkeypatch.setattr(access, "open_session", open_session)
        with checking(home, "client-admin", tmp_path) as check:
            check.probe_before()
            seen = seen_at(check, is_unreplaced=False)
        texts.append((seen.verdict, seen.text))
    refused = "refuses the revoked identity in a new connection"
    assert texts == [
        (RefusalVerdict.VERIFIED, f"{refused}; the service issues no sessions"),
        (
            RefusalVerdict.UNVERIFIED,
            f"{refused}; its earlier session was not tried (could not be reached: timed out); was not probed",
        ),
    ]


@pytest.mark.parametrize("proxy", ["nginx", "traefik"])
def test_a_server_s_new_certificate_is_waited_for_whatever_its_proxy_can_revoke_and_a_kept_one_is_not(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy
) -> None:
    monkeypatch.setattr(dependents.Use, "program", PROGRAMS[proxy])
    old = x509.load_pem_x509_certificate(home.read("build/certs/monitoring-mtls/cert.pem")).fingerprint(SHA256()).hex()
    served = iter([old, old, old, "0" * 64])
    monkeypatch.setattr(verification, "check_before", lambda *_: {MTLS: SimpleNamespace(served=next(served))})
    with checking(home, "monitoring-mtls", tmp_path) as check:
        kept = seen_at(check, is_unreplaced=True)
        replaced = seen_at(check, is_unreplaced=False)
    assert (kept.verdict, kept.text) == (
        RefusalVerdict.UNVERIFIED,
        "still serves the revoked certificate: no new certificate replaces it",
    )
    assert (replaced.verdict, next(served, "")) == (RefusalVerdict.VERIFIED, "")


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({}, "could not be reached"),
        ({MTLS: verification.ServiceBefore()}, "completes no handshake with this machine"),
    ],
)
def test_a_server_that_shows_no_certificate_is_unverified_and_only_a_silent_one_is_called_unreachable(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    states: dict[Endpoint, verification.ServiceBefore],
    text: str,
) -> None:
    monkeypatch.setattr(verification, "check_before", lambda *_: states)
    with checking(home, "monitoring-mtls", tmp_path) as check:
        observation = seen_at(check, is_unreplaced=True)
    assert (observation.verdict, observation.text) == (RefusalVerdict.UNVERIFIED, text)
