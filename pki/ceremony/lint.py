"""What an independent linter says of a certificate or CRL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.config.fields import dns_name

DOMAIN_SYNTAX, URI_SYNTAX = "pkix.invalid_domain_name_syntax", "pkix.invalid_uri_syntax"
Signed = x509.Certificate | x509.CertificateRevocationList


def findings(signed: Signed, permitted: str = "") -> list[str]:
    """Warnings and worse, as `code: text`, but for the code that is `permitted`; none means that pkilint finds nothing."""
    from pkilint.validation import ValidationFindingSeverity  # noqa: PLC0415 - 0.2 s, which only a ceremony spends

    container, document = _prepared(signed)
    spared = _spared(signed) | {permitted}
    return [
        f"{found.finding.code}: {found.message}" if found.message else str(found.finding.code)
        for result in container.validate(document.root)
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.WARNING  # FATAL is 0
        and found.finding.code not in spared
    ]


def _spared(signed: Signed) -> set[str]:
    """The findings of pkilint that do not count, for it wants host names of two labels, the last one without digits.

    RFC 5280 §4.2.1.6 and §4.2.1.10, OpenSSL, Go and NSS take `lan` and `corp.lan3`: networks at home have such names.
    """
    found = set[str]()
    if all(map(_is_host, _domains(signed))):
        found.add(DOMAIN_SYNTAX)
    if all(_is_host(urlsplit(uri).hostname or "") for uri in _addresses(signed)):
        found.add(URI_SYNTAX)
    return found


def _is_host(text: str) -> bool:
    try:
        return dns_name(text) == text
    except ValueError:
        return False


def _domains(signed: Signed) -> Iterator[str]:
    """The DNS names that a certificate permits or excludes."""
    for extension in signed.extensions:
        if isinstance(found := extension.value, x509.NameConstraints):
            for one in (*(found.permitted_subtrees or ()), *(found.excluded_subtrees or ())):
                if isinstance(one, x509.DNSName):
                    yield one.value


def _addresses(signed: Signed) -> Iterator[str]:
    """The addresses of CRLs and CA certificates in a certificate."""
    for extension in signed.extensions:
        places: list[x509.GeneralName] = []
        if isinstance(found := extension.value, x509.CRLDistributionPoints):
            places = [place for point in found for place in point.full_name or ()]
        elif isinstance(found, x509.AuthorityInformationAccess):
            places = [one.access_location for one in found]
        yield from (place.value for place in places if isinstance(place, x509.UniformResourceIdentifier))


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
