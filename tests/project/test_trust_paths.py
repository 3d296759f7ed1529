"""From which roots cross-certificates lead to another one, and until when: what clients of the old root may rely on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pki.common import filesystem
from pki.project.cross_certificates import trust_paths
from pki.project.layout import Store
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from pki.x509.canonical import fingerprint
from pki.x509.certificate_signing import Issuer
from tests.support.projects import START

DAY = timedelta(days=1)


def made_root(number: int, days: int) -> Issuer:
    key = keys.new_key("ec-p256")
    subject = certificate_signing.subject_name("Example Lab", f"Example Lab Root CA {number}")
    dates, extensions = (START, START + days * DAY), profiles.root_extensions()
    return Issuer(certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, key), key)


ISSUERS = {f"root-{number}": made_root(number, 100 * number) for number in (1, 2, 3)}


def generation(name: str) -> Any:
    certificate = ISSUERS[name].certificate
    end = certificate.not_valid_after_utc
    return SimpleNamespace(name=name, certificate=certificate, fingerprint=fingerprint(certificate), not_after=end)


ROOTS = [generation(name) for name in ISSUERS]


def crossed(of: str, by: str, days: int, key_of: str = "") -> bytes:
    """A certificate for the key of a root, by an earlier root."""
    certified = ISSUERS[key_of or of]
    return pem_encoding.pem_of(
        [
            certificate_signing.sign_certificate(
                ISSUERS[of].certificate.subject, certified.key.public_key(), (START, START + days * DAY),
                profiles.cross_certificate_extensions(), ISSUERS[by],
            )
        ]
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, root: str, by: str, pem: bytes) -> None:
    filesystem.write(store.authority_file(root, f"cross-{by}.pem"), pem)
    assert store.cross_certificates(root)


def paths(
    store: Store, root: str, has_ended: Callable[[datetime], bool] = lambda end: end < START
) -> dict[str, datetime]:
    names = {one.fingerprint: one.name for one in ROOTS}
    found = trust_paths(store, ROOTS, generation(root), has_ended)
    return {names[print_of]: end for print_of, end in found.items()}


def test_a_root_without_cross_certificates_is_reached_from_itself_alone(store: Store) -> None:
    assert paths(store, "root-1") == {"root-1": START + 100 * DAY}


def test_a_path_lasts_as_long_as_the_shortest_certificate_on_it(store: Store) -> None:
    put(store, "root-3", "root-2", crossed("root-3", "root-2", 150))
    put(store, "root-2", "root-1", crossed("root-2", "root-1", 180))
    assert paths(store, "root-3") == {
        "root-3": START + 300 * DAY,
        "root-2": START + 150 * DAY,
        "root-1": START + 100 * DAY,
    }
    put(store, "root-2", "root-1", crossed("root-2", "root-1", 90))
    assert paths(store, "root-3")["root-1"] == START + 90 * DAY
    assert paths(store, "root-2") == {"root-2": START + 200 * DAY, "root-1": START + 90 * DAY}


def test_a_cross_certificate_that_has_expired_connects_nothing(store: Store) -> None:
    put(store, "root-2", "root-1", crossed("root-2", "root-1", 10))
    assert paths(store, "root-2", lambda end: end < START + 11 * DAY).keys() == {"root-2"}
    assert paths(store, "root-2", lambda end: end < START + 10 * DAY).keys() == {"root-2", "root-1"}


def test_a_cross_certificate_for_another_key_or_a_damaged_one_connects_nothing(store: Store) -> None:
    put(store, "root-2", "root-1", crossed("root-2", "root-1", 90, key_of="root-3"))
    assert paths(store, "root-2").keys() == {"root-2"}
    put(store, "root-2", "root-1", b"damaged")
    assert paths(store, "root-2").keys() == {"root-2"}


def test_a_circle_of_cross_certificates_ends(store: Store) -> None:
    put(store, "root-2", "root-1", crossed("root-2", "root-1", 90))
    put(store, "root-1", "root-2", crossed("root-1", "root-2", 90))
    assert paths(store, "root-2") == {"root-2": START + 200 * DAY, "root-1": START + 90 * DAY}
