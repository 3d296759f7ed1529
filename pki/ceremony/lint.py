"""What an independent linter says of a certificate or CRL."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

Signed = x509.Certificate | x509.CertificateRevocationList


def findings(signed: Signed, permitted: str = "") -> list[str]:
    """Warnings and worse, as `code: text`, but for the code that is `permitted`; none means that pkilint finds nothing."""
    from pkilint.validation import ValidationFindingSeverity  # noqa: PLC0415 - 0.2 s, which only a ceremony spends

    container, document = _prepared(signed)
    return [
        f"{found.finding.code}: {found.message}" if found.message else str(found.finding.code)
        for result in container.validate(document.root)
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.WARNING and found.finding.code != permitted  # FATAL is 0
    ]


def _prepared(signed: Signed) -> tuple[Any, Any]:
    """The validators for a certificate or a CRL, and the document that they look at."""
    from pkilint import loader, pkix  # noqa: PLC0415 - as above
    from pkilint.pkix import certificate, crl, extension, name  # noqa: PLC0415

    der = signed.public_bytes(Encoding.DER)
    if isinstance(signed, x509.Certificate):
        decoders = certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS)
        parts = [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ]
        container = certificate.create_pkix_certificate_validator_container(decoders, parts)
        return container, loader.RFC5280CertificateDocumentLoader().load_der_document(der)
    decoders = [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ]
    parts = [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([]),
        crl.create_extensions_validator_container([]),
    ]
    container = crl.create_pkix_crl_validator_container(decoders, parts)
    return container, loader.RFC5280CertificateListDocumentLoader().load_der_document(der)
