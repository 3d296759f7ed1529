"""Where a revocation must be published, and until when a revoked client is accepted all the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.crls import Crls
from pki.common.errors import ErrorCode, PkiError
from pki.monitor import revocation_exposure, revocation_publication
from pki.pipeline import plan as pipeline_plan
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


def made_ca() -> Issuer:
    key = keys.new_key("ec-p256")
    subject = certificate_signing.subject_name("Example Lab", "Example Lab Client CA 1")
    dates, extensions = (START - DAY, START + 3650 * DAY), profiles.root_extensions()
    return Issuer(certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, key), key)


CA = made_ca()
SERIAL = CA.certificate.serial_number


def crl(*serials: int) -> Any:
    entries = [CrlEntry(serial, START, "keyCompromise") for serial in serials]
    data = crl_signing.sign_crl(CA, 7, START, START + DAY, entries).public_bytes(Encoding.DER)
    return crl_signing.x509.load_der_x509_crl(data)


def project(*, revoked_by_root: bool = False, is_adopted: bool = False, has_root: bool = True) -> Any:
    generation = SimpleNamespace(name="client-1", certificate=CA.certificate)
    authorities = SimpleNamespace(
        generation=lambda name: generation if name == "client-1" else None,
        existing=lambda _: generation,
        is_revoked_by_root=lambda _: revoked_by_root,
        root_of=lambda _: SimpleNamespace(name="root-1") if has_root else None,
    )
    rules = SimpleNamespace(is_adopted=lambda _: is_adopted)
    inventory = SimpleNamespace(authorities=rules)
    return SimpleNamespace(inventory=inventory, authorities=authorities, cache=None)


@pytest.mark.parametrize(
    ("options", "root"),
    [
        ({}, ""),
        ({"revoked_by_root": True}, "root-1"),
        ({"revoked_by_root": True, "is_adopted": True}, ""),
        ({"revoked_by_root": True, "has_root": False}, ""),
    ],
)
def test_the_crl_of_the_root_counts_once_it_lists_the_intermediate(options: dict[str, bool], root: str) -> None:
    made = project(**options)
    assert revocation_publication.root_that_revoked(made.inventory, made.authorities, "client-1") == root
    assert revocation_publication.root_that_revoked(made.inventory, made.authorities, "client-7") == ""


def failures(
    monkeypatch: pytest.MonkeyPatch, made: Any, published: dict[str, Any], *serials: int
) -> tuple[dict[str, ErrorCode], set[str]]:
    """What is said of the revocation of these certificates of client-1, and which hosts count as delivered to."""

    def read(_: Crls, issuer: str, *, ignore_cache: bool = False) -> Any:
        assert ignore_cache, "what an earlier run found is no evidence that it is published"
        if isinstance(published.get(issuer), Exception):
            raise published[issuer]
        return published.get(issuer)

    monkeypatch.setattr(Crls, "published_crl", read)
    monkeypatch.setattr(pipeline_plan, "plan", lambda _: None)
    monkeypatch.setattr(revocation_publication, "_delivered", lambda *_: ["media"])
    revoked: Any = [SimpleNamespace(issuer="client-1", serial=serial) for serial in serials]
    result = revocation_publication.check(made, revoked, {"deploy:forge": ErrorCode.OTHER})
    return dict(result.failures), set(result.delivered)


FORGE = {"deploy:forge": ErrorCode.OTHER}


def test_every_revoked_certificate_must_be_on_the_published_crl(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(monkeypatch, project(), {"client-1": crl(5, 6)}, 5, 6) == (FORGE, {"media"})
    lacking = {**FORGE, "crl:client-1": ErrorCode.OTHER}
    for published in (crl(5), crl(), None, PkiError("no"), ValueError("no")):
        assert failures(monkeypatch, project(), {"client-1": published}, 5, 6) == (lacking, set())


def test_of_a_revoked_intermediate_the_root_must_list_it_and_its_own_crl_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = project(revoked_by_root=True)
    assert failures(monkeypatch, made, {"root-1": crl(SERIAL)}, 5) == (FORGE, {"media"})
    assert "crl:root-1" in failures(monkeypatch, made, {"root-1": crl(5), "client-1": crl(5)}, 5)[0]


def test_without_a_plan_nothing_counts_as_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_plan(_: Any) -> None:
        raise PkiError("pki.yaml is invalid", "mend it", ErrorCode.OTHER)

    monkeypatch.setattr(Crls, "published_crl", lambda *_, **__: crl(5))
    monkeypatch.setattr(pipeline_plan, "plan", no_plan)
    revoked: Any = [SimpleNamespace(issuer="client-1", serial=5)]
    result = revocation_publication.check(project(), revoked, {})
    assert (dict(result.failures), result.delivered) == ({"doit": ErrorCode.OTHER}, frozenset())


# -- how long a revoked client is accepted by a proxy that reads no CRL -------------------------------------------------


def longest(*certificates: tuple[str, datetime, str], lifetime: timedelta = 365 * DAY) -> timedelta:
    """Of certificates (profile, end, reason of revocation) in the ledger."""
    issued = [
        SimpleNamespace(profile=profile, not_after=end, revoked=revoked) for profile, end, revoked in certificates
    ]
    inventory: Any = SimpleNamespace(profiles=SimpleNamespace(client=SimpleNamespace(lifetime=lifetime)))
    view: Any = SimpleNamespace(cached=lambda _name, _key, compute, **_: compute())
    revocations: Any = SimpleNamespace(unexpired=lambda: issued)
    return revocation_exposure.longest_client_validity(inventory, START, view, revocations)


def test_the_last_client_that_is_not_revoked_decides_how_long_one_is_accepted() -> None:
    assert longest(("client", START + 9 * DAY, ""), ("client", START + 30 * DAY, "")) == 30 * DAY
    assert longest(("client", START + 9 * DAY, ""), ("server", START + 30 * DAY, "")) == 9 * DAY
    assert longest(("client", START + 9 * DAY, ""), ("client", START + 30 * DAY, "superseded")) == 9 * DAY


def test_no_client_is_accepted_longer_than_its_lifetime_nor_for_less_than_no_time() -> None:
    assert longest() == timedelta()
    assert longest(("client", START - DAY, "")) == timedelta()
    assert longest(("client", START + 900 * DAY, ""), lifetime=365 * DAY) == 365 * DAY
    assert longest(("client", START + 9 * DAY + SECOND, "")) == 10 * DAY, "rounded up: less would be a false promise"
