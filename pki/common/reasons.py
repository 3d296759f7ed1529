"""Why something is made and what was done, as values: a code with its data. Their text is made here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Any


@unique
class Why(Enum):
    """The code of a reason. Its value is the text, which follows the name of an artifact and names the data in braces."""

    STATED = "{text}"  # what another program, a file or an unexpected error states, in its own words
    NEEDED = "{what} is needed: {why}"
    FOLLOWS = "follows {artifacts}"

    # files
    NOT_CREATED = "is not there yet"
    MISSING_FILE = "{file} is missing"
    NOT_FROM_SOURCES = "{file} does not follow from its sources"
    NOT_FROM_PEM = "{file} does not follow from its PEM bundle"
    DAMAGED = "{file} is damaged"
    RESTORED = "{file} is damaged: the ledger's copy takes its place"
    FILE_MODE = "{file} has mode {mode}, expected {expected}"
    SURPLUS = "{file} is no longer wanted"

    # certificates
    NO_CERTIFICATE = "has no certificate yet"
    REVOKED = "is revoked"
    NOT_REVOKED = "is not revoked"
    REPLACEMENT_STOPPED = "was revoked, and its replacement is withheld since {date}"
    NOT_YET_VALID = "is not valid before {time}"
    EXPIRED = "ended on {date}"
    DUE = "{left} of {life} left, renewal starts at {starts}"
    OTHER_PAIR = "its key does not belong to its certificate"
    OTHER_KIND = "has a key of kind {kind}, pki.yaml says {wanted}"
    REQUEST_UNUSABLE = "{file} is not a certificate request that can be used"
    REQUEST_KEY = "{file} holds another key"
    OTHER_NAMES = "{difference}"
    OTHER_ISSUER = "is not issued by {issuer}, which issues now"
    OTHER_CHAIN = "its chain is not that of {issuer} as it is now"
    OTHER_SIGNATURE = "its signature is not that of {issuer}"
    OTHER_SUBJECT = "its subject is not what pki.yaml says"
    OTHER_EXTENSIONS = "its extensions are not what the profile and the publishing address say"
    OTHER_COMMON_NAME = "its CN changes from {before} to {after}: allow lists of upstreams contain it"

    NO_GAIN = (
        "{left} left, and a renewal would gain nothing: {issuer} itself ends on {date}; needs a ceremony: "
        "a new generation of {authority}"
    )

    # authorities
    NO_AUTHORITY = "does not exist yet"
    AUTHORITY_EXPIRED = "{generation} ended on {date}"
    AUTHORITY_UNSIGNED = "{generation} is not signed by {root}"
    CEREMONY_INTERRUPTED = "its last ceremony was cut short"
    CEREMONY_DUE = "{why}; {what} follows"

    # CRLs
    NO_CRL = "has no CRL yet"
    CRL_DAMAGED = "is damaged, or not signed by {generation}"
    CRL_FORMS = "its PEM form does not follow from the DER form"
    CRL_NO_PEM = "its PEM form is missing"
    CRL_AGE = "is {age} old, a new one comes every {every}"
    CRL_NUMBER = "has number {number}, and the last one had {last}"
    CRL_LACKS = "lacks {count}"
    CRL_UNRECORDED = "lists {count} that the ledger lacks"
    OTHER_PRESIGNED = "another of its pre-signed CRLs is due"
    PRESIGNED_LACKS = "its pre-signed CRL {number} lacks the revoked {serials}, and is never published"
    NO_PRESIGNED = "none of its pre-signed CRLs is valid now; needs a ceremony"
    ASKED_FOR = "asked for"
    BY_HAND = "renewed by hand"

    # requests for ceremonies
    REQUEST_CHANGED = "{field}: was {before}, is {after}"
    REQUEST_SETTING = "{field} changed"
    REQUEST_PERMITTED = "domains or permit_addresses changed"
    REQUEST_FUTURE = "request {number} is dated in the future"
    REQUEST_AGE = "request {number} is {days} days old"

    # certificates of a CA that is imported
    CA_ITSELF = "is the CA itself"
    SIGNED_ELSEWHERE = "{subject} was signed by {issuer}, not by {ca}"
    NOT_SIGNED = "{subject} bears the name of {ca} as its issuer, and not the signature"
    BAD_SERIAL = "{subject} has serial number {serial}, which no CRL can list"

    # releases
    NO_RELEASE = "has no release yet"
    MANIFEST_DAMAGED = "its manifest is damaged"
    ADDED = "{what} is new"
    CHANGED = "{what} changed"
    LEFT = "{what} left"
    COPY_DAMAGED = "its copy of {file} is damaged"

    # hosts
    NEVER_DEPLOYED = "was never delivered to"
    RECEIPT_DAMAGED = "its receipt is damaged"
    RELEASE_MISSING = "its release is missing"
    FAILING = "could not be brought up to date since {date}"
    CHECK_DUE = "was last looked at on {date}"
    LIST_DAMAGED = "the list of its files is damaged, or not there"
    BOTH_DAMAGED = "its receipt and the list of its files were both damaged: what it needs no more may be there still"
    EDITED = "{file} was edited"
    DELETED = "{file} was deleted"
    FILE_SAME = "{file} is as it should be"
    FILE_ABSENT = "{file} is not there"
    FILE_DIFFERS = "{file} differs"
    FILE_OTHER_MODE = "{file} has another mode than {expected}"
    FILE_OWNER = "{file} does not belong to {owner}"
    FILE_SPECIAL = "{file} is no regular file"
    FOLDER_OPEN = "{folder} can be written by others: it has mode {mode}"
    FOLDER_WRITABLE = "{folder} can be written by users other than root ({who})"
    FOLDER_LINK = "{folder} is a link that users other than root can replace"
    FILE_LINK = "{file} is a link to {to}, and becomes a file"
    FILE_OWED = "{file} is there, and its services were not reloaded since"
    FILE_HELD = "{file} is held back: the host does not permit it before it is bootstrapped again"
    FILE_DENIED = "{file} is not permitted by the pki-apply.conf of the host"
    FILE_SET = "{file} changes with the rest of {set}"
    MORE_FILES = "{count} more files"
    MORE_LINKS = "{count} more links become files"
    HELD_BACK = "{file} is held back: ./run invoke deploy.bootstrap {host}"
    VERIFICATION = "{service} is {result}"
    REFUSED_BY_HOST = "{why}"  # at a `step`; `command` is the name of the one that failed there
    FOREIGN_CRL = "{file} was no CRL of this project"

    def __call__(self, **data: str | int) -> Reason:
        """Return a reason with this code."""
        return Reason(self, tuple(data.items()))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an artifact must be made, or what is wrong with it."""

    code: Why
    data: tuple[tuple[str, str | int], ...] = ()

    def __str__(self) -> str:
        return self.code.value.format_map(dict(self.data))

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code.name, **dict(self.data)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reason:
        """Raises KeyError and ValueError for a record that this version did not write."""
        data = dict(record)
        made = cls(Why[data.pop("code")], tuple(data.items()))
        str(made)
        return made


def stated(text: str) -> list[Reason]:
    """Return one reason for each line of a text in the words of something else."""
    return [Why.STATED(text=line) for line in text.splitlines()]


def joined(reasons: Iterable[object]) -> str:
    """Return reasons as one phrase."""
    return "; ".join(map(str, reasons))


class Verb(Enum):
    """What became of an artifact."""

    ISSUED = "issued"
    RENEWED = "renewed"
    REISSUED = "reissued"
    PUBLISHED = "published"
    CREATED = "created"
    UPDATED = "updated"
    DEPLOYED = "deployed"
    ROLLED_BACK = "rolled back"
    REMOVED = "removed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task did, and why; without reasons of its own, for those for which it was run."""

    verb: Verb
    reasons: tuple[Reason, ...] = ()

    @property
    def is_change(self) -> bool:
        return self.verb is not Verb.UNCHANGED

    def __str__(self) -> str:
        return joined(self.reasons) if self.is_change else "was as it should be"

    def because(self, reasons: Iterable[Reason]) -> Outcome:
        """Return the same with reasons, where it has none of its own."""
        return self if self.reasons or not self.is_change else replace(self, reasons=tuple(reasons))

    def as_json(self) -> dict[str, Any]:
        return {
            "verb": self.verb.value,
            "reasons": [str(one) for one in self.reasons],
            "codes": [one.as_json() for one in self.reasons],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Outcome:
        return cls(Verb(record["verb"]), tuple(map(Reason.from_json, record["codes"])))


UNCHANGED = Outcome(Verb.UNCHANGED)
