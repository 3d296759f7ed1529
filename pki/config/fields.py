"""The types of the fields of pki.yaml, apart from names and times: kinds, addresses, files, routes, secrets.

A validator gets the text of a scalar (see `common/yaml_text.py`), so `no` is a name and `0644` keeps its zero. It returns
the value or raises ValueError with the expected form. The types are at the end of the module.
"""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pki.config.ip_addresses import canonical_url, parse_address

SANDBOX = "SANDBOX"
CA_NAME = re.compile(
    r"(?<! Peer) (Root|Server|Client) CA ([0-9]+)$"
)  # the end of the CN of CAs for servers and clients

IN_BRACKETS = r"\[[0-9A-Fa-f:.]+\]"  # an IPv6 address; the validators check it
MAIL_SERVER = rf"outbox|smtps?://([A-Za-z0-9.-]+|{IN_BRACKETS})(:[0-9]{{1,5}})?"
PKCS11_ADDRESS = r"pkcs11:[^\s]+"
ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
SSH_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
DESTINATION = rf"{SSH_NAME}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*"
NOTIFY = r"notify(-[a-z0-9]+)*"
PKCS12 = r"p12(-[a-z0-9][a-z0-9._-]{0,49})?"  # of every PKCS#12 file, or of that of one leaf
SECRET = rf"(root|root-peer|server|client|peer)(-[1-9][0-9]*)?|backup|smtp|ledger|{NOTIFY}|{PKCS12}"
AUTHORITY_NAME = r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?"
PROBE_ROUTE = rf"none|direct|({ACCOUNT}@)?({SSH_NAME}|{IN_BRACKETS})(:[0-9]{{1,5}})?"
RELOAD = r"(?=.{1,1000}$)\S(.*\S)?"  # what pki-apply.conf permits is one line
TEXTFILE = r"(/[^/\s]+)+\.prom"
PROTOCOL = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}(/[A-Za-z0-9._+-]{1,32})?"
UNSEEN: frozenset[str] = frozenset({"openvpn", "radius"})  # over UDP: this program cannot ask such servers
CARRIES_HTTP = re.compile(r"(h2|h3|http|tls)([^a-z].*|c.*|s.*)?", re.IGNORECASE)
BATCH = r"[1-9][0-9]{0,4}|([1-9][0-9]?|100)%"
EXPECTED_SECRETS = "expected file, root, server, client, peer, a generation such as server-2, backup, smtp, ledger, notify-NAME, p12, p12-LEAF, or an adopted authority"
# an adopted authority must not have one of these names: the project uses them
RESERVED_NAMES = {
    *(
        "all",
        "authority",
        "backup",
        "bundle-client",
        "bundle-peer",
        "cert",
        "ceremony",
        "crl",
        "file",
        "host",
        "ledger",
        "p12",
        "smtp",
    ),
}
LEDGER_IN_SECRETS = "postgresql"  # the secret `ledger` is the URL
DATABASE = r"sqlite|postgresql|[a-z0-9]+(\+[a-z0-9]+)?://.+"

KeyKind = Literal["ec-p256", "ec-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"]
LeafKeyKind = Literal[
    "ec-p256", "ec-p384", "ed25519", "ml-dsa-65", "rsa-2048", "rsa-3072", "rsa-4096"
]  # of one host or client
AuthorityKeyKind = Literal["ec-p256", "ec-p384", "rsa-3072", "rsa-4096"]
Access = Literal["tls", "mtls"]
Speaks = Literal[
    "https",
    "tls",
    "postgres",
    "mysql",
    "smtp",
    "smtps",
    "imap",
    "imaps",
    "ldap",
    "ldaps",
    "mqtts",
    "openvpn",
    "radius",
]
RecipeName = Literal[
    "postgres",
    "mariadb",
    "mosquitto",
    "openldap",
    "dovecot",
    "postfix",
    "exim",
    "redis",
    "prometheus",
    "grafana",
    "freeradius",
    "openvpn",
    "compose",
    "kubernetes",
]
Verifier = Literal["openssl", "gnutls"]
Proxy = Literal["nginx", "haproxy", "caddy", "apache", "traefik"]
Deliver = Literal["folder", "ssh", "local", "none"]
TrustStore = Literal["debian", "rhel", "nss", "java", "none"]
ProfileName = Literal["server", "client", "peer"]


def _ledger_address(value: str) -> str:
    if not re.fullmatch(DATABASE, value):
        raise ValueError(
            f"expected sqlite, {LEDGER_IN_SECRETS} with the URL in secrets, or a SQLAlchemy URL such as "
            "postgresql+psycopg://user@host/name"
        )
    if re.search(r"://[^/?]*:[^/?@]*@|[?&](password|sslpassword)=", value):
        raise ValueError(
            f"contains a password, and pki.yaml is not secret; write ledger: {LEDGER_IN_SECRETS}, and the URL as the "
            "secret ledger"
        )
    return value


def _mail_server(value: str) -> str:
    if not re.fullmatch(MAIL_SERVER, value):
        in_brackets = "; an IPv6 address is written in brackets: smtp://[fd00:10::25]:25" if "::" in value else ""
        raise ValueError(f"expected outbox, smtp://host:port or smtps://host:port{in_brackets}")
    port = re.search(r":([0-9]+)$", value)
    if port and not 0 < int(port[1]) <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return value if value == "outbox" else canonical_url(value)


@lru_cache(maxsize=1024)  # many services have the same few upstreams
def _http_address(value: str, example: str) -> str:
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or not re.fullmatch(r"[A-Za-z0-9.:/_\[\]-]+", value):
        in_brackets = "; an IPv6 address is written in brackets: http://[fd00:10::10]:3000" if "::" in value else ""
        raise ValueError(f"expected an address such as {example}{in_brackets}")
    if parts.path.strip("/"):
        raise ValueError("expected scheme, host and port alone, without a path")
    return canonical_url(value.rstrip("/"))


def _publish_url(value: str) -> str:
    if value.startswith("https:"):
        raise ValueError(
            "expected plain http: a client that verifies a certificate cannot verify this server's certificate first"
        )
    return _http_address(value, "http://pki.lab.internal")


def upstream_address(value: str) -> str:
    """Return a URL with scheme, host and port only."""
    return _http_address(value, "http://127.0.0.1:3000")


def _upstream_ca(value: str) -> str:
    return value if value == "system" else relative_file(value)


def _protocol(value: str) -> str:
    """Return the name of a protocol for the header Upgrade (RFC 9110 §7.8). Protocols that carry HTTP are refused."""
    if CARRIES_HTTP.fullmatch(value):
        raise ValueError(
            f"{value} is never permitted: requests in it bypass every rule of the proxy, and can claim to be any client; "
            "leave it out for an upstream with HTTP/2: the proxy uses HTTP/1.1"
        )
    if not re.fullmatch(PROTOCOL, value):
        raise ValueError("expected the name of a protocol in the header Upgrade, such as SPDY/3.1 or tcp")
    return value


def _organisation(value: str) -> str:
    if not value.strip() or len(value) > 40 or not value.isprintable():
        raise ValueError("expected 1 to 40 printable characters: it becomes part of every CA's name")
    if not all(character.isalnum() or character in " .,&()'+/-" for character in value):
        raise ValueError("expected letters, digits, blanks and . , & ( ) ' + / - only")
    if SANDBOX in value.upper():
        raise ValueError(f"the word {SANDBOX} is reserved for sandbox authorities")
    return value.strip()


def _fingerprint(value: str) -> str:
    """Return a SHA-256 as 64 hexadecimal digits in lower case; accepts the form with colons that OpenSSL prints."""
    digits = value.replace(":", "").replace(" ", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("expected the SHA-256 of a root certificate: 64 hexadecimal digits")
    return digits


def relative_file(value: str) -> str:
    """Return a path below the folder of pki.yaml."""
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


def _authority_name(value: str) -> str:
    if not re.fullmatch(AUTHORITY_NAME, value) or re.search(r"-[0-9]+$", value):
        raise ValueError("expected a name such as legacy: lower-case letters, digits and hyphens, no number at its end")
    if value in RESERVED_NAMES or value.partition("-")[0] in {"root", "server", "client", "peer", "notify", "p12"}:
        raise ValueError(f"{value} is reserved; expected a name such as legacy")
    return value


def _probe_route(value: str) -> str:
    if not re.fullmatch(PROBE_ROUTE, value):
        in_brackets = "; an IPv6 address is written in brackets: [fd00:10::1]:2222" if "::" in value else ""
        raise ValueError(
            f"expected none, direct, or a jump host as ssh knows it, such as bastion or user@bastion:2222{in_brackets}"
        )
    account, name, port = parse_jump_host(value)
    if value.rpartition("]")[2].count(":") and not 0 < port <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    if ":" not in name:
        return value
    return f"{account}{'@' if account else ''}[{parse_address(name)}]{f':{port}' if port else ''}"


def parse_jump_host(route: str) -> tuple[str, str, int]:
    """Return account, name and port of a jump host such as `user@bastion:2222`; "" or 0 for a part that is missing."""
    account, _, rest = route.rpartition("@")
    if rest.startswith("["):
        name, _, port = rest[1:].partition("]")
        return account, name, int(port.removeprefix(":") or 0)
    name, _, port = rest.partition(":")
    return account, name, int(port or 0)


def _destination(value: str) -> str:
    """Return a host as ssh knows it: a name of the ssh configuration or of DNS, or an address."""
    if ":" in value:
        return str(parse_address(value))
    if not re.fullmatch(DESTINATION, value):
        raise ValueError("expected a host as ssh knows it")
    return value


def _secret_name(value: str) -> str:
    if not re.fullmatch(f"{SECRET}|{AUTHORITY_NAME}", value):
        raise ValueError(EXPECTED_SECRETS)
    return value


def _command_line(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"expected a command line ({str(error).lower()})") from None
    if not words:
        raise ValueError("expected a command line such as pass show pki/server")
    return value


def matching(pattern: str, expected: str) -> AfterValidator:
    """Return a validator for text that matches a pattern; `expected` describes the form in messages."""

    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(checked)


def json_pattern(pattern: str) -> WithJsonSchema:
    """Return the pattern of a field in the JSON Schema, with which editors check it."""
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


def _list_of_one(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def empty_is_mapping(value: Any) -> Any:
    """Convert a key without a value, such as `admin:`, to an empty mapping."""
    return {} if value == "" else value


PublishUrl = Annotated[str, AfterValidator(_publish_url)]
UpstreamAddress = Annotated[str, AfterValidator(upstream_address)]
UpstreamCa = Annotated[str, AfterValidator(_upstream_ca)]
Protocol = Annotated[str, AfterValidator(_protocol), json_pattern(PROTOCOL)]
Organisation = Annotated[str, AfterValidator(_organisation)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint), json_pattern("([0-9A-Fa-f]{2}:?){32}")]
RelativeFile = Annotated[str, AfterValidator(relative_file)]
TokenAddress = Annotated[str, AfterValidator(_token_address), json_pattern(PKCS11_ADDRESS)]


MailServer = Annotated[str, AfterValidator(_mail_server), json_pattern(MAIL_SERVER)]
DatabaseAddress = Annotated[str, AfterValidator(_ledger_address), json_pattern(DATABASE)]


EMPTY_OR_MAPPING = BeforeValidator(empty_is_mapping)
SINGLE_OR_LIST = BeforeValidator(_list_of_one, json_schema_input_type=str | list[str])
SINGLE_OR_NONEMPTY_LIST = BeforeValidator(
    _list_of_one, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]
)


Reload = Annotated[str, matching(RELOAD, "a command in one line, of at most 1000 characters"), json_pattern(RELOAD)]
Account = Annotated[str, matching(ACCOUNT, "the name of an account"), json_pattern(ACCOUNT)]
Destination = Annotated[str, AfterValidator(_destination), json_pattern(DESTINATION)]
ProbeRoute = Annotated[str, AfterValidator(_probe_route), json_pattern(PROBE_ROUTE)]
Batch = Annotated[str, matching(BATCH, "a number of hosts, or a part of them such as 20%"), json_pattern(BATCH)]
SourceFile = Annotated[str, AfterValidator(_secret_file)]
TextFile = Annotated[str, AfterValidator(_textfile), json_pattern(TEXTFILE)]
AdoptedFolder = Annotated[str, AfterValidator(_adopted_folder)]
AuthorityName = Annotated[str, AfterValidator(_authority_name)]
SecretName = Annotated[str, AfterValidator(_secret_name)]
NotifyName = Annotated[str, matching(NOTIFY, "the name of a secret: notify, or notify-NAME"), json_pattern(NOTIFY)]
MailUser = Annotated[
    str, matching(r"[!-~]{1,200}", "a user name in ASCII, without blanks"), json_pattern(r"[!-~]{1,200}")
]
CommandLine = Annotated[str, AfterValidator(_command_line)]
