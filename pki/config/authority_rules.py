"""Lifetimes, keys and CRLs of the authorities: `authorities` in pki.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from pki.config.fields import AdoptedFolder, AdoptedName, AuthorityKeyKind, TokenAddress
from pki.config.strict_model import StrictModel
from pki.config.time_fields import Duration


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
    """The server or the client CA; `overlap` is as for a root, `token` the PKCS#11 URI of the token with its key."""

    lifetime: Duration = timedelta(days=730)
    key: AuthorityKeyKind = "ec-p384"
    overlap: Duration = timedelta(days=60)
    crl: CrlRule = CrlRule()
    token: TokenAddress | None = None


class AdoptedRule(StrictModel):
    """An adopted CA: it was created elsewhere, its files are in the folder `adopt`, and only its CRLs are issued here."""

    adopt: AdoptedFolder
    crl: CrlRule = CrlRule()


def _adopted(value: Any) -> Any:
    """Reject an unknown key of `authorities` that does not declare an adopted CA."""
    if isinstance(value, AdoptedRule) or (isinstance(value, dict) and "adopt" in value):
        return value
    raise PydanticCustomError("unknown_authority", "unknown key")


class AuthorityRules(StrictModel):
    """The CAs of the project. Every key other than root, server and client names an adopted CA."""

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
        """Return the adopted CAs by name."""
        return self.__pydantic_extra__

    def intermediate(self, authority: str) -> IntermediateRule:
        """Return the rule of the `server` or `client` CA."""
        return self.server if authority == "server" else self.client

    def is_adopted(self, name: str) -> bool:
        """Return whether `name` is an adopted CA: it was created elsewhere, and signs only CRLs here."""
        return name in self.adopted

    def crl_rule(self, generation: str) -> CrlRule:
        """Return lifetime and refresh time of the CRLs of an intermediate (`server-2`) or an adopted CA."""
        if adopted := self.adopted.get(generation):
            return adopted.crl
        return self.intermediate(generation.partition("-")[0]).crl


NO_AUTHORITIES = AuthorityRules.model_validate({})
