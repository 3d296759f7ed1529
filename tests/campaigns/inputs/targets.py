"""What trials damage: which file of which project, in which ways, and the commands that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = ("doit",)
LOOKS = (("invoke", "plan"), ("invoke", "status"), ("invoke", "health"), ("invoke", "explain", "media"))
LEDGER = (
    ("invoke", "ledger.verify"),
    ("invoke", "ledger.list"),
    ("invoke", "ledger.list", "--json"),
    ("invoke", "ledger.show", "1"),
    ("invoke", "client.list"),
    ("invoke", "revoke", "media", "--reason", "superseded", "--yes"),
    ("invoke", "backup", "new.age", "--passphrase-file", "words"),
)
DEPLOY = (
    ("invoke", "deploy.history", "monitoring"),
    ("invoke", "deploy.drift", "--json"),
    ("invoke", "deploy.drift"),
    ("invoke", "health", "--json"),
    ("invoke", "deploy.history", "media", "--json"),
)
DECLARED = (
    ("invoke", "plan", "--json"),
    ("invoke", "timeline", "--years", "3"),
    ("invoke", "schedule"),
    ("invoke", "client.add", "eve", "--email", "eve@lab.internal"),
    ("invoke", "client.export", "admin", "--format", "firefox-policy", "--output", "policy.json"),
    ("doit", "list"),
)
CEREMONY = (
    ("invoke", "ceremony.accept", "out/response-0002", "--words", "{words}"),
    ("invoke", "ceremony.verify", "vault"),
    ("invoke", "ceremony.verify"),
)
VAULT = (
    ("invoke", "ceremony.verify", "vault"),
    (
        *("invoke", "ceremony.sign", "request.yaml", "--vault", "vault", "--output", "out"),
        *("--passphrase-file", "secret", "--words", "{request}"),
    ),
)
RESTORE = (
    ("invoke", "restore", "b.age", "--to", "other", "--passphrase-file", "words"),
    ("invoke", "restore", "b.age", "--yes", "--passphrase-file", "words"),
)
IMPORT = (
    ("invoke", "ledger.import", "books"),
    ("invoke", "ledger.import", "books", "--dry-run", "--json"),
)
COLLECT = (("invoke", "deploy.collect", "events"),)


@dataclass(frozen=True)
class Target:
    """Files below the folder around a project (`globs`), what may be done to them, and what reads them.

    `names` are further texts by which a message may name such a file.
    """

    project: str
    globs: tuple[str, ...]
    kinds: tuple[str, ...]
    commands: Sequence[Sequence[str]]
    names: tuple[str, ...] = ()
    mends: bool = True  # whether the file, put back, is as good as before, whatever was run meanwhile
    is_inside: bool = False  # whether what is changed is a file within a backup

    def files(self, place: Path) -> list[Path]:
        return sorted({path for glob in self.globs for path in place.glob(glob) if path.is_file()})


TARGETS: dict[str, Target] = {
    "pki.yaml": Target("lab", ("house/pki.yaml",), ("yaml", "yaml", "yaml", "text", "bytes"), (RUN, *LOOKS, *DECLARED)),
    "secrets.yaml": Target("lab", ("house/secrets.yaml",), ("yaml", "text", "bytes"), (RUN, *LOOKS, LEDGER[-1])),
    "secrets.yaml of an offline root": Target(
        "offline", ("house/secrets.yaml",), ("yaml", "text", "bytes"), (RUN, *LOOKS[:3], CEREMONY[0])
    ),
    "headers and templates": Target(
        "lab",
        ("house/templates/*/*",),
        ("template", "template", "template", "text", "bytes"),
        (RUN, RUN, *LOOKS, ("invoke", "deploy.diff", "media")),
        ("release:", "deploy:"),
    ),
    ".cnf": Target(
        "lab", ("house/templates/*.cnf",), ("cnf", "cnf", "template", "text", "bytes"), (RUN, *LOOKS), ("cert:printer",)
    ),
    "CSR": Target("lab", ("house/requests/*.csr",), ("pem", "pem", "bytes"), (RUN, *LOOKS), ("cert:switch",)),
    "certificates and keys of leaves": Target(
        "lab",
        ("house/build/certs/*/*.pem", "house/ca/clients/*/*.pem"),
        ("pem", "pem", "bytes"),
        (RUN, *LOOKS, *DEPLOY),
    ),
    "certificates and keys of authorities": Target(
        "lab",
        ("house/ca/*/*/*.pem", "house/ca/legacy/*.pem"),
        ("pem", "pem", "bytes"),
        (RUN, *LOOKS, ("invoke", "ceremony.verify"), LEDGER[-1]),
        ("root-1", "server-1", "client-1", "legacy", "root is gone"),
    ),
    "pre-signed CRLs": Target(
        "lab", ("house/ca/root/*/crl/*",), ("pem", "bytes"), (RUN, *LOOKS), ("crl:root", "root-1")
    ),
    "CRLs": Target("lab", ("house/build/crl/*",), ("pem", "bytes"), (RUN, *LOOKS, *DEPLOY), ("crl:",)),
    "bundles and pages": Target("lab", ("house/build/trust/*",), ("pem", "text", "bytes"), (RUN, *LOOKS)),
    "ledger": Target(
        "lab",
        ("house/ca/ledger.db",),
        ("sqlite", "sqlite", "sqlite", "bytes"),
        (RUN, *LOOKS, *LEDGER, *LEDGER),
        ("ledger",),
        mends=False,
    ),
    "what was seen of the ledger": Target(
        "lab",
        ("house/ca/.ledger*", "house/ca/.*.json"),
        ("json", "json", "bytes"),
        (RUN, *LOOKS, LEDGER[0]),
        ("ledger",),
    ),
    "cache": Target("lab", ("house/build/.seen.json",), ("json", "json", "bytes"), (RUN, *LOOKS)),
    "manifests": Target(
        "lab",
        ("house/build/release/*/manifest.json", "house/build/history/*/*/manifest.json"),
        ("json", "json", "bytes"),
        (RUN, *LOOKS, *DEPLOY, ("invoke", "deploy.diff", "media")),
    ),
    "receipts and contacts": Target(
        "lab",
        ("house/build/receipts/*.json", "house/build/contacts/*.json", "house/build/hosts/.*.files"),
        ("json", "json", "bytes"),
        (RUN, *LOOKS, *DEPLOY),
        ("deploy:", "drift:"),
    ),
    "histories": Target("lab", ("house/build/history/*/log.jsonl",), ("json", "text", "bytes"), (RUN, *LOOKS, *DEPLOY)),
    "reports": Target("lab", ("house/build/report/*",), ("json", "text", "bytes"), (RUN, *LOOKS, *DEPLOY)),
    "files of hosts": Target("lab", ("house/build/hosts/*/etc/**/*",), ("text", "bytes"), (RUN, *LOOKS, *DEPLOY)),
    "records of a ceremony": Target(
        "lab",
        ("house/ca/transcript.jsonl", "house/ca/ceremonies/*/*"),
        ("yaml", "json", "text", "bytes"),
        (("invoke", "ceremony.verify"), RUN, *LOOKS),
        ("ceremon", "transcript"),
    ),
    "response": Target(
        "offline",
        ("out/response-0002/*", "out/response-0002/*/*"),
        ("yaml", "json", "pem", "text", "bytes"),
        CEREMONY,
        ("response", "transcript", "vault"),
    ),
    "open request": Target(
        "offline",
        ("house/ca/requests/*", "house/ca/request*", "house/ca/open/*", "house/ca/*.yaml", "house/ca/*/*.csr"),
        ("yaml", "pem", "text", "bytes"),
        (*CEREMONY, RUN, ("invoke", "ceremony.request", "--crls"), *LOOKS[:3]),
        ("request", "ceremon"),
        mends=False,
    ),
    "vault": Target(
        "offline",
        ("vault/*", "vault/*/*", "vault/*/*/*"),
        ("yaml", "json", "pem", "text", "bytes"),
        VAULT,
        ("vault", "transcript", "root-1"),
    ),
    "request on the medium": Target(
        "offline", ("request.yaml",), ("yaml", "yaml", "text", "bytes"), (VAULT[1],), ("request",)
    ),
    "backup": Target("lab", ("b.age",), ("bytes",), RESTORE),
    "within a backup": Target(
        "lab", ("b.age",), ("yaml", "json", "sqlite", "pem", "text", "bytes"), RESTORE, ("b.age",), is_inside=True
    ),
    "books": Target(
        "lab",
        ("books/index.txt", "books/newcerts/*", "books/*.pem"),
        ("pem", "text", "text", "bytes"),
        IMPORT,
        ("books",),
    ),
    "Ansible events": Target(
        "fleet", ("events/*.json",), ("json", "json", "bytes"), COLLECT, ("events", "deploy:", "monitoring")
    ),
}
