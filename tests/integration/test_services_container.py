"""Files of the recipe for containers, mounted as Docker mounts them: which mounts show a renewed certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.conftest import run
from tests.integration.services import ServiceHost, service_host
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SET = "# deploy-target: FOLDER/set/cert.pem\n# deploy-set: FOLDER/set\n# deploy-hosts: server\n# deploy-artifact: cert:server-mtls\n"
PLACES = {
    "folder": "folder/fullchain.pem",
    "file": "file.pem",
    "set": "set/cert.pem",
    "parent of the set": "folder/set/cert.pem",
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"app": "https"}, monkeypatch, recipe="compose") as host:
        host.home.write("templates/services/set.pem", SET.replace("FOLDER", str(host.host.etc)))
        host.deliver()
        yield host


def test_a_mounted_folder_shows_the_renewed_certificate_and_a_mounted_file_or_set_the_old_one(
    served: ServiceHost, invoke: Invoke
) -> None:
    etc, inside = served.host.etc, served.folder / "container"
    (inside / "folder").mkdir(parents=True)
    (inside / "set").mkdir()
    (inside / "file.pem").touch()
    mounts = f"mount --bind {etc} {inside}/folder && mount --bind {etc}/fullchain.pem {inside}/file.pem"
    mounts += f" && mount --bind $(readlink -f {etc}/set) {inside}/set && echo && exec sleep 900"
    container = subprocess.Popen(["unshare", "--mount", "sh", "-c", mounts], stdout=subprocess.PIPE)
    try:
        assert container.stdout is not None
        container.stdout.readline()

        def serials() -> dict[str, str]:
            into = ("nsenter", "-t", str(container.pid), "-m", "openssl", "x509", "-noout", "-serial", "-in")
            return {name: run(*into, inside / place) for name, place in PLACES.items()}

        before = serials()
        assert len(set(before.values())) == 1
        said = invoke(served.home, "renew", "server-mtls")
        assert "deployed  deploy:server" in said.out, said.out + said.error
        after = serials()
        assert {name for name in PLACES if after[name] != before[name]} == {"folder", "parent of the set"}
    finally:
        container.kill()
        container.wait()
