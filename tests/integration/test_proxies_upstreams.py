"""Each proxy before upstreams with certificates of their own, as Proxmox, UniFi and Synology have them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.conftest import LiveHome, built, live_home
from tests.integration.proxies import CURRENT, EVERY, Upstreams, started

PROGRAMS = ("nginx", "haproxy", "caddy", "apache", "traefik")
STATUS = {"nginx": 502, "haproxy": 503, "caddy": 502, "apache": 500, "traefik": 500}
BOX = "box.example"
DAY = timedelta(days=1)
Pair = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]
ACCEPTED = ("itself", "chain", "unverified", "ours")
REFUSED = ("stranger", "othername", "ended")


def signed(name: str, issuer: Pair | None = None, *, is_ca: bool = False, days: int = 30) -> Pair:
    """A certificate for some names, signed by itself unless there is an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC).replace(microsecond=0)
    names = x509.SubjectAlternativeName([x509.DNSName(one) for one in ((BOX, "localhost") if name == BOX else (name,))])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer[1].subject if issuer else subject).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - 60 * DAY).not_valid_after(now + days * DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    builder = builder.add_extension(names, critical=False)
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def whole(pair: Pair, *chain: x509.Certificate) -> bytes:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return pair[0].private_bytes(serialization.Encoding.PEM, *form) + pem(pair[1], *chain)


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstreams]:
    found = Upstreams()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def home(behind: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """A host with each proxy, and before each of them upstreams of every kind, by the names of services."""
    home = live_home(tmp_path_factory.mktemp("upstreams") / "home")
    folder = home.path / "upstreams"
    folder.mkdir()
    root = signed("Foreign Root", is_ca=True)
    middle = signed("Foreign Issuing", root, is_ca=True)
    itself, leaf = signed(BOX), signed(BOX, middle)
    (folder / "itself.pem").write_bytes(pem(itself[1]))
    (folder / "root.crt").write_bytes(root[1].public_bytes(serialization.Encoding.DER))
    ended = signed(BOX, days=-1)
    (folder / "ended.pem").write_bytes(pem(ended[1]))
    served = {
        "itself": whole(itself),
        "chain": whole(leaf, middle[1]),
        "unverified": whole(signed("whatever", days=-1)),
        "stranger": whole(signed(BOX)),
        "othername": whole(signed("other.example", middle), middle[1]),
        "ended": whole(ended),
    }
    ca = {
        "itself": "itself.pem",
        "chain": "root.crt",
        "stranger": "itself.pem",
        "othername": "root.crt",
        "ended": "ended.pem",
    }
    ports = {}
    for kind, content in served.items():
        (folder / f"{kind}.key").write_bytes(content)
        ports[kind] = behind.start(kind, folder / f"{kind}.key")
    hosts = {}
    for program in PROGRAMS:
        address, name = ("localhost", "localhost") if program == "apache" else ("127.0.0.1", BOX)
        services = {
            f"{program}-{kind}": {
                "access": "tls",
                "upstream": {"url": f"https://{address}:{port}", **_how(ca.get(kind), name)},
            }
            for kind, port in ports.items()
        }
        ours = f"{program}-ours"
        services[ours] = {"access": "tls", "upstream": {"url": "https://127.0.0.1:1", "name": f"{ours}.lab.internal"}}
        hosts[program] = {"network": "mgmt", "proxy": program, "services": services}
    said = yaml.safe_load(home.read("pki.yaml"))
    said |= {"hosts": hosts, "publish": {**said["publish"], "host": "nginx"}}
    home.write("pki.yaml", yaml.safe_dump(said))
    built(home)
    for program in PROGRAMS:  # our own certificate, on a device behind the proxy
        port = behind.start(f"{program}-ours", home.path / f"build/certs/{program}/tls.pem")
        said["hosts"][program]["services"][f"{program}-ours"]["upstream"]["url"] = f"https://127.0.0.1:{port}"
    home.write("pki.yaml", yaml.safe_dump(said))
    built(home)
    return home


def _how(ca: str | None, name: str) -> dict[str, str]:
    return {"ca": f"upstreams/{ca}", "name": name} if ca else {"verify": "none"}


@pytest.mark.parametrize("kind", [*EVERY, *(one for one in CURRENT if one not in EVERY)])
def test_an_upstream_proves_who_it_is_as_pki_yaml_says(
    kind: str, home: LiveHome, behind: Upstreams, tmp_path: Path
) -> None:
    program = kind.partition("-")[0]
    behind.seen.clear()
    with started(kind, home, program, tmp_path / "work") as proxy:
        answers = {one: proxy.curl(f"https://{program}-{one}.lab.internal/") for one in (*ACCEPTED, *REFUSED)}
    accepted = {one: answer.service for one, answer in answers.items() if answer.accepted}
    assert accepted == {**{one: one for one in ACCEPTED}, "ours": f"{program}-ours"}, answers
    assert {answers[one].status for one in REFUSED} == {STATUS[program]}
    assert set(behind.seen) == set(accepted.values())
    for one in accepted:
        has_own_host = program == "apache" and one in {"itself", "chain"}
        [host] = answers[one].header("Host")
        assert (host.partition(":")[0] == "localhost") if has_own_host else host == f"{program}-{one}.lab.internal"
