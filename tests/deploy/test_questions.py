"""Servers that do not speak HTTP: how TLS begins, who is let in, and what answers and hostile servers do not prove."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from pki.config.fields import UNSEEN
from pki.config.leaf_certificates import PROBE
from pki.config.service_protocols import PROTOCOLS
from pki.deploy import access, bounded_stream, questions, tls_client, verification
from pki.deploy.bounded_stream import ProtocolFault, Stream
from pki.deploy.tls_client import Endpoint, NotVerifiable, Prober, Unreached, client_context, fetch_certificate
from pki.deploy.verification import Expectation, Verdict, Verification
from tests.support.protocol_servers import CONVERSATIONS, HEARS, Step, closes_after_tls, converses
from tests.support.tls_servers import Behaviour, Pairs, pairs, serving

__all__ = ["pairs"]

NAMES = sorted(CONVERSATIONS)


@contextmanager
def speaking(pairs: Pairs, speaks: str, *behaviours: Behaviour, access: str = "mtls") -> Iterator[Endpoint]:
    with serving(pairs, *behaviours) as endpoint:
        yield replace(endpoint, speaks=speaks, access=access, is_proxied=False)


def admits(pairs: Pairs, name: str) -> Behaviour:
    return converses(CONVERSATIONS[name].before, CONVERSATIONS[name].admits, trusts=pairs.root)


def verified(pairs: Pairs, endpoint: Endpoint, *, revokes: bool = False) -> Verification:
    prober = Prober(pairs.root, pairs.client, pairs.client if revokes else None)
    certificate, _ = fetch_certificate(endpoint, prober.as_probe)
    expectations = {endpoint.name: Expectation(tls_client.fingerprint(certificate), revokes=revokes)}
    return verification.verify_services([endpoint], expectations, None, prober)["grafana"]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0.2)
    monkeypatch.setattr(verification, "SETTLING", 0.0)
    monkeypatch.setattr(access, "PAUSE", 0.05)
    monkeypatch.setattr(tls_client, "WATCHED", 0.1)


def test_every_protocol_that_can_be_asked_has_a_question() -> None:
    assert PROTOCOLS.keys() - UNSEEN == questions.QUESTIONS.keys() | {"https", "tls"}
    assert questions.QUESTIONS.keys() == CONVERSATIONS.keys()
    assert questions.QUESTIONS.keys() > questions.CLIENT_FIRST
    assert tls_client.PROBE_ACCOUNT == PROBE


# -- who is let in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_server_is_verified_that_lets_the_probe_in_and_demands_a_certificate(pairs: Pairs, name: str) -> None:
    with speaking(pairs, name, admits(pairs, name)) as endpoint:
        assert verified(pairs, endpoint).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("name", NAMES)
def test_a_client_is_let_in_by_an_answer_and_refused_by_an_alert(pairs: Pairs, name: str) -> None:
    with speaking(pairs, name, admits(pairs, name)) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client).startswith("lets it in: it ")
        assert access.acceptance_text(endpoint, pairs.root, pairs.server) == "", "a server's certificate is no client's"
    elsewhere = converses(CONVERSATIONS[name].before, CONVERSATIONS[name].admits, trusts=pairs.stranger)
    with speaking(pairs, name, elsewhere) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client) == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_demands_no_certificate_is_wrong(pairs: Pairs, name: str) -> None:
    conversation = CONVERSATIONS[name]
    with speaking(pairs, name, converses(conversation.before, conversation.admits)) as endpoint:
        result = verified(pairs, endpoint)
    assert result.verdict is Verdict.WRONG
    assert str(result).startswith("lets a client without a certificate in: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_does_not_refuse_the_revoked_canary_is_wrong(pairs: Pairs, name: str) -> None:
    with speaking(pairs, name, admits(pairs, name)) as endpoint:
        result = verified(pairs, endpoint, revokes=True)
    assert result.verdict is Verdict.WRONG
    assert str(result).startswith("lets the revoked canary in: it ")


@pytest.mark.parametrize("name", [name for name in NAMES if CONVERSATIONS[name].refuses])
def test_a_refused_account_proves_nothing_about_the_certificate(pairs: Pairs, name: str) -> None:
    conversation = CONVERSATIONS[name]
    with speaking(pairs, name, converses(conversation.before, conversation.refuses, trusts=pairs.root)) as endpoint:
        with pytest.raises(NotVerifiable):
            access.acceptance_text(endpoint, pairs.root, pairs.client)
        result = verified(pairs, endpoint)
    assert result.verdict is Verdict.UNDECIDED
    assert str(result).startswith(
        "not verifiable from here: TLS accepts the probe, and the server's own rules refuse it"
    )


@pytest.mark.parametrize("name", NAMES)
def test_everybody_is_answered_by_a_public_service(pairs: Pairs, name: str) -> None:
    conversation = CONVERSATIONS[name]
    steps = CONVERSATIONS[name].admits[:-2] if name.startswith("imap") else conversation.admits
    with speaking(pairs, name, converses(conversation.before, steps), access="tls") as endpoint:
        assert verified(pairs, endpoint).verdict is Verdict.VERIFIED
    with speaking(pairs, name, admits(pairs, name), access="tls") as endpoint:
        result = verified(pairs, endpoint)
    assert (result.verdict, str(result)[:28]) == (Verdict.WRONG, verification.DEMANDS_CERTIFICATE[:28])


def test_postfix_refuses_a_certificate_with_an_answer_within_tls(pairs: Pairs) -> None:
    before = CONVERSATIONS["smtp"].before
    refusal = converses(before, (HEARS, b"421 4.7.1 mail.lab.internal Error: Client certificate not trusted\r\n"))
    with speaking(pairs, "smtp", refusal) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client) == ""
    overload = converses(before, (HEARS, b"421 4.3.2 too many connections\r\n"))
    with speaking(pairs, "smtp", overload) as endpoint, pytest.raises(Unreached, match=r"421 4\.3\.2"):
        access.acceptance_text(endpoint, pairs.root, pairs.client)


@pytest.mark.parametrize("line", [b"554 5.3.2 no service here", b"550 blocked", b"530 log in first"])
def test_smtp_server_that_refuses_for_another_reason_refuses_no_certificate(pairs: Pairs, line: bytes) -> None:
    refusal = converses(CONVERSATIONS["smtp"].before, (HEARS, line + b"\r\n"))
    with speaking(pairs, "smtp", refusal) as endpoint, pytest.raises(NotVerifiable, match=line.decode()[:3]):
        access.acceptance_text(endpoint, pairs.root, pairs.client)


@pytest.mark.parametrize("code", [b"[LIMIT] too many connections", b"[INUSE] later", b"internal error"])
def test_imap_login_that_is_refused_for_another_reason_refuses_no_certificate(pairs: Pairs, code: bytes) -> None:
    steps: tuple[Step, ...] = (*CONVERSATIONS["imap"].admits[:-1], b"a3 NO " + code + b"\r\n")
    answers = converses(CONVERSATIONS["imap"].before, steps)
    with speaking(pairs, "imap", answers) as endpoint, pytest.raises(NotVerifiable):
        access.acceptance_text(endpoint, pairs.root, pairs.client)


def test_dovecot_refuses_a_certificate_with_an_alert_in_its_answer(pairs: Pairs) -> None:
    steps: tuple[Step, ...] = (
        *CONVERSATIONS["imap"].admits[:-1],
        b"a3 NO [ALERT] Client didn't present valid SSL certificate\r\n",
    )
    with speaking(pairs, "imap", converses(CONVERSATIONS["imap"].before, steps)) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client) == ""


def test_capabilities_that_everybody_gets_show_nobody_who_may_log_in(pairs: Pairs) -> None:
    steps = (HEARS, b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\na2 OK done\r\n")
    with speaking(pairs, "imap", converses(CONVERSATIONS["imap"].before, steps)) as endpoint:
        result = verified(pairs, endpoint)
    assert result.verdict is Verdict.UNDECIDED
    assert "offers no AUTH=EXTERNAL" in str(result)


# -- GnuTLS servers close the connection, without an alert ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["ldap", "ldaps", "postgres", "imaps"])
def test_a_connection_that_is_closed_three_times_is_a_refusal_if_another_client_is_answered(
    pairs: Pairs, name: str
) -> None:
    conversation = CONVERSATIONS[name]
    closes, answers = closes_after_tls(conversation.before), converses(conversation.before, conversation.admits)
    witness = client_context(pairs.root, pairs.client)
    with speaking(pairs, name, closes, closes, closes, answers) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client, None, witness) == ""
    with speaking(pairs, name, closes) as endpoint, pytest.raises(Unreached):
        access.acceptance_text(endpoint, pairs.root, pairs.client, None, witness)
    with speaking(pairs, name, closes, closes, closes, answers) as endpoint, pytest.raises(Unreached):
        access.acceptance_text(endpoint, pairs.root, pairs.client)
    with speaking(pairs, name, closes, closes, answers) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client, None, witness).startswith("lets it in")


# -- servers of another protocol: `speaks: tls` --------------------------------------------------------------------------


def test_a_server_of_an_unknown_protocol_is_watched_for_a_refusal(pairs: Pairs) -> None:
    with speaking(pairs, "tls", converses((), (HEARS,), trusts=pairs.root)) as endpoint:
        assert verified(pairs, endpoint).verdict is Verdict.VERIFIED, "Python's servers send session tickets"
        assert access.acceptance_text(endpoint, pairs.root, pairs.server) == ""
    with speaking(pairs, "tls", converses((), (HEARS,))) as endpoint:
        assert str(verified(pairs, endpoint)).startswith("lets a client without a certificate in: keeps the connection")
    with speaking(pairs, "tls", converses((), (b"hello",), trusts=pairs.root)) as endpoint:
        assert access.acceptance_text(endpoint, pairs.root, pairs.client) == "lets it in: it sends data"


def test_silence_without_a_session_ticket_shows_nothing(pairs: Pairs) -> None:
    def without_tickets(context: ssl.SSLContext, connection: socket.socket) -> None:
        context.num_tickets = 0
        converses((), (HEARS,), trusts=pairs.root)(context, connection)

    with speaking(pairs, "tls", without_tickets) as endpoint:
        result = verified(pairs, endpoint)
        with pytest.raises(NotVerifiable):
            access.acceptance_text(endpoint, pairs.root, pairs.client)
    assert (result.verdict, str(result)[:24]) == (Verdict.UNDECIDED, "not verifiable from here")


# -- servers that do not speak the protocol, and hostile ones ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "before", "fault"),
    [
        ("postgres", (HEARS, b"N"), "does not offer TLS (ssl = off)"),
        ("postgres", (HEARS, b"H"), "does not answer as a PostgreSQL server"),
        ("mysql", (b"\x0a\0\0\0\x0a5.5\0aaaaaa",), "does not answer as a MySQL server"),
        ("mysql", (b"\x17\0\0\0\xff\x69\x04Host is blocked\x1b[31m",), "answers 1129 Host is blocked?[31m"),
        ("smtp", (b"554 5.7.1 go away\r\n",), "answers 554 5.7.1 go away before STARTTLS"),
        ("smtp", (b"220 x\r\n", HEARS, b"250 SIZE\r\n"), "does not offer STARTTLS"),
        ("smtp", (b"SSH-2.0-OpenSSH_9.2\r\n",), "does not answer as an SMTP server"),
        ("imap", (b"* OK\r\n", HEARS, b"a1 BAD no\r\n"), "refuses STARTTLS: BAD no"),
        ("imap", (b"* BYE overloaded\r\n",), "answers * BYE overloaded"),
        ("imap", (b"+OK POP3 ready\r\n",), "does not answer as an IMAP server"),
        ("ldap", (HEARS, bytes.fromhex("300c0201017807 0a0135 0400 0400")), "refuses StartTLS: unwillingToPerform"),
        ("ldap", (HEARS, b"HTTP/1.1 400 Bad Request\r\n"), "does not answer as an LDAP server"),
        ("ldap", (HEARS, b"\x30\x84\x7f\xff\xff\xff"), "does not answer as an LDAP server"),
        (
            "smtp",
            (b"220 x\r\n", HEARS, b"250 STARTTLS\r\n", HEARS, b"220 go\r\n250 x\r\n"),
            "sends data before TLS begins",
        ),
        ("smtp", (b"220 " + b"a" * 9000,), "sends a line without an end"),
        ("smtp", (b"220-a\r\n" * 200,), "answers with more than 100 lines"),
        ("smtp", (), "closes the connection before TLS begins"),
    ],
)
def test_what_a_server_says_instead_of_beginning_tls_is_named(
    pairs: Pairs, name: str, before: tuple[Step, ...], fault: str
) -> None:
    def behave(_: ssl.SSLContext, connection: socket.socket) -> None:
        for step in before:
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                connection.recv(4096)
        if before:
            with suppress(OSError):
                connection.recv(4096)

    with speaking(pairs, name, behave) as endpoint, pytest.raises(tls_client.NotVerified) as caught:
        fetch_certificate(endpoint, client_context(pairs.root))
    assert str(caught.value) == fault


@pytest.mark.parametrize("name", ["smtp", "imap", "mysql"])
def test_a_server_that_drips_bytes_is_left_in_time(pairs: Pairs, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_client, "TIMEOUT", 0.4)
    ends = threading.Event()

    def drips(_: ssl.SSLContext, connection: socket.socket) -> None:
        with suppress(OSError):
            while not ends.wait(0.02):
                connection.sendall(b"2")

    with speaking(pairs, name, drips) as endpoint:
        started = time.monotonic()
        with pytest.raises((TimeoutError, tls_client.NotVerified)):
            fetch_certificate(endpoint, client_context(pairs.root))
        assert time.monotonic() - started < 3
        ends.set()


@pytest.mark.parametrize("name", NAMES)
def test_no_bytes_of_a_server_make_a_question_fail_in_another_way_than_it_says(name: str) -> None:
    """Seeded noise, damaged conversations and cut ones, at the beginning of TLS and within it."""
    chance = random.Random(f"{name} 18")  # noqa: S311 - no secret depends on it
    answers = b"".join(step for step in CONVERSATIONS[name].admits if isinstance(step, bytes))
    begins = b"".join(step for step in CONVERSATIONS[name].before if isinstance(step, bytes))
    for turn in range(150):
        for right, function in ((answers, questions.QUESTIONS[name]), (begins, questions.STARTS.get(name))):
            data = bytearray(right if turn % 3 else chance.randbytes(chance.randrange(1, 200)))
            for _ in range(chance.randrange(3) if data else 0):
                data[chance.randrange(len(data))] = chance.randrange(256)
            ours, server = socket.socketpair()
            with ours, server:
                server.sendall(bytes(data[: chance.randrange(len(data) + 1)]))
                server.shutdown(socket.SHUT_WR)
                with suppress(ProtocolFault, ConnectionError):
                    if function is questions.STARTS.get(name) and function:
                        function(Stream(ours, 5))
                    elif function is not None:
                        function(Stream(ours, 5), PROBE, by_certificate=True)


def test_a_server_that_never_stops_is_left_after_a_limit() -> None:
    ours, server = socket.socketpair()
    with ours, server:

        def talk() -> None:
            with suppress(OSError):
                server.sendall(b"* x\r\n" * bounded_stream.LIMIT)

        thread = threading.Thread(target=talk)
        thread.start()
        stream = Stream(ours, 30)
        lines = iter(stream.read_line, "")
        with pytest.raises(ProtocolFault, match="more than 64 kB"):
            list(lines)
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()
