"""The nouns of pki.yaml: frozen, validated, without input, output or clock.

What the text of a field may say stands in `scalars.py`; rules between fields stand in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pki.config.fields import (
    CLIENT_PREFIX,
    EMPTY_OK,
    ONE_OK,
    ONE_OK_NONE_NOT,
    Access,
    Account,
    AdoptedFolder,
    AdoptedName,
    AuthorityKeyKind,
    Batch,
    ClientName,
    CommandLine,
    DatabaseAddress,
    Deliver,
    Destination,
    DnsName,
    Domain,
    Duration,
    Email,
    Fingerprint,
    Holiday,
    KeyKind,
    MailServer,
    MailUser,
    NotifyName,
    Organisation,
    Patience,
    ProbeWay,
    ProfileName,
    Protocol,
    Proxy,
    PublishUrl,
    RelativeFile,
    RenewSpread,
    SecretName,
    Slug,
    SourceFile,
    SubjectName,
    TextFile,
    TimeOfDay,
    TokenAddress,
    TrustStore,
    UpstreamAddress,
    UpstreamCa,
    Window,
    empty_is_mapping,
    is_like_dns_name,
    relative_file,
    upstream_address,
    word,
)
from pki.config.identifiers import ArtifactId, GenerationName


class Noun(BaseModel):
    """A part of pki.yaml: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CrlRule(Noun):
    lifetime: Duration = timedelta(days=21)
    refresh: Duration = timedelta(days=7)


class RootCrlRule(Noun):
    lifetime: Duration = timedelta(days=390)
    presigned: Annotated[int, Field(ge=1, le=24)] = 2


class RootRule(Noun):
    lifetime: Duration = timedelta(days=3650)
    key: AuthorityKeyKind = "ec-p384"
    overlap: Duration = timedelta(days=180)
    crl: RootCrlRule = RootCrlRule()


class IntermediateRule(Noun):
    lifetime: Duration = timedelta(days=730)
    key: AuthorityKeyKind = "ec-p384"
    overlap: Duration = timedelta(days=60)
    crl: CrlRule = CrlRule()
    token: TokenAddress | None = None


class AdoptedRule(Noun):
    """A CA that was made elsewhere, in the folder `adopt`: it signs CRLs here, and nothing else."""

    adopt: AdoptedFolder
    crl: CrlRule = CrlRule()


def _adopted(value: Any) -> Any:
    if isinstance(value, AdoptedRule) or (isinstance(value, dict) and "adopt" in value):
        return value
    raise PydanticCustomError("unknown_authority", "unknown key")


class Authorities(Noun):
    """Every further key names an adopted authority."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[
        AdoptedName,
        Annotated[AdoptedRule, BeforeValidator(_adopted, json_schema_input_type=AdoptedRule)],
    ]

    root: RootRule = RootRule()
    server: IntermediateRule = IntermediateRule()
    client: IntermediateRule = IntermediateRule()

    @property
    def adopted(self) -> dict[str, AdoptedRule]:
        return self.__pydantic_extra__

    def intermediate(self, authority: str) -> IntermediateRule:
        return self.server if authority == "server" else self.client


class ServerRule(Noun):
    lifetime: Duration = timedelta(days=90)
    renew_before: Duration = timedelta(days=30)
    renew_spread: RenewSpread = timedelta(0)
    key: KeyKind = "ec-p256"
    rekey: Literal["new", "keep"] = "new"


class ClientRule(ServerRule):
    lifetime: Duration = timedelta(days=180)


class Profiles(Noun):
    server: ServerRule = ServerRule()
    client: ClientRule = ClientRule()


class Publish(Noun):
    url: PublishUrl
    host: Slug

    @property
    def hostname(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80


class Upstream(Noun):
    """What a service passes requests on to, and how one with https: proves who it is.

    `name` must be in its certificate. `ca` is a file with the CA that signed it, or with the certificate itself, or
    `system`: the CAs that the host's system trusts. Our own roots are meant without it.
    """

    url: UpstreamAddress
    name: DnsName | None = None
    ca: UpstreamCa | None = None
    verify: Literal["none"] | None = None

    def __str__(self) -> str:
        return self.url


def _address_alone(value: Any) -> Any:
    """`upstream: URL` is short for {url: URL}."""
    return {"url": upstream_address(value)} if isinstance(value, str) else value


class Service(Noun):
    """`upgrade` are protocols that a client may ask for by the header Upgrade, besides WebSocket."""

    upstream: Annotated[Upstream, BeforeValidator(_address_alone, json_schema_input_type=UpstreamAddress | Upstream)]
    access: Access
    names: Annotated[tuple[SubjectName, ...], ONE_OK] = ()
    upgrade: Annotated[tuple[Protocol, ...], ONE_OK] = ()

    @property
    def upgrades(self) -> list[str]:
        """Every protocol that a client may ask for, in the spelling that the upstream is sent."""
        others = {name.lower(): name for name in self.upgrade if name.lower() != "websocket"}
        return ["websocket", *others.values()]


class Ssh(Noun):
    """How ssh reaches a host, where its own configuration does not say: account, port, the name it knows."""

    user: Account | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    name: Destination | None = None


class Host(Noun):
    network: Slug
    address: IPv4Address | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    deliver: Deliver = "folder"
    ssh: Ssh = Ssh()
    scope: Literal["config", "certificates"] = "config"
    trust: Annotated[tuple[TrustStore, ...], ONE_OK_NONE_NOT, Field(min_length=1)] = ("debian",)
    window: Window | None = None
    group: Slug | None = None
    probe: ProbeWay | None = None
    proxy: Proxy | None = None
    services: Annotated[dict[Slug, Service], EMPTY_OK] = {}
    names: Annotated[tuple[SubjectName, ...], ONE_OK] = ()
    shared: bool = False
    key: KeyKind | None = None
    rekey: Literal["new", "keep"] | None = None
    request: RelativeFile | None = None

    @property
    def is_probed(self) -> bool:
        """Whether its services are looked at from outside: where we deliver, unless it says otherwise itself."""
        if self.probe is None:
            return self.proxy is not None and self.deliver in {"ssh", "local"} and bool(self.services)
        return self.probe != "none" and bool(self.services)

    @property
    def jump(self) -> str:
        """The jump host before its services, where there is one to be asked."""
        return self.probe if self.is_probed and self.probe and self.probe != "direct" else ""


class Client(Noun):
    email: Email
    key: KeyKind | None = None
    rekey: Literal["new", "keep"] | None = None
    request: RelativeFile | None = None


class EmailAlert(Noun):
    """Where mail goes, and through which server; the password of `user` is the secret `smtp`."""

    to: Annotated[tuple[Email, ...], ONE_OK_NONE_NOT, Field(min_length=1)]
    from_: Annotated[Email, Field(alias="from")]
    smtp: MailServer = "outbox"
    user: MailUser | None = None


class Alerts(Noun):
    """Who is told: by mail, and by services whose addresses are secrets, because they hold tokens."""

    email: EmailAlert | None = None
    notify: Annotated[tuple[NotifyName, ...], ONE_OK] = ()


class Metrics(Noun):
    """Where a run leaves its metrics besides `build/report/`: a file in the folder that node_exporter reads."""

    textfile: TextFile | None = None


class Ansible(Noun):
    """How Ansible goes through a fleet: batch after batch, until too many hosts have failed."""

    serial: Annotated[tuple[Batch, ...], ONE_OK_NONE_NOT, Field(min_length=1)] = ("20%",)
    max_fail_percentage: Annotated[int, Field(ge=0, le=100)] = 30
    forks: Annotated[int, Field(ge=1, le=1000)] = 20
    command: SourceFile = "ansible-runner"


class Deploy(Noun):
    """How releases leave: `ca` says what becomes of the files of the machine that runs doit itself.

    A host may take `progress_timeout` without progress and `host_timeout` in all, whichever engine speaks with it.
    """

    engine: Literal["builtin", "ansible"] = "builtin"
    ansible: Annotated[Ansible, EMPTY_OK] = Ansible()
    ssh_config: RelativeFile | None = None
    ca: Literal["folder", "local"] = "folder"
    progress_timeout: Patience = timedelta(seconds=120)
    host_timeout: Patience = timedelta(minutes=10)


class Source(Noun):
    """Where one passphrase comes from: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    command: CommandLine | None = None
    credential: Annotated[str, word(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the name of a systemd credential")] | None = None
    env: Annotated[str, word(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")] | None = None
    file: SourceFile | None = None
    fd: Annotated[int, Field(ge=0, le=65535)] | None = None
    prompt: Literal["true"] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def said(self) -> str:
        """As messages name it: `command: pass show pki/server`."""
        [(kind, value)] = self.model_dump(exclude_none=True).items()
        return "the prompt" if kind == "prompt" else f"`{kind}: {value}`"


class Secrets(Noun):
    """`file` holds what is generated; every other key names one secret and its source."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[
        SecretName,
        Annotated[Source, BeforeValidator(_prompt, json_schema_input_type=Literal["prompt"] | Source)],
    ]

    file: RelativeFile = "secrets.yaml"

    @property
    def named(self) -> Mapping[str, Source]:
        """Every secret that has a source of its own."""
        return self.__pydantic_extra__

    def source(self, name: str) -> Source | None:
        """The source named for a secret: under its own name (`server-2`), or that of its authority (`server`)."""
        named = self.named
        return named.get(name) or named.get(GenerationName.parse(name).authority)

    @property
    def names(self) -> list[str]:
        """The secrets for which sources are named."""
        return list(self.__pydantic_extra__)

    def files(self) -> set[str]:
        """Files below the project that hold passphrases, that of its backups aside."""
        named = {source.file for name, source in self.named.items() if source.file and name != "backup"}
        return {self.file} | {file for file in named if not file.startswith("/")}


def _secrets_in_one_file(value: Any) -> Any:
    """`secrets: secrets.yaml` is short for a file that holds every passphrase."""
    return {"file": relative_file(value)} if isinstance(value, str) and value else empty_is_mapping(value)


def _prompt(value: Any) -> Any:
    if value == "prompt":
        return {"prompt": "true"}
    if not isinstance(value, dict | Source):
        raise ValueError("expected prompt, or a mapping such as {command: pass show pki/server}")  # noqa: TRY004 - pydantic
    return value


NO_SOURCES = Secrets.model_validate({})
NO_AUTHORITIES = Authorities.model_validate({})


class Inventory(Noun):
    """pki.yaml as a whole: what should be."""

    organisation: Organisation
    domains: Annotated[tuple[Domain, ...], ONE_OK_NONE_NOT, Field(min_length=1)]
    permit_addresses: Annotated[tuple[IPv4Network, ...], ONE_OK] | None = None
    publish: Publish
    sandbox: bool = False
    roots: Annotated[tuple[Fingerprint, ...], ONE_OK] = ()
    secrets: Annotated[Secrets, BeforeValidator(_secrets_in_one_file, json_schema_input_type=str | Secrets)] = (
        NO_SOURCES
    )
    ledger: DatabaseAddress = "sqlite"
    authorities: Annotated[Authorities, EMPTY_OK] = NO_AUTHORITIES
    profiles: Annotated[Profiles, EMPTY_OK] = Profiles()
    networks: Annotated[dict[Slug, IPv4Network], EMPTY_OK] = {}
    hosts: Annotated[dict[Slug, Annotated[Host, EMPTY_OK]], EMPTY_OK] = {}
    clients: Annotated[dict[ClientName, Annotated[Client, EMPTY_OK]], EMPTY_OK] = {}
    alerts: Annotated[Alerts, EMPTY_OK] = Alerts()
    metrics: Annotated[Metrics, EMPTY_OK] = Metrics()
    deploy: Annotated[Deploy, EMPTY_OK] = Deploy()
    schedule: Annotated[tuple[TimeOfDay, ...], ONE_OK] = ()
    holidays: Annotated[tuple[Holiday, ...], ONE_OK] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """An end-entity certificate with its key, as the inventory wants it.

    `name` is for life and the same in doit, messages and the ledger; `declared` is the place in pki.yaml (or the
    template) that a message about it names; `renew_before` is its own, its part of the profile's `renew_spread` included. One
    that `is_revoked` is so on purpose: issued, and revoked at once.
    """

    name: str
    profile: ProfileName
    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    key: KeyKind
    rekey: bool
    lifetime: timedelta
    renew_before: timedelta
    request: str | None
    declared: str
    is_revoked: bool = False

    @property
    def client(self) -> str:
        """The name of the client whose identity it is, empty for everything else: a host may be called client-x."""
        is_client = self.profile == "client" and self.name.startswith(CLIENT_PREFIX)
        return self.name.removeprefix(CLIENT_PREFIX) if is_client else ""

    @property
    def artifact(self) -> ArtifactId:
        """The certificate as doit, messages and the ledger name it."""
        return ArtifactId("cert", self.name)

    @property
    def authority(self) -> ProfileName:
        """A profile is issued by the authority of the same name."""
        return self.profile

    @property
    def is_named_like_dns(self) -> bool:
        """Whether OpenSSL holds the CN of this client against the name constraints."""
        return self.profile == "client" and is_like_dns_name(self.common_name)

    @property
    def doc(self) -> str:
        """One line for `doit list`."""
        return f"the {self.profile} certificate {self.name} with its key and chain: {', '.join(self.names) or self.common_name}"

    @property
    def names(self) -> tuple[str, ...]:
        return self.dns + self.addresses + self.emails
