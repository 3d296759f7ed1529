"""How a project treats its ledger, whatever database that is in: the tests of SQLite and PostgreSQL alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.ceremony.online import make_request
from pki.common import sealed_records
from pki.common.errors import LedgerError
from pki.ledger.types import EMPTY, FOREIGN, MISSING, NEWEST_MISSING, OLDER, UNKNOWN_AUTHORITIES, Issued
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.revocation import CrlEntry
from tests.support.commands import Said, said_by
from tests.support.projects import START, Home


class Base(Protocol):
    """The database of a ledger, as an administrator handles it."""

    def snapshot(self) -> object: ...

    def put_back(self, snapshot: object) -> None: ...

    def empty(self) -> None: ...

    def query(self, statement: str) -> list[list[str]]: ...


@dataclass(frozen=True)
class Site:
    """A project, its ledger's database, and its commands."""

    home: Home
    base: Base
    capsys: pytest.CaptureFixture[str]

    def invoke(self, *arguments: str, days: float = 0) -> Said:
        return said_by(self.capsys, *arguments, pki_home=str(self.home.path), pki_now=self.home.moment(days))

    def revoke(self, days: float = 0) -> int:
        """Revoke the example's client by the command, deployed hosts and all; returns its serial number."""
        serial = self.newest("cert:client-admin").serial
        output = self.invoke("revoke", "admin", "--reason", "key-compromise", "--yes", days=days)
        assert output.status in {0, 2}, output
        assert serial in self.listed()
        return serial

    def newest(self, artifact: str) -> Issued:
        project = self.home.project()
        certificate = project.ledger.certificates(artifact=artifact)[-1]
        project.ledger.close()
        return certificate

    def listed(self, generation: str = "client-1") -> set[int]:
        data = self.home.read(f"build/crl/{generation}.crl")
        return {entry.serial_number for entry in x509.load_der_x509_crl(data)}

    def recorded(self) -> set[int]:
        project = self.home.project()
        serials = set(project.ledger.revoked_serials(expiring_after=START, issuer="client-1"))
        project.ledger.close()
        return serials

    def check(self, days: float = 0) -> Finding:
        """What health says of the ledger."""
        project = self.home.project(days)
        findings = health_report.run_checks(project, self.home.plan(days), LastRun(), thorough=False)
        project.ledger.close()
        return next(finding for finding in findings if finding.subject == "ledger")

    def kind(self, days: float = 0) -> str:
        project = self.home.project(days)
        fault = project.ledger_view.fault
        return fault.kind if fault else ""

    def forget(self, *evidence: str) -> None:
        for path in evidence:
            file = self.home.path / path
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)


ALL = ("ca/.ledger-head.json", "build/.seen.json", "ca/.last-backup.json", "build/crl")


class LedgerBehaviour:
    """Rules that hold on every database; a subclass gives `site`."""

    @pytest.fixture
    def site(self, home: Home) -> Site:
        raise NotImplementedError

    # -- identity and actors --

    def test_a_project_has_one_identity_in_ca_and_in_its_ledger(self, site: Site) -> None:
        written = site.home.read("ca/project-id").decode().split()[0]
        assert len(written) == 32
        assert site.base.query("select project from head") == [[written]]
        assert site.home.doit(days=1).made == {}

    def test_every_event_says_who_recorded_it_and_the_chain_covers_that(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SUDO_USER", "ali(ce)")
        monkeypatch.setenv("PKI_ACTOR", "night\x1b[31m run " + "x" * 99)
        assert site.invoke("renew", "media").status == 0
        [[actor]] = site.base.query("select actor from events where seq = (select max(seq) from events)")
        assert actor.endswith(f" (sudo ali?ce?) (PKI_ACTOR night?[31m run {'x' * 49})")
        assert actor[:-1] in site.invoke("ledger.show", f"{site.newest('cert:media').serial:x}").out.replace("\n", "")
        site.base.query("update events set actor = 'mallory' where seq = 2")
        faults = site.home.project().ledger.verify()
        assert any(fault.startswith("event 2 ") and fault.endswith("was changed") for fault in faults), faults

    def test_another_project_on_the_same_database_is_refused(self, site: Site) -> None:
        events = site.base.query("select count(*) from events")
        project = "0" * 32
        site.home.write("ca/project-id", f"{project} {sealed_records.short_digest({'project': project})}\n")
        site.forget("build/.seen.json")
        for arguments in (("ledger.list",), ("ledger.verify",), ("renew", "media")):
            output = site.invoke(*arguments)
            assert output.status == 1, arguments
            assert "belongs to project" in output.error, output
            assert "ca/project-id" in output.error
            assert "restore FILE" in output.error
        assert site.home.doit(days=8).status == 1
        assert site.kind() == FOREIGN
        assert site.check().level is Level.CRITICAL
        assert "belongs to project" in site.invoke("ledger.accept-loss", "--yes").error
        assert site.base.query("select count(*) from events") == events

    def test_an_identity_that_was_lost_is_that_of_the_ledger_which_knows_our_authorities(self, site: Site) -> None:
        before = site.home.read("ca/project-id")
        site.forget("ca/project-id", "build/.seen.json")
        assert site.home.doit(days=1).status == 0
        assert site.home.read("ca/project-id") == before

    # -- lost, empty, older --

    @pytest.mark.parametrize("left", [*ALL, ""])
    def test_a_ledger_from_before_signs_nothing_whatever_remembers_the_newest(self, site: Site, left: str) -> None:
        """Without any evidence (the last case: a whole machine from a snapshot), only hosts know: they are asked then."""
        before = site.base.snapshot()
        serial = site.revoke()
        if left == "ca/.last-backup.json":
            words = site.home.write("words", "correct horse battery staple lamp five\n")
            assert site.invoke("backup", str(site.home.path / "b.age"), "--passphrase-file", str(words)).status == 0
        site.forget(*(place for place in ALL if place != left))
        site.base.put_back(before)
        if not left:
            assert site.kind() == ""
            return
        assert site.kind() == OLDER
        crl = site.home.read("build/crl/client-1.crl") if left == "build/crl" else b""
        report = site.home.doit(days=8)
        assert report.status == 1
        assert left in report.failed["ledger"]
        assert "accept-loss" in report.failed["crl:client-1"]
        if crl:
            assert site.home.read("build/crl/client-1.crl") == crl
            assert serial in site.listed()
        assert site.check(8).level is Level.CRITICAL
        assert site.invoke("plan", days=8).status == 2
        assert site.invoke("revoke", "media", "--reason", "superseded", "--yes", days=8).status == 1

    def test_a_run_with_nothing_to_do_notices_an_older_ledger_at_once(self, site: Site) -> None:
        before = site.base.snapshot()
        site.revoke()
        assert site.home.doit(days=0.1).status == 0
        site.base.put_back(before)
        report = site.home.doit(days=0.2)
        assert (report.status, "older than a state that was seen" in report.failed["ledger"]) == (1, True)

    def test_a_ledger_that_went_on_from_an_older_one_is_noticed_too(self, site: Site) -> None:
        """It has as many events as were seen, but others."""
        before = site.base.snapshot()
        site.revoke()
        contents = {path: site.home.read(path) for path in ("ca/.ledger-head.json", "build/.seen.json")}
        site.base.put_back(before)
        site.forget(*ALL, "build/hosts", "build/receipts")
        for days in (1, 8, 15):
            assert site.home.doit(days=days).status == 0
        [[newest]] = site.base.query("select max(seq) from events")
        assert int(newest) > json.loads(contents["ca/.ledger-head.json"])["events"]
        for path, data in contents.items():
            (site.home.path / path).write_bytes(data)
        assert site.kind(16) == OLDER

    @pytest.mark.parametrize("build_is_lost", [False, True])
    def test_an_empty_ledger_is_never_filled_again_by_itself(self, site: Site, build_is_lost: bool) -> None:
        serial = site.revoke()
        site.base.empty()
        if build_is_lost:
            site.forget("build")
        report = site.home.doit(days=8)
        assert report.status == 1
        assert "accept-loss" in report.failed["ledger"]
        assert build_is_lost or serial in site.listed()
        assert site.kind() in {EMPTY, MISSING}
        assert site.check(8).level is Level.CRITICAL
        assert not (site.home.path / "build/crl/client-1.crl").exists() or not build_is_lost

    def test_an_empty_ledger_does_not_stop_what_needs_no_signature(self, site: Site) -> None:
        site.base.empty()
        site.forget("build/hosts/forge", "build/receipts/forge.json")
        report = site.home.doit(days=1)
        assert set(report.failed) == {"ledger"}
        assert "deploy:forge" in report.made

    @pytest.mark.parametrize("how", ["empty", "older"])
    def test_an_explicit_command_lets_a_lost_ledger_go_on_with_every_known_revocation(
        self, site: Site, how: str
    ) -> None:
        before = site.base.snapshot()
        serial = site.revoke()
        site.base.empty() if how == "empty" else site.base.put_back(before)
        refused = site.invoke("ledger.accept-loss", days=8)
        assert (refused.status, "there is no terminal to ask" in refused.error) == (1, True)
        output = site.invoke("ledger.accept-loss", "--yes", days=8)
        assert output.status == 0, output
        assert serial in site.recorded()
        assert site.kind(8) == ""
        report = site.home.doit(days=8)
        assert report.status == 0, report.failed
        assert serial in site.listed()
        assert site.home.doit(days=8.1).made == {}
        project = site.home.project(9)
        assert project.ledger.verify() == []
        assert [
            decision.artifact for decision in project.ledger.decisions() if decision.decision == "ledger-accepted"
        ] == ["ledger"]
        assert site.invoke("ledger.accept-loss", "--yes", days=9).status == 1
        assert site.check(9).level is Level.OK

    def test_hosts_that_know_every_revocation_let_an_older_ledger_go_on(self, site: Site) -> None:
        before = site.base.snapshot()
        serial = site.revoke()
        site.base.put_back(before)
        site.forget("build/crl")
        output = site.invoke("ledger.recover", "--all", days=8)
        assert (output.status, f"{serial:x}" in output.out) == (0, True), output
        assert site.kind(8) == ""
        assert site.home.doit(days=8).status == 0
        assert serial in site.listed()

    def test_a_recovery_that_finds_too_little_lets_nothing_go_on(self, site: Site) -> None:
        before = site.base.snapshot()
        site.revoke()
        site.base.put_back(before)
        site.forget("build/crl", "build/hosts")
        site.invoke("ledger.recover", "--all", days=1)
        assert site.kind(1) == OLDER

    def test_newest_events_that_are_missing_stop_signing(self, site: Site) -> None:
        site.base.query("delete from events where seq = (select max(seq) from events)")
        assert site.kind(8) == NEWEST_MISSING
        assert "crl:client-1" in site.home.doit(days=8).failed
        assert site.invoke("ledger.accept-loss", "--yes").status == 1

    def test_a_ledger_that_knows_none_of_our_authorities_signs_nothing(self, site: Site) -> None:
        site.base.query("delete from certificates where profile in ('root', 'server-ca', 'client-ca')")
        site.forget(*ALL)
        assert site.kind(8) == UNKNOWN_AUTHORITIES
        assert "crl:client-1" in site.home.doit(days=8).failed
        assert site.check(8).level is Level.CRITICAL

    def test_no_ceremony_is_asked_for_by_an_older_ledger(self, site: Site) -> None:
        """The root would sign CRLs without what the ledger lost."""
        before = site.base.snapshot()
        site.revoke()
        site.base.put_back(before)
        site.home.edit("sandbox: true", "sandbox: true # still")
        with pytest.raises(LedgerError, match="older than a state"):
            make_request.RequestPreparation(site.home.project(1)).prepare(
                make_request.RequestOptions(generations=("server",))
            )

    def test_verifying_an_older_ledger_says_so(self, site: Site) -> None:
        before = site.base.snapshot()
        site.revoke()
        assert site.invoke("ledger.verify").status == 0
        site.base.put_back(before)
        output = site.invoke("ledger.verify")
        assert (output.status, "older than a state that was seen" in output.out) == (1, True)

    # -- entries that the ledger lacks --

    def test_an_entry_that_our_crl_lists_and_the_ledger_lacks_is_recovered_by_the_next_run(self, site: Site) -> None:
        serial = site.revoke()
        self._delete_revocation(site)
        assert site.recorded() == set()
        due = site.invoke("plan", days=1)
        assert "lists 1 revoked certificate that the ledger does not contain" in due.out
        report = site.home.doit(days=1)
        assert report.status == 0, report.failed
        assert report.made["crl:client-1"] == "lists 1 revoked certificate that the ledger does not contain"
        assert (site.recorded(), site.listed()) == ({serial}, {serial})
        subjects = [event.subject for event in site.home.project().ledger.events()]
        assert "cert:client-admin, recovered from build/crl/client-1.crl" in subjects
        assert site.home.doit(days=1.1).made == {}

    @pytest.mark.parametrize("spoil", ["forged", "damaged"])
    def test_a_forged_or_damaged_crl_adds_nothing(self, site: Site, spoil: str) -> None:
        path = site.home.path / "build/crl/client-1.crl"
        if spoil == "forged":
            path.write_bytes(_forged(site.home))
        else:
            site.revoke()
            self._delete_revocation(site)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(bytes(data))
        site.home.doit(days=1)
        assert site.recorded() == set()
        assert site.kind(1) == ""

    def _delete_revocation(self, site: Site) -> None:
        site.base.query("delete from revocations")

    # -- CRLs as rows --

    def test_a_crl_is_recorded_by_what_changed_and_not_by_its_text(self, site: Site) -> None:
        serial = site.revoke()
        rows = site.base.query("select pem, added, removed, entries from crls where issuer = 'client-1' order by seq")
        assert rows[-1] == ["", f"{serial:x}", "", "1"]
        site.home.doit(days=8)
        rows = site.base.query("select pem, added, removed, entries from crls where issuer = 'client-1' order by seq")
        assert rows[-1] == ["", "", "", "1"]
        assert site.home.project().ledger.verify() == []
        site.base.query(
            "update crls set added = '77' where seq = (select max(seq) from crls where issuer = 'client-1')"
        )
        assert any("its crl of crl:client-1 was changed" in fault for fault in site.home.project().ledger.verify())

    # -- what is remembered --

    def test_a_run_with_nothing_to_do_acts_on_what_was_recorded_elsewhere(self, site: Site) -> None:
        """As another machine does, on a database that both write to."""
        assert site.home.doit(days=0.1).made == {}
        project, serial = site.home.project(0.1), site.newest("cert:client-admin").serial
        issued = project.ledger.certificates(serial=serial)[0]
        project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
        project.ledger.close()
        assert "cert:client-admin" in site.home.doit(days=0.2).made
        assert serial in site.listed()

    def test_pins_outlast_build_and_a_ledger_that_is_lost(self, site: Site) -> None:
        project = site.home.project()
        project.ledger.record_decision("deploy:forge", "pinned", "abc", START)
        project.ledger.record_decision("deploy:media", "pinned", "abc", START)
        project.ledger.record_decision("deploy:media", "unpinned", "", START)
        project.ledger.close()
        site.forget("build")
        assert set(site.home.project().host_decisions.pins or {}) == {"forge"}
        site.home.doit(days=0.1)
        site.home.doit(days=0.2)
        site.base.empty()
        project = site.home.project(0.3)
        assert set(project.host_decisions.pins or {}) == {"forge"}
        site.forget("build")
        project = site.home.project(0.4)
        assert project.host_decisions.pins is None
        assert project.host_decisions.pin("anything") is not None

    def test_recording_is_refused_by_the_guard_before_anything_is_written(self, site: Site) -> None:
        before = site.base.snapshot()
        site.revoke()
        site.base.put_back(before)
        project, issued = site.home.project(1), site.newest("cert:media")
        count = site.base.query("select count(*) from events")
        for record in (
            lambda: project.ledger.record_revocation(issued, reason="superseded", at=START),
            lambda: project.ledger.record_decision("cert:media", "withheld", "", START),
            lambda: project.signing_keys.issuer("server"),
        ):
            with pytest.raises(LedgerError, match="older than a state") as refusal:
                record()
            assert refusal.value.kind == OLDER
        assert site.base.query("select count(*) from events") == count


def _forged(home: Home) -> bytes:
    """A CRL with a high number by somebody who only bears our authority's name."""
    ours = home.project().authorities.existing("client-1").certificate
    key = keys.new_key("ec-p384")
    dates = ours.not_valid_before_utc, ours.not_valid_after_utc
    false = certificate_signing.sign_certificate(ours.subject, key.public_key(), dates, profiles.root_extensions(), key)
    entries = [CrlEntry(77, START, "superseded")]
    crl = crl_signing.sign_crl(certificate_signing.Issuer(false, key), 2**40, START, home.moment(9), entries)
    return crl.public_bytes(serialization.Encoding.DER)
