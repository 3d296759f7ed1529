"""Negative tests on the spot: the drafts of the day under throw-away keys, and what must not be possible with them.

The real keys sign nothing here: a twin of the root and of each intermediate, the same to the last extension, is made
with keys that are forgotten at once, and leaves that must be refused are signed with those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ceremony import second_opinion
from pki.ceremony.drafts import CertificateDraft
from pki.common.errors import PkiError
from pki.x509 import certificate_signing, keys, name_constraints, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

# What belongs to nobody (RFC 2606, RFC 5737), and to a project at most in a rehearsal: the first that it does not permit.
FOREIGN = ("www.example.com", "www.example.org", "www.foreign.invalid")
ELSEWHERE = ("203.0.113.7", "198.51.100.7", "192.0.2.7")
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt: what was tried, whether it had to be refused, and what each verifier said (empty: accepted)."""

    what: str
    must_fail: bool
    answers: dict[str, str]

    @property
    def ok(self) -> bool:
        return all(bool(answer) == self.must_fail for answer in self.answers.values())


@dataclass(frozen=True, slots=True)
class _Twins:
    root: x509.Certificate
    authority: Issuer
    at: datetime

    def leaf(self, purpose: x509.ObjectIdentifier, name: x509.GeneralName) -> Issuer:
        """A leaf of the twin intermediate, with its key."""
        key = keys.new_key("ec-p256")
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
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


def trials(
    draft: CertificateDraft, authority: str, domains: tuple[str, ...], addresses: tuple[IPv4Network, ...]
) -> list[Trial]:
    """What the intermediate of a draft must and must not be able to do. Raises PkiError when one turns out wrong."""
    twins = _twins(draft)
    home = x509.DNSName(f"trial.{domains[0]}")
    own, other = ("server", "client") if authority == "server" else ("client", "server")
    found = [
        _trial(twins, own, home, must_fail=False),
        _trial(twins, other, home, must_fail=True),
        *(_trial(twins, own, name, must_fail=True) for name in _outside(domains, addresses)),
    ]
    for trial in found:
        if not trial.ok:
            said = "; ".join(f"{name}: {answer or 'accepted'}" for name, answer in trial.answers.items())
            verdict = "must be refused" if trial.must_fail else "must be accepted"
            raise PkiError(f"{draft.what}: {trial.what} {verdict}, but {said}", "nothing was signed; stop the ceremony")
    return found


def _outside(domains: tuple[str, ...], addresses: tuple[IPv4Network, ...]) -> list[x509.GeneralName]:
    """A name and an address that the request does not permit; no address, where it permits all of them."""
    permitted = name_constraints.PermittedNames(tuple(f".{domain}" for domain in domains), addresses)
    names = [x509.DNSName(name) for name in FOREIGN if not permitted.permits(name)][:1]
    return [*names, *[x509.IPAddress(IPv4Address(text)) for text in ELSEWHERE if not permitted.permits(text)][:1]]


def _twins(draft: CertificateDraft) -> _Twins:
    assert draft.issuer is not None
    root_key, key = keys.new_key("ec-p256"), keys.new_key("ec-p256")
    dates = draft.issuer.not_valid_before_utc, draft.issuer.not_valid_after_utc
    root = certificate_signing.sign_certificate(
        draft.issuer.subject, root_key.public_key(), dates, profiles.root_extensions(), root_key
    )
    twin = replace(draft, key=key.public_key(), issuer=root)
    return _Twins(root, Issuer(_sealed(twin, root_key), key), draft.dates[0] + DAY)


def _sealed(draft: CertificateDraft, key: PrivateKey) -> x509.Certificate:
    return draft.builder().sign(key, keys.signature_hash(key))


def _trial(twins: _Twins, purpose: str, name: x509.GeneralName, *, must_fail: bool) -> Trial:
    oid = ExtendedKeyUsageOID.SERVER_AUTH if purpose == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    leaf = twins.leaf(oid, name)
    chain = [leaf.certificate, twins.authority.certificate]
    host = name if purpose == "server" else None
    answers = {
        "cryptography": second_opinion.verifier_fault(chain, [twins.root], twins.at, host),
        "OpenSSL": second_opinion.handshake_fault(chain, leaf.key, [twins.root], twins.at, purpose),
    }
    return Trial(f"a {purpose} certificate for {name.value}", must_fail, answers)
