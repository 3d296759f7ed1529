"""Six hosts with seven servers in a lab with IPv4 and IPv6, each with its recipe, and a machine that delivers over ssh.

Each server but nginx has the configuration that the page of its recipe asks for, and is stopped until its files are
there: where systemd would refuse to reload it, `systemctl` of these machines does what the page asks for once, and
starts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine
from tests.integration.fleet import Fleet
from tests.integration.postgres import PROGRAMS

NETWORK_4, NETWORK_6 = "192.0.2.{}", "fd00:77::{}"
NUMBERS = MappingProxyType({"web": 11, "db": 12, "broker": 13, "directory": 14, "mail": 15, "radius": 16})
INVENTORY = """\
organisation: Example Lab
domains: [lab.internal]
publish: {url: "http://pki.lab.internal", host: web}
sandbox: true
networks: {lan: [192.0.2.0/24, fd00:77::/64]}
deploy: {ssh_config: ssh_config}
profiles: {server: {lifetime: 20d, renew_before: 5d}}
clients:
  anna@laptop: {email: anna@lab.internal}
  ben@desk: {email: ben@lab.internal}
hosts:
"""
HOST = """\
  {name}:
    network: lan
    address: [{addresses}]
    deliver: ssh
"""
WEB = """\
    proxy: nginx
    services:
      wiki: {upstream: "http://127.0.0.1:3000", access: mtls}
"""
SERVICE = "      {service}: {{recipe: {recipe}, speaks: {speaks}, access: mtls, names: [{name}.lab.internal, {addresses}]{port}}}\n"
PORTS = MappingProxyType({"smtp": ", port: 587"})  # other mail servers come to port 25, and have no certificate
SERVICES: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(  # host → service → recipe, protocol
    {
        "db": {"postgres": ("postgres", "postgres")},
        "broker": {"mqtts": ("mosquitto", "mqtts")},
        "directory": {"ldap": ("openldap", "ldap"), "ldaps": ("openldap", "ldaps")},
        "mail": {
            "imap": ("dovecot", "imap"),
            "imaps": ("dovecot", "imaps"),
            "smtp": ("postfix", "smtp"),
            "smtps": ("postfix", "smtps"),
        },
        "radius": {"wifi": ("freeradius", "radius")},
    }
)
SYSTEMCTL = """\
#!/bin/sh
# systemctl for servers that the lab's own does not know: /etc/units/NAME has the file that it needs, its pid file, and
# how it is started and reloaded. One that is stopped is started as soon as its file is there.
set -u
if [ "$#" -ne 2 ] || [ ! -e "/etc/units/$2" ]; then exec /usr/local/sbin/systemctl.lab "$@"; fi
. "/etc/units/$2"
is_active() { number=$(head -n 1 "$pid_file" 2>/dev/null) && kill -0 $number 2>/dev/null; }
wait_until() { tries=500; until "$@"; do tries=$((tries - 1)); [ "$tries" -gt 0 ] || exit 1; sleep 0.02; done; }
is_stopped() { ! is_active; }
exec </dev/null >>"/var/log/$2.log" 2>&1
if is_active; then
    echo "$1 $2" >>/var/log/systemctl.log
    if [ "$1" = reload ]; then reload; exit; fi
    kill "$number"
    wait_until is_stopped
fi
[ -e "$needs" ] && start && wait_until is_active
"""
DATA = "/var/lib/postgresql/lan"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"
UNITS = MappingProxyType(
    {
        "postgresql": f"""\
needs=/etc/doit-pki/postgres/postgresql.conf
pid_file={DATA}/postmaster.pid
start() {{ {AS_POSTGRES} {PROGRAMS}/pg_ctl -D {DATA} -w -l {DATA}/log start; }}
reload() {{ kill -HUP "$number"; }}
""",
        "mosquitto": """\
needs=/etc/mosquitto/conf.d/doit-pki.conf
pid_file=/run/mosquitto/pid
start() { mosquitto -d -c /etc/mosquitto/mosquitto.conf; }
reload() { kill -HUP "$number"; }
""",
        "slapd": """\
needs=/etc/doit-pki/openldap/tls.ldif
pid_file=/run/slapd/slapd.pid
start() {
    slapmodify -F /etc/ldap/lan.d -n 0 -l /etc/doit-pki/openldap/tls.ldif && chown -R openldap /etc/ldap/lan.d &&
        slapd -u openldap -g openldap -F /etc/ldap/lan.d -h 'ldap:/// ldaps:///'
}
""",
        "dovecot": """\
needs=/etc/dovecot/conf.d/99-doit-pki.conf
pid_file=/run/dovecot/master.pid
start() { dovecot -c /etc/dovecot/dovecot.conf; }
reload() { doveadm -c /etc/dovecot/dovecot.conf reload; }
""",
        "postfix": """\
needs=/etc/doit-pki/postfix/setup.sh
pid_file=/var/spool/postfix/pid/master.pid
start() { sh /etc/doit-pki/postfix/setup.sh && postfix start; }
reload() { postfix reload; }
""",
        "freeradius": """\
needs=/etc/doit-pki/freeradius/eap
pid_file=/run/freeradius/pid
start() { freeradius -d /etc/freeradius/lan -n radiusd -l /var/log/radiusd.log; }
""",
    }
)
HBA = "local all all trust\nhostssl all all all cert\n"
POSTGRES = """\
listen_addresses = '*'
fsync = off
include '/etc/doit-pki/postgres/postgresql.conf'
"""
MOSQUITTO = "pid_file /run/mosquitto/pid\ninclude_dir /etc/mosquitto/conf.d\n"
SLAPD = """\
include /etc/ldap/schema/core.schema
pidfile /run/slapd/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=lab
directory /var/lib/ldap/lan
"""
DOVECOT = """\
protocols = imap
listen = *, ::
log_path = /var/log/dovecot.log
auth_mechanisms = plain
mail_location = maildir:/srv/mail/%u
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/srv/mail/%u
}
!include /etc/dovecot/conf.d/99-doit-pki.conf
"""
POSTFIX = """\
compatibility_level = 3.6
inet_interfaces = all
inet_protocols = all
myhostname = mail.lab.internal
mydestination =
maillog_file = /var/log/postfix.log
"""
RADIUSD = """\
prefix = /usr
logdir = /var/log
libdir = /usr/lib/freeradius
run_dir = /run/freeradius
pidfile = /run/freeradius/pid
max_requests = 1024
security {
    user = freerad
    group = freerad
    allow_vulnerable_openssl = yes
}
client lan4 {
    ipaddr = 192.0.2.0/24
    secret = testing123
    require_message_authenticator = no
}
client lan6 {
    ipv6addr = fd00:77::/64
    secret = testing123
    require_message_authenticator = no
}
modules {
    $INCLUDE /etc/doit-pki/freeradius/eap
}
server default {
    listen {
        type = auth
        ipaddr = *
        port = 1812
    }
    listen {
        type = auth
        ipv6addr = ::
        port = 1812
    }
    authorize {
        eap
    }
    authenticate {
        eap
    }
}
"""


@dataclass(frozen=True)
class Lan:
    """The machines, and the project that the machine `ca` works on."""

    fleet: Fleet

    @property
    def roots(self) -> Path:
        """The root certificate, which every client has."""
        return self.fleet.home / "build/trust/roots.pem"

    def process(self, host: str, unit: str) -> int:
        """The process id of a server on its machine."""
        machine = self.fleet.hosts[host]
        path = "/run/nginx.pid" if unit == "nginx" else _pid_file(unit)
        return int(machine.read(path).split()[0])

    def create_roles(self, *names: str) -> None:
        """Let clients log in at PostgreSQL, where the name in the certificate is the role."""
        for name in names:
            line = (*AS_POSTGRES.split(), "psql", "-U", "postgres", "-XAtc", f'CREATE ROLE "{name}" LOGIN')
            self.fleet.hosts["db"].run(*line)


def addresses_of(name: str) -> tuple[str, str]:
    """The addresses of a host; ssh takes the first one: IPv6 for every second host."""
    number = NUMBERS[name]
    four, six = NETWORK_4.format(number), NETWORK_6.format(number)
    return (six, four) if number % 2 else (four, six)


def _pid_file(unit: str) -> str:
    matched = re.search(r"pid_file=(\S+)", UNITS[unit])
    assert matched
    return matched[1]


@contextmanager
def lan(home: Path) -> Iterator[Lan]:
    """Every host bootstrapped, nothing delivered yet; nginx runs, and the other servers are stopped."""
    (home / "templates").mkdir(parents=True)
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    inventory, known = INVENTORY, ""
    with Lab({"lan": "fd00:77::/64"}) as lab:
        ca, hosts = lab.machine("ca", address=NETWORK_6.format(10)), dict[str, NamespaceMachine]()
        lab.add_address(ca, f"{NETWORK_4.format(10)}/24")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        for name, number in NUMBERS.items():
            host = hosts[name] = lab.machine(name, address=NETWORK_6.format(number), names=[f"{name}.lab.internal"])
            lab.add_address(host, f"{NETWORK_4.format(number)}/24")
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.serve("ssh")
            known += f"{addresses_of(name)[0]} {host.host_key()}\n"
            inventory += _host(name)
            PREPARED[name](host)
        (home / "known_hosts").write_text(known)
        (home / "pki.yaml").write_text(inventory)
        fleet = Fleet(lab, home, ca, hosts)
        first, *others = hosts
        fleet.program("invoke", "deploy.bootstrap", first)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: fleet.program("invoke", "deploy.bootstrap", name), others))
        ca.run("rm", "/root/.ssh/id_ed25519")
        yield Lan(fleet)


def _host(name: str) -> str:
    addresses = ", ".join(f'"{address}"' for address in addresses_of(name))
    text = HOST.format(name=name, addresses=addresses)
    if name not in SERVICES:
        return text + WEB
    return f"{text}    services:\n" + "".join(
        SERVICE.format(
            service=service, recipe=recipe, speaks=speaks, name=name, addresses=addresses, port=PORTS.get(service, "")
        )
        for service, (recipe, speaks) in SERVICES[name].items()
    )


# -- the servers ------------------------------------------------------------------------------------------------------


def _install(host: NamespaceMachine, *units: str) -> None:
    """Let systemctl know the units of a host."""
    host.run("mv", "/usr/local/sbin/systemctl", "/usr/local/sbin/systemctl.lab")
    host.write("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755)
    for unit in units:
        host.write(f"/etc/units/{unit}", UNITS[unit])


def _prepare_web(host: NamespaceMachine) -> None:
    host.start("python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "3000")
    host.serve("nginx")


def _prepare_db(host: NamespaceMachine) -> None:
    _install(host, "postgresql")
    host.run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "0700", DATA)
    host.run("install", "-d", "-o", "postgres", "-g", "postgres", "/run/postgresql")
    line = f"{AS_POSTGRES} {PROGRAMS}/initdb -D {DATA} -U postgres --auth=trust --no-sync"
    host.run(*line.split())
    host.write(f"{DATA}/pg_hba.conf", HBA)
    host.run("tee", "-a", f"{DATA}/postgresql.conf", stdin=POSTGRES)


def _prepare_broker(host: NamespaceMachine) -> None:
    _install(host, "mosquitto")
    host.run("install", "-d", "-o", "mosquitto", "/run/mosquitto")
    host.write("/etc/mosquitto/mosquitto.conf", MOSQUITTO)


def _prepare_directory(host: NamespaceMachine) -> None:
    _install(host, "slapd")
    host.run("install", "-d", "-o", "openldap", "-g", "openldap", "/run/slapd", "/var/lib/ldap/lan", "/etc/ldap/lan.d")
    host.write("/etc/ldap/lan.conf", SLAPD)
    host.run(
        "slaptest", "-f", "/etc/ldap/lan.conf", "-F", "/etc/ldap/lan.d", check=False
    )  # complains of the new database
    host.run("chown", "-R", "openldap", "/var/lib/ldap/lan")


def _prepare_mail(host: NamespaceMachine) -> None:
    _install(host, "dovecot", "postfix")
    host.run("install", "-d", "-o", "nobody", "/srv/mail")
    host.write("/etc/dovecot/dovecot.conf", DOVECOT)
    host.write("/etc/postfix/main.cf", POSTFIX)
    master = re.sub(r"(?m)^smtp +inet .*$", "", Path("/etc/postfix/master.cf.proto").read_text())
    host.write("/etc/postfix/master.cf", master)


def _prepare_radius(host: NamespaceMachine) -> None:
    _install(host, "freeradius")
    host.run("install", "-d", "-o", "freerad", "-g", "freerad", "/run/freeradius", "/etc/freeradius/lan")
    host.write("/etc/freeradius/lan/radiusd.conf", RADIUSD)
    host.write("/etc/freeradius/lan/dictionary", "")
    host.run("install", "-o", "freerad", "/dev/null", "/var/log/radiusd.log")


PREPARED = MappingProxyType(
    {
        "web": _prepare_web,
        "db": _prepare_db,
        "broker": _prepare_broker,
        "directory": _prepare_directory,
        "mail": _prepare_mail,
        "radius": _prepare_radius,
    }
)
