"""Deployment consistency: a host holds its release, a receipt proves it, and whatever differs is found and fixed."""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.authority.trust_page import page
from pki.ceremony import words
from pki.common import filesystem, yaml_text
from pki.config import identifiers
from pki.config.model import Ansible
from pki.deploy.ansible import playbooks
from pki.monitor import forecast
from pki.pipeline import plan
from tests.support.generations import new_generation
from tests.support.pages import Page
from tests.support.projects import PROJECT, Home

MEDIA_PEM = "/etc/doit-pki/media.pem"
ROOTS = "/etc/doit-pki/roots.pem"
CADDYFILE = "/etc/caddy/Caddyfile"
STATUS_CONF = """\
# deploy-target: /etc/nginx/conf.d/status.conf
# deploy-hosts: proxy:nginx
# deploy-validate: nginx -t
# deploy-reload: systemctl reload nginx
server { listen 127.0.0.1:8080; server_name {{ host.name }}; location / { stub_status; } }
"""
NOT_JSON = {
    "empty": b"",
    "cut off": b'{"format": 1, "files": [',
    "a list": b"[]",
    "a text": b'"release"',
    "a number": b"7",
    "another format": b'{"format": 99}',
    "nothing but its format": b'{"format": 1}',
    "no text": b"\xff\xfe\x00",
}


def root(home: Home, host: str) -> Path:
    return home.path / "build" / "hosts" / host


def on(home: Home, host: str, path: str) -> Path:
    """A file on a host."""
    return root(home, host) / path.lstrip("/")


def receipt(home: Home, host: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(home.read(f"build/receipts/{host}.json"))
    return data


def manifest(home: Home, host: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(home.read(f"build/release/{host}/manifest.json"))
    return data


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its mode and content."""
    return {
        f"/{path.relative_to(folder)}": (path.stat().st_mode & 0o7777, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def only(host: str) -> set[str]:
    return {f"release:{host}", f"deploy:{host}"}


# -- receipts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["monitoring", "forge", "media"])
def test_a_host_holds_exactly_what_its_receipt_says_by_digest_and_mode(home: Home, host: str) -> None:
    listed = {file["path"]: (int(file["mode"], 8), file["sha256"]) for file in receipt(home, host)["files"]}
    found = {
        path: (mode, hashlib.sha256(content).hexdigest()) for path, (mode, content) in tree(root(home, host)).items()
    }
    assert found == listed
    assert receipt(home, host)["release"] == manifest(home, host)["release"]


@pytest.mark.parametrize("host", ["monitoring", "forge", "media"])
def test_a_release_is_complete_before_it_leaves(home: Home, host: str) -> None:
    assert tree(home.path / f"build/release/{host}/files") == tree(root(home, host))


def test_a_receipt_says_when_through_what_and_what_was_not_done(home: Home) -> None:
    found = receipt(home, "media")
    assert (found["host"], found["delivered_at"], found["transport"]) == (
        "media",
        "2026-11-23T06:00:00Z",
        "folder",
    )
    assert found["not_done"][0] == "owners were not set: the files belong to the account that runs doit"
    assert set(found["not_done"][1:]) == {
        "not run: caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile",
        "not run: systemctl reload caddy",
        "not run: sysctl -eqp /etc/sysctl.d/90-pki-caddy.conf || true",
        "not run: pki-trust debian",
    }


def test_each_command_is_named_once_for_each_host(home: Home) -> None:
    for host in ("monitoring", "forge", "media"):
        not_done = receipt(home, host)["not_done"]
        assert len(not_done) == len(set(not_done))
    assert "not run: systemctl reload nginx" in receipt(home, "monitoring")["not_done"]
    assert "not run: systemctl reload haproxy" in receipt(home, "forge")["not_done"]


@pytest.mark.parametrize(
    ("proxy", "unit"), [("nginx", "nginx"), ("haproxy", "haproxy"), ("caddy", "caddy"), ("apache", "apache2")]
)
def test_new_certificates_and_crls_reach_a_proxy_by_a_reload_of_its_unit(home: Home, proxy: str, unit: str) -> None:
    home.edit("proxy: haproxy", f"proxy: {proxy}")
    assert home.doit().status == 0
    reloads = {file["path"]: file["reload"] for file in manifest(home, "forge")["files"]}
    for path in ("forge-mtls.pem", "client-ca.pem", "client-crl.pem"):
        assert reloads[f"/etc/doit-pki/{path}"] == f"systemctl reload {unit}"


def test_traefik_reads_new_certificates_because_its_file_changes_with_them(home: Home) -> None:
    """It watches that file alone: https://doc.traefik.io/traefik/providers/file/."""
    home.edit("proxy: haproxy", "proxy: traefik")
    assert home.doit().status == 0
    path = "/etc/traefik/dynamic/pki-services.yml"
    before = on(home, "forge", path).read_text()
    assert home.doit(days=61).status == 0
    assert on(home, "forge", path).read_text() != before
    assert all(not file["reload"] for file in manifest(home, "forge")["files"] if "doit-pki/" in file["path"])


def test_traefik_demands_client_certificates_unless_a_service_is_open(home: Home) -> None:
    home.edit("proxy: haproxy\n", "proxy: traefik\n    port: 8443\n")
    home.add_service("pages", "forge", "tls")
    assert home.doit().status == 0
    fixed = yaml_text.load(on(home, "forge", "/etc/traefik/traefik.yml").read_text(), "traefik.yml")
    assert fixed["entryPoints"] == {"pki": {"address": ":8443"}}
    found = yaml_text.load(on(home, "forge", "/etc/traefik/dynamic/pki-services.yml").read_text(), "pki-services.yml")
    options, routers = found["tls"]["options"], found["http"]["routers"]
    assert options["default"]["clientAuth"] == {
        "clientAuthType": "RequireAndVerifyClientCert",
        "caFiles": ["/etc/doit-pki/client-ca.pem"],
    }
    assert "clientAuth" not in options["pki-open"]
    assert {one["sniStrict"] for one in options.values()} == {"true"}
    assert {name: router["tls"]["options"] for name, router in routers.items()} == {
        "pki-forgejo": "default",
        "pki-forgejo_0": "default",  # for a WebSocket
        "pki-pages": "pki-open",
        "pki-pages_0": "pki-open",
    }
    assert {name: router["middlewares"] for name, router in routers.items()} == {
        "pki-forgejo": ["pki-http", "pki-nobody", "pki-client"],
        "pki-forgejo_0": ["pki-upgrade_0", "pki-nobody", "pki-client"],
        "pki-pages": ["pki-http", "pki-nobody"],
        "pki-pages_0": ["pki-upgrade_0", "pki-nobody"],
    }


@pytest.mark.parametrize("proxy", ["nginx", "haproxy", "caddy", "apache", "traefik"])
def test_a_protocol_is_permitted_for_the_service_that_names_it_alone(home: Home, proxy: str) -> None:
    home.edit("proxy: haproxy", f"proxy: {proxy}")
    home.add_service("pages", "forge", "tls")
    assert home.doit().status == 0
    before = tree(root(home, "forge") / "etc")
    assert not any(b"SPDY" in data for _, data in before.values())
    home.edit("access: tls}", "access: tls, upgrade: SPDY/3.1}")
    assert home.doit().status == 0
    changed = {path for path, found in tree(root(home, "forge") / "etc").items() if before[path] != found}
    assert len(changed) == 1
    [(_, data)] = [found for path, found in tree(root(home, "forge") / "etc").items() if path in changed]
    assert b"SPDY/3[.]1" in data or b"spdy/3.1" in data
    assert b"h2c$" not in data


@pytest.mark.parametrize(
    ("proxy", "path", "said"),
    [
        ("nginx", "nginx/conf.d/pki-services.conf", "listen 8443 ssl;"),
        ("haproxy", "haproxy/haproxy.cfg", "bind :8443 ssl"),
        ("caddy", "caddy/Caddyfile", "https_port 8443"),
        ("apache", "apache2/conf-enabled/pki-services.conf", "Listen 8443 https"),
        ("traefik", "traefik/traefik.yml", '":8443"'),
    ],
)
def test_a_proxy_listens_on_the_port_of_its_host(home: Home, proxy: str, path: str, said: str) -> None:
    home.edit("proxy: haproxy\n", f"proxy: {proxy}\n    port: 8443\n")
    assert home.doit().status == 0
    text = on(home, "forge", f"/etc/{path}").read_text()
    assert said in text
    assert not re.search(r"\b443\b", text), "a serial number may contain the digits, and no port does"


def test_a_receipt_stays_as_it_is_while_nothing_is_delivered(home: Home) -> None:
    before = home.read("build/receipts/media.json")
    home.doit(days=7)
    assert home.read("build/receipts/media.json") == before
    assert receipt(home, "monitoring")["delivered_at"] == "2026-11-30T06:00:00Z"


def test_keys_reach_only_their_own_host_and_nobody_else_can_read_them(home: Home) -> None:
    keys = {
        (host, path): mode
        for host in ("monitoring", "forge", "media")
        for path, (mode, content) in tree(root(home, host)).items()
        if b"PRIVATE KEY" in content
    }
    assert keys == {
        ("monitoring", "/etc/doit-pki/monitoring-mtls.pem"): 0o600,
        ("forge", "/etc/doit-pki/forge-mtls.pem"): 0o600,
        ("media", MEDIA_PEM): 0o640,
    }
    owners = {file["path"]: file["owner"] for file in receipt(home, "media")["files"]}
    assert owners[MEDIA_PEM] == "root:caddy"


def test_releases_in_the_build_folder_keep_keys_to_themselves(home: Home) -> None:
    loose = [
        str(path)
        for path in (home.path / "build").rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes() and path.stat().st_mode & 0o037
    ]
    assert loose == []


def test_a_manifest_names_what_its_files_follow_from(home: Home) -> None:
    found = manifest(home, "media")
    assert found["uses"].keys() == {"tls:media", "trust:roots", "ca-pem:root"}
    assert {name for name in found["inputs"] if name.startswith("template ")} == {
        "template caddy/Caddyfile",
        "template caddy/pki-reload.conf",
        "template tls/tls.pem",
        "template tls/upstream-ca.pem",
        "template trust/roots.pem",
        "template trust/system-root.crt",
    }


# -- drift ------------------------------------------------------------------------------------------------------------


def test_a_release_names_only_the_values_of_the_host_that_changed(home: Home) -> None:
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    port: 8443\n")
    [change] = [change for change in home.doit().data["changed"] if change["name"] == "release:media"]
    assert "host.port changed" in change["reasons"]
    assert [reason for reason in change["reasons"] if reason.startswith("host.") and "port" not in reason] == []


@pytest.mark.parametrize("path", [MEDIA_PEM, CADDYFILE])
def test_an_edited_file_is_found_and_mended(home: Home, path: str) -> None:
    before = tree(root(home, "media"))
    with on(home, "media", path).open("ab") as file:
        file.write(b"# edited on the host\n")
    assert home.doit().made == {"deploy:media": f"{path} was edited"}
    assert tree(root(home, "media")) == before
    assert home.doit().made == {}


def test_a_deleted_file_is_found_and_mended(home: Home) -> None:
    before = tree(root(home, "media"))
    on(home, "media", ROOTS).unlink()
    assert home.doit().made == {"deploy:media": f"{ROOTS} was deleted"}
    assert tree(root(home, "media")) == before


def test_a_changed_mode_is_found_and_mended(home: Home) -> None:
    on(home, "media", MEDIA_PEM).chmod(0o644)
    assert home.doit().made == {"deploy:media": f"{MEDIA_PEM} had mode 0644, expected 0640"}
    assert filesystem.mode_of(on(home, "media", MEDIA_PEM)) == 0o640


def test_everything_that_drifted_is_named(home: Home) -> None:
    on(home, "forge", ROOTS).unlink()
    on(home, "forge", "/etc/haproxy/haproxy.cfg").write_text("")
    on(home, "forge", "/etc/doit-pki/client-ca.pem").chmod(0o600)
    assert set(home.doit().made["deploy:forge"].split("; ")) == {
        f"{ROOTS} was deleted",
        "/etc/haproxy/haproxy.cfg was edited",
        "/etc/doit-pki/client-ca.pem had mode 0600, expected 0644",
    }


def test_a_host_that_lost_everything_gets_everything(home: Home) -> None:
    before = tree(root(home, "monitoring"))
    shutil.rmtree(root(home, "monitoring"))
    assert set(home.doit().made) == {"deploy:monitoring"}
    assert tree(root(home, "monitoring")) == before


def test_an_edit_that_leaves_size_and_time_alone_is_found(home: Home) -> None:
    """The quick look goes by file states; an edit within the clock's grain must not slip through it."""
    home.doit()
    path = on(home, "media", CADDYFILE)
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(b"X" + content[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert home.doit().made == {"deploy:media": f"{CADDYFILE} was edited"}


def test_a_symbolic_link_in_a_files_place_is_replaced_and_not_followed(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    on(home, "media", CADDYFILE).unlink()
    on(home, "media", CADDYFILE).symlink_to(elsewhere)
    assert set(home.doit().made) == {"deploy:media"}
    assert elsewhere.read_text() == "mine"
    assert not on(home, "media", CADDYFILE).is_symlink()


def test_a_folder_in_a_files_place_fails_that_host_alone(home: Home) -> None:
    on(home, "media", CADDYFILE).unlink()
    on(home, "media", CADDYFILE).mkdir()
    report = home.doit(days=61)
    assert set(report.failed) == {"deploy:media"}
    assert report.status in {1, 2}
    assert {"deploy:monitoring", "deploy:forge", "release:media"} <= report.made.keys()


def test_a_host_that_cannot_be_written_to_fails_alone_and_takes_the_release_later(home: Home) -> None:
    shutil.rmtree(root(home, "media"))
    root(home, "media").write_text("an unmounted disk")
    report = home.doit(days=61)
    assert set(report.failed) == {"deploy:media"}
    assert report.status in {1, 2}
    assert {"deploy:monitoring", "deploy:forge", "cert:media", "release:media"} <= report.made.keys()
    root(home, "media").unlink()
    assert set(home.doit(days=61).made) == {"deploy:media"}
    assert on(home, "media", MEDIA_PEM).read_bytes() == home.read("build/certs/media/tls.pem")


# -- damage in our own files ------------------------------------------------------------------------------------------


def test_a_damaged_copy_in_the_release_is_made_again_and_nothing_is_delivered(home: Home) -> None:
    path = home.path / f"build/release/media/files{CADDYFILE}"
    path.write_text("damaged")
    assert home.doit().made == {"release:media": f"its copy of {CADDYFILE} was damaged"}
    assert path.read_bytes() == on(home, "media", CADDYFILE).read_bytes()


def test_a_damaged_copy_never_reaches_a_host(home: Home) -> None:
    """Release and host are damaged alike: the release is fixed first, and what is delivered is right."""
    before = tree(root(home, "media"))
    for path in (home.path / f"build/release/media/files{CADDYFILE}", on(home, "media", CADDYFILE)):
        path.write_text("damaged")
    assert set(home.doit().made) == only("media")
    assert tree(root(home, "media")) == before


def test_a_key_in_a_release_that_others_can_read_is_closed_again(home: Home) -> None:
    path = home.path / f"build/release/media/files{MEDIA_PEM}"
    path.chmod(0o644)
    assert set(home.doit().made) == {"release:media"}
    assert filesystem.mode_of(path) == 0o640


@pytest.mark.parametrize("damage", NOT_JSON.values(), ids=NOT_JSON)
def test_a_damaged_manifest_is_written_again_and_nothing_is_delivered(home: Home, damage: bytes) -> None:
    path = home.path / "build/release/media/manifest.json"
    before = path.read_bytes()
    path.write_bytes(damage)
    report = home.doit()
    assert report.status == 0
    assert report.made == {"release:media": "its manifest was damaged"}
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", NOT_JSON.values(), ids=NOT_JSON)
def test_a_damaged_receipt_is_written_again(home: Home, damage: bytes) -> None:
    path = home.path / "build/receipts/media.json"
    before = path.read_bytes()
    path.write_bytes(damage)
    report = home.doit()
    assert report.status == 0
    assert report.made == {"deploy:media": "its receipt was damaged"}
    assert path.read_bytes() == before


def test_a_damaged_receipt_of_a_removed_host_stops_nothing(home: Home) -> None:
    remove_media(home)
    (home.path / "build/receipts/media.json").write_bytes(b"[]")
    assert home.doit().status == 0
    assert home.doit().made == {}


def test_a_stray_file_in_a_release_is_swept_when_it_is_next_built(home: Home) -> None:
    stray = home.path / "build/release/media/files/etc/stray.conf"
    stray.write_text("x")
    home.edit("127.0.0.1:8096", "127.0.0.1:8097")
    assert set(home.doit().made) == only("media")
    assert not stray.exists()


# -- coming and going -------------------------------------------------------------------------------------------------


def test_a_new_managed_file_is_delivered_without_any_other_change(home: Home) -> None:
    home.write("templates/nginx/status.conf", STATUS_CONF)
    foretold = {artifact.id: "; ".join(map(str, why)) for artifact, why in forecast.due_artifacts(home.plan())}
    made = home.doit().made
    assert set(made) == set(foretold) == only("monitoring")
    assert made["deploy:monitoring"] == "/etc/nginx/conf.d/status.conf was added"
    assert b"server_name monitoring;" in on(home, "monitoring", "/etc/nginx/conf.d/status.conf").read_bytes()
    assert home.doit().made == {}


def test_templates_that_are_added_or_changed_together_are_one_reason(home: Home) -> None:
    names = [f"templates/nginx/status-{number}.conf" for number in range(4)]
    for name in names:
        home.write(name, STATUS_CONF.replace("status.conf", Path(name).name))
    listed = "4 templates (nginx/status-0.conf, nginx/status-1.conf and 2 more)"
    assert home.doit().made["release:monitoring"] == f"{listed} were added"
    for name in names:
        home.write(name, (home.path / name).read_text() + "# changed\n")
    assert home.doit().made["release:monitoring"] == f"{listed} changed"
    for name in names[1:]:
        (home.path / name).unlink()
    listed = "3 templates (nginx/status-1.conf, nginx/status-2.conf and 1 more)"
    assert home.doit().made["release:monitoring"] == f"{listed} were removed"
    (home.path / names[0]).unlink()
    assert home.doit().made["release:monitoring"] == "template nginx/status-0.conf was removed"


def test_a_managed_file_that_goes_takes_along_what_it_had_delivered(home: Home) -> None:
    path = home.write("templates/nginx/status.conf", STATUS_CONF)
    before = tree(root(home, "monitoring"))
    home.doit()
    path.unlink()
    made = home.doit().made
    assert set(made) == only("monitoring")
    assert made["deploy:monitoring"] == "/etc/nginx/conf.d/status.conf was no longer needed"
    assert tree(root(home, "monitoring")) == before
    assert tree(home.path / "build/release/monitoring/files") == before


def test_a_file_that_moves_leaves_nothing_behind(home: Home) -> None:
    home.edit("/etc/caddy/Caddyfile", "/etc/caddy/sites/Caddyfile", "templates/caddy/Caddyfile")
    assert set(home.doit().made) == only("media")
    assert on(home, "media", "/etc/caddy/sites/Caddyfile").is_file()
    assert not on(home, "media", CADDYFILE).exists()


def test_what_we_did_not_deliver_is_never_removed(home: Home) -> None:
    mine = on(home, "media", "/etc/caddy/mine.conf")
    mine.write_text("mine")
    home.edit("/etc/caddy/Caddyfile", "/etc/other/Caddyfile", "templates/caddy/Caddyfile")
    home.doit()
    assert not on(home, "media", CADDYFILE).exists()
    assert mine.read_text() == "mine"
    remove_media(home)
    home.doit()
    assert [path for path in root(home, "media").rglob("*") if path.is_file()] == [mine]


def test_a_changed_owner_alone_is_delivered_and_written_on_the_receipt(home: Home) -> None:
    home.edit(
        "# deploy-hosts: proxy:caddy\n",
        "# deploy-hosts: proxy:caddy\n# deploy-owner: root:caddy\n",
        "templates/caddy/Caddyfile",
    )
    made = home.doit().made
    assert set(made) == only("media")
    assert made["deploy:media"] == f"{CADDYFILE} changed"
    assert {f["path"]: f["owner"] for f in receipt(home, "media")["files"]}[CADDYFILE] == "root:caddy"


def test_a_file_for_the_ca_machine_is_delivered_there(home: Home) -> None:
    home.write("templates/note.txt", "# deploy-target: /etc/pki-note\n{{ inventory.organisation }}\n")
    assert set(home.doit().made) == only("ca")
    assert b"Example Lab" in on(home, "ca", "/etc/pki-note").read_bytes()


def test_a_removed_host_is_withdrawn_and_its_certificate_is_left_to_a_person(home: Home) -> None:
    remove_media(home)
    report = home.doit()
    assert report.status == 0
    assert [name.partition(":")[0] for name in report.made] == ["cleanup"]
    assert not root(home, "media").exists()
    for left in ("release/media", "receipts/media.json", "certs/media"):
        assert not (home.path / "build" / left).exists()
    [note] = forecast.required_actions(home.project(), home.plan())
    assert (note.subject, note.remedy) == ("cert:media", "./run invoke retire media")
    assert home.doit().made == {}


def test_a_host_of_deliver_none_keeps_its_certificate_and_gets_nothing(home: Home) -> None:
    home.edit("network: av\n", "network: av\n    deliver: none\n")
    names = {artifact.id for artifact in home.plan().artifacts}
    assert "cert:media" in names
    assert not only("media") & names
    report = home.doit()
    assert report.status == 0
    assert not root(home, "media").exists()
    assert (home.path / "build/certs/media/tls.pem").exists()


def test_a_host_of_deliver_none_can_be_delivered_to_again(home: Home) -> None:
    before = tree(root(home, "media"))
    home.edit("network: av\n", "network: av\n    deliver: none\n")
    home.doit()
    home.edit("    deliver: none\n", "")
    made = home.doit().made
    assert made == {"release:media": "did not exist", "deploy:media": "first deployment"}
    assert tree(root(home, "media")) == before


def break_template(home: Home) -> None:
    whole = home.read("templates/caddy/Caddyfile").decode()
    home.write("templates/caddy/Caddyfile", f"{whole}{{{{ unfinished\n")


def remove_media(home: Home) -> None:
    text = (home.path / "pki.yaml").read_text()
    shortened = re.sub(r"  media:\n(    .*\n)+", "", text)
    assert shortened != text
    (home.path / "pki.yaml").write_text(shortened)


# -- one bad thing stops only what depends on it ----------------------------------------------------------------------


def test_a_broken_template_fails_only_the_releases_that_use_it(home: Home) -> None:
    before = tree(root(home, "media"))
    break_template(home)
    report = home.doit(days=61)
    assert report.status in {1, 2}
    assert set(report.failed) == {"release:media"}
    assert report.failed["release:media"].startswith("templates/caddy/Caddyfile:")
    assert [entry["name"] for entry in report.data["blocked"]] == ["deploy:media"]
    assert {"cert:media", "deploy:monitoring", "deploy:forge"} <= report.made.keys()
    assert tree(root(home, "media")) == before


def test_a_mended_template_catches_up(home: Home) -> None:
    whole = home.read("templates/caddy/Caddyfile").decode()
    break_template(home)
    home.doit(days=61)
    home.write("templates/caddy/Caddyfile", whole)
    report = home.doit(days=61)
    assert report.status == 0
    assert set(report.made) == only("media")


def test_a_broken_template_of_all_hosts_still_lets_certificates_and_crls_be_made(home: Home) -> None:
    home.write("templates/all.conf", "# deploy-target: /etc/all\n# deploy-hosts: all\n{{ nothing }}\n")
    report = home.doit(days=61)
    assert set(report.failed) == {"release:monitoring", "release:forge", "release:media"}
    assert {"cert:media", "crl:client-1", "bundle:client-crls"} <= report.made.keys()


def test_a_release_that_fails_leaves_the_one_before_as_it_was(home: Home) -> None:
    before = tree(home.path / "build/release/media")
    home.edit("127.0.0.1:8096", "127.0.0.1:8097")
    home.write("templates/zz.conf", "# deploy-target: relative/path\n# deploy-hosts: media\nx\n")
    assert set(home.doit().failed) == {"release:media"}
    assert tree(home.path / "build/release/media") == before


# -- what waits for a ceremony ----------------------------------------------------------------------------------------

OUTSIDE = '      wiki: {upstream: "http://127.0.0.1:9999", access: mtls, names: [wiki.new.internal]}\n'


def add_outside_service(home: Home) -> None:
    """A service under a domain that came into pki.yaml after the ceremony."""
    loki = '      loki:       {upstream: "http://127.0.0.1:3100", access: mtls}\n'
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    home.edit(loki, loki + OUTSIDE)


def test_a_name_that_the_intermediate_does_not_permit_waits_alone(home: Home) -> None:
    add_outside_service(home)
    assert [(note.subject, note.text) for note in home.plan().actions_required] == [
        ("host:monitoring", "wiki.new.internal waits: server-1 does not permit it; needs a ceremony")
    ]
    report = home.doit()
    assert report.status == 0
    assert not any(name.startswith("cert:") for name in report.made)
    assert b"wiki" not in on(home, "monitoring", "/etc/nginx/conf.d/pki-services.conf").read_bytes()
    assert home.doit().made == {}


def test_everything_else_goes_on_while_a_name_waits(home: Home) -> None:
    add_outside_service(home)
    report = home.doit(days=61)
    assert report.status == 0
    assert {"cert:monitoring-mtls", "cert:forge-mtls", "cert:media", "crl:client-1"} <= report.made.keys()
    assert report.data["notes"][0]["subject"] == "host:monitoring"


def test_the_name_enters_when_the_ceremony_has_been_held(home: Home) -> None:
    add_outside_service(home)
    home.doit()
    new_generation(home, "server")
    report = home.doit()
    assert report.status == 0
    assert home.plan().actions_required == ()
    assert b"wiki.new.internal" in on(home, "monitoring", "/etc/nginx/conf.d/pki-services.conf").read_bytes()
    assert "wiki.new.internal" in home.plan().leaves["monitoring-mtls"].dns


def test_a_host_whose_every_name_waits_is_no_failure(home: Home) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    home.edit(
        "hosts:\n",
        "hosts:\n  shop:\n    network: dev\n    proxy: nginx\n    services:\n"
        '      shop: {upstream: "http://127.0.0.1:1", access: mtls, names: [shop.new.internal]}\n',
    )
    [note] = home.plan().actions_required
    assert note.subject == "host:shop"
    assert "cert:shop-mtls" not in {artifact.id for artifact in home.plan().artifacts}
    assert home.doit().status == 0
    assert not on(home, "shop", "/etc/doit-pki/shop-mtls.pem").exists()


def test_an_address_outside_what_is_permitted_waits_as_well(home: Home) -> None:
    home.edit("permit_addresses: [10.0.0.0/8]", "permit_addresses: [10.0.0.0/8, 192.168.0.0/16]")
    home.edit("network: av\n", "network: av\n    names: [192.168.3.4]\n")
    [note] = home.plan().actions_required
    assert note.text == "192.168.3.4 waits: server-1 does not permit it; needs a ceremony"
    report = home.doit()
    assert report.status == 0
    assert "cert:media" not in report.made


def test_before_the_first_ceremony_nothing_is_said_to_wait(fresh: Home) -> None:
    add_outside_service(fresh)
    assert plan.plan(fresh.project()).actions_required == ()


# -- a fleet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["", "-", "aa", "aab", "-a-a-b-b", "a---------b", "aaaa-", "abcabc--------"])
def test_hosts_of_one_group_stand_in_different_plays_of_about_the_same_size_in_their_order(groups: str) -> None:
    hosts = [SimpleNamespace(host=str(number), group=one.strip("-")) for number, one in enumerate(groups)]
    rounds = playbooks.plan_rounds(hosts)  # type: ignore[arg-type]
    assert sorted(int(one.host) for some in rounds for one in some) == list(range(len(groups)))
    assert len(rounds) == max((groups.count(one) for one in set(groups) - {"-"}), default=1)
    assert all(max(Counter(one.group for one in some if one.group).values(), default=0) <= 1 for some in rounds)
    assert max(map(len, rounds)) - min(map(len, rounds)) <= 1
    assert all([int(one.host) for one in some] == sorted(int(one.host) for one in some) for some in rounds)


def test_what_an_inventory_says_is_read_as_it_was_meant() -> None:
    """A host may be called `no` or `12`, which YAML would read otherwise."""
    hosts = [
        SimpleNamespace(host=name, group="", variables=lambda **_: {"pki_deployed_before": False})
        for name in ("no", "12")
    ]
    said = yaml_text.load(playbooks.inventory(hosts, [hosts], portable=False), "inventory.yaml")  # type: ignore[arg-type]
    assert said["all"]["hosts"] == {"no": {"pki_deployed_before": "false"}, "12": {"pki_deployed_before": "false"}}
    assert list(said["all"]["children"]["round_1"]["hosts"]) == ["no", "12"]
    assert '"no":' in playbooks.inventory(hosts, [hosts], portable=False)  # type: ignore[arg-type]


def test_no_private_key_is_left_of_what_was_written_for_ansible(home: Home, tmp_path: Path) -> None:
    files = [home.path / "build/certs/media" / name for name in ("cert.pem", "tls.pem", "tls.pem")]
    prober = SimpleNamespace(**dict(zip(("roots", "probe", "canary"), files, strict=True)))
    host = SimpleNamespace(
        host="media",
        group="",
        variables=lambda **_: {},
        stream=files[1].read_bytes,
        change=SimpleNamespace(destination=SimpleNamespace(prober=prober)),
    )
    folder = tmp_path / "ansible"
    playbooks.write(folder, [host], Ansible())  # type: ignore[list-item]

    def with_keys() -> list[str]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return sorted(str(one.relative_to(folder)) for one in paths if b"PRIVATE KEY" in one.read_bytes())

    assert with_keys() == ["prober/canary.pem", "prober/probe.pem", "streams/media"]
    playbook = (folder / "playbook.yaml").read_text()
    assert all(f": prober/{name}.pem" in playbook for name in ("roots", "probe", "canary"))
    playbooks.remove_secrets(folder)
    assert with_keys() == []


def test_what_travels_with_ansible_imports_nothing_of_ours_that_stays_here() -> None:
    there = {f"{playbooks.UTILS}.{Path(str(module.__file__)).stem}" for module in playbooks.COLLECTION_MODULES}
    for module in playbooks.COLLECTION_MODULES:
        code = playbooks.collection_module(module).decode().partition('"""\n')[2]
        imported = set(re.findall(r"^\s*(?:from|import) (\S+)", code, re.MULTILINE))
        assert {name for name in imported if name.partition(".")[0] in {"pki", "ansible_collections"}} <= there
        assert b"pki.deploy" not in playbooks.collection_module(module)


# -- the trust page ---------------------------------------------------------------------------------------------------


def trust_page(home: Home) -> Page:
    """The page as it lies on the publishing host."""
    return Page(on(home, "monitoring", "/var/www/pki/index.html").read_text())


def rendered(home: Home, **changed: object) -> Page:
    """The page of a project with some of its values changed."""
    project = home.project()
    live = {
        name: [project.authorities.existing(one) for one in project.authorities.live(name)]
        for name in identifiers.AUTHORITIES
    }
    return Page(page.render(page.context(project.inventory, project.store, live, has_codes=True) | changed).decode())


def test_the_page_says_of_a_root_all_that_is_to_be_compared(home: Home) -> None:
    root_1 = x509.load_der_x509_certificate(home.read("build/trust/root-1.crt"))
    found, digest = trust_page(home), root_1.fingerprint(hashes.SHA256()).hex()
    assert "Example Lab SANDBOX Root CA 1" in found.text
    assert f"{root_1.not_valid_before_utc:%Y-%m-%d} to {root_1.not_valid_after_utc:%Y-%m-%d}" in found.text
    assert (
        digest
        == "".join(re.findall(r"(?<![0-9A-F:])(?:[0-9A-F]{2}:){7}[0-9A-F]{2}", found.text)).replace(":", "").lower()
    )
    assert " ".join(f"{place} {word}" for place, word in enumerate(words.of_digest(digest), 1)) in found.text
    assert "<svg" in found.html
    assert "another channel" in found.text


def test_every_link_of_the_page_leads_to_a_file_that_is_published(home: Home) -> None:
    links, served = set(trust_page(home).links), on(home, "monitoring", "/var/www/pki")
    assert {str(path.relative_to(served)) for path in served.rglob("*") if path.is_file()} == links | {"index.html"}


def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing(home: Home) -> None:
    found = trust_page(home)
    assert found.faults == []
    assert found.taken == ["data:,"], "an icon that nobody fetches"
    assert "script" not in found.tags
    assert "@import" not in found.html
    assert "url(" not in found.html


def test_the_headings_of_the_page_lead_through_it(home: Home) -> None:
    levels = [int(level[1]) for level, _ in trust_page(home).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert '<html lang="en">' in trust_page(home).html


@pytest.mark.parametrize("system", ["Windows", "macOS", "iPhone", "Android", "Debian", "RHEL", "Firefox", "Java"])
def test_the_page_tells_every_system_how_to_install_the_root(home: Home, system: str) -> None:
    assert any(level == "h3" and system in text for level, text in trust_page(home).headings)


def test_only_a_sandbox_says_that_its_root_is_not_to_be_installed(home: Home) -> None:
    assert "SANDBOX: do not install" in trust_page(home).text
    assert "do not install. This is a try-out" not in rendered(home, sandbox=False).text


def test_what_an_organisation_is_called_is_text_and_never_markup(home: Home) -> None:
    name = """<b onclick="x">R&D</b> 'n' </style>"""
    found = rendered(home, organisation=name)
    assert found.faults == []
    assert "b" not in rendered(home, organisation=name, roots=()).tags
    assert found.text.count(name) == trust_page(home).text.count("Example Lab") - 1, "but for the root's own name"


def test_an_organisation_may_be_called_as_pki_yaml_permits(fresh: Home) -> None:
    fresh.edit("Example Lab", "R&D's + Läb")
    assert fresh.doit().status == 0
    assert "R&D's + Läb SANDBOX Root CA 1" in trust_page(fresh).text
    profile = plistlib.loads(on(fresh, "monitoring", "/var/www/pki/trust/roots.mobileconfig").read_bytes())
    assert profile["PayloadOrganization"] == "R&D's + Läb"
    assert [one["PayloadContent"] for one in profile["PayloadContent"]] == [fresh.read("build/trust/root-1.crt")]


def test_a_run_with_nothing_to_do_renders_no_page(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("rendered without need")

    assert home.doit().status == 0
    monkeypatch.setattr(page, "files", refuse)
    report = home.doit(days=6)
    assert (report.made, report.failed) == ({}, {})


def test_the_page_loads_nothing_while_it_stays_as_it_is(home: Home) -> None:
    assert home.doit().status == 0
    asked = f"""
import sys
from datetime import datetime
from pathlib import Path
from pki.monitor.report.run import Run
status = Run(Path({str(home.path)!r}), datetime.fromisoformat({home.moment().isoformat()!r})).main([])
assert not status and not {{"segno", "shamir_mnemonic", "pki.authority.trust_page.page"}} & sys.modules.keys()
"""
    assert subprocess.run([sys.executable, "-c", asked], cwd=PROJECT, check=False).returncode == 0


def test_a_page_that_is_made_again_is_the_same_to_the_last_byte(home: Home) -> None:
    project = home.project()
    assert page.files(project.inventory, project.store, project.authorities) == {
        path: home.read(path) for path in page.files(project.inventory, project.store, project.authorities)
    }
    shutil.rmtree(home.path / "build/trust")
    assert home.doit().made.keys() == {"bundle:trust", "page:trust"}


def test_a_new_revocation_list_changes_its_date_on_the_page_and_nothing_else(home: Home) -> None:
    before = trust_page(home).html
    report = home.doit(days=7)
    assert "page:trust" in report.made
    changed = [line for line in trust_page(home).html.splitlines() if line not in before.splitlines()]
    assert len(changed) == 2
    assert all("2026-12-21" in line for line in changed)


def test_a_project_that_moves_says_so_on_its_page(home: Home) -> None:
    home.edit("http://pki.lab.internal", "http://trust.lab.internal")
    assert "page:trust" in home.doit().made
    assert "http://trust.lab.internal/" in trust_page(home).text


def test_a_page_that_was_edited_is_written_again(home: Home) -> None:
    home.edit("Compare before you install", "Just install", "build/trust/index.html")
    assert home.doit().made == {"page:trust": "build/trust/index.html was not up to date with its sources"}


def test_a_plan_over_a_damaged_revocation_list_ends_in_a_sentence(home: Home) -> None:
    (home.path / "build/crl/server-1.crl").write_bytes(b"damaged")
    due = {artifact.id: reasons for artifact, reasons in forecast.due_artifacts(home.plan())}
    assert [str(reason) for reason in due["page:trust"]] == ["the CRL of server-1 is damaged"]
    assert home.doit().status == 0
