"""Lifetimes, keys and CRLs of the authorities: `authorities` in pki.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from pki.config.fields import (
    EMPTY_OR_MAPPING,
    AdoptedFolder,
    AuthorityKeyKind,
    AuthorityName,
    RelativeFile,
    TokenAddress,
)
from pki.config.identifiers import ROOTS
from pki.config.name_fields import Domain
from pki.config.strict_model import StrictModel
from pki.config.time_fields import Duration

EXTERNAL_OVERLAP = timedelta(days=60)


class CrlRule(StrictModel):
    """The CRL of an intermediate or an adopted CA; a new one is issued every `refresh`."""

    lifetime: Duration = timedelta(days=21)
    refresh: Duration = timedelta(days=7)


class RootCrlRule(StrictModel):
    """The CRLs of a root: the current one and the next ones, `presigned` in all, are signed at a ceremony."""

    lifetime: Duration = timedelta(days=390)
    presigned: Annotated[int, Field(ge=1, le=24)] = 2


class RootRule(StrictModel):
    """The roots.

    A successor is created within `overlap`: the time from the end of a root's signing period to the last date on which
    the root can sign an intermediate with its full lifetime.
    """

    lifetime: Duration = timedelta(days=3650)
    key: AuthorityKeyKind = "ec-p384"
    overlap: Duration = timedelta(days=180)
    crl: RootCrlRule = RootCrlRule()


class IntermediateRule(StrictModel):
    """The server, client or peer CA; `overlap` is as for a root, `token` the PKCS#11 URI of the token with its key."""

    lifetime: Duration = timedelta(days=730)
    key: AuthorityKeyKind = "ec-p384"
    overlap: Duration = timedelta(days=60)
    crl: CrlRule = CrlRule()
    token: TokenAddress | None = None


class AdoptedRule(StrictModel):
    """An adopted CA: it was created elsewhere, its files are in the folder `adopt`, and only its CRLs are issued here."""

    adopt: AdoptedFolder
    crl: CrlRule = CrlRule()


class ExternalRule(StrictModel):
    """An external authority: an intermediate below our root, whose key is on the server of somebody else.

    `external` is the certificate request (CSR) that this server made. It issues server certificates within `domains`. A
    successor is requested within `overlap` before it expires.
    """

    external: RelativeFile
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]
    lifetime: Duration = timedelta(days=365)
    overlap: Duration = EXTERNAL_OVERLAP


def _other_authority(value: Any) -> Any:
    """Reject an unknown key of `authorities` that declares neither an adopted CA nor an external authority."""
    if isinstance(value, AdoptedRule | ExternalRule):
        return value
    if isinstance(value, dict) and {"adopt", "external"} & value.keys():
        return value
    raise PydanticCustomError("unknown_authority", "unknown key")


def _kind(value: Any) -> str:
    """Return the tag of a rule: the key that declares it, in brackets, so that messages can leave the tag out."""
    is_external = isinstance(value, ExternalRule) or (isinstance(value, dict) and "external" in value)
    return "[external]" if is_external else "[adopt]"


OtherRule = Annotated[
    Annotated[AdoptedRule, Tag("[adopt]")] | Annotated[ExternalRule, Tag("[external]")], Discriminator(_kind)
]


class AuthorityRules(StrictModel):
    """The CAs of the project. Every key other than those below names an adopted CA or an external authority.

    `peer` adds a CA for clusters whose members are servers and clients of one another. It is below a root of its own,
    which follows the rules of `root`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[
        AuthorityName,
        Annotated[OtherRule, BeforeValidator(_other_authority, json_schema_input_type=AdoptedRule | ExternalRule)],
    ]

    root: RootRule = RootRule()
    server: IntermediateRule = IntermediateRule()
    client: IntermediateRule = IntermediateRule()
    peer: Annotated[IntermediateRule | None, EMPTY_OR_MAPPING] = None

    @property
    def adopted(self) -> dict[str, AdoptedRule]:
        """Return the adopted CAs by name."""
        return {name: rule for name, rule in self.__pydantic_extra__.items() if isinstance(rule, AdoptedRule)}

    @property
    def externals(self) -> dict[str, ExternalRule]:
        """Return the external authorities by name."""
        return {name: rule for name, rule in self.__pydantic_extra__.items() if isinstance(rule, ExternalRule)}

    def intermediate(self, authority: str) -> IntermediateRule:
        """Return the rule of the `server`, `client` or `peer` CA; the default of a peer CA that pki.yaml no longer declares."""
        if authority == "peer":
            return self.peer or IntermediateRule()
        return self.server if authority == "server" else self.client

    @property
    def longest_intermediate(self) -> timedelta:
        """Return the longest lifetime of an intermediate that a root certifies."""
        externals = (rule.lifetime for rule in self.externals.values())
        peer = (self.peer.lifetime,) if self.peer else ()
        return max(self.server.lifetime, self.client.lifetime, *peer, *externals)

    def lifetime(self, authority: str) -> timedelta:
        """Return the lifetime of a new generation of the server, client or peer CA, or of an external authority."""
        external = self.externals.get(authority)
        return external.lifetime if external else self.intermediate(authority).lifetime

    def overlap(self, authority: str) -> timedelta:
        """Return the overlap of an authority; the default for an external one that pki.yaml no longer declares."""
        if authority in ROOTS:
            return self.root.overlap
        if authority in {"server", "client", "peer"}:
            return self.intermediate(authority).overlap
        external = self.externals.get(authority)
        return external.overlap if external else EXTERNAL_OVERLAP

    def is_adopted(self, name: str) -> bool:
        """Return whether `name` is an adopted CA: it was created elsewhere, and signs only CRLs here."""
        return name in self.adopted

    def crl_rule(self, generation: str) -> CrlRule:
        """Return lifetime and refresh time of the CRLs of an intermediate (`server-2`) or an adopted CA."""
        if adopted := self.adopted.get(generation):
            return adopted.crl
        return self.intermediate(generation.partition("-")[0]).crl


NO_AUTHORITIES = AuthorityRules.model_validate({})
