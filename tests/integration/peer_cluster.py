"""A sandbox project with the three members of a cluster, and their files of `authorities.peer`."""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import LiveHome, built
from tests.support.projects import bare_home

PKI_YAML = """
organisation: Example Lab
domains: [lab.internal]
permit_addresses: [127.0.0.0/8]
publish: {url: "http://pki.lab.internal", host: web}
sandbox: true
networks: {lan: 127.0.0.0/8}
authorities: {peer: {}}
hosts:
  web: {network: lan, address: 127.0.0.9, names: [web.lab.internal, localhost.lab.internal]}
"""  # etcd connects from 127.0.0.1 on loopback, and compares this address with the certificate
MEMBER = "  {name}: {{network: lan, address: 127.0.1.{number}, shared: true, names: [127.0.0.1], peer: [{name}.lab.internal, 127.0.1.{number}, 127.0.0.1]}}\n"
CLIENTS = "clients: {admin: {email: admin@lab.internal}}\n"
HEADER = "# deploy-target: {target}\n# deploy-hosts: {hosts}\n"


def cluster_home(folder: Path, target: str, names: tuple[str, ...], templates: dict[str, str]) -> LiveHome:
    """A project after its first run, whose members got their files in the folder `target`.

    A member's number in `names` is the end of its address, 127.0.1.1 being the first one. `templates` has the further
    headers and the body of each file.
    """
    home = LiveHome(bare_home(folder / "home").path)
    members = "".join(MEMBER.format(name=name, number=number) for number, name in enumerate(names, 1))
    home.write("pki.yaml", PKI_YAML + members + CLIENTS)
    for file, text in templates.items():
        header = HEADER.format(target=f"{target}/{file}", hosts=", ".join(names))
        home.write(f"templates/peer/{file}", header + text)
    return built(home)
