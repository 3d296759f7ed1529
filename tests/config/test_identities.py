"""Identities: whose name a certificate may have, however it is declared, and what a name must look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.common.errors import InventoryError
from pki.config import loader
from pki.config.leaf_certificates import client_leaf
from pki.config.model import Client, Inventory, Leaf
from pki.config.name_claims import Claim, NameRegistry
from pki.config.name_fields import common_name, dns_name, email_address, leaf_file_name
from pki.monitor import forecast
from pki.pipeline import permitted_leaves
from pki.x509.name_constraints import PermittedNames
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import Home, Report

SERVER = """\
# deploy-target: /etc/ssl/box.cnf
# deploy-hosts: {hosts}
[ req ]
prompt             = no
distinguished_name = dn
req_extensions     = ext

[ dn ]
CN = {cn}

[ ext ]
subjectAltName = @names

[ names ]
{names}
"""
CN_LINE, FIRST_NAME = 9, 15  # on which these are


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment())

    return call


def server(*names: str, hosts: str = "media", cn: str = "") -> str:
    kinds = ["IP" if name[-1].isdigit() else "DNS" for name in names]
    lines = [f"{kind}.{number} = {name}" for number, (kind, name) in enumerate(zip(kinds, names, strict=True))]
    return SERVER.format(hosts=hosts, cn=cn or names[0], names="\n".join(lines))


def client(cn: str, *names: str, hosts: str = "media") -> str:
    text = SERVER.format(hosts=hosts, cn=cn, names="\n".join(names or ["email.1 = bot@lab.internal"]))
    return text.replace("[ ext ]\n", "[ ext ]\nextendedKeyUsage = clientAuth\n")


def declare(home: Home, text: str, name: str = "box", folder: str = "ssl") -> Report:
    path = home.path / "templates" / folder / f"{name}.cnf"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return home.doit()


def refused(home: Home, report: Report, name: str = "box") -> str:
    """What is said of a declaration that stops its own file and nothing else."""
    assert set(report.failed) == {"release:media"}
    assert f"cert:{name}" not in report.made
    assert not (home.path / "build/certs" / name).exists()
    return report.failed["release:media"]


def subject_of(path: Path) -> str:
    return x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()


def faults(home: Home) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        loader.load(home.path / "pki.yaml")
    return caught.value.faults


# -- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cn", "sentence"),
    [
        ("admin", "CN admin belongs to clients.admin (pki.yaml:45)"),
        ("Admin", "CN Admin belongs to clients.admin (pki.yaml:45)"),
        ("admin@lab.internal", "CN admin@lab.internal is the e-mail address of clients.admin"),
        ("doit-pki-probe", "CN doit-pki-probe is reserved for the test identities"),
        ("DOIT-PKI-CANARY", "CN DOIT-PKI-CANARY is reserved for the test identities"),
        ("ad\0min", r"CN 'ad\x00min': expected printable ASCII"),
        ("\x1b[31madmin", r"CN '\x1b[31madmin': expected printable ASCII"),
        ("\u0430dmin", r"CN '\u0430dmin': expected printable ASCII"),
        ("\u202enimda", r"CN '\u202enimda': expected printable ASCII"),
        ("bot\x0cCN = admin", r"CN 'bot\x0cCN = admin': expected printable ASCII"),
        ("bot\u2028x", r"CN 'bot\u2028x': expected printable ASCII"),
        ("bot/CN=admin", "= is not permitted"),
        ("*", "* is not permitted"),
        ("ad\\\\min", "\\ is not permitted"),
        ("ad\\min", "CN admin belongs to clients.admin (pki.yaml:45)"),  # as OpenSSL reads it
        ("{{ host.name }}", "'{{ host.name }}': names are read before the template is rendered"),
        ("", "has no CN, which identifies a client: CN = NAME"),
        ("b" * 65, "its CN is longer than 64 characters"),
        ("john.smith", "write john.smith@device, or john.smith.lab.internal"),
        ("10.10.0.2", "CN 10.10.0.2 looks like a DNS name"),
    ],
)
def test_a_client_file_cannot_have_the_cn_of_another_or_one_that_reads_as_another(
    home: Home, cn: str, sentence: str
) -> None:
    said = refused(home, declare(home, client(cn)))
    assert sentence in said
    assert said.startswith(f"templates/ssl/box.cnf{f':{CN_LINE}' if cn else ''}: ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("email.1 = bot@*.lab.internal", "expected an e-mail address without a wildcard, got 'bot@*.lab.internal'"),
        ("email.1 = *@lab.internal", "expected an e-mail address such as"),
        ("email.1 = bot@lab.internal\x1b[0m", r"\x1b[0m"),
        ("DNS.1 = *.lab.internal", "*.lab.internal: a client cannot have a wildcard"),
        ("DNS.1 = doit-pki-probe.lab.internal", "doit-pki-probe.lab.internal is reserved for"),
        ("DNS.1 = gr\u0430fana.lab.internal", "write an international name in its ASCII form (xn--...)"),
        ("DNS.1 = A\x1b[31m.lab.internal", "expected a host name"),
        ("DNS.1 = 10.10.0.2", "expected a host name, not an address"),
        ("IP.1 = \u0661.1.1.1", "expected an address such as 10.10.0.10 or fd00:10::10"),
    ],
)
def test_the_other_names_of_a_client_are_as_strict(home: Home, name: str, sentence: str) -> None:
    said = refused(home, declare(home, client("bot", name)))
    assert sentence in said
    assert said.startswith(f"templates/ssl/box.cnf:{FIRST_NAME + 1}: ")
    assert "\x1b" not in said


def test_everything_wrong_with_a_file_is_said_at_once(home: Home) -> None:
    said = refused(home, declare(home, client("\0", "email.1 = *@x.y", "DNS.1 = b.example.com")))
    assert [part in said for part in (":9: CN", ":16: expected an e-mail", ":17: b.example.com is outside")] == [
        True
    ] * 3


@pytest.mark.parametrize("cn", ["John Q. Smith", "bot", "svc/backup", "a+b (c), d", "box.lab.internal", "xn--e1afmkfd"])
def test_a_client_file_with_a_name_of_its_own_is_issued_with_it(home: Home, cn: str) -> None:
    assert declare(home, client(cn)).status == 0
    cert = x509.load_pem_x509_certificate(home.read("build/certs/box/cert.pem"))
    assert [one.value for one in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [cn]
    assert home.doit().made == {}


def test_of_two_files_with_one_cn_the_first_one_keeps_it(home: Home) -> None:
    assert declare(home, client("bot"), "second").status == 0
    report = declare(home, client("BOT").replace("box.cnf", "a.cnf"), "first")
    assert "templates/ssl/first.cnf:9: CN BOT belongs to templates/ssl/second.cnf:9" in refused(home, report, "first")
    assert home.doit().failed == report.failed
    assert (home.path / "build/certs/second/tls.pem").exists()


def test_a_file_that_is_refused_keeps_no_name_from_others(home: Home) -> None:
    home.write("templates/ssl/a.cnf", server("free.lab.internal", "grafana.lab.internal").replace("box.cnf", "a.cnf"))
    report = declare(home, server("free.lab.internal"), "box")
    assert "cert:box" in report.made
    assert "free.lab.internal" not in report.failed["release:media"]


def test_two_clients_with_one_address_have_two_subjects(home: Home) -> None:
    home.edit("clients:\n", "clients:\n  boss: {email: admin@lab.internal}\n")
    assert home.doit().status == 0
    found = {subject_of(home.path / f"ca/clients/{name}/cert.pem") for name in ("admin", "boss")}
    assert found == {"CN=admin,O=Example Lab", "CN=boss,O=Example Lab"}


def test_a_client_cannot_be_called_by_the_address_of_another(home: Home) -> None:
    home.edit("clients:\n", "clients:\n  admin@lab.internal: {email: other@lab.internal}\n")
    assert faults(home) == [
        (
            "pki.yaml:45: clients.admin@lab.internal: admin@lab.internal is the e-mail address of clients.admin "
            "(pki.yaml:46); write NAME@DEVICE"
        )
    ]
    home.edit("other@lab.internal", "admin@lab.internal")
    loader.load(home.path / "pki.yaml")


@pytest.mark.parametrize("name", ["doit-pki-probe", "doit-pki-canary", "doit-pki-probe.lab.internal"])
def test_no_client_has_the_name_of_a_test_identity(home: Home, name: str) -> None:
    home.edit("  admin:", f"  {name}:")
    [fault] = faults(home)
    assert fault.startswith(f"pki.yaml:45: clients.{name}: this name is reserved for the certificate that verifies ")


def test_a_client_with_a_dot_lies_within_the_domains(home: Home) -> None:
    home.edit("clients:\n", "clients:\n  john.lab.internal: {email: john@lab.internal}\n")
    assert home.doit().status == 0
    assert subject_of(home.path / "ca/clients/john.lab.internal/cert.pem") == "CN=john.lab.internal,O=Example Lab"


def test_a_client_whose_name_the_authority_does_not_permit_waits_for_a_ceremony(home: Home, invoke: Invoke) -> None:
    home.edit("domains: [lab.internal]", "domains: [new.internal, lab.internal]")
    home.edit("clients:\n", "clients:\n  john.new.internal: {email: john@lab.internal}\n")
    report = home.doit()
    assert "cert:client-john.new.internal" not in report.made
    assert "cert:client-admin" not in report.made  # whose DNS name stays where its authority permits it
    [note] = [one for one in home.plan().actions_required if one.subject == "cert:client-john.new.internal"]
    assert note.text == "john.new.internal waits: client-1 does not permit it; needs a ceremony"
    assert "blocked" in next(line for line in invoke("client.list").out.splitlines() if "john.new.internal" in line)
    assert note.text in invoke("explain", "john.new.internal").out
    assert invoke("explain", "client-john.new.internal").status == 0


def by_address(said: Inventory, name: str, one: Client, domain: str) -> Leaf:
    """A client's certificate as an earlier version of this program issued it."""
    return replace(client_leaf(said, name, one, domain), common_name=one.email, dns=())


def test_plan_names_each_client_whose_cn_changes(home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update of this program certificates still have the e-mail address as their CN."""
    home.edit("clients:\n", "clients:\n  boss: {email: boss@lab.internal}\n")
    with monkeypatch.context() as patch:
        patch.setattr(permitted_leaves, "client_leaf", by_address)
        home.doit()
    assert subject_of(home.path / "ca/clients/boss/cert.pem") == "CN=boss@lab.internal,O=Example Lab"
    said = " ".join(invoke("plan").out.split())
    for name in ("admin", "boss"):
        changes = f"its CN changes from {name}@lab.internal to {name}: allow lists of upstreams contain it"
        assert f"cert:client-{name}" in said
        assert changes in said
    assert home.doit().status == 0
    assert subject_of(home.path / "ca/clients/boss/cert.pem") == "CN=boss,O=Example Lab"


# -- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("grafana.lab.internal", "grafana.lab.internal belongs to hosts.monitoring.services.grafana (pki.yaml:28)"),
        ("10.10.0.10", "10.10.0.10 belongs to hosts.monitoring.address (pki.yaml:25)"),
        ("*.lab.internal", "*.lab.internal: no host in pki.yaml has this wildcard"),
        ("*.media.lab.internal", "*.media.lab.internal: no host in pki.yaml has this wildcard"),
        ("doit-pki-canary.lab.internal", "doit-pki-canary.lab.internal is reserved for the test identities"),
    ],
)
def test_a_server_file_cannot_have_a_name_of_another_host(home: Home, name: str, sentence: str) -> None:
    said = refused(home, declare(home, server("box.lab.internal", name)))
    assert said.startswith(f"templates/ssl/box.cnf:{FIRST_NAME + 1}: {sentence}")


def test_a_cn_that_is_no_alternative_name_is_held_to_the_same_rules(home: Home) -> None:
    said = refused(home, declare(home, server("box.lab.internal", cn="loki.lab.internal")))
    assert said.startswith(
        f"templates/ssl/box.cnf:{CN_LINE}: loki.lab.internal belongs to hosts.monitoring.services.loki"
    )


def test_a_cn_that_is_an_address_is_an_address(home: Home) -> None:
    assert declare(home, server("box.lab.internal", cn="10.10.0.77")).status == 0
    names = x509.load_pem_x509_certificate(home.read("build/certs/box/cert.pem")).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(one.value) for one in names.value] == ["box.lab.internal", "10.10.0.77"]


def test_a_server_file_may_have_the_names_of_the_one_host_that_it_is_for(home: Home) -> None:
    assert declare(home, server("jellyfin.lab.internal", "10.30.0.10")).status == 0
    assert "cert:box" not in home.doit().made


@pytest.mark.parametrize("hosts", ["ca", "proxy:caddy", "media, forge", "all"])
def test_a_server_file_that_is_for_no_single_host_owns_what_it_names_alone(home: Home, hosts: str) -> None:
    report = declare(home, server("jellyfin.lab.internal", hosts=hosts))
    assert all("jellyfin.lab.internal belongs to hosts.media" in said for said in report.failed.values())
    assert report.failed
    assert "cert:box" not in report.made


def test_a_shared_host_and_an_upstream_may_have_the_name_of_a_service(home: Home) -> None:
    text = server("grafana.lab.internal")
    assert "hosts.media.shared: true" in refused(home, declare(home, text))
    home.edit("network: av\n", "network: av\n    shared: true\n")
    assert "cert:box" in home.doit().made
    home.edit("    shared: true\n", "")
    home.edit("http://127.0.0.1:3000", "https://10.30.0.10:3000")  # of grafana and forgejo
    assert home.doit().status == 0
    assert (home.path / "build/certs/box/tls.pem").exists()


def test_a_wildcard_of_a_file_is_that_of_its_host(home: Home) -> None:
    home.edit("access: tls}", 'access: tls, names: [jellyfin.lab.internal, "*.av.lab.internal"]}')
    assert declare(home, server("*.av.lab.internal")).status == 0
    report = declare(home, server("*.av.lab.internal", hosts="forge").replace("box.cnf", "b.cnf"), "other")
    assert "belongs to hosts.media.services.jellyfin" in report.failed["release:forge"]


def test_a_wildcard_takes_nothing_from_the_names_that_it_covers(home: Home) -> None:
    home.edit("access: tls}", 'access: tls, names: [jellyfin.lab.internal, "*.lab.internal"]}')
    assert declare(home, server("box.lab.internal", hosts="forge")).status == 0


def test_servers_and_clients_do_not_exclude_one_another(home: Home) -> None:
    assert declare(home, client("grafana.lab.internal", "DNS.1 = grafana.lab.internal")).status == 0


MEDIA = "access: tls, names: [grafana.lab.internal]}"


@pytest.mark.parametrize(
    ("edits", "count"),
    [
        ([("access: tls}", MEDIA)], 1),
        ([("access: tls}", MEDIA), ("network: av\n", "network: av\n    shared: true\n")], 0),
        ([("access: tls}", MEDIA), ("network: mgmt\n", "network: mgmt\n    shared: true\n")], 0),
        (
            [
                ("access: tls}", MEDIA),
                ('grafana:    {upstream: "http://127.0.0.1', 'grafana:    {upstream: "https://10.30.0.10'),
            ],
            0,
        ),
        (
            [
                ("access: tls}", MEDIA),
                ('grafana:    {upstream: "http://127.0.0.1', 'grafana:    {upstream: "https://media'),
            ],
            0,
        ),
        (
            [
                ("access: tls}", MEDIA),
                ('loki:       {upstream: "http://127.0.0.1', 'loki:       {upstream: "https://10.30.0.10'),
            ],
            1,
        ),
        (
            [
                ("access: tls}", MEDIA),
                ('grafana:    {upstream: "http://127.0.0.1', 'grafana:    {upstream: "https://grafana.lab.internal'),
            ],
            1,
        ),
        ([("network: av\n", "network: av\n    names: [10.10.0.10]\n")], 1),
        ([("network: mgmt\n", "network: mgmt\n    names: [10.10.0.10]\n")], 0),
        ([("access: tls}", MEDIA), ("network: dev\n", "network: dev\n    names: [grafana.lab.internal]\n")], 2),
    ],
)
def test_a_name_of_two_hosts_is_a_fault_unless_one_is_shared_or_the_upstream(
    home: Home, edits: list[tuple[str, str]], count: int
) -> None:
    for old, new in edits:
        home.edit(old, new)
    if not count:
        loader.load(home.path / "pki.yaml")
        return
    found = faults(home)
    assert len(found) == count
    assert all(".shared: true" in fault and "(pki.yaml:" in fault for fault in found)


def test_one_host_never_has_one_name_twice_shared_or_not(home: Home) -> None:
    home.edit("network: mgmt\n", "network: mgmt\n    shared: true\n    names: [loki.lab.internal]\n")
    [fault] = faults(home)
    assert "hosts.monitoring.services.loki: loki.lab.internal is already used by hosts.monitoring.names" in fault


# -- files of leaves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("client-..", "client-.", "client-...", "client-", "client-.x", "client-..x", "Box", "a\nb", "a\x1b[31mb"),
        *("bo\u0445", "x" * 51, "client-" + "x" * 51, "-box", "box-", "\udcff", "client-a b", "client-A"),
    ],
)
def test_a_leaf_is_called_after_its_file_and_leads_into_no_other_folder(home: Home, name: str) -> None:
    before = set((home.path / "ca").rglob("*"))
    path = home.path / "templates/ssl" / f"{name}.cnf"
    path.parent.mkdir()
    path.write_text(client("bot"))
    report = home.doit()
    said = report.failed["release:media"].partition(" → ")[0]
    assert "its certificate has the name of the file" in said
    assert said.isascii()
    assert "\x1b" not in said
    assert set(report.failed) == {"release:media"}
    assert set((home.path / "ca").rglob("*")) - before <= {home.path / "ca/.alerts.json"}


@pytest.mark.parametrize("name", ["doit-pki-probe", "doit-pki-canary"])
def test_no_file_is_called_like_a_test_identity_whether_there_is_one_or_not(home: Home, name: str) -> None:
    assert f"another leaf is called {name}" in refused(home, declare(home, client("bot"), name), name)


def test_a_host_called_like_a_client_keeps_nothing_in_the_folder_of_clients(home: Home) -> None:
    home.edit("hosts:\n", "hosts:\n  client-pc: {network: av, names: [pc.lab.internal]}\n")
    assert home.doit().status == 0
    assert (home.path / "build/certs/client-pc/tls.pem").exists()
    assert not (home.path / "ca/clients/pc").exists()


LOST = {"template:ssl/box.cnf", "release:media"}  # nobody can tell whom the file is for: what media has of it stays


def test_what_was_issued_stays_while_a_file_is_wrong(home: Home) -> None:
    """A slip in a file must not take the key away that its server runs with, wherever the slip is."""
    declare(home, server("box.lab.internal"))
    home.write(
        "templates/box.pem", "# deploy-target: /etc/box.pem\n# deploy-hosts: forge\n# deploy-artifact: tls:box\n"
    )
    assert home.doit().status == 0
    before = home.read("build/certs/box/tls.pem")
    delivered = {name: home.read(f"build/hosts/{name}") for name in ("media/etc/ssl/box.cnf", "forge/etc/box.pem")}
    for broken, failed in (
        (server("grafana.lab.internal"), {"release:media"}),
        (server("box.lab.internal").replace("CN =", "CN"), {"release:media"}),
        (server("box.lab.internal").replace("deploy-hosts: media", "deploy-hosts: medai"), LOST),
        (server("box.lab.internal").replace("deploy-hosts: media", "deploy-hosts: {{ x"), LOST),
    ):
        report = declare(home, broken)
        assert report.failed.keys() == failed
        assert home.read("build/certs/box/tls.pem") == before
        assert {name: home.read(f"build/hosts/{name}") for name in delivered} == delivered
    assert not [note for note in notes(home) if "left pki.yaml" in note]
    assert declare(home, server("box.lab.internal")).status == 0
    assert home.read("build/certs/box/tls.pem") == before


def notes(home: Home) -> list[str]:
    project = home.project()
    return [f"{one.subject}: {one.text}" for one in forecast.required_actions(project, home.plan())]


# -- names that move --------------------------------------------------------------------------------------------------


def test_a_name_that_moves_from_pki_yaml_into_a_file_is_transferred_with_a_line_in_plan(
    home: Home, invoke: Invoke
) -> None:
    home.edit('      loki:       {upstream: "http://127.0.0.1:3100", access: mtls}\n', "")
    home.write("templates/ssl/box.cnf", server("loki.lab.internal"))
    said = " ".join(invoke("plan").out.split())
    assert (
        "cert:box takes loki.lab.internal over from cert:monitoring-mtls, whose certificate with that name is valid"
        in said
    )
    assert home.doit().status == 0
    assert "takes loki" not in invoke("plan").out


def test_a_cn_that_moves_from_a_file_into_pki_yaml_is_transferred_with_a_line_in_plan(
    home: Home, invoke: Invoke
) -> None:
    assert declare(home, client("bot")).status == 0
    (home.path / "templates/ssl/box.cnf").unlink()
    home.edit("clients:\n", "clients:\n  bot: {email: bot@lab.internal}\n")
    said = " ".join(invoke("plan").out.split())
    assert "cert:client-bot takes bot over from cert:box, whose certificate with that name is valid until" in said
    assert "./run invoke retire box" in said
    assert home.doit().status == 0
    assert "takes bot over" not in invoke("plan").out
    answer = invoke("retire", "box", "--yes")
    assert answer.status in {0, 2}, answer.error
    revoked = [one for one in home.project().ledger.certificates() if one.revoked == "cessationOfOperation"]
    assert [one.artifact for one in revoked] == ["cert:box"]


def test_a_file_that_takes_the_place_of_a_client_goes_on_with_its_certificate(home: Home) -> None:
    before = home.read("ca/clients/admin/tls.pem")
    home.edit("  admin: {email: admin@lab.internal}\n", "  other: {email: other@lab.internal}\n")
    text = client("admin", "DNS.1 = admin.client.lab.internal", "email.1 = admin@lab.internal")
    assert declare(home, text, "client-admin").status == 0
    assert home.read("ca/clients/admin/tls.pem") == before


# -- revoking by CN ---------------------------------------------------------------------------------------------------


def test_revoke_finds_a_client_by_its_cn_whatever_declared_it(home: Home, invoke: Invoke) -> None:
    assert declare(home, client("bot@laptop")).status == 0
    assert "cert:box" in invoke("explain", "bot@laptop").out
    answer = invoke("revoke", "Bot@laptop", "--reason", "key-compromise", "--yes")
    assert answer.status in {0, 2}, answer.error
    assert ": key-compromise" in answer.out
    revoked = [one for one in home.project().ledger.certificates() if one.revoked == "keyCompromise"]
    assert [one.artifact for one in revoked] == ["cert:box"]


def test_revoke_takes_every_certificate_with_a_cn(home: Home, invoke: Invoke) -> None:
    """After a name moved, two leaves have it: whoever has either key comes in under it."""
    assert declare(home, client("bot")).status == 0
    (home.path / "templates/ssl/box.cnf").unlink()
    home.edit("clients:\n", "clients:\n  bot: {email: bot@lab.internal}\n")
    assert home.doit().status == 0
    answer = invoke("revoke", "bot", "--reason", "key-compromise", "--yes", "--no-replace")
    assert answer.status in {0, 2}, answer.error
    revoked = [one.artifact for one in home.project().ledger.certificates() if one.revoked == "keyCompromise"]
    assert sorted(revoked) == ["cert:box", "cert:client-bot"]
    assert list(home.project().revocations.replacement_stopped) == ["cert:client-bot"]


def test_revoke_asks_which_of_a_server_and_a_client_is_meant(home: Home, invoke: Invoke) -> None:
    assert declare(home, client("media")).status == 0
    answer = invoke("revoke", "media", "--reason", "superseded", "--yes")
    assert answer.status == 1
    assert "./run invoke revoke cert:box or ./run invoke revoke cert:media" in answer.error
    assert invoke("revoke", "cert:box", "--reason", "superseded", "--yes").status in {0, 2}


def test_retire_takes_nothing_that_is_declared(home: Home, invoke: Invoke) -> None:
    assert declare(home, client("bot")).status == 0
    assert invoke("retire", "bot", "--yes").status == 1
    assert not [one for one in home.project().ledger.certificates() if one.artifact == "cert:box" and one.revoked]


def test_a_name_that_ends_in_a_digit_is_no_address() -> None:
    permitted = PermittedNames((".lab1", ".lan"), (IPv4Network("10.0.0.0/8"),))
    asked = ("grafana.lab1", "node.7.lan", "10.1.2.3", "11.1.2.3")
    assert [permitted.permits(name) for name in asked] == [True, True, True, False]


# -- the rules by themselves ------------------------------------------------------------------------------------------


def claims(*owners: str, shared: str = "") -> Iterator[Claim]:
    for owner in owners:
        yield Claim("server", "a.lan", owner, ("hosts", owner), is_shared=owner == shared)


def test_a_name_is_free_again_only_for_its_owner_a_shared_host_and_the_upstream() -> None:
    names = NameRegistry(lambda host, claim: (host, claim.owner) == ("up", "front"))
    names.add(claims("front"))
    assert names.conflicts(claims("front", "up", "b", shared="b")) == []
    assert [one.claim.owner for one in names.conflicts(claims("b", "c"))] == ["b", "c"]
    assert names.conflicts([Claim("client", "a.lan", "c", ("clients", "c"))]) == []
    assert names.conflicts([Claim("server", "*.lan", "c", ("hosts", "c"))]) == []


@pytest.mark.parametrize(
    "text", ["a b", "a\tb", "a\n", "a\0.lan", "a.lan\x7f", "*", "*.lan", "a.*.lan", "a*.b.lan", "1.2.3.4"]
)
def test_what_is_no_host_name_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a host name|wildcard"):
        dns_name(text)


@pytest.mark.parametrize("text", ["a@*.b.c", "*@b.c", "a@b.c\n", "a@b.c\0", "\u0430@b.c", "a b@c.d", "@b.c", "a@", "a"])
def test_what_is_no_address_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|write"):
        email_address(text)


@pytest.mark.parametrize("text", ["ok\r", "\u200b", "a\u0301", "\ud800", "x=y", "*.lan"])
def test_what_is_no_cn_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="CN"):
        common_name(text)


@pytest.mark.parametrize(
    "name", ["a", "box", "printer.lab.internal", "a_b-c.d", "client-bot", "client-bot@laptop", "client-a.b"]
)
def test_the_name_of_an_ordinary_file_is_a_name(name: str) -> None:
    assert leaf_file_name(name, "client") == name
