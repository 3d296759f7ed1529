"""Alerts through a real mail server and a real web hook on loopback: TLS that is verified, logins, and what goes wrong."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pki.common.templating import FIX_OR_RAW
from pki.monitor.check_result import Level
from tests.integration.conftest import TIMEOUT, LiveHome, built, live_home
from tests.integration.mail_server import PASSWORD, address, certificate, said, serving
from tests.integration.proxies import free_port
from tests.support import leavings
from tests.support.mails import text_of
from tests.support.projects import PROJECT

NAME = "localhost"
CNF = """\
# deploy-target: /etc/mail.cnf
[ req ]
prompt = no
distinguished_name = dn
req_extensions = ext
[ dn ]
CN = mail.lab.internal
[ ext ]
subjectAltName = DNS:mail.lab.internal, IP:127.0.0.1
"""


@pytest.fixture(scope="module")
def mailing_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that issued a certificate for its mail server here, whose password is in a file, and told once."""
    home = live_home(tmp_path_factory.mktemp("mailing") / "home")
    home.edit("permit_addresses: [10.0.0.0/8]", "permit_addresses: [10.0.0.0/8, 127.0.0.0/8]")
    home.edit("secrets: secrets.yaml", "secrets: {smtp: {file: mail-password}}")
    home.write("mail-password", f"{PASSWORD}\n").chmod(0o600)
    home.write("templates/mail.cnf", CNF)
    return built(home).path


@pytest.fixture
def mailing(mailing_once: Path, tmp_path: Path) -> LiveHome:
    return LiveHome(mailing_once).copy(tmp_path / "home")


def break_template(home: LiveHome) -> None:
    home.write("templates/caddy/Caddyfile", home.read("templates/caddy/Caddyfile").decode() + "{{ nothing }}\n")


def wrong_passphrase(home: LiveHome, name: str) -> None:
    text = home.read("secrets.yaml").decode()
    assert f"{name}: " in text
    home.write("secrets.yaml", text.replace(f"{name}: ", f"{name}: x"))


def unreachable(home: LiveHome) -> None:
    home.edit("network: av\n", f"network: av\n    deliver: ssh\n    ssh: {{name: 127.0.0.1, port: {free_port()}}}\n")


def without_last_rung(home: LiveHome) -> None:
    max((home.path / "ca/root/root-1/crl").glob("*.pem"), key=lambda path: int(path.stem)).unlink()


def drifted(home: LiveHome) -> None:
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")


WRONG = "→ the passphrase from secrets.yaml is wrong"
METRICS = "build/report/pki.prom"
PROVOKED: dict[str, tuple[Callable[[LiveHome], None], int, str, str, str]] = {
    "a certificate near its end that cannot be renewed": (
        *(lambda home: wrong_passphrase(home, "server-1"), 85),
        *("CRITICAL  cert:media   (new)", "4 of 90 days left, renewal starts at 30; cannot be renewed:", WRONG),
    ),
    "a wrong passphrase": (
        *(lambda home: wrong_passphrase(home, "client-1"), 8),
        *("CRITICAL  key:client-1   (new)", "cannot be used: ca/client/client-1/key.pem:", WRONG),
    ),
    "a CRL near its end": (
        *(lambda home: wrong_passphrase(home, "client-1"), 19),
        *("CRITICAL  crl:client-1   (new)", " hours, on ", WRONG),
    ),
    "a missing pre-signed CRL": (
        *(without_last_rung, 0),
        *("WARNING   crl:root-1   (new)", "its last pre-signed CRL, ", "→ put ca/root/root-1/crl/ back from a backup"),
    ),
    "a broken template": (
        *(break_template, 0),
        *(
            "WARNING   release:media   (new)",
            "templates/caddy/Caddyfile:",
            f"→ {FIX_OR_RAW}",
        ),
    ),
    "a host that is down": (
        *(unreachable, 0),
        *(
            "WARNING   deploy:media   (new)",
            "Connection",
            "→ check the host, then: ./run invoke deploy.run media --dry-run",
        ),
    ),
    "drift": (
        *(drifted, 0),
        *(
            "NOTICE    drift:media   (new)",
            "was changed on the host; restored:",
            "→ make the change in pki.yaml or templates/",
        ),
    ),
}


def at_home(home: LiveHome, remedy: str) -> str:
    """The remedy as it is printed for a project that is not in the checkout."""
    return remedy.replace("./run ", f"PKI_HOME={home.path} ./run ")


@pytest.mark.parametrize("what", PROVOKED)
def test_what_goes_wrong_is_told_everywhere_within_one_run_with_what_to_type(mailing: LiveHome, what: str) -> None:
    """By mail, on the status page, and in the metrics."""
    provoke, days, head, message, remedy = PROVOKED[what]
    remedy = at_home(mailing, remedy)
    with serving(certificate(mailing)) as server:
        address(mailing, f"smtp://127.0.0.1:{server.port}")
        provoke(mailing)
        out, error = said(mailing, days)
        assert error == "", out
    [mail] = server.taken
    level, subject, kind = head.split()
    parts = [part for part in text_of(mail).split("\n\n") if part.startswith(level) and subject in part]
    [block] = [part for part in parts if message in " ".join(part.split())]
    assert kind in block
    is_written_once = re.search(r"→ as for \S+", block) is not None  # a long one that several findings have
    assert remedy in (text_of(mail) if is_written_once else block)
    page, remedy = leavings.page(mailing.path), remedy.removeprefix("→ ")
    assert all(part in page for part in (subject, message, *remedy.split("; "))), page  # commands stand by themselves
    measured, typed = leavings.checks(mailing.path / METRICS)[subject]
    assert (measured, remedy in typed) == (Level[level], True)


@pytest.mark.parametrize("is_smtps", [False, True], ids=["STARTTLS", "TLS"])
def test_mail_arrives_over_verified_tls_with_a_login(mailing: LiveHome, *, is_smtps: bool) -> None:
    with serving(certificate(mailing), is_smtps=is_smtps) as server:
        address(
            mailing,
            f'"{"smtps" if is_smtps else "smtp"}://127.0.0.1:{server.port}"',
            "[a@lab.internal, b@lab.internal]",
        )
        break_template(mailing)
        out, error = said(mailing)
        assert error == "", out
    [message] = server.taken
    assert message["To"] == "a@lab.internal, b@lab.internal"
    assert message["Subject"].startswith("SANDBOX [Example Lab] WARNING release:media: templates/caddy/Caddyfile:")
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert server.logins == [("pki", PASSWORD)]
    assert server.secured == [True]
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in (mailing.path / "build").rglob("*.json"))


def test_what_goes_wrong_with_mail_fails_no_renewal_and_is_sent_by_the_next_run(mailing: LiveHome) -> None:
    """One project, one fault after another: each is said with its reason, and what is owed arrives once, at the end."""
    break_template(mailing)
    with serving(certificate(mailing)) as server:
        place = f"127.0.0.1:{server.port}"
        address(mailing, f"smtp://{place}")
        (mailing.path / "mail-password").write_text("wrong\n")
        out, error = said(mailing)
        assert error.startswith(f"{place}: refuses pki: 535 ")
        assert "→ correct the secret smtp: docs/how-to/alerts.md" in out
        assert out.splitlines()[-1] == "1 message could not be sent; the next run tries again"
        address(mailing, f"smtp://{NAME}:{server.port}")  # a name that is not in the certificate
        assert "its certificate does not verify: Hostname mismatch" in said(mailing)[1]
        (mailing.path / "mail-password").write_text(f"{PASSWORD}\n")
        assert server.taken == []
    address(mailing, f"smtp://{place}")
    assert said(mailing)[1] == f"{place}: cannot be reached: Connection refused"
    assert f"alerts:email messages cannot be sent: {place}: cannot be reached: Connection refused" in leavings.page(
        mailing.path
    )
    [(labels, failing)] = leavings.measured(mailing.read(METRICS).decode(), "alerts_channel_failing")
    assert (labels["channel"], failing) == ("email", 1)
    with serving(None) as plain:
        address(mailing, f"smtp://127.0.0.1:{plain.port}")
        assert "STARTTLS" in said(mailing)[1]
        assert plain.taken == []
    (mailing.path / "mail-password").chmod(0o644)
    assert said(mailing)[1] == "mail-password: can be read by other users"
    (mailing.path / "mail-password").chmod(0o600)
    with serving(certificate(mailing), refuses="b@lab.internal") as server:
        address(mailing, f"smtp://127.0.0.1:{server.port}", "[a@lab.internal, b@lab.internal]")
        assert said(mailing)[1].endswith("accepts no mail for b@lab.internal: 550 no such mailbox")
        said(mailing)
    [message] = server.taken
    assert "Earlier messages could not be sent since" in text_of(message)


def test_a_relay_on_the_same_machine_needs_neither_tls_nor_a_login(mailing: LiveHome) -> None:
    with serving(None) as server:
        mailing.edit("smtp: outbox}", f'smtp: "smtp://localhost:{server.port}"}}')
        break_template(mailing)
        assert said(mailing)[1] == ""
    assert (len(server.taken), server.secured) == (1, [False])


def test_a_certificate_of_somebody_else_is_refused(mailing: LiveHome, tmp_path: Path) -> None:
    subject = ["-subj", "/CN=mail", "-addext", "subjectAltName=IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", str(tmp_path / "k.pem"), "-out", str(tmp_path / "c.pem")]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *curve, *subject, *files], check=True, capture_output=True)
    (tmp_path / "both.pem").write_bytes((tmp_path / "k.pem").read_bytes() + (tmp_path / "c.pem").read_bytes())
    with serving(tmp_path / "both.pem") as server:
        address(mailing, f"smtp://127.0.0.1:{server.port}")
        break_template(mailing)
        assert "its certificate does not verify: self-signed certificate" in said(mailing)[1]
    assert server.taken == server.logins == []


def test_a_server_that_accepts_and_says_nothing_is_given_up(mailing: LiveHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pki.monitor.alerts.smtp.TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address(mailing, f"smtp://127.0.0.1:{silent.getsockname()[1]}")
        break_template(mailing)
        report = mailing.doit()
    assert report.data["alerts"][0]["error"].endswith("timed out")


def test_a_web_hook_is_told_through_apprise_and_its_address_is_nowhere(mailing: LiveHome) -> None:
    bodies: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    text = mailing.read("secrets.yaml").decode()
    mailing.write("secrets.yaml", f"{text}notify-hook: json://127.0.0.1:{hook.server_port}/{PASSWORD}\n")
    mailing.edit("smtp: outbox}", "smtp: outbox}\n  notify: [notify-hook]")
    break_template(mailing)
    assert said(mailing)[1] == ""
    assert said(mailing)[1] == ""
    hook.shutdown()
    hook.server_close()
    [body] = bodies
    assert body["title"].startswith("SANDBOX [Example Lab] WARNING release:media")
    assert f"→ {at_home(mailing, FIX_OR_RAW)}" in body["message"]
    (mailing.path / "templates/mail.cnf").rename(mailing.path / "aside.cnf")
    mailing.write("templates/broken.conf", "# deploy-target: /x\n{{ nothing }}\n")
    assert said(mailing)[1] == "notify-hook: the service did not accept the message"
    written = (path for path in (mailing.path / "build").rglob("*.json"))
    assert not any(PASSWORD.encode() in path.read_bytes() for path in written)


def test_a_full_disk_is_told_by_mail_with_what_to_type_and_not_every_hour(mailing: LiveHome, tmp_path: Path) -> None:
    """A small tmpfs in a namespace of its own holds the whole project; what is full cannot keep that something was sent.

    The metrics are told elsewhere: node_exporter reads them from another disk.
    """
    small, metrics = tmp_path / "small", tmp_path / "exporter/doit-pki.prom"
    small.mkdir()
    metrics.parent.mkdir()
    with serving(certificate(mailing)) as server:
        address(mailing, f"smtp://127.0.0.1:{server.port}")
        mailing.write("pki.yaml", f"{mailing.read('pki.yaml').decode()}metrics: {{textfile: {metrics}}}\n")
        break_template(mailing)
        script = (
            f"mount -t tmpfs -o size=24m tmpfs {small} && cp -a {mailing.path}/. {small}/ && cd {PROJECT} && "
            f"dd if=/dev/zero of={small}/ballast bs=4k status=none; for run in 1 2; do "
            f"PKI_HOME={small} {sys.executable} -m doit; done"
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    [message] = server.taken
    assert message["Subject"].startswith(f"SANDBOX [Example Lab] CRITICAL disk:{small}"[:90])  # a long path is cut
    assert "0 of 24 MB" in text_of(message)
    assert f"    → free some space: df -h {small}; du -xh {small}" in text_of(message)
    assert "alerts:record" in done.stdout
    assert leavings.checks(metrics)[f"disk:{small}"] == (
        Level.CRITICAL,
        f"free some space: df -h {small}; du -xh {small} | sort -h | tail",
    )
    shutil.rmtree(small)
