"""The authority of clusters: a root of its own, whose certificates nobody accepts but the members."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ceremony import audit, plan_text, policy, request_response
from pki.ceremony.online import needs, rehearsal
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.request_response import Request
from pki.ceremony.vault_contents import VaultContents
from pki.common.errors import PkiError
from pki.monitor import forecast
from pki.monitor.pending_bootstraps import missing_roots_of
from pki.monitor.report.status_table import StatusTable
from pki.monitor.timeline import calendar, events
from pki.pipeline import plan
from tests.support import peer_clusters
from tests.support.ceremonies import RealHome, first_ceremony, real_home

BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
LEAF = "build/certs/media-peer/fullchain.pem"


@pytest.fixture(scope="module")
def founded_once(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    return first_ceremony(tmp_path_factory.mktemp("held"))


@pytest.fixture
def founded(founded_once: RealHome, tmp_path: Path) -> RealHome:
    """A project after its first ceremony, without clusters."""
    return founded_once.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def with_cluster_once(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    home = real_home(tmp_path_factory.mktemp("cluster"))
    peer_clusters.declare(home)
    home.ceremony()
    report = home.doit()
    assert report.status == 0, report.failed
    return home


@pytest.fixture
def with_cluster(with_cluster_once: RealHome, tmp_path: Path) -> RealHome:
    """A project whose first ceremony created the root of clusters, too."""
    return with_cluster_once.copy(tmp_path / "copy")


def notices(home: RealHome, days: float = 0) -> dict[str, str]:
    """Return what `invoke plan` requires of a person, by subject."""
    project = home.project(days)
    return {note.subject: note.text for note in forecast.required_actions(project, plan.plan(project))}


def extensions_of(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, tuple[object, bool]]:
    return {extension.oid: (extension.value, extension.critical) for extension in certificate.extensions}


def names_required(home: RealHome, days: float = 0) -> list[str]:
    return [need.what for need in needs.find_requirements(home.project(days).authorities)]


# -- what is certified ------------------------------------------------------------------------------------------------


def test_first_ceremony_creates_a_constrained_root_and_an_intermediate_for_both_purposes(
    with_cluster_once: RealHome,
) -> None:
    root, peer = with_cluster_once.certificate("root-peer-1"), with_cluster_once.certificate("peer-1")
    assert root.issuer == root.subject != with_cluster_once.certificate("root-1").subject
    assert root.subject.rfc4514_string() == "CN=Example Lab Peer Root CA 1,O=Example Lab"
    constraints = x509.NameConstraints([x509.DNSName("lab.internal"), *addresses(root)], None), True
    assert extensions_of(root)[x509.NameConstraints.oid] == extensions_of(peer)[x509.NameConstraints.oid] == constraints
    assert [str(tree.value) for tree in addresses(root)] == ["10.0.0.0/8", "100::/64"]
    assert peer.issuer == root.subject
    assert extensions_of(peer)[x509.BasicConstraints.oid] == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert extensions_of(peer)[x509.ExtendedKeyUsage.oid][0] == x509.ExtendedKeyUsage(BOTH)
    assert x509.NameConstraints.oid not in extensions_of(with_cluster_once.certificate("root-1"))
    assert not list((with_cluster_once.path / "ca/root-peer").rglob("key*")), "the key of a root is never in ca/"
    assert (with_cluster_once.path / "ca/peer/peer-1/key.pem").exists()


def addresses(certificate: x509.Certificate) -> list[x509.IPAddress]:
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return [tree for tree in constraints.permitted_subtrees or () if isinstance(tree, x509.IPAddress)]


def test_member_gets_a_certificate_for_both_purposes_with_its_chain(with_cluster_once: RealHome) -> None:
    leaf, issuer = x509.load_pem_x509_certificates(with_cluster_once.read(LEAF))
    assert issuer == with_cluster_once.certificate("peer-1")
    assert extensions_of(leaf)[x509.ExtendedKeyUsage.oid][0] == x509.ExtendedKeyUsage(BOTH)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["media.lab.internal", "10.30.0.10"]


def test_vault_has_the_key_of_each_root_and_the_audit_knows_both(with_cluster_once: RealHome) -> None:
    assert sorted(with_cluster_once.vault.roots()) == ["root-1", "root-peer-1"]
    assert audit.verify(with_cluster_once.path / "ca").faults == []
    assert audit.verify(with_cluster_once.vault.folder).faults == []
    assert len(with_cluster_once.series("root-peer-1")) == len(with_cluster_once.series("root-1")) == 2


def test_pki_yaml_lists_the_root_and_its_loss_is_noticed(with_cluster: RealHome) -> None:
    project = with_cluster.project()
    assert len(project.inventory.roots) == 2
    project.store.authority_file("root-peer-1", "cert.pem").unlink()
    with pytest.raises(PkiError, match=r"is missing: pki\.yaml names it"):
        with_cluster.project().roots.check()


# -- nobody else accepts its certificates -----------------------------------------------------------------------------


def test_root_of_clusters_is_in_no_trust_file_but_that_of_the_cluster(with_cluster_once: RealHome) -> None:
    root = with_cluster_once.certificate("root-peer-1")
    der = root.public_bytes(Encoding.DER)

    def has_root(data: bytes) -> bool:
        return der in data or b64encode(der) in b"".join(data.split())  # PEM, profiles of Apple's systems, pages

    with_root = {
        path.relative_to(with_cluster_once.path / "build").as_posix()
        for path in (with_cluster_once.path / "build").rglob("*")
        if path.is_file() and has_root(path.read_bytes())
    }
    published = {name for name in with_root if name.endswith("/ca/root-peer-1.crt")}  # where `AIA` of peer-1 points
    assert with_root - published == {"trust/peer.pem", "trust/root-peer-1.crt"}
    assert x509.load_pem_x509_certificates(with_cluster_once.read("build/trust/peer.pem")) == [root]
    assert b"Peer" not in with_cluster_once.read("build/trust/index.html")


@pytest.mark.parametrize("trust", ["roots.pem", "client-ca.pem", "client-chain.pem"])
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_ordinary_trust_files_accept_no_member(trust: str, purpose: str, with_cluster_once: RealHome) -> None:
    at, folder = with_cluster_once.moment(1), with_cluster_once.path / "build/trust"
    assert peer_clusters.openssl_verify(folder / trust, with_cluster_once.path / LEAF, at, purpose) != ""
    assert peer_clusters.openssl_verify(folder / "peer.pem", with_cluster_once.path / LEAF, at, purpose) == ""


@pytest.mark.parametrize("chain", ["build/certs/media/fullchain.pem", "ca/clients/admin/fullchain.pem"])
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_cluster_accepts_no_certificate_of_the_other_authorities(
    chain: str, purpose: str, with_cluster_once: RealHome
) -> None:
    at, folder = with_cluster_once.moment(1), with_cluster_once.path / "build/trust"
    own_purpose = "sslclient" if "clients" in chain else "sslserver"
    assert peer_clusters.openssl_verify(folder / "roots.pem", with_cluster_once.path / chain, at, own_purpose) == ""
    assert peer_clusters.openssl_verify(folder / "peer.pem", with_cluster_once.path / chain, at, purpose) != ""


def test_revoked_member_is_refused_with_the_crls_of_the_cluster(with_cluster: RealHome) -> None:
    chain = with_cluster.path / "old.pem"
    chain.write_bytes(with_cluster.read(LEAF))
    trust, crls = with_cluster.path / "build/trust/peer.pem", [with_cluster.path / "build/crl/bundle-peer.pem"]
    assert peer_clusters.openssl_verify(trust, chain, with_cluster.moment(1), "sslclient", crls) == ""
    project = with_cluster.project()
    issued = project.ledger.certificates(artifact="cert:media-peer")[-1]
    project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
    project.close(run_succeeded=False)
    report = with_cluster.doit()
    assert report.status == 0, report.failed
    assert "cert:media-peer" in report.made
    assert "certificate revoked" in peer_clusters.openssl_verify(
        trust, chain, with_cluster.moment(1), "sslclient", crls
    )
    renewed = with_cluster.path / LEAF
    assert peer_clusters.openssl_verify(trust, renewed, with_cluster.moment(1), "sslclient", crls) == ""


# -- an existing project ----------------------------------------------------------------------------------------------


def test_existing_project_gets_it_in_its_next_ceremony_and_runs_until_then(founded: RealHome) -> None:
    peer_clusters.declare(founded)
    report = founded.doit(days=1)
    assert report.status == 0, report.failed
    assert not (founded.path / "build/certs/media-peer").exists()
    assert not (founded.path / "build/trust/peer.pem").exists()
    assert names_required(founded, days=1) == ["root-peer-1", "peer-1"]
    assert "there is no root of clusters yet" in notices(founded, days=1)["ceremony"]
    assert notices(founded, days=1)["cert:media-peer"] == "waits for the root of clusters, which a ceremony creates"
    request = founded.ask(days=1).request
    assert [root.name for root in request.roots] == ["root-peer-1"]
    assert [(ca.name, ca.issuer) for ca in request.intermediates] == [("peer-1", "root-peer-1")]
    assert request.cross_certificates == ()
    assert [series.root for series in request.crl_series] == ["root-1", "root-peer-1"]
    ends = {series.root: series.presigned_crls[-1].next_update for series in request.crl_series}
    difference = abs(ends["root-1"] - ends["root-peer-1"])
    assert difference < timedelta(days=2), "root-1 is not replaced: its CRLs end as usual"
    founded.ceremony(days=1)
    report = founded.doit(days=1)
    assert report.status == 0, report.failed
    assert "cert:media-peer" in report.made
    assert names_required(founded, days=1) == []
    assert not {"ceremony", "cert:media-peer"} & notices(founded, days=1).keys()


def test_operator_reads_what_the_new_root_is_for(founded: RealHome) -> None:
    peer_clusters.declare(founded)
    prepared = founded.ask(days=1)
    contents = VaultContents(founded.vault.roots(), founded.vault.history())
    assert "\n".join(plan_text.root_lines(prepared.request)).splitlines()[2:] == [
        "  a root for clusters alone: nobody else trusts it",
        "  for names under lab.internal; for addresses in 10.0.0.0/8",
    ]
    lines = "\n".join(plan_text.signature_lines(prepared.request, contents))
    assert "with root-peer-1: it may sign certificates of servers and of clients" in lines
    project = founded.project(1)
    texts = rehearsal.rehearse(project.now, project.authorities, prepared)
    assert "Name Constraints: critical" in texts["root-peer-1.txt"].decode()


def test_request_without_clusters_has_the_bytes_of_earlier_versions(founded: RealHome) -> None:
    data = (founded.path / "ca/ceremonies/0001/request.yaml").read_bytes()
    request = request_response.load(data, "request.yaml", Request)
    assert (request.roots[0].domains, request.roots[0].addresses) == ((), ())
    roots = data.decode().partition("\nroots:")[2].partition("\nintermediates:")[0]
    assert "domains" not in roots


# -- what a ceremony refuses ------------------------------------------------------------------------------------------


def faults_of(home: RealHome, change: dict[str, object]) -> list[str]:
    """Return the faults of the first request, with changes."""
    request = home.ask().request.model_copy(update=change)
    return policy.faults(request, VaultContents({}, []), roots_are_made=False)


def test_intermediate_is_only_below_the_root_of_its_kind(tmp_path: Path) -> None:
    home = real_home(tmp_path)
    peer_clusters.declare(home)
    request = home.ask().request
    assert faults_of(home, {}) == []
    other = {"server-1": "root-peer-1", "client-1": "root-peer-1", "peer-1": "root-1"}
    for position, intermediate in enumerate(request.intermediates):
        changed = [*request.intermediates]
        changed[position] = intermediate.model_copy(update={"issuer": other[intermediate.name]})
        expected = "root-peer" if intermediate.name == "peer-1" else "root"
        assert faults_of(home, {"intermediates": tuple(changed)}) == [
            f"{intermediate.name}: would be signed by {other[intermediate.name]}; expected a generation of {expected}"
        ]


def test_only_the_root_of_clusters_is_limited_and_it_always_is(tmp_path: Path) -> None:
    home = real_home(tmp_path)
    peer_clusters.declare(home)
    root, peer_root = home.ask().request.roots
    limited = root.model_copy(update={"domains": peer_root.domains})
    unlimited = peer_root.model_copy(update={"domains": ()})
    rule = "a root of clusters must have them, and every other root must not"
    assert faults_of(home, {"roots": (limited, peer_root)}) == [f"root-1 would have name constraints; {rule}"]
    assert faults_of(home, {"roots": (root, unlimited)}) == [f"root-peer-1 would have no name constraints; {rule}"]


# -- later ------------------------------------------------------------------------------------------------------------


def test_new_root_of_clusters_is_certified_by_the_old_one_within_its_limits(with_cluster: RealHome) -> None:
    request = with_cluster.ask(RequestOptions(generations=("root-peer",)), days=2).request
    assert [root.name for root in request.roots] == ["root-peer-2"]
    assert [(ca.name, ca.issuer) for ca in request.intermediates] == [("peer-2", "root-peer-2")]
    assert [(cross.name, cross.issuer) for cross in request.cross_certificates] == [("root-peer-2", "root-peer-1")]
    with_cluster.ceremony(RequestOptions(generations=("root-peer",)), days=2)
    report = with_cluster.doit(days=2)
    assert report.status == 0, report.failed
    cross = with_cluster.certificate("root-peer-2", "cross-root-peer-1.pem")
    new = with_cluster.certificate("root-peer-2")
    constraints = x509.NameConstraints.oid
    assert extensions_of(cross)[constraints] == extensions_of(new)[constraints]
    roots = [with_cluster.certificate(name) for name in ("root-peer-2", "root-peer-1")]
    assert x509.load_pem_x509_certificates(with_cluster.read("build/trust/peer.pem")) == roots
    chain = x509.load_pem_x509_certificates(with_cluster.read(LEAF))
    assert chain[1:] == [with_cluster.certificate("peer-2"), cross]
    only_old = with_cluster.path / "old-root.pem"
    only_old.write_bytes(with_cluster.project().store.authority_file("root-peer-1", "cert.pem").read_bytes())
    at = with_cluster.moment(3)
    assert peer_clusters.openssl_verify(only_old, with_cluster.path / LEAF, at, "sslserver") == ""
    assert peer_clusters.openssl_verify(only_old, with_cluster.path / LEAF, at, "sslclient") == ""
    roots_of_servers = with_cluster.path / "build/trust/roots.pem"
    assert peer_clusters.openssl_verify(roots_of_servers, with_cluster.path / LEAF, at, "sslclient") != ""
    assert with_cluster.project(2).authorities.issuing("root").name == "root-1"  # type: ignore[union-attr]


def test_new_root_of_servers_leaves_the_cluster_as_it_is(with_cluster: RealHome) -> None:
    request = with_cluster.ask(RequestOptions(generations=("root",)), days=2).request
    assert [root.name for root in request.roots] == ["root-2"]
    assert [ca.name for ca in request.intermediates] == ["server-2", "client-2"]
    assert [(cross.name, cross.issuer) for cross in request.cross_certificates] == [("root-2", "root-1")]


def test_new_domain_needs_a_new_root_of_clusters(with_cluster: RealHome) -> None:
    with_cluster.edit("domains: [lab.internal]", "domains: [lab.internal, plant.internal]")
    required = needs.find_requirements(with_cluster.project(1).authorities)
    assert [need.what for need in required] == ["server-2", "client-2", "root-peer-2", "peer-2"]
    assert {need.has_no_deadline for need in required} == {True}
    assert required[2].why == "root-peer-1 does not permit plant.internal"
    with_cluster.edit("peer: [media.lab.internal,", "peer: [media.plant.internal,")
    assert "media.plant.internal waits: peer-1 does not permit it" in notices(with_cluster, days=1)["cert:media-peer"]
    with_cluster.ceremony(days=1)
    report = with_cluster.doit(days=1)
    assert report.status == 0, report.failed
    assert names_required(with_cluster, days=1) == []
    chain = with_cluster.path / LEAF
    trust = with_cluster.path / "build/trust/peer.pem"
    assert peer_clusters.openssl_verify(trust, chain, with_cluster.moment(2), "sslclient") == ""


def test_revoked_intermediate_of_clusters_is_on_the_crl_of_its_own_root(with_cluster: RealHome) -> None:
    with_cluster.ceremony(RequestOptions(revoke=(("peer-1", "keyCompromise"),)), days=1)
    report = with_cluster.doit(days=1)
    assert report.status == 0, report.failed
    serial = with_cluster.certificate("peer-1").serial_number
    assert with_cluster.published("root-peer-1").get_revoked_certificate_by_serial_number(serial)
    assert not with_cluster.published("root-1").get_revoked_certificate_by_serial_number(serial)
    chain = x509.load_pem_x509_certificates(with_cluster.read(LEAF))
    assert chain[1] == with_cluster.certificate("peer-2")


def test_key_of_the_only_root_of_clusters_is_not_destroyed(with_cluster: RealHome) -> None:
    with pytest.raises(PkiError, match="only root that can sign") as refused:
        with_cluster.ask(RequestOptions(destroy=("root-peer-1",)), days=1)
    assert refused.value.hint.endswith("--new root-peer --destroy root-peer-1")


def test_removed_authority_keeps_its_crls_and_gets_no_successor(with_cluster: RealHome) -> None:
    peer_clusters.withdraw(with_cluster)
    report = with_cluster.doit(days=8)
    assert report.status == 0, report.failed
    assert "crl:peer-1" in report.made
    assert not (with_cluster.path / "build/certs/media-peer").exists()
    assert notices(with_cluster, days=8)["cert:media-peer"].startswith(
        "no longer in pki.yaml; its certificate is valid"
    )
    assert not {"peer-2", "root-peer-2"} & {*names_required(with_cluster, days=700)}
    assert "root-peer-1 CRLs" in names_required(with_cluster, days=700)


# -- hosts ------------------------------------------------------------------------------------------------------------


def test_bootstrapped_host_lacks_only_roots_of_a_kind_that_it_gets(with_cluster: RealHome) -> None:
    with_cluster.ceremony(RequestOptions(generations=("root", "root-peer")), days=2)
    authorities = with_cluster.project(2).authorities
    names = ("root-1", "root-2", "root-peer-1", "root-peer-2")
    roots = [authorities.existing(name) for name in names]
    root, _, peer, _ = (generation.fingerprint for generation in roots)
    assert missing_roots_of(frozenset(), roots) == ()
    assert missing_roots_of(frozenset({root}), roots) == ("root-2",)
    assert missing_roots_of(frozenset({peer}), roots) == ("root-peer-2",)
    assert missing_roots_of(frozenset({root, peer}), roots) == ("root-2", "root-peer-2")
    assert missing_roots_of(frozenset(generation.fingerprint for generation in roots), roots) == ()


# -- what reports show ------------------------------------------------------------------------------------------------


def test_status_timeline_and_calendar_show_both_authorities(with_cluster: RealHome) -> None:
    project = with_cluster.project(1)
    rows = {row.name: row.state for row in StatusTable(project).rows(plan.plan(project))}
    shown = ("authority:root-peer-1", "authority:peer-1", "crl:root-peer-1", "crl:peer-1", "cert:media-peer")
    assert {name: rows.get(name) for name in shown} == dict.fromkeys(shown, "ok")
    timeline = events.timeline(project, plan.plan(project), 12)
    texts = [f"{event.what} {event.subject}: {event.text}" for event in timeline.events]
    assert any("client-2, server-2, peer-2 are created" in text for text in texts), texts
    assert any("root-peer-2" in text for text in texts), texts
    titles = [entry.title for entry in calendar.entries(project, [])]
    assert any("peer-2" in title for title in titles), titles
    assert any(entry.title == "root-peer-1 expires" for entry in calendar.entries(project, []))
