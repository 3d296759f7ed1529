"""The key `ledger` of pki.yaml: what it may be, and that it contains no password."""

from __future__ import annotations

import pytest

from pki.common.errors import PkiError
from pki.config.fields import _ledger_address
from pki.config.secret_sources import Secrets
from pki.project.secrets import Passphrases, ledger_url
from tests.support.projects import Home


@pytest.mark.parametrize(
    "address",
    [
        "sqlite",
        "postgresql",
        "postgresql+psycopg://pki@db.example.net/pki?sslmode=verify-full",
        "postgresql+psycopg://pki@[fd00::1]:5432/pki",
        "postgresql+psycopg://postgres@/ledger?host=/run/postgresql",
    ],
)
def test_an_address_without_password_is_accepted(address: str) -> None:
    assert _ledger_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://pki:secret@db/pki",
        "postgresql://db/pki?user=pki&password=secret",
        "postgresql://db/?password=x",
    ],
)
def test_a_password_in_pki_yaml_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="contains a password") as refused:
        _ledger_address(address)
    assert "write ledger: postgresql, and the URL as the secret ledger" in str(refused.value)
    assert "secret@" not in str(refused.value)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="expected sqlite, postgresql"):
        _ledger_address("mysql")


def passphrases(home: Home, secrets: str) -> Passphrases:
    home.write("secrets.yaml", secrets).chmod(0o600)
    return Passphrases(home.project().store, Secrets.model_validate({}))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_url_is_read_from_the_secrets_for_the_driver_of_the_program(home: Home, scheme: str) -> None:
    url = ledger_url(passphrases(home, f"ledger: {scheme}://pki:secret@db/pki\n"))
    assert url == "postgresql+psycopg://pki:secret@db/pki"


@pytest.mark.parametrize("secret", ["mysql://pki:hunter2@db/pki", "pki:hunter2@db/pki"])
def test_another_url_is_refused_and_not_shown(home: Home, secret: str) -> None:
    with pytest.raises(PkiError, match=r"secrets\.yaml: the secret ledger is no URL of PostgreSQL") as refused:
        ledger_url(passphrases(home, f'ledger: "{secret}"\n'))
    assert "hunter2" not in str(refused.value)


def test_a_missing_secret_names_what_to_write(home: Home) -> None:
    with pytest.raises(PkiError, match="the secret ledger is missing") as refused:
        ledger_url(passphrases(home, "smtp: x\n"))
    assert "into secrets.yaml" in refused.value.hint
