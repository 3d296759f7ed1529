"""The hands: read, make, record, write.

The ledger knows a certificate or CRL before any file shows it, and a leaf's truth is written before what is cut from
it, so a run that is killed anywhere leaves nothing that the next one would believe wrongly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki import freshness
from pki.common import filesystem
from pki.common.durations import backdate
from pki.common.errors import SET_CLOCK, PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined
from pki.common.remedies import here
from pki.config import identifiers
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.keeping import recovering
from pki.project.generations import Generation
from pki.project.project import House
from pki.x509 import canonical, crls, keys, pem_encoding, profiles, signing
from pki.x509.device_requests import device_key
from pki.x509.revocation import Entry
from pki.x509.weak_keys import weakness

NEW_KEY = "make a new key and request on the device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"
NEVER = datetime.fromtimestamp(0, UTC)


def leaf(house: House, wanted: Leaf) -> Outcome:
    """Issue a leaf if it must be, and cut its files from its truth. Raises PkiError for one that is withheld."""
    if withheld := freshness.withheld(house, _id(wanted)):
        if damage := freshness.withheld_damage(house, wanted):
            raise PkiError(joined(dict.fromkeys([*damage, *withheld])), here("invoke", "renew", wanted.name))
        reasons = []
    else:
        reasons = freshness.must_issue(house, wanted)
    if reasons:
        issue_leaf(house, wanted, reasons)
        return Outcome(_verb(reasons), tuple(reasons))
    truth = filesystem.read(house.store.truth(wanted)) or b""
    filesystem.write_all(filesystem.differing(_cut(house, wanted, truth)))
    return Outcome(Verb.UPDATED)


def _id(wanted: Leaf) -> ArtifactId:
    return ArtifactId("cert", wanted.name)


def _verb(reasons: Iterable[Reason]) -> Verb:
    """Return what the issuance of a certificate is called: a renewal has other dates and nothing else."""
    codes = {one.code for one in reasons}
    if Why.NO_CERTIFICATE in codes:
        return Verb.ISSUED
    return Verb.RENEWED if codes <= {Why.DUE, Why.EXPIRED} else Verb.REISSUED


def issue_leaf(house: House, wanted: Leaf, reasons: Iterable[Reason]) -> None:
    """Issue a leaf now: key and certificate change together, in one rename.

    Raises PkiError, with the old pair as it was, when the authority, its passphrase or the request is not there.
    """
    issuer = house.issuer(wanted.authority)
    generation = house.issuing(wanted.authority)
    assert generation is not None
    if generation.certificate.not_valid_after_utc <= house.now:
        raise PkiError(
            f"{generation.name} ended on {generation.certificate.not_valid_after_utc:%Y-%m-%d}",
            here("invoke", "ceremony.request", "--new", wanted.authority, before="needs a ceremony: "),
        )
    _insist_on_begun(house, generation)
    key = None if wanted.request else _leaf_key(house, wanted)
    public = key.public_key() if key else _requested_key(house, wanted)
    cert = signing.certificate(
        signing.subject(house.inventory.organisation, wanted.common_name),
        public,
        signing.validity(house.now, wanted.lifetime, generation.certificate),
        profiles.leaf(wanted, public) + profiles.addresses_of(house.inventory.publish.url, generation.name),
        issuer,
    )
    truth = (keys.private_pem(key) if key else b"") + pem_encoding.pem_of([cert]) + generation.chain
    mode = filesystem.SECRET if key else filesystem.PUBLIC
    with filesystem.Beside({house.store.truth(wanted): (truth, mode), **_cut(house, wanted, truth)}) as waiting:
        waiting.flush_meanwhile()
        house.ledger.record_certificate(
            cert,
            issuer=generation.name,
            artifact=_id(wanted),
            profile=wanted.profile,
            reason=joined(reasons),
            at=house.now,
        )
        if wanted.is_revoked:
            _revoke_all(house, _id(wanted))
        waiting.place()
    house.verified.add(hashlib.sha256(truth).digest())


def _insist_on_begun(house: House, found: Generation) -> None:
    """Raise PkiError where the clock stands before the generation that signs begins: nothing that it signs would be valid."""
    signs = found if house.is_adopted(found.name) else house.issuing(found.authority)
    if found == signs and (early := house.before(found)):
        house.clock.insist()  # where nobody confirms the clock, the refusal says what the others say of it
        raise PkiError(early, SET_CLOCK)


def _revoke_all(house: House, artifact: ArtifactId) -> None:
    """Revoke what bears the name of a leaf that is revoked on purpose, before anybody can see it."""
    for issued in house.ledger.certificates(artifact=artifact, since=house.now):
        if not issued.revoked:
            house.ledger.record_revocation(issued, reason="superseded", at=house.now)
    house.look_again_at_revocations()


def _cut(house: House, wanted: Leaf, truth: bytes) -> dict[Path, tuple[bytes, int]]:
    return {
        Path(house.store.leaf_file(wanted, name)): (
            content,
            filesystem.SECRET if name == "key.pem" else filesystem.PUBLIC,
        )
        for name, content in canonical.files_of(truth).items()
    }


def _leaf_key(house: House, wanted: Leaf) -> keys.PrivateKey:
    """A new key, or with `rekey: keep` the one in place if it is sound, of the right kind and not revoked."""
    if not wanted.rekey:
        held = freshness.examine(house, wanted)
        revoked = isinstance(held, list) and any(one.code is Why.REVOKED for one in held)
        key_pem = (filesystem.read(house.store.truth(wanted)) or b"").partition(canonical.BEGIN)[0]
        if key_pem and not revoked:
            try:
                key = keys.open_key(key_pem, None, wanted.name, "")
            except PkiError:
                return keys.new_key(wanted.key)
            if keys.key_kind(key) == wanted.key:
                return key
    return keys.new_key(wanted.key)


def _requested_key(house: House, wanted: Leaf) -> CertificatePublicKeyTypes:
    data = filesystem.read(house.store.home / (wanted.request or ""))
    if data is None:
        raise PkiError(f"{wanted.declared}.request: {wanted.request} is not there", "put the device's request there")
    key = device_key(data, wanted.request or "")
    if fault := weakness(key):
        raise PkiError(f"{wanted.request}: its key is weak: {fault}", NEW_KEY)
    return key


def crl(house: House, generation: str) -> Outcome:
    """Make an intermediate's CRL: its number is above the last one's whatever the clock says, its thisUpdate too.

    Only after a clock that was ahead thisUpdate goes back: servers refuse everybody over a CRL from the future.
    """
    found = house.generation(generation)
    if found is None:
        raise house.missing_authority(GenerationName.parse(generation).authority)
    _insist_on_begun(house, found)
    issuer = house.crl_issuer(found)
    recovered = _recover(house, generation)
    last = house.ledger.last_crl(generation)
    number = max(int(house.now.timestamp()), last[0] + 1 if last else 0)
    new, kept = _entries(house, generation)
    reasons = (*recovered, *freshness.crl(house, generation, missing=len(new))) or (Why.ASKED_FOR(),)
    this_update = max(
        house.now - backdate(house.crl_rule(generation).refresh),
        min(last[1] + timedelta(seconds=1), house.now) if last else NEVER,
    )
    end = this_update + house.crl_rule(generation).lifetime
    made = crls.crl(issuer, number, this_update, end, new, kept)
    der = made.public_bytes(serialization.Encoding.DER)
    text = pem_encoding.pem("X509 CRL", der)
    house.ledger.record_crl(made, issuer=generation, reason=joined(reasons), at=house.now, der=der)
    _publish_crl(house, generation, der, text)
    return Outcome(Verb.ISSUED, reasons)


def _entries(house: House, generation: str) -> tuple[list[Entry], list[x509.RevokedCertificate]]:
    """Return what an intermediate's next CRL lists: new entries, and those of the CRL in place that stay as they are.

    An entry stays until one CRL after its certificate ended (RFC 5280 §3.3): a CRL from the future ends none. What an
    adopted CA revoked stays for ever, as on the CRLs of `openssl ca`: only its imported records list it. A revocation
    that was recorded under a clock that was ahead is dated now: some clients believe no entry from the future.
    """
    last = None if house.is_adopted(generation) else house.ledger.last_crl(generation, begun=house.now)
    ended = last[1] if last else NEVER
    earlier = freshness.signed_crl(house, generation, filesystem.read(house.store.crl(generation)) or b"")
    there = {one.serial_number: one for one in earlier or () if one.revocation_date_utc <= house.now}
    wanted = house.ledger.revoked_serials(ended, issuer=generation)
    new = house.ledger.revoked(generation, ended, only=wanted - there.keys())
    dated = [entry._replace(revoked_at=min(entry.revoked_at, house.now)) for entry in new]
    return dated, [one for serial, one in there.items() if serial in wanted]


def _recover(house: House, generation: str) -> list[Reason]:
    """Record what our own CRL in `build/` lists and the ledger lacks: a revocation never goes back. Returns why."""
    reasons = freshness.unrecorded_reason(house, generation, freshness.unrecorded(house, generation))
    if reasons:
        shown = house.store.shown(house.store.crl(generation))
        recovering.take_in(house, x509.load_der_x509_crl(filesystem.read(house.store.crl(generation)) or b""), shown)
        house.look_again_at_revocations()
    return reasons


def adopted_crl(house: House, name: str) -> Outcome:
    """Make the CRL of an adopted CA. One without the old revocations would take them back: the books come first."""
    if not house.has_ledger or not house.ledger.has_books(name):
        raise PkiError(
            f"what {name} issued and revoked is not in the ledger",
            f"./run invoke ledger.import DIR --authority {name}, where DIR holds its index.txt or its certificates",
        )
    return crl(house, name)


def root_crl(house: House, root: str) -> Outcome:
    """Publish the rung of the root's ladder that is due: which one it is follows from the clock, as with a signature."""
    if house.has_ledger and not house.ledger_fault:
        _recover(house, root)
    rung = freshness.due_rung(house, root)
    if rung is None:
        house.clock.insist()
        if found := house.generation(root):
            _insist_on_begun(house, found)
        from pki.ceremony.online.ceremony_archive import new_crls  # noqa: PLC0415 - which a run with nothing to tell needs not

        raise PkiError(
            f"{freshness.no_rung(house, root)}; every client will be refused once the present one ends",
            f"{new_crls(house, root)}; if you restored ca/ from a backup, look into its crl/ folder",
        )
    der = rung.public_bytes(serialization.Encoding.DER)
    if der != filesystem.read(house.store.crl(root)):
        house.clock.insist()
    _publish_crl(house, root, der, pem_encoding.pem("X509 CRL", der))
    return Outcome(Verb.PUBLISHED)


def _publish_crl(house: House, generation: str, der: bytes, text: bytes) -> None:
    filesystem.write(house.store.crl(generation), der)
    filesystem.write(house.store.crl(generation, "pem"), text)


# -- derived files ----------------------------------------------------------------------------------------------------


def trust_files(house: House) -> dict[str, bytes]:
    """Roots, intermediates and client trust, by path below the home."""
    live = {name: house.live(name) for name in identifiers.AUTHORITIES}
    pems: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    folder = house.store.shown(house.store.build / "trust")
    for generation in [g for generations in live.values() for g in generations]:
        found = house.generation(generation)
        if found is None:
            raise house.missing_authority(GenerationName.parse(generation).authority)
        pems[generation] = found.pem
        files[f"{folder}/{generation}.crt"] = found.certificate.public_bytes(serialization.Encoding.DER)
    roots = b"".join(pems[name] for name in reversed(live["root"]))
    clients = b"".join(pems[name] for name in reversed(live["client"]))
    return {
        **files,
        f"{folder}/roots.pem": roots,
        f"{folder}/client-ca.pem": clients,
        f"{folder}/client-chain.pem": clients + roots,
    }


def client_crl_bundle(house: House) -> dict[str, bytes]:
    """The CRL of every CA in every live client chain, in one file: what nginx, HAProxy and Apache need."""
    parts = []
    for generation in [*house.live("client"), *house.live("root")]:
        text = filesystem.read(house.store.crl(generation, "pem"))
        if text is None:
            raise PkiError(f"the CRL of {generation} is not there", "./run doit")
        parts.append(text)
    return {house.store.shown(house.store.client_crl_bundle()): b"".join(parts)}


def write_derived(house: House, expected: dict[str, bytes]) -> Outcome:
    verb = Verb.UPDATED if any((house.store.home / path).exists() for path in expected) else Verb.CREATED
    for path, content in expected.items():
        if filesystem.read(house.store.home / path) != content:
            filesystem.write(house.store.home / path, content)
    return Outcome(verb)
