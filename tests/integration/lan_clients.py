"""The clients of the servers in `lan_servers`: the programs that people use, at one address, with one certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.demo.namespace_machine import Daemon
from tests.integration.fleet import fingerprint
from tests.integration.lan_servers import Lan

PROGRAMS = ("curl", "psql", "mosquitto_pub", "mosquitto_sub", "ldapsearch", "eapol_test", "openssl")
DIRECTORY = "directory.lab.internal"
EAPOL = """network={{
    key_mgmt=WPA-EAP
    eap=TLS
    identity="{name}"
    ca_cert="{roots}"
    client_cert="{identity}"
    private_key="{identity}"
}}
"""


@dataclass(frozen=True)
class Visit:
    """A client at one address of a server; `identity` is a PEM file with its key and certificate."""

    name: str
    identity: Path
    roots: Path
    address: str

    @property
    def literal(self) -> str:
        """The address as it is written before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address


Command = tuple[str | Path, ...]
Program = Callable[[Visit], Command]


def _curl(scheme: str, host: str, port: int, *options: str) -> Program:
    def command(visit: Visit) -> Command:
        place = f"{host}.lab.internal:{port}"
        login = ("--user", f"{visit.name}:", "--login-options", "AUTH=EXTERNAL") if scheme.startswith("imap") else ()
        return (
            *("curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--cacert", visit.roots),
            *("--cert", visit.identity, "--connect-to", f"{place}:{visit.literal}:{port}"),
            *(*login, *options, f"{scheme}://{place}/"),
        )

    return command


def _psql(visit: Visit) -> Command:
    files = f"sslrootcert={visit.roots} sslcert={visit.identity} sslkey={visit.identity}"
    place = f"host=db.lab.internal hostaddr={visit.address} user={visit.name} dbname=postgres sslmode=verify-full"
    return "psql", f"{place} {files}", "-XAtc", "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def _mosquitto(program: str, *options: str) -> Program:
    def command(visit: Visit) -> Command:
        files = ("--cafile", visit.roots, "--cert", visit.identity, "--key", visit.identity)
        return program, "-h", visit.address, "-p", "8883", *files, "-q", "1", "-t", "lan", *options

    return command


def _ldapsearch(scheme: str, *options: str) -> Program:
    def command(visit: Visit) -> Command:
        files = {"CACERT": visit.roots, "CERT": visit.identity, "KEY": visit.identity, "REQCERT": "demand"}
        variables = (f"LDAPTLS_{name}={value}" for name, value in files.items())
        # ldapsearch sends what is typed as server name, and GnuTLS refuses one with colons: /etc/hosts has the name of
        # the IPv6 address
        place = DIRECTORY if ":" in visit.address else visit.address
        return "env", *variables, "ldapsearch", "-x", "-H", f"{scheme}://{place}", *options, "-b", "", "-s", "base"

    return command


def _eapol_test(visit: Visit) -> Command:
    config = visit.identity.with_suffix(".eapol")
    config.write_text(EAPOL.format(name=visit.name, roots=visit.roots, identity=visit.identity))
    return "eapol_test", "-c", config, "-a", visit.address, "-s", "testing123", "-t", "10", "-o", _shown_to(visit)


def _shown_to(visit: Visit) -> Path:
    """The file for the certificate that a RADIUS server shows."""
    return visit.identity.with_suffix(".radius")


@dataclass(frozen=True)
class Service:
    """How one service is used by a program, and where openssl gets its certificate."""

    place: str
    program: Program
    port: int
    starttls: Command = ()

    @property
    def host(self) -> str:
        return self.place.partition("/")[0]

    def answers(self, network: Lan, visit: Visit) -> bool:
        """Whether the program of a client ends well."""
        return network.fleet.ca.run(*self.program(visit), check=False).returncode == 0

    def served(self, network: Lan, visit: Visit) -> str:
        """The fingerprint of the certificate that the service shows."""
        if self.host == "radius":
            assert self.answers(network, visit)
            chain = x509.load_pem_x509_certificates(_shown_to(visit).read_bytes())
            (leaf,) = (certificate for certificate in chain if "radius.lab.internal" in str(certificate.subject))
            return fingerprint(leaf.public_bytes(Encoding.PEM).decode())
        name = f"{'wiki' if self.host == 'web' else self.host}.lab.internal"
        place = ("-connect", f"{visit.literal}:{self.port}", "-servername", name)
        shown = network.fleet.ca.run("openssl", "s_client", *place, *self.starttls, check=False).stdout
        return fingerprint(shown)


RADIUS = Service("radius/wifi", _eapol_test, 1812)
TLS = (
    Service("web/wiki", _curl("https", "wiki", 443), 443),
    Service("db/postgres", _psql, 5432, ("-starttls", "postgres")),
    Service("broker/mqtts", _mosquitto("mosquitto_pub", "-m", "hello"), 8883),
    Service("directory/ldap", _ldapsearch("ldap", "-ZZ"), 389, ("-starttls", "ldap")),
    Service("directory/ldaps", _ldapsearch("ldaps"), 636),
    Service("mail/imap", _curl("imap", "mail", 143, "--ssl-reqd", "--request", "NOOP"), 143, ("-starttls", "imap")),
    Service("mail/imaps", _curl("imaps", "mail", 993, "--request", "NOOP"), 993),
    Service("mail/smtp", _curl("smtp", "mail", 587, "--ssl-reqd", "--request", "NOOP"), 587, ("-starttls", "smtp")),
    Service("mail/smtps", _curl("smtps", "mail", 465, "--request", "NOOP"), 465),
)


def subscriber(network: Lan, visit: Visit) -> Daemon:
    """A client that stays connected to the broker, and prints what others send."""
    daemon = network.fleet.ca.start("stdbuf", "-oL", *_mosquitto("mosquitto_sub", "-d")(visit))
    daemon.wait_for("SUBACK")
    return daemon


def publish(network: Lan, visit: Visit, text: str) -> None:
    """Send a text to the subscribers."""
    network.fleet.ca.run(*_mosquitto("mosquitto_pub", "-m", text)(visit))
