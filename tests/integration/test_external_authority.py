"""An ACME server of somebody else below our root: Caddy has the intermediate, certbot is its client, nginx its judge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.ceremony.online.make_request import RequestOptions
from tests.integration.conftest import TIMEOUT, LiveRealHome, built, now, run
from tests.integration.proxies import Upstreams, started
from tests.support import external_authorities as other_server
from tests.support.ceremonies import real_home
from tests.support.environments import environment

SHOP, FOREIGN = "shop.acme.lab.internal", "shop.lab.internal"
REVOKED = RequestOptions(revoke=(("acme-1", "keyCompromise"),))
CADDYFILE = """{{
    admin off
    auto_https disable_redirects
    skip_install_trust
    storage file_system {work}/storage
    pki {{
        ca local {{
            root {{
                cert {work}/root.pem
            }}
            intermediate {{
                cert {chain}
                key {work}/acme.key
            }}
        }}
    }}
}}
https://acme.lab.internal:9443 {{
    tls {work}/server.pem {work}/server.key
    acme_server
}}
"""
# A machine of the other people: its own loopback, where port 80 is free, and names that only it knows.
MACHINE = """
set -eu
ip link set lo up
printf '127.0.0.1 localhost acme.lab.internal %s %s\\n' "$SHOP" "$FOREIGN" >"$WORK/hosts"
mount --bind "$WORK/hosts" /etc/hosts
"$CADDY" run --adapter caddyfile --config "$WORK/Caddyfile" >"$WORK/caddy.log" 2>&1 &
server=$!
trap 'kill $server || cat "$WORK/caddy.log"; wait $server || :' EXIT
until curl --silent --noproxy '*' --cacert "$ROOTS" https://acme.lab.internal:9443/; do
    kill -0 $server
    sleep 0.2
done
request() {
    REQUESTS_CA_BUNDLE=$ROOTS certbot certonly --standalone --non-interactive --agree-tos --register-unsafely-without-email \\
        --server https://acme.lab.internal:9443/acme/local/directory --key-type ecdsa -d "$1" \\
        --config-dir "$WORK/certbot" --work-dir "$WORK/certbot/work" --logs-dir "$WORK/certbot/logs"
}
request "$SHOP"
request "$FOREIGN"
"""


@dataclass(frozen=True)
class Served:
    """A project with acme-1, and what certbot got from the server that has its key."""

    home: LiveRealHome
    work: Path
    key: other_server.Key

    def chain(self, name: str = SHOP) -> Path:
        """Return the file with what certbot got for a name: its certificate, and the intermediate."""
        return self.work / f"certbot/live/{name}/fullchain.pem"

    def fault(self, *options: str, name: str = SHOP) -> str:
        """Return the error of OpenSSL for what certbot got for a name, or ""."""
        chain, roots = str(self.chain(name)), str(self.home.path / "build/trust/roots.pem")
        command = ("openssl", "verify", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile", roots)
        done = subprocess.run(
            (*command, "-untrusted", chain, *options, chain),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


def write_key(path: Path, key: other_server.Key) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Upstreams]:
    servers = Upstreams()
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def served(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("external")
    home, work = LiveRealHome(real_home(folder).path), folder / "work"
    work.mkdir()
    settings = yaml.safe_load(home.read("pki.yaml"))
    upstream = {"url": "https://127.0.0.1:1", "ca": "acme", "name": SHOP}
    settings["hosts"] = {"web": {"network": "mgmt", "proxy": "nginx", "services": {"shop": {"upstream": upstream}}}}
    settings["hosts"]["web"]["services"]["shop"]["access"] = "tls"
    settings["publish"]["host"] = "web"
    settings["authorities"]["acme"] = {"external": "requests/acme.csr", "domains": ["acme.lab.internal"]}
    home.write("pki.yaml", yaml.safe_dump(settings))
    key = other_server.make_request(home)
    home.ceremony()
    built(home)
    obtain_certificates(home, work, key)
    certificate = work / "shop.pem"
    live = work / f"certbot/live/{SHOP}"
    certificate.write_bytes((live / "privkey.pem").read_bytes() + (live / "fullchain.pem").read_bytes())
    upstream["url"] = f"https://127.0.0.1:{upstreams.start('shop', certificate)}"
    home.write("pki.yaml", yaml.safe_dump(settings))
    check_crls_in_nginx(home, key)
    built(home)
    return Served(home, work, key)


def obtain_certificates(home: LiveRealHome, work: Path, key: other_server.Key) -> None:
    """Install the chain on the other server, start it, and let certbot ask it for two names.

    One of the names is not below the domains of the authority: Caddy certifies it all the same.
    """
    chain = home.path / "build/trust/acme-chain.pem"
    acme, root = x509.load_pem_x509_certificates(chain.read_bytes())
    other_server.write_pem(work / "root.pem", root)
    intermediate = other_server.write_pem(work / "acme.pem", acme)
    write_key(work / "acme.key", key)
    own, own_key = other_server.issue(acme, key, "acme.lab.internal", now())
    other_server.write_pem(work / "server.pem", own, acme)
    write_key(work / "server.key", own_key)
    (work / "Caddyfile").write_text(CADDYFILE.format(work=work, chain=intermediate))
    names = {"WORK": str(work), "ROOTS": str(work / "root.pem"), "SHOP": SHOP, "FOREIGN": FOREIGN, "NO_PROXY": "*"}
    names["CADDY"] = str(environment("proxies") / "bin/caddy")  # that of Debian asks for the key of the root, too
    run("unshare", "--net", "--mount", "sh", "-c", MACHINE, env={**home.environment, **names})


def check_crls_in_nginx(home: LiveRealHome, key: other_server.Key) -> None:
    """Let nginx check CRLs of its upstream, as docs/how-to/external-authorities.md shows: of our root, and of acme-1."""
    acme = x509.load_pem_x509_certificates(home.read("build/trust/acme-chain.pem"))[0]
    own = other_server.empty_crl(acme, key, now()).public_bytes(serialization.Encoding.PEM).decode()
    home.write(
        "templates/acme/crls.pem",
        '# deploy-target: /etc/doit-pki/acme-crls.pem\n# deploy-hosts: web\n\n{{ artifact("crl-pem:root") }}' + own,
    )
    trust = "        proxy_ssl_trusted_certificate "
    crls = "        proxy_ssl_crl /etc/doit-pki/acme-crls.pem;\n"
    home.edit(trust, crls + trust, "templates/nginx/pki-services.conf")


def test_certbot_gets_a_certificate_from_a_server_below_our_root(served: Served) -> None:
    leaf, acme = x509.load_pem_x509_certificates(served.chain().read_bytes())
    assert acme == served.home.certificate("acme-1")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [SHOP]
    assert served.fault() == ""


def test_certificate_for_another_domain_is_refused_although_the_server_issues_it(served: Served) -> None:
    assert "permitted subtree violation" in served.fault(name=FOREIGN)


def test_programs_that_check_crls_refuse_the_server_once_its_intermediate_is_revoked(
    served: Served, tmp_path: Path
) -> None:
    crls = ("-crl_check_all", "-CRLfile", str(served.home.path / "build/hosts/web/etc/doit-pki/acme-crls.pem"))
    with started("nginx", served.home, "web", tmp_path / "work") as nginx:
        assert served.fault(*crls) == ""
        assert nginx.curl("https://shop.lab.internal/").service == "shop"
        served.home.ceremony(REVOKED)
        built(served.home)
        nginx.configure()
        nginx.reload()
        assert "certificate revoked" in served.fault(*crls)
        assert nginx.curl("https://shop.lab.internal/").status == 502
        assert served.fault() == "", "a program that reads no CRL trusts it until it expires"
