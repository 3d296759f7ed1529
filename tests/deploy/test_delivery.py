"""Deliveries by a dialogue, whole: a run brings `media` up to date through the real pki-apply, on a host in a folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki.common.errors import PkiError
from pki.common.reasons import Verb
from pki.config.fields import Proxy
from pki.config.identifiers import ArtifactId
from pki.config.model import Deploy
from pki.config.proxies import PROGRAMS
from pki.deploy import bootstrap, host_session, preflight, process, protocol, release, verification
from pki.deploy.contact import Contact
from pki.deploy.delivery_history import History
from pki.deploy.payload import Payload
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint
from pki.deploy.verification import Expectation
from pki.monitor import probes
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from pki.pipeline.delivery_targets import ReleaseChecks
from pki.pipeline.desired_state import DesiredState
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.revocation import CrlEntry
from tests.support.backups import Invoke, invoke
from tests.support.hosts import ME, LocalTransport
from tests.support.live_host import NAME, Live, change_something, delivered, delivered_once, kind, permit
from tests.support.projects import PROJECT, START, Home

__all__ = ["delivered", "delivered_once", "invoke", "kind"]

GOOD = {"release:media", "deploy:media"}
ELSEWHERE = {"release:forge", "deploy:forge"}


# -- what a run does --------------------------------------------------------------------------------------------------


def test_the_first_delivery_brings_every_file_and_the_second_look_touches_nothing(delivered: Live) -> None:
    manifest = json.loads(delivered.home.read("build/release/media/manifest.json"))
    for file in manifest["files"]:
        path = Path(file["path"])
        assert path.read_bytes() == Path(f"{delivered.home.path}/build/release/media/files{path}").read_bytes()
        assert f"{path.stat().st_mode & 0o7777:04o}" == file["mode"]
    assert delivered.receipt()["release"] == manifest["release"]
    assert [note["what"] for note in delivered.history()] == ["delivered"]
    before, reloads = delivered.host.touched(), delivered.reloads()
    assert delivered.doit().made == {}
    assert delivered.doit(days=0.6).status == 0
    assert delivered.delivery().records.contact.checked_at == "2026-11-23T20:24:00Z"
    assert (delivered.host.touched(), delivered.reloads()) == (before, reloads)
    assert len(delivered.history()) == 1


def test_a_look_at_a_host_without_services_reads_nothing_but_what_the_host_says(
    delivered: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((verification, "verify_services"), (preflight, "check_release")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("looked further"))
    assert (delivered.doit(days=0.6).status, delivered.doit(days=1.2).made) == (0, {})


def test_only_a_configuration_that_names_the_probe_promises_to_answer_it(delivered: Live) -> None:
    delivered.endpoints.append(Endpoint("jellyfin", NAME, "127.0.0.1", 1, "mtls"))

    def expectation(payload: Payload) -> Expectation:
        change = delivered.delivery().change(payload, None, delivered.home.moment())
        [found] = change.expectations(change.check_release(None)).values()
        return found

    present = Payload.of(delivered.home.path / "build/release/media")
    assert present
    served = x509.load_pem_x509_certificate(delivered.home.read("build/certs/media/cert.pem"))
    fingerprint = served.fingerprint(hashes.SHA256()).hex()
    assert expectation(present) == Expectation(fingerprint, answers=False, revokes=False)
    named = tampered(delivered, "/etc/caddy/Caddyfile", lambda old: old + b"# doit-pki-probe\n")
    assert expectation(named) == Expectation(fingerprint, answers=True, revokes=False)


def test_each_service_is_reloaded_once_for_crls_and_once_for_all_else(delivered: Live) -> None:
    assert delivered.reloads() == 2


def test_drift_is_found_at_the_next_look_and_repaired(delivered: Live) -> None:
    path = delivered.on("/etc/caddy/Caddyfile")
    wanted = path.read_bytes()
    path.write_text("edited by hand")
    delivered.on("/etc/doit-pki/roots.pem").unlink()
    report = delivered.doit(days=0.6)
    assert report.status == 0
    assert path.read_bytes() == wanted
    assert delivered.on("/etc/doit-pki/roots.pem").exists()
    assert delivered.history()[-1]["files"] == 2


def test_a_renewal_arrives_with_its_key(delivered: Live) -> None:
    path = delivered.on("/etc/doit-pki/media.pem")
    before = path.read_bytes()
    assert delivered.doit(days=61).status == 0
    after = path.read_bytes()
    assert after != before
    key = serialization.load_pem_private_key(after, None)
    assert key.public_key() == x509.load_pem_x509_certificate(after).public_key()
    assert delivered.host.litter() == []


def test_what_left_the_release_is_taken_away_also_after_another_bootstrap(delivered: Live) -> None:
    delivered.home.leave_out("caddy/Caddyfile")
    permit(delivered)
    report = delivered.doit()
    assert report.status == 0, report.failed
    assert not delivered.on("/etc/caddy/Caddyfile").exists()
    assert delivered.doit().made == {}


def test_what_the_host_does_not_permit_is_said_and_nothing_else_is_done(delivered: Live) -> None:
    before = delivered.host.holds()
    root = delivered.host.root
    delivered.home.write("templates/extra/x", f"# deploy-target: {root}/etc/x\n# deploy-hosts: media\nx\n")
    assert delivered.because(delivered.doit()) == (
        f"{root}/etc/x may not be placed here: {root}/pki-apply.conf does not permit it"
        " → ./run invoke deploy.bootstrap media"
    )
    assert delivered.host.holds() == before


@pytest.mark.parametrize(
    "line",
    [
        lambda root: f"file {root}/etc/caddy/Caddyfile",
        lambda root: f"run sh-{root.as_posix().strip('/').replace('/', '-').replace('_', '-')}-check ",
    ],
)
def test_crls_are_placed_although_the_host_does_not_permit_the_rest(
    delivered: Live, line: Callable[[Path], str]
) -> None:
    root = delivered.host.root
    permitted = delivered.host.conf.read_text()
    less = "".join(one for one in permitted.splitlines(keepends=True) if not one.startswith(line(root)))
    assert less != permitted
    delivered.host.conf.write_text(less)
    assert "does not permit it" in delivered.because(delivered.doit(days=7))
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")
    assert "does not permit it" in delivered.because(delivered.doit(days=7))
    delivered.host.conf.write_text(permitted)
    assert delivered.doit(days=7).status == 0


def test_one_crl_that_the_host_does_not_permit_holds_up_none_of_the_others(delivered: Live) -> None:
    root = delivered.host.root
    delivered.home.write(
        "templates/extra/second.pem",
        f"# deploy-target: {root}/etc/second.pem\n# deploy-hosts: media\n# deploy-owner: {ME}\n"
        "# deploy-artifact: crl-pem:server\n",
    )
    assert f"{root}/etc/second.pem may not be placed here" in delivered.because(delivered.doit(days=7))
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")
    assert not delivered.on("/etc/second.pem").exists()


# -- what is put back -------------------------------------------------------------------------------------------------


def test_a_release_that_does_not_validate_is_put_back_and_the_other_hosts_are_served(delivered: Live) -> None:
    before = delivered.host.holds()
    (delivered.host.root / "broken").touch()
    for host, old in (("media", "caddy/Caddyfile"), ("forge", "haproxy/haproxy.cfg")):
        assert host
        text = (delivered.home.path / "templates" / old).read_text()
        (delivered.home.path / "templates" / old).write_text(f"{text}# more\n")
    report = delivered.doit()
    said = delivered.because(report)
    assert re.match(r'"sh \S+/check" failed with exit status 1; rolled back → it is broken', said)
    assert report.made.keys() >= ELSEWHERE
    assert delivered.host.holds() == before
    assert [note["what"] for note in delivered.history()] == ["delivered", "failed"]
    (delivered.host.root / "broken").unlink()
    assert delivered.doit().status == 0
    assert delivered.on("/etc/caddy/Caddyfile").read_text().endswith("# more\n")


def test_crls_go_first_and_stay_when_the_rest_is_put_back(delivered: Live) -> None:
    """Seven days later the CRL is made again."""
    crl, config = delivered.on("/etc/client-crl.pem"), delivered.on("/etc/caddy/Caddyfile")
    before = (crl.read_bytes(), config.read_bytes())
    (delivered.host.root / "broken").touch()
    delivered.home.edit("auto_https off", "auto_https off # still", "templates/caddy/Caddyfile")
    assert "rolled back" in delivered.because(delivered.doit(days=7))
    assert crl.read_bytes() == delivered.home.read("build/crl/client-1.pem") != before[0]
    assert config.read_bytes() == before[1]


def test_a_crl_whose_reload_fails_stays_and_is_told(delivered: Live) -> None:
    (delivered.host.root / "reload").write_text("echo no such service; exit 5\n")
    said = delivered.because(delivered.doit(days=7))
    assert "failed with exit status 5; the CRLs stay in place → no such service" in said
    assert delivered.on("/etc/client-crl.pem").read_bytes() == delivered.home.read("build/crl/client-1.pem")


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_a_host_goes_back_stays_held_and_follows_again(delivered: Live, invoke: Invoke) -> None:
    config, crl = delivered.on("/etc/caddy/Caddyfile"), delivered.on("/etc/client-crl.pem")
    first = config.read_bytes()
    delivered.home.edit("auto_https off", "auto_https off # second", "templates/caddy/Caddyfile")
    assert delivered.doit(days=1).status == 0
    second = config.read_bytes()
    assert first != second
    said = invoke("deploy.rollback", "media", "--yes", home=delivered.home.path, days=1)
    assert said.status == 0, said
    assert config.read_bytes() == first
    newer = crl.read_bytes()
    assert delivered.doit(days=8).status == 0
    assert config.read_bytes() == first
    assert crl.read_bytes() == delivered.home.read("build/crl/client-1.pem") != newer
    assert "pinned to" in delivered.delivery(8).state(delivered.home.moment(8))
    assert invoke("deploy.push", "media", home=delivered.home.path, days=8).status == 0
    assert config.read_bytes() == second
    assert delivered.delivery(8).state(delivered.home.moment(8)).startswith("not_verified") is False


def test_the_outcome_of_a_delivery_names_what_became_of_the_host(delivered: Live) -> None:
    """A host that goes back to an earlier release was rolled back; one that has its release is unchanged."""
    receipt = delivered.delivery().records.receipt
    assert receipt is not None
    delivered.home.edit("auto_https off", "auto_https off # second", "templates/caddy/Caddyfile")
    made = {one["name"]: one["verb"] for one in delivered.doit(days=1).data["changed"]}
    assert made["deploy:media"] == "deployed"
    project = delivered.home.project(1)
    project.ledger.record_decision(ArtifactId("deploy", "media"), "pinned", receipt.release, project.now)
    project.ledger_view.close()
    verbs = [delivered.delivery(1).deliver(delivered.home.moment(1)).verb for _ in range(2)]
    assert verbs == [Verb.ROLLED_BACK, Verb.UNCHANGED]


def test_a_host_stays_at_its_release_when_build_is_lost_and_takes_crls_alone(delivered: Live, invoke: Invoke) -> None:
    config, crl, home = delivered.on("/etc/caddy/Caddyfile"), delivered.on("/etc/client-crl.pem"), delivered.home.path
    first = config.read_bytes()
    delivered.home.edit("auto_https off", "auto_https off # bad", "templates/caddy/Caddyfile")
    assert delivered.doit(days=1).status == 0
    assert invoke("deploy.rollback", "media", "--yes", home=home, days=1).status == 0
    shutil.rmtree(home / "build")
    report = delivered.doit(days=8)
    assert report.status == 0, report.failed
    assert config.read_bytes() == first
    receipt = delivered.delivery(8).records.receipt
    assert receipt
    assert str(config) in {file["path"] for file in receipt.files}  # so that it can be taken away some day
    assert crl.read_bytes() == delivered.home.read("build/crl/client-1.pem")
    assert delivered.doit(days=8.1).made == {}
    assert "pinned to" in delivered.delivery(9).state(delivered.home.moment(9))
    assert invoke("deploy.push", "media", home=home, days=9).status == 0
    assert config.read_bytes() != first
    assert delivered.doit(days=9.1).made == {}


@pytest.mark.parametrize("build_is_lost", [False, True])
def test_a_ledger_that_is_lost_unpins_no_host(delivered: Live, invoke: Invoke, build_is_lost: bool) -> None:
    config, home = delivered.on("/etc/caddy/Caddyfile"), delivered.home.path
    first = config.read_bytes()
    delivered.home.edit("auto_https off", "auto_https off # bad", "templates/caddy/Caddyfile")
    assert delivered.doit(days=1).status == 0
    assert invoke("deploy.rollback", "media", "--yes", home=home, days=1).status == 0
    assert delivered.doit(days=1.1).status == 0
    for path in (home / "ca").glob("ledger.db*"):
        path.unlink()
    if build_is_lost:
        (home / "build/.seen.json").unlink()
        delivered.home.edit("# bad", "# worse", "templates/caddy/Caddyfile")
        shutil.rmtree(home / "build/history")
    report = delivered.doit(days=2)
    assert (report.status, set(report.failed)) == (1, {"ledger"}), report.failed
    assert config.read_bytes() == first
    assert "deploy:media" not in delivered.doit(days=2.1).made
    assert config.read_bytes() == first


def test_a_rollback_that_fails_leaves_a_held_host_held(delivered: Live, invoke: Invoke) -> None:
    config, home = delivered.on("/etc/caddy/Caddyfile"), delivered.home.path
    for days, word in enumerate(("second", "third"), 1):
        delivered.home.edit("auto_https off", f"auto_https off # {word}", "templates/caddy/Caddyfile")
        assert delivered.doit(days=days).status == 0
    assert invoke("deploy.rollback", "media", "--yes", home=home, days=3).status == 0
    held, since = config.read_bytes(), delivered.delivery(3).payloads.recorded_pin()
    first = delivered.history()[0]["release"]
    (delivered.host.root / "broken").touch()
    assert invoke("deploy.rollback", "media", "--yes", "--to", first, home=home, days=4).status == 1
    (delivered.host.root / "broken").unlink()
    assert delivered.doit(days=5).status == 0
    assert since is not None
    assert (config.read_bytes(), delivered.delivery(5).payloads.recorded_pin()) == (held, since)
    assert first in {path.name for path in delivered.delivery(5).records.history.releases()}


def test_drift_and_diff_look_and_change_nothing(delivered: Live, invoke: Invoke) -> None:
    assert invoke("deploy.drift", "--host", "media", home=delivered.home.path).status == 0
    delivered.on("/etc/caddy/Caddyfile").write_text("edited\n")
    delivered.on("/etc/doit-pki/media.pem").write_text("also")
    before = delivered.host.touched()
    said = invoke("deploy.drift", "media", home=delivered.home.path)
    assert said.status == 2
    assert "Caddyfile differs" in said.out
    said = invoke("deploy.diff", "media", home=delivered.home.path)
    assert "PRIVATE" not in said.out
    assert "+private key SHA-256" in said.out
    assert delivered.host.touched() == before


def test_a_folder_that_others_can_write_on_a_host_is_told_until_it_is_closed(
    delivered: Live, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is placed changes it, so no run tries to: the next look finds it closed."""
    folder, home = delivered.on("/etc/caddy"), delivered.home
    folder.chmod(0o777)
    monkeypatch.setattr(probes, "probe_services", lambda *_: ())
    said = f"{folder} can be written by users other than root (everybody)"
    close = f"on media: chmod go-w {folder}; then: ./run invoke deploy.drift media"
    drift = invoke("deploy.drift", "media", home=home.path)
    assert (drift.status, said in drift.out, close in drift.out) == (2, True, True)
    for days in (0, 0.6):  # after the command, then after a run's own look, which changes nothing
        [found] = _drifts(home)
        assert (found.level, found.message, str(found.remedy)) == (Level.WARNING, said, close)
        assert delivered.delivery().stale(home.project().cache, START + timedelta(days=days)) == []
        delivered.delivery().records.record_drift([])
        assert delivered.doit(days=days + 0.6).made == {}
    folder.chmod(0o755)
    assert invoke("deploy.drift", "media", home=home.path).status == 0
    assert _drifts(home) == []


def _drifts(home: Home) -> list[Finding]:
    return [
        one for one in health_report.run_checks(home.project(), home.plan(), LastRun()) if one.subject == "drift:media"
    ]


def test_a_diff_names_an_ml_dsa_key_by_its_digest(delivered: Live, invoke: Invoke) -> None:
    delivered.home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: ml-dsa-65\n")
    report = delivered.doit(days=0.6)
    assert report.failed == {}
    delivered.on("/etc/doit-pki/media.pem").write_text("x")
    printed = invoke("deploy.diff", "media", home=delivered.home.path).out
    public = keys.open_leaf_key(delivered.home.read("build/certs/media/key.pem"), "media").public_key()
    assert f"+private key SHA-256 {keys.key_fingerprint(public)}" in printed
    assert "PRIVATE" not in printed


def test_drift_diff_and_doit_name_a_target_that_is_a_link(delivered: Live, invoke: Invoke) -> None:
    path, elsewhere = delivered.on("/etc/caddy/Caddyfile"), delivered.on("/srv/Caddyfile")
    elsewhere.parent.mkdir()
    content = path.read_bytes()
    path.rename(elsewhere)
    elsewhere.write_text("of somebody else\n")
    path.symlink_to("../../srv/Caddyfile")
    for name in ("roots.pem", "media.pem"):  # so many that they are not all named
        delivered.on(f"/etc/doit-pki/{name}").write_text("x")
    said = f"{path} is a link to ../../srv/Caddyfile, and is replaced by a file"
    done = said.replace(" is ", " was ")
    drift = invoke("deploy.drift", "media", home=delivered.home.path)
    assert (drift.status, said in drift.out) == (2, True)
    assert f"--- {path}: {said}\n" in invoke("deploy.diff", "media", home=delivered.home.path).out
    assert path.is_symlink()
    assert done in delivered.doit(days=0.6).made["deploy:media"]
    assert (path.is_symlink(), path.read_bytes(), elsewhere.read_text()) == (False, content, "of somebody else\n")


def test_a_link_in_the_folder_of_a_host_is_named_and_becomes_a_file(home: Home) -> None:
    path = home.path / "build/hosts/media/etc/caddy/Caddyfile"
    path.rename(other := home.path / "Caddyfile")
    path.symlink_to(other)
    content, said = other.read_bytes(), f"/etc/caddy/Caddyfile was a link to {other}, and was replaced by a file"
    assert home.doit().made == {"deploy:media": said}
    assert (path.is_symlink(), path.read_bytes(), other.read_bytes()) == (False, content, content)
    assert home.doit().made == {}


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Windows are in the local time of this machine; the clock of these tests starts at six."""
    import time  # noqa: PLC0415 - for tzset alone

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_time")
def test_a_host_is_changed_within_its_window_alone_unless_it_is_urgent(delivered: Live) -> None:
    delivered.home.edit("    deliver: ssh\n", '    deliver: ssh\n    window: "02:00-04:00"\n')
    delivered.home.edit("alerts:\n", 'schedule: ["03:00", "06:00"]\n\nalerts:\n')
    delivered.home.edit("auto_https off", "auto_https off # later", "templates/caddy/Caddyfile")
    config = delivered.on("/etc/caddy/Caddyfile")
    before = config.read_bytes()
    report = delivered.doit()
    assert (report.status, "deploy:media" in report.made) == (0, False)
    assert config.read_bytes() == before
    assert "waits for its window" in delivered.delivery().state(delivered.home.moment())
    assert delivered.doit(days=0.875).status == 0  # three in the morning
    assert config.read_bytes() != before


@pytest.mark.usefixtures("local_time")
def test_a_revocation_waits_for_no_window(delivered: Live, invoke: Invoke) -> None:
    delivered.home.edit("    deliver: ssh\n", '    deliver: ssh\n    window: "02:00-04:00"\n')
    delivered.home.edit("alerts:\n", 'schedule: ["03:00", "06:00"]\n\nalerts:\n')
    before = delivered.on("/etc/client-crl.pem").read_bytes()
    assert invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=delivered.home.path).status == 2
    assert delivered.doit().status == 0
    crl = x509.load_pem_x509_crl(delivered.on("/etc/client-crl.pem").read_bytes())
    assert len(list(crl)) == len(list(x509.load_pem_x509_crl(before))) + 1


# -- a receipt that is damaged or lost --------------------------------------------------------------------------------


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("how", [damage, lose])
def test_what_left_the_release_is_taken_away_where_only_the_host_knows_of_it(
    delivered: Live, how: Callable[[Path], None]
) -> None:
    how(delivered.home.path / "build/receipts/media.json")
    mine = delivered.on("/etc/caddy/mine")
    mine.write_bytes(b"of the admin\n")
    delivered.home.leave_out("caddy/Caddyfile")
    report = delivered.doit()
    assert report.status == 0, report.failed
    assert not delivered.on("/etc/caddy/Caddyfile").exists()
    assert mine.read_bytes() == b"of the admin\n"
    assert delivered.doit().made == {}


def test_a_damaged_receipt_changes_nothing_on_a_host_that_holds_its_release(delivered: Live) -> None:
    before, touched = delivered.receipt(), delivered.host.touched()
    damage(delivered.home.path / "build/receipts/media.json")
    report = delivered.doit()
    assert report.status == 0, report.failed
    assert delivered.host.touched() == touched
    assert delivered.receipt()["files"] == before["files"]
    assert delivered.doit().made == {}


def kept_crl(live: Live) -> Path:
    release = str(live.receipt()["release"])
    folder = live.home.path / f"build/history/media/{release}/files"
    return folder / str(live.on("/etc/client-crl.pem")).lstrip("/")


@pytest.mark.parametrize("name", ["the CRL", "the manifest"])
def test_a_damaged_release_in_the_history_holds_up_no_later_delivery(delivered: Live, name: str) -> None:
    kept = kept_crl(delivered)
    path = (
        kept
        if name == "the CRL"
        else next(one for one in kept.parents if one.name == "files").with_name("manifest.json")
    )
    damage(path)
    before = delivered.on("/etc/client-crl.pem").read_bytes()
    assert delivered.doit().status == 0
    report = delivered.doit(days=8)
    assert report.status == 0, report.failed
    assert delivered.on("/etc/client-crl.pem").read_bytes() != before


def test_a_host_does_not_go_back_to_a_release_that_is_damaged(delivered: Live, invoke: Invoke) -> None:
    kept = kept_crl(delivered)
    delivered.home.edit("auto_https off", "auto_https off # later", "templates/caddy/Caddyfile")
    assert delivered.doit().status == 0
    damage(kept)
    said = invoke("deploy.rollback", "media", "--yes", home=delivered.home.path)
    assert said.status == 1
    assert "is damaged" in said.error
    assert b"later" in delivered.on("/etc/caddy/Caddyfile").read_bytes()


@pytest.mark.usefixtures("local_time")
def test_a_revocation_waits_for_no_window_where_the_receipt_is_damaged(delivered: Live, invoke: Invoke) -> None:
    delivered.home.edit("    deliver: ssh\n", '    deliver: ssh\n    window: "02:00-04:00"\n')
    delivered.home.edit("alerts:\n", 'schedule: ["03:00", "06:00"]\n\nalerts:\n')
    before = delivered.on("/etc/client-crl.pem").read_bytes()
    damage(delivered.home.path / "build/receipts/media.json")
    assert invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=delivered.home.path).status == 2
    assert delivered.doit().status == 0
    assert delivered.on("/etc/client-crl.pem").read_bytes() != before


@pytest.mark.parametrize("answer", ["0644|root:root|-|-|relative", "0644|root:root|/etc/x", "x"])
def test_a_host_that_names_files_that_cannot_be_is_not_believed(answer: str) -> None:
    with pytest.raises(PkiError, match="invalid answer, not from pki-apply"):
        protocol.surplus_files("media", [{"looked": True, "more": answer}])


# -- what leaves and what does not ------------------------------------------------------------------------------------


def tampered(live: Live, path: str, change: Callable[[bytes], bytes]) -> Payload:
    """The release of the host with one file changed, as sound as its manifest can tell."""
    folder = live.home.path / "tampered"
    found = release.load(live.home.path / "build/release/media")
    assert found
    files = []
    for file in found.files:
        content = file.below(live.home.path / "build/release/media/files").read_bytes()
        if file.path == str(live.on(path)):
            content = change(content)
        target = file.below(folder / "files")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        files.append(replace(file, sha256=release._sha256(content)))  # noqa: SLF001 - the manifest's own digest
    made = replace(found, files=tuple(files))
    (folder / "manifest.json").write_bytes(made.manifest())
    payload = Payload.of(folder)
    assert payload
    return payload


def other_key(live: Live) -> Callable[[bytes], bytes]:
    other = live.home.read("build/certs/forge-mtls/tls.pem")
    mark = b"-----BEGIN CERTIFICATE"
    return lambda content: other[: other.index(mark)] + content[content.index(mark) :]


def without_intermediate(_: Live) -> Callable[[bytes], bytes]:
    end = b"-----END CERTIFICATE-----\n"
    return lambda content: content[: content.index(end) + len(end)]


def unreadable_key(_: Live) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN PRIVATE KEY-----\nAAAA", 1)


def unreadable_certificate(_: Live) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nAAAA", 1)


PEM = "/etc/doit-pki/media.pem"


@pytest.mark.parametrize(
    ("path", "change", "days", "said"),
    [
        (PEM, other_key, 0, "does not match the certificate beside it"),
        (PEM, without_intermediate, 0, "is delivered without its intermediate"),
        (PEM, unreadable_key, 0, "cannot be read"),
        (PEM, unreadable_certificate, 0, "a certificate in"),
        (PEM, lambda _: lambda content: content, 91, "is valid from 2026-11-23 to 2027-02-21 only"),
        (PEM, lambda _: lambda content: content, -2, "is valid from"),
        ("/etc/client-crl.pem", lambda _: lambda content: content, -2, "thisUpdate in the future"),
        ("/etc/client-crl.pem", lambda _: lambda content: content, 22, "has expired"),
        (
            PEM,
            lambda live: lambda _: live.home.read("build/certs/forge-mtls/tls.pem"),
            0,
            f"no certificate is valid for {NAME}",
        ),
    ],
)
def test_a_release_that_servers_would_choke_on_never_leaves(
    delivered: Live, path: str, change: Callable[[Live], Callable[[bytes], bytes]], days: float, said: str
) -> None:
    delivered.endpoints.append(Endpoint("jellyfin", NAME, "127.0.0.1", 1, "tls"))
    payload = tampered(delivered, path, change(delivered))
    with pytest.raises(PkiError, match=re.escape(said)) as refused:
        delivered.delivery().change(payload, None, delivered.home.moment(days)).check_release(None)
    assert refused.value.message.startswith("nothing was sent: ")


def test_a_crl_never_goes_back_nor_loses_an_entry(delivered: Live, invoke: Invoke) -> None:
    old = delivered.home.read("build/crl/client-1.pem")
    delivered.doit(days=7)
    now = delivered.home.moment(7)
    change = delivered.delivery(7).change
    present = Payload.of(delivered.home.path / "build/release/media")
    back = tampered(delivered, "/etc/client-crl.pem", lambda _: old)
    with pytest.raises(PkiError, match=r"has number \d+, the host has \d+: revocation never goes back"):
        change(back, None, now).check_release(present)
    invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=delivered.home.path, days=7)
    entries = delivered.home.read("build/crl/client-1.pem")
    assert delivered.doit(days=7).status == 0
    project = delivered.home.project(7)
    serial = next(iter(x509.load_pem_x509_crl(entries))).serial_number
    trust = ReleaseChecks(DesiredState.of(project)).trust
    assert (trust.is_revoked(serial), trust.has_expired(serial)) == (True, False)
    later = ReleaseChecks(DesiredState.of(delivered.home.project(400))).trust
    assert later.has_expired(serial)
    with_entry = Payload.of(delivered.home.path / "build/release/media")
    made = crl_signing.sign_crl(
        project.signing_keys.issuer("client"), 2**40, now + timedelta(hours=1), now + timedelta(days=9), []
    )
    emptied = made.public_bytes(serialization.Encoding.PEM)
    lost = tampered(delivered, "/etc/client-crl.pem", lambda _: emptied)
    with pytest.raises(PkiError, match=f"lacks the revoked {serial:x}"):
        change(lost, None, now + timedelta(days=1)).check_release(with_entry)


# -- CRLs that are in place on the host -------------------------------------------------------------------------------

CRL_THERE = "/etc/client-crl.pem"


def on_crl(live: Live) -> set[int]:
    """Serial numbers on the CRL that the host has."""
    return {entry.serial_number for entry in x509.load_pem_x509_crl(live.on(CRL_THERE).read_bytes())}


def client(live: Live) -> int:
    """The serial number of the certificate that `admin` has."""
    return x509.load_pem_x509_certificate(live.home.read("ca/clients/admin/cert.pem")).serial_number


def restored_from_before(live: Live, happens: Callable[[], object]) -> None:
    """Something happens, and is lost with ca/ and build/: what comes back is ca/ as it was before."""
    shutil.copytree(live.home.path / "ca", live.home.path / "before")
    happens()
    for lost in ("ca", "build"):
        shutil.rmtree(live.home.path / lost)
    (live.home.path / "before").rename(live.home.path / "ca")


@pytest.fixture
def restored(delivered: Live, invoke: Invoke) -> tuple[Live, int]:
    """The project after the restore of a backup that knows nothing of a revocation which the host has."""
    serial = client(delivered)

    def revoke() -> None:
        said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=delivered.home.path, days=1)
        assert said.status in {0, 2}, said  # nobody is there to prove it
        assert on_crl(delivered) == {serial}

    restored_from_before(delivered, revoke)
    return delivered, serial


def test_a_restored_backup_takes_no_revocation_back_and_recover_mends_it(
    restored: tuple[Live, int], invoke: Invoke
) -> None:
    """Three months later, the newly signed CRL has a higher number and a newer date: only its entries tell."""
    live, serial = restored
    home = live.home.path
    before = live.host.holds()
    said = live.because(live.doit(days=90))
    assert "media has newer CRLs than this project (was it restored from a backup?)" in said
    assert f"lacks the revoked {serial:x}, which number " in said
    assert said.endswith(" on the host lists → ./run invoke ledger.recover media")
    for command in ("deploy.push", "deploy.run"):
        refused = invoke(command, "media", *(["--dry-run"] if command == "deploy.run" else []), home=home, days=90)
        assert (refused.status, f"lacks the revoked {serial:x}" in refused.error) == (1, True), refused
    assert live.host.holds() == before
    found = invoke("ledger.recover", "media", home=home, days=90)
    assert found.status == 0, found
    assert f"{serial:x}" in found.out
    assert "./run doit" in found.out
    assert live.host.holds() == before
    report = live.doit(days=90)
    assert report.status == 0, report.failed
    assert serial in on_crl(live)
    assert live.home.project(90).ledger.verify() == []
    again = invoke("ledger.recover", "media", home=home, days=90)
    assert (again.status, "the ledger contained all of it already" in again.out) == (0, True), again
    assert live.doit(days=90).made == {}


def test_recovered_revocation_says_where_it_comes_from_and_keeps_date_and_reason(
    restored: tuple[Live, int], invoke: Invoke
) -> None:
    live, serial = restored
    assert invoke("ledger.recover", "media", home=live.home.path, days=90).status == 0
    project = live.home.project(90)
    (entry,) = project.ledger.revoked_entries("client-1", expiring_after=project.now)
    assert (entry.serial, entry.revoked_at, entry.reason) == (serial, live.home.moment(1), "keyCompromise")
    subjects = [event.subject for event in project.ledger.events()]
    assert "cert:client-admin, recovered from media" in subjects
    (issued,) = project.ledger.certificates(serial=serial)
    assert issued.revoked == "keyCompromise"


def test_a_crl_from_elsewhere_is_taken_in_if_it_is_our_own(
    restored: tuple[Live, int], invoke: Invoke, tmp_path: Path
) -> None:
    live, serial = restored
    crl = x509.load_pem_x509_crl(live.on(CRL_THERE).read_bytes())
    (tmp_path / "fetched.crl").write_bytes(crl.public_bytes(serialization.Encoding.DER))
    (tmp_path / "foreign.pem").write_bytes(foreign(live))
    (tmp_path / "none.pem").write_text("nothing")
    for name in ("foreign.pem", "none.pem", "gone.pem"):
        assert invoke("ledger.recover", "--file", name, home=live.home.path, days=90).status == 1
    assert invoke("ledger.recover", home=live.home.path).status == 1
    assert not live.home.project(90).ledger.revoked_serials(expiring_after=live.home.moment(90))
    said = invoke("ledger.recover", "--file", "fetched.crl", home=live.home.path, days=90)
    assert said.status == 0, said
    report = live.doit(days=90)
    assert report.status == 0, report.failed
    assert serial in on_crl(live)


def foreign(live: Live) -> bytes:
    """A CRL by somebody who only bears our authority's name."""
    ours = live.home.project().signing_keys.issuer("client").certificate
    key = keys.new_key("ec-p384")
    dates = ours.not_valid_before_utc, ours.not_valid_after_utc
    false = certificate_signing.sign_certificate(ours.subject, key.public_key(), dates, profiles.root_extensions(), key)
    end = live.home.moment(900)
    return pem_encoding.pem_of(
        [
            crl_signing.sign_crl(
                certificate_signing.Issuer(false, key),
                2**60,
                live.home.moment(),
                end,
                [CrlEntry(77, end, "superseded")],
            )
        ]
    )


def test_what_no_authority_of_ours_signed_holds_up_nobody_and_is_told(delivered: Live) -> None:
    for content in (foreign(delivered), b""):
        delivered.on(CRL_THERE).write_bytes(content)
        report = delivered.doit(days=7)
        assert report.status == 0, report.failed
        assert "client-crl.pem was not a CRL of this project" in report.made["deploy:media"]
        assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")
        shutil.rmtree(delivered.home.path / "build/contacts")


def test_a_crl_in_place_that_was_delivered_is_not_asked_for(delivered: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_session.Session, "show", lambda *_: pytest.fail("a CRL was asked for"))
    assert delivered.doit(days=7).status == 0
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")


def test_an_older_crl_put_in_place_there_is_replaced_without_asking(
    delivered: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own memory holds what was delivered: it need not travel."""
    old = delivered.on(CRL_THERE).read_bytes()
    change_something(delivered)
    assert delivered.doit(days=7).status == 0
    delivered.on(CRL_THERE).write_bytes(old)
    monkeypatch.setattr(host_session.Session, "show", lambda *_: pytest.fail("a CRL was asked for"))
    assert delivered.doit(days=8).status == 0
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")


def test_a_crl_in_place_that_cannot_be_read_is_not_replaced(restored: tuple[Live, int]) -> None:
    live, serial = restored
    live.on(CRL_THERE).rename(live.on("/elsewhere"))
    live.on(CRL_THERE).symlink_to(live.on("/elsewhere"))
    assert "may revoke more than ours → check it on the host" in live.because(live.doit(days=90))
    assert on_crl(live) == {serial}


def test_a_crl_from_the_future_in_place_gives_way_to_one_that_servers_can_use(delivered: Live) -> None:
    """What a clock that was ahead had signed: every client is refused until it is replaced."""
    project = delivered.home.project()
    start = delivered.home.moment(2)
    ahead = crl_signing.sign_crl(project.signing_keys.issuer("client"), 5, start, start + timedelta(days=9), [])
    delivered.on(CRL_THERE).write_bytes(pem_encoding.pem_of([ahead]))
    shutil.rmtree(delivered.home.path / "build/contacts")
    report = delivered.doit()
    assert report.status == 0, report.failed


def test_a_host_in_a_folder_takes_no_older_crl_either(home: Home, invoke: Invoke) -> None:
    place, serial = home.path / "build/hosts/monitoring/etc/doit-pki/client-crl.pem", 0
    shutil.copytree(home.path / "ca", home.path / "before")
    assert invoke("revoke", "admin", "--reason", "superseded", "--yes", home=home.path, days=1).status in {0, 2}
    (serial,) = {entry.serial_number for entry in x509.load_pem_x509_crl(place.read_bytes())}
    shutil.rmtree(home.path / "ca")
    (home.path / "before").rename(home.path / "ca")
    shutil.rmtree(home.path / "build/crl")
    (home.path / "build/.seen.json").unlink()  # the ledger would be known to be older, and no CRL be signed
    report = home.doit(days=20)
    assert f"lacks the revoked {serial:x}" in report.failed["deploy:monitoring"]
    assert {entry.serial_number for entry in x509.load_pem_x509_crl(place.read_bytes())} == {serial}
    said = invoke("ledger.recover", "--all", home=home.path, days=20)
    assert said.status == 0, said
    assert home.doit(days=20).status == 0
    assert {entry.serial_number for entry in x509.load_pem_x509_crl(place.read_bytes())} == {serial}


# -- targets that cannot be replaced ----------------------------------------------------------------------------------


def caddyfile_is_a_mount_point(live: Live) -> Path:
    path = live.on("/etc/caddy/Caddyfile")
    (live.host.root / "mountinfo").write_text(f"3 1 0:1 /x {path} rw - x x rw\n")
    live.host.adapt("/proc/self/mountinfo 2>/dev/null", f"{live.host.root}/mountinfo")
    return path


def test_a_release_that_cannot_be_placed_is_refused_and_the_crls_are_placed_all_the_same(delivered: Live) -> None:
    path = caddyfile_is_a_mount_point(delivered)
    old, reloads = path.read_bytes(), delivered.reloads()
    change_something(delivered)
    report = delivered.doit(days=7)
    assert delivered.because(report) == f"{path} is a mount point → on media: umount {path}"
    assert path.read_bytes() == old
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")
    assert delivered.reloads() == reloads + 1
    (delivered.host.root / "mountinfo").write_text("")
    assert delivered.doit(days=7).status == 0


def test_an_undo_that_is_stuck_is_told_and_the_crls_are_placed_all_the_same(delivered: Live) -> None:
    path = delivered.on("/etc/caddy/Caddyfile")
    back = 'mv -fT "$old" "../$name"; fi || lost='
    lying(delivered, f"else {back}", f'else [ "$path" != {path} ] && {back}')
    change_something(delivered)
    (delivered.host.root / "broken").touch()
    assert f"{path} could not be restored" in delivered.because(delivered.doit())
    (delivered.host.root / "broken").unlink()
    told = f"an earlier change cannot be undone: {path} could not be restored; until then only CRLs are delivered"
    assert delivered.because(delivered.doit(days=7)) == f"{told} → on media: ls -ld {path}"
    assert delivered.on(CRL_THERE).read_bytes() == delivered.home.read("build/crl/client-1.pem")
    lying(delivered, f'else [ "$path" != {path} ] && {back}', f"else {back}")
    assert delivered.doit(days=7).status == 0
    assert b"# changed" in path.read_bytes()


# -- what is read from hosts -------------------------------------------------------------------------------------------


def test_a_crl_without_an_end_is_read_in_linear_time_and_replaced(delivered: Live) -> None:
    place = delivered.on(CRL_THERE)
    place.write_bytes(b"-----BEGIN X509 CRL-----\n" * (900_000 // 25))
    report = delivered.doit(days=0.6)
    assert report.status == 0, report.failed
    assert f"{CRL_THERE} was not a CRL of this project" in report.made["deploy:media"]
    assert place.read_bytes() == delivered.home.read("build/crl/client-1.pem")


def test_a_crl_that_is_larger_than_ours_could_be_is_not_read(delivered: Live) -> None:
    place = delivered.on(CRL_THERE)
    place.write_bytes(b"-----BEGIN X509 CRL-----\n" + b"A" * (1 << 20))
    told = delivered.refusal(days=0.6)
    assert f"{CRL_THERE} on the host has 1048601 bytes, more than the limit of 1048576" in told
    assert f"on media: ls -l {place}" in told
    place.write_bytes(b"-----BEGIN X509 CRL-----\n" + b"A" * ((1 << 20) - 25))
    assert delivered.doit(days=0.6).status == 0


def test_a_diff_shows_what_a_host_has_and_none_of_it_moves_the_terminal(delivered: Live, invoke: Invoke) -> None:
    host = delivered.on("/etc/caddy/Caddyfile")
    for folder in (host, *host.parents):  # so that everybody may read it
        if folder.owner() == host.owner():
            folder.chmod(folder.stat().st_mode | (0o044 if folder == host else 0o111))
    host.write_text(f"\x1b]0;owned\x07\x1b[2J\x9b\u202e\u2028evil\r\n{'x' * 100_000}\n")
    said = invoke("deploy.diff", "media", home=delivered.home.path)
    assert "-\\x1b]0;owned\\x07\\x1b[2J\\x9b\\u202e\\u2028evil\\r\n" in said.out
    assert all(len(line) < 5000 for line in said.out.splitlines())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", said.out)
    host.write_text("".join(f"{number}\n" for number in range(100_000)))
    assert "100000 lines on the host" in invoke("deploy.diff", "media", home=delivered.home.path).out


def test_the_log_of_a_host_and_its_contact_record_are_bounded(tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    log = History(tmp_path / "media")
    for number in range(2100):
        log.add_log_entry(now, f"{number:064x}", "failed", why="x")
    assert 1000 <= len(log.log_entries()) <= 2000
    assert log.log_entries()[-1]["release"] == f"{2099:064x}"
    for number in range(700):
        log.add_log_entry(now, f"{number:064x}", "failed", why="y" * 1_000_000)
    assert (tmp_path / "media/log.jsonl").stat().st_size < 1_100_000
    assert all(len(str(note["why"])) <= 2000 for note in log.log_entries())
    assert len(Contact().failed(now, PkiError("z" * 1_000_000)).message) == 2000


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1s", 1), ("2m", 120), ("15m", 900)])
def test_the_time_that_a_host_may_take_is_seconds_or_minutes(text: str, seconds: int) -> None:
    said = Deploy.model_validate({"progress_timeout": text, "host_timeout": text})
    assert (said.progress_timeout, said.host_timeout) == (timedelta(seconds=seconds),) * 2


@pytest.mark.parametrize("text", ["0s", "16m", "901s", "1h", "90", "-1s", "1.5m", "", "1000000s"])
def test_a_time_that_no_host_may_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected seconds or minutes such as|more than 15m"):
        Deploy.model_validate({"host_timeout": text})


def test_a_host_that_waits_for_another_of_its_group_is_given_that_time(delivered: Live) -> None:
    """Its own clock stands still meanwhile."""
    change_something(delivered)
    assert delivered.home.doit("release:media").status == 0
    delivery = delivered.delivery()
    payload = delivery.payloads.desired()
    assert payload
    change = delivery.change(payload, delivery.records.receipt, delivered.home.moment())

    @contextmanager
    def turn() -> Iterator[None]:
        time.sleep(1.2)
        yield

    transport = replace(change.destination.transport, limits=process.Limits(30.0, 30.0))
    change.destination = replace(change.destination, transport=transport, group_lock=turn())
    before = host_session.Session.extend_deadline
    given: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            host_session.Session,
            "extend_deadline",
            lambda self, seconds: (given.append(seconds), before(self, seconds)),
        )
        assert change.deliver(delivery.payloads.delivered).done
    assert given[0] >= 1.2


# -- hosts that cannot be spoken with ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OtherTransport(LocalTransport):
    """A transport on which something else than pki-apply answers: a shell script."""

    script: str = ""

    def command(self, *, as_root: bool) -> tuple[str, ...]:  # noqa: ARG002
        return ("/bin/sh", "-c", self.script)


def answered_by(live: Live, script: str) -> None:
    live.transports["media"] = OtherTransport("media", name="media", script=script)


@pytest.mark.parametrize(
    ("complaint", "status", "said"),
    [
        ("Host key verification failed.", 255, "host key of media is not in known_hosts → compare its fingerprint"),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.", 255, "ssh-keygen -R media"),
        (
            "root@media: Permission denied (publickey).",
            255,
            "permission denied: the host does not accept the deployment key",
        ),
        (
            "sh: 1: /usr/local/sbin/pki-apply: not found",
            127,
            "pki-apply is not installed → ./run invoke deploy.bootstrap",
        ),
        ("sudo: a password is required", 1, "sudo does not permit the account to run pki-apply"),
        ("\033]0;owned\007\033[2Jall is well", 3, "pki-apply failed: \\x1b]0;owned\\x07\\x1b[2Jall is well"),
        ("", 3, "the login shell of the deployment account on media ended with 3 before pki-apply started"),
    ],
)
def test_what_ssh_says_is_told_with_what_to_type(delivered: Live, complaint: str, status: int, said: str) -> None:
    (delivered.host.root / "complaint").write_text(complaint)
    answered_by(delivered, f"cat {delivered.host.root}/complaint >&2; exit {status}")
    told = delivered.refusal()
    assert said in told
    assert "\033" not in told


def test_a_host_that_is_down_is_told_with_since_when_and_how_long_it_may_be(delivered: Live) -> None:
    change_something(delivered)
    answered_by(delivered, "echo 'ssh: connect to host media port 22: No route to host' >&2; exit 255")
    assert delivered.because(delivered.doit()).startswith(
        "unreachable; its certificate expires in 20 days (ssh: connect"
    )
    said = delivered.because(delivered.doit(days=3))
    assert said.startswith(
        "unreachable for 3 days; its certificate expires in 17 days (ssh: connect to host media port 22"
    )
    delivered.transports["media"] = delivered.host.transport()
    assert delivered.doit(days=3).status == 0
    assert delivered.delivery(3).records.contact.failing_since == ""


HELLO = 'echo "{\\"pki-apply\\":1}"'
WELCOME = "the login shell of the deployment account on media prints text before pki-apply starts: "
LIES = {
    "nonsense": ("echo Welcome to media; cat >/dev/null", f"{WELCOME}'Welcome to media'"),
    "another shape": ("echo '[1,2]'; cat >/dev/null", f"{WELCOME}'[1,2]'"),
    "deep": ('awk \'BEGIN { while (i++ < 9999) printf "["; print "" }\'; cat >/dev/null', f"{WELCOME}'[["),
    "a list for a number": (f'{HELLO}; echo \'{{"n":[1],"is":"same"}}\'; cat >/dev/null', "invalid answer"),
    "an unknown file": (
        f'{HELLO}; echo \'{{"n":1,"is":"same","sha256":"","path":"/etc/shadow"}}\'; cat >/dev/null',
        "invalid answer, not from pki-apply",
    ),
    "nothing of the files": (
        f"{HELLO}; echo '{{\"looked\":true}}'; cat >/dev/null",
        "invalid answer, not from pki-apply",
    ),
    "an error of many lines": (
        """printf '%s\\n' '{"error":"one\\ntwo\\u001b[31m"}'; cat >/dev/null""",
        "one two\\x1b[31m → ./run invoke deploy.bootstrap media",
    ),
    "silence": ("sleep 30", "stopped: it sent no answer for 0.4 s"),
    "deafness": ("exec 0<&-; sleep 30", "stopped: it sent no answer for 0.4 s"),
    "half a line": ("printf '{\"pki-apply\":'; sleep 30", "stopped: it sent no answer for 0.4 s"),
    "a byte now and then": (
        "while printf x; do sleep 0.1; done",
        "stopped: it sent no answer for 0.4 s",
    ),
    "an answer now and then": (
        'while echo "{\\"state\\":\\"undone\\"}"; do sleep 0.2; done',
        "stopped: it took longer than 2 s in all",
    ),
    "a flood": ('exec yes \'{"state":"undone"}\'', "stopped: it sent more than 160 answers"),
    "a flood after the greeting": (f'{HELLO}; exec yes \'{{"state":"same"}}\'', "invalid answer, not from pki-apply"),
    "an endless line": ("exec tr '\\0' a </dev/zero", "stopped: it sent a line of more than 65536 bytes"),
    "endless complaints": ("(yes >&2) & sleep 0.2; kill $!; exit 9", "pki-apply failed: y"),
    "endless complaints and no answer": ("yes >&2 & exec sleep 30", "stopped: it sent no answer for 0.4 s"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_talks_nonsense_fails_alone_and_in_time(
    delivered: Live, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, said = LIES[lie]
    monkeypatch.setattr(process, "EXIT_TIMEOUT", 0.1)
    answered_by(delivered, script)
    delivered.transports["media"] = replace(delivered.transports["media"], limits=process.Limits(0.4, 2.0))
    told = delivered.refusal()
    assert said in told
    assert told.isprintable()
    assert [note["what"] for note in delivered.history()] == ["delivered", "failed"]


def test_the_other_hosts_are_served_while_one_talks_nonsense(delivered: Live) -> None:
    change_something(delivered)
    answered_by(delivered, LIES["nonsense"][0])
    report = delivered.doit()
    assert delivered.because(report).startswith(LIES["nonsense"][1])
    assert report.made.keys() >= ELSEWHERE


def lying(live: Live, old: str, new: str) -> None:
    """The real script, with one lie in it."""
    live.host.adapt(old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('state = "edited"', 'state = "edited"', ""),
        ('sum[$9] != $5 ? "edited" :', '0 ? "" :', "is up to date, with another digest"),
        ('{"state":"placed"}', '{"state":"kept"}', "invalid answer, not from pki-apply: {'state': 'kept'}"),
        ("keep) keep keep ;;", 'keep) send "{\\"state\\":\\"done\\"}" ;;', "invalid answer, not from pki-apply"),
        ("keep) keep keep ;;", "keep) exit 0 ;;", "the host rolled the change back by itself"),
    ],
    ids=["the PEM bundle", "same", "kept", "undone", "gone"],
)
def test_a_host_that_lies_about_a_change_is_not_believed(delivered: Live, old: str, new: str, said: str) -> None:
    before = delivered.host.holds()
    change_something(delivered)
    if said:
        lying(delivered, old, new)
        assert said in delivered.because(delivered.doit())
        assert delivered.host.holds() == before
        assert len({note["release"] for note in delivered.history() if note["what"] == "delivered"}) == 1
    else:
        assert delivered.doit().status == 0


# -- what a host is prepared with -------------------------------------------------------------------------------------


def permissions(delivered: Live, *commands: str) -> Sequence[str]:
    payload = Payload.of(delivered.home.path / "build/release/media")
    assert payload
    files = [replace(payload.release.files[0], validate=command) for command in commands]
    few = replace(payload, release=replace(payload.release, files=tuple(files)))
    return bootstrap.permissions_text("media", few, exact=True).splitlines()


@pytest.mark.parametrize("proxy", list(PROGRAMS))
def test_every_proxy_starts_at_boot_after_an_interrupted_delivery_was_undone(proxy: Proxy) -> None:
    script = (PROJECT / "pki/deploy/host/bootstrap.sh").read_text()
    [before] = [line for line in script.splitlines() if line.startswith("Before=")]
    assert f"{PROGRAMS[proxy].unit or proxy}.service" in before.removeprefix("Before=").split()


@pytest.mark.parametrize(
    ("complaint", "what", "next_"),
    [
        (
            "root@media: Permission denied (publickey).",
            "permission denied: the host does not accept the deployment key",
            "give ssh a login on the host",
        ),
        (
            "ssh: connect to host media port 22: No route to host",
            "cannot be reached: ssh:",
            "give ssh a login on the host",
        ),
        ("Host key verification failed.", "host key of media is not in known_hosts", "compare its fingerprint"),
    ],
)
def test_a_bootstrap_that_ssh_does_not_let_in_is_told_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, what: str, next_: str
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    prepared = bootstrap.Bootstrap("media", "host media\n", "root", "ssh-ed25519 AAAA doit-pki")
    with pytest.raises(PkiError) as refused:
        bootstrap.install(prepared, Transport("media", "media"), as_root=True)
    assert refused.value.message.startswith(what)
    assert refused.value.hint.startswith(next_)


def test_a_bootstrap_that_a_login_shell_ends_in_silence_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit 3\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    prepared = bootstrap.Bootstrap("media", "host media\n", "root", "ssh-ed25519 AAAA doit-pki")
    with pytest.raises(PkiError) as refused:
        bootstrap.install(prepared, Transport("media", "media"), as_root=True)
    assert refused.value.message.startswith("ssh ended with exit status 3 and no message")
    assert "~/.bashrc" in refused.value.message
    assert refused.value.hint.startswith("by hand: ./run invoke deploy.bootstrap media --show")


def test_the_script_that_is_shown_is_all_that_is_shown(delivered: Live, invoke: Invoke) -> None:
    said = invoke("deploy.bootstrap", "media", "--show", home=delivered.home.path)
    assert said.status == 0, said
    assert said.out.startswith("#!/bin/sh\n")
    assert said.out.endswith("printf 'pki-apply is installed\\n'\n")


def test_an_account_that_may_write_in_folders_is_trusted_by_an_option(delivered: Live, invoke: Invoke) -> None:
    home = delivered.home.path
    said = invoke("deploy.bootstrap", "media", "--show", "--trust", "freerad", "--trust", "Debian-exim", home=home)
    assert "\ntrust freerad\ntrust Debian-exim\nEND-OF-PERMISSIONS\n" in said.out
    assert "\ntrust " not in invoke("deploy.bootstrap", "media", "--show", home=home).out
    for name in ("root", "a b", ""):
        said = invoke("deploy.bootstrap", "media", "--show", "--trust", name, home=home)
        assert said.error.startswith(f"--trust {name!r}: expected the name of an account or group, such as freerad"), (
            said
        )


def test_two_commands_never_share_a_name_on_a_host(delivered: Live) -> None:
    assert "run nginx-t nginx -t" in permissions(delivered, "nginx -t", "nginx -T -q")
    with pytest.raises(PkiError, match="'nginx t' and 'nginx -t' have the name 'nginx-t' on the host"):
        permissions(delivered, "nginx -t", "nginx t")
    with pytest.raises(PkiError, match=r"'\./\$' has the name '-' on the host"):
        permissions(delivered, "./$")


def test_the_script_that_prepares_a_host_is_one_that_sh_understands_and_holds_no_secret() -> None:
    text = bootstrap.Bootstrap("media", "host media\n", "pki", "ssh-ed25519 AAAA doit-pki").script()
    assert not re.search(r"@[A-Z_]+@", text)
    assert "put /usr/local/sbin/pki-trust 0755" in text
    assert 'restrict,command="sudo -n /usr/local/sbin/pki-apply" ssh-ed25519 AAAA doit-pki' in text
    assert "PRIVATE KEY-----" not in text
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize("said", [[], ["windows"], ["java-root"]])
def test_a_trust_store_that_is_none_is_refused_on_the_host(said: list[str]) -> None:
    done = subprocess.run(["sh", bootstrap.HOST_SIDE / "pki-trust", *said], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pki-trust: expected debian, rhel, nss or java\n")
