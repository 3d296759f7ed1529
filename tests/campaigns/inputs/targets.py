"""What trials damage: which file of which project, in which ways, and the commands that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = ("doit",)
CHECKS = (("invoke", "plan"), ("invoke", "status"), ("invoke", "health"), ("invoke", "explain", "media"))
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
    ("invoke", "ledger.import", "issuance_records"),
    ("invoke", "ledger.import", "issuance_records", "--dry-run", "--json"),
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
    fixes: bool = True  # whether the file, put back, is as good as before, whatever was run meanwhile
    is_inside: bool = False  # whether what is changed is a file within a backup

    def files(self, place: Path) -> list[Path]:
        return sorted({path for glob in self.globs for path in place.glob(glob) if path.is_file()})


TARGETS: dict[str, Target] = {
    "pki.yaml": Target(
        "lab",
        ("project/pki.yaml",),
        ("yaml", "yaml", "yaml", "text", "bytes"),
        (RUN, *CHECKS, *DECLARED),
        ("deploy-hosts:", "deploy-artifact:"),  # headers that name what pki.yaml no longer declares
    ),
    "secrets.yaml": Target("lab", ("project/secrets.yaml",), ("yaml", "text", "bytes"), (RUN, *CHECKS, LEDGER[-1])),
    "secrets.yaml of an offline root": Target(
        "offline", ("project/secrets.yaml",), ("yaml", "text", "bytes"), (RUN, *CHECKS[:3], CEREMONY[0])
    ),
    "headers and templates": Target(
        "lab",
        ("project/templates/*/*",),
        ("template", "template", "template", "text", "bytes"),
        (RUN, RUN, *CHECKS, ("invoke", "deploy.diff", "media")),
        ("release:", "deploy:"),
    ),
    ".cnf": Target(
        "lab",
        ("project/templates/*.cnf",),
        ("cnf", "cnf", "template", "text", "bytes"),
        (RUN, *CHECKS),
        ("cert:printer",),
    ),
    "CSR": Target("lab", ("project/requests/*.csr",), ("pem", "pem", "bytes"), (RUN, *CHECKS), ("cert:switch",)),
    "certificates and keys of leaves": Target(
        "lab",
        ("project/build/certs/*/*.pem", "project/ca/clients/*/*.pem"),
        ("pem", "pem", "bytes"),
        (RUN, *CHECKS, *DEPLOY),
    ),
    "certificates and keys of authorities": Target(
        "lab",
        ("project/ca/*/*/*.pem", "project/ca/legacy/*.pem"),
        ("pem", "pem", "bytes"),
        (RUN, *CHECKS, ("invoke", "ceremony.verify"), LEDGER[-1]),
        ("root-1", "server-1", "client-1", "legacy", "root is gone"),
    ),
    "pre-signed CRLs": Target(
        "lab", ("project/ca/root/*/crl/*",), ("pem", "bytes"), (RUN, *CHECKS), ("crl:root", "root-1")
    ),
    "CRLs": Target("lab", ("project/build/crl/*",), ("pem", "bytes"), (RUN, *CHECKS, *DEPLOY), ("crl:",)),
    "bundles and pages": Target("lab", ("project/build/trust/*",), ("pem", "text", "bytes"), (RUN, *CHECKS)),
    "ledger": Target(
        "lab",
        ("project/ca/ledger.db",),
        ("sqlite", "sqlite", "sqlite", "bytes"),
        (RUN, *CHECKS, *LEDGER, *LEDGER),
        ("ledger",),
        fixes=False,
    ),
    "what was seen of the ledger": Target(
        "lab",
        ("project/ca/.ledger*", "project/ca/.*.json"),
        ("json", "json", "bytes"),
        (RUN, *CHECKS, LEDGER[0]),
        ("ledger",),
    ),
    "cache": Target("lab", ("project/build/.seen.json",), ("json", "json", "bytes"), (RUN, *CHECKS)),
    "manifests": Target(
        "lab",
        ("project/build/release/*/manifest.json", "project/build/history/*/*/manifest.json"),
        ("json", "json", "bytes"),
        (RUN, *CHECKS, *DEPLOY, ("invoke", "deploy.diff", "media")),
    ),
    "receipts and contacts": Target(
        "lab",
        ("project/build/receipts/*.json", "project/build/contacts/*.json", "project/build/hosts/.*.files"),
        ("json", "json", "bytes"),
        (RUN, *CHECKS, *DEPLOY),
        ("deploy:", "drift:"),
    ),
    "histories": Target(
        "lab", ("project/build/history/*/log.jsonl",), ("json", "text", "bytes"), (RUN, *CHECKS, *DEPLOY)
    ),
    "reports": Target("lab", ("project/build/report/*",), ("json", "text", "bytes"), (RUN, *CHECKS, *DEPLOY)),
    "files of hosts": Target("lab", ("project/build/hosts/*/etc/**/*",), ("text", "bytes"), (RUN, *CHECKS, *DEPLOY)),
    "records of a ceremony": Target(
        "lab",
        ("project/ca/transcript.jsonl", "project/ca/ceremonies/*/*"),
        ("yaml", "json", "text", "bytes"),
        (("invoke", "ceremony.verify"), RUN, *CHECKS),
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
        (
            "project/ca/requests/*",
            "project/ca/request*",
            "project/ca/open/*",
            "project/ca/*.yaml",
            "project/ca/*/*.csr",
        ),
        ("yaml", "pem", "text", "bytes"),
        (*CEREMONY, RUN, ("invoke", "ceremony.request", "--crls"), *CHECKS[:3]),
        ("request", "ceremon"),
        fixes=False,
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
    "issuance_records": Target(
        "lab",
        ("books/index.txt", "books/newcerts/*", "books/*.pem"),
        ("pem", "text", "text", "bytes"),
        IMPORT,
        ("issuance_records",),
    ),
    "Ansible events": Target(
        "fleet", ("events/*.json",), ("json", "json", "bytes"), COLLECT, ("events", "deploy:", "monitoring")
    ),
}
