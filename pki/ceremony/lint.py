"""Lint certificates and CRLs with pkilint, which is independent of the library that signs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.config.name_fields import dns_name

DOMAIN_SYNTAX, URI_SYNTAX = "pkix.invalid_domain_name_syntax", "pkix.invalid_uri_syntax"
Signed = x509.Certificate | x509.CertificateRevocationList


def findings(signed: Signed, permitted: str = "") -> list[str]:
    """Return warnings and more severe findings as `code: text`, except those with the code `permitted`."""
    from pkilint.validation import ValidationFindingSeverity  # noqa: PLC0415 - takes 0.2 s to import

    container, document = _validators_and_document(signed)
    ignored_codes = _ignored_codes(signed) | {permitted}
    return [
        f"{description.finding.code}: {description.message}" if description.message else str(description.finding.code)
        for result in container.validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.WARNING  # FATAL is 0
        and description.finding.code not in ignored_codes
    ]


def _ignored_codes(signed: Signed) -> set[str]:
    """Return the codes of findings about the syntax of names, if all names of that type have a valid syntax.

    pkilint requires two labels and a last label without digits. RFC 5280 §4.2.1.6 and §4.2.1.10, OpenSSL, Go and NSS
    accept `lan` and `corp.lan3`, which private networks use.
    """
    codes = set[str]()
    if all(map(_is_host_name, _domains(signed))):
        codes.add(DOMAIN_SYNTAX)
    if all(_is_host_name(urlsplit(uri).hostname or "") for uri in _uris(signed)):
        codes.add(URI_SYNTAX)
    return codes


def _is_host_name(text: str) -> bool:
    try:
        return dns_name(text) == text
    except ValueError:
        return False


def _domains(signed: Signed) -> Iterator[str]:
    """Yield the DNS names in the name constraints of a certificate."""
    for extension in signed.extensions:
        if isinstance(constraints := extension.value, x509.NameConstraints):
            for name in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
                if isinstance(name, x509.DNSName):
                    yield name.value


def _uris(signed: Signed) -> Iterator[str]:
    """Yield the URIs of CRLs and CA certificates in a certificate."""
    for extension in signed.extensions:
        locations: list[x509.GeneralName] = []
        if isinstance(value := extension.value, x509.CRLDistributionPoints):
            locations = [location for point in value for location in point.full_name or ()]
        elif isinstance(value, x509.AuthorityInformationAccess):
            locations = [description.access_location for description in value]
        yield from (location.value for location in locations if isinstance(location, x509.UniformResourceIdentifier))


def _validators_and_document(signed: Signed) -> tuple[Any, Any]:
    """Return the validators for a certificate or a CRL, and the document that they check."""
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
