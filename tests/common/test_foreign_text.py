"""What a host, a device or a file supplies: control characters become visible, markup stays text, and reading is linear."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.import_ca import scan
from pki.common import pem
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.common.visible import visible, visible_line
from pki.deploy import crl_files, preflight
from pki.deploy.preflight import Trust
from pki.monitor.alerts import notify
from pki.x509 import canonical, certificate_signing, keys, pem_encoding, profiles

CONTROLS = [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e"]
CONTROLS += [*"\u2066\u2069\ufeff\ud800", "\U000e0041"]


# -- control characters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", [one for one in CONTROLS if one != "\n"], ids=lambda one: f"{ord(one):x}")
def test_a_control_character_is_shown_as_an_escape(character: str) -> None:
    shown = visible(f"a{character}b")
    assert re.fullmatch(r"a\\[a-zA-Z0-9]+b", shown)
    assert shown.encode("ascii").decode("unicode_escape") == f"a{character}b"
    assert visible_line(f"a{character}b") == shown


@pytest.mark.parametrize("text", ["", "plain", "Größe 5 µm", "日本語 עברית العربية", "→ …", "👍", "a\nb"])
def test_text_that_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_foreign_text_is_one_line_and_never_longer_than_a_sentence() -> None:
    assert visible_line("one\ntwo") == "one two"
    assert len(visible_line("x" * 1_000_000)) == len(visible_line("\x1b" * 1_000_000)) == 400
    assert visible_line("x" * 400) == "x" * 400
    assert visible_line("x" * 401).endswith("x…")


def test_an_error_names_what_was_supplied_and_shows_it() -> None:
    error = PkiError("bad\x1b[2J\u202ename\nin two lines", "type \x07this")
    assert (error.message, error.hint) == ("bad\\x1b[2J\\u202ename\nin two lines", "type \\x07this")
    assert "\x1b" not in str(error) + repr(error)


@pytest.mark.parametrize(
    "show",
    [
        lambda screen, text: screen.line(text),
        lambda screen, text: screen.done("issued", text, text),
        lambda screen, text: screen.failed(text, text, text),
        lambda screen, text: screen.due(text, text),
        lambda screen, text: screen.note(text, text, text),
        lambda screen, text: screen.check("ok", text, text, "", text),
        lambda screen, text: screen.blocked(text, text),
        lambda screen, text: screen.dated("2026-01-01", text, text),
        lambda screen, text: screen.observed("verified", text, text),
        lambda screen, text: screen.table("title", ("a", "b"), [(text, text)]),
    ],
)
def test_nothing_that_is_shown_moves_the_terminal(
    capsys: pytest.CaptureFixture[str], show: Callable[[Screen, str], None]
) -> None:
    show(Screen(), "".join(one for one in CONTROLS if one != "\ud800"))
    said = capsys.readouterr().out
    assert "\\x1b" in said
    assert not [one for one in CONTROLS if one in said and one != "\n"]


# -- markup -----------------------------------------------------------------------------------------------------------


MARKUP = "<!channel> <http://evil|click> [click](http://evil) @everyone @here <b>bold</b> & admin@lab.internal"


@pytest.mark.parametrize(
    "address",
    ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"],
)
def test_a_service_finds_no_markup_in_a_message(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What really leaves for Slack and for Discord."""
    sent = []

    def request(*_: object, data: Any = None, **__: object) -> requests.Response:
        sent.append(data.decode() if isinstance(data, bytes) else str(data))
        answer = requests.Response()
        answer.status_code, answer.raw = 200, io.BytesIO(b"ok")
        return answer

    monkeypatch.setattr(requests.Session, "request", request)
    notify.send("notify-x", address, MARKUP, MARKUP)
    assert sent
    texts = json.dumps(json.loads(sent[0]), ensure_ascii=False)
    for mark in ("<!channel", "&lt;!channel", "<http", "<b>", "](http", "@everyone", "@here"):
        assert mark not in texts
    assert "admin@lab.internal" in texts


def test_an_address_and_a_command_stay_as_they_are() -> None:
    text = "./run invoke deploy.bootstrap web_1 --login root; ssh root@192.0.2.1 true; a & b"
    assert notify.unmarked(text) == text


# -- sections of PEM --------------------------------------------------------------------------------------------------


def section(label: str, body: str = "AAAA") -> bytes:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def test_sections_are_found_in_their_order_and_none_within_another() -> None:
    data = b"x" + section("A", "1") + section("B", "2") + section("C", "-----BEGIN A-----") + section("A", "3")
    assert [(one.label, one.body.strip()) for one in pem.sections(data, "A", "C")] == [
        ("A", b"1"),
        ("C", b"-----BEGIN A-----"),
        ("A", b"3"),
    ]
    assert next(pem.sections(data, "B")).whole == section("B", "2").strip()


def test_a_section_without_its_end_is_none_and_hides_no_other() -> None:
    data = b"-----BEGIN A-----\n" + section("B") + b"-----BEGIN A-----" + section("B")[:-5]
    assert [one.label for one in pem.sections(data, "A", "B")] == ["B"]


ENDLESS = {
    "begins": b"-----BEGIN X509 CRL-----\n",
    "begins of certificates": b"-----BEGIN CERTIFICATE-----\n",
    "begins of keys": b"-----BEGIN PRIVATE KEY-----\n",
    "dashes": b"-----",
    "labels": b"-----BEGIN ",
    "other ends": b"-----BEGIN X509 CRL----------END X509 CR-----",
}


@pytest.mark.parametrize("piece", ENDLESS.values(), ids=ENDLESS)
def test_what_has_no_end_is_read_in_linear_time(piece: bytes) -> None:
    """8 MiB; a reader that looked for the end from every beginning would take hours."""
    data = piece * ((8 << 20) // len(piece))
    started = time.process_time()
    assert crl_files.parse_crls(data) == ()
    assert list(pem.sections(data, *preflight.KEYS, *scan.LABELS)) == []
    assert time.process_time() - started < 20


def signed_to_be_even() -> tuple[x509.Certificate, x509.CertificateRevocationList]:
    """A CA and its CRL, whose last bits are 0: DER permits a bit that is unused to be nothing else (X.690 §11.2.1)."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    key, subject = keys.new_key("ec-p256"), certificate_signing.subject_name("Example", "Client 1")
    dates = certificate_signing.validity_dates(now, timedelta(days=20), None)
    builder = x509.CertificateRevocationListBuilder().issuer_name(subject).last_update(now)
    builder = builder.next_update(now + timedelta(days=9)).add_extension(x509.CRLNumber(7), critical=False)
    signed = iter(
        lambda: certificate_signing.sign_certificate(subject, key.public_key(), dates, profiles.root_extensions(), key),
        None,
    )
    listed = iter(lambda: builder.sign(key, hashes.SHA256()), None)
    return next(filter(ends_in_zero, signed)), next(filter(ends_in_zero, listed))


def ends_in_zero(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    return signed.signature[-1] & 1 == 0


def with_an_unused_bit(der: bytes, signature: bytes) -> bytes:
    return der.removesuffix(b"\0" + signature) + b"\1" + signature


def test_an_unused_bit_in_a_signature_is_damage() -> None:
    """`cryptography` verifies such a signature, OpenSSL does not."""
    authority, listed = signed_to_be_even()
    der = with_an_unused_bit(listed.public_bytes(Encoding.DER), listed.signature)
    assert canonical.read_crl(listed.public_bytes(Encoding.DER), Encoding.DER) is not None
    assert canonical.read_crl(der, Encoding.DER) is None
    pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    assert canonical.read_crl(pem, Encoding.PEM) is None
    assert not Trust(b"", pem_encoding.pem_of([authority])).has_signed(crl_files.parse_crls(der)[0])
    cert = x509.load_der_x509_certificate(with_an_unused_bit(authority.public_bytes(Encoding.DER), authority.signature))
    assert canonical.is_issued_by(authority, authority)
    assert not canonical.is_issued_by(cert, authority)
    assert canonical.read_certificate(cert.public_bytes(Encoding.PEM)) is None
    assert canonical.read_certificates(cert.public_bytes(Encoding.PEM)) is None


def test_a_crl_with_any_bit_flipped_is_none_of_ours_and_no_bug() -> None:
    """What a host shows as a CRL may be anything: it is read, and judged by its signature."""
    authority, listed = signed_to_be_even()
    der = listed.public_bytes(Encoding.DER)
    trust = Trust(b"", pem_encoding.pem_of([authority]))
    assert [trust.has_signed(one) for one in crl_files.parse_crls(der)] == [True]
    for bit in range(len(der) * 8):
        flipped = bytearray(der)
        flipped[bit // 8] ^= 1 << (bit % 8)
        assert not any(trust.has_signed(one) for one in crl_files.parse_crls(bytes(flipped))), bit
