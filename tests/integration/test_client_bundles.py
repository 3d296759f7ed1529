"""Bundles and policies in the hands of those who take them: OpenSSL, NSS, GnuTLS, Java, libplist, Chromium, Firefox."""

from __future__ import annotations

import os
import plistlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.browser import browser
from tests.integration.conftest import LiveHome, built, live_home, run
from tests.integration.proxies import Proxy, Upstreams, started, wait_until

KINDS = ("p12", "p12-legacy")
LABEL = "admin (Example Lab)"
URL = "https://grafana.lab.internal/"


@dataclass(frozen=True)
class Desk:
    """A project whose grafana has an upstream, and a folder with what was handed out."""

    home: LiveHome
    here: Path
    upstreams: Upstreams

    def export(self, kind: str, name: str = "") -> Path:
        """One bundle with the file of its passphrase beside it, or a policy."""
        file = self.here / (name or kind)
        secret = () if kind.endswith("-policy") else ("--yes", "--passphrase-to", f"{file}.txt")
        self.home.invoke("client.export", "admin", "--format", kind, "--output", str(file), *secret)
        return file

    @staticmethod
    def passphrase(bundle: Path) -> str:
        return Path(f"{bundle}.txt").read_text().strip()

    def copy(self, path: Path) -> Desk:
        """The same project once more, for a test that changes it."""
        path.mkdir()
        return Desk(self.home.copy(path / "home"), path, self.upstreams)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    home, upstreams = live_home(folder / "home"), Upstreams()
    port = upstreams.start("grafana")
    home.edit('grafana:    {upstream: "http://127.0.0.1:3000"', f'grafana:    {{upstream: "http://127.0.0.1:{port}"')
    made = Desk(built(home), folder, upstreams)
    for kind in (*KINDS, "mobileconfig", "chrome-policy", "firefox-policy"):
        made.export(kind)
    yield made
    upstreams.stop()


# -- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_opens_a_bundle_and_finds_all_of_it(desk: Desk, kind: str) -> None:
    bundle = desk.here / kind
    command = ("openssl", "pkcs12", "-in", bundle, "-passin", f"file:{bundle}.txt", "-info", "-noenc")
    said = run(*command)
    assert f"friendlyName: {LABEL}" in said
    assert said.count("-----BEGIN CERTIFICATE-----") == 3
    assert said.count("-----BEGIN PRIVATE KEY-----") == 1
    assert ("AES-256-CBC" in said) == (kind == "p12")
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in said) == (kind == "p12-legacy")
    (desk.here / f"{kind}.wrong").write_text("aaaa-aaaa-aaaa-aaaa-aaaa-aaaa\n")
    wrong = (*command[:5], f"file:{bundle}.wrong", *command[6:])
    assert "invalid password" in run(*wrong, ok=False)


@pytest.mark.parametrize("kind", KINDS)
def test_nss_takes_a_bundle_into_a_database(desk: Desk, tmp_path: Path, kind: str) -> None:
    database, bundle = f"sql:{tmp_path}", desk.here / kind
    run("certutil", "-N", "-d", database, "--empty-password")
    assert "IMPORT SUCCESSFUL" in run("pk12util", "-i", bundle, "-d", database, "-w", f"{bundle}.txt", "-K", "")
    assert LABEL in run("certutil", "-K", "-d", database)
    listed = run("certutil", "-L", "-d", database)
    assert "Example Lab SANDBOX Client CA 1" in listed
    assert "Example Lab SANDBOX Root CA 1" in listed


@pytest.mark.parametrize("kind", KINDS)
def test_gnutls_reads_a_bundle(desk: Desk, kind: str) -> None:
    bundle = desk.here / kind
    said = run("certtool", "--p12-info", "--inder", "--infile", bundle, "--password", desk.passphrase(bundle))
    assert said.count("-----BEGIN CERTIFICATE-----") == 3
    assert "-----BEGIN PRIVATE KEY-----" in said or "-----BEGIN ENCRYPTED PRIVATE KEY-----" in said
    assert LABEL in said


@pytest.mark.parametrize("kind", KINDS)
def test_java_lists_a_bundle_as_a_key_with_its_chain(desk: Desk, kind: str) -> None:
    bundle = desk.here / kind
    store = ("-keystore", bundle, "-storetype", "PKCS12", "-storepass:file", f"{bundle}.txt")
    said = run("keytool", "-list", "-v", *store)
    assert "PrivateKeyEntry" in said
    assert f"Alias name: {LABEL.lower()}\n" in said  # Java knows no capitals in an alias
    assert "Certificate chain length: 3" in said


def test_libplist_reads_a_profile_and_openssl_what_is_in_it(desk: Desk, tmp_path: Path) -> None:
    said = run("plistutil", "-i", desk.here / "mobileconfig", "-f", "xml")
    profile = plistlib.loads(said[said.index("<?xml") :].encode())
    inner = {one["PayloadType"]: one["PayloadContent"] for one in profile["PayloadContent"]}
    (tmp_path / "root.der").write_bytes(inner["com.apple.security.root"])
    assert "Root CA 1" in run("openssl", "x509", "-inform", "DER", "-in", tmp_path / "root.der", "-noout", "-subject")
    (tmp_path / "inner.p12").write_bytes(inner["com.apple.security.pkcs12"])
    secret = ("-passin", f"file:{desk.here}/mobileconfig.txt")
    shown = run("openssl", "pkcs12", "-legacy", "-in", tmp_path / "inner.p12", *secret, "-noenc")
    assert shown.count("-----BEGIN CERTIFICATE-----") == 2
    assert shown.count("-----BEGIN PRIVATE KEY-----") == 1


# -- browsers ---------------------------------------------------------------------------------------------------------


def at(proxy: Proxy) -> str:
    """Lead every name of the project to a proxy."""
    return f"--host-resolver-rules=MAP *.lab.internal 127.0.0.1:{proxy.port}"


def visits(desk: Desk) -> int:
    return desk.upstreams.seen.count("grafana")


@pytest.fixture(scope="module")
def site(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with started("nginx", desk.home, "monitoring", tmp_path_factory.mktemp("nginx") / "work") as proxy:
        yield proxy


@pytest.mark.parametrize("kind", KINDS)
def test_chromium_opens_a_site_with_bundle_and_policy_alone(desk: Desk, site: Proxy, tmp_path: Path, kind: str) -> None:
    with browser(tmp_path / "browser", None, at(site)) as chromium:
        chromium.install(desk.here / kind, desk.passphrase(desk.here / kind))
        chromium.set_policy((desk.here / "chrome-policy").read_bytes())
        page = chromium.open(URL)
    assert (page.status, page.error) == (200, "")
    assert "CN=admin" in page.text


def test_chromium_is_refused_without_a_certificate(desk: Desk, site: Proxy, tmp_path: Path) -> None:
    before = visits(desk)
    with browser(tmp_path / "browser", None, at(site)) as chromium:
        chromium.set_policy((desk.here / "chrome-policy").read_bytes())
        page = chromium.open(URL)
    assert page.status == 400
    assert "No required SSL certificate was sent" in page.text
    assert visits(desk) == before


def test_without_the_policy_chromium_waits_for_somebody_and_trusts_nobody(
    desk: Desk, site: Proxy, tmp_path: Path
) -> None:
    """What the exported policy is for: its two halves are missed one by one."""
    before = visits(desk)
    with browser(tmp_path / "browser", None, at(site)) as chromium:
        chromium.install(desk.here / "p12", desk.passphrase(desk.here / "p12"))
        assert chromium.open(URL).error == "ERR_CERT_AUTHORITY_INVALID"
        chromium.close()
        chromium.trust(desk.home.path / "build/trust/root-1.crt")
        chromium.patience = 10
        assert chromium.open(URL).error == "timeout"
    assert visits(desk) == before


def test_a_browser_that_stays_open_is_refused_after_the_revocation_and_let_in_with_a_new_bundle(
    desk: Desk, tmp_path: Path
) -> None:
    own = desk.copy(tmp_path / "own")
    first = own.export("p12")
    with (
        started("nginx", own.home, "monitoring", tmp_path / "nginx") as proxy,
        browser(tmp_path / "browser", None, at(proxy)) as chromium,
    ):
        chromium.install(first, own.passphrase(first))
        chromium.set_policy(own.export("chrome-policy").read_bytes())
        assert chromium.open(URL).status == 200
        assert chromium.open(URL).status == 200

        own.home.revoke("admin", "--reason", "key-compromise", "--yes")
        proxy.reload(is_patient=False)
        # What the browser had connected ahead of need, nginx answers once: docs/how-to/proxies.md.
        wait_until(lambda: chromium.open(URL).status == 400, "the browser is refused")
        before = visits(own)
        for page in (chromium.open(URL), chromium.open_in_new_tab(URL)):
            assert page.status == 400
            assert "The SSL certificate error" in page.text
        assert visits(own) == before

        second = own.export("p12", "second")
        chromium.close()
        chromium.install(second, own.passphrase(second))
        assert chromium.open(URL).status == 200, "of two certificates the newer one is chosen"


FIREFOX = """\
set -e
mount -t tmpfs tmpfs "$1"
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
echo "127.0.0.1 grafana.lab.internal" >>/etc/hosts
install -D -m 0644 -t /etc/firefox/policies "$2/policies.json"
mount -t tmpfs tmpfs /usr/lib/mozilla
install -D -m 0644 -t /usr/lib/mozilla/certificates "$2"/*.pem
exec firefox-esr --headless --no-remote --profile "$3" --screenshot "$4" "$5"
"""


def test_firefox_opens_a_site_with_bundle_and_policy_alone(desk: Desk, site: Proxy, tmp_path: Path) -> None:
    scratch, profile, picture, bundle = (
        tmp_path / "scratch",
        tmp_path / "profile",
        tmp_path / "it.png",
        desk.here / "p12",
    )
    scratch.mkdir()
    profile.mkdir()
    run("certutil", "-N", "-d", f"sql:{profile}", "--empty-password")
    run("pk12util", "-i", bundle, "-d", f"sql:{profile}", "-w", f"{bundle}.txt", "-K", "")
    before = visits(desk)
    run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", FIREFOX, "sh"),
        *(scratch, desk.here / "firefox-policy", profile, picture, f"https://grafana.lab.internal:{site.port}/"),
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert visits(desk) > before
    assert picture.stat().st_size > 0
