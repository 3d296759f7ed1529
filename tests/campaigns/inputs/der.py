"""Mutations of PEM and DER: of the values within, tags and lengths right again around what changed."""

from __future__ import annotations

import re
from base64 import b64decode, encodebytes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.campaigns.inputs import values

SECTION = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\r\n]*)-----END \1-----\r?\n?")
LABELS = (
    *("CERTIFICATE", "X509 CRL", "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE REQUEST"),
    *("TRUSTED CERTIFICATE", "PUBLIC KEY", "X", "OPENSSH PRIVATE KEY", "NEW CERTIFICATE REQUEST"),
)


@dataclass
class Value:
    """One value of DER: a tag, and its content as bytes or as values."""

    tag: int
    content: bytes | list[Value]

    def encode(self) -> bytes:
        body = self.content if isinstance(self.content, bytes) else b"".join(one.encode() for one in self.content)
        return bytes([self.tag]) + length(len(body)) + body


def length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(digits)]) + digits


def parse(data: bytes, depth: int = 0) -> list[Value]:
    """The values of some bytes. Raises ValueError where they are no DER."""
    found, at = [], 0
    while at < len(data):
        if at + 2 > len(data) or depth > 30:
            raise ValueError("no DER")
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > len(data) or tag & 0x1F == 0x1F:
            raise ValueError("no DER")
        body, at = data[at : at + size], at + size
        content: bytes | list[Value] = body
        if tag & 0x20:
            content = parse(body, depth + 1)
        elif tag in {3, 4}:  # what a bit or octet string holds is often DER itself
            content = _within(tag, body, depth)
        found.append(Value(tag, content))
    return found


def _within(tag: int, body: bytes, depth: int) -> bytes | list[Value]:
    inner = body[1:] if tag == 3 else body
    try:
        found = parse(inner, depth + 1)
    except ValueError:
        return body
    return found if tag == 4 and found else body


def _all(found: list[Value]) -> list[tuple[list[Value], int]]:
    """Every value: the list that it is in, and its place there."""
    places: list[tuple[list[Value], int]] = []
    for number, one in enumerate(found):
        places.append((found, number))
        if isinstance(one.content, list):
            places += _all(one.content)
    return places


def content(place: tuple[list[Value], int], other: int, new: object) -> None:
    one = place[0][place[1]]
    raw = bytearray(one.encode()[2:] if isinstance(one.content, list) else one.content)
    choice = other % 4
    if choice == 0 and raw:
        raw[other // 4 % len(raw)] ^= 1 << other % 8
    elif choice == 1:
        raw = bytearray(values.spelled(new).encode(errors="surrogatepass"))
    elif choice == 2:
        raw = bytearray(bytes.fromhex(values.BYTES[other // 4 % len(values.BYTES)]))
    else:
        del raw[other // 4 % (len(raw) + 1) :]
    one.content = bytes(raw)


def tag(place: tuple[list[Value], int], other: int, _new: object) -> None:
    tags = (1, 2, 3, 4, 5, 6, 12, 19, 22, 23, 24, 30, 48, 49, 0x80, 0x81, 0x82, 0xA0, 0xA1, 0xA3, 0)
    place[0][place[1]].tag = tags[other % len(tags)]


def gone(place: tuple[list[Value], int], _other: int, _new: object) -> None:
    del place[0][place[1]]


def double(place: tuple[list[Value], int], other: int, _new: object) -> None:
    place[0][place[1] : place[1]] = [place[0][place[1]]] * (1 if other % 5 else 2000)


def deep(place: tuple[list[Value], int], other: int, _new: object) -> None:
    one = place[0][place[1]]
    for _ in range((1, 20, 1000)[other % 3]):
        one = Value(0x30, one.encode())
    place[0][place[1]] = one


def integer(place: tuple[list[Value], int], other: int, _new: object) -> None:
    one, number = place[0][place[1]], int(values.NUMBERS[other % (len(values.NUMBERS) - 2)])
    one.tag, one.content = 2, number.to_bytes((number.bit_length() + 8) // 8, "big", signed=True)


def time(place: tuple[list[Value], int], other: int, _new: object) -> None:
    """The dates of a certificate or CRL, or whatever is there, become another date."""
    dates = (b"00000101000000Z", b"99991231235959Z", b"20261123055959Z", b"20261123060001Z", b"21061123060000Z", b"x")
    one = place[0][place[1]]
    one.tag, one.content = 24, dates[other % len(dates)]


def _of_values(change: Callable[[tuple[list[Value], int], int, object], None]) -> Callable[..., bytes]:
    def mutation(data: bytes, place: int, other: int, new: Any) -> bytes:
        sections = list(SECTION.finditer(data))
        if not sections:
            return _changed(data, change, place, other, new)
        one = sections[(place >> 12) % len(sections)]
        try:
            changed = _changed(b64decode(one[2]), change, place, other, new)
        except ValueError:  # the Base64 is none any more
            return data
        return data[: one.start()] + section(one[1], changed) + data[one.end() :]

    return mutation


def _changed(data: bytes, change: Callable[..., None], place: int, other: int, new: object) -> bytes:
    try:
        found = parse(data)
    except ValueError:
        return data
    if not found:
        return data
    places = _all(found)
    change(places[place % len(places)], other, new)
    return b"".join(one.encode() for one in found)


def section(label: bytes, data: bytes) -> bytes:
    text = b"".join(encodebytes(data).split())
    lines = b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
    return b"-----BEGIN " + label + b"-----\n" + lines + b"-----END " + label + b"-----\n"


def labelled(data: bytes, place: int, other: int, _new: object) -> bytes:
    sections = list(SECTION.finditer(data))
    if not sections:
        return data
    one = sections[place % len(sections)]
    label = LABELS[other % len(LABELS)].encode()
    return data[: one.start()] + one[0].replace(one[1], label) + data[one.end() :]


def shuffled(data: bytes, place: int, other: int, _new: object) -> bytes:
    """Two sections change places, one is there twice, or is gone."""
    parts = [one[0] for one in SECTION.finditer(data)]
    if not parts:
        return data
    one, two = place % len(parts), (place >> 8) % len(parts)
    if other % 3 == 0:
        parts[one], parts[two] = parts[two], parts[one]
    elif other % 3 == 1:
        parts.insert(two, parts[one])
    else:
        del parts[one]
    return b"".join(parts)


def described(data: bytes, place: int, other: int, new: object) -> bytes:
    """Text stands before a section, or headers within it."""
    sections = list(SECTION.finditer(data))
    if not sections:
        return data
    one, said = sections[place % len(sections)], values.spelled(new).encode(errors="surrogatepass")
    at = one.start() if other % 2 else one.start(2)
    return data[:at] + (said + b"\n" if other % 2 else b"Proc-Type: 4,ENCRYPTED\n\n") + data[at:]


MUTATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {
    **{f"der {one.__name__}": _of_values(one) for one in (content, tag, gone, double, deep, integer, time)},
    **{f"pem {one.__name__}": one for one in (labelled, shuffled, described)},
}
