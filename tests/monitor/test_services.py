"""What every screen says of services that are not HTTP: those that can be asked, and those that cannot."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pki.cli.revoke_command import verdict
from pki.deploy import tls_client
from pki.deploy.tls_client import Prober
from pki.deploy.verification import Expectation
from pki.monitor import probes
from pki.monitor.check_result import Level
from pki.monitor.checks import check_services
from pki.monitor.probes import ProbeFault, ProbeResult
from pki.monitor.report import health_report, metrics_collect, status_table
from pki.monitor.revocation_check import Observation, RefusalVerdict
from pki.monitor.unseen_services import unseen_services
from pki.pipeline.delivery_targets import ProbeTarget
from tests.support.commands import Invoke
from tests.support.invoked import invoke
from tests.support.projects import Home
from tests.support.protocol_servers import CONVERSATIONS, closes_after_tls, converses
from tests.support.tls_servers import Behaviour, Pairs, pairs, serving

__all__ = ["invoke", "pairs"]

OFFICE = """hosts:
  office:
    network: dev
    deliver: ssh
    services:
      db: {speaks: postgres, access: mtls}
      vpn: {speaks: openvpn, access: mtls}
      wifi: {speaks: radius, access: tls}
"""
POSTGRES = CONVERSATIONS["postgres"]
UNSURE = ProbeResult("office", "db", "db.lab.internal", 5432, "mtls", fingerprint="00", unverifiable="it is silent")


@pytest.fixture
def office(home: Home) -> Home:
    home.edit("hosts:\n", OFFICE)
    return home


def rows(home: Home) -> dict[str, status_table.TableRow]:
    return {row.name: row for row in status_table.StatusTable(home.project()).rows(home.plan())}


def test_services_that_cannot_be_asked_are_named_with_the_reason(office: Home) -> None:
    unseen = {result.service: result for result in unseen_services(office.project().inventory)}
    assert {name: result.port for name, result in unseen.items()} == {"vpn": 1194, "wifi": 1812}
    table = rows(office)
    assert [table[f"service:office/{name}"].state for name in ("db", "vpn", "wifi")] == ["unknown"] * 3
    assert table["service:office/db"].next == "not probed yet"
    assert table["service:office/vpn"].next.startswith("not verifiable from here: OpenVPN answers only")


def test_a_service_whose_answer_shows_nothing_is_not_called_verified(office: Home) -> None:
    project = office.project()
    probes.save(project.store, [replace(UNSURE, at=project.now)], project.now)
    row = rows(office)["service:office/db"]
    assert (row.state, row.by) == ("unknown", "you")
    assert row.next.startswith("serves what was deployed; who is let in is not verifiable from here: it is silent")
    assert not UNSURE.is_well


def test_health_reports_both_kinds_and_calls_neither_well(office: Home) -> None:
    findings = health_report.run_checks(
        office.project(), office.plan(), status_table.LastRun.load(office.project().store), probes=[UNSURE]
    )
    by_subject = {finding.subject: finding for finding in findings if finding.subject.startswith("service")}
    assert by_subject["service:office/db"].level is Level.NOTICE
    assert "it is silent" in by_subject["service:office/db"].message
    texts = [finding.message for finding in findings if finding.subject == "services"]
    assert "not verifiable from here: office/vpn, office/wifi" in texts
    assert not any("serve what was deployed" in text for text in texts)
    assert check_services.failing_subjects([UNSURE]) == frozenset()


def test_revoke_and_explain_name_where_it_cannot_be_verified_and_what_stays_open(office: Home, invoke: Invoke) -> None:
    said = invoke(office, "explain", "admin")
    assert "vpn on office (openvpn): not verifiable from here" in " ".join(said.out.split())
    assert "to end them: psql -c" in " ".join(said.out.split())
    said = invoke(office, "revoke", "admin", "--reason", "key-compromise", "--yes")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert any(line.startswith("unknown office/vpn not verifiable from here") for line in lines), said.out
    assert any(line.startswith("sessions office/db sessions, such as those of connection pools") for line in lines)
    assert not any("wifi" in line for line in lines), "everybody may use it"
    assert said.status == 2


def test_the_last_line_of_a_revocation_names_what_must_be_checked_on_the_host() -> None:
    seen = [Observation("web/wiki", RefusalVerdict.VERIFIED, ""), Observation("office/vpn", RefusalVerdict.UNKNOWN, "")]
    expected = "revoked and published; verified at web/wiki; not verifiable from here: office/vpn; check it on the host"
    assert verdict(seen, {}) == (2, expected)
    seen.append(Observation("media", RefusalVerdict.FOLDER, ""))
    assert (
        "not verified: media; copy their files there from build/hosts/; not verifiable from here: office/vpn"
        in verdict(seen, {})[1]
    )


def test_a_metric_says_of_which_services_nothing_is_known(office: Home) -> None:
    class Checked:
        project = office.project()
        probes = (UNSURE, replace(UNSURE, service="cache", fault=str(ProbeFault.WRONGLY_ADMITTED), wrong="lets it in"))

    samples = metrics_collect._probes(Checked())  # type: ignore[arg-type]  # noqa: SLF001
    assert [labels[1] for labels in samples["probe_success"]] == ["cache"]
    assert sorted(labels[1] for labels in samples["probe_unverifiable_info"]) == ["cache", "db", "vpn", "wifi"]


def probed(pairs: Pairs, *behaviours: Behaviour, has_ml_dsa_key: bool = False) -> ProbeResult:
    """The result of probing a PostgreSQL server that behaves so."""
    prober = Prober(pairs.root, pairs.client)
    with serving(pairs, *behaviours) as endpoint:
        database = replace(endpoint, speaks="postgres", is_proxied=False, has_ml_dsa_key=has_ml_dsa_key)
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(_certificate(pairs))).hexdigest()
        target = ProbeTarget("office", (database,), {endpoint.name: Expectation(digest)}, prober, None)
        plan: Any = SimpleNamespace(probe_targets=lambda: [target])
        store: Any = None
        return probes.probe_services(store, datetime.now(UTC), plan)[0]


def _certificate(pairs: Pairs) -> str:
    mark = "-----BEGIN CERTIFICATE-----"
    return mark + pairs.server.read_text().partition(mark)[2]


def test_a_probe_asks_a_server_in_its_own_protocol(pairs: Pairs) -> None:
    result = probed(pairs, converses(POSTGRES.before, POSTGRES.admits, trusts=pairs.root))
    assert result.is_well, result
    assert (result.version, result.port > 0) == ("TLSv1.3", True)


def test_a_probe_of_a_server_with_an_ml_dsa_key_says_that_this_machine_cannot_read_it(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_client, "READS_ML_DSA", False)
    result = probed(pairs, converses(POSTGRES.before, POSTGRES.admits, trusts=pairs.root), has_ml_dsa_key=True)
    assert (result.is_well, result.wrong, result.fault) == (False, "", "")
    assert result.unverifiable.startswith("its key is ml-dsa-65, which OpenSSL 3.5 or newer reads; here: OpenSSL ")
    assert result.open_question == f"not verifiable from here: {result.unverifiable}"


def test_a_probe_finds_a_server_that_demands_no_certificate(pairs: Pairs) -> None:
    result = probed(pairs, converses(POSTGRES.before, POSTGRES.admits))
    assert result.fault == ProbeFault.WRONGLY_ADMITTED
    assert result.wrong == "lets a client without a certificate in: answers the startup message"


def test_a_probe_that_gets_no_certain_answer_says_why(pairs: Pairs) -> None:
    result = probed(pairs, converses(POSTGRES.before, POSTGRES.refuses, trusts=pairs.root))
    assert (result.wrong, result.is_well) == ("", False)
    assert "certificate authentication failed" in result.unverifiable


def test_a_server_that_closes_the_connection_of_the_probe_is_no_silent_one(pairs: Pairs) -> None:
    result = probed(pairs, closes_after_tls(POSTGRES.before))
    assert (result.fault, result.reached) == (ProbeFault.NOT_HTTP, True)
    assert result.wrong == "completes the handshake and closes the connection without an answer"
