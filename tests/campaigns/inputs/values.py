"""Values that files and arguments hold in place of what they should."""

from __future__ import annotations

import random

TEXTS = (
    *("", " ", "0", "-1", "1", "1.5", "1e999", "99999999999999999999", "0x10", "null", "~", "true", "no", "NaN"),
    *("[]", "{}", "[a, b]", "{a: b}", "&a *a", "*a", "!!python/name:os.system", "!!binary aGk=", "<<", "- x", "? x"),
    *("\x00", "\x1b[2J", "\x7f", "\u0085", "\u202e", "\ufeff", "é", "İ", "ß", "日本", "\U0001f512", "\ud800"),
    *("../../etc/passwd", "/etc/passwd", "/dev/null", "/", ".", "..", "~", "a/b", "a\\b", "-", "--help", "-rf", "a b"),
    *("%s%n", "{{ 7*7 }}", "{% for %}", "${HOME}", "$(id)", "`id`", "'", '"', "\n", "\r\n", "a\nb: c", "\t", ";", "#"),
    *(
        "*",
        "*.lab.internal",
        "lab.internal",
        "lab.internal.",
        ".lab.internal",
        "a..lab.internal",
        "xn--",
        "xn--a",
        "x_y",
    ),
    *("LAB.INTERNAL", "a.lab.internal", "evil.example", "a" * 64 + ".lab.internal", "10.10.0.10", "10.0.0.0/8", "::1"),
    *("0.0.0.0/0", "256.1.1.1", "10.1", "fe80::1%eth0", "1d", "0d", "-1d", "999999999d", "99999y", "1s", "13mo", "1h"),
    *("ec-p256", "ec-p384", "rsa-2048", "rsa-1", "ed25519", "mtls", "tls", "none", "ssh", "local", "nginx", "sqlite"),
    *(
        "http://x",
        "http://[::1",
        "javascript:x",
        "https://a:b@c",
        "postgresql://x",
        "sqlite:////etc/passwd",
        "a@b",
        "@",
    ),
    *("2026-11-23T06:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01", "2026-02-30", "12:00-13:00", "25:00-26:00"),
    *("root-1", "server-1", "client-1", "server-0", "server-999999", "media", "admin", "monitoring", "keyCompromise"),
)
NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65536, 1 << 31, 1 << 53, 1 << 63, 1 << 64, -(1 << 63), 10**30, 1.5, 1e308)
HUGE = {"letters": ("A", 3_000_000), "brackets": ("[", 20_000), "braces": ('{"a":', 20_000), "lines": ("x\n", 300_000)}
BYTES = ("00", "ff", "0a", "0d0a", "efbbbf", "fffe", "c3", "eda080", "30", "80", "a080", "3080", "ffffffffffffffff")


def text(chance: random.Random) -> str:
    """One text, as a step holds it: `huge:…` stands for one that is too long to be printed."""
    if chance.random() < 0.03:
        return f"huge:{chance.choice(sorted(HUGE))}"
    return chance.choice(TEXTS)


def value(chance: random.Random) -> object:
    """A value of JSON."""
    kind = chance.randrange(6)
    if kind < 3:
        return text(chance)
    if kind == 3:
        return chance.choice(NUMBERS)
    return chance.choice((None, True, False, [], {}, [[]], {"a": 1}, [1, 2], [None], ["media"]))


def spelled(said: object) -> str:
    """What a text in a step stands for."""
    if isinstance(said, str) and said.startswith("huge:"):
        unit, count = HUGE[said.removeprefix("huge:")]
        return unit * count
    return str(said)
