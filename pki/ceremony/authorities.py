"""Making a root and signing intermediates: what the sandbox does by itself and a person does in a ceremony."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from pki import issue, profiles, store
from pki.errors import PkiError
from pki.house import House, missing_authority
from pki.leaves import permitted_addresses
from pki.model import SANDBOX, RootCrlRule

OVERLAP = timedelta(days=30)


def make_root(house: House, medium: Path, passphrase: str) -> None:
    """Make the first root: its key, encrypted, on `medium`; its certificate and ladder of CRLs in `ca/`.

    The certificate is written last: until it is there, there is no root, and the next try starts afresh.
    Raises PkiError when there is a root already.
    """
    name, rule = "root-1", house.inventory.authorities.root
    if house.issuing("root") is not None:
        raise PkiError("there is a root already, in ca/root/", "a further generation needs a ceremony of its own")
    key = issue.new_key(rule.key)
    cert = issue.certificate(
        issue.subject(house.inventory.organisation, ca_name(house, name)),
        key.public_key(),
        issue.validity(house.now, rule.lifetime, None),
        profiles.root(),
        key,
    )
    issuer = issue.Issuer(cert, key)
    last = house.ledger.last_crl(name)  # of a ceremony that was cut short
    ladder = make_ladder(issuer, rule.crl, above=last[0] if last else 0)
    key_file = medium / name / "key.pem"
    store.write(key_file, issue.encrypted_pem(key, passphrase), store.SECRET)
    issue.open_key(store.read(key_file) or b"", passphrase, str(key_file), "this ceremony")
    house.ledger.record_certificate(
        cert, issuer=name, artifact="authority:root", profile="root", reason="root ceremony", at=house.now
    )
    shutil.rmtree(house.store.authority_file(name, "crl"), ignore_errors=True)
    for number, rung in ladder:
        house.ledger.record_crl(rung, issuer=name, reason="root ceremony", at=house.now)
        store.write(house.store.authority_file(name, "crl") / f"{number}.pem", issue.pem_of([rung]))
    store.write(house.store.authority_file(name, "cert.pem"), issue.pem_of([cert]))


def make_ladder(
    issuer: issue.Issuer, rule: RootCrlRule, above: int
) -> list[tuple[int, x509.CertificateRevocationList]]:
    """The pre-signed CRLs of a root, with their numbers, all over `above`.

    Each begins a month before the one before it ends.
    """
    ladder = []
    start = issuer.certificate.not_valid_before_utc
    for _ in range(rule.rungs):
        number = above = max(int(start.timestamp()), above + 1)
        ladder.append((number, issue.crl(issuer, number, start, start + rule.lifetime, [])))
        start += rule.lifetime - OVERLAP
    return ladder


def make_intermediate(house: House, authority: str, medium: Path, root_passphrase: str) -> None:
    """Make the first generation of `authority`, signed by the root whose key lies on `medium`.

    Its own passphrase is generated into the secrets file. Raises PkiError when the root's key cannot be opened.
    """
    name = f"{authority}-1"
    rule = house.inventory.authorities.server if authority == "server" else house.inventory.authorities.client
    root = house.issuing("root")
    if root is None:
        raise missing_authority("root")
    root_key_file = medium / root.name / "key.pem"
    data = store.read(root_key_file)
    if data is None:
        raise PkiError(f"{house.shown(root_key_file)}: the root's key is not there", "put its medium back")
    issuer = issue.Issuer(
        root.certificate, issue.open_key(data, root_passphrase, house.shown(root_key_file), "this ceremony")
    )
    key = issue.new_key(rule.key)
    said = house.inventory
    cert = issue.certificate(
        issue.subject(said.organisation, ca_name(house, name)),
        key.public_key(),
        issue.validity(house.now, rule.lifetime, root.certificate),
        profiles.intermediate(authority, said.domains, permitted_addresses(said))
        + profiles.addresses_of(said.publish.url, root.name),
        issuer,
    )
    passphrase = house.passphrases.new(name)
    key_file = house.store.authority_file(name, "key.pem")
    store.write(key_file, issue.encrypted_pem(key, passphrase), store.SECRET)
    house.ledger.record_certificate(
        cert,
        issuer=root.name,
        artifact=f"authority:{authority}",
        profile=f"{authority}-ca",
        reason="root ceremony",
        at=house.now,
    )
    store.write(house.store.authority_file(name, "cert.pem"), issue.pem_of([cert]))


def sandbox(house: House, authority: str) -> None:
    """The part of the try-out's ceremony that makes one authority; the root's key stays below `offline/`."""
    passphrase = house.passphrases.new("root-1")
    store.make_folder(house.store.offline, 0o700)
    if authority == "root":
        make_root(house, house.store.offline, passphrase)
    else:
        make_intermediate(house, authority, house.store.offline, passphrase)


def ca_name(house: House, generation: str) -> str:
    """The CN of a CA, a name of its own for each generation: `Example Lab SANDBOX Server CA 1`."""
    authority, _, number = generation.rpartition("-")
    word = f"{SANDBOX} " if house.inventory.sandbox else ""
    return f"{house.inventory.organisation} {word}{authority.capitalize()} CA {number}"
