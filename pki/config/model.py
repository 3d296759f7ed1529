"""The model of pki.yaml: one class for each section, with the default of each key.

`fields.py` defines the types of the fields, `validation.py` the rules between fields. A new key also needs its
description in `key_descriptions.py`, from which docs/reference/keys.md is made: `./run invoke docs --reference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from pki.config.authority_rules import NO_AUTHORITIES, AuthorityRules
from pki.config.delivery_window import Window
from pki.config.fields import (
    EMPTY_OR_MAPPING,
    SINGLE_OR_LIST,
    SINGLE_OR_NONEMPTY_LIST,
    UNSEEN,
    Access,
    Account,
    Batch,
    CommandLine,
    DatabaseAddress,
    Deliver,
    Destination,
    Fingerprint,
    KeyKind,
    LeafKeyKind,
    MailServer,
    MailUser,
    NotifyName,
    Organisation,
    ProbeRoute,
    ProfileName,
    Protocol,
    Proxy,
    PublishUrl,
    RecipeName,
    RelativeFile,
    Reload,
    SourceFile,
    Speaks,
    TextFile,
    TrustStore,
    UpstreamAddress,
    UpstreamCa,
    Verifier,
    upstream_address,
)
from pki.config.identifiers import ArtifactId
from pki.config.ip_addresses import Addresses, IpAddress, IpNetwork, Network, Networks, as_tuple, url_host
from pki.config.name_fields import (
    CLIENT_PREFIX,
    ClientDnsName,
    ClientName,
    DnsName,
    Domain,
    Email,
    Slug,
    SpiffeId,
    SubjectName,
    is_like_dns_name,
)
from pki.config.secret_sources import NO_SOURCES, Secrets, _secrets_in_one_file
from pki.config.strict_model import StrictModel
from pki.config.time_fields import Duration, Holiday, RenewSpread, TimeOfDay, Timeout

ALL_TEMPLATES = "all"  # in templates.without: every template of the program, and each that a later version adds


class ServerRule(StrictModel):
    """The profile of server certificates; with `rekey: new` each renewal generates a new key."""

    lifetime: Duration = timedelta(days=90)
    renew_before: Duration = timedelta(days=30)
    renew_spread: RenewSpread = timedelta(0)
    key: KeyKind = "ec-p256"
    rekey: Literal["new", "keep"] = "new"


class ClientRule(ServerRule):
    """The profile of client certificates."""

    lifetime: Duration = timedelta(days=180)


class Profiles(StrictModel):
    """The certificate profiles, each issued by the CA of the same name."""

    server: ServerRule = ServerRule()
    client: ClientRule = ClientRule()
    peer: ServerRule = ServerRule()


class Publish(StrictModel):
    """Where CRLs and CA certificates are published: the URL, and the host that serves it."""

    url: PublishUrl
    host: Slug

    @property
    def hostname(self) -> str:
        """Return the host name of the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def url_host(self) -> str:
        """Return the host as it is in the URL: an IPv6 address in brackets."""
        return url_host(self.hostname)

    @property
    def port(self) -> int:
        """Return the port of the URL, 80 by default."""
        return urlsplit(self.url).port or 80


class Upstream(StrictModel):
    """The backend of a service, and how an https: backend is verified.

    `name` must be in its certificate. `ca` is a file with the CA that signed the certificate, or with the self-signed
    certificate, or `system` for the trust store of the host. The default is the project's own roots.
    """

    url: UpstreamAddress
    name: DnsName | None = None
    ca: UpstreamCa | None = None
    verify: Literal["none"] | None = None

    def __str__(self) -> str:
        return self.url


def _address_alone(value: Any) -> Any:
    """Expand the short form `upstream: URL` to {url: URL}."""
    return {"url": upstream_address(value)} if isinstance(value, str) else value


class Service(StrictModel):
    """A service of a host: behind its proxy if it has an `upstream`, else a server that reads the files itself.

    `speaks` is its protocol, which says how TLS begins; `port` is that of such a server, by default the protocol's.
    `upgrade` lists protocols that the header Upgrade may name, besides WebSocket. `recipe` selects templates of the
    program for the server, `verifier` is the TLS library with which it checks clients.
    """

    upstream: Annotated[
        Upstream | None, BeforeValidator(_address_alone, json_schema_input_type=UpstreamAddress | Upstream | None)
    ] = None
    access: Access
    speaks: Speaks = "https"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    names: Annotated[tuple[SubjectName, ...], SINGLE_OR_LIST] = ()
    upgrade: Annotated[tuple[Protocol, ...], SINGLE_OR_LIST] = ()
    recipe: RecipeName | None = None
    verifier: Verifier | None = None

    @property
    def is_proxied(self) -> bool:
        """Return whether the service is behind the proxy of its host; else its server reads the files itself."""
        return self.upstream is not None

    @property
    def upgrades(self) -> list[str]:
        """Return every protocol that the header Upgrade may name, in the spelling that is sent to the upstream."""
        other_names = {name.lower(): name for name in self.upgrade if name.lower() != "websocket"}
        return ["websocket", *other_names.values()]


class Ssh(StrictModel):
    """The account, port and host name for ssh, where they differ from the ssh configuration."""

    user: Account | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    name: Destination | None = None


class DeliverCommand(StrictModel):
    """A command on this machine that brings the files of a host to where they are used."""

    command: CommandLine


class Host(StrictModel):
    """A host: how releases are delivered to it, its proxy and services, and the names in its certificates.

    With `scope: certificates`, only managed files with `deploy-artifact` are delivered. `trust` are the trust stores
    that the roots are installed in. Hosts of one `group` are never changed at the same time. `probe` is the route to its
    services: a jump host, `direct`, or `none`. `reload` is the command that reloads the proxy, where it is not the usual
    one. `peer` are the names in its certificate as a member of a cluster. With `shared: true`, its certificates may have names that belong to another host. `request` is the file with the certificate request (CSR) of a device that keeps its own key.
    """

    network: Slug
    address: Addresses | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    deliver: Deliver | DeliverCommand = "folder"
    ssh: Ssh = Ssh()
    scope: Literal["config", "certificates"] = "config"
    trust: Annotated[tuple[TrustStore, ...], SINGLE_OR_NONEMPTY_LIST, Field(min_length=1)] = ("debian",)
    window: Window | None = None
    group: Slug | None = None
    probe: ProbeRoute | None = None
    proxy: Proxy | None = None
    reload: Reload | None = None
    services: Annotated[dict[Slug, Service], EMPTY_OR_MAPPING] = {}
    names: Annotated[tuple[SubjectName, ...], SINGLE_OR_LIST] = ()
    peer: Annotated[tuple[SubjectName, ...], SINGLE_OR_LIST] = ()
    shared: bool = False
    key: LeafKeyKind | None = None
    rekey: Literal["new", "keep"] | None = None
    request: RelativeFile | None = None

    @property
    def addresses(self) -> tuple[IpAddress, ...]:
        """Return all addresses, in the order of pki.yaml; ssh connects to the first one."""
        return as_tuple(self.address)

    @property
    def transport(self) -> str:
        """Return how files get to the host: folder, ssh, local, none or command."""
        return "command" if isinstance(self.deliver, DeliverCommand) else self.deliver

    @property
    def is_probed(self) -> bool:
        """Return whether services are probed: by default those that files are delivered to with ssh or local."""
        return any(map(self.probes, self.services))

    def serves(self, service: str) -> bool:
        """Return whether a service uses the files of the host: by its proxy, or because it reads them itself."""
        return self.proxy is not None or (service in self.services and not self.services[service].is_proxied)

    def probes(self, service: str) -> bool:
        """Return whether a service is probed; one whose protocol cannot be asked from here never is."""
        if self.services[service].speaks in UNSEEN or self.probe == "none":
            return False
        return self.probe is not None or (self.transport in {"ssh", "local", "command"} and self.serves(service))

    @property
    def jump(self) -> str:
        """Return the jump host for probes, or "" for none."""
        return self.probe if self.is_probed and self.probe and self.probe != "direct" else ""


class Client(StrictModel):
    """A person (`email`), device or machine (`dns`; `uri` is one SPIFFE ID, X509-SVID §2) with at least one of these names."""

    email: Email | None = None
    dns: Annotated[tuple[ClientDnsName, ...], SINGLE_OR_LIST] = ()
    uri: SpiffeId | None = None
    key: LeafKeyKind | None = None
    rekey: Literal["new", "keep"] | None = None
    request: RelativeFile | None = None


class EmailAlert(StrictModel):
    """Recipients, sender and server of mail; the password of `user` is the secret `smtp`."""

    to: Annotated[tuple[Email, ...], SINGLE_OR_NONEMPTY_LIST, Field(min_length=1)]
    from_: Annotated[Email, Field(alias="from")]
    smtp: MailServer = "outbox"
    user: MailUser | None = None


class Alerts(StrictModel):
    """Recipients of alerts.

    `notify` lists names of secrets. Each secret is the URL of a notification service; it is a secret because it contains
    a token.
    """

    email: EmailAlert | None = None
    notify: Annotated[tuple[NotifyName, ...], SINGLE_OR_LIST] = ()


class Metrics(StrictModel):
    """The additional file for metrics, in the folder that node_exporter reads."""

    textfile: TextFile | None = None


class Ansible(StrictModel):
    """Options of Ansible: sizes of the batches of hosts, and the percentage of failed hosts that ends a run."""

    serial: Annotated[tuple[Batch, ...], SINGLE_OR_NONEMPTY_LIST, Field(min_length=1)] = ("20%",)
    max_fail_percentage: Annotated[int, Field(ge=0, le=100)] = 30
    forks: Annotated[int, Field(ge=1, le=1000)] = 20
    command: SourceFile = "ansible-runner"


class Deploy(StrictModel):
    """Options of deliveries; `ca` is how the machine that runs doit gets its own files.

    `progress_timeout` limits the time without progress and `host_timeout` the whole time of one host, for each engine.
    """

    engine: Literal["builtin", "ansible"] = "builtin"
    ansible: Annotated[Ansible, EMPTY_OR_MAPPING] = Ansible()
    ssh_config: RelativeFile | None = None
    ca: Literal["folder", "local"] = "folder"
    progress_timeout: Timeout = timedelta(seconds=120)
    host_timeout: Timeout = timedelta(minutes=10)


class TemplateOptions(StrictModel):
    """The program's templates that the project does not use: their paths below templates/, or `all`."""

    without: Annotated[tuple[RelativeFile, ...], SINGLE_OR_LIST] = ()


class Inventory(StrictModel):
    """The whole of pki.yaml: the desired state of the project."""

    organisation: Organisation
    domains: Annotated[tuple[Domain, ...], SINGLE_OR_NONEMPTY_LIST, Field(min_length=1)]
    permit_addresses: Annotated[tuple[Network, ...], SINGLE_OR_LIST] | None = None
    publish: Publish
    sandbox: bool = False
    roots: Annotated[tuple[Fingerprint, ...], SINGLE_OR_LIST] = ()
    secrets: Annotated[Secrets, BeforeValidator(_secrets_in_one_file, json_schema_input_type=str | Secrets)] = (
        NO_SOURCES
    )
    ledger: DatabaseAddress = "sqlite"
    authorities: Annotated[AuthorityRules, EMPTY_OR_MAPPING] = NO_AUTHORITIES
    profiles: Annotated[Profiles, EMPTY_OR_MAPPING] = Profiles()
    networks: Annotated[dict[Slug, Networks], EMPTY_OR_MAPPING] = {}
    hosts: Annotated[dict[Slug, Annotated[Host, EMPTY_OR_MAPPING]], EMPTY_OR_MAPPING] = {}
    clients: Annotated[dict[ClientName, Annotated[Client, EMPTY_OR_MAPPING]], EMPTY_OR_MAPPING] = {}
    alerts: Annotated[Alerts, EMPTY_OR_MAPPING] = Alerts()
    metrics: Annotated[Metrics, EMPTY_OR_MAPPING] = Metrics()
    deploy: Annotated[Deploy, EMPTY_OR_MAPPING] = Deploy()
    templates: Annotated[TemplateOptions, EMPTY_OR_MAPPING] | None = None
    schedule: Annotated[tuple[TimeOfDay, ...], SINGLE_OR_LIST] = ()
    holidays: Annotated[tuple[Holiday, ...], SINGLE_OR_LIST] = ()

    def blocks(self, network: str) -> tuple[IpNetwork, ...]:
        """Return the blocks of addresses of a network; without any if the network is not defined."""
        return as_tuple(self.networks.get(network))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A requested leaf (end-entity) certificate with its key.

    `name` never changes and is the same in doit, messages and the ledger. `declared` is its place in pki.yaml, or its
    template. `renew_before` includes the leaf's part of `renew_spread`. `request` is the file with the request of a
    device, or None. `is_canary` marks the canary, which is revoked when it is issued.
    """

    name: str
    profile: ProfileName
    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: LeafKeyKind
    rekey: bool
    lifetime: timedelta
    renew_before: timedelta
    request: str | None
    declared: str
    is_canary: bool = False
    uris: tuple[str, ...] = ()

    @property
    def client(self) -> str:
        """Return the name of the client, or "" for a server certificate: a host may be called client-x."""
        is_client = self.profile == "client" and self.name.startswith(CLIENT_PREFIX)
        return self.name.removeprefix(CLIENT_PREFIX) if is_client else ""

    def renewal_start(self, not_after: datetime) -> datetime:
        """Return when the renewal of a certificate that expires at `not_after` starts."""
        return not_after - self.renew_before

    @property
    def artifact(self) -> ArtifactId:
        """Return the identifier of the certificate in doit, messages and the ledger."""
        return ArtifactId("cert", self.name)

    @property
    def authority(self) -> ProfileName:
        """Return the issuing authority: it has the name of the profile."""
        return self.profile

    @property
    def is_named_like_dns(self) -> bool:
        """Return whether OpenSSL checks the CN of this client against the name constraints."""
        return self.profile == "client" and is_like_dns_name(self.common_name)

    @property
    def doc(self) -> str:
        """Return one line for `doit list`."""
        return f"the {self.profile} certificate {self.name} with its key and chain: {', '.join(self.names) or self.common_name}"

    @property
    def names(self) -> tuple[str, ...]:
        """Return all alternative names."""
        return self.dns + self.addresses + self.emails + self.uris
