"""Upstreams with https: that prove who they are in a way of their own: by a name, a CA, or not at all."""

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
from pki.config.fields import Proxy, dns_name
from pki.config.model import Host, Upstream

ARTIFACT = "upstream-ca"
FOLDER = PurePosixPath("/etc/doit-pki")
OURS = str(FOLDER / "roots.pem")
SYSTEM = {"debian": "/etc/ssl/certs/ca-certificates.crt", "rhel": "/etc/pki/tls/certs/ca-bundle.crt"}
PORTS = {"http": 80, "https": 443}
PRIVATE = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
MISTAKES = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a proxy verifies an upstream, as templates see it: `name` is sent as SNI too; `ca` is a file on the host."""

    is_verified: bool
    name: str
    ca: str

    def view(self) -> Mapping[str, object]:
        return {"is_verified": self.is_verified, "name": self.name, "ca": self.ca}


def tls_of(host: Host, service: str) -> Tls | None:
    """How the upstream of a service is verified; None for http:, and where pki.yaml leaves it to the proxy's template."""
    upstream = host.services[service].upstream
    if not is_explicit(upstream):
        return None
    if upstream.verify:
        return Tls(is_verified=False, name=upstream.name or "", ca="")
    if upstream.ca is None:
        ca = OURS
    elif upstream.ca == "system":
        ca = next((SYSTEM[store] for store in host.trust if store in SYSTEM), SYSTEM["debian"])
    else:
        ca = str(FOLDER / f"upstream-{service}.pem")
    return Tls(is_verified=True, name=upstream.name or host_of(upstream), ca=ca)


def is_explicit(upstream: Upstream) -> bool:
    """Whether pki.yaml says how an upstream proves who it is."""
    return bool(upstream.name or upstream.ca or upstream.verify)


def host_of(upstream: Upstream) -> str:
    return urlsplit(upstream.url).hostname or ""


def address_of(upstream: Upstream) -> str:
    """Host and port, for programs that take no URL."""
    parts = urlsplit(upstream.url)
    return parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{PORTS[parts.scheme]}"


def ca_files(host: Host) -> Mapping[str, str]:
    """The file, below the project, that holds the CA of an upstream, by service."""
    named = {name: service.upstream.ca for name, service in host.services.items()}
    return {name: ca for name, ca in named.items() if ca is not None and ca != "system"}


def faults(upstream: Upstream, proxy: Proxy | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with what an upstream says, each with its key; `names` are those of the service."""
    if not is_explicit(upstream):
        return
    if urlsplit(upstream.url).scheme != "https":
        given = next(key for key in ("verify", "ca", "name") if getattr(upstream, key))
        yield given, f"{upstream.url} proves nothing about itself: expected https:, or no {given}"
        return
    if upstream.verify and upstream.ca:
        yield "verify", "none excludes ca: write one of them"
    if upstream.ca and not upstream.name and not upstream.verify and not _is_name(host_of(upstream)):
        yield (
            "ca",
            f"needs name: a DNS name in the certificate of {address_of(upstream)}; to see them: {show(upstream)}",
        )
    name = upstream.name or (host_of(upstream) if upstream.ca else "")
    if proxy == "apache" and name and [name] != list(names) and name != host_of(upstream):
        port = address_of(upstream).rpartition(":")[2]
        yield (
            "name",
            f"apache verifies an upstream by the name in its url: write url: https://{name}:{port}, and let {name} lead there",
        )


def _is_name(text: str) -> bool:
    try:
        return bool(dns_name(text))
    except ValueError:
        return False


def show(upstream: Upstream) -> str:
    """The command that shows the names in the certificate of an upstream."""
    return f"openssl s_client -connect {address_of(upstream)} </dev/null | openssl x509 -noout -subject -ext subjectAltName"


def fetch(upstream: Upstream, file: str) -> str:
    """The command that writes the certificate of an upstream into a file."""
    return f"openssl s_client -connect {address_of(upstream)} </dev/null | openssl x509 >{file}"


def certificates(data: bytes | None, file: str) -> bytes:
    """The certificates of a file of CAs, PEM or DER, as PEM.

    Raises PkiError where it holds none, or a private key, or none that is signed by itself: programs with OpenSSL
    verify a certificate up to such a one.
    """
    hint = f"put the certificate of the CA that signed the upstream's there, or the upstream's own where it signed itself: {file}"
    if data is None:
        raise PkiError(f"{file}: is not there", hint)
    if any(True for _ in sections(data, *PRIVATE)):
        raise PkiError(f"{file}: holds a private key", f"copy the certificates alone: openssl x509 -in {file}")
    try:
        found = [x509.load_pem_x509_certificate(one.whole) for one in sections(data, "CERTIFICATE")]
        found = found or [x509.load_der_x509_certificate(data)]
        is_whole = any(one.subject == one.issuer for one in found)
    except MISTAKES:
        raise PkiError(f"{file}: holds no certificate that can be read", hint) from None
    if not is_whole:
        issuer = found[-1].issuer.rfc4514_string()
        raise PkiError(f"{file}: holds no certificate that signed itself: that of {issuer} is missing", hint)
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)
