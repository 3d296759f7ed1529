"""Deliveries to real hosts: real sshd, nginx, HAProxy, Caddy and Apache, judged by curl, openssl and wrk."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.integration.fleet import FAILED, TOLD, UNITS, WELL, Fleet, fleet
from tests.support.leavings import is_idle

KINDS = list(UNITS)
NGINX = "templates/nginx/pki-services.conf"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four hosts, delivered to once; every test leaves them well."""
    with fleet(tmp_path_factory.mktemp("fleet") / "home") as made:
        made.program("doit", "-n", "4")
        yield made


def refuses(status: str) -> bool:
    """By HTTP inside good TLS, or by an alert: a server that is not there refuses nothing."""
    return status in {"400", "403", *(f"curl {number}" for number in (16, 35, 52, 55, 56))}


def seen_at(said: str, kind: str) -> str:
    """What a revocation says of the service behind mutual TLS."""
    [line] = [line for line in said.splitlines() if line.split()[1:2] == [f"{kind}/{kind}-admin"]]
    return line


def everything_serves(four: Fleet, *kinds: str) -> None:
    for kind in kinds or KINDS:
        assert four.served(kind) == four.issued(kind)
        assert four.served(kind, "admin") in {
            four.issued(kind, "-mtls"),
            "",
        }  # some show nothing to who has no certificate
        assert four.curl(f"https://{kind}-open.lab.internal/") == "200"
        assert four.as_client(kind) == "200"


# -- what goes well ---------------------------------------------------------------------------------------------------


def test_a_first_delivery_is_proven_at_every_proxy(four: Fleet) -> None:
    everything_serves(four)
    for kind in KINDS:
        assert four.receipt(kind)["verification"] == {
            key: ["verified", "verified"] for key in (f"{kind}-admin", f"{kind}-open")
        }
        assert refuses(four.curl(f"https://{kind}-admin.lab.internal/"))
    assert four.curl("http://192.0.2.11/crl/client-1.crl", "-H", "Host: pki.lab.internal") == "200"


def test_a_second_run_has_nothing_to_do_and_a_look_touches_nothing(four: Fleet) -> None:
    assert is_idle(four.program("doit"))
    before = {kind: (four.reloads(kind), four.hosts[kind].run("ls", "-lic", "/etc/doit-pki").stdout) for kind in KINDS}
    for kind in KINDS:
        assert "unchanged" in four.program("invoke", "deploy.push", kind)
    assert {k: (four.reloads(k), four.hosts[k].run("ls", "-lic", "/etc/doit-pki").stdout) for k in KINDS} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_renewed_certificate_is_served(four: Fleet, kind: str) -> None:
    before, reloads = four.served(kind), four.reloads(kind)
    said = four.program("invoke", "renew", kind)
    assert f"deploy:{kind}" in said
    assert four.served(kind) == four.issued(kind) != before
    assert four.reloads(kind) == reloads + 1, "once per service"


def test_a_revoked_client_is_refused_everywhere_and_nobody_else_is(four: Fleet) -> None:
    old = four.home / "old.pem"
    old.write_bytes((four.home / "ca/clients/admin/tls.pem").read_bytes())
    said = four.program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")
    for kind in KINDS:
        assert seen_at(said, kind).startswith("verified"), said
        assert refuses(four.curl(f"https://{kind}-admin.lab.internal/", "--cert", str(old)))
        assert four.as_client(kind) == "200"
        assert four.as_client(kind, "other") == "200"


def test_a_revocation_says_where_it_is_not_proven_and_until_when_the_old_list_holds(four: Fleet) -> None:
    apache = four.hosts["apache"]
    four.lab.unplug(apache)
    said = four.program("invoke", "revoke", "other", "--reason", "superseded", "--yes", status=TOLD)
    four.lab.plug(apache)
    assert seen_at(said, "apache").startswith("unverified")
    assert "the old CRL is valid there until 2" in seen_at(said, "apache")
    assert said.splitlines()[-1].startswith("revoked and published; not verified: apache/apache-admin;")
    for kind in set(KINDS) - {"apache"}:
        assert seen_at(said, kind).startswith("verified"), said
    four.program("doit")
    everything_serves(four, "apache")


def test_a_reload_that_does_nothing_leaves_the_revoked_in_and_is_found_out(four: Fleet) -> None:
    """The new CRL lies there, the canary is refused by the old one, and the delivery is content: only the identity tells."""
    host = four.hosts["haproxy"]
    conf = host.read("/etc/pki-apply.conf")
    line = "systemctl-reload-haproxy systemctl"
    host.write("/etc/pki-apply.conf", conf.replace(line, "systemctl-reload-haproxy true"))
    said = four.program("invoke", "revoke", "other", "--reason", "key-compromise", "--yes", status=frozenset({1}))
    host.write("/etc/pki-apply.conf", conf)
    assert seen_at(said, "haproxy").startswith("failed    haproxy/haproxy-admin    lets it in with 200")
    assert "STILL ACCEPTED by haproxy/haproxy-admin" in said.splitlines()[-1]
    assert seen_at(said, "nginx").startswith("verified")
    host.run("systemctl", "reload", "haproxy")
    everything_serves(four, "haproxy")


def test_the_revocation_of_a_servers_certificate_is_proven_by_what_its_host_serves(four: Fleet) -> None:
    before = four.served("caddy")
    said = four.program("invoke", "revoke", "caddy", "--reason", "superseded", "--yes")
    assert "verified  caddy/caddy-open         serves another certificate" in said
    assert four.served("caddy") == four.issued("caddy") != before


def test_a_host_whose_certificate_is_withheld_keeps_it_and_takes_its_lists(four: Fleet) -> None:
    """Nothing else would be there to be served."""
    before = four.served("nginx")
    said = four.program(
        *("invoke", "revoke", "nginx", "--reason", "superseded", "--no-replace", "--yes"), status=frozenset({2})
    )
    assert "unverified nginx/nginx-open         still serves the revoked certificate: no new" in said
    four.program("invoke", "revoke", "other", "--reason", "superseded", "--yes")
    assert four.served("nginx") == before
    assert "replacement stopped since" in four.program("invoke", "status")
    four.program("invoke", "renew", "nginx")
    assert four.served("nginx") == four.issued("nginx") != before
    everything_serves(four, "nginx")


def test_an_added_service_is_certified_delivered_and_proven(four: Fleet) -> None:
    service = '      nginx-new: {upstream: "http://127.0.0.1:3000", access: tls}\n'
    four.edit("pki.yaml", "      nginx-open:", f"{service}      nginx-open:")
    four.program("doit")
    assert four.curl("https://nginx-new.lab.internal/") == "200"
    assert four.receipt("nginx")["verification"]["nginx-new"] == ["verified", "verified"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_fresh_connection_fails_during_twenty_reloads_under_load(four: Fleet, kind: str) -> None:
    """Each request of wrk opens a connection of its own; it says so when one of them fails, or takes a minute."""
    url = f"https://{kind}-open.lab.internal/GPL-3"
    load = four.ca.start("wrk", "-t1", "-c4", "-d600s", "--timeout", "60s", "-H", "Connection: close", url)
    for _ in range(20):
        four.hosts[kind].run("systemctl", "reload", UNITS[kind])
        time.sleep(0.1)
    four.ca.run("pkill", "-INT", "-x", "wrk")
    load.process.wait(300)
    assert "requests in" in load.output
    assert "Socket errors" not in load.output
    assert "Non-2xx" not in load.output


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_broken_snippet_is_put_back_and_told_with_the_servers_words_and_tried_again(four: Fleet) -> None:
    good = (four.home / NGINX).read_text()
    (four.home / NGINX).write_text(f"{good}nonsense_directive on;\n")
    was = four.hosts["nginx"].read("/etc/nginx/conf.d/pki-services.conf")
    for _ in range(2):
        said = four.program("doit", status=FAILED)
        assert "failed with exit status 1; rolled back" in said
        assert 'unknown directive "nonsense_directive"' in said
        assert four.hosts["nginx"].read("/etc/nginx/conf.d/pki-services.conf") == was
        everything_serves(four, "nginx")
    assert "failing since" in four.program("invoke", "status")
    (four.home / NGINX).write_text(good)
    four.program("doit")
    assert "failing since" not in four.program("invoke", "status")


def test_a_mismatched_pair_never_leaves(four: Fleet) -> None:
    smuggled = four.home / "templates/tls/smuggled.pem"
    smuggled.write_text(
        "# deploy-target: /etc/doit-pki/smuggled.pem\n# deploy-hosts: nginx\n# deploy-reload: systemctl reload nginx\n"
        '{{ artifact("key:nginx") }}{{ artifact("fullchain:caddy") }}'
    )
    reloads = four.reloads("nginx")
    said = four.program("doit", status=FAILED)
    assert "nothing was sent: the key in /etc/doit-pki/smuggled.pem does not match the certificate beside it" in said
    assert four.reloads("nginx") == reloads
    smuggled.unlink()
    four.program("doit")
    everything_serves(four, "nginx")


def test_a_service_that_does_not_come_back_gets_its_old_files(four: Fleet) -> None:
    """Valid configuration, a reload that succeeds, and nobody at the port: only a look from outside tells."""
    good = (four.home / NGINX).read_text()
    (four.home / NGINX).write_text(good.replace("listen {{ host.port }} ssl", "listen 8443 ssl"))
    said = four.program("doit", status=FAILED)
    assert "does not answer" in said
    assert "rolled back" in said
    everything_serves(four, "nginx")
    (four.home / NGINX).write_text(good)
    four.program("doit")


def test_a_proxy_that_keeps_the_old_certificate_is_found_out(four: Fleet) -> None:
    """The reload command says yes and does nothing, as some do."""
    path = "templates/tls/tls.pem"
    good = (four.home / path).read_text()
    host = four.hosts["haproxy"]
    conf, before = host.read("/etc/pki-apply.conf"), four.served("haproxy")
    host.write(
        "/etc/pki-apply.conf", conf.replace("systemctl-reload-haproxy systemctl", "systemctl-reload-haproxy true")
    )
    said = four.program("invoke", "renew", "haproxy", status=FAILED)
    assert "serves another certificate" in said
    assert four.served("haproxy") == before
    pair = host.run("sha256sum", "/etc/doit-pki/haproxy.pem").stdout.split()[0]
    assert pair in {file["sha256"] for file in four.receipt("haproxy")["files"]}, "what is there is what was there"
    host.write("/etc/pki-apply.conf", conf)
    four.program("doit")
    everything_serves(four, "haproxy")
    assert (four.home / path).read_text() == good


def test_a_proxy_that_forgets_revocations_is_found_out_though_no_file_differs(four: Fleet) -> None:
    """Somebody let it read another configuration: all that was delivered is in its place."""
    nginx = four.hosts["nginx"]
    main, services = nginx.read("/etc/nginx/nginx.conf"), nginx.read("/etc/nginx/conf.d/pki-services.conf")
    nginx.write("/etc/nginx/forgetful.conf", re.sub(r"ssl_crl .*", "", services))
    nginx.write("/etc/nginx/nginx.conf", main.replace("/etc/nginx/conf.d/*.conf", "/etc/nginx/forgetful.conf"))
    nginx.run("systemctl", "restart", "nginx")  # after a reload, old workers answer for a moment
    receipt = four.receipt("nginx")
    said = four.program("invoke", "deploy.push", "nginx", status=FAILED)
    assert "nginx-admin lets the revoked canary in with 204" in said
    assert "on nginx: systemctl reload nginx" in said
    assert four.receipt("nginx") == receipt
    nginx.write("/etc/nginx/nginx.conf", main)
    nginx.run("systemctl", "reload", "nginx")
    assert is_idle(four.program("doit"))


def test_a_reload_that_a_crl_is_owed_is_made_up_for(four: Fleet) -> None:
    """Somebody broke another file: the CRL is there, nginx does not know it, and the host remembers."""
    nginx, old = four.hosts["nginx"], four.home / "owed.pem"
    old.write_bytes((four.home / "ca/clients/admin/tls.pem").read_bytes())
    nginx.write("/etc/nginx/conf.d/other.conf", "nonsense;\n")
    said = four.program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes", status=FAILED)
    assert "the CRLs stay in place" in said
    assert "unknown directive" in said
    nginx.run("rm", "/etc/nginx/conf.d/other.conf")
    assert "its services were not reloaded" in four.program("doit")
    assert refuses(four.curl("https://nginx-admin.lab.internal/", "--cert", str(old)))
    assert is_idle(four.program("doit"))


def test_a_restored_old_backup_lets_no_revoked_client_in(four: Fleet) -> None:
    """Nothing but the hosts themselves remembers the revocation: they keep it until it is known here again."""
    (four.home / "words").write_text("spinning teal otter ledger quartz maple\n")
    four.program("invoke", "backup", "old.age", "--passphrase-file", "words")
    old = four.home / "lost.pem"
    old.write_bytes((four.home / "ca/clients/admin/tls.pem").read_bytes())
    four.program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")

    def nobody_gets_in() -> bool:
        return all(refuses(four.curl(f"https://{kind}-admin.lab.internal/", "--cert", str(old))) for kind in KINDS)

    assert nobody_gets_in()
    for lost in ("ca", "build"):
        shutil.rmtree(four.home / lost)
    four.program("invoke", "restore", "old.age", "--passphrase-file", "words")
    said = four.program("doit", status=FAILED)
    for kind in KINDS:
        assert f"{kind} has newer CRLs than this project (was it restored from a backup?)" in said
        assert f"run invoke ledger.recover {kind}" in said
    assert nobody_gets_in()
    assert "1 revocation recovered" in four.program("invoke", "ledger.recover", "--all")
    assert nobody_gets_in()
    four.program("doit")
    assert nobody_gets_in()
    everything_serves(four)
    assert is_idle(four.program("doit"))


def test_a_host_that_is_down_fails_its_own_task_and_nobody_elses(four: Fleet) -> None:
    caddy = four.hosts["caddy"]
    four.lab.unplug(caddy)
    for kind in ("caddy", "apache"):
        four.program("invoke", "renew", kind, status=WELL | FAILED)
    said = four.program("doit", status=FAILED)
    assert "deploy:caddy" in said
    assert "unreachable; its certificate expires in" in said
    everything_serves(four, "apache")
    four.lab.plug(caddy)
    four.program("doit")
    everything_serves(four, "caddy")


def test_drift_is_told_and_repaired(four: Fleet) -> None:
    apache = four.hosts["apache"]
    apache.run(
        "sh", "-c", "echo '# edited' >>/etc/apache2/conf-enabled/pki-services.conf; chmod 644 /etc/doit-pki/apache.pem"
    )
    said = four.program("invoke", "deploy.drift", status=TOLD)
    assert "/etc/apache2/conf-enabled/pki-services.conf differs" in said
    assert "the mode of /etc/doit-pki/apache.pem is not 0600" in said
    shown = four.program("invoke", "deploy.diff", "apache")
    assert "-# edited" in shown
    assert "PRIVATE KEY" not in shown
    said = four.program("doit")  # though it looked at the host a moment ago
    assert re.search(r"deployed +deploy:apache +/etc/.* differed; the mode of /etc/doit-pki/apache.pem", said), said
    assert "without drift" in four.program("invoke", "deploy.drift")


# -- going back -------------------------------------------------------------------------------------------------------


def test_a_rollback_holds_the_host_keeps_the_newest_crl_and_ends_with_a_push(four: Fleet) -> None:
    before = four.served("apache")
    four.program("invoke", "renew", "apache")
    renewed = four.served("apache")
    old = four.home / "old-other.pem"
    old.write_bytes((four.home / "ca/clients/other/tls.pem").read_bytes())
    four.program("invoke", "revoke", "other", "--reason", "superseded", "--yes")
    assert "is pinned to" in four.program("invoke", "deploy.rollback", "apache", "--yes")
    assert four.served("apache") == before != renewed
    assert refuses(four.curl("https://apache-admin.lab.internal/", "--cert", str(old))), "revocation never goes back"
    assert "pinned to" in four.program("invoke", "status")
    assert is_idle(four.program("doit"))
    assert four.served("apache") == before
    four.program("invoke", "deploy.push", "apache")
    assert four.served("apache") == renewed
    assert "pinned to" not in four.program("invoke", "status")


def test_a_rollback_to_a_revoked_certificate_is_refused(four: Fleet) -> None:
    four.program("invoke", "revoke", "haproxy", "--reason", "key-compromise", "--yes")
    served = four.served("haproxy")
    said = four.program("invoke", "deploy.rollback", "haproxy", "--yes", status=FAILED)
    assert "is revoked" in said
    assert four.served("haproxy") == served
    assert "pinned to" not in four.program("invoke", "status")


# -- this machine -----------------------------------------------------------------------------------------------------


def test_the_machine_that_runs_doit_gets_its_files_by_the_same_script(four: Fleet) -> None:
    four.edit("pki.yaml", "deploy: {ssh_config: ssh_config}", "deploy: {ssh_config: ssh_config, ca: local}")
    (four.home / "templates/motd").write_text(
        "# deploy-target: /etc/motd.d/pki\n# deploy-reload: date\nHere is the CA.\n"
    )
    four.program("invoke", "deploy.bootstrap", "ca")
    four.program("doit")
    assert "Here is the CA." in four.ca.read("/etc/motd.d/pki")
    (four.home / "templates/motd").unlink()
    four.edit("pki.yaml", ", ca: local}", "}")
