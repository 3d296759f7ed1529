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

    # the validators are built where they are needed: not at each start of a command
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Output(Part):
    """The output of a command. A field is never removed, and never changes its meaning, without a new `version`."""

    command: ClassVar[str]
    version: Literal[1] = Field(default=1, description="format of the output")
    at: Moment = Field(description="the time to which the output refers")

    def show(self) -> None:
        """Print the output as JSON."""
        print(self.model_dump_json(indent=1, by_alias=True))


class ReasonOutput(Part):
    """A reason: its code and its text."""

    code: str = Field(description="the kind of reason, in capitals")
    text: str = Field(description="the reason as a sentence")

    @classmethod
    def of(cls, reason: object) -> ReasonOutput:
        """Return a reason with its code; a text without a code has the code STATED."""
        return cls(code=reason.code.name if isinstance(reason, Reason) else "STATED", text=str(reason))


class Remark(Part):
    """Something to know or to do about a subject."""

    subject: str = Field(description="what it is about: an artifact, host or file")
    text: str = Field(description="what is wrong, or what to know")
    remedy: str = Field(description="what to type or do; empty if nothing is to be done")


class Due(Part):
    """An artifact that the next run makes, and why."""

    name: str = Field(description="an artifact, such as cert:media")
    reasons: list[ReasonOutput] = Field(description="why: one or several reasons")


class Observed(Part):
    """The result of the last check of a service."""

    subject: str = Field(description="a service: HOST/SERVICE")
    level: str = Field(description="ok, notice, warning or critical")
    text: str = Field(description="what was observed")
    remedy: str = Field(description="what to type or do; empty if nothing is to be done")


class PlanOutput(Output):
    """Output of `plan`."""

    command = "plan"
    to_do: list[Due] = Field(description="what the next run would do")
    may_follow: list[Due] = Field(description="what changes only if something in `to_do` gets another content")
    up_to_date: int = Field(description="number of artifacts that are up to date")
    failed: list[Remark] = Field(description="keys that cannot be used, templates that cannot be read")
    actions_required: list[Remark] = Field(description="what only you can do, such as a ceremony")
    remarks: list[Remark] = Field(description="other notices")
    services: list[Observed] = Field(description="results of the last check of each service")


class StatusRow(Part):
    """One row of `status`."""

    name: str = Field(description="an artifact, such as cert:media, or a host")
    state: str = Field(description="its state in words")
    days_left: str = Field(description="time until it expires: 89 (days), 35h or 1m; empty if it does not expire")
    next: str = Field(description="what happens next, and when")
    by: str = Field(description="who does it: doit, you, ceremony, or doit and then a ceremony")


class StatusOutput(Output):
    """Output of `status`."""

    command = "status"
    organisation: str = Field(description="organisation of pki.yaml")
    sandbox: bool = Field(description="whether the project is a sandbox")
    rows: list[StatusRow] = Field(description="authorities, certificates, CRLs and hosts")
    actions_required: list[Remark] = Field(description="what only you can do, such as a ceremony")


class ExplainLine(Part):
    """One line of `explain`."""

    about: str = Field(description="topic of the line, such as what, key or valid until")
    text: str = Field(description="the explanation")


class ExplainOutput(Output):
    """Output of `explain`."""

    command = "explain"
    name: str = Field(description="what was typed")
    understood: str = Field(description="how the name was understood; empty for the name of a certificate itself")
    subject: str = Field(description="title of the explanation")
    lines: list[ExplainLine] = Field(description="the explanation, by topic")


class CertificateEntry(Part):
    """One certificate of the ledger."""

    serial: str = Field(description="hexadecimal")
    artifact: str = Field(description="artifact of the certificate, such as cert:media")
    profile: str = Field(description="profile: server, client, or that of an authority")
    issuer: str = Field(description="generation or adopted CA that issued it, such as server-1")
    subject: str = Field(description="distinguished name of the subject")
    names: list[str] = Field(description="alternative names")
    not_before: Moment = Field(description="start of validity")
    not_after: Moment = Field(description="end of validity")
    state: Literal["valid", "expired", "revoked"] = Field(description="whether it can be used now")
    revoked: str = Field(description="the reason of the revocation; empty if it is not revoked")
    revoked_by: str = Field(description="who recorded the revocation; empty if it is not revoked")
    issued_because: str = Field(description="reason for which it was issued")
    by: str = Field(description="who recorded the certificate")


class LedgerListOutput(Output):
    """Output of `ledger.list`."""

    command = "ledger.list"
    certificates: list[CertificateEntry] = Field(
        description="the certificates, in the order in which they were recorded"
    )


class CertificateWithPem(CertificateEntry):
    """One certificate of the ledger, with its PEM text."""

    pem: str = Field(description="empty if the certificate was not available at the import")


class LedgerShowOutput(Output):
    """Output of `ledger.show`."""

    command = "ledger.show"
    certificates: list[CertificateWithPem] = Field(description="the certificates with this name or serial number")


class LedgerVerifyOutput(Output):
    """Output of `ledger.verify`."""

    command = "ledger.verify"
    intact: bool = Field(description="whether no fault was found")
    events: int = Field(description="number of events in the chain of hashes")
    head: str = Field(description="hash of the newest event")
    faults: list[str] = Field(description="what was changed or is lost")
    remedy: str = Field(description="what to type or do; empty if the ledger is intact")


class CrlRead(Part):
    """What was recorded from one CRL."""

    source: str = Field(description="the host, the file, or build/")
    authority: str = Field(description="a generation, such as client-1")
    number: int = Field(description="number of the CRL")
    revoked: list[str] = Field(description="serial numbers that were recorded, hexadecimal")
    number_is_new: bool = Field(description="whether the ledger had no CRL with this number yet")


class LedgerRecoverOutput(Output):
    """Output of `ledger.recover`."""

    command = "ledger.recover"
    crls: list[CrlRead] = Field(description="CRLs that were read")
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
    foreign: list[Remark] = Field(description="CRLs that no authority of this project signed")


class LedgerImportOutput(Output):
    """Output of `ledger.import`."""

    command = "ledger.import"
    authority: str = Field(description="the adopted CA")
    recorded: bool = Field(description="false with --dry-run")
    certificates: int = Field(description="new certificates")
    valid: int = Field(description="new certificates that are valid")
    ended: int = Field(description="new certificates that have expired")
    revocations: int = Field(description="new revocations")
    without_certificate: int = Field(description="known from index.txt alone")
    known: int = Field(description="certificates that the ledger had already")
    left_out: list[str] = Field(description="entries that were not imported, each with its reason")


class Check(Part):
    """One finding of `health`."""

    subject: str = Field(description="what was checked: an artifact, host, service or file")
    topic: str = Field(description="kind of the check")
    level: str = Field(description="ok, notice, warning or critical")
    message: str = Field(description="what was found")
    code: str = Field(description="kind of the finding, in capitals")
    remedy: str = Field(description="what to type or do; empty if nothing is to be done")
    since: str | None = Field(description="since when, or null")
    until: str | None = Field(description="deadline, or null")


class HealthOutput(Output):
    """Output of `health`."""

    command = "health"
    worst: str = Field(description="the worst level: ok, notice, warning or critical")
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
    checks: list[DoctorCheck] = Field(description="what was checked, each with the value that was seen")


class CheckOutput(Output):
    """Output of `check`."""

    command = "check"
    hosts: int = Field(description="hosts in pki.yaml, whose releases were built")
    faults: list[Remark] = Field(
        description="why a certificate or release could not be made, and faults of unused templates"
    )


class RhythmRow(Part):
    """Something that happens regularly."""

    subject: str = Field(description="an artifact, or a group of certificates")
    kind: str = Field(description="group: server certificates, client certificates or CRLs")
    every: str = Field(description="as pki.yaml writes it: 7d, 1h")
    next: Moment = Field(description="when it happens next")
    times: int = Field(description="how many times it happens until the end")
    until: Moment = Field(description="until when the next result is valid")


class EventRow(Part):
    """One event of `timeline`."""

    at: Moment = Field(description="when it happens")
    what: str = Field(description="kind of the event")
    subject: str = Field(description="what it is about")
    text: str = Field(description="the event as a sentence")
    is_problem: bool = Field(description="whether it should not happen")


class TimelineOutput(Output):
    """Output of `timeline`."""

    command = "timeline"
    start: Moment = Field(
        serialization_alias="from", validation_alias=AliasChoices("from", "start"), description="start of the period"
    )
    until: Moment = Field(description="end of the period")
    problems: int = Field(description="events that should not happen")
    rhythms: list[RhythmRow] = Field(description="what happens regularly")
    events: list[EventRow] = Field(description="single events, in order of time")
    renewals: dict[str, list[Moment]] = Field(description="artifact → the dates of its renewals")


class ClientRow(Part):
    """One row of `client.list`."""

    name: str = Field(description="name of the client in pki.yaml")
    email: str = Field(description="its e-mail address; empty for a machine without one")
    other_names: str = Field(description="its DNS names and its SPIFFE ID, separated by commas; empty if it has none")
    state: str = Field(description="state of its certificate: ok, due, missing, stopped or blocked")
    until: str = Field(description="end of validity of its certificate")
    exported: str = Field(description="when it was last exported; empty if never")
    installed: str = Field(description="when it was recorded as installed; empty if never")
    next: str = Field(description="what happens next, and when")


class ClientListOutput(Output):
    """Output of `client.list`."""

    command = "client.list"
    clients: list[ClientRow] = Field(description="the clients of pki.yaml")


class DeliveryRow(Part):
    """One deployment of a host."""

    at: str = Field(description="when")
    release: str = Field(description="the release, as deploy.rollback takes it")
    what: str = Field(description="what happened: delivered, checked, drift, failed or another event")
    kept: bool = Field(description="whether deploy.rollback can go back to it")
    seen: str = Field(description="result of the verification, or why it failed")


class HistoryOutput(Output):
    """Output of `deploy.history`."""

    command = "deploy.history"
    host: str = Field(description="the host")
    deliveries: list[DeliveryRow] = Field(description="what happened to the host, oldest first")
    state: str = Field(description="state of the host now")


class DriftRow(Part):
    """What differs on one host from what was deployed."""

    host: str = Field(description="the host")
    reached: bool = Field(description="whether the host answered")
    error: str = Field(description="why it could not be compared; empty if it was")
    remedy: str = Field(description="what to type or do; empty if nothing is to be done")
    differences: list[ReasonOutput] = Field(description="differences from what was deployed")
    waiting: int = Field(description="changes that wait for the next run")


class DriftOutput(Output):
    """Output of `deploy.drift`."""

    command = "deploy.drift"
    hosts: list[DriftRow] = Field(description="one row for each host")


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
        CheckOutput,
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
