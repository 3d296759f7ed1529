"""Values for the templates of every host, each with a digest that shows whether it changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import crl_size
from pki.common import filesystem
from pki.common.cache import digest_of, file_state
from pki.common.errors import PkiError
from pki.config.identifiers import AUTHORITIES
from pki.config.leaf_certificates import leaf_name, service_names
from pki.config.model import Inventory
from pki.config.recipes import services_of
from pki.config.service_protocols import port_of
from pki.config.strict_model import StrictModel
from pki.deploy.release import SharedValue
from pki.project.project import Project
from pki.x509 import canonical

VARIABLES = {  # variable of templates → its meaning; `[]` is an entry of a list
    "host.name": "name of the host in pki.yaml",
    "host.network": "name of its network",
    "host.subnet": "first block of addresses of its network",
    "host.subnets": "all blocks of addresses of its network",
    "host.address": "its first address, or empty",
    "host.addresses": "all its addresses",
    "host.listens_on_ipv6": "whether its proxy listens on IPv6: the host has an IPv6 address in pki.yaml, or none in a network with IPv6",
    "host.port": "port on which its proxy accepts TLS",
    "host.proxy": "its proxy, such as nginx, or empty",
    "host.reload": "command that reloads its proxy: `reload` of pki.yaml, else the usual one, or empty",
    "host.validate": "command that checks the configuration of its proxy, or empty; with `reload` in pki.yaml only where the "
    "program is installed",
    "services[].name": "name of a service of the host in pki.yaml; services with wildcards are last",
    "services[].names": "DNS names and addresses of the service",
    "services[].url_hosts": "the same as in a URL: IPv6 addresses in brackets",
    "services[].upstream": "address of its upstream, with scheme",
    "services[].upstream_address": "host and port of its upstream",
    "services[].upstream_tls": "how an https upstream is verified (`is_verified`, `name`, `ca`), or nothing",
    "services[].access": "tls or mtls",
    "services[].upgrades": "values that the header Upgrade may have",
    "services[].leaf": "name of the certificate of the service",
    "recipes.NAME.leaf": "name of the certificate of the services with this recipe",
    "recipes.NAME.access": "their access: tls or mtls",
    "recipes.NAME.services": "their names in pki.yaml",
    "recipes.NAME.names": "their DNS names and addresses",
    "recipes.NAME.ports.PROTOCOL": "port of the service with this recipe that speaks PROTOCOL, such as mqtts",
    "leaf.tls": "name of the host's certificate for services with `access: tls`",
    "leaf.peer": "name of the host's certificate as a member of a cluster",
    "leaf.mtls": "name of the host's certificate for services with `access: mtls`",
    "revoked.client": "serial numbers on the CRLs of the client CA, for proxies that do not read CRLs",
    "too_large.crls": "generations whose CRL exceeds the size limit of the publishing host's proxy",
    "probes": "CNs of the test identities, whose requests a proxy should answer itself",
    "authority.NAME[].name": "a live generation of `root`, `server` or `client`, newest first",
    "authority.NAME[].subject": "its subject, as OpenSSL prints it",
    "authority.NAME[].common_name": "its CN",
    "authority.NAME[].base64": "its certificate, as base64 of the DER form",
    "inventory.KEY": "a key of pki.yaml, such as `inventory.domains` or `inventory.publish.host`",
    "generation": "in `deploy-target` of an artifact of an authority: the generation; of `upstream-ca:`: the service",
    "artifact(NAME)": "content of an artifact; the filter `sha256` returns its digest",
}


@dataclass(frozen=True, slots=True, repr=False)
class ConfigView:
    """A part of pki.yaml as templates see it: its fields and properties, without its methods."""

    _part: StrictModel

    def __getattr__(self, name: str) -> Any:
        part, kinds = self._part, type(self._part).__mro__
        is_property = any(isinstance(vars(kind).get(name), property) for kind in kinds if issubclass(kind, StrictModel))
        if not is_property and name not in {**type(part).model_fields, **(part.model_extra or {})}:
            raise AttributeError(f"{type(part).__name__!r} object has no attribute {name!r}")
        return _viewed(getattr(part, name))

    def __dir__(self) -> list[str]:
        return [*type(self._part).model_fields, *(self._part.model_extra or {})]

    def __str__(self) -> str:
        return str(self._part)


def _viewed(value: object) -> object:
    """Return a value of pki.yaml for templates: each section in it as a ConfigView, each other value as it is."""
    if isinstance(value, StrictModel):
        return ConfigView(value)
    if isinstance(value, dict):
        return {key: _viewed(part) for key, part in value.items()}
    return tuple(map(_viewed, value)) if isinstance(value, tuple) else value


class InventoryView(SharedValue):
    """pki.yaml as templates see it. A section is converted when a template first reads it, and then kept."""

    def __init__(self, config: Inventory) -> None:
        super().__init__()
        self._config = config
        self._view = ConfigView(config)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._view, name)
        vars(self)[name] = value  # from now on Python finds the attribute without calling __getattr__
        return value

    def __dir__(self) -> list[str]:
        return dir(self._view)

    def content(self, section: str) -> object:
        """Return a section of pki.yaml, or all of it, for the digest."""
        return self._config.model_dump(mode="json", include={section} if section else None)


def recipe_views(inventory: Inventory, name: str) -> dict[str, dict[str, Any]]:
    """Return the recipes of a host as its templates see them, by name."""
    host, views = inventory.hosts[name], dict[str, dict[str, Any]]()
    for recipe in sorted({service.recipe for service in host.services.values() if service.recipe}):
        services = services_of(host, recipe)
        access = next(iter(services.values())).access  # the same for all: `recipes.access_faults`
        views[recipe] = {
            "leaf": leaf_name(name, access),
            "access": access,
            "services": list(services),
            "names": list(
                dict.fromkeys(each for service in services for each in service_names(inventory, host, service))
            ),
            "ports": {settings.speaks: port_of(host, service) for service, settings in services.items()},
        }
    return views


class Generations(SharedValue):
    """The live generations of each authority, newest first, as templates see them.

    Templates make the issuer pins of proxies from these values.
    """

    def __init__(self, project: Project) -> None:
        super().__init__()
        self._project = project

    def __getattr__(self, authority: str) -> list[dict[str, str]]:
        if authority not in AUTHORITIES:
            raise AttributeError(authority)
        generations = [
            self._project.authorities.generation(name) for name in reversed(self._project.authorities.live(authority))
        ]
        return [
            {
                "name": generation.name,
                "subject": generation.subject,
                "common_name": generation.common_name,
                "base64": generation.base64,
            }
            for generation in generations
            if generation is not None
        ]

    def content(self, section: str) -> object:
        """Return the generations of one authority, or of all, for the digest."""
        return [getattr(self, authority) for authority in ([section] if section else AUTHORITIES)]


class Revoked(SharedValue):
    """The serial numbers on the CRLs of all live client authorities, for proxies without CRL support: `revoked.client`.

    Without a project it is empty: a host without mutual TLS needs none.
    """

    def __init__(self, project: Project | None) -> None:
        super().__init__()
        self._project = project
        self._file_state = 0  # of the CRLs when `_serials` was read from them
        self._serials: list[int] = []

    def _files(self) -> list[str]:
        project = self._project
        return [str(project.store.crl(name)) for name in project.authorities.live("client")] if project else []

    @property
    def client(self) -> list[int]:
        """Return the serial numbers; the CRLs are read again only after they changed."""
        files = self._files()
        state = file_state(files)
        if not state or state != self._file_state:
            self._serials = sorted(entry.serial_number for file in files for entry in _entries(file))
            self._file_state = state
        return self._serials

    def digest(self, section: str) -> str:
        """Return the digest, from the cache, so that a run without changes reads no CRL."""
        if self._project is None:
            return super().digest(section)
        return self._project.cache.cached("revoked.client", section, self._files(), lambda: digest_of(self.client))

    def content(self, _section: str) -> object:
        """Return the serial numbers, for the digest."""
        return self.client


def _entries(file: str) -> Iterable[x509.RevokedCertificate]:
    """Return the entries of the CRL in a file; nothing if the file does not exist. Raises PkiError if it is damaged."""
    if (data := filesystem.read(file)) is None:
        return ()
    try:
        if (crl := canonical.read_crl(data, Encoding.DER)) is not None:
            return list(crl)
    except canonical.UNREADABLE:
        pass  # the same error as for a file that contains no CRL
    raise PkiError(f"{file}: is damaged", "./run doit")


class TooLarge(SharedValue):
    """The CRLs that the proxy of the publishing host cannot serve: `too_large.crls`.

    Without a project it is empty: a host that publishes nothing needs none.
    """

    def __init__(self, project: Project | None) -> None:
        super().__init__()
        self._project = project

    @property
    def crls(self) -> list[str]:
        """Return the generations whose CRL exceeds the size limit."""
        if self._project is None:
            return []
        sizes = crl_size.sizes(self._project.inventory, self._project.store, self._project.authorities)
        return [crl.generation for crl in sizes if not crl.fits]

    def digest(self, _section: str) -> str:
        """Return the digest, never from the cache: a CRL may grow within a run."""
        return digest_of(self.crls)

    def content(self, _section: str) -> object:
        """Return the generations, for the digest."""
        return self.crls
