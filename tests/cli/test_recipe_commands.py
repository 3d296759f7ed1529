"""The commands recipe.add and recipe.list, init --recipe, and what a project delivers from then on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from pki.cli.init_questions import Options, tree_of
from pki.common.errors import PkiError
from pki.common.template_folders import PROGRAM_TEMPLATES, program_names
from pki.config import loader, scaffold
from pki.deploy.release import load
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home

FILES = {"tls.pem", "client-chain.pem", "client-crl.pem", "postgresql.conf"}


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:

    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=START)

    return call


def delivered(home: Home, host: str = "media") -> dict[str, str]:
    """Return the owner of each file of a host's release below /etc/doit-pki/postgres, by name."""
    release = load(home.project().store.release(host))
    assert release is not None
    return {Path(file.path).name: file.owner for file in release.files if "/postgres/" in file.path}


def test_a_recipe_is_delivered_from_the_moment_that_it_is_added_and_not_before(home: Home, invoke: Invoke) -> None:
    assert delivered(home) == {}
    said = invoke("recipe.add", "postgres", "media")
    assert said.status == 0, said.error
    assert "added hosts.media.services.postgres" in said.out
    assert "include '/etc/doit-pki/postgres/postgresql.conf'" in said.out
    assert "deploy.bootstrap" not in said.out, "a host with a folder needs no preparation"
    assert home.project().inventory.hosts["media"].services["postgres"].names == ("media.lab.internal",)
    report = home.doit()
    assert not report.failed, report.failed
    assert set(delivered(home)) == FILES
    assert delivered(home)["tls.pem"] == "root:postgres"
    text = (home.path / "build/release/media/files/etc/doit-pki/postgres/postgresql.conf").read_text()
    assert "ssl_crl_file = '/etc/doit-pki/postgres/client-crl.pem'" in text
    assert delivered(home, "forge") == {}
    row = next(line for line in invoke("recipe.list").out.splitlines() if line.startswith("postgres "))
    assert row.split() == ["postgres", "PostgreSQL", "postgres", "media"]


def test_a_host_that_is_reached_by_ssh_is_prepared_again(home: Home, invoke: Invoke) -> None:
    home.edit("proxy: caddy", "deliver: ssh\n    proxy: caddy")
    said = invoke("recipe.add", "redis", "media")
    assert "invoke deploy.bootstrap media" in said.out, said.out + said.error


def test_a_server_for_everybody_asks_for_no_client_certificate(home: Home, invoke: Invoke) -> None:
    said = invoke("recipe.add", "postgres", "media", "--access", "tls", "--dns", "db.lab.internal")
    assert said.status == 0, said.error
    assert not home.doit().failed
    files = home.path / "build/release/media/files/etc/doit-pki/postgres"
    assert "ssl_ca_file" not in (files / "postgresql.conf").read_text()
    assert (files / "tls.pem").read_bytes() == home.read("build/certs/media/tls.pem")


def test_names_that_do_not_exist_are_refused_with_the_closest_one(home: Home, invoke: Invoke) -> None:
    before = home.read("pki.yaml")
    assert invoke("recipe.add", "postgre", "media").error == "unknown recipe 'postgre'\n→ did you mean postgres?\n"
    assert invoke("recipe.add", "postgres", "medium").error == "unknown host 'medium'\n→ did you mean media?\n"
    assert "access: expected tls or mtls" in invoke("recipe.add", "postgres", "media", "--access", "all").error
    assert home.read("pki.yaml") == before


def test_a_recipe_is_used_beside_without_all_and_a_file_of_the_project_replaces_one_of_its_templates(
    home: Home, invoke: Invoke
) -> None:
    home.leave_out("all")
    assert invoke("recipe.add", "postgres", "media").status == 0
    name = "recipes/postgres/postgresql.conf"
    header = (PROGRAM_TEMPLATES / name).read_text().partition("# include")[0]
    home.write(f"templates/{name}", f"{header}ssl = on\n")
    assert not home.doit().failed
    assert set(delivered(home)) == FILES
    assert (
        (home.path / "build/release/media/files/etc/doit-pki/postgres/postgresql.conf")
        .read_text()
        .endswith("\nssl = on\n")
    )
    templates = home.project().templates
    used = {name for name in program_names() if templates.folder_of(name) == PROGRAM_TEMPLATES}
    assert used == {f"recipes/postgres/{file}" for file in FILES - {"postgresql.conf"}}


def test_init_adds_a_recipe_to_the_host_that_is_named_or_to_the_only_one(tmp_path: Path) -> None:
    for options in (Options(recipes=["postgres"]), Options(hosts=["pki,proxy=nginx", "db"], recipes=["postgres=db"])):
        (tmp_path / "pki.yaml").write_text(scaffold.render_pki_yaml(tree_of(options)))
        config = loader.load(tmp_path / "pki.yaml")
        assert [host.services["postgres"].recipe for host in config.hosts.values() if host.services] == ["postgres"]
    for hosts, recipe, fault in (
        (["a", "b"], "postgres", "--recipe postgres: there are several hosts"),
        (["a"], "postgres=b", "unknown host 'b'"),
        (["a"], "postgre", "unknown recipe 'postgre'"),
    ):
        with pytest.raises(PkiError) as caught:
            tree_of(Options(hosts=hosts, recipes=[recipe]))
        assert fault in caught.value.message


def test_init_prints_what_to_do_on_the_host_of_a_recipe(tmp_path: Path, invoke: Invoke) -> None:
    said = invoke("init", str(tmp_path / "new"), "--host", "pki", "--host", "db", "--recipe", "postgres=db", "--yes")
    assert "→ on db: add this line to postgresql.conf: include" in said.out
    assert "docs/how-to/recipe-postgres.md" in said.out


def test_a_server_that_checks_no_clients_is_added_for_everybody_and_refused_otherwise(
    home: Home, invoke: Invoke
) -> None:
    home.edit("grafana:", "charts:")
    said = invoke("recipe.add", "grafana", "media", "--access", "mtls")
    assert "access: Grafana checks no client certificates: write access: tls" in said.error
    assert invoke("recipe.add", "grafana", "media").status == 0
    assert home.project().inventory.hosts["media"].services["grafana"].access == "tls"
    assert not home.doit().failed
    files = home.path / "build/release/media/files/etc/doit-pki/grafana"
    assert (files / "fullchain.pem").read_bytes() == home.read("build/certs/media/fullchain.pem")


def test_a_secret_of_kubernetes_has_the_certificate_and_follows_its_renewal(home: Home, invoke: Invoke) -> None:
    assert invoke("recipe.add", "kubernetes", "media").status == 0
    path = home.path / "build/release/media/files/etc/doit-pki/kubernetes/secret.yaml"
    for _ in range(2):
        report = home.doit()
        assert not report.failed, report.failed
        secret = yaml.safe_load(path.read_text())
        assert (secret["kind"], secret["type"]) == ("Secret", "kubernetes.io/tls")
        assert secret["metadata"]["name"] == "app-tls"
        certs = home.path / "build/certs/media-mtls"
        expected = {"tls.crt": certs / "fullchain.pem", "tls.key": certs / "key.pem"}
        expected["ca.crt"] = home.path / "build/trust/client-ca.pem"
        assert {name: secret["stringData"][name].rstrip() for name in expected} == {
            name: file.read_text().rstrip() for name, file in expected.items()
        }
        assert secret["stringData"]["ca.crl"].startswith("-----BEGIN X509 CRL-----")
        assert path.stat().st_mode & 0o777 == 0o600
        assert invoke("renew", "media-mtls").status == 0


def test_a_container_gets_files_and_is_restarted_if_it_exists(home: Home, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("recipe.add", "compose", "media").status == 0
    assert not home.doit().failed
    release = load(home.project().store.release("media"))
    assert release is not None
    files = {Path(file.path).name: file for file in release.files if "/compose/" in file.path}
    names = {"fullchain.pem", "key.pem", "client-ca.pem", "client-chain.pem", "client-crl.pem"}
    assert {name: file.reload for name, file in files.items()} == {
        **dict.fromkeys(names, "sh /etc/doit-pki/compose/reload.sh"),
        "reload.sh": "",
    }
    docker, called = tmp_path / "docker", tmp_path / "called"
    script = home.path / "build/release/media/files/etc/doit-pki/compose/reload.sh"
    for status, calls in ((1, ["container inspect app"]), (0, ["container inspect app", "restart app"])):
        docker.write_text(f"#!/bin/sh\necho $* >>{called}\nexit {status}\n")
        docker.chmod(0o755)
        done = subprocess.run(["sh", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
        assert (done.returncode, called.read_text().splitlines()) == (0, calls)
        called.unlink()
