"""What a client may not make an upstream believe: other protocols in the connection, and headers that look like ours."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from itertools import product

import pytest

from tests.integration.forged_headers import (
    OURS,
    SEPARATORS,
    SUBJECT,
    THEIRS,
    assert_ours_alone,
    behind,
    cert_of,
    fronted,
    plain,
    proxy,
    removable,
)
from tests.integration.proxies import PATIENCE, Proxy
from tests.integration.upstreams import Behind, Reply, ask, connected, peer, send

__all__ = ["behind", "fronted", "proxy"]

SETTINGS = "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"


def ask_both(proxy: Proxy, what: str, lines: list[bytes], body: bytes = b"") -> dict[str, Reply]:
    """The same request to the service behind mTLS, as a client, and to the open one, as nobody."""
    return {
        "mtls": ask(proxy, f"{what}-mtls-{proxy.name}", lines, body, cert=cert_of(proxy)),
        "tls": ask(proxy, f"{what}-tls-{proxy.name}", lines, body),
    }


# -- other protocols --------------------------------------------------------------------------------------------------

UPGRADES = (
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: H2C", SETTINGS],
    ["Connection: Upgrade", "Upgrade: websocket, h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: h2c, websocket", SETTINGS],
    ["Connection: Upgrade", "Upgrade: websocket,h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: websocket h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c", SETTINGS],
    ["Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", SETTINGS],
    ["Connection: Upgrade", "Upgrade:", "Upgrade: h2c", SETTINGS],
    ["Connection: keep-alive, Upgrade", "Upgrade: h2c/1", SETTINGS],
    ["Connection: Upgrade", "Upgrade: websocket/h2c", SETTINGS],
    ["Upgrade: h2c", SETTINGS],
)


AROUND = b'\x00\t\n\r "():<?@_.~\x7f\x80\xa0\xff'
OTHERS = (
    b"foo",
    b"tcp",
    b"SPDY/3.1",
    b"TLS/1.2",
    b"HTTP/2.0",
    b"h2",
    b"websockets",
    b"websocket,",
    b"web socket",
    b"*",
)


@pytest.mark.parametrize("lines", UPGRADES, ids=lambda lines: "; ".join(lines[:-1]))
def test_no_connection_is_upgraded_to_http2_behind_a_proxy(proxy: Proxy, lines: list[str]) -> None:
    for what, (access, cert) in product(("h2c", "named"), (("mtls", cert_of(proxy)), ("tls", None))):
        service = f"{what}-{access}-{proxy.name}"
        head = ["GET / HTTP/1.1", f"Host: {service}.lab.internal", *lines]
        forged = [["x-client-subject", "CN=boss"]]
        found = peer("http2_peer.py", "tunnel", proxy, service, cert=cert, lines=head, headers=forged)
        assert "boss" not in found["body"], found
        assert found["end"] == "no upgrade", found
        assert found["status"] in {200, 400, 403, 502}, found
        assert SETTINGS[:14].lower() not in found["body"].lower()


def test_http2_peer_is_upgraded_where_no_proxy_stands_in_between(behind: Behind) -> None:
    """What the proxies must keep from the upstream is something that it does."""
    with socket.create_connection(("127.0.0.1", behind.ports["h2c"]), timeout=PATIENCE) as wire:
        wire.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{SETTINGS}\r\n\r\n".encode())
        assert wire.recv(12) == b"HTTP/1.1 101"


@pytest.mark.parametrize("value", OTHERS)
def test_upstream_is_asked_for_no_other_protocol(proxy: Proxy, value: bytes) -> None:
    for found in ask_both(proxy, "raw", [b"Connection: Upgrade", b"Upgrade: " + value]).values():
        assert found.reached or found.status == 400, found
        assert not [one for one in found.headers if one[0].lower() in {"upgrade", "http2-settings"}]
        assert "upgrade" not in {name.lower(): text.lower() for name, text in found.headers}.get("connection", "")


@pytest.mark.parametrize("value", [b"websocket", b"WebSocket", b"WEBSOCKET"])
def test_websocket_is_asked_for_in_any_case_of_letters(proxy: Proxy, value: bytes) -> None:
    """RFC 6455, section 4.2.1: the server compares without regard to case."""
    lines = [b"Connection: keep-alive, Upgrade", b"Upgrade: " + value, b"Sec-WebSocket-Version: 13"]
    for found in ask_both(proxy, "raw", [*lines, b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]).values():
        assert [text.lower() for name, text in found.headers if name.lower() == "upgrade"] == ["websocket"], found
        assert [text.lower() for name, text in found.headers if name.lower() == "connection"] == ["upgrade"], found


def test_real_websocket_goes_through(proxy: Proxy) -> None:
    for access, cert in (("mtls", cert_of(proxy)), ("tls", None)):
        found = peer("websocket_peer.py", "talk", proxy, f"ws-{access}-{proxy.name}", cert=cert)
        assert found["back"] == [True, True], found
        subjects = [text for name, text in found["headers"] if plain(name) == "x_client_subject"]
        assert subjects == ([SUBJECT] if access == "mtls" and proxy.name != "traefik" else [])


@pytest.mark.parametrize("value", ["SPDY/3.1", "spdy/3.1", "tcp", "websocket"])
def test_protocol_that_pki_yaml_names_goes_through(proxy: Proxy, value: str) -> None:
    for access, cert in (("mtls", cert_of(proxy)), ("tls", None)):
        service = f"named-{access}-{proxy.name}"
        head = ["GET /switch HTTP/1.1", f"Host: {service}.lab.internal", "Connection: Upgrade", f"Upgrade: {value}"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="] * (value == "websocket")
        with connected(proxy, service, cert) as wire:
            wire.sendall("\r\n".join([*head, "", ""]).encode())
            answer = wire.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101"), answer
            wire.sendall(b"Bytes of no HTTP")
            back = b""
            while len(back) < 16 and (more := wire.recv(4096)):
                back += more
            assert back == b"bYTES OF NO http"


def test_protocol_beside_those_that_pki_yaml_names_does_not_go_through(proxy: Proxy) -> None:
    for value in (b"h2c", b"SPDY/3", b"SPDY/301", b"SPDY/3.1, foo", b"tcp2", b"foo"):
        for found in ask_both(proxy, "named", [b"Connection: Upgrade", b"Upgrade: " + value]).values():
            assert found.reached
            assert "upgrade" not in {name.lower() for name, _ in found.headers}, (value, found)


@pytest.mark.parametrize("rest", [b"", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"])
def test_preface_of_http2_reaches_no_upstream_as_such(proxy: Proxy, rest: bytes) -> None:
    """What an upstream gets is a request that the proxy has judged, or nothing."""
    for access, cert in (("mtls", cert_of(proxy)), ("tls", None)):
        for head in (
            [b"PRI * HTTP/2.0"],
            [b"PRI * HTTP/2.0", f"Host: raw-{access}-{proxy.name}.lab.internal".encode()],
        ):
            found = send(proxy, f"raw-{access}-{proxy.name}", head, b"SM\r\n\r\n" + rest, cert=cert)
            assert b"PRI * HTTP/2" not in found.body
            if found.reached:
                assert_ours_alone(proxy, access, found.headers)


def test_connection_names_no_header_that_an_upstream_would_drop(proxy: Proxy) -> None:
    for value in (
        b"X-Client-Subject, X-Forwarded-For",
        b"close, X-Real-IP",
        b"Upgrade, X-Forwarded-Tls-Client-Cert-Info",
    ):
        for found in ask_both(proxy, "raw", [b"Connection: " + value]).values():
            assert found.reached
            connection = ",".join(text for name, text in found.headers if name.lower() == "connection").lower()
            assert set(re.split(", *", connection)) <= {"", "close", "keep-alive", "upgrade"}, found


# -- headers that look like ours --------------------------------------------------------------------------------------


def variants(name: str) -> list[str]:
    """A header's name with every separator that a name may hold, in each of its places."""
    words = name.split("-")
    return [
        "".join(map("".join, zip(words, (*chosen, ""), strict=True)))
        for chosen in product(SEPARATORS, repeat=len(words) - 1)
    ]


def spelt() -> list[str]:
    """Every spelling of our headers that the most lenient upstream takes for ours, in changing case of letters."""
    names = [name for ours in OURS for name in variants(ours)]
    return [(name, name.lower(), name.upper(), name.title())[number % 4] for number, name in enumerate(names)]


def batches(names: list[str], size: int = 60) -> Iterator[list[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


@pytest.mark.parametrize("what", ["raw", "cgi"])
def test_header_that_an_upstream_takes_for_ours_is_removed_in_every_spelling(proxy: Proxy, what: str) -> None:
    names = removable(proxy, [*spelt(), THEIRS, THEIRS.upper()])
    for batch in batches(names if what == "raw" else names[::7]):
        lines = [f"{name}: forged".encode() for name in batch]
        for access, found in ask_both(proxy, what, [*lines, b"X-Mine: kept"]).items():
            assert found.reached, found
            if what == "cgi":
                headers = [(name.removeprefix("HTTP_"), text) for name, text in found.told.items()]
            else:
                headers = found.headers
            assert ("x_mine", "kept") in [(plain(name), text) for name, text in headers]
            assert_ours_alone(proxy, access, headers)


def test_header_that_is_repeated_is_removed_wherever_it_stands(proxy: Proxy) -> None:
    odd = "X.Client.Subject" if proxy.name != "traefik" else "X_Client_Subject"
    lines = [b"X-Client-Subject: forged", f"{odd}: forged".encode(), b"X-Client-Subject:", b"x-client-subject: forged"]
    for access, found in ask_both(
        proxy, "cgi", [*lines, f"{odd.lower()}: forged".encode(), b"X-Real-IP: forged"]
    ).items():
        assert found.reached
        assert_ours_alone(proxy, access, [(name.removeprefix("HTTP_"), text) for name, text in found.told.items()])


def test_header_of_another_name_is_not_removed(proxy: Proxy) -> None:
    """Names that only hold or continue one of ours, as honest clients may send them."""
    names = [
        "X-Client",
        "X-Client-Id",
        "X-Client-Subject-Id",
        "X-Real-IP-Range",
        "Client-Subject",
        "X-Api-Key",
    ]
    for found in ask_both(proxy, "raw", [f"{name}: kept".encode() for name in names]).values():
        assert {name.lower() for name, text in found.headers if text == "kept"} == {name.lower() for name in names}


def test_header_with_any_other_byte_in_its_name_does_not_arrive_as_ours(proxy: Proxy) -> None:
    """Bytes that no name may hold: the request is refused, or the header dropped."""
    odd = [byte for byte in range(256) if not chr(byte).isalnum() or byte > 127]
    if proxy.name == "traefik":
        odd = [byte for byte in odd if chr(byte) not in SEPARATORS or chr(byte) in "-_"]
    for byte in odd:
        around = (b"X-Client-Subject%c" % byte, b"%cX-Client-Subject" % byte) if byte in AROUND else ()
        for name in (b"X%cClient-Subject" % byte, *around):
            found = ask(proxy, f"raw-tls-{proxy.name}", [name + b": forged"])
            assert "x_client_subject" not in {plain(name) for name, _ in found.headers}, (name, found)


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-A: b\nX-Client-Subject: forged"],
        [b"X-A: b\rX-Client-Subject: forged"],
        [b"X-A: b\r\r\nX-Client-Subject: forged"],
        [b"X-A: b\x00\r\nX-Client-Subject: forged"],
        [b"X-A:\r\n X-Client-Subject: forged"],
        [b"X-A: b\r\n\tX-Client-Subject: forged"],
        [b"X-Client-Subject\r\n : forged"],
        [b"X-Client-Subject:\r\n forged"],
        [b"X-Client-Subject : forged"],
        [b"X-Client-Subject\t: forged"],
        [b" X-Client-Subject: forged"],
        [b": forged", b"X-Client-Subject: forged"],
        [b"X-Client-Subject"],
    ],
)
def test_lines_that_are_no_headers_do_not_arrive_as_ours(proxy: Proxy, lines: list[bytes]) -> None:
    for access, found in ask_both(proxy, "cgi", lines).items():
        if found.reached:
            assert_ours_alone(proxy, access, [(name.removeprefix("HTTP_"), text) for name, text in found.told.items()])


def test_trailers_do_not_arrive_as_headers(proxy: Proxy) -> None:
    lines = [b"Transfer-Encoding: chunked", b"Trailer: X-Client-Subject, X.Client.Subject", b"TE: trailers"]
    body = b"3\r\nabc\r\n0\r\nX-Client-Subject: forged\r\nX_Client_Subject: forged\r\n\r\n"
    for access, found in ask_both(proxy, "cgi", lines, body).items():
        if found.reached:
            assert_ours_alone(proxy, access, [(name.removeprefix("HTTP_"), text) for name, text in found.told.items()])
    if proxy.name != "haproxy":  # which passes them on, as RFC 9110 permits
        assert "forged" not in str(ask_both(proxy, "raw", lines, body))
