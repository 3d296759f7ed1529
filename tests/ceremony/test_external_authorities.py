"""External authorities: an intermediate below our root, for a key that another server has."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ceremony import audit, plan_text, policy, request_response
from pki.ceremony.online import make_request, needs, rehearsal
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.request_response import Request
from pki.ceremony.vault_contents import VaultContents
from pki.common.errors import PkiError
from pki.common.reasons import joined
from pki.monitor import forecast
from pki.monitor.check_result import Level
from pki.monitor.external_authorities import ExternalAuthorities
from pki.monitor.report.status_table import StatusTable
from pki.monitor.timeline import calendar, events
from pki.monitor.timeline.event_kinds import EventKind
from pki.pipeline import plan
from tests.support import external_authorities as other_server
from tests.support.ceremonies import RealHome, Typist, first_ceremony
from tests.support.projects import bare_home

REVOKE = RequestOptions(revoke=(("acme-1", "cessationOfOperation"),))
REVOKE_EXPOSED = RequestOptions(revoke=(("acme-1", "keyCompromise"),))
CRL_CHECK = ("-crl_check_all",)


@pytest.fixture(scope="module")
def founded_once(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    return first_ceremony(tmp_path_factory.mktemp("held"))


@pytest.fixture
def founded(founded_once: RealHome, tmp_path: Path) -> RealHome:
    """A project after its first ceremony, without an external authority."""
    return founded_once.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def certified_once(
    founded_once: RealHome, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RealHome, ec.EllipticCurvePrivateKey]:
    home = founded_once.copy(tmp_path_factory.mktemp("certified") / "copy")
    other_server.declare(home)
    key = other_server.make_request(home)
    home.ceremony(days=1)
    assert home.doit(days=1).status == 0
    return home, key


@pytest.fixture
def certified(certified_once: tuple[RealHome, ec.EllipticCurvePrivateKey], tmp_path: Path) -> RealHome:
    """A project whose second ceremony, a day later, certified acme-1."""
    return certified_once[0].copy(tmp_path / "copy")


@pytest.fixture
def key(certified_once: tuple[RealHome, ec.EllipticCurvePrivateKey]) -> ec.EllipticCurvePrivateKey:
    """The key of acme-1, which the project never had."""
    return certified_once[1]


def verify(home: RealHome, chain: list[x509.Certificate], at: datetime, *options: str) -> str:
    """Let OpenSSL verify a chain against the roots of a project; return its error, or ""."""
    folder = home.path.parent
    leaf = other_server.write_pem(folder / "leaf.pem", chain[0])
    above = other_server.write_pem(folder / "above.pem", *chain[1:])
    moment = ("-attime", str(int(at.timestamp())), "-purpose", "sslserver")
    trust = ("-CAfile", str(home.path / "build/trust/roots.pem"), "-untrusted", above)
    done = subprocess.run(
        ("openssl", "verify", *moment, *trust, *options, leaf), capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def notices(home: RealHome, days: float = 0) -> dict[str, str]:
    """Return what `invoke plan` requires of a person, by subject."""
    project = home.project(days)
    return {
        note.subject: f"{note.text} → {note.remedy}" for note in forecast.required_actions(project, plan.plan(project))
    }


# -- what is certified ------------------------------------------------------------------------------------------------


def test_a_certified_authority_certifies_servers_below_its_own_domains_and_no_authority(certified: RealHome) -> None:
    acme, root = certified.certificate("acme-1"), certified.certificate("root-1")
    extensions = {extension.oid: (extension.value, extension.critical) for extension in acme.extensions}
    assert extensions[x509.BasicConstraints.oid] == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert extensions[x509.ExtendedKeyUsage.oid][0] == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    constraints, is_critical = extensions[x509.NameConstraints.oid]
    assert isinstance(constraints, x509.NameConstraints)
    assert is_critical
    assert constraints.permitted_subtrees == [x509.DNSName("acme.lab.internal")]
    assert [str(tree.value) for tree in constraints.excluded_subtrees or ()] == ["0.0.0.0/0", "::/0"]
    assert acme.subject.rfc4514_string() == "CN=Example Lab Acme CA 1,O=Example Lab"
    assert acme.issuer == root.subject
    assert acme.not_valid_after_utc - acme.not_valid_before_utc <= timedelta(days=366)
    assert not list(certified.path.rglob("acme-1/key*"))


def test_leaf_of_the_other_server_verifies_only_within_the_limits_of_its_authority(
    certified: RealHome, key: ec.EllipticCurvePrivateKey
) -> None:
    acme, at = certified.certificate("acme-1"), certified.moment(2)
    inside, _ = other_server.issue(acme, key, "shop.acme.lab.internal", at)
    outside, _ = other_server.issue(acme, key, "jellyfin.lab.internal", at)
    client, _ = other_server.issue(acme, key, "shop.acme.lab.internal", at, other_server.CLIENT)
    lower, lower_key = other_server.certify_authority(acme, key, at)
    below, _ = other_server.issue(lower, lower_key, "shop.acme.lab.internal", at)
    assert verify(certified, [inside, acme], at) == ""
    assert "permitted subtree violation" in verify(certified, [outside, acme], at)
    assert verify(certified, [client, acme], at) != ""
    assert verify(certified, [client, acme], at, "-purpose", "sslclient") != ""
    assert "path length constraint exceeded" in verify(certified, [below, lower, acme], at)


def test_operator_reads_that_the_key_is_elsewhere(founded: RealHome) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    prepared = founded.ask(days=1)
    contents = VaultContents(founded.vault.roots(), founded.vault.history())
    lines = "\n".join(plan_text.signature_lines(prepared.request, contents))
    assert "certify acme-1, “Example Lab Acme CA 1”, with root-1: it may sign certificates of servers" in lines
    assert "its key is NOT in this project: another server has it" in lines
    assert "for names under acme.lab.internal; for addresses in none" in lines


def test_chain_and_trust_file_are_the_certificate_and_its_root(certified: RealHome) -> None:
    acme, root = certified.certificate("acme-1"), certified.certificate("root-1")
    chain = x509.load_pem_x509_certificates(certified.read("build/trust/acme-chain.pem"))
    trust = x509.load_pem_x509_certificates(certified.read("build/trust/acme-trust.pem"))
    assert chain == trust == [acme, root]


def test_ledger_records_the_intermediate_as_external(certified: RealHome) -> None:
    recorded = certified.project(1).ledger.certificates(serial=certified.certificate("acme-1").serial_number)
    assert [(entry.artifact, entry.profile, entry.issuer) for entry in recorded] == [
        ("authority:acme", "external-ca", "root-1")
    ]


def test_rehearsal_and_audit_know_the_intermediate(founded: RealHome) -> None:
    other_server.declare(founded, other_server.RULE, "groot")
    other_server.make_request(founded)
    prepared = founded.ask(days=1)
    project = founded.project(1)
    texts = rehearsal.rehearse(project.now, project.authorities, prepared)
    assert "Subject: O = Example Lab, CN = Example Lab Groot CA 1" in texts["groot-1.txt"].decode().replace(
        "O=", "O = "
    ).replace("CN=", "CN = ")
    assert "Public-Key" in texts["groot-1.txt"].decode()
    founded.accept(founded.answer(prepared.path, days=1), days=1)
    assert audit.verify(founded.path / "ca").faults == []


def test_root_rollover_leaves_the_intermediate_below_the_old_root(certified: RealHome) -> None:
    request = certified.ask(RequestOptions(generations=("root",)), days=2).request
    assert [intermediate.name for intermediate in request.intermediates] == ["server-2", "client-2"]
    certified.accept(
        certified.answer(certified.project().store.ceremony(request.number) / "request.yaml", days=2), days=2
    )
    assert certified.doit(days=2).status == 0
    names = [
        certificate.subject.rfc4514_string()
        for certificate in x509.load_pem_x509_certificates(certified.read("build/trust/acme-trust.pem"))
    ]
    assert [name.partition(",")[0] for name in names] == [
        "CN=Example Lab Acme CA 1",
        "CN=Example Lab Root CA 2",
        "CN=Example Lab Root CA 1",
    ]
    other_server.make_request(certified)
    certified.ceremony(days=3)
    assert certified.certificate("acme-2").issuer == certified.certificate("root-2").subject
    assert certified.doit(days=3).status == 0
    chain = x509.load_pem_x509_certificates(certified.read("build/trust/acme-chain.pem"))
    assert len(chain) == 3, "the intermediate, root-2 certified by root-1, and root-2"


# -- what a ceremony refuses ------------------------------------------------------------------------------------------


def faults_of(home: RealHome, **changes: object) -> list[str]:
    """Return the faults of the open request, with changes of its external intermediate."""
    request = home.ask(days=1).request
    changed = request.intermediates[0].model_copy(update=changes)
    contents = VaultContents(home.vault.roots(), home.vault.history())
    return policy.faults(request.model_copy(update={"intermediates": (changed,)}), contents, roots_are_made=True)


def test_policy_accepts_the_request_as_it_is_and_refuses_addresses_and_other_names(founded: RealHome) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    assert faults_of(founded) == []
    assert faults_of(founded, addresses=(ip_network("10.0.0.0/8"),)) == [
        "acme-1: would permit addresses: 10.0.0.0/8; an external authority has DNS names only"
    ]
    assert faults_of(founded, common_name="Example Lab Server CA 1") == [
        "acme-1: would be called 'Example Lab Server CA 1'; expected 'Example Lab Acme CA 1'"
    ]


def test_request_document_has_no_root_among_its_intermediates(founded: RealHome) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    data = founded.ask(days=1).path.read_bytes()
    with pytest.raises(PkiError, match="expected the name of an intermediate such as server-2"):
        request_response.load(data.replace(b"name: acme-1", b"name: root-2"), "request.yaml", Request)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda _: None, "requests/acme.csr: does not exist"),
        (lambda home: home.write("requests/acme.csr", "x"), "requests/acme.csr: not a PEM certificate request"),
        (
            lambda home: other_server.make_request(home, curve=ec.SECP521R1()),
            "requests/acme.csr: a key of kind ec-p521",
        ),
    ],
    ids=("missing", "damaged", "curve"),
)
def test_unusable_request_is_reported_and_needs_no_ceremony(founded: RealHome, make: object, fault: str) -> None:
    other_server.declare(founded)
    make(founded)  # type: ignore[operator]
    assert fault in notices(founded)["authority:acme"]
    assert needs.find_requirements(founded.project().authorities) == []
    with pytest.raises(PkiError, match=fault):
        founded.ask(RequestOptions(generations=("acme",)))
    assert founded.doit(days=1).status == 0


def test_request_whose_signature_does_not_verify_is_refused(founded: RealHome) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    path = founded.path / "requests/acme.csr"
    der = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(other_server.serialization.Encoding.DER))
    position = der.index(b"Everything")
    der[position] ^= 1
    changed = other_server.serialization.Encoding.PEM
    path.write_bytes(x509.load_der_x509_csr(bytes(der)).public_bytes(changed))
    assert "signature does not verify" in notices(founded)["authority:acme"]


def test_key_of_our_own_authority_is_not_certified_again(founded: RealHome) -> None:
    other_server.declare(founded)
    founded.write("requests/acme.csr", founded.read("ca/server/server-1/request.pem").decode())
    assert needs.find_requirements(founded.project().authorities) == []


# -- from one request to the next -------------------------------------------------------------------------------------


def test_open_request_is_replaced_when_the_request_of_the_server_or_its_domains_change(founded: RealHome) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    founded.ask(days=1)

    def reasons() -> str:
        return joined(make_request.RequestPreparation(founded.project(2)).outdated_reasons())

    assert reasons() == ""
    founded.edit("domains: [acme.lab.internal]", "domains: [acme.lab.internal, k8s.lab.internal]")
    assert "authorities.acme.domains" in reasons()
    founded.edit("domains: [acme.lab.internal, k8s.lab.internal]", "domains: [acme.lab.internal]")
    assert reasons() == ""
    other_server.make_request(founded)
    assert "authorities.acme.external" in reasons()


def test_new_key_in_the_file_is_a_new_generation_at_the_next_ceremony(certified: RealHome) -> None:
    assert needs.find_requirements(certified.project(2).authorities) == []
    other_server.make_request(certified)
    requirements = needs.find_requirements(certified.project(2).authorities)
    assert [(need.what, need.why) for need in requirements] == [("acme-2", "requests/acme.csr has a new key")]
    certified.ceremony(days=2)
    assert certified.doit(days=2).status == 0
    first = x509.load_pem_x509_certificates(certified.read("build/trust/acme-chain.pem"))[0]
    assert first == certified.certificate("acme-2")
    trusted = x509.load_pem_x509_certificates(certified.read("build/trust/acme-trust.pem"))
    assert certified.certificate("acme-1") in trusted
    assert needs.find_requirements(certified.project(2).authorities) == []


def test_ceremony_without_a_change_needs_a_new_key_for_a_new_generation(certified: RealHome) -> None:
    with pytest.raises(PkiError, match="its key is certified already; a new generation needs a new key"):
        certified.ask(RequestOptions(generations=("acme",)), days=2)


def test_expiry_is_announced_and_the_ceremony_has_a_deadline_once_there_is_a_new_key(certified: RealHome) -> None:
    days = 1 + 365 - 50
    end = certified.certificate("acme-1").not_valid_after_utc
    assert (
        f"acme-1 expires on {end:%Y-%m-%d}, and requests/acme.csr has its key"
        in notices(certified, days)["authority:acme"]
    )
    assert [finding.level for finding in ExternalAuthorities(certified.project(days)).findings()] == [Level.WARNING]
    assert [finding.level for finding in ExternalAuthorities(certified.project(days + 40)).findings()] == [
        Level.CRITICAL
    ]
    assert [finding.level for finding in ExternalAuthorities(certified.project(2)).findings()] == [Level.OK]
    other_server.make_request(certified)
    requirements = needs.find_requirements(certified.project(days).authorities)
    due = {need.what: (need.by, need.has_no_deadline) for need in requirements}
    assert due["acme-2"] == (end, False)


def test_timeline_expects_a_new_key_of_the_other_server_in_time(certified: RealHome) -> None:
    project = certified.project(2)
    timeline = events.timeline(project, plan.plan(project), 3)
    created = [event for event in timeline.events if event.what is EventKind.CEREMONY and "acme-2" in event.text]
    expiry = [event for event in timeline.events if event.what is EventKind.EXPIRY and event.subject == "acme-1"]
    assert len(created) == len(expiry) == 1, [event.text for event in timeline.events]
    assert created[0].at < expiry[0].at
    requested = [event.text for event in timeline.events if event.what is EventKind.REQUEST and "acme-2" in event.text]
    assert "before it, the server of acme must make a new key and request" in requested[0]
    others = [event.text for event in timeline.events if event.what is EventKind.REQUEST and "acme" not in event.text]
    assert others
    assert not [text for text in others if "new key" in text]
    entries = [entry for entry in calendar.entries(project, []) if "acme-2" in entry.title]
    assert "Note: before it, the server of acme must make a new key and request." in entries[0].text
    assert not expiry[0].is_problem


def test_status_shows_each_generation_and_what_follows(certified: RealHome) -> None:
    project = certified.project(2)
    rows = {row.name: row for row in StatusTable(project).rows(plan.plan(project))}
    assert rows["authority:acme-1"].state == "ok"
    assert "another server has its key" in rows["authority:acme-1"].next


def test_removed_authority_stays_valid_and_plan_says_how_to_revoke_it(certified: RealHome) -> None:
    certified.edit(f"  acme: {other_server.RULE}\n", "")
    note = notices(certified, 2)["authority:acme"]
    assert "no longer in pki.yaml; acme-1 is valid until" in note
    assert "invoke ceremony.request --revoke acme-1 --reason cessationOfOperation" in note
    certified.ceremony(REVOKE, days=2)
    assert "authority:acme" not in notices(certified, 2)


# -- revocation -------------------------------------------------------------------------------------------------------


def test_revoked_authority_is_refused_where_crls_are_checked_and_only_there(
    certified: RealHome, key: ec.EllipticCurvePrivateKey
) -> None:
    acme, at = certified.certificate("acme-1"), certified.moment(3)
    leaf, _ = other_server.issue(acme, key, "shop.acme.lab.internal", at)
    own = other_server.write_pem(certified.path.parent / "own-crl.pem", other_server.empty_crl(acme, key, at))
    with_crls = (*CRL_CHECK, "-CRLfile", str(certified.path / "build/crl/root-1.pem"), "-CRLfile", own)
    assert verify(certified, [leaf, acme], at, *with_crls) == ""
    certified.ceremony(REVOKE_EXPOSED, days=2)
    assert certified.doit(days=2).status == 0
    assert "certificate revoked" in verify(certified, [leaf, acme], at, *with_crls)
    assert verify(certified, [leaf, acme], at) == ""
    trusted = x509.load_pem_x509_certificates(certified.read("build/trust/acme-trust.pem"))
    assert acme not in trusted


def test_revoked_authority_comes_back_only_with_a_new_key(certified: RealHome) -> None:
    certified.ceremony(REVOKE_EXPOSED, days=2)
    assert "acme-1 is revoked, and requests/acme.csr still has its key" in notices(certified, 2)["authority:acme"]
    assert certified.doit(days=2).status == 0
    other_server.make_request(certified)
    certified.ceremony(days=3)
    assert certified.doit(days=3).status == 0
    assert x509.load_pem_x509_certificates(certified.read("build/trust/acme-chain.pem"))[0] == certified.certificate(
        "acme-2"
    )
    assert certified.certificate("acme-1").serial_number in {entry.serial_number for entry in certified.published()}


# -- in the sandbox, and typed ----------------------------------------------------------------------------------------


def test_first_run_of_a_sandbox_certifies_a_request_that_is_there(tmp_path: Path) -> None:
    home = bare_home(tmp_path / "project")
    other_server.declare(home)
    other_server.make_request(home)
    report = home.doit()
    assert report.status == 0, report.failed
    first = x509.load_pem_x509_certificates(home.read("build/trust/acme-chain.pem"))[0]
    assert "SANDBOX Acme CA 1" in first.subject.rfc4514_string()
    assert home.doit().made == {}


def test_whole_way_is_typed_from_request_to_explanation(founded: RealHome, capsys: pytest.CaptureFixture[str]) -> None:
    other_server.declare(founded)
    other_server.make_request(founded)
    founded.ceremony(days=1)
    assert founded.doit(days=1).status == 0
    typist = Typist(founded, capsys)
    status, output = typist("explain", "acme", days=1)
    assert status == 0
    assert "on another server, which decides alone what it signs" in output
    assert "server certificates for acme.lab.internal" in output
    assert "build/trust/acme-chain.pem, on the server that has its key" in output
    assert "most programs read no CRL, and trust it until it expires" in output
    status, output = typist("explain", "server-1", days=1)
    assert "read no CRL" not in output
    status, output = typist("revoke", "acme-1", "--yes", days=1)
    assert status == 1
    assert "revoking one takes a ceremony" in output
