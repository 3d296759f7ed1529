"""Recipes in pki.yaml: what a service with one may have, and how services are added to a file with comments."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from pki.common.errors import InventoryError, PkiError
from pki.common.template_folders import program_names
from pki.config import editing, loader
from pki.config.fields import RecipeName
from pki.config.recipes import RECIPES, recipe_of_template, service_settings, services_of, used_recipes, verifier_of

PROJECT = """organisation: Lab
domains: lab.internal
publish: {url: "http://pki.lab.internal", host: db}
networks: {lan: 10.0.0.0/24}
hosts:
"""
ADDED = service_settings("postgres", ["db.lab.internal"], "mtls")
POSTGRES = "{recipe: postgres, speaks: postgres, access: mtls, names: [db.lab.internal]}"


def load(folder: Path, hosts: str) -> loader.Inventory:
    (folder / "pki.yaml").write_text(PROJECT + hosts)
    return loader.load(folder / "pki.yaml")


def faults(folder: Path, services: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        load(folder, f"  db: {{network: lan, deliver: ssh, services: {{{services}}}}}\n")
    return [str(fault).removeprefix("pki.yaml:6: hosts.db.services.") for fault in caught.value.faults]


def test_every_recipe_has_templates_and_a_page() -> None:
    assert set(RECIPES) == set(get_args(RecipeName)) == {recipe_of_template(name) for name in program_names()} - {""}
    root = Path(editing.__file__).parents[2]
    for name in RECIPES:
        assert (root / f"docs/how-to/recipe-{name}.md").exists()


def test_a_service_with_a_recipe_is_found_by_it(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        f"  db: {{network: lan, services: {{postgres: {POSTGRES}, plain: {{speaks: tls, port: 1, access: tls}}}}}}\n",
    )
    assert used_recipes(inventory) == {"postgres"}
    assert list(services_of(inventory.hosts["db"], "postgres")) == ["postgres"]


@pytest.mark.parametrize(
    ("services", "fault"),
    [
        (
            "db: {recipe: postgres, speaks: mysql, access: mtls}",
            "db.speaks: PostgreSQL does not speak mysql: write speaks: postgres",
        ),
        (
            'db: {recipe: postgres, upstream: "http://127.0.0.1:80", access: mtls}',
            "db.recipe: with upstream, the proxy has the certificate: leave out upstream or recipe",
        ),
        ("db: {recipe: postgre, speaks: postgres, access: mtls}", "db.recipe: expected "),
        (
            "a: {recipe: postgres, speaks: postgres, access: tls}, b: {recipe: postgres, speaks: postgres, port: 1, access: mtls}",
            "b.access: a has the same recipe and access: tls; write the same access, or no recipe",
        ),
        (
            "vpn: {recipe: openvpn, speaks: openvpn, access: tls}",
            "vpn.access: OpenVPN: the recipe demands a client certificate: write access: mtls",
        ),
        (
            "grafana: {recipe: grafana, port: 3000, access: mtls}",
            "grafana.access: Grafana checks no client certificates: write access: tls, or put it behind a proxy",
        ),
        (
            'db: {upstream: "http://127.0.0.1:80", access: mtls, verifier: gnutls}',
            "db.verifier: with upstream, the proxy checks clients: leave it out",
        ),
    ],
)
def test_keys_that_contradict_a_recipe_are_faults(tmp_path: Path, services: str, fault: str) -> None:
    text = "\n".join(faults(tmp_path, services))
    assert fault in text


@pytest.mark.parametrize(
    ("service", "verifier"),
    [
        ("{speaks: ldap, access: mtls}", "gnutls"),
        ("{speaks: ldaps, access: mtls, verifier: openssl}", "openssl"),
        ("{speaks: smtp, access: mtls}", "openssl"),
        ("{speaks: smtp, access: mtls, verifier: gnutls}", "gnutls"),
        (POSTGRES, "openssl"),
    ],
)
def test_a_directory_server_counts_as_gnutls_unless_pki_yaml_says_otherwise(
    tmp_path: Path, service: str, verifier: str
) -> None:
    host = load(tmp_path, f"  db: {{network: lan, services: {{one: {service}}}}}\n").hosts["db"]
    assert verifier_of(host.services["one"]) == verifier


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  db:   # a comment\n    network: lan\n\n  web: {network: lan}\n", f"  db:   # a comment\n    network: lan\n    services:\n      postgres: {POSTGRES}\n\n  web: {{network: lan}}\n"),
        ("  db: {network: lan}   # mine\n", f"  db: {{network: lan, services: {{postgres: {POSTGRES}}}}}   # mine\n"),
        ("  db: {network: lan, services: {}}\n", f"  db: {{network: lan, services: {{postgres: {POSTGRES}}}}}\n"),
        (
            "  db:\n    network: lan\n    services: {a: {speaks: smtp, access: tls}}  # mail\n",
            f"  db:\n    network: lan\n    services: {{a: {{speaks: smtp, access: tls}}, postgres: {POSTGRES}}}  # mail\n",
        ),
        (
            "  db:\n    network: lan\n    services:\n      a:\n        speaks: smtp\n        access: tls  # mail\n    group: x",
            f"  db:\n    network: lan\n    services:\n      a:\n        speaks: smtp\n        access: tls  # mail\n      postgres: {POSTGRES}\n    group: x\n",
        ),
    ],
)  # fmt: skip
def test_services_are_added_where_the_layout_has_its_place_for_them(tmp_path: Path, before: str, after: str) -> None:
    load(tmp_path, before)
    editing.write(editing.add_services(tmp_path / "pki.yaml", "db", ADDED))
    assert (tmp_path / "pki.yaml").read_text() == PROJECT + after


def test_services_that_would_be_a_fault_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path, hosts = (
        tmp_path / "pki.yaml",
        "  db: {network: lan, services: {a: {speaks: tls, port: 5432, access: mtls}}}\n",
    )
    load(tmp_path, hosts)
    with pytest.raises(PkiError, match="5432 is already used by"):
        editing.add_services(path, "db", ADDED)
    load(tmp_path, f"  db: {{network: lan, services: {{postgres: {POSTGRES}}}}}\n")
    with pytest.raises(PkiError, match=r"hosts\.db\.services\.postgres is in pki\.yaml already"):
        editing.add_services(path, "db", ADDED)
    anchored = "  web: &same {network: lan}\n  db: *same\n"
    load(tmp_path, anchored)
    with pytest.raises(PkiError, match="has a layout that this program cannot edit") as caught:
        editing.add_services(path, "db", ADDED)
    assert f"postgres: {POSTGRES}" in caught.value.hint
    assert path.read_text() == PROJECT + anchored
