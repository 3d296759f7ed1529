"""What may happen to the content of a file, by what the file is.

A mutation is `(data, place, other, value) -> bytes`, without chance: `place` and `other` are large numbers that choose a
part of the content by their remainder, so that a step keeps its meaning on other content. One that finds no part to
change returns the content as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.campaigns.inputs import databases, der, records, templates, trees, values

Mutation = Callable[[bytes, int, int, Any], bytes]


# -- bytes ------------------------------------------------------------------------------------------------------------


def flip(data: bytes, place: int, other: int, _value: object) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << other % 8
    return bytes(changed)


def cut(data: bytes, place: int, _other: int, _value: object) -> bytes:
    return data[: place % (len(data) + 1)]


def remove(data: bytes, place: int, other: int, _value: object) -> bytes:
    start = place % (len(data) + 1)
    return data[:start] + data[start + 1 + other % 64 :]


def repeat(data: bytes, place: int, other: int, _value: object) -> bytes:
    start = place % (len(data) + 1)
    return data[:start] + data[start : start + 1 + other % 256] + data[start:]


def insert(data: bytes, place: int, other: int, value: object) -> bytes:
    start = place % (len(data) + 1)
    new = bytes.fromhex(values.BYTES[other % len(values.BYTES)]) if other % 2 else encoded(value)
    return data[:start] + new + data[start:]


def zeros(data: bytes, place: int, other: int, _value: object) -> bytes:
    """A block that a disk or a file system lost."""
    start, size = place % (len(data) + 1), (16, 512, 4096)[other % 3]
    return (data[:start] + bytes(size) + data[start + size :])[: len(data)]


def empty(_data: bytes, _place: int, _other: int, _value: object) -> bytes:
    return b""


def replaced(_data: bytes, _place: int, _other: int, value: object) -> bytes:
    return encoded(value)


def twice(data: bytes, _place: int, _other: int, _value: object) -> bytes:
    return data + data


def encoded(value: object) -> bytes:
    return values.spelled(value).encode(errors="surrogatepass")


BYTES: Mapping[str, Mutation] = {
    f"bytes {one.__name__}": one for one in (flip, cut, remove, repeat, insert, zeros, empty, replaced, twice)
}


# -- lines ------------------------------------------------------------------------------------------------------------


def line_removed(data: bytes, place: int, other: int, _value: object) -> bytes:
    lines = data.splitlines(keepends=True)
    start = place % (len(lines) + 1)
    return b"".join(lines[:start] + lines[start + 1 + other % 3 :])


def line_twice(data: bytes, place: int, other: int, _value: object) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    lines.insert(other % (len(lines) + 1), lines[place % len(lines)])
    return b"".join(lines)


def lines_swapped(data: bytes, place: int, other: int, _value: object) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        one, two = place % len(lines), other % len(lines)
        lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def word_replaced(data: bytes, place: int, _other: int, value: object) -> bytes:
    """A word (what blanks and separators enclose) becomes another text."""
    spans = list(trees.words(data))
    if not spans:
        return data
    start, end = spans[place % len(spans)]
    return data[:start] + encoded(value) + data[end:]


def words_swapped(data: bytes, place: int, other: int, _value: object) -> bytes:
    spans = list(trees.words(data))
    if not spans:
        return data
    (one, one_end), (two, two_end) = sorted((spans[place % len(spans)], spans[other % len(spans)]))
    if one_end > two:
        return data
    return data[:one] + data[two:two_end] + data[one_end:two] + data[one:one_end] + data[two_end:]


def line_added(data: bytes, place: int, _other: int, value: object) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(place % (len(lines) + 1), encoded(value) + b"\n")
    return b"".join(lines)


def other_ends(data: bytes, _place: int, other: int, _value: object) -> bytes:
    return data.replace(b"\n", (b"\r\n", b"\r", b"\n\n", b"\x0b", b"")[other % 5])


def other_encoding(data: bytes, _place: int, other: int, _value: object) -> bytes:
    code = ("utf-16", "utf-32", "latin-1", "utf-7", "utf-8-sig")[other % 5]
    return data.decode(errors="replace").encode(code, errors="replace")


LINES: Mapping[str, Mutation] = {
    f"line {one.__name__}": one
    for one in (
        *(line_removed, line_twice, lines_swapped, word_replaced, words_swapped, line_added),
        *(other_ends, other_encoding),
    )
}

KINDS: Mapping[str, Mapping[str, Mutation]] = {
    "bytes": BYTES,
    "text": LINES,
    "yaml": trees.MUTATIONS,
    "json": records.MUTATIONS,
    "pem": der.MUTATIONS,
    "sqlite": databases.MUTATIONS,
    "template": templates.MUTATIONS,
    "cnf": templates.CONFIGURATIONS,
}
ALL: Mapping[str, Mutation] = {name: one for kind in KINDS.values() for name, one in kind.items()}
