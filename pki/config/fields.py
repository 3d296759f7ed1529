"""What the text of a field may say: names, addresses, durations, kinds of keys.

Every scalar arrives as text (see `documents.py`), so `no` is a name and `0644` keeps its zero.
"""

from __future__ import annotations

import re
import shlex
from datetime import date, time, timedelta
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

SANDBOX = "SANDBOX"
CA_NAME = re.compile(r" (Root|Server|Client) CA ([0-9]+)$")  # the end of the name of every CA of a project

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}
DURATION = re.compile(r"([1-9][0-9]{0,4})(h|d|w|mo|y)")
PATIENCE = re.compile(r"([1-9][0-9]{0,3})(s|m)")
LONGEST = timedelta(minutes=15)  # when pki-apply ends by itself
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_NAME = re.compile(rf"(\*\.)?({LABEL}\.)*{LABEL}")
ADDRESS = re.compile(r"[0-9.]+")
MAIL_SERVER = r"outbox|smtps?://[A-Za-z0-9.-]+(:[0-9]{1,5})?"
LEAF_NAME = r"[a-z0-9]([a-z0-9._-]{0,48}[a-z0-9])?"
CLIENT_PREFIX = "client-"
PKCS11_ADDRESS = r"pkcs11:[^\s]+"
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"
ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
DESTINATION = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
NOTIFY = r"notify(-[a-z0-9]+)*"
SOURCED = rf"(root|server|client)(-[1-9][0-9]*)?|backup|smtp|{NOTIFY}"
ADOPTED = r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?"
PROBE_WAY = rf"none|direct|({ACCOUNT}@)?{DESTINATION}(:[0-9]{{1,5}})?"
TEXTFILE = r"(/[^/\s]+)+\.prom"
PROTOCOL = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}(/[A-Za-z0-9._+-]{1,32})?"
CARRIES_HTTP = re.compile(r"(h2|h3|http|tls)([^a-z].*|c.*|s.*)?", re.IGNORECASE)
BATCH = r"[1-9][0-9]{0,4}|([1-9][0-9]?|100)%"
SOURCED_NAMES = "expected file, root, server, client, a generation such as server-2, backup, smtp, notify-NAME, or an adopted authority"
# what the parts of a project are called: an adopted authority bears none of these names
KEPT_NAMES = {"all", "authority", "backup", "bundle-client", "cert", "ceremony", "crl", "file", "host", "smtp"}
DATABASE = r"sqlite|[a-z0-9]+(\+[a-z0-9]+)?://.+"

KeyKind = Literal["ec-p256", "ec-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"]
AuthorityKeyKind = Literal["ec-p256", "ec-p384", "rsa-3072", "rsa-4096"]
Access = Literal["tls", "mtls"]
Proxy = Literal["nginx", "haproxy", "caddy", "apache", "traefik"]
Deliver = Literal["folder", "ssh", "local", "none"]
TrustStore = Literal["debian", "rhel", "nss", "java", "none"]
ProfileName = Literal["server", "client"]


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = DURATION.fullmatch(value)
    if not found:
        raise ValueError("expected a number and a unit such as 90d (h, d, w, mo = 30 d, y = 365 d)")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def _renew_spread(value: Any) -> Any:
    """A duration, or none at all: `0d`."""
    return timedelta(0) if value in {"0", "0d", "0h"} else _duration(value)


def _patience(value: Any) -> Any:
    """A time that somebody waits for a host: seconds or minutes."""
    found = PATIENCE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        if isinstance(value, timedelta):
            return value
        raise ValueError("expected seconds or minutes such as 120s or 10m")
    span = timedelta(seconds=int(found[1]) * SECONDS[found[2]])
    if span > LONGEST:
        raise ValueError("more than 15m: pki-apply ends by itself then")
    return span


def brief(span: timedelta) -> str:
    """`90d`, `36h`, `2m`: a duration as pki.yaml writes it, in the largest unit that is exact."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in "dhms" if seconds % SECONDS[unit] == 0)
    return f"{seconds // SECONDS[unit]}{unit}"


def is_within(moment: time, window: str) -> bool:
    """Whether a time of day lies in hours such as 22:00-05:00, their end excluded."""
    start, end = (time.fromisoformat(part) for part in window.split("-"))
    return start <= moment < end if start <= end else moment >= start or moment < end


def days_of(holiday: str) -> tuple[date, date]:
    """The first and the last day of `2026-12-24`, or of `2026-12-20..2027-01-06`."""
    first, _, last = holiday.partition("..")
    return date.fromisoformat(first), date.fromisoformat(last or first)


def _holiday(value: str) -> str:
    expected = "expected a day such as 2026-12-24, or days such as 2026-12-20..2027-01-06"
    if not re.fullmatch(rf"{DAY}(\.\.{DAY})?", value):
        raise ValueError(expected)
    try:
        first, last = days_of(value)
    except ValueError:
        raise ValueError(f"{expected}; the calendar has no such day") from None
    if last < first:
        raise ValueError(f"ends before it begins: write {last}..{first}")
    return value


def dns_name(value: str) -> str:
    if not value.isascii():
        raise ValueError("write an international name in its ASCII form (xn--...)")
    if len(value) > 253 or not DNS_NAME.fullmatch(value.lower()):
        raise ValueError("expected a host name: letters, digits and hyphens, in labels of at most 63")
    if value != value.lower():
        raise ValueError(f"write host names in lower case: {value.lower()}")
    if "." in value and ADDRESS.fullmatch(value):
        raise ValueError("expected a host name, not an address")
    if value.startswith("*.") and value.count(".") == 1:
        raise ValueError("a wildcard needs two labels after it; Apple rejects the whole certificate otherwise")
    return value


def _subject_name(value: str) -> str:
    """A DNS name or an IPv4 address, as text."""
    if not ADDRESS.fullmatch(value):
        return dns_name(value)
    try:
        return str(IPv4Address(value))
    except AddressValueError:
        raise ValueError("expected an IPv4 address or a host name") from None


def _ledger_address(value: str) -> str:
    if not re.fullmatch(DATABASE, value):
        raise ValueError("expected sqlite, or a SQLAlchemy URL such as postgresql+psycopg://user@host/name")
    return value


def _mail_server(value: str) -> str:
    if not re.fullmatch(MAIL_SERVER, value):
        raise ValueError("expected outbox, smtp://host:port or smtps://host:port")
    port = re.search(r":([0-9]+)$", value)
    if port and not 0 < int(port[1]) <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return value


def _domain(value: str) -> str:
    if value.startswith("*"):
        raise ValueError("expected a domain without a wildcard; everything below it is permitted")
    return dns_name(value)


def _client_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(@[a-z0-9][a-z0-9._-]*)?", value) or len(value) > 50:
        raise ValueError("expected a name such as admin or admin@laptop (lower case, at most 50 characters)")
    return value


def leaf_file_name(value: str, profile: ProfileName) -> str:
    """The name of a leaf that is called after a file: as strict as names in pki.yaml, because folders are called so too.

    `client-NAME` of the client profile is kept where NAME of pki.yaml would be.
    """
    if profile == "client" and value.startswith(CLIENT_PREFIX):
        return CLIENT_PREFIX + _client_name(value.removeprefix(CLIENT_PREFIX))
    if not re.fullmatch(LEAF_NAME, value):
        raise ValueError(
            "expected lower-case letters, digits, . _ and -, with a letter or digit at both ends, at most 50 characters"
        )
    return value


def is_like_dns_name(common_name: str) -> bool:
    """Whether OpenSSL takes a CN for a DNS name, and holds it against the name constraints (error 47)."""
    return "." in common_name and re.fullmatch(r"[A-Za-z0-9._-]+", common_name) is not None


def common_name(value: str) -> str:
    """A CN that reads the same everywhere: X.509 would take any character of Unicode, and control characters too."""
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"CN {value!a}: expected printable ASCII")
    if found := set("=*\\") & set(value):
        raise ValueError(f"CN {value}: {min(found)} is not permitted: other programs would read another subject")
    return value


def email_address(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9!#$%&'+/=?^_`{|}~.-]{1,64}", local):
        raise ValueError("expected an e-mail address such as admin@lab.internal")
    if domain.startswith("*"):
        raise ValueError("expected an e-mail address without a wildcard")
    return f"{local}@{dns_name(domain)}"


@lru_cache(maxsize=1024)  # a thousand services stand before the same few upstreams
def _http_address(value: str, example: str) -> str:
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or not re.fullmatch(r"[A-Za-z0-9.:/_\[\]-]+", value):
        raise ValueError(f"expected an address such as {example}")
    if parts.path.strip("/"):
        raise ValueError("expected scheme, host and port alone, without a path")
    return value.rstrip("/")


def _publish_url(value: str) -> str:
    if value.startswith("https:"):
        raise ValueError("expected plain http: whoever checks a certificate cannot check this server's first")
    return _http_address(value, "http://pki.lab.internal")


def upstream_address(value: str) -> str:
    return _http_address(value, "http://127.0.0.1:3000")


def _upstream_ca(value: str) -> str:
    return value if value == "system" else relative_file(value)


def _protocol(value: str) -> str:
    """What may follow an HTTP upgrade: a protocol of RFC 9110 §7.8, and none in which HTTP itself goes on."""
    if CARRIES_HTTP.fullmatch(value):
        raise ValueError(
            f"{value} is never permitted: requests in it pass every rule of the proxy, and may claim to be any client; "
            "for an upstream that speaks HTTP/2 write nothing here, it gets HTTP/1.1"
        )
    if not re.fullmatch(PROTOCOL, value):
        raise ValueError("expected the name of a protocol in the header Upgrade, such as SPDY/3.1 or tcp")
    return value


def _organisation(value: str) -> str:
    if not value.strip() or len(value) > 40 or not value.isprintable():
        raise ValueError("expected 1 to 40 printable characters: it becomes part of every CA's name")
    if not all(letter.isalnum() or letter in " .,&()'+/-" for letter in value):
        raise ValueError("expected letters, digits, blanks and . , & ( ) ' + / - only")
    if SANDBOX in value.upper():
        raise ValueError(f"the word {SANDBOX} is kept for try-out authorities")
    return value.strip()


def _fingerprint(value: str) -> str:
    """64 hexadecimal digits in lower case, however they were written: with colons, as OpenSSL prints them, or without."""
    digits = value.replace(":", "").replace(" ", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("expected the SHA-256 of a root certificate: 64 hexadecimal digits")
    return digits


def relative_file(value: str) -> str:
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError("expected a file below the folder of pki.yaml, without ..")
    return value


def _token_address(value: str) -> str:
    if not re.fullmatch(PKCS11_ADDRESS, value):
        raise ValueError("expected a PKCS#11 address such as pkcs11:token=doit-pki?module-path=/usr/lib/…/module.so")
    return value


def _secret_file(value: str) -> str:
    if not value or ".." in value.split("/"):
        raise ValueError("expected a file below the folder of pki.yaml, or an absolute path, without ..")
    return value


def _textfile(value: str) -> str:
    if not re.fullmatch(TEXTFILE, value) or ".." in value.split("/"):
        raise ValueError(
            "expected an absolute path that ends in .prom, in the folder that node_exporter reads: "
            "/var/lib/prometheus/node-exporter/doit-pki.prom"
        )
    return value


def _adopted_folder(value: str) -> str:
    if not value or ".." in value.split("/"):
        raise ValueError("expected a folder below that of pki.yaml, or an absolute path, without ..")
    return value.rstrip("/") or "/"


def _adopted_name(value: str) -> str:
    if not re.fullmatch(ADOPTED, value) or re.search(r"-[0-9]+$", value):
        raise ValueError("expected a name such as legacy: lower-case letters, digits and hyphens, no number at its end")
    if value in KEPT_NAMES or value.partition("-")[0] in {"root", "server", "client", "notify"}:
        raise ValueError(f"{value} means something else already; expected a name such as legacy")
    return value


def _probe_way(value: str) -> str:
    if not re.fullmatch(PROBE_WAY, value):
        raise ValueError("expected none, direct, or a jump host as ssh knows it, such as bastion or user@bastion:2222")
    if ":" in value and not 0 < jump_of(value)[2] <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return value


def jump_of(way: str) -> tuple[str, str, int]:
    """Account, name and port of a jump host `user@bastion:2222`; what is not said is empty, or 0."""
    before, _, rest = way.rpartition("@")
    name, _, port = rest.partition(":")
    return before, name, int(port or 0)


def _secret_name(value: str) -> str:
    if not re.fullmatch(f"{SOURCED}|{ADOPTED}", value):
        raise ValueError(SOURCED_NAMES)
    return value


def _command_line(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"expected a command line ({str(error).lower()})") from None
    if not words:
        raise ValueError("expected a command line such as pass show pki/server")
    return value


def word(pattern: str, expected: str) -> AfterValidator:
    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(checked)


def text_like(pattern: str) -> WithJsonSchema:
    """What an editor may check before we do."""
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


def _list_of_one(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def empty_is_mapping(value: Any) -> Any:
    """`admin:` without anything behind it is an empty mapping."""
    return {} if value == "" else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(brief),
    text_like(DURATION.pattern),
]
Patience = Annotated[
    timedelta,
    BeforeValidator(_patience),
    PlainSerializer(brief),
    text_like(PATIENCE.pattern),
]
RenewSpread = Annotated[
    timedelta,
    BeforeValidator(_renew_spread),
    PlainSerializer(brief),
    text_like(rf"0[dh]?|{DURATION.pattern}"),
]
DnsName = Annotated[str, AfterValidator(dns_name)]
Domain = Annotated[str, AfterValidator(_domain)]
SubjectName = Annotated[str, AfterValidator(_subject_name)]
Slug = Annotated[str, Field(pattern=rf"^{LABEL}$", max_length=50)]
ClientName = Annotated[str, AfterValidator(_client_name)]
Email = Annotated[str, AfterValidator(email_address)]
PublishUrl = Annotated[str, AfterValidator(_publish_url)]
UpstreamAddress = Annotated[str, AfterValidator(upstream_address)]
UpstreamCa = Annotated[str, AfterValidator(_upstream_ca)]
Protocol = Annotated[str, AfterValidator(_protocol), text_like(PROTOCOL)]
Organisation = Annotated[str, AfterValidator(_organisation)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint), text_like("([0-9A-Fa-f]{2}:?){32}")]
RelativeFile = Annotated[str, AfterValidator(relative_file)]
TokenAddress = Annotated[str, AfterValidator(_token_address), text_like(PKCS11_ADDRESS)]


MailServer = Annotated[str, AfterValidator(_mail_server), text_like(MAIL_SERVER)]
DatabaseAddress = Annotated[str, AfterValidator(_ledger_address), text_like(DATABASE)]


EMPTY_OK = BeforeValidator(empty_is_mapping)
ONE_OK = BeforeValidator(_list_of_one, json_schema_input_type=str | list[str])
ONE_OK_NONE_NOT = BeforeValidator(_list_of_one, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)])


TimeOfDay = Annotated[str, word(TIME, "a time of day such as 06:00"), text_like(TIME)]
Window = Annotated[str, word(f"{TIME}-{TIME}", "hours such as 22:00-05:00"), text_like(f"{TIME}-{TIME}")]
Holiday = Annotated[str, AfterValidator(_holiday), text_like(rf"{DAY}(\.\.{DAY})?")]
Account = Annotated[str, word(ACCOUNT, "the name of an account"), text_like(ACCOUNT)]
Destination = Annotated[str, word(DESTINATION, "a host as ssh knows it"), text_like(DESTINATION)]
ProbeWay = Annotated[str, AfterValidator(_probe_way), text_like(PROBE_WAY)]
Batch = Annotated[str, word(BATCH, "a number of hosts, or a part of them such as 20%"), text_like(BATCH)]
SourceFile = Annotated[str, AfterValidator(_secret_file)]
TextFile = Annotated[str, AfterValidator(_textfile), text_like(TEXTFILE)]
AdoptedFolder = Annotated[str, AfterValidator(_adopted_folder)]
AdoptedName = Annotated[str, AfterValidator(_adopted_name)]
SecretName = Annotated[str, AfterValidator(_secret_name)]
NotifyName = Annotated[str, word(NOTIFY, "the name of a secret: notify, or notify-NAME"), text_like(NOTIFY)]
MailUser = Annotated[str, word(r"[!-~]{1,200}", "a user name in ASCII, without blanks"), text_like(r"[!-~]{1,200}")]
CommandLine = Annotated[str, AfterValidator(_command_line)]
