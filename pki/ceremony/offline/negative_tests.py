"""Negative tests during a ceremony: what a new intermediate must not be able to sign.

The real keys sign nothing here. Copies of the root and of each intermediate, with the same extensions, are signed with
throw-away keys; these sign leaf certificates that verifiers must refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ceremony import second_opinion
from pki.ceremony.drafts import CertificateDraft
from pki.common.errors import PkiError
from pki.config.ip_addresses import IpNetwork
from pki.x509 import certificate_signing, keys, name_constraints, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

# Reserved names and addresses (RFC 2606, RFC 5737, RFC 3849, RFC 9637); a sandbox may permit some, so the first of each
# kind that is not permitted is used.
FOREIGN = ("www.example.com", "www.example.org", "www.foreign.invalid")
ELSEWHERE = (("203.0.113.7", "198.51.100.7", "192.0.2.7"), ("2001:db8::7", "3fff::7"))
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NegativeTest:
    """One test: a leaf certificate, whether it must be refused, and the error of each verifier ("": accepted)."""

    what: str
    must_fail: bool
    answers: dict[str, str]

    @property
    def ok(self) -> bool:
        """Return whether every verifier gave the expected result."""
        return all(bool(answer) == self.must_fail for answer in self.answers.values())


@dataclass(frozen=True, slots=True)
class _Copies:
    """Copies of a root and an intermediate with throw-away keys, and a time at which both are valid."""

    root: x509.Certificate
    authority: Issuer
    at: datetime

    def leaf(self, purpose: x509.ObjectIdentifier, name: x509.GeneralName) -> Issuer:
        """Return a leaf certificate of the copied intermediate, with its key."""
        key = keys.new_key("ec-p256")
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        extensions: profiles.Extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage, True),
            (x509.ExtendedKeyUsage([purpose]), False),
            (x509.SubjectAlternativeName([name]), False),
        ]
        dates = self.at - timedelta(hours=1), self.at + DAY
        name_of_leaf = certificate_signing.subject_name("Trial", "")
        return Issuer(
            certificate_signing.sign_certificate(name_of_leaf, key.public_key(), dates, extensions, self.authority), key
        )


def run_negative_tests(
    draft: CertificateDraft, authority: str, domains: tuple[str, ...], addresses: tuple[IpNetwork, ...]
) -> list[NegativeTest]:
    """Test what the intermediate of a draft may and may not sign. Raises PkiError when a verifier disagrees."""
    copies = _copies(draft)
    permitted_name = x509.DNSName(f"trial.{domains[0]}")
    permitted_purposes = ("server", "client") if authority == "peer" else (authority,)
    tests = [
        *(
            _test(copies, purpose, permitted_name, must_fail=purpose not in permitted_purposes)
            for purpose in sorted(("server", "client"), key=lambda purpose: purpose not in permitted_purposes)
        ),
        *(
            _test(copies, purpose, name, must_fail=True)
            for purpose in permitted_purposes
            for name in _forbidden_names(domains, addresses)
        ),
    ]
    for test in tests:
        if not test.ok:
            answers = "; ".join(f"{name}: {answer or 'accepted'}" for name, answer in test.answers.items())
            verdict = "must be refused" if test.must_fail else "must be accepted"
            raise PkiError(
                f"{draft.what}: {test.what} {verdict}, but {answers}", "nothing was signed; stop the ceremony"
            )
    return tests


def _forbidden_names(domains: tuple[str, ...], addresses: tuple[IpNetwork, ...]) -> list[x509.GeneralName]:
    """Return a DNS name, an IPv4 address and an IPv6 address that the request does not permit.

    Fewer if the request permits all names of a kind. An IPv6 address is tested only if the request permits some IPv6
    addresses: otherwise the test adds nothing, and the operator reads each test aloud.
    """
    permitted_names = name_constraints.PermittedNames(tuple(f".{domain}" for domain in domains), addresses)
    names, ipv4, ipv6 = (
        [name for name in kind if not permitted_names.permits(name)][:1] for kind in (FOREIGN, *ELSEWHERE)
    )
    if all(network.version == 4 for network in addresses):
        ipv6 = []
    return [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(text)) for text in (*ipv4, *ipv6))]


def _copies(draft: CertificateDraft) -> _Copies:
    """Return copies of the issuer and the intermediate of a draft."""
    assert draft.issuer is not None
    root_key, key = keys.new_key("ec-p256"), keys.new_key("ec-p256")
    dates = draft.issuer.not_valid_before_utc, draft.issuer.not_valid_after_utc
    extensions = profiles.root_extensions() + profiles.name_constraints_of(draft.issuer)
    root = certificate_signing.sign_certificate(
        draft.issuer.subject, root_key.public_key(), dates, extensions, root_key
    )
    intermediate = replace(draft, key=key.public_key(), issuer=root)
    return _Copies(root, Issuer(_signed(intermediate, root_key), key), draft.dates[0] + DAY)


def _signed(draft: CertificateDraft, key: PrivateKey) -> x509.Certificate:
    return draft.builder().sign(key, keys.signature_hash(key))


def _test(copies: _Copies, purpose: str, name: x509.GeneralName, *, must_fail: bool) -> NegativeTest:
    """Verify a leaf certificate with two implementations."""
    oid = ExtendedKeyUsageOID.SERVER_AUTH if purpose == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    leaf = copies.leaf(oid, name)
    chain = [leaf.certificate, copies.authority.certificate]
    host = name if purpose == "server" else None
    answers = {
        "cryptography": second_opinion.verifier_fault(chain, [copies.root], copies.at, host),
        "OpenSSL": second_opinion.handshake_fault(chain, leaf.key, [copies.root], copies.at, purpose),
    }
    return NegativeTest(f"a {purpose} certificate for {name.value}", must_fail, answers)
