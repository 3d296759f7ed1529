"""The secrets file as it is found: unreadable, open to others, or something else; and no passphrase in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki.common.errors import ErrorCode, PkiError
from pki.config.secret_sources import Secrets
from pki.project.layout import Store
from pki.project.secrets import EXPECTED, Passphrases

SECRET = "tuna-river-cabin-moss"


def passphrases(home: Path, **sources: object) -> Passphrases:
    return Passphrases(Store(home), Secrets.model_validate(sources))


def written(home: Path, data: bytes, mode: int = 0o600) -> Passphrases:
    (home / "secrets.yaml").write_bytes(data)
    (home / "secrets.yaml").chmod(mode)
    return passphrases(home)


def refusal(stored: Passphrases) -> PkiError:
    with pytest.raises(PkiError) as caught:
        stored.stored()
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.about == "secrets.yaml"
    return caught.value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"[{SECRET}]".encode(), "secrets.yaml: is not a mapping"),
        (SECRET.encode(), "secrets.yaml: is not a mapping"),
        (f"server-1: {SECRET}\n\xff".encode("latin-1"), "secrets.yaml: is not UTF-8 text"),
    ],
)
def test_a_secrets_file_that_holds_something_else_is_named_and_not_quoted(
    tmp_path: Path, data: bytes, message: str
) -> None:
    assert refusal(written(tmp_path, data)).message == message


def test_a_secrets_file_that_is_no_yaml_is_named_with_what_is_expected(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, f"server-1: {SECRET}: x: y\n".encode())).hint == EXPECTED


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o600, False), (0o400, False), (0o604, True), (0o640, True), (0o610, True), (0o601, True)]
)
def test_a_secrets_file_that_others_can_read_is_not_used(tmp_path: Path, mode: int, is_open: bool) -> None:
    stored = written(tmp_path, f"server-1: {SECRET}\n".encode(), mode)
    if is_open:
        fault = refusal(stored)
        assert (fault.code, fault.message) == (ErrorCode.EXPOSED, "secrets.yaml: can be read by other users")
    else:
        assert stored.stored() == {"server-1": SECRET}


def test_only_texts_count_as_passphrases(tmp_path: Path) -> None:
    stored = written(tmp_path, f"server-1: {SECRET}\nclient-1:\nroot-1: ''\nother: [x]\n".encode())
    assert stored.stored() == {"server-1": SECRET}
    assert passphrases(tmp_path / "none").stored() == {}


def test_a_passphrase_that_the_file_lacks_is_named_by_its_key(tmp_path: Path) -> None:
    stored = written(tmp_path, f"server-1: {SECRET}\nclient-1.new: {SECRET}\n".encode())
    assert stored.fault(["server-1"]) is None
    missing = stored.fault(["server-1", "server-2"])
    assert missing is not None
    assert missing.message == "secrets.yaml: holds no passphrase for server-2"
    lost = passphrases(tmp_path / "none").fault(["server-1", "server-2"])
    assert lost is not None
    assert lost.message == "secrets.yaml: is missing; it contained the passphrase of server-1, server-2"
    elsewhere = passphrases(tmp_path / "none", server={"env": "SERVER"})
    assert elsewhere.fault(["server-1"]) is None


def test_a_systemd_credential_that_the_unit_does_not_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    asked = passphrases(tmp_path, server={"credential": "pki"})
    with pytest.raises(PkiError) as caught:
        asked.named("server-1")
    assert "the systemd unit has no such credential" in caught.value.message
    assert "LoadCredential=pki:FILE" in caught.value.hint
