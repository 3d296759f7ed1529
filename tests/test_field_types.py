"""What the text of a field may say: for each type what is taken, as what, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pki import scalars

L63 = "a" * 63
DAY = timedelta(days=1)

TAKEN: list[tuple[Any, str, Any]] = [
    (scalars.Duration, "1h", timedelta(hours=1)), (scalars.Duration, "90d", 90 * DAY), (scalars.Duration, "2w", 14 * DAY),
    (scalars.Duration, "3mo", 90 * DAY), (scalars.Duration, "1y", 365 * DAY), (scalars.Duration, "99999h", timedelta(hours=99999)),
    (scalars.Duration, 5 * DAY, 5 * DAY),
    (scalars.Spread, "0", timedelta()), (scalars.Spread, "0d", timedelta()), (scalars.Spread, "0h", timedelta()), (scalars.Spread, "7d", 7 * DAY),
    (scalars.Patience, "120s", timedelta(seconds=120)), (scalars.Patience, "15m", timedelta(minutes=15)),
    (scalars.Patience, "900s", timedelta(minutes=15)), (scalars.Patience, timedelta(seconds=5), timedelta(seconds=5)),
    (scalars.Holiday, "2026-12-24", "2026-12-24"), (scalars.Holiday, "2026-12-24..2026-12-24", "2026-12-24..2026-12-24"),
    (scalars.DnsName, "lab", "lab"), (scalars.DnsName, "*.a.lab", "*.a.lab"), (scalars.DnsName, f"{L63}.lab", f"{L63}.lab"),
    (scalars.DnsName, ".".join([L63] * 3 + ["a" * 61]), ".".join([L63] * 3 + ["a" * 61])), (scalars.DnsName, "7", "7"),
    (scalars.SubjectName, "10.0.0.7", "10.0.0.7"), (scalars.SubjectName, "a.lab", "a.lab"),
    (scalars.DatabaseAddress, "sqlite", "sqlite"), (scalars.DatabaseAddress, "postgresql+psycopg://u@h/n", "postgresql+psycopg://u@h/n"),
    (scalars.MailServer, "outbox", "outbox"), (scalars.MailServer, "smtp://m.lab", "smtp://m.lab"),
    (scalars.MailServer, "smtps://m.lab:1", "smtps://m.lab:1"), (scalars.MailServer, "smtp://m.lab:65535", "smtp://m.lab:65535"),
    (scalars.Domain, "lab.internal", "lab.internal"),
    (scalars.ClientName, "admin", "admin"), (scalars.ClientName, "admin@laptop", "admin@laptop"), (scalars.ClientName, "a" * 50, "a" * 50),
    (scalars.Email, "a+b@lab.internal", "a+b@lab.internal"), (scalars.Email, f"{'a' * 64}@lab", f"{'a' * 64}@lab"),
    (scalars.UpstreamAddress, "http://127.0.0.1:3000", "http://127.0.0.1:3000"), (scalars.UpstreamAddress, "https://[::1]:8443/", "https://[::1]:8443"),
    (scalars.PublishUrl, "http://pki.lab/", "http://pki.lab"),
    (scalars.UpstreamCa, "system", "system"), (scalars.UpstreamCa, "a/b.pem", "a/b.pem"),
    (scalars.Protocol, "websocket", "websocket"), (scalars.Protocol, "SPDY/3.1", "SPDY/3.1"), (scalars.Protocol, "tcp", "tcp"),
    (scalars.Organisation, " Example Lab ", "Example Lab"), (scalars.Organisation, "x" * 40, "x" * 40), (scalars.Organisation, "A.,&()'+/-9 z", "A.,&()'+/-9 z"),
    (scalars.Fingerprint, ":".join(["AB"] * 32), "ab" * 32), (scalars.Fingerprint, "0" * 64, "0" * 64),
    (scalars.RelativeFile, "a/b..c", "a/b..c"), (scalars.SourceFile, "/etc/x", "/etc/x"),
    (scalars.TokenAddress, "pkcs11:token=a", "pkcs11:token=a"),
    (scalars.TextFile, "/var/lib/x.prom", "/var/lib/x.prom"),
    (scalars.AdoptedFolder, "/", "/"), (scalars.AdoptedFolder, "old/ca/", "old/ca"),
    (scalars.AdoptedName, "legacy", "legacy"), (scalars.AdoptedName, "old-ca", "old-ca"), (scalars.AdoptedName, "a" * 30, "a" * 30),
    (scalars.ProbeWay, "none", "none"), (scalars.ProbeWay, "direct", "direct"), (scalars.ProbeWay, "u@bastion:1", "u@bastion:1"),
    (scalars.ProbeWay, "bastion:65535", "bastion:65535"), (scalars.ProbeWay, "bastion", "bastion"),
    (scalars.SecretName, "server-2", "server-2"), (scalars.SecretName, "backup", "backup"), (scalars.SecretName, "legacy", "legacy"),
    (scalars.CommandLine, "pass show 'a b'", "pass show 'a b'"),
    (scalars.TimeOfDay, "23:59", "23:59"), (scalars.Window, "22:00-05:00", "22:00-05:00"),
    (scalars.Batch, "1", "1"), (scalars.Batch, "99999", "99999"), (scalars.Batch, "100%", "100%"), (scalars.Batch, "20%", "20%"),
    (scalars.NotifyName, "notify-phone", "notify-phone"), (scalars.MailUser, "a@b", "a@b"), (scalars.Account, "first.last", "first.last"),
]  # fmt: skip

REFUSED: list[tuple[Any, str, str]] = [
    *((scalars.Duration, text, "expected a number and a unit") for text in ("0d", "01d", "d", "5", "5m", "5s", "100000d", "-1d", "1 d", "")),
    (scalars.Spread, "0m", "expected a number and a unit"),
    *((scalars.Patience, text, "expected seconds or minutes") for text in ("0s", "1h", "10000s", "m", "")),
    (scalars.Patience, "901s", "more than 15m"), (scalars.Patience, "16m", "more than 15m"),
    (scalars.Holiday, "24.12.2026", "expected a day such as"), (scalars.Holiday, "2026-02-30", "the calendar has no such day"),
    (scalars.Holiday, "2026-12-25..2026-12-24", "ends before it begins: write 2026-12-24..2026-12-25"),
    (scalars.DnsName, "m\u00fcller.lab", "write an international name in its ASCII form"),
    *((scalars.DnsName, text, "expected a host name: letters") for text in ("", "a..b", "-a", "a-", "a_b", "a b", f"{L63}a", ".".join([L63] * 3 + ["a" * 62]), "*", "a.*.b", "a.")),
    (scalars.DnsName, "A.lab", "write host names in lower case: a.lab"),
    (scalars.DnsName, "10.0.0.7", "expected a host name, not an address"),
    (scalars.DnsName, "*.lab", "a wildcard needs two labels after it"),
    (scalars.SubjectName, "10.0.0.256", "expected an IPv4 address or a host name"), (scalars.SubjectName, "10.0.0", "expected an IPv4 address"),
    (scalars.DatabaseAddress, "mysql", "expected sqlite, or a SQLAlchemy URL"), (scalars.DatabaseAddress, "x://", "expected sqlite"),
    *((scalars.MailServer, text, "expected outbox") for text in ("http://m", "smtp:m", "smtp://m:123456", "smtp://")),
    (scalars.MailServer, "smtp://m:0", "expected a port from 1 to 65535"), (scalars.MailServer, "smtp://m:65536", "expected a port from 1 to 65535"),
    (scalars.Domain, "*.lab.internal", "expected a domain without a wildcard"),
    *((scalars.ClientName, text, "expected a name such as admin") for text in ("", "A", "a@", "@a", "a@b@c", "a b", "a" * 51, ".a")),
    (scalars.Email, "nobody", "expected an e-mail address"), (scalars.Email, f"{'a' * 65}@lab", "expected an e-mail address"), (scalars.Email, "@lab", "expected an e-mail"),
    (scalars.Email, "a@*.lab.internal", "without a wildcard"), (scalars.Email, "a@L", "lower case"), (scalars.Email, "a b@lab", "expected an e-mail"),
    *((scalars.UpstreamAddress, text, "expected an address such as http://127.0.0.1:3000") for text in ("ftp://a", "http://", "a:80", "http://a:99999", "http://a b", "http://[::1", "http://a;x", "http://a/{x}")),
    (scalars.UpstreamAddress, "http://a/path", "without a path"),
    (scalars.PublishUrl, "https://pki.lab", "expected plain http"), (scalars.PublishUrl, "pki.lab", "expected an address such as http://pki.lab.internal"),
    *((scalars.Protocol, text, "is never permitted") for text in ("h2c", "h2", "H3", "http/2.0", "TLS/1.0", "h2c-17", "https")),
    *((scalars.Protocol, text, "expected the name of a protocol") for text in ("", "a b", "/x", "a" * 33, "a/")),
    *((scalars.Organisation, text, "expected 1 to 40 printable characters") for text in ("", "  ", "x" * 41, "a\tb")),
    *((scalars.Organisation, text, "expected letters, digits, blanks") for text in ("a=b", "a\\b", 'a"b', "a;b")),
    (scalars.Organisation, "My Sandbox", "the word SANDBOX is kept"),
    *((scalars.Fingerprint, text, "64 hexadecimal digits") for text in ("", "0" * 63, "0" * 65, "g" * 64)),
    *((scalars.RelativeFile, text, "expected a file below the folder of pki.yaml") for text in ("", "/etc/x", "../x", "a/../b", "a/..")),
    *((scalars.SourceFile, text, "expected a file below") for text in ("", "../x", "/a/../b")),
    *((scalars.AdoptedFolder, text, "expected a folder below") for text in ("", "../x", "/a/../b")),
    *((scalars.UpstreamCa, text, "expected a file below") for text in ("", "/etc/x", "../x")),
    *((scalars.TokenAddress, text, "expected a PKCS#11 address") for text in ("", "pkcs11:", "pkcs11:a b", "x")),
    *((scalars.TextFile, text, "expected an absolute path that ends in .prom") for text in ("x.prom", "/a/x.txt", "/a/../x.prom", "/a b.prom", "")),
    *((scalars.AdoptedName, text, "expected a name such as legacy: ") for text in ("", "A", "old-1", "a" * 31, "1a", "a-")),
    *((scalars.AdoptedName, text, f"{text} means something else already") for text in ("root", "server", "client-x", "notify", "notify-a", "all", "backup", "smtp", "cert")),
    *((scalars.ProbeWay, text, "expected none, direct, or a jump host") for text in ("", "a b", "u@", "-a", "a:123456")),
    (scalars.ProbeWay, "a:0", "expected a port from 1 to 65535"), (scalars.ProbeWay, "a:65536", "expected a port from 1 to 65535"),
    *((scalars.SecretName, text, "expected file, root, server") for text in ("", "Server", "server_1", "a" * 31)),
    (scalars.CommandLine, "", "expected a command line such as"), (scalars.CommandLine, "a 'b", "expected a command line (no closing quotation)"),
    *((scalars.TimeOfDay, text, "expected a time of day") for text in ("24:00", "6:00", "06:60", "06:00:00")),
    *((scalars.Window, text, "expected hours such as 22:00-05:00") for text in ("22-05", "22:00", "22:00-24:00", "22:00 - 05:00")),
    *((scalars.Batch, text, "expected a number of hosts") for text in ("0", "100000", "0%", "101%", "-1", "")),
    (scalars.NotifyName, "notify_x", "expected the name of a secret"), (scalars.MailUser, "a b", "expected a user name"), (scalars.MailUser, "a" * 201, "expected a user name"),
]  # fmt: skip


def test_each_type_takes_what_is_meant_and_says_it_in_one_way() -> None:
    for kind, text, expected in TAKEN:
        assert TypeAdapter(kind).validate_python(text) == expected, (kind, text)


def test_each_type_refuses_what_is_not_meant_and_says_what_is() -> None:
    for kind, text, said in REFUSED:
        with pytest.raises(ValidationError) as refused:
            TypeAdapter(kind).validate_python(text)
        assert said in str(refused.value), (kind, text)


@pytest.mark.parametrize("kind", [scalars.Duration, scalars.Patience])
def test_what_is_no_text_is_no_duration(kind: Any) -> None:
    for value in (None, ["1d"]):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("span", "text"),
    [(90 * DAY, "90d"), (timedelta(hours=36), "36h"), (timedelta(minutes=90), "90m"), (timedelta(seconds=61), "61s"), (timedelta(), "0d")],
)  # fmt: skip
def test_a_duration_is_written_in_the_largest_unit_that_is_exact(span: timedelta, text: str) -> None:
    assert scalars.brief(span) == text


def test_days_are_the_first_and_the_last() -> None:
    assert scalars.days_of("2026-12-24") == (date(2026, 12, 24), date(2026, 12, 24))
    assert scalars.days_of("2026-12-20..2027-01-06") == (date(2026, 12, 20), date(2027, 1, 6))


def test_a_jump_host_is_taken_apart() -> None:
    assert scalars.jump_of("user@bastion:2222") == ("user", "bastion", 2222)
    assert scalars.jump_of("bastion") == ("", "bastion", 0)


def words(attempt: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are what is tested
        attempt()
    return str(refused.value)


def test_a_file_gives_a_leaf_a_name_that_a_folder_may_have() -> None:
    for name in ("a", "a.b_c-d", "a" * 50, "client-x"):
        assert scalars.leaf_file_name(name, "server") == name
    for name in ("", "-a", "a-", "A", "a" * 51, "a/b"):
        assert "expected lower-case letters" in words(lambda name=name: scalars.leaf_file_name(name, "server"))
    assert scalars.leaf_file_name("client-admin@laptop", "client") == "client-admin@laptop"
    assert "expected a name such as admin" in words(lambda: scalars.leaf_file_name("client-A", "client"))
    assert "expected lower-case letters" in words(lambda: scalars.leaf_file_name("client-a@b", "server"))


def test_a_common_name_reads_the_same_everywhere() -> None:
    assert scalars.common_name("admin@laptop, 7") == "admin@laptop, 7"
    for odd, said in (("\u00e4", "expected printable ASCII"), ("a\n", "expected printable ASCII"), ("a=b", "= is not permitted"), ("*.a", "* is not permitted"), ("a\\b", "\\ is not permitted")):  # fmt: skip
        assert said in words(lambda odd=odd: scalars.common_name(odd))


def test_a_common_name_with_a_dot_and_nothing_odd_is_taken_for_a_dns_name() -> None:
    assert [scalars.is_like_dns_name(name) for name in ("john.smith", "a_b.c", "john", "john@a.lab", "john smith.x")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_an_empty_value_is_an_empty_mapping_and_one_word_a_list_of_one() -> None:
    assert (scalars.empty_is_mapping(""), scalars.empty_is_mapping({"a": 1})) == ({}, {"a": 1})
    assert TypeAdapter(list[str]).validate_python(scalars.ONE_OK.func("a")) == ["a"]  # type: ignore[call-arg]
    assert scalars.ONE_OK.func(["a", "b"]) == ["a", "b"]  # type: ignore[call-arg]
