"""What the text of a field may say: for each type what is taken, as what, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pki.config import delivery_window, fields, name_fields, time_fields

L63 = "a" * 63
DAY = timedelta(days=1)

TAKEN: list[tuple[Any, str, Any]] = [
    (time_fields.Duration, "1h", timedelta(hours=1)), (time_fields.Duration, "90d", 90 * DAY), (time_fields.Duration, "2w", 14 * DAY),
    (time_fields.Duration, "3mo", 90 * DAY), (time_fields.Duration, "1y", 365 * DAY), (time_fields.Duration, "99999h", timedelta(hours=99999)),
    (time_fields.Duration, 5 * DAY, 5 * DAY),
    (time_fields.RenewSpread, "0", timedelta()), (time_fields.RenewSpread, "0d", timedelta()), (time_fields.RenewSpread, "0h", timedelta()), (time_fields.RenewSpread, "7d", 7 * DAY),
    (time_fields.Timeout, "120s", timedelta(seconds=120)), (time_fields.Timeout, "15m", timedelta(minutes=15)),
    (time_fields.Timeout, "900s", timedelta(minutes=15)), (time_fields.Timeout, timedelta(seconds=5), timedelta(seconds=5)),
    (time_fields.Holiday, "2026-12-24", "2026-12-24"), (time_fields.Holiday, "2026-12-24..2026-12-24", "2026-12-24..2026-12-24"),
    (name_fields.DnsName, "lab", "lab"), (name_fields.DnsName, "*.a.lab", "*.a.lab"), (name_fields.DnsName, f"{L63}.lab", f"{L63}.lab"),
    (name_fields.DnsName, ".".join([L63] * 3 + ["a" * 61]), ".".join([L63] * 3 + ["a" * 61])), (name_fields.DnsName, "7", "7"),
    (name_fields.SubjectName, "10.0.0.7", "10.0.0.7"), (name_fields.SubjectName, "a.lab", "a.lab"),
    (fields.DatabaseAddress, "sqlite", "sqlite"), (fields.DatabaseAddress, "postgresql+psycopg://u@h/n", "postgresql+psycopg://u@h/n"),
    (fields.MailServer, "outbox", "outbox"), (fields.MailServer, "smtp://m.lab", "smtp://m.lab"),
    (fields.MailServer, "smtps://m.lab:1", "smtps://m.lab:1"), (fields.MailServer, "smtp://m.lab:65535", "smtp://m.lab:65535"),
    (name_fields.Domain, "lab.internal", "lab.internal"),
    (name_fields.ClientName, "admin", "admin"), (name_fields.ClientName, "admin@laptop", "admin@laptop"), (name_fields.ClientName, "a" * 50, "a" * 50),
    (name_fields.Email, "a+b@lab.internal", "a+b@lab.internal"), (name_fields.Email, f"{'a' * 64}@lab", f"{'a' * 64}@lab"),
    (fields.UpstreamAddress, "http://127.0.0.1:3000", "http://127.0.0.1:3000"), (fields.UpstreamAddress, "https://[::1]:8443/", "https://[::1]:8443"),
    (fields.PublishUrl, "http://pki.lab/", "http://pki.lab"),
    (fields.UpstreamCa, "system", "system"), (fields.UpstreamCa, "a/b.pem", "a/b.pem"),
    (fields.Protocol, "websocket", "websocket"), (fields.Protocol, "SPDY/3.1", "SPDY/3.1"), (fields.Protocol, "tcp", "tcp"),
    (fields.Organisation, " Example Lab ", "Example Lab"), (fields.Organisation, "x" * 40, "x" * 40), (fields.Organisation, "A.,&()'+/-9 z", "A.,&()'+/-9 z"),
    (fields.Fingerprint, ":".join(["AB"] * 32), "ab" * 32), (fields.Fingerprint, "0" * 64, "0" * 64),
    (fields.RelativeFile, "a/b..c", "a/b..c"), (fields.SourceFile, "/etc/x", "/etc/x"),
    (fields.TokenAddress, "pkcs11:token=a", "pkcs11:token=a"),
    (fields.TextFile, "/var/lib/x.prom", "/var/lib/x.prom"),
    (fields.AdoptedFolder, "/", "/"), (fields.AdoptedFolder, "old/ca/", "old/ca"),
    (fields.AuthorityName, "legacy", "legacy"), (fields.AuthorityName, "old-ca", "old-ca"), (fields.AuthorityName, "a" * 30, "a" * 30),
    (fields.ProbeRoute, "none", "none"), (fields.ProbeRoute, "direct", "direct"), (fields.ProbeRoute, "u@bastion:1", "u@bastion:1"),
    (fields.ProbeRoute, "bastion:65535", "bastion:65535"), (fields.ProbeRoute, "bastion", "bastion"),
    (fields.SecretName, "server-2", "server-2"), (fields.SecretName, "backup", "backup"), (fields.SecretName, "legacy", "legacy"),
    (fields.CommandLine, "pass show 'a b'", "pass show 'a b'"),
    (time_fields.TimeOfDay, "23:59", "23:59"), (delivery_window.Window, "22:00-05:00", "22:00-05:00"),
    (fields.Batch, "1", "1"), (fields.Batch, "99999", "99999"), (fields.Batch, "100%", "100%"), (fields.Batch, "20%", "20%"),
    (fields.NotifyName, "notify-phone", "notify-phone"), (fields.MailUser, "a@b", "a@b"), (fields.Account, "first.last", "first.last"),
]  # fmt: skip

REFUSED: list[tuple[Any, str, str]] = [
    *((time_fields.Duration, text, "expected a number and a unit") for text in ("0d", "01d", "d", "5", "5m", "5s", "100000d", "-1d", "1 d", "")),
    (time_fields.RenewSpread, "0m", "expected a number and a unit"),
    *((time_fields.Timeout, text, "expected seconds or minutes") for text in ("0s", "1h", "10000s", "m", "")),
    (time_fields.Timeout, "901s", "more than 15m"), (time_fields.Timeout, "16m", "more than 15m"),
    (time_fields.Holiday, "24.12.2026", "expected a day such as"), (time_fields.Holiday, "2026-02-30", "the calendar has no such day"),
    (time_fields.Holiday, "2026-12-25..2026-12-24", "ends before it begins: write 2026-12-24..2026-12-25"),
    (name_fields.DnsName, "m\u00fcller.lab", "write an international name in its ASCII form"),
    *((name_fields.DnsName, text, "expected a host name: letters") for text in ("", "a..b", "-a", "a-", "a_b", "a b", f"{L63}a", ".".join([L63] * 3 + ["a" * 62]), "*", "a.*.b", "a.")),
    (name_fields.DnsName, "A.lab", "write host names in lower case: a.lab"),
    (name_fields.DnsName, "10.0.0.7", "expected a host name, not an address"),
    (name_fields.DnsName, "*.lab", "a wildcard needs two labels after it"),
    (name_fields.SubjectName, "10.0.0.256", "expected an address such as"), (name_fields.SubjectName, "10.0.0", "expected an address such as"),
    (fields.DatabaseAddress, "mysql", "or a SQLAlchemy URL such as"), (fields.DatabaseAddress, "x://", "expected sqlite"),
    *((fields.MailServer, text, "expected outbox") for text in ("http://m", "smtp:m", "smtp://m:123456", "smtp://")),
    (fields.MailServer, "smtp://m:0", "expected a port from 1 to 65535"), (fields.MailServer, "smtp://m:65536", "expected a port from 1 to 65535"),
    (name_fields.Domain, "*.lab.internal", "expected a domain without a wildcard"),
    *((name_fields.ClientName, text, "expected a name such as admin") for text in ("", "A", "a@", "@a", "a@b@c", "a b", "a" * 51, ".a")),
    (name_fields.Email, "nobody", "expected an e-mail address"), (name_fields.Email, f"{'a' * 65}@lab", "expected an e-mail address"), (name_fields.Email, "@lab", "expected an e-mail"),
    (name_fields.Email, "a@*.lab.internal", "without a wildcard"), (name_fields.Email, "a@L", "lower case"), (name_fields.Email, "a b@lab", "expected an e-mail"),
    *((fields.UpstreamAddress, text, "expected an address such as http://127.0.0.1:3000") for text in ("ftp://a", "http://", "a:80", "http://a:99999", "http://a b", "http://[::1", "http://a;x", "http://a/{x}")),
    (fields.UpstreamAddress, "http://a/path", "without a path"),
    (fields.PublishUrl, "https://pki.lab", "expected plain http"), (fields.PublishUrl, "pki.lab", "expected an address such as http://pki.lab.internal"),
    *((fields.Protocol, text, "is never permitted") for text in ("h2c", "h2", "H3", "http/2.0", "TLS/1.0", "h2c-17", "https")),
    *((fields.Protocol, text, "expected the name of a protocol") for text in ("", "a b", "/x", "a" * 33, "a/")),
    *((fields.Organisation, text, "expected 1 to 40 printable characters") for text in ("", "  ", "x" * 41, "a\tb")),
    *((fields.Organisation, text, "expected letters, digits, blanks") for text in ("a=b", "a\\b", 'a"b', "a;b")),
    (fields.Organisation, "My Sandbox", "the word SANDBOX is reserved"),
    *((fields.Fingerprint, text, "64 hexadecimal digits") for text in ("", "0" * 63, "0" * 65, "g" * 64)),
    *((fields.RelativeFile, text, "expected a file below the folder of pki.yaml") for text in ("", "/etc/x", "../x", "a/../b", "a/..")),
    *((fields.SourceFile, text, "expected a file below") for text in ("", "../x", "/a/../b")),
    *((fields.AdoptedFolder, text, "expected a folder below") for text in ("", "../x", "/a/../b")),
    *((fields.UpstreamCa, text, "expected a file below") for text in ("", "/etc/x", "../x")),
    *((fields.TokenAddress, text, "expected a PKCS#11 address") for text in ("", "pkcs11:", "pkcs11:a b", "x")),
    *((fields.TextFile, text, "expected an absolute path that ends in .prom") for text in ("x.prom", "/a/x.txt", "/a/../x.prom", "/a b.prom", "")),
    *((fields.AuthorityName, text, "expected a name such as legacy: ") for text in ("", "A", "old-1", "a" * 31, "1a", "a-")),
    *((fields.AuthorityName, text, f"{text} is reserved") for text in ("root", "server", "client-x", "notify", "notify-a", "all", "backup", "smtp", "cert")),
    *((fields.ProbeRoute, text, "expected none, direct, or a jump host") for text in ("", "a b", "u@", "-a", "a:123456")),
    (fields.ProbeRoute, "a:0", "expected a port from 1 to 65535"), (fields.ProbeRoute, "a:65536", "expected a port from 1 to 65535"),
    *((fields.SecretName, text, "expected file, root, server") for text in ("", "Server", "server_1", "a" * 31)),
    (fields.CommandLine, "", "expected a command line such as"), (fields.CommandLine, "a 'b", "expected a command line (no closing quotation)"),
    *((time_fields.TimeOfDay, text, "expected a time of day") for text in ("24:00", "6:00", "06:60", "06:00:00")),
    *((delivery_window.Window, text, "expected hours such as 22:00-05:00") for text in ("22-05", "22:00", "22:00-24:00", "22:00 - 05:00")),
    *((fields.Batch, text, "expected a number of hosts") for text in ("0", "100000", "0%", "101%", "-1", "")),
    (fields.NotifyName, "notify_x", "expected the name of a secret"), (fields.MailUser, "a b", "expected a user name"), (fields.MailUser, "a" * 201, "expected a user name"),
]  # fmt: skip


def test_each_type_takes_what_is_meant_and_says_it_in_one_way() -> None:
    for kind, text, expected in TAKEN:
        assert TypeAdapter(kind).validate_python(text) == expected, (kind, text)


def test_each_type_refuses_what_is_not_meant_and_says_what_is() -> None:
    for kind, text, said in REFUSED:
        with pytest.raises(ValidationError) as refused:
            TypeAdapter(kind).validate_python(text)
        assert said in str(refused.value), (kind, text)


@pytest.mark.parametrize("kind", [time_fields.Duration, time_fields.Timeout])
def test_what_is_no_text_is_no_duration(kind: Any) -> None:
    for value in (None, ["1d"]):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("span", "text"),
    [(90 * DAY, "90d"), (timedelta(hours=36), "36h"), (timedelta(minutes=90), "90m"), (timedelta(seconds=61), "61s"), (timedelta(), "0d")],
)  # fmt: skip
def test_a_duration_is_written_in_the_largest_unit_that_is_exact(span: timedelta, text: str) -> None:
    assert time_fields.format_duration(span) == text


def test_days_are_the_first_and_the_last() -> None:
    assert time_fields.holiday_dates("2026-12-24") == (date(2026, 12, 24), date(2026, 12, 24))
    assert time_fields.holiday_dates("2026-12-20..2027-01-06") == (date(2026, 12, 20), date(2027, 1, 6))


def test_a_jump_host_is_taken_apart() -> None:
    assert fields.parse_jump_host("user@bastion:2222") == ("user", "bastion", 2222)
    assert fields.parse_jump_host("bastion") == ("", "bastion", 0)


def words(attempt: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are what is tested
        attempt()
    return str(refused.value)


def test_a_file_gives_a_leaf_a_name_that_a_folder_may_have() -> None:
    for name in ("a", "a.b_c-d", "a" * 50, "client-x"):
        assert name_fields.leaf_file_name(name, "server") == name
    for name in ("", "-a", "a-", "A", "a" * 51, "a/b"):
        assert "expected lower-case letters" in words(lambda name=name: name_fields.leaf_file_name(name, "server"))
    assert name_fields.leaf_file_name("client-admin@laptop", "client") == "client-admin@laptop"
    assert "expected a name such as admin" in words(lambda: name_fields.leaf_file_name("client-A", "client"))
    assert "expected lower-case letters" in words(lambda: name_fields.leaf_file_name("client-a@b", "server"))


def test_a_common_name_reads_the_same_everywhere() -> None:
    assert name_fields.common_name("admin@laptop, 7") == "admin@laptop, 7"
    for odd, said in (("\u00e4", "expected printable ASCII"), ("a\n", "expected printable ASCII"), ("a=b", "= is not permitted"), ("*.a", "* is not permitted"), ("a\\b", "\\ is not permitted")):  # fmt: skip
        assert said in words(lambda odd=odd: name_fields.common_name(odd))


def test_a_common_name_with_a_dot_and_nothing_odd_is_taken_for_a_dns_name() -> None:
    assert [name_fields.is_like_dns_name(name) for name in ("john.smith", "a_b.c", "john", "john@a.lab", "john smith.x")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_an_empty_value_is_an_empty_mapping_and_one_word_a_list_of_one() -> None:
    assert (fields.empty_is_mapping(""), fields.empty_is_mapping({"a": 1})) == ({}, {"a": 1})
    assert TypeAdapter(list[str]).validate_python(fields.SINGLE_OR_LIST.func("a")) == ["a"]  # type: ignore[call-arg]
    assert fields.SINGLE_OR_LIST.func(["a", "b"]) == ["a", "b"]  # type: ignore[call-arg]
