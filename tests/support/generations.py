"""New generations of authorities."""

from __future__ import annotations

from pki.common import filesystem
from pki.config.leaf_certificates import permitted_addresses
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from tests.support.projects import Home


def new_generation(home: Home, authority: str, days: float = 0) -> None:
    """What a ceremony for a second generation would leave behind: a certificate in ledger and `ca/`, its key, its passphrase."""
    project = home.project(days)
    config, name = project.inventory, f"{authority}-2"
    passphrase = project.passphrases.candidates("root-1")[0].value
    root_key = keys.open_key(home.read("offline/root-1/key.pem"), passphrase, "root", "secrets.yaml")
    root = project.authorities.issuing("root")
    assert root is not None
    key = keys.new_key("ec-p384")
    cert = certificate_signing.sign_certificate(
        certificate_signing.subject_name(
            config.organisation, f"{config.organisation} SANDBOX {authority.capitalize()} CA 2"
        ),
        key.public_key(),
        certificate_signing.validity_dates(project.now, config.authorities.server.lifetime, root.certificate),
        profiles.intermediate_extensions(authority, config.domains, permitted_addresses(config))
        + profiles.publication_extensions(config.publish.url, root.name),
        certificate_signing.Issuer(root.certificate, root_key),
    )
    secret = project.passphrases.new(name)
    artifact, profile = f"authority:{authority}", f"{authority}-ca"
    project.ledger.record_certificate(
        cert, issuer=root.name, artifact=artifact, profile=profile, reason="ceremony", at=project.now
    )
    project.ledger.close()
    filesystem.write(project.store.authority_file(name, "key.pem"), keys.encrypted_pem(key, secret), filesystem.SECRET)
    filesystem.write(project.store.authority_file(name, "cert.pem"), pem_encoding.pem_of([cert]))
