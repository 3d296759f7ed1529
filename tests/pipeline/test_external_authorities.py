"""External authorities in the rest of the program: their files, trust on hosts, the trial of a clone, and the reports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from pki.common.errors import PkiError
from pki.config import upstreams
from pki.pipeline.desired_state import DesiredState
from tests.support import external_authorities as other_server
from tests.support.commands import said_by
from tests.support.copies import copy_project
from tests.support.projects import Home, bare_home

UPSTREAM = {"url": "https://127.0.0.1:9443", "ca": "acme", "name": "shop.acme.lab.internal"}
DELIVERED = "build/hosts/media/etc/doit-pki/upstream-shop.pem"


def declared_home(path: Path) -> Home:
    """Return the example, as a sandbox, with an upstream whose certificate is from the external authority acme."""
    home = bare_home(path)
    other_server.declare(home)
    settings = yaml.safe_load(home.read("pki.yaml"))
    settings["hosts"]["media"]["services"]["shop"] = {"access": "tls", "upstream": UPSTREAM}
    home.write("pki.yaml", yaml.safe_dump(settings))
    return home


@pytest.fixture(scope="module")
def certified_once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = declared_home(tmp_path_factory.mktemp("external") / "home")
    other_server.make_request(home)
    report = home.doit()
    assert report.status == 0, report.failed
    return home


@pytest.fixture
def certified(certified_once: Home, tmp_path: Path) -> Home:
    """A sandbox after the run that certified acme-1."""
    copy_project(certified_once.path, tmp_path / "home")
    return Home(tmp_path / "home")


def certificates(data: bytes) -> list[str]:
    """Return the CN of each certificate in a PEM file."""
    subjects = (certificate.subject for certificate in x509.load_pem_x509_certificates(data))
    return [subject.rfc4514_string().split(",")[0].removeprefix("CN=Example Lab SANDBOX ") for subject in subjects]


def test_host_trusts_an_external_authority_where_an_upstream_names_it(certified: Home) -> None:
    assert certificates(certified.read(DELIVERED)) == ["Acme CA 1", "Root CA 1"]
    folder = certified.path / "build/hosts/media/etc"
    users = [path for path in folder.rglob("*") if path.is_file() and b"upstream-shop.pem" in path.read_bytes()]
    assert users, "no configuration of the proxy names the file"
    assert certificates(certified.read("build/trust/roots.pem")) == ["Root CA 1"]


def test_upstream_may_name_an_authority_whose_request_is_still_missing(tmp_path: Path) -> None:
    home = declared_home(tmp_path / "home")
    report = home.doit()
    assert report.status == 0, report.failed
    assert certificates(home.read(DELIVERED)) == ["Root CA 1"]
    assert not (home.path / "build/trust/acme-chain.pem").exists()


def test_file_of_the_same_name_is_meant_where_no_authority_has_the_name(certified: Home) -> None:
    inventory = certified.project().inventory
    host = inventory.hosts["media"]
    assert upstreams.cas(host)["shop"] == "acme"
    assert upstreams.ca_files(inventory, host) == {}
    certified.edit("acme:", "other:")
    inventory = certified.project().inventory
    assert upstreams.ca_files(inventory, inventory.hosts["media"]) == {"shop": "acme"}


def test_managed_file_delivers_chain_and_trust_file(certified: Home) -> None:
    desired = DesiredState.of(certified.project())
    for kind, content in (("external-chain", "acme-chain.pem"), ("external-trust", "acme-trust.pem")):
        assert desired.artifact_files(f"{kind}:acme") == [("", certified.path / "build/trust" / content)]
    for name in ("external-chain:other", "crl:acme", "ca:acme"):
        with pytest.raises(PkiError, match="unknown artifact"):
            desired.artifact_files(name)


def test_sandbox_asks_for_a_ceremony_for_a_new_key_and_performs_it(
    certified: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    other_server.make_request(certified)
    settings = {"pki_home": str(certified.path), "pki_now": certified.moment(1)}
    said = said_by(capsys, "plan", **settings)
    assert "acme-2 waits: requests/acme.csr has a new key" in said.out
    assert "invoke ceremony.request" in said.out
    assert said_by(capsys, "ceremony.request", **settings).status == 0
    assert "acme-2" not in said_by(capsys, "plan", **settings).out
    assert certified.doit(days=1).status == 0
    assert certificates(certified.read("build/trust/acme-chain.pem"))[0] == "Acme CA 2"


def test_files_of_an_authority_that_left_pki_yaml_are_removed_and_its_certificate_stays(
    certified: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(certified.read("pki.yaml"))
    del settings["authorities"]["acme"]
    del settings["hosts"]["media"]["services"]["shop"]
    certified.write("pki.yaml", yaml.safe_dump(settings))
    report = certified.doit(days=1)
    assert report.status == 0, report.failed
    assert not list((certified.path / "build/trust").glob("acme-*"))
    assert (certified.path / "ca/acme/acme-1/cert.pem").exists()
    said = said_by(capsys, "plan", pki_home=str(certified.path), pki_now=certified.moment(1))
    assert "no longer in pki.yaml; acme-1 is valid until" in said.out


def test_neither_a_client_nor_a_folder_of_an_adopted_authority_is_an_external_authority(certified: Home) -> None:
    store = certified.project().store
    for folder in ("clients/clients-1", "clients/phone-1", "legacy/issued-1", "ceremonies/ceremonies-1"):
        certified.write(f"ca/{folder}/cert.pem", "a certificate")
    assert store.external_authorities() == ["acme"]


def test_damaged_certificate_is_restored_from_the_ledger(certified: Home) -> None:
    path = certified.path / "ca/acme/acme-1/cert.pem"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"A", b"B", 1))
    report = certified.doit(days=1)
    assert report.status == 0, report.failed
    assert path.read_bytes() == content
    assert "ca/acme/acme-1/cert.pem" in report.made["authority:root"]


def test_reports_show_the_authority(certified: Home, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = certified.read("build/report/pki.prom").decode()
    lines = [line for line in metrics.splitlines() if 'name="acme-1"' in line]
    assert [line.partition("{")[0] for line in lines] == [
        "doit_pki_authority_not_before_timestamp_seconds",
        "doit_pki_authority_not_after_timestamp_seconds",
        "doit_pki_authority_signs_until_timestamp_seconds",
    ]
    assert all('authority="external"' in line for line in lines)
    page = certified.read("build/report/status.html").decode()
    assert "acme-1" in page
    assert "external: another server has its key" in page
    said = said_by(capsys, "status", pki_home=str(certified.path), pki_now=certified.moment(1))
    assert "authority:acme-1" in said.out


def test_trial_of_a_clone_has_the_request_and_leaves_nothing(
    certified: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("pki.yaml", "templates", "requests"):
        source = certified.path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / name)
    said = said_by(capsys, "check", pki_home=str(clone))
    assert said.status == 0, said.out + said.error
    assert {path.name for path in clone.iterdir()} == {"pki.yaml", "templates", "requests"}


@pytest.mark.parametrize(("domain", "is_shared"), [("lab.internal", True), ("acme.lab.internal", False)])
def test_plan_names_our_servers_that_its_key_can_be_until_the_ceremony(
    fresh: Home, domain: str, *, is_shared: bool
) -> None:
    other_server.declare(fresh, f"{{external: requests/acme.csr, domains: [{domain}]}}")
    other_server.make_request(fresh)
    fresh.doit()  # the sandbox certifies a request that is there in its first run

    def noted() -> list[str]:
        return [note.text for note in fresh.plan().remarks() if note.subject == "authority:acme"]

    assert noted() == []
    other_server.make_request(fresh)
    names = (
        "forgejo.lab.internal, grafana.lab.internal, jellyfin.lab.internal, loki.lab.internal, prometheus.lab.internal"
    )
    assert noted() == ([f"whoever has its key can be {names}, which this project certifies"] if is_shared else [])
