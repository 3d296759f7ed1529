"""The recipes: ready-made sets of templates for servers that read certificate, trust file and CRL themselves.

Their templates are in `templates/recipes/NAME/`, with `# deploy-hosts: recipe:NAME`. They are used if a service in
pki.yaml has `recipe: NAME`, and only then. docs/how-to/recipes.md describes each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from pki.config.fields import Access, RecipeName, Speaks, Verifier
from pki.config.model import Host, Inventory, Service

FOLDER = "recipes/"  # below templates/


@dataclass(frozen=True, slots=True)
class Recipe:
    """One server: `title` is its name, `services` maps each service that `recipe.add` writes to its protocol.

    `setup` is the step on the host that lets the server read the delivered files; `{name}` in it is the first service.
    `ports` are those of services whose protocol has none. `verifier` is the TLS library with which it checks clients;
    `only_access` is the access that it can have, None for both. With `is_for_any_protocol`, the recipe delivers files for
    whatever server reads them.
    """

    title: str
    services: Mapping[str, Speaks]
    setup: str
    ports: Mapping[str, int] | None = None
    verifier: Verifier = "openssl"
    only_access: Access | None = None
    is_for_any_protocol: bool = False

    @property
    def protocols(self) -> tuple[Speaks, ...]:
        """Return the protocols that a service with this recipe may speak."""
        if self.is_for_any_protocol:
            return get_args(Speaks)
        return tuple(dict.fromkeys(self.services.values()))


RECIPES: Mapping[RecipeName, Recipe] = {
    "postgres": Recipe(
        "PostgreSQL",
        {"postgres": "postgres"},
        "add this line to postgresql.conf: include '/etc/doit-pki/postgres/postgresql.conf'; "
        "and to pg_hba.conf: hostssl all all all cert",
    ),
    "mariadb": Recipe(
        "MariaDB",
        {"mariadb": "mysql"},
        "after the first delivery: systemctl restart mariadb; then: CREATE USER 'doit-pki-probe'@'%' REQUIRE X509",
    ),
    "mosquitto": Recipe(
        "Mosquitto", {"mqtt": "mqtts"}, "after the first delivery: systemctl restart mosquitto, for the new listener"
    ),
    "openldap": Recipe(
        "OpenLDAP of Debian",
        {"ldap": "ldap", "ldaps": "ldaps"},
        "after the first delivery: ldapmodify -Y EXTERNAL -H ldapi:/// -f /etc/doit-pki/openldap/tls.ldif; "
        'and in /etc/default/slapd: SLAPD_SERVICES="ldap:/// ldaps:/// ldapi:///"',
        verifier="gnutls",
    ),
    "dovecot": Recipe(
        "Dovecot", {"imap": "imap", "imaps": "imaps"}, "after the first delivery: systemctl restart dovecot"
    ),
    "postfix": Recipe(
        "Postfix, for submission of mail",
        {"submission": "smtp", "submissions": "smtps"},
        "after the first delivery: sh /etc/doit-pki/postfix/setup.sh && systemctl restart postfix",
        ports={"submission": 587},
    ),
    "exim": Recipe(
        "Exim of Debian, for submission of mail",
        {"submission": "smtp", "submissions": "smtps"},
        "after the first delivery: add this line to /etc/exim4/exim4.conf.localmacros: .include /etc/doit-pki/exim/exim4.conf; "
        "then: systemctl restart exim4",
        ports={"submission": 587},
        verifier="gnutls",
    ),
    "redis": Recipe(
        "Redis",
        {"redis": "tls"},
        "add this line to redis.conf: include /etc/doit-pki/redis/redis.conf",
        {"redis": 6379},
    ),
    "prometheus": Recipe(
        "Prometheus",
        {"prometheus": "https"},
        'in /etc/default/prometheus: ARGS="--web.config.file=/etc/doit-pki/prometheus/web.yml"',
        {"prometheus": 9090},
    ),
    "grafana": Recipe(
        "Grafana",
        {"grafana": "https"},
        "in the section [server] of grafana.ini: protocol = https, cert_file = /etc/doit-pki/grafana/fullchain.pem, "
        "cert_key = /etc/doit-pki/grafana/key.pem",
        {"grafana": 3000},
        only_access="tls",
    ),
    "freeradius": Recipe(
        "FreeRADIUS, for EAP-TLS",
        {"radius": "radius"},
        "after the first delivery: ln -sf /etc/doit-pki/freeradius/eap /etc/freeradius/3.0/mods-enabled/eap; "
        "then: systemctl restart freeradius",
        only_access="mtls",
    ),
    "openvpn": Recipe(
        "OpenVPN",
        {"vpn": "openvpn"},
        "add this line to /etc/openvpn/server/server.conf: config /etc/doit-pki/openvpn/tls.conf",
        only_access="mtls",
    ),
    "compose": Recipe(
        "A container of Docker or Podman",
        {"app": "https"},
        "mount the folder, never a single file, in compose.yml: volumes: [/etc/doit-pki/compose:/etc/doit-pki/compose:ro]; "
        "the container is called like the service: container_name: app",
        {"app": 8443},
        is_for_any_protocol=True,
    ),
    "kubernetes": Recipe(
        "A Secret of Kubernetes",
        {"app": "https"},
        "kubectl must find a kubeconfig as root; the Secret is called like the service: app-tls",
        {"app": 8443},
        is_for_any_protocol=True,
    ),
}


def services_of(host: Host, recipe: str) -> dict[str, Service]:
    """Return the services of a host that use a recipe, by name."""
    return {name: service for name, service in host.services.items() if service.recipe == recipe}


def used_recipes(inventory: Inventory) -> frozenset[RecipeName]:
    """Return the recipes that services of pki.yaml name."""
    return frozenset(
        service.recipe for host in inventory.hosts.values() for service in host.services.values() if service.recipe
    )


def recipe_of_template(name: str) -> str:
    """Return the recipe that a template of the program belongs to, by its path below templates/; "" for none."""
    return name.removeprefix(FOLDER).partition("/")[0] if name.startswith(FOLDER) else ""


def verifier_of(service: Service) -> Verifier:
    """Return the TLS library with which the server of a service checks clients.

    Without `verifier`, it is that of the recipe; a directory server counts as Debian's slapd, which uses GnuTLS.
    """
    if service.verifier:
        return service.verifier
    if service.recipe:
        return RECIPES[service.recipe].verifier
    return "gnutls" if service.speaks in {"ldap", "ldaps"} and not service.is_proxied else "openssl"


def gnutls_services(host: Host) -> dict[str, Service]:
    """Return the services of a host whose server checks clients with GnuTLS, by name."""
    return {
        name: service
        for name, service in host.services.items()
        if service.access == "mtls" and not service.is_proxied and verifier_of(service) == "gnutls"
    }


def key_faults(service: Service) -> Iterator[tuple[str, str]]:
    """Yield the key and message of keys of a service that its recipe does not permit."""
    if service.recipe is None:
        return
    recipe = RECIPES[service.recipe]
    if service.upstream is not None:
        yield "recipe", "with upstream, the proxy has the certificate: leave out upstream or recipe"
    elif recipe.only_access == "tls" != service.access:
        yield "access", f"{recipe.title} checks no client certificates: write access: tls, or put it behind a proxy"
    elif recipe.only_access == "mtls" != service.access:
        yield "access", f"{recipe.title}: the recipe demands a client certificate: write access: mtls"
    elif service.speaks not in recipe.protocols:
        yield "speaks", f"{recipe.title} does not speak {service.speaks}: write speaks: {' or '.join(recipe.protocols)}"


def access_faults(host: Host) -> Iterator[tuple[str, str]]:
    """Yield the service and message of services with one recipe and different access: its server has one certificate."""
    for name, service in host.services.items():
        if service.recipe is None:
            continue
        first, settings = next(iter(services_of(host, service.recipe).items()))
        if settings.access != service.access:
            text = f"{first} has the same recipe and access: {settings.access}; write the same access, or no recipe"
            yield name, text


def service_settings(name: RecipeName, dns: list[str], access: str) -> dict[str, dict[str, str | list[str]]]:
    """Return the services of a recipe with the keys that pki.yaml has for each of them."""
    recipe, settings = RECIPES[name], dict[str, dict[str, str | list[str]]]()
    for service, speaks in recipe.services.items():
        port = (recipe.ports or {}).get(service)
        settings[service] = {"recipe": name, "speaks": speaks, **({"port": str(port)} if port else {})}
        settings[service] |= {"access": access, "names": dns}
    return settings


def default_access(name: RecipeName) -> Access:
    """Return the access of the services that `recipe.add` writes: mtls, unless the server checks no clients."""
    return RECIPES[name].only_access or "mtls"
