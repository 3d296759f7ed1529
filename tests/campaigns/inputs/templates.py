"""Mutations of files below `templates/`: of their headers, of statements of Jinja2, and of request configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.campaigns.inputs import values
from tests.support import opensslfiles

HEADERS = ("target", "hosts", "mode", "owner", "reload", "validate", "artifact", "certificate", "set", "nonsense")
CONTENTS = (
    *("/etc/x", "/etc/../etc/passwd", "relative", "/etc/{{ host.name }}", "/etc/doit-pki/media.pem", "/", "/etc/x\\y"),
    *(
        "all",
        "media",
        "monitoring, media",
        "proxy:nginx",
        "proxy:none",
        "access:mtls",
        "network:av",
        "nobody",
        "all, -media",
    ),
    *("0644", "644", "4755", "0777", "9999", "rw", "root:root", "nobody", "0:0", "root:", ":", "caddy:caddy:caddy"),
    *(
        "systemctl reload nginx",
        "nginx -t",
        "rm -rf /",
        "true; false",
        "{{ host.reload }}",
        "{{ undefined }}",
        "{% if %}",
    ),
    *(
        "tls:media",
        "tls:nobody",
        "crl:all",
        "crl:client-1",
        "trust:roots",
        "key:media",
        "page:trust",
        "tls:media, crl:all",
    ),
    *("cert:media", "printer", "main", "a b", "{{ 1/0 }}", "{{ host }}", "{{ pki }}"),
)
STATEMENTS = (
    *(
        "{{",
        "{%",
        "{#",
        "}}",
        "{{ }}",
        "{% %}",
        "{{ x",
        "{% endfor %}",
        "{% if %}",
        "{% include 'x' %}",
        "{% import 'y' as y %}",
    ),
    *(
        "{{ undefined.name }}",
        "{{ host.nothing }}",
        "{{ pki.nothing }}",
        "{{ host | nothing }}",
        "{{ 1/0 }}",
        "{{ 'a' + 1 }}",
    ),
    *(
        "{{ ''.__class__.__mro__ }}",
        "{{ host.__init__.__globals__ }}",
        "{{ range(10**9) | list }}",
        "{{ 'a' * 10**10 }}",
    ),
    *("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "{% raw %}", "{{ loop }}"),
    *("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ host.name.encode('utf-16') }}", "{{ '%s' | format }}"),
    *("{% set x = namespace(a=[]) %}{{ x.a.append(1) }}", "{{ self }}", "{{ super() }}", "{% block b %}{% block b %}"),
    *(
        "{{ pki.config.leaf_certificates }}",
        "{{ secrets }}",
        "{{ hosts | tojson }}",
        "{{ cycler('a').next.__globals__ }}",
        "{{ 9**9**9 }}",
    ),
)


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="replace").splitlines(keepends=True)


def _joined(lines: list[str]) -> bytes:
    return "".join(lines).encode(errors="surrogatepass")


def _headers(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if "deploy-" in line]


def content(data: bytes, place: int, other: int, new: Any) -> bytes:
    """A header gets another content."""
    lines = _lines(data)
    if not (found := _headers(lines)):
        return data
    number = found[place % len(found)]
    said = CONTENTS[other // 2 % len(CONTENTS)] if other % 2 else values.spelled(new)
    lines[number] = f"{lines[number].partition(':')[0]}: {said}\n"
    return _joined(lines)


def name(data: bytes, place: int, other: int, _new: Any) -> bytes:
    """A header gets another name."""
    lines = _lines(data)
    if not (found := _headers(lines)):
        return data
    number = found[place % len(found)]
    head, mark, rest = lines[number].partition("deploy-")
    lines[number] = f"{head}{mark}{HEADERS[other % len(HEADERS)]}:{rest.partition(':')[2]}"
    return _joined(lines)


def added(data: bytes, place: int, other: int, _new: Any) -> bytes:
    """There is one more header, or one twice."""
    lines = _lines(data)
    said = CONTENTS[other // len(HEADERS) % len(CONTENTS)]
    lines.insert(place % (len(_headers(lines)) + 1), f"# deploy-{HEADERS[other % len(HEADERS)]}: {said}\n")
    return _joined(lines)


def statement(data: bytes, place: int, other: int, _new: Any) -> bytes:
    """A statement of Jinja2 is somewhere in the text."""
    text = data.decode(errors="replace")
    at = place % (len(text) + 1)
    return _joined([text[:at], STATEMENTS[other % len(STATEMENTS)], text[at:]])


def configuration(data: bytes, place: int, _other: int, _new: Any) -> bytes:
    """Below the same headers there is a request configuration by the grammar of `tests/support/opensslfiles.py`."""
    lines = _lines(data)
    return _joined([*(lines[number] for number in _headers(lines)), opensslfiles.random_file(place)])


MUTATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {
    f"template {one.__name__}": one for one in (content, name, added, statement)
}
CONFIGURATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {"cnf configuration": configuration}
