"""Verify signatures and certificate paths with implementations other than the one that signed.

Signatures are verified by pyasn1 and PyCryptodome, which share no code with the signing library; paths by OpenSSL
(through pyOpenSSL, with CRLs) and by the verifier of `cryptography`, which is written in Rust.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

from pki.ceremony.lint import Signed
from pki.x509 import keys
from pki.x509.keys import PrivateKey

HASHES = {
    "1.2.840.10045.4.3.2": "SHA256",
    "1.2.840.10045.4.3.3": "SHA384",
    "1.2.840.113549.1.1.11": "SHA256",
}


def signature_fault(signed: Signed, issuer: x509.Certificate) -> str:
    """Return why PyCryptodome refuses the signature of a certificate or CRL, or "" when it accepts it."""
    from pyasn1.codec.der import decoder, encoder  # noqa: PLC0415 - takes 0.1 s to import
    from pyasn1_alt_modules import rfc5280  # noqa: PLC0415

    is_certificate = isinstance(signed, x509.Certificate)
    asn1_type = rfc5280.Certificate() if is_certificate else rfc5280.CertificateList()
    tree, rest = decoder.decode(signed.public_bytes(Encoding.DER), asn1Spec=asn1_type)
    to_be_signed = tree["tbsCertificate" if is_certificate else "tbsCertList"]
    outer_algorithm, inner_algorithm = tree["signatureAlgorithm"], to_be_signed["signature"]
    if rest or encoder.encode(outer_algorithm) != encoder.encode(inner_algorithm):
        return "its two signature algorithm fields differ"  # RFC 5280 §4.1.1.2
    algorithm = str(outer_algorithm["algorithm"])
    if algorithm not in HASHES:
        return f"its algorithm {algorithm} is not one that this project signs with"
    return _arithmetic_fault(HASHES[algorithm], encoder.encode(to_be_signed), tree["signature"].asOctets(), issuer)


def _arithmetic_fault(hash_name: str, content: bytes, signature: bytes, issuer: x509.Certificate) -> str:
    from importlib import import_module  # noqa: PLC0415

    from Crypto.PublicKey import ECC, RSA  # noqa: PLC0415 - as above
    from Crypto.Signature import DSS, pkcs1_15  # noqa: PLC0415

    digest = import_module(f"Crypto.Hash.{hash_name}").new(content)
    public = keys.public_der(issuer.public_key())
    verifier: Any
    if keys.key_kind(issuer.public_key()).startswith("rsa-"):
        verifier = pkcs1_15.new(RSA.import_key(public))
    else:
        verifier = DSS.new(ECC.import_key(public), "fips-186-3", encoding="der")
    try:
        verifier.verify(digest, signature)
    except ValueError as error:
        return f"its signature is not the issuer's ({error})"
    return ""


def openssl_fault(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList],
    at: datetime,
) -> str:
    """Return why OpenSSL refuses a chain (leaf first) at a time, or "". Uses X509_STRICT and, with CRLs, CRL_CHECK_ALL."""
    from OpenSSL import crypto  # noqa: PLC0415 - as above

    leaf, *intermediates = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        store = _with_trust(crypto.X509Store(), roots, crls, at)
        crypto.X509StoreContext(store, leaf, intermediates).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return ""


def handshake_fault(
    chain: Sequence[x509.Certificate], key: PrivateKey, roots: Sequence[x509.Certificate], at: datetime, purpose: str
) -> str:
    """Return why OpenSSL refuses a chain in a TLS handshake in memory, or "".

    `purpose` (server or client) is the side that presents the chain; the other side verifies it.
    """
    from OpenSSL import SSL  # noqa: PLC0415 - as above

    presenter, verifier = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
    for context in (presenter, verifier):  # a server needs a certificate even when the client presents the chain
        context.use_certificate(chain[0])
        context.use_privatekey(key)
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
    verifier.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *arguments: arguments[-1] == 1)
    _with_trust(verifier.get_cert_store(), roots, [], at)
    presenting, verifying = SSL.Connection(presenter), SSL.Connection(verifier)
    server, client = (presenting, verifying) if purpose == "server" else (verifying, presenting)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(10):  # more than the flights of a TLS handshake
        for side, other in ((client, server), (server, client)):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass  # this side has written its messages, and waits for the other side
            except SSL.Error as error:
                return str(error)
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(1 << 16))
    return ""


def _with_trust(
    store: Any, roots: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList], at: datetime
) -> Any:
    """Return an OpenSSL store after adding trusted roots, CRLs and the time of the verification to it."""
    from OpenSSL import crypto  # noqa: PLC0415 - as above

    flags = crypto.X509StoreFlags
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    for crl in crls:
        store.add_crl(crl)
    store.set_flags(flags.X509_STRICT | (flags.CRL_CHECK | flags.CRL_CHECK_ALL if crls else 0))
    store.set_time(at.astimezone(UTC))
    return store


def verifier_fault(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime, host: x509.GeneralName | None
) -> str:
    """Return why the verifier of `cryptography` refuses a server chain (for `host`) or client chain (None), or ""."""
    builder = verification.PolicyBuilder().time(at).store(verification.Store(list(roots)))
    try:
        if host is None:
            builder.build_client_verifier().verify(chain[0], list(chain[1:]))
        else:
            builder.build_server_verifier(host).verify(chain[0], list(chain[1:]))  # type: ignore[arg-type]
    except verification.VerificationError as error:
        return str(error)
    return ""
