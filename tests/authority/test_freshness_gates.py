"""Why a certificate, a CRL or an authority cannot stay as it is: each rule on its own, in one project that is read only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.authority import ca_state, certificates, crls, leaf_files
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.ledger_revocations import Revocations
from pki.project.project import Project
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey
from pki.x509.revocation import CrlEntry
from tests.support.projects import START, Home

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


@pytest.fixture(scope="module")
def shared_project(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    target = tmp_path_factory.mktemp("freshness") / "home"
    shutil.copytree(built_once, target, symlinks=True)
    return Home(target)


@pytest.fixture(scope="module")
def project(shared_project: Home) -> Iterator[Project]:
    opened = shared_project.project()
    yield opened
    opened.close(run_succeeded=False)


@contextmanager
def changed(*paths: Path) -> Iterator[None]:
    """Put files back as they were, with their modes."""
    before = {path: (path.read_bytes(), path.stat().st_mode) for path in paths}
    try:
        yield
    finally:
        for path, (data, mode) in before.items():
            path.write_bytes(data)
            path.chmod(mode)


def codes(reasons: list[Reason]) -> list[Any]:
    return [reason.code for reason in reasons]


# -- CRLs -------------------------------------------------------------------------------------------------------------


def crl_by(
    project: Project, generation: str, signer: Issuer | None = None, **changes: Any
) -> x509.CertificateRevocationList:
    """A CRL that bears the name of a generation, by its key or by that of somebody else."""
    own = project.keys.issuer(project.authorities.generation(generation))  # type: ignore[arg-type]
    values: dict[str, Any] = {"number": int(START.timestamp()) + 5, "since": START - HOUR, "days": 21, "entries": []}
    values |= changes
    key = signer.key if signer else own.key
    draft = crl_signing.draft_crl(
        own.certificate, values["number"], values["since"], values["since"] + values["days"] * DAY, values["entries"]
    )
    return draft.sign(key, keys.signature_hash(key))


def judged(project: Project, generation: str, crl: x509.CertificateRevocationList, **options: Any) -> list[Any]:
    der, pem = (project.store.crl(generation, form) for form in ("crl", "pem"))
    with changed(der, pem):
        der.write_bytes(crl.public_bytes(Encoding.DER))
        pem.write_bytes(crl.public_bytes(Encoding.PEM))
        return codes(crls.Crls(project).stale_reasons(generation, **options))


@pytest.mark.parametrize("generation", ["server-1", "client-1"])
def test_a_published_crl_bears_the_signature_of_its_ca_in_both_forms_alike(project: Project, generation: str) -> None:
    """Both forms agree here, so nothing but the signature tells that somebody else made them."""
    stranger = Issuer(project.authorities.generation(generation).certificate, keys.new_key("ec-p384"))  # type: ignore[union-attr]
    assert judged(project, generation, crl_by(project, generation, stranger)) == [Why.CRL_DAMAGED]
    assert judged(project, generation, crl_by(project, generation)) == []


def test_a_crl_of_another_ca_of_the_project_is_none_of_this_one(project: Project) -> None:
    assert judged(project, "client-1", crl_by(project, "server-1")) == [Why.CRL_DAMAGED]


def test_a_crl_that_was_found_sound_is_judged_again_by_whoever_believes_nothing(project: Project) -> None:
    stranger = Issuer(project.authorities.generation("client-1").certificate, keys.new_key("ec-p384"))  # type: ignore[union-attr]
    good, bad = (crl_by(project, "client-1", by).public_bytes(Encoding.DER) for by in (None, stranger))
    for ignore_cache in (False, True):
        assert crls.Crls(project).read_signed("client-1", good, ignore_cache=ignore_cache) is not None
    assert crls.Crls(project).read_signed("client-1", bad, ignore_cache=True) is None
    assert crls.Crls(project).read_signed("client-7", good) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"since": START - 7 * DAY + SECOND}, []),
        ({"since": START - 7 * DAY}, [Why.CRL_AGE]),
        ({"since": START}, []),
        ({"since": START + SECOND}, [Why.NOT_YET_VALID]),
        ({"since": START - 21 * DAY}, [Why.EXPIRED]),
        ({"since": START - 21 * DAY + SECOND}, [Why.CRL_AGE]),
        ({"number": 5}, [Why.CRL_NUMBER]),
        ({"entries": [CrlEntry(77, START, "keyCompromise")]}, [Why.CRL_UNRECORDED]),
    ],
)
def test_a_crl_is_made_again_for_its_age_its_number_or_what_it_lists(
    project: Project, changes: dict[str, Any], expected: list[Any]
) -> None:
    assert judged(project, "client-1", crl_by(project, "client-1", **changes)) == expected


def test_a_crl_that_lacks_a_revocation_is_made_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    good = crl_by(project, "client-1")
    assert judged(project, "client-1", good, missing_serials={5}) == [Why.CRL_LACKS]
    assert judged(project, "client-1", good, missing_serials=set()) == []
    monkeypatch.setattr(type(project.ledger), "revoked_serials", lambda *_, **__: frozenset({5, 6}))
    assert judged(project, "client-1", good) == [Why.CRL_LACKS]
    both = crl_by(project, "client-1", entries=[CrlEntry(serial, START, "keyCompromise") for serial in (5, 6)])
    assert judged(project, "client-1", both) == []
    with changed(project.store.crl("client-1")):
        project.store.crl("client-1").write_bytes(both.public_bytes(Encoding.DER))
        assert crls.Crls(project).unrecorded_serials("client-1") == frozenset()
        monkeypatch.setattr(type(project.ledger), "revoked_serials", lambda *_, **__: frozenset({5}))
        assert crls.Crls(project).unrecorded_serials("client-1") == {6}


def test_how_many_revocations_are_missing_reads_well(project: Project) -> None:
    der = project.store.crl("client-1")
    with changed(der):
        crl = crl_by(project, "client-1")
        der.write_bytes(crl.public_bytes(Encoding.DER))
        project.store.crl("client-1", "pem").write_bytes(crl.public_bytes(Encoding.PEM))
        said = [
            str(crls.Crls(project).stale_reasons("client-1", missing_serials=serials)[0]) for serials in ({5}, {5, 6})
        ]
    assert said == ["1 new revocation", "2 new revocations"]


def test_a_crl_that_is_missing_or_whose_forms_differ_is_made_again(project: Project) -> None:
    der, pem = (project.store.crl("server-1", form) for form in ("crl", "pem"))
    newer = crl_by(project, "server-1")
    with changed(der, pem):
        der.write_bytes(newer.public_bytes(Encoding.DER))
        pem.write_bytes(crl_by(project, "server-1", number=int(START.timestamp()) + 6).public_bytes(Encoding.PEM))
        assert codes(crls.Crls(project).stale_reasons("server-1")) == [Why.CRL_FORMS]
        pem.unlink()
        assert codes(crls.Crls(project).stale_reasons("server-1")) == [Why.NOT_CREATED]
        pem.write_bytes(b"")
        der.unlink()
        assert codes(crls.Crls(project).stale_reasons("server-1")) == [Why.NOT_CREATED]
        der.write_bytes(b"")


def test_the_published_crl_of_a_root_is_the_presigned_one_that_is_due(project: Project) -> None:
    der, pem = (project.store.crl("root-1", form) for form in ("crl", "pem"))
    assert crls.Crls(project).stale_root_reasons("root-1") == []
    assert codes(crls.Crls(project).stale_root_reasons("root-7")) == [Why.NOT_CREATED]
    with changed(der, pem):
        pem.write_bytes(b"")
        assert codes(crls.Crls(project).stale_root_reasons("root-1")) == [Why.CRL_NO_PEM]
        der.write_bytes(crl_by(project, "client-1").public_bytes(Encoding.DER))
        assert codes(crls.Crls(project).stale_root_reasons("root-1")) == [Why.OTHER_PRESIGNED]
        der.unlink()
        assert codes(crls.Crls(project).stale_root_reasons("root-1")) == [Why.NOT_CREATED]
        der.write_bytes(b"")


# -- authorities and their keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o600, False), (0o400, False), (0o604, True), (0o640, True), (0o644, True), (0o660, True), (0o601, True)]
)  # fmt: skip
def test_the_key_of_an_authority_that_others_can_read_is_reported_and_not_used(
    project: Project, mode: int, is_open: bool
) -> None:
    path = project.store.authority_file("server-1", "key.pem")
    with changed(path):
        path.chmod(mode)
        fault = project.signing_keys.faults().get("server-1")
        assert (fault is not None) is is_open
        if fault:
            assert fault.message == "ca/server/server-1/key.pem: can be read by other users"
            assert fault.hint == "chmod 600 ca/server/server-1/key.pem"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "the key of client-1 is missing"),
        (lambda path: path.write_bytes(b""), "the key of client-1 is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "the key of client-1 is damaged"),
        (lambda path: path.write_bytes(keys.private_pem(keys.new_key("ec-p256"))), "the key of client-1 is not encrypted"),
    ],
)  # fmt: skip
def test_the_key_of_an_authority_that_is_missing_or_damaged_is_reported(
    project: Project, damage: Callable[[Path], object], said: str
) -> None:
    path = project.store.authority_file("client-1", "key.pem")
    with changed(path):
        damage(path)
        fault = project.signing_keys.faults()["client-1"]
        assert said in fault.message
        assert "./run invoke restore" in fault.hint
    assert project.signing_keys.faults() == {}


def test_an_authority_is_missing_over_or_not_signed_by_its_root(shared_project: Home, project: Project) -> None:
    assert [
        ca_state.stale_reasons(project.now, project.authorities, name) for name in ("root", "server", "client")
    ] == [[], [], []]
    later = shared_project.project(days=30 * 365)
    assert codes(ca_state.stale_reasons(later.now, later.authorities, "server")) == [Why.AUTHORITY_EXPIRED]
    later.close(run_succeeded=False)
    key = keys.new_key("ec-p384")
    ours = project.authorities.issuing("server")
    assert ours
    extensions: profiles.Extensions = [(e.value, e.critical) for e in ours.certificate.extensions][2:]
    dates = ours.certificate.not_valid_before_utc, ours.certificate.not_valid_after_utc
    root = project.authorities.generation("root-1")
    assert root
    path = project.store.authority_file("server-1", "cert.pem")
    draft = certificate_signing.draft_certificate(
        ours.certificate.subject, ours.certificate.public_key(), dates, extensions, root.certificate
    )
    with changed(path):
        path.write_bytes(draft.sign(key, keys.signature_hash(key)).public_bytes(Encoding.PEM))
        other = shared_project.project()
        with pytest.raises(PkiError, match=r"cert\.pem: is damaged: its signature is not that of root-1"):
            ca_state.stale_reasons(other.now, other.authorities, "server")
        other.close(run_succeeded=False)


# -- leaves -----------------------------------------------------------------------------------------------------------


class Forge:
    """Makes bundles of `media` that differ from the right one in one thing."""

    def __init__(self, project: Project, wanted: Leaf) -> None:
        self.project, self.wanted = project, wanted
        self.ours = project.keys.issuer(project.authorities.issuing("server"))  # type: ignore[arg-type]
        self.chain = project.authorities.issuing("server").chain  # type: ignore[union-attr]

    def bundle(
        self,
        *,
        kind: str = "ec-p256",
        key: PrivateKey | None = None,
        like: Leaf | None = None,
        organisation: str = "Example Lab",
        issuer: Issuer | None = None,
        chain: bytes | None = None,
        edit: Callable[[profiles.Extensions], profiles.Extensions] = lambda extensions: extensions,
        stranger: PrivateKey | None = None,
    ) -> bytes:
        own, leaf, by = keys.new_key(kind), like or self.wanted, issuer or self.ours
        extensions = profiles.leaf_extensions(leaf, own.public_key())
        extensions += profiles.publication_extensions(self.project.inventory.publish.url, "server-1")
        dates = certificate_signing.validity_dates(START, self.wanted.lifetime, by.certificate)
        subject = certificate_signing.subject_name(organisation, leaf.common_name)
        draft = certificate_signing.draft_certificate(
            subject, own.public_key(), dates, edit(extensions), by.certificate
        )
        signing = stranger or by.key
        signed = draft.sign(signing, keys.signature_hash(signing))
        return keys.private_pem(key or own) + pem_encoding.pem_of([signed]) + (self.chain if chain is None else chain)


def swapped(kind: type[Any], value: Any, critical: bool) -> Callable[[profiles.Extensions], profiles.Extensions]:
    return lambda extensions: [(value, critical) if isinstance(one, kind) else (one, c) for one, c in extensions]


def dropped(kind: type[Any]) -> Callable[[profiles.Extensions], profiles.Extensions]:
    return lambda extensions: [(one, critical) for one, critical in extensions if not isinstance(one, kind)]


USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
BUNDLES: dict[str, tuple[Callable[[Forge], bytes], list[Any]]] = {
    "as it is wanted": (lambda f: f.bundle(), []),
    "no PEM": (lambda _: b"junk", [Why.DAMAGED]),
    "a key that cannot be read": (lambda f: f.bundle().replace(b"\nM", b"\nA", 1), [Why.DAMAGED]),
    "another key": (lambda f: f.bundle(key=keys.new_key("ec-p256")), [Why.OTHER_PAIR]),
    "no key": (lambda f: f.bundle()[f.bundle().index(b"-----BEGIN CERT") :], [Why.DAMAGED, Why.OTHER_PAIR]),
    "a key of another kind": (lambda f: f.bundle(kind="rsa-2048"), [Why.OTHER_KIND]),
    "a name less": (lambda f: f.bundle(like=replace(f.wanted, dns=f.wanted.dns[1:])), [Why.LACKS_NAMES]),
    "a name more": (lambda f: f.bundle(like=replace(f.wanted, dns=(*f.wanted.dns, "x.lab.internal"))), [Why.SURPLUS_NAMES]),
    "another organisation": (lambda f: f.bundle(organisation="Other Lab"), [Why.OTHER_SUBJECT]),
    "the name of its CA alone": (lambda f: f.bundle(stranger=keys.new_key("ec-p384")), [Why.OTHER_SIGNATURE]),
    "another CA": (
        lambda f: f.bundle(issuer=f.project.keys.issuer(f.project.authorities.issuing("client"))),  # type: ignore[arg-type]
        [Why.OTHER_ISSUER],
    ),
    "no chain": (lambda f: f.bundle(chain=b""), [Why.OTHER_ISSUER]),
    "a chain with more": (lambda f: f.bundle(chain=f.chain * 2), [Why.OTHER_CHAIN]),
    "no address of a CRL": (lambda f: f.bundle(edit=dropped(x509.CRLDistributionPoints)), [Why.OTHER_EXTENSIONS]),
    "the other purpose": (
        lambda f: f.bundle(edit=swapped(x509.ExtendedKeyUsage, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)),
        [Why.OTHER_EXTENSIONS],
    ),
    "a usage that may be ignored": (lambda f: f.bundle(edit=swapped(x509.KeyUsage, USAGE, False)), [Why.OTHER_EXTENSIONS]),
}  # fmt: skip


@pytest.fixture(scope="module")
def forge(shared_project: Home, project: Project) -> Forge:
    return Forge(project, shared_project.plan().leaves["media"])


@pytest.mark.parametrize("what", BUNDLES)
def test_a_certificate_stays_only_if_everything_in_it_is_as_wanted(project: Project, forge: Forge, what: str) -> None:
    make, expected = BUNDLES[what]
    path = project.store.bundle(forge.wanted)
    with changed(path):
        path.write_bytes(make(forge))
        examination = certificates.LeafCertificates(project).examine(forge.wanted)
    assert (examination.summary is None) == bool(expected)
    assert bool(examination.differences) == bool(expected)
    assert set(codes(examination.differences)) <= set(expected)


def test_a_bundle_is_secret_and_there(project: Project, forge: Forge) -> None:
    path = project.store.bundle(forge.wanted)
    with changed(path):
        path.chmod(0o640)
        assert codes(certificates.LeafCertificates(project).examine(forge.wanted).differences) == [Why.FILE_MODE]
        path.unlink()
        assert codes(certificates.LeafCertificates(project).examine(forge.wanted).differences) == [Why.NOT_CREATED]
        path.write_bytes(b"")


def test_a_revoked_certificate_is_replaced_and_the_canary_is_none(
    project: Project, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = replace(forge.wanted, is_canary=True)
    assert codes(certificates.LeafCertificates(project).examine(canary).differences) == [Why.NOT_REVOKED]
    monkeypatch.setattr(Revocations, "is_revoked", lambda *_, **__: True)
    assert codes(certificates.LeafCertificates(project).examine(forge.wanted).differences) == [Why.REVOKED]
    assert certificates.LeafCertificates(project).examine(canary).summary is not None


def test_files_that_follow_from_a_bundle_are_as_it_says_and_the_key_is_secret(project: Project, forge: Forge) -> None:
    key, chain = (Path(project.store.leaf_file(forge.wanted, name)) for name in ("key.pem", "chain.pem"))
    assert (
        certificates.LeafCertificates(project).undeliverable_reasons(forge.wanted)
        == []
        == leaf_files.damaged_files(project.store, project.authorities, forge.wanted)
    )
    with changed(key, chain):
        key.chmod(0o644)
        chain.write_bytes(b"x")
        for judge in (
            certificates.LeafCertificates(project).undeliverable_reasons,
            partial(leaf_files.damaged_files, project.store, project.authorities),
        ):
            assert codes(judge(forge.wanted)) == [Why.NOT_FROM_PEM, Why.FILE_MODE]


@pytest.mark.parametrize(
    ("what", "is_sound"),
    [("as it is wanted", True), ("a name less", True), ("another key", False), ("the name of its CA alone", False), ("another CA", False), ("no chain", False), ("a chain with more", False)],
)  # fmt: skip
def test_a_bundle_is_as_it_was_written_whatever_is_wanted_now(
    project: Project, forge: Forge, what: str, is_sound: bool
) -> None:
    path = project.store.bundle(forge.wanted)
    with changed(path):
        path.write_bytes(BUNDLES[what][0](forge))
        found = codes(leaf_files.damaged_files(project.store, project.authorities, forge.wanted))
        assert (Why.DAMAGED in found) is not is_sound
        assert (
            Why.DAMAGED
            in codes(leaf_files.bundle_damage(project.store, project.authorities, project.revocations, forge.wanted))
        ) is not is_sound


@pytest.mark.parametrize(
    ("before_end", "expected"),
    [(30 * DAY + 2 * SECOND, []), (30 * DAY, [Why.DUE]), (SECOND, [Why.DUE]), (timedelta(), [Why.DUE]), (-SECOND, [Why.EXPIRED])],
)  # fmt: skip
def test_a_certificate_is_renewed_from_its_day_on(
    shared_project: Home, forge: Forge, before_end: timedelta, expected: list[Any]
) -> None:
    wanted = replace(forge.wanted, renew_before=30 * DAY)
    end = x509.load_pem_x509_certificate(forge.project.store.bundle(wanted).read_bytes().partition(b"-----BEGIN CERT")[2].join([b"-----BEGIN CERT", b""])).not_valid_after_utc  # fmt: skip
    later = shared_project.project(days=(end - before_end - START) / DAY)
    assert codes(certificates.LeafCertificates(later).issue_reasons(wanted)) == expected
    later.close(run_succeeded=False)


def test_a_certificate_from_the_future_is_replaced(shared_project: Home, forge: Forge) -> None:
    early = shared_project.project(days=-2)
    assert codes(certificates.LeafCertificates(early).issue_reasons(forge.wanted)) in (
        [Why.NOT_YET_VALID],
        [Why.OTHER_ISSUER, Why.NOT_YET_VALID],
    )
    early.close(run_succeeded=False)
