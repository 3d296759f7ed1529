"""Reasons (a code with its data) and outcomes (a verb with its reasons) of tasks, and the text of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, unique
from typing import Any


@unique
class Why(Enum):
    """The code of a reason. Its value is the text: it follows the name of an artifact, and the data replace the braces.

    Calling a code with its data returns a Reason: `Why.DAMAGED(file="cert.pem")`.
    """

    STATED = "{text}"  # the text of another program, a file or an unexpected error
    NEEDED = "for {what}: {why}"
    FOLLOWS = "changes with {artifacts}"
    MAY_FOLLOW = "may change with {artifacts}"

    # files
    NOT_CREATED = "does not exist"
    MISSING_FILE = "{file} is missing"
    NOT_FROM_SOURCES = "{file} is not up to date with its sources"
    NOT_FROM_PEM = "{file} does not match its PEM bundle"
    DAMAGED = "{file} is damaged"
    RESTORED = "{file} was damaged: restored from the ledger's copy"
    FILE_MODE = "{file} has mode {mode}, expected {expected}"
    SURPLUS = "{file} is no longer needed"

    # certificates
    REVOKED = "is revoked"
    NOT_REVOKED = "is not revoked"
    REPLACEMENT_STOPPED = "was revoked; replacement stopped since {date}"
    NOT_YET_VALID = "is not valid before {time}"
    EXPIRED = "expired on {date}"
    DUE = "{left} of {life} left, renewal starts at {starts}"
    OTHER_PAIR = "its key and its certificate do not match"
    OTHER_KIND = "its key is of kind {kind}, pki.yaml specifies {expected}"
    REQUEST_UNUSABLE = "{file} is not a usable certificate request"
    REQUEST_KEY = "{file} contains another key"
    LACKS_NAMES = "lacks {names}"
    SURPLUS_NAMES = "still names {names}"
    OTHER_NAMES = "its names are in another order"
    RARE_KEY = "many programs refuse its {kind} key: plan names them"
    OTHER_ISSUER = "it is not issued by {issuer}, the current issuer"
    OTHER_CHAIN = "its chain is not the current chain of {issuer}"
    OTHER_SIGNATURE = "it is not signed by {issuer}"
    OTHER_SUBJECT = "its subject differs from pki.yaml"
    OTHER_EXTENSIONS = "its extensions differ from the profile or the publishing address"
    OTHER_COMMON_NAME = "its CN changes from {before} to {after}: allow lists of upstreams contain it"

    NO_GAIN = (
        "{left} left, and a renewal would not extend it: {issuer} expires on {date}; needs a ceremony: "
        "a new generation of {authority}"
    )

    # authorities
    NO_GENERATIONS = "{names} did not exist"
    AUTHORITY_EXPIRED = "{generation} expired on {date}"
    AUTHORITY_UNSIGNED = "{generation} is not signed by {root}"
    CEREMONY_INTERRUPTED = "its last request has no response"
    CEREMONY_DUE = "{why}; a ceremony creates {what}"

    # CRLs
    CRL_DAMAGED = "is damaged, or not signed by {generation}"
    CRL_FORMS = "its PEM file does not match the DER file"
    CRL_NO_PEM = "its PEM file is missing"
    CRL_AGE = "is {age} old; refreshed every {every}"
    CRL_NUMBER = "has number {number}, but the last CRL in the ledger has {last}"
    CRL_LACKS = "{count}"
    CRL_UNRECORDED = "lists {count} that the ledger does not contain"
    OTHER_PRESIGNED = "another of its pre-signed CRLs is due"
    PRESIGNED_LACKS = "its pre-signed CRL {number} does not list the revoked {serials}, and is never published"
    NO_PRESIGNED = "none of its pre-signed CRLs is valid now; needs a ceremony"
    REQUESTED = "requested"
    BY_HAND = "requested with renew"

    # requests for ceremonies
    REQUEST_CHANGED = "{field}: was {before}, is {after}"
    REQUEST_SETTING = "{field} changed"
    REQUEST_PERMITTED = "domains or permit_addresses changed"
    REQUEST_FUTURE = "request {number} is dated in the future"
    REQUEST_AGE = "request {number} is {days} days old"

    # certificates of a CA that is imported
    CA_ITSELF = "is the CA itself"
    SIGNED_ELSEWHERE = "{subject} was signed by {issuer}, not by {ca}"
    NOT_SIGNED = "{subject} names {ca} as its issuer, but is not signed by it"
    BAD_SERIAL = "{subject} has serial number {serial}, which no CRL can list"

    # releases
    MANIFEST_DAMAGED = "its manifest is damaged"
    ADDED = "{what} is added"
    CHANGED = "{what} changed"
    LEFT = "{what} was removed"
    MANY_ADDED = "{what} are added"
    MANY_LEFT = "{what} were removed"
    COPY_DAMAGED = "its copy of {file} is damaged"

    # hosts
    NEVER_DEPLOYED = "first deployment"
    RECEIPT_DAMAGED = "its receipt is damaged"
    RELEASE_MISSING = "its release is missing"
    FAILING = "could not be brought up to date since {date}"
    CHECK_DUE = "was last checked on {date}"
    COMMAND_INTERRUPTED = "its command was interrupted: what it did is unknown"
    LIST_DAMAGED = "the list of its files is damaged or missing"
    BOTH_DAMAGED = "its receipt and the list of its files were both damaged: files that it no longer needs may remain"
    EDITED = "{file} was edited"
    DELETED = "{file} was deleted"
    FILE_SAME = "{file} is up to date"
    FILE_ABSENT = "{file} is not there"
    FILE_DIFFERS = "{file} differs"
    FILE_OTHER_MODE = "the mode of {file} is not {expected}"
    FILE_OWNER = "{file} is not owned by {owner}"
    FILE_SPECIAL = "{file} is not a regular file"
    FOLDER_OPEN = "{folder} can be written by others: it has mode {mode}"
    FOLDER_WRITABLE = "{folder} can be written by users other than root ({who})"
    FOLDER_LINK = "{folder} is a link that users other than root can replace"
    FILE_LINK = "{file} is a link to {to}, and is replaced by a file"
    FILE_OWED = "{file} is in place, but its services were not reloaded since"
    FILE_HELD = "{file} is not deployed: the host does not permit it until it is bootstrapped again"
    FILE_DENIED = "{file} is not permitted by the pki-apply.conf of the host"
    FILE_SET = "{file} changes with the rest of {set}"
    MORE_FILES = "{count} more files"
    MORE_LINKS = "{count} more links are replaced by files"
    HELD_BACK = "{file} is not deployed: ./run invoke deploy.bootstrap {host}"
    VERIFICATION = "{service} is {result}"
    REFUSED_BY_HOST = "{why}"  # at a `step`; `command` is the name of the one that failed there
    FOREIGN_CRL = "{file} was not a CRL of this project"

    def __call__(self, **data: str | int) -> Reason:
        """Return a reason with this code."""
        return Reason(self, tuple(data.items()))


PAST = {
    Why.NOT_CREATED: "did not exist",
    Why.MISSING_FILE: "{file} was missing",
    Why.NOT_FROM_SOURCES: "{file} was not up to date with its sources",
    Why.NOT_FROM_PEM: "{file} did not match its PEM bundle",
    Why.DAMAGED: "{file} was damaged",
    Why.FILE_MODE: "{file} had mode {mode}, expected {expected}",
    Why.SURPLUS: "{file} was no longer needed",
    Why.REVOKED: "was revoked",
    Why.NOT_REVOKED: "was not revoked",
    Why.NOT_YET_VALID: "was not valid before {time}",
    Why.OTHER_PAIR: "its key and its certificate did not match",
    Why.OTHER_KIND: "its key was of kind {kind}, pki.yaml specifies {expected}",
    Why.REQUEST_UNUSABLE: "{file} was not a usable certificate request",
    Why.REQUEST_KEY: "{file} contained another key",
    Why.LACKS_NAMES: "lacked {names}",
    Why.SURPLUS_NAMES: "still named {names}",
    Why.OTHER_NAMES: "its names were in another order",
    Why.OTHER_ISSUER: "it was not issued by {issuer}, the current issuer",
    Why.OTHER_CHAIN: "its chain was not the current chain of {issuer}",
    Why.OTHER_SIGNATURE: "it was not signed by {issuer}",
    Why.OTHER_SUBJECT: "its subject differed from pki.yaml",
    Why.OTHER_EXTENSIONS: "its extensions differed from the profile or the publishing address",
    Why.OTHER_COMMON_NAME: "its CN changed from {before} to {after}: allow lists of upstreams contain it",
    Why.AUTHORITY_UNSIGNED: "{generation} was not signed by {root}",
    Why.CEREMONY_INTERRUPTED: "its last request had no response",
    Why.CRL_DAMAGED: "was damaged, or not signed by {generation}",
    Why.CRL_FORMS: "its PEM file did not match the DER file",
    Why.CRL_NO_PEM: "its PEM file was missing",
    Why.CRL_AGE: "was {age} old; refreshed every {every}",
    Why.CRL_NUMBER: "had number {number}, but the last CRL in the ledger had {last}",
    Why.CRL_UNRECORDED: "listed {count} that the ledger did not contain",
    Why.OTHER_PRESIGNED: "another of its pre-signed CRLs was due",
    Why.MANIFEST_DAMAGED: "its manifest was damaged",
    Why.ADDED: "{what} was added",
    Why.MANY_ADDED: "{what} were added",
    Why.COPY_DAMAGED: "its copy of {file} was damaged",
    Why.RECEIPT_DAMAGED: "its receipt was damaged",
    Why.RELEASE_MISSING: "its release was missing",
    Why.LIST_DAMAGED: "the list of its files was damaged or missing",
    Why.FILE_ABSENT: "{file} was not there",
    Why.FILE_DIFFERS: "{file} differed",
    Why.FILE_OTHER_MODE: "the mode of {file} was not {expected}",
    Why.FILE_OWNER: "{file} was not owned by {owner}",
    Why.FILE_SPECIAL: "{file} was not a regular file",
    Why.FOLDER_OPEN: "{folder} could be written by others: it had mode {mode}",
    Why.FILE_LINK: "{file} was a link to {to}, and was replaced by a file",
    Why.FILE_OWED: "{file} was in place, but its services were not reloaded",
    Why.MORE_LINKS: "{count} more links were replaced by files",
}  # the texts that are false once the artifact was made


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an artifact must be made, or what is wrong with it. `data` are the fields of the code's text, by name."""

    code: Why
    data: tuple[tuple[str, str | int], ...] = ()

    def __str__(self) -> str:
        return self.code.value.format_map(dict(self.data))

    @property
    def past(self) -> str:
        """Return the text for the time after the artifact was made, when it exists."""
        return PAST.get(self.code, self.code.value).format_map(dict(self.data))

    def as_json(self) -> dict[str, Any]:
        """Return the code's name and the data as one JSON object."""
        return {"code": self.code.name, **dict(self.data)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reason:
        """Return the reason that `as_json` wrote. Raises KeyError or ValueError for a code or data of another version."""
        data = dict(record)
        reason = cls(Why[data.pop("code")], tuple(data.items()))
        str(reason)  # raises KeyError where data are missing
        return reason


def reasons_from_text(text: str) -> list[Reason]:
    """Return one reason (STATED) for each line of a text that has no code."""
    return [Why.STATED(text=line) for line in text.splitlines()]


def joined(reasons: Iterable[object]) -> str:
    """Return reasons as one phrase in the present: why an artifact must be made."""
    return "; ".join(map(str, reasons))


def joined_past(reasons: Iterable[Reason]) -> str:
    """Return reasons as one phrase in the past: why an artifact was made."""
    return "; ".join(reason.past for reason in reasons)


class Verb(StrEnum):
    """What a run did with an artifact: the first word of its line on the screen, and a field of the report."""

    ISSUED = "issued"  # the first certificate, or a CRL
    RENEWED = "renewed"  # a certificate with the same names and other dates
    REISSUED = "reissued"  # a certificate with other content, or after a revocation
    PUBLISHED = "published"  # a pre-signed CRL
    CREATED = "created"  # a bundle, page or release
    UPDATED = "updated"
    DEPLOYED = "deployed"  # a host
    ROLLED_BACK = "rolled back"
    REMOVED = "removed"  # what is no longer in pki.yaml
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task did, and why. Without reasons of its own, it was done for the reasons for which the task was run."""

    verb: Verb
    reasons: tuple[Reason, ...] = ()

    @property
    def is_change(self) -> bool:
        """Return whether something was done: only these outcomes count as changed."""
        return self.verb is not Verb.UNCHANGED

    def __str__(self) -> str:
        return joined_past(self.reasons)

    def because(self, reasons: Iterable[Reason]) -> Outcome:
        """Return this outcome with `reasons`, unless it has reasons of its own or is no change."""
        return self if self.reasons or not self.is_change else replace(self, reasons=tuple(reasons))

    def as_json(self) -> dict[str, Any]:
        """Return the verb, and the reasons as texts and as codes, as one JSON object."""
        return {
            "verb": self.verb.value,
            "reasons": [reason.past for reason in self.reasons],
            "codes": [reason.as_json() for reason in self.reasons],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Outcome:
        """Return the outcome that `as_json` wrote. Raises KeyError or ValueError for one of another version."""
        return cls(Verb(record["verb"]), tuple(map(Reason.from_json, record["codes"])))


UNCHANGED = Outcome(Verb.UNCHANGED)
