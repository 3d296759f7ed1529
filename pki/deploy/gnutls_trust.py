"""The trap of GnuTLS servers: with the root in its trust file, such a server accepts a server's certificate as a client.

GnuTLS does not check the purpose of a client certificate. So the trust file alone decides who is a client: it must have
the client authority and nothing else (artifact `trust:client-gnutls`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pki.common.errors import PkiError
from pki.config.model import Host, Service
from pki.config.recipes import gnutls_services
from pki.deploy.managed_files import ManagedFile

WITH_ROOT = {"trust:client-openssl", "trust:client-chain", "trust:roots", "ca-pem:root", "ca-pem:all"}
GNUTLS_PROGRAM = re.compile(r"\b(slapd|exim4?)\b")
SAFE = "deliver trust:client-gnutls; or, if the server uses OpenSSL: verifier: openssl of the service in pki.yaml"


def trust_faults(host: Host, files: tuple[ManagedFile, ...]) -> Iterator[PkiError]:
    """Yield the files with a root that are for a GnuTLS server of a host."""
    services = gnutls_services(host)
    for file in files if services else ():
        with_root = sorted(WITH_ROOT & file.artifacts)
        if with_root and (server := _server_of(file, host, services)):
            place = file.place("deploy-artifact" if "deploy-artifact" in file.headers else "deploy-target")
            what = f"{with_root[0]} has the root, and {server} uses GnuTLS: it would accept a server's certificate as a client"
            yield PkiError(f"{place}: {what}", SAFE)


def files_without_root(host: Host | None, files: tuple[ManagedFile, ...]) -> frozenset[str]:
    """Return the managed files of a host that must not contain a root, whatever their content is made of: see `preflight`."""
    services = gnutls_services(host) if host else {}
    if host is None or not services:
        return frozenset()
    return frozenset(file.name for file in files if _server_of(file, host, services))


def _server_of(file: ManagedFile, host: Host, services: Mapping[str, Service]) -> str:
    """Return the GnuTLS service that a file is for; "" for none.

    It is for the service that `deploy-hosts` names, also by its recipe, and for one whose program the commands of the file
    name. `trust:client-openssl` is only for servers: it is for a GnuTLS one if no other server of the host checks clients.
    """
    for name, service in services.items():
        if {f"service:{name}", f"recipe:{service.recipe}"} & {*file.selectors}:
            return name
    first = next(iter(services))
    if any(GNUTLS_PROGRAM.search(file.header(header)) for header in ("deploy-reload", "deploy-validate")):
        return first
    has_other_server = any(service.access == "mtls" and name not in services for name, service in host.services.items())
    is_for_servers = not {"trust:client-openssl", "trust:client-chain"}.isdisjoint(file.artifacts)
    is_for_others = any(selector.startswith(("service:", "recipe:", "proxy:")) for selector in file.selectors)
    return first if is_for_servers and not has_other_server and not is_for_others else ""
