"""What stops a ceremony: lint, the comparison of the bytes, a second implementation, trials, and the rules of a root.

Keys and certificates are made in memory; nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pkilint.validation import ValidationFindingSeverity

from pki.ceremony import checked_signing, drafts, lint, policy, second_opinion
from pki.ceremony.drafts import CertificateDraft, CrlDraft
from pki.ceremony.offline import negative_tests
from pki.ceremony.policy import MAX_NUMBER_GAP
from pki.ceremony.request_response import (
    NO_RESPONSE,
    LedgerHead,
    Request,
    RequestedCrl,
    RequestedCrossCertificate,
    RequestedIntermediate,
    RequestedRoot,
    RequestedSeries,
    Response,
    RevokedCa,
    SignedCertificate,
    SignedCrl,
)
from pki.ceremony.vault import PastCeremony
from pki.ceremony.vault_contents import VaultContents
from pki.common.errors import PkiError
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.canonical import fingerprint
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
YEAR = 365 * DAY
DOMAIN, URL = "lab.internal", "http://pki.lab.internal"
EVERYTHING = (IPv4Network("0.0.0.0/0"),)


def made_root(name: str = "root-1", kind: str = "ec-p384", since: datetime = START) -> Issuer:
    key = keys.new_key(kind)
    subject = certificate_signing.subject_name("Example Lab", policy.common_name("Example Lab", name, sandbox=False))
    return Issuer(
        certificate_signing.sign_certificate(
            subject, key.public_key(), (since, since + 10 * YEAR), profiles.root_extensions(), key
        ),
        key,
    )


def drafted(root: Issuer, authority: str = "server", **changes: Any) -> CertificateDraft:
    """An intermediate as a request asks for it, with other values."""
    values: dict[str, Any] = {
        "what": f"{authority}-1",
        "subject": certificate_signing.subject_name("Example Lab", f"Example Lab {authority.capitalize()} CA 1"),
        "key": keys.new_key("ec-p384").public_key(),
        "dates": (START, START + YEAR),
        "extensions": profiles.intermediate_extensions(authority, (DOMAIN,), ())
        + profiles.publication_extensions(URL, "root-1"),
        "issuer": root.certificate,
    }
    return CertificateDraft(**{**values, **changes})


def without(draft: CertificateDraft, kind: type[x509.ExtensionType]) -> CertificateDraft:
    return replace(draft, extensions=[pair for pair in draft.extensions if not isinstance(pair[0], kind)])


def weakened(draft: CertificateDraft) -> CertificateDraft:
    """The draft with a basic constraint that is not critical, which RFC 5280 §4.2.1.9 forbids."""
    return replace(draft, extensions=[(one, isinstance(one, x509.KeyUsage)) for one, _ in draft.extensions])


def crl_draft(root: Issuer, **changes: Any) -> CrlDraft:
    presigned_crl = RequestedCrl(number=7, this_update=START, next_update=START + 90 * DAY)
    values: dict[str, Any] = {
        "what": "CRL 7 of root-1",
        "presigned_crl": presigned_crl,
        "entries": (),
        "issuer": root.certificate,
    }
    return CrlDraft(**{**values, **changes})


def signed_by(draft: CertificateDraft | CrlDraft, key: PrivateKey, algorithm: Any = None) -> Any:
    return draft.builder().sign(key, algorithm or keys.signature_hash(key))


@pytest.fixture(scope="module")
def root() -> Issuer:
    return made_root()


@pytest.fixture(scope="module")
def other() -> Issuer:
    return made_root()


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(PkiError) as caught:
        attempt()
    assert caught.value.hint
    return caught.value.message


# -- lint, and the bytes that were linted -----------------------------------------------------------------------------


def test_a_sound_draft_is_linted_and_signed_as_it_was_linted(root: Issuer) -> None:
    for draft in (drafted(root), drafted(root, "client"), crl_draft(root)):
        linted = checked_signing.lint_draft(draft, root.key)
        assert checked_signing.sign(linted, root).issuer == root.certificate.subject  # type: ignore[union-attr]


def test_a_root_and_a_cross_certificate_are_linted_and_signed(root: Issuer, other: Issuer) -> None:
    subject = certificate_signing.subject_name("Example Lab", "Example Lab Root CA 9")
    own = drafted(root, subject=subject, key=root.key.public_key(), extensions=profiles.root_extensions(), issuer=None)
    assert checked_signing.sign(checked_signing.lint_draft(own, root.key), root.key).issuer == subject  # type: ignore[union-attr]
    asked = RequestedCrossCertificate(name="root-2", issuer="root-1", not_before=START, not_after=START + YEAR)
    crossed = drafts.draft_cross_certificate(request_of(1, START), asked, other.certificate, root.certificate)
    signed = checked_signing.sign(checked_signing.lint_draft(crossed, root.key), root)
    assert isinstance(signed, x509.Certificate)
    assert signed.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    assert signed.extensions.get_extension_for_class(x509.CRLDistributionPoints)


def test_a_draft_that_the_linter_finds_faulty_is_not_signed_even_with_a_throw_away_key(root: Issuer) -> None:
    said = refusal(lambda: checked_signing.lint_draft(weakened(drafted(root)), root.key))
    assert said.startswith("server-1: would have faults: ")


def test_a_draft_is_compared_with_what_becomes_of_it(root: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a builder makes of a draft is held against the draft itself before the root's key is used."""
    draft = drafted(root)
    monkeypatch.setattr(CertificateDraft, "builder", lambda _: certificate_signing.draft_certificate(
        draft.subject, keys.new_key("ec-p384").public_key(), draft.dates, draft.extensions, draft.issuer))  # fmt: skip
    assert "it is for another key" in refusal(lambda: checked_signing.lint_draft(draft, root.key))


def test_only_the_bytes_that_were_linted_are_signed(root: Issuer) -> None:
    linted = checked_signing.lint_draft(drafted(root), root.key)
    exchanged = replace(linted, builder=drafted(root).builder())
    assert "the signed bytes are not those that were linted" in refusal(lambda: checked_signing.sign(exchanged, root))


def test_a_certificate_or_crl_is_not_handed_out_unless_its_issuer_signed_it(root: Issuer, other: Issuer) -> None:
    for draft in (drafted(root), crl_draft(root)):
        linted = checked_signing.lint_draft(draft, root.key)
        wrong = Issuer(root.certificate, other.key)
        assert "it is not signed by its issuer" in refusal(
            lambda draft=linted, by=wrong: checked_signing.sign(draft, by)
        )


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("key", "it is for another key than the one in the request"),
        ("subject", "its subject is CN=Example Lab Server CA 2"),
        ("dates", "its dates are 2026-11-23 to 2027-11-23"),
        ("extensions", "its extensions are not those of the profile: extendedKeyUsage"),
    ],
)
def test_a_signed_certificate_is_compared_with_what_was_asked_for(root: Issuer, what: str, fault: str) -> None:
    asked = drafted(root)
    changed: dict[str, Any] = {
        "key": keys.new_key("ec-p384").public_key(),
        "subject": certificate_signing.subject_name("Example Lab", "Example Lab Server CA 2"),
        "dates": (START, START + YEAR + SECOND),
        "extensions": profiles.intermediate_extensions("client", (DOMAIN,), ())
        + profiles.publication_extensions(URL, "root-1"),
    }
    signed = signed_by(replace(asked, **{what: changed[what]}), root.key)
    assert checked_signing.check(asked, signed, root.certificate)[0].startswith(fault)


def test_a_signed_crl_is_compared_with_what_was_asked_for(root: Issuer) -> None:
    asked = crl_draft(root, entries=(CrlEntry(5, START, "keyCompromise"),))
    assert checked_signing.check(asked, signed_by(asked, root.key), root.certificate) == []
    for entries in ((), (CrlEntry(6, START, "keyCompromise"),), (CrlEntry(5, START, "superseded"),)):
        signed = signed_by(replace(asked, entries=entries), root.key)
        assert checked_signing.check(asked, signed, root.certificate) == ["its entries are not the requested ones"]
    for presigned_crl in ({"number": 8}, {"this_update": START - SECOND}, {"next_update": START + DAY}):
        signed = signed_by(replace(asked, presigned_crl=asked.presigned_crl.model_copy(update=presigned_crl)), root.key)
        assert len(checked_signing.check(asked, signed, root.certificate)) == 1


def test_a_certificate_is_no_crl_and_a_crl_is_no_certificate(root: Issuer) -> None:
    certificate, crl = signed_by(drafted(root), root.key), signed_by(crl_draft(root), root.key)
    assert "it is not a certificate" in checked_signing.check(drafted(root), crl, root.certificate)
    assert "it is not a CRL" in checked_signing.check(crl_draft(root), certificate, root.certificate)


def test_what_was_signed_is_linted_again(root: Issuer) -> None:
    draft = weakened(drafted(root))
    assert checked_signing.check(draft, signed_by(draft, root.key), root.certificate)


def test_a_certificate_or_crl_of_another_issuer_is_not_what_was_asked_for(root: Issuer) -> None:
    foreign = made_root("root-7")
    certificate = signed_by(drafted(foreign), foreign.key)
    assert "its issuer is CN=Example Lab Root CA 7,O=Example Lab" in [*drafted(root).differences(certificate)]
    crl = signed_by(crl_draft(foreign), foreign.key)
    assert "its issuer is CN=Example Lab Root CA 7,O=Example Lab" in [*crl_draft(root).differences(crl)]


@pytest.mark.parametrize(("bits", "is_enough"), [(63, False), (64, True), (159, True)])
def test_a_serial_number_has_64_bits_at_least(root: Issuer, bits: int, is_enough: bool) -> None:
    draft = drafted(root)
    builder = draft.builder()
    builder._serial_number = (1 << bits) - 1  # noqa: SLF001 - it lets nobody choose a second one
    found = [*draft.differences(builder.sign(root.key, hashes.SHA384()))]
    assert found == ([] if is_enough else ["its serial number has 63 bits, expected at least 64"])


def test_a_crl_that_cannot_be_read_is_not_handed_out(root: Issuer) -> None:
    asked = crl_draft(root)
    builder = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject)
    builder = builder.last_update(START).next_update(START + 90 * DAY)
    junk = builder.add_extension(x509.UnrecognizedExtension(x509.CRLNumber.oid, b"junk"), critical=False)
    said = checked_signing.check(asked, junk.sign(root.key, hashes.SHA384()), root.certificate)
    assert len(said) == 1
    assert said[0].startswith("it cannot be read: ")


def test_an_entry_with_more_than_a_reason_is_not_what_was_asked_for(root: Issuer) -> None:
    asked = crl_draft(root, entries=(CrlEntry(5, START, "unspecified"),))
    entry = x509.RevokedCertificateBuilder().serial_number(5).revocation_date(START)
    entry = entry.add_extension(x509.InvalidityDate(START.replace(tzinfo=None)), critical=False)
    builder = crl_signing.draft_crl(root.certificate, 7, START, START + 90 * DAY, [])
    crl = builder.add_revoked_certificate(entry.build()).sign(root.key, hashes.SHA384())
    assert [*asked.differences(crl)] == ["its entries are not the requested ones"]


# -- the second implementation ----------------------------------------------------------------------------------------


def test_an_algorithm_that_no_root_signs_with_is_refused_by_the_second_implementation(root: Issuer) -> None:
    for draft in (drafted(root), crl_draft(root)):
        found = checked_signing.check(draft, signed_by(draft, root.key, hashes.SHA512()), root.certificate)
        assert [
            one for one in found if one.startswith("a second implementation reports: its algorithm 1.2.840.10045.4.3.4")
        ]


def test_two_statements_of_the_algorithm_that_differ_are_refused(root: Issuer) -> None:
    der = bytearray(signed_by(drafted(root), root.key).public_bytes(Encoding.DER))
    place = der.rindex(bytes.fromhex("06082a8648ce3d040303")) + 9
    der[place] = 2  # the outer one says ecdsa-with-SHA256
    fault = second_opinion.signature_fault(x509.load_der_x509_certificate(bytes(der)), root.certificate)
    assert fault == "its two signature algorithm fields differ"


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-3072"])
def test_the_second_implementation_verifies_signatures_of_every_kind_of_root(kind: str) -> None:
    own, foreign = made_root(kind=kind), made_root(kind=kind)
    for draft in (drafted(own), crl_draft(own)):
        signed = signed_by(draft, own.key)
        assert second_opinion.signature_fault(signed, own.certificate) == ""
        assert second_opinion.signature_fault(signed, foreign.certificate).startswith(
            "its signature is not the issuer's"
        )


def test_openssl_is_asked_with_crls_and_at_the_time_of_the_request(root: Issuer, other: Issuer) -> None:
    certificate = signed_by(drafted(root), root.key)
    empty = signed_by(crl_draft(root), root.key)
    listing = signed_by(
        crl_draft(root, entries=(CrlEntry(certificate.serial_number, START, "keyCompromise"),)), root.key
    )

    def fault(crls: list[Any], roots: Issuer = root, at: datetime = START + DAY) -> str:
        return second_opinion.openssl_fault([certificate], [roots.certificate], crls, at)

    assert fault([empty]) == "" == fault([])
    assert "revoked" in fault([listing])
    assert "CRL has expired" in fault([empty], at=START + 91 * DAY)
    assert "certificate has expired" in fault([], at=START + 2 * YEAR)
    assert fault([], other)


# -- trials -----------------------------------------------------------------------------------------------------------


def tried(
    draft: CertificateDraft, authority: str, addresses: tuple[IPv4Network, ...] = ()
) -> list[negative_tests.NegativeTest]:
    return negative_tests.run_negative_tests(draft, authority, (DOMAIN,), addresses)


@pytest.mark.parametrize("authority", ["server", "client"])
def test_an_intermediate_that_can_do_what_it_must_and_no_more_passes_its_trials(root: Issuer, authority: str) -> None:
    found = tried(drafted(root, authority), authority)
    assert [one.must_fail for one in found] == [False, True, True, True]
    assert {name for one in found for name in one.answers} == {"cryptography", "OpenSSL"}


@pytest.mark.parametrize("authority", ["server", "client"])
def test_an_intermediate_without_name_constraints_is_refused_on_the_spot(root: Issuer, authority: str) -> None:
    draft = without(drafted(root, authority), x509.NameConstraints)
    said = refusal(lambda: tried(draft, authority))
    assert "for www.example.com must be refused, but" in said
    assert "OpenSSL: accepted" in said


def test_names_are_tried_below_the_first_domain(root: Issuer) -> None:
    found = negative_tests.run_negative_tests(drafted(root), "server", (DOMAIN, "other.internal"), ())
    assert found[0].what == f"a server certificate for trial.{DOMAIN}"


def test_an_intermediate_that_leaves_addresses_free_is_refused_on_the_spot(root: Issuer) -> None:
    draft = without(drafted(root), x509.NameConstraints)
    free = x509.NameConstraints([x509.DNSName(DOMAIN)], None)
    draft = replace(draft, extensions=[*draft.extensions, (free, True)])
    assert "for 203.0.113.7 must be refused, but" in refusal(lambda: tried(draft, "server"))


def test_an_intermediate_for_both_purposes_or_the_wrong_one_is_refused_on_the_spot(root: Issuer) -> None:
    draft = without(drafted(root), x509.ExtendedKeyUsage)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    said = refusal(lambda: tried(replace(draft, extensions=[*draft.extensions, (both, False)]), "server"))
    assert f"a client certificate for trial.{DOMAIN} must be refused, but" in said
    said = refusal(lambda: tried(drafted(root, "client"), "server"))
    assert f"a server certificate for trial.{DOMAIN} must be accepted, but" in said


@pytest.mark.parametrize(
    ("answers", "ok_if_it_must_fail", "ok_if_it_must_not"),
    [(("", ""), False, True), (("bad", "bad"), True, False), (("bad", ""), False, False), (("", "bad"), False, False)],
)
def test_a_trial_passes_only_if_both_verifiers_say_so(
    answers: tuple[str, str], ok_if_it_must_fail: bool, ok_if_it_must_not: bool
) -> None:
    said = dict(zip(("cryptography", "OpenSSL"), answers, strict=True))
    assert negative_tests.NegativeTest("x", True, said).ok is ok_if_it_must_fail
    assert negative_tests.NegativeTest("x", False, said).ok is ok_if_it_must_not


def test_what_a_request_permits_is_not_tried_as_foreign() -> None:
    def outside(domains: tuple[str, ...], addresses: tuple[IPv4Network | IPv6Network, ...]) -> list[str]:
        return [str(one.value) for one in negative_tests._forbidden_names(domains, addresses)]  # noqa: SLF001 - a name is chosen from many

    assert outside((DOMAIN,), ()) == ["www.example.com", "203.0.113.7"]
    assert outside(("example.com",), (IPv4Network("203.0.113.0/24"),)) == ["www.example.org", "198.51.100.7"]
    assert outside(("example.com", "example.org"), EVERYTHING) == ["www.foreign.invalid"]
    both = (IPv4Network("10.0.0.0/8"), IPv6Network("fc00::/7"))
    assert outside((DOMAIN,), both) == ["www.example.com", "203.0.113.7", "2001:db8::7"]
    assert outside((DOMAIN,), (IPv6Network("2001:db8::/32"),)) == ["www.example.com", "203.0.113.7", "3fff::7"]
    assert outside((DOMAIN,), (*EVERYTHING, IPv6Network("::/0"))) == ["www.example.com"]


def test_lint_spares_names_of_one_label_and_no_others(root: Issuer) -> None:
    single = drafted(root, extensions=profiles.intermediate_extensions("server", ("lan",), ()))
    assert lint.findings(signed_by(single, root.key)) == []
    odd = drafted(root, extensions=profiles.intermediate_extensions("server", ("not_a_host",), ()))
    assert lint.findings(signed_by(odd, root.key))


def test_each_finding_from_a_warning_on_is_named_with_its_code_and_a_notice_is_none(
    root: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reported(severity: ValidationFindingSeverity, code: str, message: str | None) -> Any:
        return SimpleNamespace(finding=SimpleNamespace(severity=severity, code=code), message=message)

    severities = ValidationFindingSeverity
    result = SimpleNamespace(
        finding_descriptions=[
            reported(severities.FATAL, "x.fatal", "cannot be read"),
            reported(severities.WARNING, "x.warning", None),
            reported(severities.NOTICE, "x.notice", "is unusual"),
            reported(severities.ERROR, "x.permitted", "is permitted here"),
        ]
    )
    container = SimpleNamespace(validate=lambda _: [result])
    monkeypatch.setattr(lint, "_validators_and_document", lambda _: (container, SimpleNamespace(root=None)))
    signed = signed_by(drafted(root), root.key)
    assert lint.findings(signed, permitted="x.permitted") == ["x.fatal: cannot be read", "x.warning"]


# -- what a root may never be asked -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A request and what the vault knows."""

    request: Request
    known: VaultContents

    def with_(self, **changes: Any) -> Case:
        return replace(self, request=self.request.model_copy(update=changes))

    def one(self, field: str, index: int = 0, /, **values: Any) -> Case:
        items = list(getattr(self.request, field))
        items[index] = items[index].model_copy(update=values)
        return self.with_(**{field: tuple(items)})

    def presigned_crl(self, index: int, /, **values: Any) -> Case:
        presigned_crls = list(self.request.crl_series[0].presigned_crls)
        presigned_crls[index] = presigned_crls[index].model_copy(update=values)
        return self.one("crl_series", presigned_crls=tuple(presigned_crls))

    def faults(self, *, made: bool = True) -> list[str]:
        return policy.faults(self.request, self.known, roots_are_made=made)


def csr(key: PrivateKey) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate_signing.subject_name("Example Lab", "x"))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def presigned_crls(first: int, since: datetime, count: int = 2) -> tuple[RequestedCrl, ...]:
    return tuple(
        RequestedCrl(number=first + n, this_update=since + 100 * n * DAY, next_update=since + (100 * n + 120) * DAY)
        for n in range(count)
    )


def request_of(number: int, prepared: datetime, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "format": "doit-pki ceremony request 1", "number": number, "prepared": prepared, "organisation": "Example Lab",
        "publish": URL, "sandbox": False, "because": (), "previous": "none",
        "ledger": LedgerHead(events=1, head="0" * 64), "pinned": {}, "roots": (), "intermediates": (),
        "cross_certificates": (), "crl_series": (), "destroy": (),
    }  # fmt: skip
    return Request.model_construct(**{**values, **changes})


def intermediate_of(name: str, issuer: str, since: datetime, end: datetime) -> RequestedIntermediate:
    return RequestedIntermediate(
        name=name, issuer=issuer, common_name=policy.common_name("Example Lab", name, sandbox=False),
        not_before=since, not_after=end, domains=(DOMAIN,), addresses=(), request=csr(keys.new_key("ec-p384")),
    )  # fmt: skip


def said(name: str, issuer: str, certificate: x509.Certificate) -> SignedCertificate:
    return SignedCertificate(name=name, issuer=issuer, pem=pem_encoding.pem_of([certificate]).decode())


@pytest.fixture(scope="module")
def case_once() -> Case:
    """The second ceremony of a project with two roots: an intermediate, a third root and two series of CRLs."""
    old, new = made_root("root-1"), made_root("root-2")
    server = signed_by(drafted(old, dates=(START, START + YEAR)), old.key)
    client = signed_by(drafted(new, "client", dates=(START, START + YEAR)), new.key)
    first = request_of(
        1,
        START,
        crl_series=(
            RequestedSeries(root="root-1", revoked=(), presigned_crls=presigned_crls(1, START)),
            RequestedSeries(root="root-2", revoked=(), presigned_crls=presigned_crls(1, START)),
        ),
    )
    response = Response.model_construct(
        certificates=(
            said("root-1", "root-1", old.certificate),
            said("root-2", "root-2", new.certificate),
            said("server-1", "root-1", server),
            said("client-1", "root-2", client),
        ),
        presigned_crls=tuple(
            SignedCrl(root=root, number=number, file=f"{root}-crl-{number}.pem", sha256="0" * 64)
            for root in ("root-1", "root-2")
            for number in (1, 2)
        ),
    )
    now = START + 30 * DAY
    past = PastCeremony(1, Path("/nowhere"), first, response, "a" * 64, "d" * 64)
    known = VaultContents({"root-1": old.certificate, "root-2": new.certificate}, [past])
    series = (
        RequestedCrl(number=3, this_update=now, next_update=now + 120 * DAY),
        RequestedCrl(number=4, this_update=START + 100 * DAY + HOUR, next_update=START + 211 * DAY),
        RequestedCrl(number=5, this_update=START + 211 * DAY, next_update=START + 221 * DAY),
    )
    return Case(
        request_of(
            2,
            now,
            previous="d" * 64,
            pinned={name: fingerprint(cert) for name, cert in known.roots.items()},
            roots=(
                RequestedRoot(
                    name="root-3",
                    common_name="Example Lab Root CA 3",
                    key="ec-p384",
                    not_before=now,
                    not_after=now + 10 * YEAR,
                ),
            ),
            intermediates=(intermediate_of("server-2", "root-2", now, now + YEAR),),
            cross_certificates=(
                RequestedCrossCertificate(name="root-3", issuer="root-2", not_before=now, not_after=now + YEAR),
            ),
            crl_series=(
                RequestedSeries(root="root-1", revoked=(), presigned_crls=series),
                RequestedSeries(root="root-3", revoked=(), presigned_crls=presigned_crls(1, now)),
            ),
        ),
        known,
    )


@pytest.fixture
def case(case_once: Case) -> Case:
    return case_once


def test_the_request_that_the_others_were_made_from_has_no_fault(case: Case) -> None:
    assert case.faults(made=False) == []
    assert case.faults() == ["root-3 is not on this drive; is this the vault on which ceremony.root made it?"]


def revoked(generation: str, certificate: x509.Certificate) -> RevokedCa:
    return RevokedCa(generation=generation, serial=certificate.serial_number, reason="keyCompromise", at=START)


def certificate_of(case: Case, name: str) -> x509.Certificate:
    return next(cert for known, _, cert in case.known.issued if known == name)


def test_the_crl_of_a_root_lists_what_this_root_signed_and_nothing_else(case: Case) -> None:
    own, foreign = (revoked(name, certificate_of(case, name)) for name in ("server-1", "client-1"))
    assert case.one("crl_series", revoked=(own,)).faults(made=False) == []
    assert case.one("crl_series", revoked=(foreign,)).faults(made=False) == [
        f"the series of pre-signed CRLs of root-1: client-1 with the serial number {foreign.serial:x} was never signed by root-1"
    ]


def test_first_ceremony_revokes_nothing_because_nothing_was_signed_before(case: Case) -> None:
    foreign = revoked("client-1", certificate_of(case, "client-1"))
    first = replace(case, known=VaultContents({}, [])).with_(
        number=1,
        previous=NO_RESPONSE,
        pinned={},
        cross_certificates=(),
        intermediates=(intermediate_of("server-2", "root-3", case.request.prepared, case.request.prepared + YEAR),),
        crl_series=case.request.crl_series[1:],
    )
    assert first.faults(made=False) == []
    assert first.one("crl_series", revoked=(foreign,)).faults(made=False) == [
        f"the series of pre-signed CRLs of root-3: client-1 with the serial number {foreign.serial:x} was never signed by root-3"
    ]


def test_a_certificate_is_revoked_once_in_a_series(case: Case) -> None:
    own = revoked("server-1", certificate_of(case, "server-1"))
    fault = "the series of pre-signed CRLs of root-1: server-1 is listed twice"
    assert case.one("crl_series", revoked=(own, own)).faults(made=False) == [fault]


def test_a_request_follows_the_last_of_several_ceremonies(case: Case) -> None:
    """Its CRLs, too, replace those of the last ceremony that signed any for the root."""
    first = case.known.history[0]
    series = tuple(
        one.model_copy(update={"presigned_crls": presigned_crls(9, START, 4)}) for one in first.request.crl_series
    )
    second = replace(
        first, number=2, response_digest="e" * 64, request=first.request.model_copy(update={"crl_series": series})
    )
    later = replace(case, known=replace(case.known, history=[first, second])).with_(number=3, previous="e" * 64)
    found = later.faults(made=False)
    assert "does not follow" not in "".join(found)
    assert [one for one in found if "nothing replaces CRL 11 of an earlier ceremony" in one]
    assert "it does not follow ceremony 2" in later.with_(previous="d" * 64).faults()[0]


def test_the_old_root_is_destroyed_in_the_ceremony_that_makes_its_successor(case: Case) -> None:
    found = case.with_(destroy=("root-2",)).faults(made=False)
    assert len(found) == 1
    assert found[0].startswith("root-2 must first sign CRLs until client-1 expires")


def test_a_root_is_destroyed_only_after_crls_until_its_last_certificate_ends(case: Case) -> None:
    end = certificate_of(case, "server-1").not_valid_after_utc
    fault = f"root-1 must first sign CRLs until server-1 expires on {end:%Y-%m-%d}"
    asked = case.with_(destroy=("root-1",))

    def lasting(until: datetime) -> Case:
        last = RequestedCrl(number=6, this_update=START + 221 * DAY, next_update=until)
        return asked.one("crl_series", presigned_crls=(*case.request.crl_series[0].presigned_crls, last))

    assert asked.faults(made=False) == [fault]
    assert asked.with_(crl_series=case.request.crl_series[1:]).faults(made=False) == [
        fault
    ]  # none at all is not enough
    assert lasting(end - SECOND).faults(made=False) == [fault]
    assert lasting(end).faults(made=False) == []


def test_the_root_that_signs_is_never_destroyed(case: Case) -> None:
    newest = case.with_(destroy=("root-3",)).faults(made=False)
    assert newest == ["root-3 is to be destroyed and is not in this vault"]
    alone = case.with_(roots=(), cross_certificates=(), crl_series=case.request.crl_series[:1], destroy=("root-2",))
    assert "root-2 is the root that signs; there must be another one before its key is destroyed" in alone.faults()


def test_a_certificate_that_has_ended_keeps_no_root_alive(case: Case) -> None:
    late = case.request.prepared + 2 * YEAR
    crl_series = (RequestedSeries(root="root-1", revoked=(), presigned_crls=presigned_crls(3, late)),)
    request = request_of(
        2, late, previous="d" * 64, pinned=case.request.pinned, crl_series=crl_series, destroy=("root-1",)
    )
    assert replace(case, request=request).faults() == []


BOUNDS: dict[str, tuple[Callable[[Case], Case], Callable[[Case], Case], str]] = {
    # what: the last request that is right, the first that is not, and why
    "how long a root lives": (
        lambda c: c.one("roots", not_after=c.request.prepared + ROOT_LIMIT),
        lambda c: c.one("roots", not_after=c.request.prepared + ROOT_LIMIT + SECOND),
        "root-3 would be valid from",
    ),
    "that a root lives at all": (
        lambda c: c,
        lambda c: c.one("roots", not_after=c.request.prepared),
        "root-3 would be valid from",
    ),
    "when a root begins": (
        lambda c: c.one("roots", not_before=c.request.prepared - 2 * DAY),
        lambda c: c.one("roots", not_before=c.request.prepared - 2 * DAY - SECOND),
        "root-3 would begin on",
    ),
    "when an intermediate begins": (
        lambda c: c.one("intermediates", not_before=c.request.prepared + 2 * DAY),
        lambda c: c.one("intermediates", not_before=c.request.prepared + 2 * DAY + SECOND),
        "server-2: would begin on",
    ),
    "how long an intermediate lives": (
        lambda c: c.one("intermediates", not_after=c.known.roots["root-2"].not_valid_after_utc),
        lambda c: c.one("intermediates", not_after=c.known.roots["root-2"].not_valid_after_utc + SECOND),
        "server-2: would be valid outside the lifetime of root-2",
    ),
    "how long a certificate under a new root lives": (
        lambda c: c.one("intermediates", issuer="root-3", not_after=c.request.roots[0].not_after),
        lambda c: c.one("intermediates", issuer="root-3", not_after=c.request.roots[0].not_after + SECOND),
        "server-2: would be valid outside the lifetime of root-3",
    ),
    "when a certificate under a new root begins": (
        lambda c: c.one("intermediates", issuer="root-3", not_before=c.request.roots[0].not_before),
        lambda c: c.one("intermediates", issuer="root-3", not_before=c.request.roots[0].not_before - SECOND),
        "server-2: would be valid outside the lifetime of root-3",
    ),
    "that an intermediate lives at all": (
        lambda c: c.one("intermediates", not_after=c.request.prepared + SECOND),
        lambda c: c.one("intermediates", not_after=c.request.prepared),
        "server-2: would end on",
    ),
    "how long a cross-certificate lives": (
        lambda c: c.one("cross_certificates", not_after=c.known.roots["root-2"].not_valid_after_utc),
        lambda c: c.one("cross_certificates", not_after=c.known.roots["root-2"].not_valid_after_utc + SECOND),
        "root-3 by root-2: would be valid outside the lifetime of root-2",
    ),
    "how long a CRL lives": (
        lambda c: c.presigned_crl(1, next_update=c.request.crl_series[0].presigned_crls[1].this_update + PRESIGNED_CRL_LIMIT),
        lambda c: c.presigned_crl(1, next_update=c.request.crl_series[0].presigned_crls[1].this_update + PRESIGNED_CRL_LIMIT + SECOND),
        "the series of pre-signed CRLs of root-1: CRL 4 would be valid from",
    ),
    "that a CRL lives at all": (
        lambda c: c,
        lambda c: c.presigned_crl(1, next_update=c.request.crl_series[0].presigned_crls[1].this_update),
        "the series of pre-signed CRLs of root-1: CRL 4 would be valid from",
    ),
    "that no CRL begins after its root ended": (
        lambda c: c.one("roots", not_after=c.request.crl_series[1].presigned_crls[1].this_update + SECOND),
        lambda c: c.one("roots", not_after=c.request.crl_series[1].presigned_crls[1].this_update),
        "the series of pre-signed CRLs of root-3: CRL 2 would be valid from",
    ),
    "that there is no gap between two CRLs": (
        lambda c: c.presigned_crl(0, next_update=c.request.crl_series[0].presigned_crls[1].this_update),
        lambda c: c.presigned_crl(0, next_update=c.request.crl_series[0].presigned_crls[1].this_update - SECOND),
        "the series of pre-signed CRLs of root-1: CRL 4 would leave a gap after CRL 3",
    ),
    "that CRLs begin one after the other": (
        lambda c: c,
        lambda c: c.presigned_crl(1, this_update=c.request.crl_series[0].presigned_crls[0].this_update),
        "the series of pre-signed CRLs of root-1: CRL 4 would leave a gap after CRL 3",
    ),
    "that a series begins now": (
        lambda c: c.presigned_crl(0, this_update=c.request.prepared),
        lambda c: c.presigned_crl(0, this_update=c.request.prepared + SECOND),
        "the series of pre-signed CRLs of root-1: its first CRL would begin in the future",
    ),
    "that numbers rise": (
        lambda c: c.presigned_crl(0, number=3),
        lambda c: c.presigned_crl(0, number=2),
        "the series of pre-signed CRLs of root-1: CRL 2 does not have a higher number than 2",
    ),
    "how far numbers leap": (
        lambda c: c.presigned_crl(2, number=int(c.request.crl_series[0].presigned_crls[2].this_update.timestamp())),
        lambda c: c.presigned_crl(2, number=int(c.request.crl_series[0].presigned_crls[2].this_update.timestamp()) + 1),
        "is far above 4",
    ),
    "that a series lasts as long as the one before": (
        lambda c: c.presigned_crl(2, next_update=START + 220 * DAY),
        lambda c: c.presigned_crl(2, next_update=START + 220 * DAY - SECOND),
        "the series of pre-signed CRLs of root-1: it ends on",
    ),
    "that an earlier CRL is replaced soon enough": (
        lambda c: c.presigned_crl(1, this_update=START + 100 * DAY + HOUR),
        lambda c: c.presigned_crl(1, this_update=START + 100 * DAY + HOUR + SECOND),
        "the series of pre-signed CRLs of root-1: nothing replaces CRL 2 of an earlier ceremony",
    ),
    "that an earlier CRL is not believed more": (
        lambda c: c.presigned_crl(1, this_update=START + 100 * DAY + SECOND),
        lambda c: c.presigned_crl(1, this_update=START + 100 * DAY),
        "the series of pre-signed CRLs of root-1: nothing replaces CRL 2 of an earlier ceremony",
    ),
    "how far the number of a ceremony leaps": (
        lambda c: c.with_(number=1 + MAX_NUMBER_GAP),
        lambda c: c.with_(number=2 + MAX_NUMBER_GAP),
        "its number 102 is far above that of the last ceremony, 1",
    ),
    "that the number of a ceremony rises": (
        lambda c: c,
        lambda c: c.with_(number=1),
        "its number 1 is not above that of the last ceremony, 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BOUNDS)
def test_a_bound_of_what_a_root_signs_is_where_it_is(case: Case, what: str) -> None:
    last_right, first_wrong, fault = BOUNDS[what]
    assert last_right(case).faults(made=False) == []
    found = first_wrong(case).faults(made=False)
    assert found
    assert [one for one in found if fault in one]


def test_a_revocation_leaves_the_series_only_after_its_certificate_ended(case: Case) -> None:
    listed = revoked("server-1", certificate_of(case, "server-1"))
    past = case.known.history[0]
    crl_series = (past.request.crl_series[0].model_copy(update={"revoked": (listed,)}), past.request.crl_series[1])
    known = replace(
        case.known, history=[replace(past, request=past.request.model_copy(update={"crl_series": crl_series}))]
    )
    asked = replace(case, known=known)
    fault = f"the series of pre-signed CRLs of root-1: server-1 (serial number {listed.serial:x}) was revoked in an earlier ceremony and is not listed"
    assert asked.faults(made=False) == [fault]
    assert asked.one("crl_series", revoked=(listed,)).faults(made=False) == []
    end = certificate_of(case, "server-1").not_valid_after_utc

    def at(prepared: datetime) -> list[str]:
        request = request_of(
            2, prepared, previous="d" * 64, pinned=case.request.pinned,
            crl_series=(RequestedSeries(root="root-1", revoked=(), presigned_crls=presigned_crls(3, prepared)),),
        )  # fmt: skip
        return replace(asked, request=request).faults()

    assert at(end + HOUR) == [fault]
    assert at(end + HOUR + SECOND) == []


def test_a_revoked_certificate_that_the_vault_does_not_know_stays_listed(case: Case) -> None:
    unknown = RevokedCa(generation="server-1", serial=77, reason="keyCompromise", at=START)
    past = case.known.history[0]
    crl_series = (past.request.crl_series[0].model_copy(update={"revoked": (unknown,)}),)
    known = replace(
        case.known, history=[replace(past, request=past.request.model_copy(update={"crl_series": crl_series}))]
    )
    assert "server-1 (serial number 4d) was revoked in an earlier ceremony and is not listed" in "".join(
        replace(case, known=known).faults(made=False)
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c.with_(previous="none"), "it does not follow ceremony 1, the last one in this vault"),
        (lambda c: c.with_(organisation="Other Lab"), "it names the organisation Other Lab"),
        (lambda c: c.with_(sandbox=True), "a sandbox and a real project never share a root"),
        (lambda c: c.with_(crl_series=c.request.crl_series * 2), "root-1 would have two series of pre-signed CRLs"),
        (lambda c: c.with_(pinned={**c.request.pinned, "root-3": "0" * 64}), "root-3 is not in this vault"),
        (lambda c: c.with_(pinned={**c.request.pinned, "root-1": "0" * 64}), "root-1 in this vault is not the root-1"),
        (lambda c: c.with_(pinned={"root-1": c.request.pinned["root-1"]}), "the vault has root-2"),
        (lambda c: c.with_(crl_series=c.request.crl_series[:1]), "root-3 would have no CRL"),
        (lambda c: c.one("intermediates", issuer="root-9"), "root-9 is needed, and neither in the vault nor requested"),
        (lambda c: c.one("roots", name="root-2"), "root-2 is requested and exists already"),
        (lambda c: c.one("roots", common_name="Other"), "root-3: would be called 'Other'"),
        (lambda c: c.one("intermediates", name="server-1"), "server-1: was created in an earlier ceremony"),
        (lambda c: c.with_(intermediates=c.request.intermediates * 2), "server-2: was created in an earlier ceremony"),
        (lambda c: c.one("intermediates", request=csr(keys.new_key("rsa-2048"))), "server-2: a key of kind rsa-2048"),
        (lambda c: c.one("intermediates", request="hello"), "server-2: the request of server-2: not a PEM"),
        (lambda c: c.one("cross_certificates", issuer="root-3"), "root-3 cannot certify itself"),
        (lambda c: c.one("cross_certificates", name="root-2", issuer="root-1"), "root-2 is not a root that this ceremony creates"),
        (lambda c: c.with_(destroy=("root-9",)), "root-9 is to be destroyed and is not in this vault"),
    ],
)  # fmt: skip
def test_a_request_for_what_is_never_right_has_this_fault(
    case: Case, change: Callable[[Case], Case], fault: str
) -> None:
    assert fault in "\n".join(change(case).faults(made=False))


def test_no_key_is_certified_twice(case: Case) -> None:
    key = keys.new_key("ec-p384")
    first = intermediate_of("server-2", "root-2", case.request.prepared, case.request.prepared + YEAR)
    pair = tuple(
        first.model_copy(update={"name": name, "common_name": policy.common_name("Example Lab", name, sandbox=False), "request": csr(key)})
        for name in ("server-2", "client-2")
    )  # fmt: skip
    assert case.with_(intermediates=pair).faults(made=False) == [
        "server-2: its key is also that of client-2; every generation needs its own key",
        "client-2: its key is also that of server-2; every generation needs its own key",
    ]


def test_the_first_ceremony_follows_none(case: Case) -> None:
    asked = replace(case, known=VaultContents({}, []))
    assert (
        asked.with_(pinned={})
        .faults(made=False)[0]
        .startswith("it follows an earlier ceremony, and this vault has none")
    )
    first = request_of(1, START, roots=case.request.roots, crl_series=case.request.crl_series[1:])
    early = [one.model_copy(update={"not_before": START}) for one in first.roots]
    begun = first.crl_series[0].model_copy(update={"presigned_crls": presigned_crls(1, START)})
    known = VaultContents({}, [])
    assert (
        policy.faults(
            first.model_copy(update={"roots": tuple(early), "crl_series": (begun,)}), known, roots_are_made=False
        )
        == []
    )


def test_a_root_that_was_made_for_another_request_is_not_used(case: Case) -> None:
    made = made_root("root-3", since=case.request.prepared)
    known = replace(case.known, roots={**case.known.roots, "root-3": made.certificate})
    assert replace(case, known=known).faults() == []
    other = replace(case, known=known).one("roots", not_after=case.request.roots[0].not_after - DAY)
    assert other.faults()[0].startswith("root-3 in the vault was made for another request: its dates are")
    assert replace(case, known=known).with_(roots=(), cross_certificates=()).faults()[0] == (
        "the vault has root-3, which the request does not mention"
    )


def test_a_rehearsal_may_number_and_revoke_as_it_likes(case: Case) -> None:
    """A rehearsal's roots are pinned and have no history: their CRLs continue those of the real ones."""
    known = VaultContents(case.known.roots, [])
    far = int(START.timestamp()) * 2
    asked = replace(case, known=known).with_(number=1, previous="none").presigned_crl(0, number=far)
    asked = asked.presigned_crl(1, number=far + 1).presigned_crl(2, number=far + 2)
    listed = asked.one(
        "crl_series", revoked=(RevokedCa(generation="client-1", serial=5, reason="keyCompromise", at=START),)
    )
    assert listed.faults(made=False) == []
