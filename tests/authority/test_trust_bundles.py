"""Bundles of CA certificates and CRLs: written when they differ, and complete or refused."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pki.authority import trust_bundles
from pki.common import filesystem
from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.common.reasons import Verb, Why
from pki.project.layout import Store
from tests.support.projects import START

FILES = {"build/a": b"first", "build/b": b"second"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def reasons(store: Store) -> list[tuple[Any, dict[str, str]]]:
    return [(reason.code, dict(reason.data)) for reason in trust_bundles.stale_reasons(store, FILES)]


def test_each_file_that_is_missing_or_differs_is_named(store: Store) -> None:
    assert reasons(store) == [(Why.NOT_CREATED, {})]
    filesystem.write(store.home / "build/a", b"first")
    assert reasons(store) == [(Why.MISSING_FILE, {"file": "build/b"})]
    filesystem.write(store.home / "build/b", b"other")
    assert reasons(store) == [(Why.NOT_FROM_SOURCES, {"file": "build/b"})]
    filesystem.write(store.home / "build/b", b"second")
    assert reasons(store) == []


def test_what_is_written_replaces_what_differs_and_leaves_the_rest_alone(store: Store) -> None:
    assert trust_bundles.write(store, FILES).verb is Verb.CREATED
    os.utime(store.home / "build/a", (1, 1))
    filesystem.write(store.home / "build/b", b"other")
    assert trust_bundles.write(store, FILES).verb is Verb.UPDATED
    assert {path: (store.home / path).read_bytes() for path in FILES} == FILES
    assert (store.home / "build/a").stat().st_mtime == 1, "it was right, so its readers need not read it again"
    (store.home / "build/a").unlink()
    assert trust_bundles.write(store, FILES).verb is Verb.UPDATED


def test_a_bundle_is_compared_again_when_a_file_of_it_or_its_key_changed(store: Store) -> None:
    cache, calls = Cache(store.home, START), list[str]()
    paths = [str(store.home / path) for path in FILES]

    def stale(key: str = "key") -> list[Any]:
        def expected() -> dict[str, bytes]:
            calls.append(key)
            return FILES

        found = trust_bundles.cached_stale_reasons(store, cache, "trust", key, paths, expected)
        return [reason.code for reason in found]

    assert stale() == [Why.NOT_CREATED]
    trust_bundles.write(store, FILES)
    assert (stale(), stale(), calls) == ([], [], ["key", "key"]), "the third question needs no content"
    assert stale("other") == []
    assert calls[-1] == "other"
    filesystem.write(store.home / "build/b", b"changed")
    assert stale("other") == [Why.NOT_FROM_SOURCES]
    assert stale("other") == [Why.NOT_FROM_SOURCES], "a fault is never remembered as none"


def authorities(**live: list[str]) -> Any:
    """Authorities with these live generations, the oldest first, whose certificates are their names."""

    def generation(name: str) -> Any:
        encoded = SimpleNamespace(public_bytes=lambda _: f"DER of {name}".encode())
        return None if name.endswith("-9") else SimpleNamespace(pem=f"<{name}>".encode(), certificate=encoded)

    def missing(authority: str) -> PkiError:
        return PkiError(f"{authority} is missing", "./run invoke ceremony.request")

    return SimpleNamespace(live=lambda name: live.get(name, []), generation=generation, missing_authority=missing)


def test_trust_files_hold_every_live_generation_the_newest_first(store: Store) -> None:
    """Clients need the new root beside the old one, and servers the old client CA beside the new one, for the overlap."""
    live = authorities(root=["root-1", "root-2"], server=["server-1"], client=["client-1", "client-2"])
    assert trust_bundles.trust_files(store, live) == {
        **{
            f"build/trust/{name}.crt": f"DER of {name}".encode()
            for name in ("root-1", "root-2", "server-1", "client-1", "client-2")
        },
        "build/trust/roots.pem": b"<root-2><root-1>",
        "build/trust/client-ca.pem": b"<client-2><client-1>",
        "build/trust/client-chain.pem": b"<client-2><client-1><root-2><root-1>",
    }


def test_no_trust_file_is_made_without_one_of_the_authorities(store: Store) -> None:
    with pytest.raises(PkiError, match="client is missing"):
        trust_bundles.trust_files(store, authorities(root=["root-1"], server=["server-1"], client=["client-9"]))


def test_the_bundle_of_crls_has_that_of_each_ca_or_is_not_made(store: Store) -> None:
    """Without the CRL of one CA, nginx and HAProxy refuse every client of it, or check none."""
    live = authorities(root=["root-1"], client=["client-1", "client-2"], server=["server-1"])
    for name in ("client-1", "client-2", "root-1"):
        with pytest.raises(PkiError, match=f"the CRL of {name} is missing"):
            trust_bundles.client_crl_bundle(store, live)
        filesystem.write(store.crl(name, "pem"), f"<{name}>".encode())
    (bundle,) = trust_bundles.client_crl_bundle(store, live).items()
    assert bundle == (store.shown(store.client_crl_bundle()), b"<client-1><client-2><root-1>")
