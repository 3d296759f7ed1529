"""Answers that depend on nothing but what is asked, remembered for all tests of a process: a thousand projects are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import jinja2
import pytest
import sqlalchemy
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from doit import plugin
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from pki.ceremony import lint, second_opinion
from pki.x509 import canonical


@contextmanager
def asked_once() -> Iterator[None]:
    """Remember signatures, what judges say of a certificate, parsed templates, compiled statements, plugins of doit.

    Keys, certificates and CRLs are remembered by their digests, and templates by their text. What fails is asked again.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            *((lint, "findings"), (second_opinion, "signature_fault")),
            *((canonical, "is_issued_by"), (canonical, "is_signed_by")),
        ):
            patch.setattr(module, name, remembered(getattr(module, name)))
        patch.setattr(plugin, "entry_points", remembered(plugin.entry_points))
        _share_templates(patch)
        _share_statements(patch)
        yield


def _key_of(value: Any) -> Hashable:
    """Return the digest of a certificate, a CRL or a public key; other values are their own keys."""
    if not hasattr(value, "public_bytes"):
        return value
    is_signed = hasattr(value, "tbs_certificate_bytes") or hasattr(value, "tbs_certlist_bytes")
    form = () if is_signed else (PublicFormat.SubjectPublicKeyInfo,)
    return hashlib.sha256(value.public_bytes(Encoding.DER, *form)).digest()


def remembered(question: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that remembers its answers; a list is answered as a new one each time."""
    answers: dict[Hashable, Any] = {}

    def ask(*values: Any, **settings: Any) -> Any:
        key = (*map(_key_of, values), *sorted(settings.items()))
        if key not in answers:
            answers[key] = question(*values, **settings)
        answer = answers[key]
        return answer[:] if type(answer) is list else answer

    return ask


def _share_templates(patch: pytest.MonkeyPatch) -> None:
    """Parse and compile a text once, whichever project it is in. The optimizer would change a parsed text."""
    parse, compiled = jinja2.Environment.parse, jinja2.Environment.compile
    trees: dict[Hashable, Any] = {}
    codes: dict[Hashable, CodeType] = {}

    def key_of(environment: jinja2.Environment, source: object, name: object) -> Hashable:
        kind = (type(environment), environment.autoescape, environment.finalize)
        return (*kind, *environment.filters, None, *environment.tests, source, name)

    def parse_once(environment: jinja2.Environment, source: str, name: Any = None, filename: Any = None) -> Any:
        if environment.optimized:
            return parse(environment, source, name, filename)
        key = key_of(environment, source, name)
        if key not in trees:
            trees[key] = parse(environment, source, name, filename)
        return trees[key]

    def compile_once(
        environment: jinja2.Environment, source: Any, name: Any = None, filename: Any = None, *more: Any, **flags: Any
    ) -> Any:
        if more or flags or not isinstance(source, str):
            return compiled(environment, source, name, filename, *more, **flags)
        key = key_of(environment, source, name)
        if key not in codes:
            codes[key] = compiled(environment, source, name, filename)
        return _placed(codes[key], filename or "<template>")

    patch.setattr(jinja2.Environment, "parse", parse_once)
    patch.setattr(jinja2.Environment, "compile", compile_once)


def _placed(code: CodeType, file: str) -> CodeType:
    """Return compiled code as if it had been read from `file`, for messages that name it."""
    parts = tuple(_placed(part, file) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_filename=file, co_consts=parts)


def _share_statements(patch: pytest.MonkeyPatch) -> None:
    """Compile a statement once for all ledgers that are files: SQLAlchemy does so for each opened database."""
    create, statements = sqlalchemy.create_engine, sqlalchemy.util.LRUCache[Any, Any](1000)

    def create_engine(*values: Any, **settings: Any) -> sqlalchemy.Engine:
        engine = create(*values, **settings)
        if isinstance(engine.dialect, SQLiteDialect_pysqlite):
            engine._compiled_cache = statements  # noqa: SLF001 - there is no setting for it
        return engine

    patch.setattr(SQLiteDialect_pysqlite, "__eq__", lambda dialect, other: type(dialect) is type(other))
    patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda dialect: hash(type(dialect)))
    patch.setattr(sqlalchemy, "create_engine", create_engine)
