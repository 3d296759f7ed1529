"""Revocations that the ledger lost, taken back from CRLs that are known elsewhere: a revocation never goes back."""

from __future__ import annotations

from cryptography import x509

from pki import store
from pki.house import Generation, House
from pki.issue import ca_public_key, pem_of
from pki.records import Recovered
from pki.store import AUTHORITIES


def signer(house: House, crl: x509.CertificateRevocationList) -> Generation | None:
    """The generation of this house, or the CA that it adopted, that signed a CRL."""
    ours = [name for authority in AUTHORITIES for name in house.store.generations(authority)]
    for found in filter(None, map(house.generation, [*ours, *house.inventory.authorities.adopted])):
        if found.certificate.subject == crl.issuer and crl.is_signature_valid(ca_public_key(found.certificate)):
            return found
    return None


def take_in(house: House, crl: x509.CertificateRevocationList, source: str) -> Recovered | None:
    """Record what a CRL revokes and the ledger does not know, and its number; None when it is none of our own.

    A certificate of which only the serial number is known counts as valid for as long as its authority.
    """
    found = signer(house, crl)
    if found is None or crl.next_update_utc is None:
        return None
    until = found.certificate.not_valid_after_utc
    told = house.ledger.record_recovered(crl, issuer=found.name, until=until, source=source, at=house.now)
    if found.authority == "root":
        _file_rung(house, found.name, told.number, crl)
    return told


def _file_rung(house: House, root: str, number: int, crl: x509.CertificateRevocationList) -> None:
    """A root's CRL that is newer than the rung in force takes its place: no doit can make one."""
    rungs = house.rungs(root)
    begun = [rung.number for rung in rungs if rung.crl.last_update_utc <= house.now]
    if number not in {rung.number for rung in rungs} and number > max(begun, default=0):
        store.write(house.store.authority_file(root, "crl") / f"{number}.pem", pem_of([crl]))
