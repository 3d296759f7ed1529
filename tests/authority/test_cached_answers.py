"""A fault is never cached as none: what was wrong at one question is wrong at the next one, until it is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pki.authority.certificates import LeafCertificates
from pki.authority.crls import Crls
from pki.common.reasons import Reason, Why
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from tests.support.projects import Home


@pytest.fixture
def project(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose ledger is as the last successful run left it: then what is cached saves its reading."""
    monkeypatch.setattr(LedgerView, "is_unchanged_now", lambda _: True)
    opened = home.project()
    yield opened
    opened.close(run_succeeded=False)


def codes(reasons: list[Reason]) -> list[Any]:
    return [reason.code for reason in reasons]


def revoke(project: Project, monkeypatch: pytest.MonkeyPatch, *serials: int) -> None:
    """Let the ledger record revocations that no published CRL lists."""
    monkeypatch.setattr(type(project.ledger), "revoked_serials", lambda *_, **__: frozenset(serials))


def forget(project: Project, generation: str) -> None:
    """Ask as if no earlier run had found the CRL sound."""
    for form in ("crl", "pem"):
        path = project.store.crl(generation, form)
        path.write_bytes(path.read_bytes())


def test_a_crl_that_lacks_a_revocation_lacks_it_at_the_next_question_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(project, "client-1")
    revoke(project, monkeypatch, 5)
    for _ in range(2):
        assert codes(Crls(project).stale_reasons("client-1")) == [Why.CRL_LACKS]
    revoke(project, monkeypatch)
    assert Crls(project).stale_reasons("client-1") == []


def test_a_sound_crl_is_compared_once_while_the_ledger_is_unchanged(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(project, "client-1")
    assert Crls(project).stale_reasons("client-1") == []
    revoke(project, monkeypatch, 5)  # the ledger says that nothing changed, so nobody looks
    assert Crls(project).stale_reasons("client-1") == []
    monkeypatch.setattr(LedgerView, "is_unchanged_now", lambda _: False)
    assert codes(Crls(project).stale_reasons("client-1")) == [Why.CRL_LACKS]


def test_a_cached_crl_is_due_by_its_dates_all_the_same(home: Home, project: Project) -> None:
    forget(project, "client-1")
    assert Crls(project).stale_reasons("client-1") == []
    project.cache.save(whole=False)
    for days, expected in ((300, [Why.EXPIRED]), (-1, [Why.NOT_YET_VALID])):
        other = home.project(days=days)
        assert codes(Crls(other).stale_reasons("client-1")) == expected
        other.close(run_succeeded=False)


def test_a_file_of_a_leaf_that_is_damaged_is_damaged_at_the_next_question_too(home: Home, project: Project) -> None:
    leaf = home.plan().leaves["media"]
    chain = Path(project.store.leaf_file(leaf, "chain.pem"))
    content = chain.read_bytes()
    chain.write_bytes(b"damaged")
    for _ in range(2):
        assert codes(LeafCertificates(project).stale_reasons(leaf)) == [Why.NOT_FROM_PEM]
    assert not LeafCertificates(project).is_cached(leaf)
    chain.write_bytes(content)
    assert LeafCertificates(project).stale_reasons(leaf) == []
    assert LeafCertificates(project).is_cached(leaf)


def test_a_presigned_crl_that_lacks_a_revocation_is_never_published(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crls, "serials_not_presigned", lambda *_: ["5"])
    monkeypatch.setattr(LedgerView, "was_unchanged_at_start", False)
    for _ in range(2):
        assert Crls(project).due_presigned("root-1") is None
    monkeypatch.setattr(Crls, "serials_not_presigned", lambda *_: [])
    due = Crls(project).due_presigned("root-1")
    assert due is not None
    monkeypatch.setattr(LedgerView, "was_unchanged_at_start", True)
    monkeypatch.setattr(Crls, "serials_not_presigned", lambda *_: ["5"])
    assert Crls(project).due_presigned("root-1") == due, "the ledger is unchanged, so nobody looks"
