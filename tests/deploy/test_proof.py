"""What counts as refused, and what proves nothing: real handshakes with servers that behave in every way there is."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.config.fields import Proxy
from pki.config.proxies import PROGRAMS
from pki.deploy import access, tls_client, verification
from pki.deploy.tls_client import Endpoint, Prober, Unreached
from pki.deploy.verification import Expectation, ServiceBefore
from tests.support.projects import PROJECT
from tests.support.tls_servers import (
    NAME,
    Behaviour,
    Pairs,
    hangs_up,
    is_silent,
    pairs,
    says,
    serving,
    speaks_no_tls,
    trusts,
)

__all__ = ["pairs"]

# -- servers ----------------------------------------------------------------------------------------------------------


def speaks_something_else(context: ssl.SSLContext, connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as inside:
        inside.recv(4096)
        inside.sendall(b"220 mail.lab.internal ESMTP\r\n")


def asked(pairs: Pairs, *behaviours: Behaviour) -> str:
    with serving(pairs, *behaviours) as endpoint:
        return access.acceptance_text(endpoint, pairs.root, pairs.client)


# -- one identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "495 Bad", "496 None"])
def test_a_status_that_says_so_is_a_refusal(pairs: Pairs, status: str) -> None:
    assert asked(pairs, says(status)) == ""


def test_an_alert_about_the_certificate_is_a_refusal(pairs: Pairs) -> None:
    assert asked(pairs, trusts(str(pairs.stranger))) == ""


@pytest.mark.parametrize("status", [200, 204, 302, 404, 421, 502])
def test_any_other_answer_is_an_entry(pairs: Pairs, status: int) -> None:
    assert asked(pairs, says(f"{status} Whatever")) == f"lets it in with {status}"
    assert asked(pairs, trusts(str(pairs.root), f"{status} Whatever")) == f"lets it in with {status}"


def test_a_session_that_is_resumed_is_an_entry_where_a_new_one_is_not(pairs: Pairs) -> None:
    found = asked(pairs, says("403 Forbidden"), says("200 OK"))
    assert found == "lets it in with 200, in a resumed session"


def test_a_session_from_before_is_tried_again_whatever_its_version(pairs: Pairs) -> None:
    good, refuses = says("200 OK"), says("403 Forbidden")
    for kept in (1, 2):  # after the fresh one and its own session, those of TLS 1.3 and 1.2
        with serving(pairs, good, good, *[refuses] * kept, good) as endpoint:
            session = access.open_session(endpoint, pairs.root, pairs.client)
            assert session
            assert len(session.tickets) == 2
            assert "resumed" in access.acceptance_text(endpoint, pairs.root, pairs.client, session)
    with serving(pairs, good, good, refuses) as endpoint:
        session = access.open_session(endpoint, pairs.root, pairs.client)
        assert access.acceptance_text(endpoint, pairs.root, pairs.client, session) == ""


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (hangs_up, "aborts the handshake|does not answer as an HTTP server"),
        (speaks_no_tls, "aborts the handshake: WRONG_VERSION_NUMBER|could not be reached"),
        (is_silent, "could not be reached: .*timed out"),
        (speaks_something_else, "does not answer as an HTTP server"),
    ],
)
def test_what_is_neither_refusal_nor_entry_proves_nothing(
    pairs: Pairs, behaviour: Behaviour, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if behaviour is is_silent:
        monkeypatch.setattr(tls_client, "TIMEOUT", 0.5)
    with serving(pairs, behaviour) as endpoint:
        with pytest.raises(Unreached, match=said):
            access.acceptance_text(endpoint, pairs.root, pairs.client)
        with suppress(Unreached):
            assert access.open_session(endpoint, pairs.root, pairs.client) is None


def test_a_port_at_which_nobody_listens_proves_nothing(pairs: Pairs) -> None:
    with serving(pairs, says("403 Forbidden")) as endpoint:
        pass
    for ask in (access.acceptance_text, access.open_session):
        with pytest.raises(Unreached, match=r"could not be reached: Connection refused$"):
            ask(endpoint, pairs.root, pairs.client)


def test_a_server_that_is_not_ours_proves_nothing(pairs: Pairs) -> None:
    with serving(pairs, says("403 Forbidden")) as endpoint:
        for ask in (access.acceptance_text, access.open_session):
            with pytest.raises(Unreached, match="serves a certificate that does not verify"):
                ask(endpoint, pairs.stranger, pairs.client)


# -- a host's services ------------------------------------------------------------------------------------------------


def test_services_of_a_host_are_looked_at_at_the_same_time(pairs: Pairs) -> None:
    """Each of four waits until all have been asked."""
    together = threading.Barrier(4, timeout=300)

    def waits(context: ssl.SSLContext, connection: socket.socket) -> None:
        together.wait()
        says("200 OK")(context, connection)

    served = [serving(pairs, waits) for _ in range(4)]
    ends = [one.__enter__() for one in served]
    try:
        prober = Prober(pairs.root, pairs.client)
        services = [Endpoint(f"s{n}", NAME, "127.0.0.1", end.port, "mtls") for n, end in enumerate(ends)]
        assert [before.status for before in verification.check_before(services, prober).values()] == [200] * 4
    finally:
        for one in served:
            one.__exit__(None, None, None)


def test_nothing_is_waited_for_where_nothing_changed(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "SETTLING", 3600)
    with serving(pairs, trusts(str(pairs.root), "403 Forbidden")) as endpoint:
        prober = Prober(pairs.root, pairs.client, pairs.client)
        served = verification.check_before([endpoint], prober)[endpoint].served
        expectations = {NAME: Expectation(served, answers=False, revokes=True)}
        found = verification.verify_services([endpoint], expectations, None, prober)
    assert {name: str(one) for name, one in found.items()} == {
        "grafana": "not verified: the probe and the revoked canary both get 403"
    }


def passes_on(place: str, status: str) -> Behaviour:
    """A proxy that answers so for what is behind it, and refuses requests for another name than that of the handshake."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        if place:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(Path(place))
        with context.wrap_socket(connection, server_side=True) as inside:
            said = "421 Misdirected" if verification.CROSSED.encode() in inside.recv(4096) else status
            inside.sendall(f"HTTP/1.1 {said}\r\nContent-Length: 0\r\n\r\n".encode())

    return behave


def seen_after(pairs: Pairs, access: Literal["mtls", "tls"], behaviour: Behaviour) -> list[verification.Verification]:
    """What is seen of a service after a change before which it answered 200, 502 or nothing, and after no change."""
    with serving(pairs, behaviour) as one:
        endpoint, prober = replace(one, access=access), Prober(pairs.root, pairs.client, None)
        certificate = x509.load_pem_x509_certificates(pairs.server.read_bytes())[0]
        expectations = {NAME: Expectation(tls_client.fingerprint(certificate.public_bytes(serialization.Encoding.DER)))}
        befores = [*({endpoint: ServiceBefore(status)} for status in (200, 502, 0)), None]
        return [verification.verify_services([endpoint], expectations, before, prober)["grafana"] for before in befores]


@pytest.mark.parametrize("access", ["mtls", "tls"])
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_silent_upstream_disproves_a_change_only_where_it_answered_before(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch, access: Literal["mtls", "tls"], status: int
) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0)
    place = str(pairs.root) if access == "mtls" else ""
    found = seen_after(pairs, access, passes_on(place, f"{status} Whatever"))
    what = f"answers {status}: the upstream does not answer, but it did before the change"
    assert found == [
        verification.Verification(verification.Verdict.WRONG, what),
        *[verification.NO_ANSWER_UPSTREAM] * 3,
    ]


def test_a_service_that_speaks_no_http_disproves_a_change_only_where_it_did_before(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0)
    found = seen_after(pairs, "tls", speaks_something_else)
    assert [one.verdict.value for one in found] == ["wrong", "undecided", "undecided", "undecided"]


def test_the_docs_say_of_each_proxy_how_it_learns_of_revocations() -> None:
    names: tuple[Proxy, ...] = ("nginx", "haproxy", "caddy", "apache", "traefik")
    lines = (PROJECT / "docs/how-to/proxies.md").read_text().splitlines()
    [row] = [line for line in lines if line.startswith("| knows of revocations by")]
    for name, cell in zip(names, row.split("|")[2:-1], strict=True):
        assert cell.strip().startswith(PROGRAMS[name].learns or "nothing"), name


# -- servers whose key this machine does not support -------------------------------------------------------------------


@pytest.mark.parametrize("access", ["mtls", "tls"])
@pytest.mark.parametrize("is_supported", [True, False])
def test_a_server_with_an_ml_dsa_key_is_verified_only_where_its_key_can_be_read(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch, access: Literal["mtls", "tls"], is_supported: bool
) -> None:
    """The alert of such a server is about its own key, and must not pass for a refusal of the client."""
    monkeypatch.setattr(tls_client, "READS_ML_DSA", is_supported)
    monkeypatch.setattr(verification, "SETTLING", 0)
    place = str(pairs.root) if access == "mtls" else ""
    with serving(pairs, passes_on(place, "200 OK")) as one:
        endpoint = replace(one, access=access, has_ml_dsa_key=True)
        prober = Prober(pairs.root, pairs.client, None)
        certificate = x509.load_pem_x509_certificates(pairs.server.read_bytes())[0]
        expectations = {NAME: Expectation(tls_client.fingerprint(certificate.public_bytes(serialization.Encoding.DER)))}
        before = verification.check_before([endpoint], prober)
        result = verification.verify_services([endpoint], expectations, before, prober)["grafana"]
        if is_supported:
            assert before[endpoint].status == 200
            assert result.is_verified
            return
        assert before == {endpoint: ServiceBefore()}
        assert result.verdict is verification.Verdict.UNDECIDED
        assert str(result).startswith(
            "not verifiable from here: its key is ml-dsa-65, which OpenSSL 3.5 or newer reads"
        )
        with pytest.raises(Unreached, match="its key is ml-dsa-65"):
            access_of_client(endpoint, pairs)


def access_of_client(endpoint: Endpoint, pairs: Pairs) -> str:
    return access.acceptance_text(endpoint, pairs.root, pairs.client)


# -- services about which the release says nothing ---------------------------------------------------------------------


def test_service_without_a_certificate_in_the_release_is_not_called_verified(pairs: Pairs) -> None:
    """Of a pinned host that lacks the service, or whose release is lost, so that it gets CRLs alone."""
    with serving(pairs, says("200 OK")) as endpoint:
        result = verification.verify_services([endpoint], {}, None, Prober(pairs.root, pairs.client))[endpoint.service]
    assert not result.is_verified
    assert str(result) == "not verified: the release has no certificate for it"
    assert verification.failure_text({endpoint.service: result}) == "", "nothing is rolled back for it"
