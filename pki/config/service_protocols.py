"""The protocols of services that are not behind a proxy: their ports, and what a revoked client can still use.

How TLS begins in each of them, and what is asked of a server, is in `deploy/questions.py`.
docs/how-to/services.md describes them in detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pki.config.fields import UNSEEN, Speaks
from pki.config.model import Host, Service
from pki.config.proxies import PROGRAMS, ServerProgram
from pki.config.recipes import verifier_of

NO_LIMIT = "no limit unless you set one"


@dataclass(frozen=True, slots=True)
class ServiceProtocol:
    """One protocol, as servers that read certificate, trust file and CRL themselves speak it.

    `port`: its port by default, 0 for none. `sessions`: what stays open of a client that is revoked. `limit`: the
    longest time that it stays open. `ending`: the command, or the step, on the host that ends it; `{serial}` is the
    revoked serial number in decimal. `caution`: why servers of this protocol may not refuse a revoked client, "" if they do with a CRL. `unseen`: why this machine cannot verify who is let in, "" if it can.
    """

    port: int
    sessions: str
    limit: str
    ending: str
    unseen: str = ""
    caution: str = ""

    @property
    def program(self) -> ServerProgram:
        """Return the server as the proxies are described: whether it reads CRLs, and that connections stay open."""
        if self.caution:
            return ServerProgram("", learns="", caveat=self.caution, is_dated=False, is_known=False)
        return ServerProgram("", caveat=f"{self.sessions} of a revoked client stay open: {self.limit}")

    def ending_for(self, serial: int) -> str:
        """Return how the open connections of a client are ended, by the serial number of its certificate."""
        return self.ending.replace("{serial}", str(serial))


_MAIL = ("a session that was begun", "until the client or an idle time-out of the server (smtp: 5 min) ends it")
_POSTFIX = "Postfix reads no CRL: it refuses a revoked client only by a fingerprint (check_ccert_access)"
_SMTP = ServiceProtocol(25, *_MAIL, "systemctl restart postfix", caution=_POSTFIX)
_IMAP = ServiceProtocol(
    143, "logins, also idle ones (IDLE),", f"{NO_LIMIT}, while the client renews IDLE", "doveadm kick USER"
)
_LDAP = ServiceProtocol(
    389, "bound connections", f"{NO_LIMIT} (idletimeout in slapd's configuration)", "systemctl restart slapd"
)

PROTOCOLS: Mapping[Speaks, ServiceProtocol] = {
    "https": ServiceProtocol(
        0,
        "open connections",
        "until the client or a time-out of the server ends them",
        "restart the server",
        caution="servers that are written in Go, such as Prometheus, read no CRL",
    ),
    "tls": ServiceProtocol(
        0, "open connections", NO_LIMIT, "restart the server", caution="some servers, such as Redis, read no CRL"
    ),
    "postgres": ServiceProtocol(
        5432,
        "sessions, such as those of connection pools,",
        f"{NO_LIMIT} (idle_session_timeout)",
        'psql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_ssl WHERE client_serial = {serial}"',
    ),
    "mysql": ServiceProtocol(
        3306, "sessions, such as those of connection pools,", "8 h without a query (wait_timeout)", "KILL USER 'NAME'"
    ),
    "smtp": _SMTP,
    "smtps": ServiceProtocol(465, *_MAIL, _SMTP.ending, caution=_POSTFIX),
    "imap": _IMAP,
    "imaps": ServiceProtocol(993, _IMAP.sessions, _IMAP.limit, _IMAP.ending),
    "ldap": _LDAP,
    "ldaps": ServiceProtocol(636, _LDAP.sessions, _LDAP.limit, _LDAP.ending),
    "mqtts": ServiceProtocol(8883, "connections with their subscriptions", NO_LIMIT, "systemctl restart mosquitto"),
    "openvpn": ServiceProtocol(
        1194,
        "tunnels",
        "1 h (reneg-sec: the server reads the CRL again then)",
        "systemctl restart openvpn-server@NAME, or `kill CN` at its management interface",
        "OpenVPN answers only to packets of its own protocol, which this program does not speak",
    ),
    "radius": ServiceProtocol(
        1812,
        "accesses to the network that were granted",
        f"{NO_LIMIT} (Session-Timeout, after which the access point asks again)",
        "disconnect the device at the access point or switch",
        "a RADIUS server answers only to access points and switches, with which it shares a secret",
    ),
}
assert {name for name, protocol in PROTOCOLS.items() if protocol.unseen} == UNSEEN


def protocol_of(service: Service) -> ServiceProtocol:
    """Return the protocol of a service that is not behind a proxy, as its server speaks it.

    A mail server that checks clients with GnuTLS is Exim, which reads CRLs; Postfix uses OpenSSL.
    """
    protocol = PROTOCOLS[service.speaks]
    if service.speaks in {"smtp", "smtps"} and verifier_of(service) == "gnutls":
        return replace(protocol, ending="systemctl restart exim4", caution="")
    return protocol


def port_of(host: Host, service: str) -> int:
    """Return the port of a service: that of the proxy, its own, or that of its protocol."""
    settings = host.services[service]
    return host.port if settings.is_proxied else settings.port or PROTOCOLS[settings.speaks].port


def program_of(host: Host, service: str) -> ServerProgram | None:
    """Return the program that serves a service: the proxy, or a server of its protocol; None without a proxy."""
    settings = host.services[service]
    if not settings.is_proxied:
        return protocol_of(settings).program
    return PROGRAMS[host.proxy] if host.proxy else None
