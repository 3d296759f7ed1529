"""Prometheus and what stands around it, as Debian has them, with what a run leaves for them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.integration.conftest import TIMEOUT, LiveHome, faketime, live_home, now, run
from tests.integration.mail_server import serving as mail_server
from tests.integration.proxies import free_port, wait_until
from tests.support.mails import text_of
from tests.support.projects import PROJECT

RULES = "build/hosts/monitoring/etc/prometheus/doit-pki.rules.yml"
REPORT = "build/report/pki.prom"
CASES = ("rules.hours.test.yml", "rules.days.test.yml")
LONG_AGO = "-85d"  # the project was built then: its server certificates have five days left
TEXTFILES = "metrics: {textfile: %s}\n"
Firing = dict[str, list[dict[str, Any]]]


def get(port: int, path: str, **parameters: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}?{urlencode(parameters)}", timeout=TIMEOUT) as answer:
        return str(answer.read().decode())


# -- promtool ---------------------------------------------------------------------------------------------------------


def test_promtool_has_nothing_against_the_metrics(shown: LiveHome) -> None:
    assert run("promtool", "check", "metrics", stdin=shown.read(REPORT).decode()) == ""


def test_promtool_has_nothing_against_the_rules(shown: LiveHome) -> None:
    assert re.search(r"SUCCESS: \d+ rules found", run("promtool", "check", "rules", shown.path / RULES))


@pytest.mark.parametrize("case", CASES)
def test_each_alert_fires_when_it_should_and_then_only(shown: LiveHome, tmp_path: Path, case: str) -> None:
    shutil.copy(shown.path / RULES, tmp_path)
    shutil.copy(Path(__file__).with_name(case), tmp_path)
    assert "SUCCESS" in run("promtool", "test", "rules", tmp_path / case)


def test_every_alert_fires_in_one_of_the_cases(shown: LiveHome) -> None:
    text = "".join(Path(__file__).with_name(case).read_text() for case in CASES)
    firing = re.findall(r'alertname="(\w+)", alertstate="firing"', text)
    firing += re.findall(r"alertname: (\w+)\n +exp_alerts:\n", text)
    assert set(firing) == set(re.findall(r"alert: (\w+)", shown.read(RULES).decode()))


# -- a project that Prometheus watches ----------------------------------------------------------------------------------


@contextmanager
def started(*command: str | Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on loopback, ended by its own id."""
    assert shutil.which(command[0]), command[0]
    log = subprocess.DEVNULL
    child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def listens() -> bool:
        assert child.poll() is None, f"{command[0]} ended with {child.poll()}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True
        return False

    try:
        wait_until(listens, f"{command[0]} listens")
        yield child
    finally:
        child.terminate()
        child.wait(TIMEOUT)


@dataclass
class Watched:
    """A project, what node_exporter and Prometheus listen on, and the folder between project and node_exporter."""

    home: LiveHome
    folder: Path
    exporter_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)

    @contextmanager
    def exporter(self) -> Iterator[None]:
        only = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={self.folder}")
        address = f"--web.listen-address=127.0.0.1:{self.exporter_port}"
        with started("prometheus-node-exporter", *only, address, port=self.exporter_port):
            yield

    @contextmanager
    def prometheus(self, place: Path, alertmanager: int = 0) -> Iterator[None]:
        """Prometheus with the delivered rules, copied; only what they wait for is made short. Port 0 is no Alertmanager."""
        rules = self.home.read(RULES).decode()
        (place / "doit-pki.rules.yml").write_text(re.sub(r"^    for: \w+$", "    for: 1s", rules, flags=re.MULTILINE))
        said: dict[str, Any] = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["doit-pki.rules.yml"],
            "scrape_configs": [
                {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{self.exporter_port}"]}]}
            ],
        }
        if alertmanager:
            said["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
        (place / "prometheus.yml").write_text(yaml.safe_dump(said))
        options = (f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data")
        with started("prometheus", *options, f"--web.listen-address=127.0.0.1:{self.port}", port=self.port):
            wait_until(self.is_ready, "Prometheus is ready")
            yield

    def is_ready(self) -> bool:
        with suppress(HTTPError):
            return bool(get(self.port, "/-/ready"))
        return False

    def firing(self) -> Firing:
        found: Firing = {}
        for alert in json.loads(get(self.port, "/api/v1/alerts"))["data"]["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    def wait(self, done: Callable[[Firing], bool], what: str) -> Firing:
        """What fires once all is as it should be: a scrape that comes late makes alerts come and go."""
        seen: Firing = {}

        def is_done() -> bool:
            nonlocal seen
            seen = self.firing()
            return done(seen)

        try:
            wait_until(is_done, what, patience=180)
        except AssertionError:
            pytest.fail(f"waited in vain until {what}: {[one['labels'] for alerts in seen.values() for one in alerts]}")
        return seen


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A project that was built 85 days ago, and whose cron job never came since; Prometheus looks at it now."""
    (tmp_path / "textfiles").mkdir()
    home = live_home(tmp_path / "home")
    home.write("pki.yaml", home.read("pki.yaml").decode() + TEXTFILES % f"{tmp_path}/textfiles/doit-pki.prom")
    assert home.start_doit(**faketime(LONG_AGO), DONT_FAKE_MONOTONIC="1").wait(TIMEOUT) == 0
    found = Watched(home, tmp_path / "textfiles")
    (tmp_path / "prometheus").mkdir()
    with found.exporter(), found.prometheus(tmp_path / "prometheus"):
        yield found


def named(firing: Firing, alert: str, label: str = "name") -> set[str]:
    """Of what an alert tells."""
    return {one["labels"][label] for one in firing.get(alert, [])}


def test_a_stopped_cron_job_and_a_renewal_that_fails_fire_and_are_resolved(watched: Watched) -> None:
    home = watched.home
    ends = {"DoitPkiSilent", "DoitPkiNoSuccess", "DoitPkiCertificateLate", "DoitPkiCertificateEnds", "DoitPkiCrlEnds"}
    firing = watched.wait(lambda found: found.keys() >= ends, "the dead-man's switch fires, and what ends with it")
    (silent,) = firing["DoitPkiSilent"]
    assert silent["labels"]["severity"] == "critical"
    assert "has not run for 85d" in silent["annotations"]["summary"]
    assert silent["annotations"]["description"].endswith("./run doit")
    late = named(firing, "DoitPkiCertificateEnds")
    assert late == {"monitoring-mtls", "forge-mtls", "media"}

    secrets = home.read("secrets.yaml").decode()
    home.write("secrets.yaml", re.sub("(?m)^server-1: .*$", "server-1: wrong", secrets))
    assert home.start_doit().wait(TIMEOUT) in {1, 2}
    left = {"DoitPkiRunFailed", "DoitPkiNoSuccess", "DoitPkiCertificateLate", "DoitPkiCertificateEnds"}
    left |= {"DoitPkiCrlLate", "DoitPkiCrlEnds", "DoitPkiCheck"}
    over = {"DoitPkiSilent"}
    firing = watched.wait(
        lambda found: (
            found.keys() >= left and not found.keys() & over and named(found, "DoitPkiCrlEnds") == {"server-1"}
        ),
        "the run is seen, what it renewed, and what it could not",
    )
    assert named(firing, "DoitPkiCertificateEnds") == late
    assert named(firing, "DoitPkiCheck", "subject") == {"key:server-1"}

    home.write("secrets.yaml", secrets)
    assert home.start_doit().wait(TIMEOUT) == 0
    watched.wait(lambda found: not found, "everything is resolved")


def test_node_exporter_serves_all_that_the_run_left(watched: Watched) -> None:
    served = get(watched.exporter_port, "/metrics")
    assert "node_textfile_scrape_error 0" in served
    left = [line for line in watched.home.read(REPORT).decode().splitlines() if line.startswith("doit_pki_")]
    names = {line.split("{")[0].split()[0] for line in left}
    assert names
    assert {name for name in names if f"\n{name}" not in served} == set()
    assert sum(line.startswith("doit_pki_") for line in served.splitlines()) == len(left)


def test_metrics_that_go_away_are_missed(tmp_path: Path, home: LiveHome) -> None:
    """The machine that runs doit was switched off, or its node_exporter."""
    home.write("pki.yaml", home.read("pki.yaml").decode() + TEXTFILES % f"{tmp_path}/textfiles/doit-pki.prom")
    (tmp_path / "textfiles").mkdir()
    (tmp_path / "prometheus").mkdir()
    assert home.start_doit().wait(TIMEOUT) == 0
    found = Watched(home, tmp_path / "textfiles")
    with found.prometheus(tmp_path / "prometheus"):
        found.wait(lambda alerts: alerts.keys() == {"DoitPkiMetricsMissing"}, "nobody knows whether doit runs")
        with found.exporter():
            found.wait(lambda alerts: not alerts, "metrics are there again")
            home.edit("access: tls}", "access: mlts}")
            assert home.start_doit().wait(TIMEOUT) == 3
            found.wait(lambda alerts: alerts.keys() == {"DoitPkiInventoryInvalid"}, "the wrong pki.yaml is seen")


# -- alertmanager ------------------------------------------------------------------------------------------------------


@contextmanager
def alertmanager(place: Path, smarthost: str) -> Iterator[int]:
    """Alertmanager as docs/how-to/prometheus.md shows it; only the mail server is ours, and it waits for nothing."""
    said = re.search(
        r"# /etc/prometheus/alertmanager.yml\n(.*?)```", (PROJECT / "docs/how-to/prometheus.md").read_text(), re.DOTALL
    )
    assert said
    shown = yaml.safe_load(said[1])
    shown["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    (mail,) = shown["receivers"][1]["email_configs"]
    assert mail.pop("tls_config") == {"ca_file": "/etc/doit-pki/roots.pem"}
    mail |= {"smarthost": smarthost, "require_tls": False}
    (place / "alertmanager.yml").write_text(yaml.safe_dump(shown))
    port = free_port()
    options = (f"--config.file={place}/alertmanager.yml", f"--storage.path={place}/data", "--cluster.listen-address=")
    with started("prometheus-alertmanager", *options, f"--web.listen-address=127.0.0.1:{port}", port=port):
        yield port


def test_alertmanager_mails_what_fires_with_what_to_type_and_that_it_is_over(tmp_path: Path, home: LiveHome) -> None:
    for name in ("textfiles", "prometheus", "alertmanager"):
        (tmp_path / name).mkdir()
    well = home.read("pki.yaml").decode() + TEXTFILES % f"{tmp_path}/textfiles/doit-pki.prom"
    home.write("pki.yaml", well)
    assert home.start_doit().wait(300) == 0
    found = Watched(home, tmp_path / "textfiles")
    with (
        mail_server(None) as mail,
        alertmanager(tmp_path / "alertmanager", f"127.0.0.1:{mail.port}") as port,
        found.exporter(),
        found.prometheus(tmp_path / "prometheus", port),
    ):
        home.write("pki.yaml", well.replace("proxy: caddy", "proxy: cady"))
        assert home.start_doit().wait(300) == 3
        wait_until(
            lambda: any("FIRING" in one["Subject"] for one in mail.taken), "mail of the alert comes", patience=60
        )
        firing = next(one for one in mail.taken if "FIRING" in one["Subject"])
        assert (firing["To"], firing["From"]) == ("admin@lab.internal", "pki@lab.internal")
        assert "critical" in firing["Subject"]
        body = text_of(firing, "html")
        assert "DoitPkiInventoryInvalid" in body
        assert str(home.path) in body
        assert "./run invoke plan shows the faults" in body

        home.write("pki.yaml", well)
        assert home.start_doit().wait(300) == 0
        wait_until(
            lambda: any("RESOLVED" in one["Subject"] for one in mail.taken), "mail says that it is over", patience=60
        )


# -- the view from elsewhere ------------------------------------------------------------------------------------------


@contextmanager
def served(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server on loopback that greets and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture
def blackbox(shown: LiveHome, tmp_path: Path) -> Iterator[int]:
    """blackbox_exporter with the module that docs/how-to/probes.md shows, once for each name: no resolver knows them here."""
    text = (PROJECT / "docs/how-to/probes.md").read_text()
    said = re.search(r"# /etc/prometheus/blackbox.yml\n(.*?)```", text, re.DOTALL)
    assert said
    module = yaml.safe_load(said[1])["modules"]["pki_tls"]
    assert module["tcp"]["tls_config"] == {"ca_file": "/etc/doit-pki/roots.pem"}
    roots = str(shown.path / "build/hosts/media/etc/doit-pki/roots.pem")
    modules = {
        name: {**module, "tcp": {**module["tcp"], "tls_config": {"ca_file": roots, "server_name": name}}}
        for name in ("jellyfin.lab.internal", "grafana.lab.internal")
    }
    (tmp_path / "blackbox.yml").write_text(yaml.safe_dump({"modules": modules}))
    port = free_port()
    options = (f"--config.file={tmp_path}/blackbox.yml", f"--web.listen-address=127.0.0.1:{port}")
    with started("prometheus-blackbox-exporter", *options, port=port):
        yield port


def probed(blackbox: int, port: int, name: str) -> dict[str, float]:
    said = get(blackbox, "/probe", module=name, target=f"127.0.0.1:{port}")
    lines = [line.rsplit(" ", 1) for line in said.splitlines() if not line.startswith("#") and "{" not in line]
    return {metric: float(value) for metric, value in lines}


def test_blackbox_exporter_trusts_the_root_and_sees_what_users_see(shown: LiveHome, blackbox: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.path / "build/certs/media/tls.pem")
    with served(context) as port:
        found = probed(blackbox, port, "jellyfin.lab.internal")
        assert found["probe_success"] == 1
        assert found["probe_ssl_earliest_cert_expiry"] > now().timestamp()
        ends = re.search(r'not_after\w+\{host="media".* (\S+)\n', shown.read(REPORT).decode())
        assert ends
        assert found["probe_ssl_earliest_cert_expiry"] == float(ends[1])
        assert probed(blackbox, port, "grafana.lab.internal")["probe_success"] == 0


def test_blackbox_exporter_sees_a_certificate_of_somebody_else(blackbox: int, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    name = ("-subj", "/CN=jellyfin.lab.internal", "-addext", "subjectAltName=DNS:jellyfin.lab.internal")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, *name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with served(context) as port:
        assert probed(blackbox, port, "jellyfin.lab.internal")["probe_success"] == 0
