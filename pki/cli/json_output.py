"""The output of commands with `--json`: one model for each command; `schema NAME` prints its JSON Schema."""

from __future__ import annotations

from datetime import datetime
from json import dumps
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer

from pki.common.reasons import Reason
from pki.common.timestamps import instant

Moment = Annotated[datetime, PlainSerializer(instant, return_type=str)]  # UTC, in whole seconds


class Part(BaseModel):
    """A part of an output: no other fields are permitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(Part):
    """The output of a command. A field is never removed, and never changes its meaning, without a new `version`."""

    command: ClassVar[str]
    version: Literal[1] = 1
    at: Moment = Field(description="the time to which the output refers")

    def show(self) -> None:
        """Print the output as JSON."""
        print(self.model_dump_json(indent=1, by_alias=True))


class ReasonOutput(Part):
    """A reason: its code and its text."""

    code: str = Field(description="the kind of reason, in capitals")
    text: str

    @classmethod
    def of(cls, reason: object) -> ReasonOutput:
        """Return a reason with its code; a text without a code has the code STATED."""
        return cls(code=reason.code.name if isinstance(reason, Reason) else "STATED", text=str(reason))


class Remark(Part):
    """Something to know or to do about a subject."""

    subject: str
    text: str
    remedy: str = Field(description="what to type or do; empty if nothing is to be done")


class Due(Part):
    """An artifact that the next run makes, and why."""

    name: str = Field(description="an artifact, such as cert:media")
    reasons: list[ReasonOutput]


class Observed(Part):
    """The result of the last check of a service."""

    subject: str
    level: str = Field(description="ok, notice, warning or critical")
    text: str
    remedy: str


class PlanOutput(Output):
    """Output of `plan`."""

    command = "plan"
    to_do: list[Due] = Field(description="what the next run would do")
    up_to_date: int
    failed: list[Remark] = Field(description="keys that cannot be used, templates that cannot be read")
    actions_required: list[Remark]
    remarks: list[Remark]
    services: list[Observed] = Field(description="results of the last check of each service")


class StatusRow(Part):
    """One row of `status`."""

    name: str
    state: str
    days_left: str
    next: str
    by: str


class StatusOutput(Output):
    """Output of `status`."""

    command = "status"
    organisation: str
    sandbox: bool
    rows: list[StatusRow]
    actions_required: list[Remark]


class ExplainLine(Part):
    """One line of `explain`."""

    about: str
    text: str


class ExplainOutput(Output):
    """Output of `explain`."""

    command = "explain"
    name: str = Field(description="what was typed")
    understood: str = Field(description="how the name was understood; empty for the name of a certificate itself")
    subject: str
    lines: list[ExplainLine]


class CertificateEntry(Part):
    """One certificate of the ledger."""

    serial: str = Field(description="hexadecimal")
    artifact: str
    profile: str
    issuer: str
    subject: str
    names: list[str]
    not_before: Moment
    not_after: Moment
    state: Literal["valid", "expired", "revoked"]
    revoked: str = Field(description="the reason of the revocation; empty if it is not revoked")
    revoked_by: str
    issued_because: str
    by: str


class LedgerListOutput(Output):
    """Output of `ledger.list`."""

    command = "ledger.list"
    certificates: list[CertificateEntry]


class CertificateWithPem(CertificateEntry):
    """One certificate of the ledger, with its PEM text."""

    pem: str = Field(description="empty if the certificate was not available at the import")


class LedgerShowOutput(Output):
    """Output of `ledger.show`."""

    command = "ledger.show"
    certificates: list[CertificateWithPem]


class LedgerVerifyOutput(Output):
    """Output of `ledger.verify`."""

    command = "ledger.verify"
    intact: bool
    events: int
    head: str = Field(description="hash of the newest event")
    faults: list[str]
    remedy: str


class CrlRead(Part):
    """What was recorded from one CRL."""

    source: str = Field(description="the host, the file, or build/")
    authority: str = Field(description="a generation, such as client-1")
    number: int
    revoked: list[str] = Field(description="serial numbers that were recorded, hexadecimal")
    number_is_new: bool


class LedgerRecoverOutput(Output):
    """Output of `ledger.recover`."""

    command = "ledger.recover"
    crls: list[CrlRead]
    foreign: list[Remark] = Field(description="CRLs that no authority of this project signed")
    without_crl: list[str] = Field(description="hosts and files that contain no CRL")
    failed: list[Remark] = Field(description="hosts that could not be read")
    goes_on: bool = Field(description="whether a ledger that was older than seen before is used again")


class LedgerAcceptLossOutput(Output):
    """Output of `ledger.accept-loss`."""

    command = "ledger.accept-loss"
    lost: str = Field(description="the events that were seen before and are lost")
    authorities: list[str] = Field(description="generations whose certificates were recorded again")
    revoked: list[str] = Field(description="serial numbers that the CRLs in build/ list, hexadecimal")
    crls: list[CrlRead] = Field(description="what the CRLs on hosts list")
    foreign: list[Remark]


class LedgerImportOutput(Output):
    """Output of `ledger.import`."""

    command = "ledger.import"
    authority: str
    recorded: bool = Field(description="false with --dry-run")
    certificates: int = Field(description="new certificates")
    valid: int
    ended: int
    revocations: int
    without_certificate: int = Field(description="known from index.txt alone")
    known: int = Field(description="certificates that the ledger had already")
    left_out: list[str]


class Check(Part):
    """One finding of `health`."""

    subject: str
    topic: str
    level: str = Field(description="ok, notice, warning or critical")
    message: str
    code: str
    remedy: str
    since: str | None
    until: str | None


class HealthOutput(Output):
    """Output of `health`."""

    command = "health"
    worst: str
    checks: list[Check] = Field(description="worst first")


class DoctorCheck(Part):
    """One line of `doctor`."""

    checked: str = Field(description="the subject, such as Python")
    seen: str = Field(description="the value that was seen, in words")
    level: str = Field(description="ok, notice, warning or critical")
    remedy: str = Field(description="what to type or do; given too for an optional part that is not installed")


class DoctorOutput(Output):
    """Output of `doctor`."""

    command = "doctor"
    project: str = Field(description="the folder of the project whose needs were checked; empty without one")
    worst: str = Field(description="ok, notice, warning or critical")
    checks: list[DoctorCheck]


class RhythmRow(Part):
    """Something that happens regularly."""

    subject: str
    kind: str
    every: str = Field(description="as pki.yaml writes it: 7d, 1h")
    next: Moment
    times: int
    until: Moment


class EventRow(Part):
    """One event of `timeline`."""

    at: Moment
    what: str
    subject: str
    text: str
    is_wrong: bool


class TimelineOutput(Output):
    """Output of `timeline`."""

    command = "timeline"
    start: Moment = Field(serialization_alias="from", validation_alias=AliasChoices("from", "start"))
    until: Moment
    wrong: int = Field(description="events that should not happen")
    rhythms: list[RhythmRow]
    events: list[EventRow]
    renewals: dict[str, list[Moment]]


class ClientRow(Part):
    """One row of `client.list`."""

    name: str
    email: str
    state: str
    until: str
    exported: str
    installed: str
    next: str


class ClientListOutput(Output):
    """Output of `client.list`."""

    command = "client.list"
    clients: list[ClientRow]


class DeliveryRow(Part):
    """One deployment of a host."""

    at: str
    release: str
    what: str
    kept: bool = Field(description="whether deploy.rollback can go back to it")
    seen: str


class HistoryOutput(Output):
    """Output of `deploy.history`."""

    command = "deploy.history"
    host: str
    deliveries: list[DeliveryRow]
    state: str


class DriftRow(Part):
    """What differs on one host from what was deployed."""

    host: str
    reached: bool
    error: str
    remedy: str
    differences: list[ReasonOutput] = Field(description="differences from what was deployed")
    waiting: int = Field(description="changes that wait for the next run")


class DriftOutput(Output):
    """Output of `deploy.drift`."""

    command = "deploy.drift"
    hosts: list[DriftRow]


MODELS: dict[str, type[Output]] = {
    model.command: model
    for model in (
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
        DoctorOutput,
        TimelineOutput,
        ClientListOutput,
        HistoryOutput,
        DriftOutput,
    )
}


def schema(command: str) -> str:
    """Return the JSON Schema of what a command prints."""
    tree = MODELS[command].model_json_schema(mode="serialization")
    tree["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    tree["title"] = f"{command} --json"
    return dumps(tree, indent=2) + "\n"
