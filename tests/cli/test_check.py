"""`check`: pki.yaml and templates/ of a bare clone, by a trial build that leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pki.cli.init_questions import Options, tree_of
from pki.config import scaffold
from tests.support.commands import said_by
from tests.support.projects import PROJECT

KEPT = {".gitignore", ".schema", "README.md", "dodo.py", "pki.yaml", "run", "tasks.py", "templates"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git has of a production project with two hosts: no ca/, no build/, no secrets."""
    tree = tree_of(Options(hosts=["pki,proxy=nginx", "web"], services=["pki/wiki=http://127.0.0.1:3000,mtls"]))
    scaffold.create_project(tmp_path / "clone", tree, PROJECT)
    (tmp_path / "clone/secrets.yaml").unlink()
    return tmp_path / "clone"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_bare_clone_is_checked_and_stays_as_it_is(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named roots, sources of passphrases and a database of the real project do not matter."""
    with (clone / "pki.yaml").open("a") as file:
        file.write(f"roots: [{'ab' * 32}]\nledger: postgresql+psycopg://pki@db.lab.internal/pki\n")
    text = (clone / "pki.yaml").read_text()
    (clone / "pki.yaml").write_text(text.replace("secrets: secrets.yaml", "secrets: {server: {command: pass show x}}"))
    said = said_by(capsys, "check", pki_home=str(clone))
    assert (said.status, said.out) == (0, "pki.yaml and templates/ are valid: 2 hosts, 1 client\n"), said.error
    assert names(clone) == KEPT


def test_each_fault_of_a_template_or_a_named_file_is_reported(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pki_yaml = clone / "pki.yaml"
    pki_yaml.write_text(
        pki_yaml.read_text().replace("  web:\n", "  web:\n    names: web.lab.internal\n    request: web.csr\n")
    )
    own = clone / "templates/nginx/pki-services.conf"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text((PROJECT / "templates/nginx/pki-services.conf").read_text() + "{{ host.nme }}\n")
    (clone / "templates/unused.conf").write_text("# deploy-target: /etc/x\n# deploy-hosts: nobody\nx\n")
    said = said_by(capsys, "check", "--json", pki_home=str(clone))
    faults = {one["subject"]: one["text"] for one in json.loads(said.out)["faults"]}
    assert said.status == 1
    assert faults.keys() == {"release:pki", "cert:web", "templates"}
    assert "templates/nginx/pki-services.conf:" in faults["release:pki"]
    assert "web.csr" in faults["cert:web"]
    assert "templates/unused.conf" in faults["templates"]
    assert names(clone) == KEPT


def test_an_invalid_pki_yaml_is_reported_with_its_line(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clone / "pki.yaml").write_text((clone / "pki.yaml").read_text().replace("access: mtls", "access: mtsl"))
    said = said_by(capsys, "check", pki_home=str(clone))
    assert (said.status, said.out) == (3, "")
    assert "hosts.pki.services.wiki.access: expected tls or mtls, got 'mtsl'" in said.error
