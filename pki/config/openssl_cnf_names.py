"""The names of OpenSSL for attributes of a subject, extensions and purposes of a request.

Short names, long names and OIDs, as OBJ_txt2obj(3) reads them: they are case-sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

CURVES = {
    "p-256": "ec-p256",
    "prime256v1": "ec-p256",
    "secp256r1": "ec-p256",
    "p-384": "ec-p384",
    "secp384r1": "ec-p384",
}
SERVER = {"serverAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.1"}
CLIENT = {"clientAuth", "TLS Web Client Authentication", "1.3.6.1.5.5.7.3.2"}
COMMON_NAME = {"CN", "commonName", "2.5.4.3"}
EMAIL_ADDRESS = {"emailAddress", "1.2.840.113549.1.9.1"}
ATTRIBUTES = frozenset(
    re.findall(
        r"\S+",
        """CN commonName 2.5.4.3 emailAddress C countryName ST stateOrProvinceName L localityName O organizationName OU
    organizationalUnitName SN surname GN givenName initials generationQualifier name title pseudonym serialNumber
    DC domainComponent UID userId street streetAddress postalCode postalAddress businessCategory description role mail
    rfc822Mailbox dnQualifier telephoneNumber unstructuredName unstructuredAddress x500UniqueIdentifier seeAlso owner
    organizationIdentifier jurisdictionC jurisdictionL jurisdictionST jurisdictionCountryName
    jurisdictionLocalityName jurisdictionStateOrProvinceName destinationIndicator""",
    )
)
EXTENSIONS = frozenset(
    re.findall(
        r"\S+",
        """subjectAltName extendedKeyUsage basicConstraints keyUsage nsCertType subjectKeyIdentifier authorityKeyIdentifier
    issuerAltName authorityInfoAccess subjectInfoAccess crlDistributionPoints issuingDistributionPoint freshestCRL
    certificatePolicies policyConstraints policyMappings inhibitAnyPolicy nameConstraints tlsfeature noCheck nsComment
    nsBaseUrl nsCaPolicyUrl nsRevocationUrl nsCaRevocationUrl nsRenewalUrl nsSslServerName privateKeyUsagePeriod
    proxyCertInfo sbgp-ipAddrBlock sbgp-autonomousSysNum""",
    )
)
READ_AS_TEXT = {"2.5.29.17": "subjectAltName", "2.5.29.37": "extendedKeyUsage", "2.5.29.19": "basicConstraints"}
CA_USES = {"keyCertSign", "cRLSign", "Certificate Sign", "CRL Sign"}
CA_TYPES = {"sslCA", "emailCA", "objCA", "SSL CA", "S/MIME CA", "Object Signing CA"}
TRUE, FALSE = {"TRUE", "true", "Y", "y", "YES", "yes"}, {"FALSE", "false", "N", "n", "NO", "no"}
OID = re.compile(r"[0-2](\.[0-9]+)+")
LIKE_A_NAME = re.compile(r"[A-Za-z0-9*._@-]+")

HINT = "OpenSSL refuses it too: correct it, or remove the line"


class ParsedValue(Protocol):
    """One value of a file; see `openssl_cnf_syntax.Value`."""

    @property
    def raw(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def fault(self) -> Exception | None: ...


class ParsedFile(Protocol):
    """A parsed file; see `openssl_cnf_syntax.Configuration`."""

    @property
    def sections(self) -> Mapping[str, Mapping[str, ParsedValue]]: ...
    def get(self, section: str, key: str) -> ParsedValue | None: ...
