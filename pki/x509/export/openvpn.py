"""Configuration files of OpenVPN with everything in them (.ovpn): server, roots, certificate, and unencrypted key.

https://openvpn.net/community-resources/reference-manual-for-openvpn-2-6/, "INLINE FILE SUPPORT"
"""

from __future__ import annotations

from collections.abc import Sequence

from pki.x509.export.client_identity import ClientIdentity
from pki.x509.keys import private_pem
from pki.x509.pem_encoding import pem_of


def configuration(identity: ClientIdentity, remotes: Sequence[str], port: int, common_name: str) -> bytes:
    """Return the configuration of one client.

    `remotes` are the names and addresses of the server, which the client tries in this order. `common_name` is the CN of
    the server's certificate: certificates of other servers are refused, and those of clients too (remote-cert-tls).
    """
    lines = [
        f"# {identity.label}. It contains a private key: only its owner may read it.",
        "client",
        "dev tun",
        *(f"remote {remote} {port} {'udp6' if ':' in remote else 'udp'}" for remote in remotes),
        "resolv-retry 5",  # seconds for each remote: an address is tried after a name that is not known here
        "nobind",
        "remote-cert-tls server",
        f"verify-x509-name {common_name} name",
        "tls-version-min 1.2",
    ]
    blocks = {
        "ca": pem_of(identity.roots),
        "cert": pem_of([identity.certificate]),
        "extra-certs": pem_of(identity.chain),  # not in `ca`: the client CA must not vouch for servers
        "key": private_pem(identity.key),
    }
    inline = (f"<{name}>\n{pem.decode()}</{name}>" for name, pem in blocks.items())
    return "\n".join([*lines, *inline, ""]).encode()
