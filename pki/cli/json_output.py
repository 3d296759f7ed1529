"""What commands print with `--json`: one model each, of which `schema NAME` prints the JSON Schema."""

from __future__ import annotations

from datetime import datetime
from json import dumps
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer

from pki.common.reasons import Reason
from pki.deploy.receipt import instant

Moment = Annotated[datetime, PlainSerializer(instant, return_type=str)]  # UTC, in whole seconds


class Part(BaseModel):
    """A part of what is printed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(Part):
    """What a command prints. A field is never taken away or given another meaning without another `version`."""

    command: ClassVar[str]
    version: Literal[1] = 1
    at: Moment = Field(description="the moment to which all of it refers")

    def show(self) -> None:
        print(self.model_dump_json(indent=1, by_alias=True))


class ReasonOutput(Part):
    code: str = Field(description="the kind of reason, in capitals")
    text: str

    @classmethod
    def of(cls, reason: object) -> ReasonOutput:
        return cls(code=reason.code.name if isinstance(reason, Reason) else "STATED", text=str(reason))


class Remark(Part):
    subject: str
    text: str
    remedy: str = Field(description="what to type or do; empty where nothing is to be done")


class Due(Part):
    name: str = Field(description="an artifact, such as cert:media")
    reasons: list[ReasonOutput]


class Observed(Part):
    subject: str
    level: str = Field(description="ok, notice, warning or critical")
    text: str
    remedy: str


class PlanOutput(Output):
    command = "plan"
    to_do: list[Due] = Field(description="what the next run would do")
    up_to_date: int
    failed: list[Remark] = Field(description="keys that cannot be used, templates that cannot be read")
    actions_required: list[Remark]
    remarks: list[Remark]
    services: list[Observed] = Field(description="what the last look saw")


class StatusRow(Part):
    name: str
    state: str
    days_left: str
    next: str
    by: str


class StatusOutput(Output):
    command = "status"
    organisation: str
    sandbox: bool
    rows: list[StatusRow]
    actions_required: list[Remark]


class ExplainLine(Part):
    about: str
    text: str


class ExplainOutput(Output):
    command = "explain"
    name: str = Field(description="what was typed")
    understood: str = Field(description="how the name was understood, empty where it is that of the thing itself")
    subject: str
    lines: list[ExplainLine]


class CertificateEntry(Part):
    serial: str = Field(description="hexadecimal")
    artifact: str
    profile: str
    issuer: str
    subject: str
    names: list[str]
    not_before: Moment
    not_after: Moment
    state: Literal["valid", "expired", "revoked"]
    revoked: str = Field(description="the reason of the revocation, empty where it is not revoked")
    revoked_by: str
    issued_because: str
    by: str


class LedgerListOutput(Output):
    command = "ledger.list"
    certificates: list[CertificateEntry]


class CertificateWithPem(CertificateEntry):
    pem: str = Field(description="empty where the certificate was not there when it was imported")


class LedgerShowOutput(Output):
    command = "ledger.show"
    certificates: list[CertificateWithPem]


class LedgerVerifyOutput(Output):
    command = "ledger.verify"
    intact: bool
    events: int
    head: str = Field(description="hash of the newest event")
    faults: list[str]
    remedy: str


class CrlRead(Part):
    source: str = Field(description="the host, the file, or build/")
    authority: str = Field(description="a generation, such as client-1")
    number: int
    revoked: list[str] = Field(description="serial numbers that the ledger learnt, hexadecimal")
    number_is_new: bool


class LedgerRecoverOutput(Output):
    command = "ledger.recover"
    crls: list[CrlRead]
    foreign: list[Remark] = Field(description="CRLs that no authority of this project signed")
    without_crl: list[str] = Field(description="hosts and files that hold no CRL")
    failed: list[Remark] = Field(description="hosts that could not be asked")
    goes_on: bool = Field(description="whether a ledger that was behind is used again")


class LedgerAcceptLossOutput(Output):
    command = "ledger.accept-loss"
    lost: str = Field(description="what was seen of the ledger, and is not there")
    authorities: list[str] = Field(description="generations that the ledger knows again")
    revoked: list[str] = Field(description="serial numbers that the CRLs in build/ list, hexadecimal")
    crls: list[CrlRead] = Field(description="what the CRLs on hosts list")
    foreign: list[Remark]


class LedgerImportOutput(Output):
    command = "ledger.import"
    authority: str
    recorded: bool = Field(description="false with --dry-run")
    certificates: int = Field(description="those that were new")
    valid: int
    ended: int
    revocations: int
    without_certificate: int = Field(description="known from index.txt alone")
    known: int = Field(description="certificates that the ledger had already")
    left_out: list[str]


class Check(Part):
    subject: str
    topic: str
    level: str = Field(description="ok, notice, warning or critical")
    message: str
    code: str
    remedy: str
    since: str | None
    until: str | None


class HealthOutput(Output):
    command = "health"
    worst: str
    checks: list[Check] = Field(description="worst first")


class RhythmRow(Part):
    subject: str
    kind: str
    every: str = Field(description="as pki.yaml writes it: 7d, 1h")
    next: Moment
    times: int
    until: Moment


class EventRow(Part):
    at: Moment
    what: str
    subject: str
    text: str
    is_wrong: bool


class TimelineOutput(Output):
    command = "timeline"
    start: Moment = Field(serialization_alias="from", validation_alias=AliasChoices("from", "start"))
    until: Moment
    wrong: int = Field(description="events that should not happen")
    rhythms: list[RhythmRow]
    events: list[EventRow]
    renewals: dict[str, list[Moment]]


class ClientRow(Part):
    name: str
    email: str
    state: str
    until: str
    exported: str
    installed: str
    next: str


class ClientListOutput(Output):
    command = "client.list"
    clients: list[ClientRow]


class DeliveryRow(Part):
    at: str
    release: str
    what: str
    kept: bool = Field(description="whether deploy.rollback can go back to it")
    seen: str


class HistoryOutput(Output):
    command = "deploy.history"
    host: str
    deliveries: list[DeliveryRow]
    state: str


class DriftRow(Part):
    host: str
    reached: bool
    error: str
    remedy: str
    differences: list[ReasonOutput] = Field(description="what is not as it was deployed")
    waiting: int = Field(description="changes that wait for the next run")


class DriftOutput(Output):
    command = "deploy.drift"
    hosts: list[DriftRow]


MODELS: dict[str, type[Output]] = {
    one.command: one
    for one in (
        PlanOutput,
        StatusOutput,
        ExplainOutput,
        LedgerListOutput,
        LedgerShowOutput,
        LedgerVerifyOutput,
        LedgerRecoverOutput,
        LedgerAcceptLossOutput,
        LedgerImportOutput,
        HealthOutput,
        TimelineOutput,
        ClientListOutput,
        HistoryOutput,
        DriftOutput,
    )
}


def schema(command: str) -> str:
    """Return the JSON Schema of what a command prints."""
    found = MODELS[command].model_json_schema(mode="serialization")
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = f"{command} --json"
    return dumps(found, indent=2) + "\n"
