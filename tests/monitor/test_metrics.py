"""Alerting: what a run leaves for Prometheus, the rules that fire on it, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

import tasks
from pki.common.errors import InventoryError
from pki.common.timestamps import instant
from pki.config import loader
from pki.deploy.contact import Contact
from pki.deploy.receipt import load as receipt_of
from pki.deploy.receipt import save as keep_receipt
from pki.deploy.ssh import UnreachableError
from pki.monitor import probes
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_certificates, check_machine
from pki.monitor.checks.check_context import LastRun
from pki.monitor.probes import ProbeResult
from pki.monitor.report import health_report, metric_definitions, metrics_export
from pki.monitor.report.run import Run
from tests.support.invoked import break_template, lose_passphrase
from tests.support.projects import PROJECT, START, Home
from tests.support.remote_hosts import _with, remote

__all__ = ["remote"]  # the fixture

REPORT = "build/report/pki.prom"
RULES = "etc/prometheus/doit-pki.rules.yml"
DASHBOARD = "var/lib/grafana/dashboards/doit-pki/doit-pki.json"
NAME = re.compile(r"\bdoit_pki_\w+")

Values = dict[tuple[str, ...], float]


def parsed(text: str) -> dict[str, Values]:
    """Values by metric without its prefix, then by labels, as Prometheus reads them."""
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        values = found[name.removeprefix("doit_pki_")] = {}
        for sample in family.samples:
            labels = metric_definitions.METRICS[name.removeprefix("doit_pki_")].labels
            assert sample.labels.keys() == {"project", *labels}, sample
            key = tuple(sample.labels[label] for label in labels)
            assert key not in values, f"{name}{key} stands twice"
            values[key] = sample.value
    return found


def left(home: Home) -> dict[str, Values]:
    return parsed(home.read(REPORT).decode())


def one(home: Home, name: str) -> float:
    """The value of a metric without labels."""
    (value,) = left(home)[name].values()
    return value


def test_two_projects_of_one_machine_are_told_apart(home: Home) -> None:
    """Of a sample that stands in two files node_exporter serves one, and drops the other."""
    assert home.doit().status == 0
    lines = [line for line in home.read(REPORT).decode().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if f'project="{home.path}"' not in line] == []


# -- what is said -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_every_metric_and_no_other(home: Home) -> None:
    assert list(left(home)) == list(metric_definitions.METRICS)


def test_certificates_are_named_with_profile_and_host(home: Home) -> None:
    ends = left(home)["certificate_not_after_timestamp_seconds"]
    assert set(ends) == {
        ("monitoring-mtls", "server", "monitoring"),
        ("forge-mtls", "server", "forge"),
        ("media", "server", "media"),
        ("client-admin", "client", ""),
    }
    cert = x509.load_pem_x509_certificate(home.read("build/certs/media/cert.pem"))
    begins = left(home)["certificate_not_before_timestamp_seconds"]
    assert ends["media", "server", "media"] == cert.not_valid_after_utc.timestamp()
    assert begins["media", "server", "media"] == cert.not_valid_before_utc.timestamp()


def test_authorities_crls_and_the_ladder_are_what_the_files_say(home: Home) -> None:
    found = left(home)
    crl = x509.load_der_x509_crl(home.read("build/crl/client-1.crl"))
    assert crl.next_update_utc
    key = ("client-1", "client")
    assert found["crl_next_update_timestamp_seconds"][key] == crl.next_update_utc.timestamp()
    assert found["crl_this_update_timestamp_seconds"][key] == crl.last_update_utc.timestamp()
    assert found["crl_number"][key] == crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert set(found["crl_number"]) == {("root-1", "root"), ("server-1", "server"), key}
    presigned_crls = [
        x509.load_pem_x509_crl(path.read_bytes()) for path in home.project().store.presigned_crls("root-1")
    ]
    ends = [
        presigned_crl.next_update_utc.timestamp() for presigned_crl in presigned_crls if presigned_crl.next_update_utc
    ]
    assert found["presigned_crl_end_timestamp_seconds"] == {("root-1", "root"): max(ends)}
    assert found["crl_next_update_timestamp_seconds"]["root-1", "root"] == min(ends)
    server = x509.load_pem_x509_certificate(home.read("ca/server/server-1/cert.pem"))
    end = server.not_valid_after_utc
    assert found["authority_not_after_timestamp_seconds"]["server-1", "server"] == end.timestamp()
    usable = end - timedelta(days=90 + 60)  # less the life of a leaf, and the overlap
    assert found["authority_signs_until_timestamp_seconds"]["server-1", "server"] == usable.timestamp()


def test_the_ledger_is_counted(home: Home) -> None:
    before = one(home, "ledger_certificates_total")
    assert before == len(home.project().ledger.certificates())
    assert home.doit(days=61).status == 0
    assert one(home, "ledger_certificates_total") == before + 3
    assert one(home, "ledger_revocations_total") == 0


def test_tasks_are_counted_by_group_and_by_what_became_of_them(home: Home) -> None:
    break_template(home)
    assert home.doit(days=61).status
    tasks = left(home)["last_run_tasks"]
    results = ("changed", "failed", "blocked", "up_to_date")
    assert [tasks["cert", result] for result in results] == [3, 0, 0, 1]
    assert [tasks["release", result] for result in results] == [2, 1, 0, 0]
    assert [tasks["deploy", result] for result in results] == [2, 0, 1, 0]
    assert tasks["run", "failed"] == 0


def test_what_is_not_well_stands_there_with_what_to_type(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    found = left(home)
    assert found["check_level"]["cert:media", "certificates", _remedy(home, 61)] == Level.WARNING
    assert found["checks"]["warning",] >= 3
    assert found["checks"]["critical",] == sum(1 for level in found["check_level"].values() if level == 3)


def _remedy(home: Home, days: float) -> str:
    checks = health_report.run_checks(
        home.project(days), home.plan(days), LastRun.load(home.project().store), thorough=False
    )
    return next(str(one.remedy) for one in checks if one.subject == "cert:media")


def test_a_host_whose_release_could_not_be_made_waits(home: Home) -> None:
    break_template(home)
    assert home.doit(days=61).status
    assert left(home)["deployment_state"] == {("media", "pending"): 1}


def test_two_findings_alike_are_one_sample(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """node_exporter serves the first one of them, which may be the lesser."""
    twice = [Finding("disk", Level.NOTICE, "x", "df\n-h"), Finding("disk", Level.CRITICAL, "y", "df\n-h")]
    monkeypatch.setitem(health_report.CHECKS, "disk", lambda _view: iter(twice))
    assert home.doit().status == 1
    assert left(home)["check_level"] == {("disk", "disk", "df -h"): 3}


def test_a_channel_that_fails_is_told(home: Home) -> None:
    assert left(home)["alerts_channel_failing"] == {("email",): 0}
    home.edit("smtp: outbox", "smtp: smtp://127.0.0.1:1")
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    assert left(home)["alerts_channel_failing"] == {("email",): 1}
    since = left(home)["alerts_channel_failing_since_timestamp_seconds"]
    assert since == {("email",): home.moment(61).timestamp()}


# -- hosts and services -----------------------------------------------------------------------------------------------


def test_hosts_that_are_well_are_counted_and_not_named(home: Home) -> None:
    found = left(home)
    assert found["deployment_state"] == {}
    assert {state for (state,), count in found["deployments"].items() if count} == {"well"}
    assert found["deployments"]["well",] == 3


def test_a_host_that_does_not_answer_is_named_with_its_dates(remote: Home) -> None:
    project = remote.project()
    ends = START + timedelta(days=40)
    taken = receipt_of(project.store.receipt("media"))
    keep_receipt(project.store.receipt("media"), _with(taken, first_expiry=instant(ends)))
    Contact().failed(START, UnreachableError("cannot be reached: no route")).save(project.store.contact("media"))
    remote.doit("authority")  # which looks at the project and delivers nothing
    found = left(remote)
    assert {state for host, state in found["deployment_state"]} >= {"failing", "unreachable"}
    assert {host for host, _ in found["deployment_state"]} == {"media"}
    assert found["deployment_failing_since_timestamp_seconds"] == {("media",): START.timestamp()}
    assert found["deployment_expires_timestamp_seconds"] == {("media",): ends.timestamp()}
    assert found["deployments"]["well",] == 2


def test_a_host_that_is_held_and_waits_for_a_release_is_named(remote: Home) -> None:
    delivery = remote.plan().deliveries["media"]
    payload = delivery.payloads.desired()
    assert payload
    delivery.records.history.keep_release(payload)
    project = remote.project()
    project.ledger.record_decision("deploy:media", "pinned", payload.release.digest, START)
    project.ledger.close()
    taken = receipt_of(project.store.receipt("media"))
    assert taken
    keep_receipt(project.store.receipt("media"), _with(taken, files=taken.files[1:]))
    remote.doit("authority")
    assert left(remote)["deployment_state"] == {("media", "pinned"): 1, ("media", "pending"): 1}


def test_a_parallel_run_leaves_no_host_pending(fresh: Home) -> None:
    """Its processes deliver, and what they remember is lost with them."""
    assert fresh.doit("-n", "2").status == 0
    assert left(fresh)["deployment_state"] == {}


def test_drift_that_was_put_right_is_named_until_the_next_run(home: Home) -> None:
    home.write("build/hosts/media/etc/caddy/Caddyfile", "mine\n")
    assert home.doit().status == 0
    assert left(home)["deployment_state"] == {("media", "drift"): 1}
    assert left(home)["deployments"]["well",] == 3
    assert home.doit().status == 0
    assert left(home)["deployment_state"] == {}


SEEN = (
    ProbeResult("media", "jellyfin", "jellyfin.lab.internal", 443, "tls", "", True, START, "ab", "TLSv1.3", 0.25),
    ProbeResult(
        "forge", "forgejo", "forgejo.lab.internal", 443, "mtls", "lets the canary in", version="TLSv1.2", fault="entry"
    ),
    ProbeResult(
        "monitoring",
        "loki",
        "loki.lab.internal",
        443,
        "mtls",
        "does not answer",
        reached=False,
        seconds=5,
        fault="silent",
    ),
)
JELLYFIN, FORGEJO, LOKI = ((found.host, found.service, found.name) for found in SEEN)


def test_services_are_told_as_they_were_seen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe_services", lambda *_: SEEN)
    home.doit()
    found = left(home)
    assert found["probe_success"] == {JELLYFIN: 1, FORGEJO: 0, LOKI: 0}
    assert found["probe_reached"] == {JELLYFIN: 1, FORGEJO: 1, LOKI: 0}
    assert found["probe_duration_seconds"] == {JELLYFIN: 0.25, FORGEJO: 0, LOKI: 5}
    assert found["probe_not_after_timestamp_seconds"] == {JELLYFIN: START.timestamp()}
    assert found["probe_tls_info"] == {(*JELLYFIN, "TLSv1.3"): 1, (*FORGEJO, "TLSv1.2"): 1}
    assert found["probe_wrong_info"] == {
        (*FORGEJO, "entry", "lets the canary in"): 1,
        (*LOKI, "silent", "does not answer"): 1,
    }


# -- whatever failed --------------------------------------------------------------------------------------------------


def test_a_run_of_some_tasks_resets_nothing_that_whole_runs_know(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe_services", lambda *_: SEEN)
    home.doit()
    before = left(home)
    monkeypatch.setattr(probes, "probe_services", None)
    home.doit("crl", days=8)
    after = left(home)
    assert after["metrics_timestamp_seconds"] == {(): home.moment(8).timestamp()}
    same = [name for name in before if name.startswith(("last_", "probe_", "certificate_"))]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert len(same) == 13
    assert after["crl_number"]["client-1", "client"] > before["crl_number"]["client-1", "client"]


def test_a_run_that_fails_keeps_when_the_last_one_ended_well(home: Home) -> None:
    assert one(home, "last_run_success") == 1
    break_template(home)
    assert home.doit(days=1).status
    assert one(home, "last_run_success") == 0
    assert one(home, "last_run_timestamp_seconds") == home.moment(1).timestamp()
    assert one(home, "last_success_timestamp_seconds") == START.timestamp()


def test_a_first_run_that_fails_says_of_no_success(fresh: Home) -> None:
    break_template(fresh)
    assert fresh.doit().status
    assert "last_success_timestamp_seconds" not in left(fresh)
    assert one(fresh, "last_run_success") == 0


def test_a_project_that_cannot_be_looked_at_leaves_what_was_known(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(home)

    def bug(*_: object, **__: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(health_report, "run_checks", bug)
    with pytest.raises(ZeroDivisionError):
        Run(home.path, home.moment(1)).config["reporter"].complete_run()
    after = left(home)
    assert after["certificate_not_after_timestamp_seconds"] == before["certificate_not_after_timestamp_seconds"]
    assert after["last_run_success"] == {(): 0}
    assert after["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]


def test_a_project_without_authorities_leaves_what_there_is(real_bare: Home) -> None:
    assert real_bare.doit().status
    found = left(real_bare)
    assert found["certificate_not_after_timestamp_seconds"] == found["crl_number"] == {}
    assert ("ceremony", "ceremonies") in {labels[:2] for labels in found["check_level"]}
    assert found["ledger_certificates_total"] == {(): 0}


@pytest.fixture
def real_bare(fresh: Home) -> Home:
    """A project outside the sandbox before its first ceremony."""
    fresh.edit("sandbox: true", "sandbox: false")
    return fresh


def test_a_wrong_inventory_is_said_where_the_last_good_one_wanted_it(home: Home, tmp_path: Path) -> None:
    there = tmp_path / "node/doit-pki.prom"
    there.parent.mkdir()
    home.edit("ledger: sqlite", f"ledger: sqlite\nmetrics: {{textfile: {there}}}")
    assert home.doit().status == 0
    before = parsed(there.read_text())
    home.edit("access: tls}", "access: mlts}")
    assert Run(home.path, home.moment(1)).main([]) == 3
    after = parsed(there.read_text())
    assert home.read(REPORT) == there.read_bytes()
    changed = {"inventory_valid": {(): 0}, "metrics_timestamp_seconds": {(): home.moment(1).timestamp()}}
    assert after == before | changed
    home.edit("access: mlts}", "access: tls}")
    assert home.doit(days=1).status == 0
    assert one(home, "inventory_valid") == 1


def test_a_wrong_inventory_before_any_run_leaves_nothing(fresh: Home) -> None:
    fresh.edit("access: tls}", "access: mlts}")
    assert Run(fresh.path, START).main([]) == 3
    assert not (fresh.path / "build").exists()


# -- node_exporter's folder -------------------------------------------------------------------------------------------


def test_the_textfile_is_the_report_readable_for_everybody(home: Home, tmp_path: Path) -> None:
    home.edit("ledger: sqlite", f"ledger: sqlite\nmetrics: {{textfile: {tmp_path}/doit-pki.prom}}")
    assert home.doit().status == 0
    assert (tmp_path / "doit-pki.prom").read_bytes() == home.read(REPORT)
    assert (tmp_path / "doit-pki.prom").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.glob("*prom*")] == ["doit-pki.prom"]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_folder_that_is_not_there_fails_that_and_nothing_else(home: Home, tmp_path: Path) -> None:
    there = tmp_path / "nowhere/doit-pki.prom"
    home.edit("ledger: sqlite", f"ledger: sqlite\nmetrics: {{textfile: {there}}}")
    report = home.doit(days=8)
    assert report.status
    what, remedy = f"{there}: folder {there.parent} does not exist", f"sudo install -d -o $(id -un) {there.parent}"
    assert report.failed.keys() == {"metrics"}
    assert report.failed["metrics"].startswith(f"{what} → {remedy}")
    assert "crl:client-1" in report.made
    assert one(home, "metrics_timestamp_seconds") == home.moment(8).timestamp()
    assert {labels[:2] for labels in left(home)["check_level"]} == {("metrics", "metrics")}
    (mail,) = [
        path.read_text() for path in (home.path / "build/report/outbox").iterdir() if "nowhere" in path.read_text()
    ]
    assert "install -d" in mail
    assert not there.parent.exists()
    there.parent.mkdir()
    assert home.doit(days=8).status == 0


def test_a_place_that_cannot_be_written_is_told_before_anybody_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "pki.prom"
    assert check_machine.textfile_fault(str(there)) is None
    there.mkdir()
    assert check_machine.textfile_fault(str(there)) == (f"{there}: is a folder", remedy_for(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    what = f"{there}: this account cannot write to {tmp_path}"
    assert check_machine.textfile_fault(str(there)) == (what, remedy_for(tmp_path))


def remedy_for(folder: Path) -> str:
    timer = "if systemd runs doit, also: sudo ./run invoke schedule --install"
    return f"sudo install -d -o $(id -un) {folder}; {timer}"


@pytest.mark.parametrize(
    "wrong",
    ["pki.prom", "/var/lib/pki.txt", "/var/../pki.prom", "/", "''", "/var/lib/.prom/", "//pki.prom", "/a b.prom"],
)
def test_a_textfile_must_be_an_absolute_path_that_node_exporter_reads(home: Home, wrong: str) -> None:
    home.edit("ledger: sqlite", f"ledger: sqlite\nmetrics: {{textfile: {wrong}}}")
    with pytest.raises(InventoryError) as caught:
        loader.load(home.path / "pki.yaml")
    (fault,) = caught.value.faults
    assert "metrics.textfile: expected an absolute path that ends in .prom" in fault
    assert "/var/lib/prometheus/node-exporter/doit-pki.prom" in fault


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_reads_no_certificate_and_renders_none(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.doit().status == 0
    rendered = list[str]()
    render = metrics_export.render
    monkeypatch.setattr(check_certificates, "read_current_certificate", None)
    monkeypatch.setattr(metrics_export, "render", lambda home, found: rendered.extend(found) or render(home, found))
    assert home.doit(days=1).status == 0
    assert "last_run_timestamp_seconds" in rendered
    assert not [name for name in rendered if name.startswith("certificate_")]
    assert len(left(home)["certificate_not_after_timestamp_seconds"]) == 4
    home.doit(days=61)
    assert "certificate_not_after_timestamp_seconds" in rendered


# -- rules and dashboard ----------------------------------------------------------------------------------------------


def rules(home: Home) -> Iterator[dict[str, Any]]:
    """Every alert of the file that lies on the monitoring host."""
    for group in yaml.safe_load(home.read(f"build/hosts/monitoring/{RULES}"))["groups"]:
        yield from group["rules"]


def dashboard(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.read(f"build/hosts/monitoring/{DASHBOARD}"))
    return found


def expressions(home: Home) -> Iterator[str]:
    yield from (rule["expr"] for rule in rules(home))
    yield from (target["expr"] for panel in dashboard(home)["panels"] for target in panel["targets"])
    yield from (variable["query"]["query"] for variable in dashboard(home)["templating"]["list"][1:])


def test_rules_and_dashboard_ask_for_nothing_that_no_run_leaves(home: Home) -> None:
    there = {f"doit_pki_{name}" for name in left(home)}
    for expression in expressions(home):
        assert NAME.findall(expression), expression
        assert set(NAME.findall(expression)) <= there, expression


def test_every_label_in_rules_is_one_of_its_metrics(home: Home) -> None:
    for rule in rules(home):
        names = NAME.findall(rule["expr"])
        there = {
            label for name in names for label in metric_definitions.METRICS[name.removeprefix("doit_pki_")].labels
        } | {
            "instance",
            "project",
        }
        said = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
        said += re.findall(r"[{,](\w+)[=!]", rule["expr"])
        said += [label for found in re.findall(r"on \(([\w, ]+)\)", rule["expr"]) for label in found.split(", ")]
        assert set(said) <= there, rule["alert"]


def test_every_alert_says_how_bad_it_is_and_what_to_type(home: Home) -> None:
    found = list(rules(home))
    assert len(found) > 20
    for rule in found:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description", "where"}
        assert re.search(r"\./run (doit|invoke)|\$labels\.remedy", rule["annotations"]["description"]), rule["alert"]


def test_commands_in_rules_are_there(home: Home) -> None:
    text = "".join(rule["annotations"]["description"] for rule in rules(home))
    typed = set(re.findall(r"\./run invoke ([a-z.]+[a-z])", text))
    assert typed
    assert typed <= set(tasks.ns.task_names)


def test_dashboard_is_what_grafana_knows(home: Home) -> None:
    """Its own models read it and write it again with nothing lost or changed."""
    register_default_plugins()
    said = dashboard(home)
    assert lost(said, json.loads(JSONEncoder().encode(Dashboard.from_json(said)))) == []
    ids = [panel["id"] for panel in said["panels"]]
    assert len(ids) == len(set(ids)) > 10


def lost(said: Any, kept: Any, place: str = "") -> list[str]:
    """Where `kept` lacks what was said, or says something else."""
    if isinstance(said, dict) and isinstance(kept, dict):
        gone = [f"{place}.{key}" for key in said.keys() - kept.keys()]
        return gone + [
            text for key in said.keys() & kept.keys() for text in lost(said[key], kept[key], f"{place}.{key}")
        ]
    if isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        return [
            text
            for number, (a, b) in enumerate(zip(said, kept, strict=True))
            for text in lost(a, b, f"{place}[{number}]")
        ]
    return [] if said == kept else [place]


def test_panels_do_not_overlap(home: Home) -> None:
    taken = set[tuple[int, int]]()
    for panel in dashboard(home)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_files_go_to_hosts_that_have_the_service(home: Home) -> None:
    assert [path.parts[-4] for path in sorted((home.path / "build/hosts").glob(f"*/{RULES}"))] == ["monitoring"]
    home.add_service("prometheus2", host="forge")
    home.add_service("grafana2", host="forge")
    home.edit("prometheus:", "prometheus0:")
    home.edit("prometheus2:", "prometheus:")
    assert home.doit().status == 0
    assert [path.parts[-4] for path in sorted((home.path / "build/hosts").glob(f"*/{RULES}"))] == ["forge"]
    assert (home.path / "build/hosts/monitoring" / DASHBOARD).exists()
    assert not (home.path / "build/hosts/forge" / DASHBOARD).exists()


def test_prometheus_own_braces_survive(home: Home) -> None:
    text = home.read(f"build/hosts/monitoring/{RULES}").decode()
    assert "{{ $labels.name }}" in text
    assert "raw %}" not in text
    assert home.read(f"build/hosts/monitoring/{DASHBOARD}").startswith(b"{\n")


def test_docs_name_every_alert(home: Home) -> None:
    """The metrics are in a reference that is generated from the code."""
    text = (PROJECT / "docs/how-to/prometheus.md").read_text()
    assert set(re.findall(r"`(DoitPki\w+)`", text)) == {rule["alert"] for rule in rules(home)}
