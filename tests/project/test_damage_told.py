"""What is done about a damaged file: made again with a reason, put back from the ledger, or told with what helps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pki.common import cache, filesystem, sealed_records
from pki.common.cache import LONGEST_INTERVAL, Cache
from pki.common.errors import PkiError
from pki.deploy import receipt
from pki.pipeline import plan
from pki.x509 import canonical
from tests.support.backups import Invoke, invoke
from tests.support.ceremonies import RealHome
from tests.support.damage import flipped
from tests.support.projects import START, Home

__all__ = ["invoke"]
HOUR = 1 / 24


def damage(path: Path, bit: int | None = None) -> bytes:
    """Flip a bit in the middle of a file; returns what it held."""
    before = path.read_bytes()
    path.write_bytes(flipped(before, 4 * len(before) if bit is None else bit))
    return before


def unnoticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The same by the disk itself, which changes no time of the file."""
    before, content = os.stat(path), damage(path)
    after = os.stat(path)
    real = os.stat

    def stat(file: str | Path) -> os.stat_result:
        found = real(file)
        return before if os.fspath(file) == str(path) and found == after else found

    monkeypatch.setattr(cache, "stat", stat)
    return content


# -- authorities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["root-1", "server-1", "client-1"])
def test_a_damaged_certificate_of_an_authority_comes_back_from_the_ledger(real: RealHome, generation: str) -> None:
    name = generation.partition("-")[0]
    path = real.path / f"ca/{name}/{generation}/cert.pem"
    before = damage(path)
    report = real.doit()
    assert report.status == 0, report.failed
    assert path.read_bytes() == before
    what = f"ca/{name}/{generation}/cert.pem was damaged: restored from the ledger's copy"
    assert report.made == {f"authority:{name}": what}
    assert real.doit().made == {}


def test_a_newline_that_is_none_any_more_is_damage(real: RealHome) -> None:
    """OpenSSL reads no certificate from such a file, other programs do."""
    path = real.path / "ca/server/server-1/cert.pem"
    before = path.read_bytes()
    damage(path, 8 * before.index(b"\n", 100) + 5)
    report = real.doit()
    assert report.status == 0
    assert path.read_bytes() == before
    assert set(report.made) == {"authority:server"}


def test_a_certificate_that_is_cut_short_is_named_and_stops_the_run(
    real: RealHome, capsys: pytest.CaptureFixture[str]
) -> None:
    path = real.path / "ca/server/server-1/cert.pem"
    path.write_bytes(path.read_bytes()[:-100])
    from pki.monitor.report.run import Run  # noqa: PLC0415

    assert Run(real.path, START).main([]) == 3
    said = capsys.readouterr().err
    assert "ca/server/server-1/cert.pem: is " in said
    assert "./run invoke restore FILE" in said


def test_a_damaged_cross_certificate_or_key_is_named(real: RealHome) -> None:
    damage(real.path / "ca/client/client-1/key.pem")
    project = real.project()
    with pytest.raises(PkiError, match=r"ca/client/client-1/key\.pem: .*(damaged|cannot be opened)"):
        project.signing_keys.issuer("client")


def test_the_key_of_another_authority_is_not_taken_for_its_own(real: RealHome) -> None:
    shutil.copy(real.path / "ca/client/client-1/key.pem", real.path / "ca/server/server-1/key.pem")
    secrets = (real.path / "secrets.yaml").read_text()
    lines = dict(line.split(": ", 1) for line in secrets.splitlines() if ": " in line)
    (real.path / "secrets.yaml").write_text(secrets.replace(lines["server-1"], lines["client-1"]))
    with pytest.raises(PkiError, match=r"server-1/key\.pem: is damaged: its key is not that of server-1"):
        real.project().signing_keys.issuer("server")


def test_a_damaged_pre_signed_crl_is_told_and_no_older_one_is_published(real: RealHome, invoke: Invoke) -> None:
    presigned_crls = real.project(days=0).store.presigned_crls("root-1")
    published = real.read("build/crl/root-1.crl")
    damage(presigned_crls[0])
    report = real.doit()
    assert report.status == 0, report.failed
    assert real.read("build/crl/root-1.crl") == published
    [note] = report.data["notes"]
    assert note["subject"] == f"ca/root/root-1/crl/{presigned_crls[0].name}"
    assert "restore FILE" in note["remedy"]
    said = invoke("health", home=real.path)
    assert said.status == 3
    assert f"ca/root/root-1/crl/{presigned_crls[0].name}" in said.out


def test_a_response_that_cannot_be_read_any_more_is_named_with_the_backup_that_has_it(real: RealHome) -> None:
    path = real.path / "ca/ceremonies/0001/response.yaml"
    path.write_bytes(path.read_bytes().replace(b":", b"\xff", 1))
    (real.path / "build/report/pki.ics").unlink()
    report = real.doit(days=7)
    assert report.failed == {
        "calendar": "ca/ceremonies/0001/response.yaml: is not a ceremony response: not text"
        " → restore it from a backup: ./run invoke restore FILE"
    }
    assert {"crl:server-1", "crl:client-1"} <= report.made.keys()


@pytest.mark.parametrize("name", ["ca/transcript.jsonl", "ca/ceremonies/0001/response.yaml"])
def test_a_damaged_record_of_a_ceremony_is_told(real: RealHome, name: str, invoke: Invoke) -> None:
    damage(real.path / name)
    report = real.doit()
    assert "Traceback" not in str(report.data)
    assert any(name.rpartition("/")[2] in note["text"] or "ceremon" in note["text"] for note in report.data["notes"])
    assert invoke("health", home=real.path).status in {3, 4}


# -- what a run makes again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "artifact"),
    [
        ("build/certs/media/tls.pem", "cert:media"),
        ("build/certs/media/key.pem", "cert:media"),
        ("build/crl/client-1.crl", "crl:client-1"),
        ("build/crl/client-1.pem", "crl:client-1"),
        ("build/crl/bundle-client.pem", "bundle:client-crls"),
        ("build/trust/client-chain.pem", "bundle:trust"),
        ("build/trust/index.html", "page:trust"),
        ("build/release/media/manifest.json", "release:media"),
        ("build/release/media/files/etc/doit-pki/media.pem", "release:media"),
        ("build/receipts/media.json", "deploy:media"),
        ("build/hosts/.media.files", "deploy:media"),
        ("build/hosts/media/etc/doit-pki/media.pem", ""),
    ],
)
def test_health_finds_damage_and_the_next_run_mends_it(home: Home, name: str, artifact: str, invoke: Invoke) -> None:
    assert invoke("health", home=home.path).status == 0
    damage(home.path / name)
    said = invoke("health", home=home.path)
    assert said.status == 2, said.out
    assert (artifact or "drift:media") in said.out
    assert home.doit().status == 0
    assert home.doit().made == {}
    assert invoke("health", home=home.path).status == 0


def test_a_revoked_certificate_that_nothing_replaces_is_split_again(home: Home, invoke: Invoke) -> None:
    asked = ("--reason", "superseded", "--yes", "--no-replace")
    invoke("revoke", "media", *asked, home=home.path)
    before = damage(home.path / "build/certs/media/cert.pem")
    assert home.doit().status == 0
    assert home.read("build/certs/media/cert.pem") == before
    damage(home.path / "build/certs/media/tls.pem")
    report = home.doit()
    assert "tls.pem is damaged; was revoked; replacement stopped" in report.failed["cert:media"]


# -- the cache --------------------------------------------------------------------------------------------------------


def test_another_configuration_in_the_cache_is_never_applied(home: Home) -> None:
    """One letter changed where the cache has the parsed pki.yaml: as a whole it is not what was written."""
    assert home.doit().status == 0
    path = home.path / "build/.seen.json"
    assert b"jellyfin" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"jellyfin", b"jellyfio"))
    report = home.doit()
    assert (report.status, report.made) == (0, {})
    assert b"jellyfio" not in path.read_bytes()


def test_the_cache_of_other_code_answers_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.doit().status == 0
    assert Cache(home.path, START).recall("cert:media", "x") is None
    path = home.path / "build/.seen.json"
    known = cache.load(path)[1]["cert:media"][0]
    assert Cache(home.path, START).recall("cert:media", known) is not None
    monkeypatch.setattr(cache, "code_digest", lambda: "of another version")
    assert Cache(home.path, START).recall("cert:media", known) is None
    assert Cache(home.path, START).findings_of("cert"), "what is known of dates is of use even then"


def test_pki_yaml_with_the_times_of_before_is_read_again(home: Home) -> None:
    assert home.doit().status == 0
    path = home.path / "pki.yaml"
    times = path.stat()
    path.write_text(path.read_text().replace("jellyfin", "jellyfix"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "cert:media" in home.doit().made


@pytest.mark.parametrize(
    "name", ["build/certs/media/tls.pem", "build/crl/client-1.crl", "build/hosts/media/etc/doit-pki/media.pem"]
)
def test_damage_that_changes_no_time_of_a_file_is_found_within_a_day(
    home: Home, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.doit().status == 0
    before = unnoticed(home.path / name, monkeypatch)
    assert home.doit(days=1 * HOUR).made == {}, "until then the state of a file is enough"
    report = home.doit(days=LONGEST_INTERVAL / 86400 + 1 * HOUR)
    assert report.status == 0, report.failed
    assert report.made
    now = home.read(name)
    assert now == before or canonical.read_first_certificate(now) is not None or name.endswith(".crl")


def test_files_are_not_read_again_at_one_moment(home: Home) -> None:
    assert home.doit().status == 0
    ends = {entry[5] for entry in cache.load(home.path / "build/.seen.json")[1].values()}
    assert len(ends) > 8
    assert max(ends) <= START.timestamp() + LONGEST_INTERVAL


def test_a_damaged_file_goes_into_no_release_whatever_is_remembered(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.doit().status == 0
    unnoticed(home.path / "build/certs/media/tls.pem", monkeypatch)
    served = home.read("build/hosts/media/etc/doit-pki/media.pem")
    shutil.rmtree(home.path / "build/release/media")
    report = home.doit()
    assert report.status != 0
    assert report.failed["release:media"].startswith(
        (
            "tls:media cannot be delivered: tls.pem is damaged",
            "tls:media cannot be delivered: it is not signed by server-1",
        )
    )
    assert home.read("build/hosts/media/etc/doit-pki/media.pem") == served
    monkeypatch.undo()
    assert home.doit().status == 0


# -- what tells of the past -------------------------------------------------------------------------------------------


def test_a_damaged_record_of_the_last_backup_is_no_backup(real: RealHome, invoke: Invoke) -> None:
    path = real.path / "ca/.last-backup.json"
    filesystem.write(path, sealed_records.encode_sealed({"at": "2026-11-22T06:00:00Z", "file": "x", "ledger": None}))
    assert "from 2026-11-22" in invoke("health", home=real.path).out
    damage(path)
    assert "ca/.last-backup.json is damaged" in invoke("health", home=real.path).out


def test_a_damaged_report_is_no_run_that_did_not_take_place(home: Home, invoke: Invoke) -> None:
    assert home.doit().status == 0
    path = home.path / "build/report/status.json"
    damage(path)
    said = invoke("health", home=home.path)
    assert "build/report/status.json is damaged: what the last run did is unknown" in said.out
    assert "has not run yet" not in said.out
    path.unlink()
    assert "has not run yet" in invoke("health", home=home.path).out


def without(path: Path) -> None:
    path.unlink()


def with_another(path: Path) -> None:
    path.write_bytes(b'{"files": []}\n')


@pytest.mark.parametrize("how", [damage, without, with_another])
def test_a_folder_host_gives_back_what_left_the_release_though_its_receipt_is_damaged(
    home: Home, how: Callable[[Path], object]
) -> None:
    how(home.path / "build/receipts/media.json")
    mine = home.write("build/hosts/media/etc/mine", "of the admin\n")
    home.leave_out("caddy/Caddyfile")
    report = home.doit()
    assert report.status == 0, report.failed
    assert not (home.path / "build/hosts/media/etc/caddy/Caddyfile").exists()
    assert mine.exists()
    assert home.doit().made == {}


def test_a_receipt_of_another_shape_is_none(home: Home) -> None:
    """Its digest is right: another version of this program may have written it."""
    path = home.path / "build/receipts/media.json"
    whole = sealed_records.decode_sealed(path.read_bytes())
    assert whole is not None
    assert receipt.load(path) is not None
    files = whole["files"]
    others: dict[str, list[object]] = {
        "files": [[{}], [5], "x", [{**files[0], "path": 5}], [{key: files[0][key] for key in ("path", "mode")}], None],
        "delivered_at": [5, "yesterday", None, []],
        "not_done": [[5], None, 5],
        "roots": [[], {"x": 5}, None],
        "held": ["x", {"x": []}],
        "ends": [5],
        "seconds": ["x", None],
        "verification": [5, {"x": 5}, {"x": ["nothing", "y"]}],
    }
    for name, contents in others.items():
        for content in contents:
            filesystem.write(path, sealed_records.encode_sealed({**whole, name: content}))
            assert receipt.load(path) is None, (name, content)
    assert home.doit().status == 0


def test_a_folder_host_whose_receipt_and_list_are_damaged_says_what_nobody_knows(home: Home) -> None:
    damage(home.path / "build/receipts/media.json")
    damage(home.path / "build/hosts/.media.files")
    assert "may remain" in home.doit().made["deploy:media"]
    assert plan.plan(home.project()) is not None
    assert home.doit().made == {}
