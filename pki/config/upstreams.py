"""Verification of https: upstreams for which pki.yaml names a DNS name or a CA, or disables verification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.errors import PkiError
from pki.common.pem import sections
from pki.config.fields import Proxy
from pki.config.model import Host, Inventory, Upstream
from pki.config.name_fields import dns_name

ARTIFACT = "upstream-ca"
FOLDER = PurePosixPath("/etc/doit-pki")
PROJECT_ROOTS = str(FOLDER / "roots.pem")
SYSTEM_STORES = {"debian": "/etc/ssl/certs/ca-certificates.crt", "rhel": "/etc/pki/tls/certs/ca-bundle.crt"}
PORTS = {"http": 80, "https": 443}
PRIVATE_LABELS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """The verification of an upstream, for templates: `name` is also the SNI; `ca` is the path of a file on the host."""

    is_verified: bool
    name: str
    ca: str

    def view(self) -> Mapping[str, object]:
        """Return the values for templates."""
        return {"is_verified": self.is_verified, "name": self.name, "ca": self.ca}


def upstream_tls(host: Host, service: str) -> UpstreamTls | None:
    """Return how the upstream of a service is verified; None for http:, and if pki.yaml does not configure it."""
    upstream = host.services[service].upstream
    if upstream is None or not is_explicit(upstream):
        return None
    if upstream.verify:
        return UpstreamTls(is_verified=False, name=upstream.name or "", ca="")
    if upstream.ca is None:
        ca = PROJECT_ROOTS
    elif upstream.ca == "system":
        ca = next((SYSTEM_STORES[store] for store in host.trust if store in SYSTEM_STORES), SYSTEM_STORES["debian"])
    else:
        ca = str(FOLDER / f"upstream-{service}.pem")
    return UpstreamTls(is_verified=True, name=upstream.name or upstream_host(upstream), ca=ca)


def is_explicit(upstream: Upstream) -> bool:
    """Return whether pki.yaml configures the verification of an upstream."""
    return bool(upstream.name or upstream.ca or upstream.verify)


def upstream_host(upstream: Upstream) -> str:
    """Return the host in the URL of an upstream."""
    return urlsplit(upstream.url).hostname or ""


def upstream_host_and_port(upstream: Upstream) -> str:
    """Return host and port of an upstream, for programs that do not accept a URL."""
    parts = urlsplit(upstream.url)
    return parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{PORTS[parts.scheme]}"


def cas(host: Host) -> Mapping[str, str]:
    """Return service → CA of its upstream: an external authority of pki.yaml, or a file of the project."""
    ca_by_service = {name: service.upstream.ca for name, service in host.services.items() if service.upstream}
    return {name: ca for name, ca in ca_by_service.items() if ca is not None and ca != "system"}


def ca_files(inventory: Inventory, host: Host) -> Mapping[str, str]:
    """Return service → file of the project with the CA of its upstream, without those of external authorities."""
    return {name: ca for name, ca in cas(host).items() if ca not in inventory.authorities.externals}


def find_faults(upstream: Upstream, proxy: Proxy | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the key and message of each fault of an upstream; `names` are those of the service."""
    if not is_explicit(upstream):
        return
    if urlsplit(upstream.url).scheme != "https":
        given_key = next(key for key in ("verify", "ca", "name") if getattr(upstream, key))
        yield given_key, f"{upstream.url} cannot be verified: expected https:, or no {given_key}"
        return
    if upstream.verify and upstream.ca:
        yield "verify", "none cannot be combined with ca: write one of them"
    has_name = bool(upstream.name) or _is_name(upstream_host(upstream))
    if upstream.ca and not upstream.verify and not has_name:
        yield (
            "ca",
            f"needs name: a DNS name in the certificate of {upstream_host_and_port(upstream)}; to see them: {show_command(upstream)}",
        )
    name = upstream.name or (upstream_host(upstream) if upstream.ca else "")
    # Apache verifies the name that it sends as Host: the only name of the service, or the host of the url
    is_name_of_apache = [name] == list(names) or name == upstream_host(upstream)
    if proxy == "apache" and name and not is_name_of_apache:
        port = upstream_host_and_port(upstream).rpartition(":")[2]
        yield (
            "name",
            f"apache verifies an upstream by the name in its url: write url: https://{name}:{port}, and make {name} resolve to it",
        )


def _is_name(text: str) -> bool:
    try:
        return bool(dns_name(text))
    except ValueError:
        return False


def show_command(upstream: Upstream) -> str:
    """Return the command that shows the names in the certificate of an upstream."""
    return f"openssl s_client -connect {upstream_host_and_port(upstream)} </dev/null | openssl x509 -noout -subject -ext subjectAltName"


def fetch_command(upstream: Upstream, file: str) -> str:
    """Return the command that writes the certificate of an upstream to a file."""
    return f"openssl s_client -connect {upstream_host_and_port(upstream)} </dev/null | openssl x509 >{file}"


def read_ca_certificates(data: bytes | None, file: str) -> bytes:
    """Return the certificates of a PEM or DER file of CAs as PEM.

    Raises PkiError if it has no certificate, contains a private key, or has no self-signed certificate: OpenSSL builds
    a chain up to a self-signed certificate.
    """
    hint = f"write the certificate of the CA that signed the upstream's certificate, or the upstream's own if it is self-signed, to {file}"
    if data is None:
        raise PkiError(f"{file}: does not exist", hint)
    if any(True for _ in sections(data, *PRIVATE_LABELS)):
        raise PkiError(f"{file}: contains a private key", f"copy the certificates alone: openssl x509 -in {file}")
    try:
        certificates = [x509.load_pem_x509_certificate(section.whole) for section in sections(data, "CERTIFICATE")]
        certificates = certificates or [x509.load_der_x509_certificate(data)]
        has_self_signed = any(certificate.subject == certificate.issuer for certificate in certificates)
    except UNREADABLE:
        raise PkiError(f"{file}: contains no readable certificate", hint) from None
    if not has_self_signed:
        issuer = certificates[-1].issuer.rfc4514_string()
        raise PkiError(f"{file}: contains no self-signed certificate: that of {issuer} is missing", hint)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
