"""PKCS#12 files and combined files in the hands of those who take them: OpenSSL, NSS, Java, HAProxy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import PROJECT, LiveHome, built, live_home, run
from tests.integration.proxies import free_port, listens, wait_until

KINDS = ("p12", "p12-legacy")
SECRET = "k7mp-w3xq-hr4d"
NAME = "jellyfin.lab.internal"
ORDERS = {
    "key-last.pem": ("", ("cert:media", "chain:media", "trust:roots", "key:media")),
    "key-first.pem": ("", ("key:media", "fullchain-root:media")),
    "key-between.pem": ("", ("cert:media", "key:media", "chain:media")),
    "root-first.pem": ("{# deploy-order: any #}\n", ("trust:roots", "chain:media", "key:media", "cert:media")),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveHome, Path]:
    """A project whose host `media` has each kind of file, and the folder with them."""
    home = live_home(tmp_path_factory.mktemp("pkcs12") / "home")
    for kind in KINDS:
        headers = f"# deploy-target: /etc/box/{kind}\n# deploy-hosts: media\n"
        home.write(f"templates/{kind}.p12", f"{headers}# deploy-artifact: {kind}:media\n")
    for file, (header, parts) in ORDERS.items():
        headers = f"{{# deploy-target: /etc/box/{file} #}}\n{{# deploy-hosts: media #}}\n{header}"
        home.write(f"templates/{file}", headers + "".join(f"{{{{ artifact('{part}') }}}}" for part in parts))
    path = home.path / "secrets.yaml"
    path.write_text(f"p12-media: {SECRET}\n")
    path.chmod(0o600)
    folder = built(home).path / "build/hosts/media/etc/box"
    (folder / "word").write_text(f"{SECRET}\n")
    return home, folder


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_java_and_nss_open_the_file_of_a_server(host: tuple[LiveHome, Path], kind: str, tmp_path: Path) -> None:
    _, folder = host
    text = run("openssl", "pkcs12", "-in", folder / kind, "-passin", f"file:{folder}/word", "-info", "-noenc")
    assert "friendlyName: media" in text
    assert text.count("-----BEGIN CERTIFICATE-----") == 2
    assert ("AES-256-CBC" in text) == (kind == "p12")
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in text) == (kind == "p12-legacy")
    store = ("-keystore", folder / kind, "-storetype", "PKCS12", "-storepass:file", folder / "word")
    listed = run("keytool", "-list", "-v", *store)
    assert "Alias name: media\n" in listed
    assert "Certificate chain length: 2" in listed
    database = f"sql:{tmp_path}"
    run("certutil", "-N", "-d", database, "--empty-password")
    assert "IMPORT SUCCESSFUL" in run("pk12util", "-i", folder / kind, "-d", database, "-w", folder / "word", "-K", "")


@contextmanager
def serving(port: int, *command: str | Path) -> Iterator[None]:
    server = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port) or server.poll() is not None, f"{command[0]} listens")
        assert server.poll() is None, f"{command[0]} ended"
        yield
    finally:
        server.kill()
        server.wait()


def assert_serves_media(home: LiveHome, port: int) -> None:
    checks = ("-verify_return_error", "-verify_hostname", NAME, "-CAfile", home.path / "build/trust/roots.pem")
    target = f"127.0.0.1:{port}"
    said = run("openssl", "s_client", "-connect", target, "-servername", NAME, *checks, timeout=20)
    assert "Verify return code: 0 (ok)" in said


def test_haproxy_takes_the_leaf_first_with_the_key_anywhere_and_refuses_a_root_first(
    host: tuple[LiveHome, Path], tmp_path: Path
) -> None:
    """So a file whose first certificate is another one needs a header that says so."""
    home, folder = host
    for file in ORDERS:
        port, config = free_port(), tmp_path / "haproxy.cfg"
        config.write_text(
            "defaults\n mode http\n timeout connect 9s\n timeout client 9s\n timeout server 9s\n"
            f"frontend tls\n bind 127.0.0.1:{port} ssl crt {folder}/{file}\n"
        )
        if file == "root-first.pem":
            assert "inconsistencies between private key and certificate" in run("haproxy", "-c", "-f", config, ok=False)
        else:
            with serving(port, "haproxy", "-db", "-f", config):
                assert_serves_media(home, port)


def test_no_passphrase_is_in_the_output_or_the_files_of_a_run(host: tuple[LiveHome, Path]) -> None:
    home, _ = host
    for command in (["-m", "doit"], ["-m", "invoke", "plan"], ["-m", "invoke", "status", "--json"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=PROJECT, env=home.environment, capture_output=True, text=True, check=False
        )
        assert SECRET not in done.stdout + done.stderr
    holders = [path for path in home.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert {path.name for path in holders} == {"secrets.yaml", "word"}
