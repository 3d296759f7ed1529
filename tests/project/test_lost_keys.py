"""The key of a CA, or its passphrase, that is lost or damaged: never made again, and what needs no signature goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import PkiError
from pki.x509 import keys as x509_keys
from pki.x509 import pkcs8
from tests.support import judges
from tests.support.ceremonies import RealHome, real_home
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home, Report

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:150]),
    "last line gone": lambda path: path.write_bytes(path.read_bytes().rpartition(b"-----END")[0]),
    "a line gone": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2])),
    "garbage": lambda path: path.write_bytes(os.urandom(400)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
UNDECRYPTABLE: dict[str, Damage] = {
    "another key's": lambda path: path.write_bytes(
        x509_keys.encrypted_pem(x509_keys.new_key("ec-p256"), "other words")
    ),
    "a bit": lambda path: path.write_bytes(flipped(path.read_bytes())),
}


def flipped(pem: bytes) -> bytes:
    """One character in the middle of the key's text is another one."""
    at = pem.index(b"\n", len(pem) // 2) + 5
    return pem[:at] + (b"A" if pem[at : at + 1] != b"A" else b"B") + pem[at + 1 :]


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path, days: float = 0) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        return said_by(capsys, *arguments, pki_home=str(home), **moment)

    return call


def keys(home: Home) -> dict[str, bytes]:
    paths = [*home.path.glob("ca/*/*/key.pem"), home.path / "secrets.yaml"]
    return {str(path): path.read_bytes() if path.is_file() else b"a folder" for path in paths if path.exists()}


def names_restore(report: Report, name: str) -> bool:
    return report.status != 0 and "./run invoke restore FILE" in report.failed.get(name, "")


def names_both(report: Report, generation: str) -> bool:
    """Return whether the failure of its key names the backup first, then the ceremony."""
    command = f"./run invoke ceremony.request --revoke {generation} --reason superseded"
    text = f"./run invoke restore FILE; if no backup has the key, a ceremony replaces it: {command}"
    return report.failed.get(f"key:{generation}", "").endswith(text)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_key_that_is_lost_is_told_by_a_run_that_needs_none_and_not_made_anew(
    real: RealHome, invoke: Invoke, damage: str
) -> None:
    DAMAGES[damage](real.path / "ca/server/server-1/key.pem")
    before = keys(real)
    real.write("templates/motd.conf", "# deploy-target: /etc/motd\n# deploy-hosts: media\nhello\n")
    report = real.doit()
    assert names_restore(report, "key:server-1"), report.failed
    assert names_both(report, "server-1"), report.failed
    assert set(report.made) == {"release:media", "deploy:media"}
    assert keys(real) == before
    assert "ca/server/server-1/key.pem" in invoke("health", home=real.path).out
    assert "restore FILE" in invoke("health", home=real.path).out


def test_without_a_backup_of_its_key_an_intermediate_is_replaced_by_the_ceremony_that_is_printed(
    real: RealHome,
) -> None:
    real.path.joinpath("ca/server/server-1/key.pem").unlink()
    assert names_both(real.doit(), "server-1")
    real.ceremony(RequestOptions(revoke=(("server-1", "superseded"),)))
    report = real.doit()
    assert (report.status, report.failed) == (0, {})
    assert (
        judges.Identity.read(real.path / "build/certs/media/tls.pem").leaf.issuer
        == real.certificate("server-2").subject
    )


@pytest.mark.parametrize("damage", [*DAMAGES, *UNDECRYPTABLE])
def test_without_the_key_of_one_authority_all_that_needs_no_signature_of_it_goes_on(
    real: RealHome, damage: str
) -> None:
    (DAMAGES | UNDECRYPTABLE)[damage](real.path / "ca/server/server-1/key.pem")
    before = keys(real)
    report = real.doit(days=8)  # CRLs are issued every 7 days
    assert names_restore(report, "key:server-1"), report.failed
    assert set(report.failed) == {"key:server-1"}
    assert {"crl:client-1", "deploy:monitoring"} <= set(report.made)
    report = real.doit(days=62)  # leaves are due for renewal, and the last CRL ended
    assert names_restore(report, "crl:server-1"), report.failed
    assert "cert:media" not in report.failed
    assert {"crl:client-1", "bundle:client-crls", "deploy:forge"} <= set(report.made)
    assert names_restore(real.doit(days=91), "cert:media")
    assert keys(real) == before


@pytest.mark.parametrize(
    "damage",
    {
        "gone": lambda path: path.unlink(),
        "empty": lambda path: path.write_bytes(b""),
        "comments": lambda path: path.write_text("# nothing\n"),
        "half": lambda path: path.write_text(path.read_text().splitlines(keepends=True)[0]),
        "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
        "a list": lambda path: path.write_text("- x\n"),
    }.items(),
    ids=lambda item: item[0],
)
def test_passphrases_that_are_lost_are_told_and_nothing_new_is_written_over_them(
    real: RealHome, damage: tuple[str, Damage]
) -> None:
    path = real.path / "secrets.yaml"
    damage[1](path)
    before = keys(real)
    report = real.doit()
    assert any(names_restore(report, f"key:{name}-1") for name in ("server", "client")), report.failed
    with pytest.raises(PkiError, match=r"secrets\.yaml") as refused:
        real.ask(RequestOptions(generations=("server",)))
    assert "./run invoke restore FILE" in refused.value.hint
    assert keys(real) == before
    assert real.doit(days=600).status != 0  # when successors are due
    assert keys(real) == before


def test_a_secrets_file_that_others_can_read_is_told_by_its_own_hint(real: RealHome) -> None:
    (real.path / "secrets.yaml").chmod(0o644)
    assert "chmod 600 secrets.yaml" in real.doit(days=91).failed["cert:media"]


# -- an intermediate that is gone as a whole --------------------------------------------------------------------------


@pytest.mark.parametrize("also", ["", "ca/ceremonies", "ca/ledger.db"])
def test_an_intermediate_that_was_certified_is_never_asked_for_again(real: RealHome, also: str) -> None:
    shutil.rmtree(real.path / "ca/server")
    if also:
        shutil.rmtree(real.path / also) if (real.path / also).is_dir() else (real.path / also).unlink()
    report = real.doit()
    assert names_restore(report, "authority:server"), report.failed
    assert not (real.path / "ca/server").exists()
    assert names_restore(report, "ceremony:request") or "ledger" in report.failed["ceremony:request"]


# -- a key that waits for its certificate -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = real_home(tmp_path_factory.mktemp("asked"))
    home.answer(home.ask().path)
    return home.path.parent


@pytest.fixture
def asked(asked_once: Path, tmp_path: Path) -> RealHome:
    """A project whose first ceremony was held, and is not accepted yet."""
    shutil.copytree(asked_once, tmp_path / "asked")
    return RealHome(tmp_path / "asked/project")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_prepared_key_that_is_damaged_is_not_replaced_and_its_certificate_is_not_accepted(
    asked: RealHome, damage: str
) -> None:
    DAMAGES[damage](asked.path / "ca/server/server-1/key.pem")
    before = keys(asked)
    report = asked.doit()
    assert names_restore(report, "key:server-1"), report.failed
    with pytest.raises(PkiError, match=r"ca/server/server-1/key\.pem"):
        asked.accept(asked.out / "response-0001")
    with pytest.raises(PkiError, match=r"ca/server/server-1/key\.pem") as refused:
        asked.ask(RequestOptions(generations=("server",)))
    assert "mv ca/server/server-1 ca/server/server-1.lost" in refused.value.hint
    assert keys(asked) == before
    assert not asked.project().store.generations("root")


def test_the_hint_for_a_prepared_key_without_a_backup_works(asked: RealHome, invoke: Invoke) -> None:
    (asked.path / "ca/server/server-1/key.pem").unlink()
    (asked.path / "ca/server/server-1").rename(asked.path / "ca/server/server-1.lost")
    assert invoke("ceremony.request", "--drop-earlier", home=asked.path).status == 0
    with pytest.raises(PkiError, match="the key in ca/ is not the certified one"):
        asked.accept(asked.out / "response-0001")
    project = asked.project()
    assert project.signing_keys.faults() == {}


def test_a_request_that_is_lost_is_made_again_with_the_key_that_is_there(asked: RealHome) -> None:
    before, request = keys(asked), asked.path / "ca/server/server-1/request.pem"
    request.unlink()
    asked.ask(RequestOptions(generations=("server",)))
    assert keys(asked) == before
    assert request.exists()
    asked.accept(asked.out / "response-0001")
    assert asked.doit().status == 0


def test_a_key_is_whole_or_not_without_its_passphrase(real: RealHome) -> None:
    pem = real.read("ca/server/server-1/key.pem")
    assert pkcs8.is_whole(pem)
    assert pkcs8.is_whole(pem.replace(b"\n", b"\r\n"))
    assert not [end for end in range(0, len(pem) - 1, 7) if pkcs8.is_whole(pem[:end])]
    assert not pkcs8.is_whole(pem + pem)
