"""What a client takes along to a device: an identity under a passphrase, or a policy for its browser."""

from __future__ import annotations

import hashlib
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from invoke.context import Context

from pki.authority import certificates
from pki.cli.daily_commands import known
from pki.cli.decorator import command, held_project_of, path_of, project_of
from pki.cli.prompt import typed
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import joined
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import client_artifact, client_leaf, mtls_names, permitted_addresses
from pki.config.model import Inventory, Leaf
from pki.pipeline.desired_state import domain_of_clients
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509.export import chrome_policy, firefox_policy, mobileconfig, pem_files, pkcs12
from pki.x509.export.client_identity import Identity, file_name
from pki.x509.export.generated_passphrase import new_passphrase
from pki.x509.export.passphrase_sheet import Sheet
from pki.x509.keys import key_kind

Sealed = Callable[[Project, Identity, str], bytes]
Files = dict[Path, tuple[bytes, int]]

SEALED: dict[str, tuple[str, Sealed]] = {
    "p12": ("p12", lambda _, identity, passphrase: pkcs12.modern(identity, passphrase)),
    "p12-legacy": ("p12", lambda _, identity, passphrase: pkcs12.legacy(identity, passphrase)),
    "mobileconfig": (
        "mobileconfig",
        lambda project, identity, passphrase: mobileconfig.with_identity(
            identity, project.inventory.domains[0], passphrase
        ),
    ),
}
FORMATS = (*SEALED, "pem", "chrome-policy", "firefox-policy")
WHICH = (
    "p12: Windows, Linux, Firefox, Android 13; p12-legacy: Mac, older systems; mobileconfig: iPhone, iPad, Mac; "
    "pem: curl and scripts; chrome-policy, firefox-policy: browsers that need not ask"
)


@command
def export(
    context: Context,
    name: str,
    format: str = "",  # noqa: A002 - what the option is called
    output: str = "",
    passphrase_to: str = "",
    sheet: str = "",
    yes: bool = False,
) -> None:
    """Hand out the identity of a client, or a policy for its browser, as a file for one device.

    --format is p12, p12-legacy (Mac, older systems), mobileconfig (iPhone, iPad, Mac), pem (curl, scripts; into a
    folder), chrome-policy or firefox-policy. The file goes here, or to --output FILE or DIR. Its passphrase is shown
    once; --sheet FILE.html is a page with it to print, --passphrase-to FILE a file. Asks before; --yes does not.
    """
    project = project_of(context)
    if not format:
        raise PkiError(f"{name}: in which --format?", WHICH)
    known(format, FORMATS, "format")
    client = known(_client_name(project.inventory, name), project.inventory.clients, "client")
    secret = format in SEALED
    if (sheet or passphrase_to) and not secret:
        raise PkiError(f"{format}: has no passphrase", "leave --sheet and --passphrase-to out")
    if format.endswith("-policy"):
        _export_policy(project, format, path_of(context, output or "."))
        return
    identity = _identity(project, client)
    target = _new(path_of(context, output or "."), identity.file_name, SEALED[format][0] if secret else "")
    if sheet and passphrase_to:
        raise PkiError("--sheet and --passphrase-to: expected one of them", "the passphrase goes one way")
    if secret and not (sheet or passphrase_to or sys.stdout.isatty()):
        raise PkiError("there is no terminal to show the passphrase at", "--sheet FILE.html, or --passphrase-to FILE")
    beside = _new_file(path_of(context, sheet or passphrase_to)) if sheet or passphrase_to else None
    if beside == target:
        raise PkiError(f"{target}: the passphrase and what it opens go into different files", "name another file")
    _confirm(client, target, yes=yes)
    with held_project_of(context) as project:
        identity = _identity(project, known(client, project.inventory.clients, "client"))
        if secret:
            _export_sealed(project, identity, format, target, beside, as_page=bool(sheet))
        else:
            _export_pem(project, identity, target)


# -- what is exported -------------------------------------------------------------------------------------------------


def _identity(project: Project, client: str) -> Identity:
    """The identity of a client as it is now. Raises PkiError when there is none that a device could use."""
    leaf = client_leaf(project.inventory, client, project.inventory.clients[client], domain_of_clients(project))
    if leaf.request is not None:
        raise PkiError(
            f"{client}: its key never was here: pki.yaml takes a request from {leaf.request}",
            f"bring {project.store.shown(project.store.bundle(leaf))} to where the key is; or leave `request` out, and "
            "./run doit makes a key here",
        )
    _check(project, leaf)
    roots = b"".join(root.pem for root in _generations(project, "root"))
    bundle = filesystem.read(project.store.bundle(leaf)) or b""
    return Identity.read(client, project.inventory.organisation, bundle, roots)


def _check(project: Project, leaf: Leaf) -> None:
    held = certificates.examine(project, leaf)
    fault = joined(held) if isinstance(held, list) else ""
    if not isinstance(held, list) and held.not_after < project.now:
        fault = f"expired on {held.not_after:%Y-%m-%d}"
    if fault:
        hint = "./run doit, or ./run invoke plan for what keeps it; then again"
        raise PkiError(f"{ArtifactId('cert', leaf.name)}: {fault}", hint)


def _export_sealed(
    project: Project, identity: Identity, kind: str, target: Path, beside: Path | None, *, as_page: bool
) -> None:
    screen, passphrase = Screen(), new_passphrase()
    data = SEALED[kind][1](project, identity, passphrase)
    files: Files = {target: (data, filesystem.SECRET)}
    if beside:
        told = Sheet(
            identity=identity,
            format=kind,
            file=target.name,
            digest=hashlib.sha256(data).hexdigest(),
            passphrase=passphrase,
            at=project.now,
            example=_example(project.inventory),
        )
        files[beside] = (told.page() if as_page else f"{passphrase}\n".encode(), filesystem.SECRET)
    _hand_out(project, identity, kind, files)
    screen.done("exported", client_artifact(identity.name), f"{target}, valid until {_end(identity)}")
    if beside:
        screen.line(f"its passphrase is in {beside} and nowhere else: bring it there another way, then destroy it")
    else:
        screen.line(f"its passphrase, shown this once: {passphrase}")
    if key_kind(identity.key) == "ed25519":
        screen.line("browsers and phones take no Ed25519 key; in pki.yaml, under this client: key: ec-p256")
    screen.line("how to install it: docs/clients.md; then take the file away")
    _then(screen, identity)


def _export_pem(project: Project, identity: Identity, folder: Path) -> None:
    filesystem.make_folder(folder, 0o700)
    try:
        files = {folder / name: (data, filesystem.SECRET) for name, data in pem_files.files(identity).items()}
        _hand_out(project, identity, "pem", files)
    except PkiError:
        with suppress(OSError):
            folder.rmdir()
        raise
    screen = Screen()
    screen.done("exported", client_artifact(identity.name), f"{folder}, valid until {_end(identity)}")
    example = next(iter(mtls_names(project.inventory)), project.inventory.domains[0])
    screen.line(
        f"the key lies open in it:  curl --cert {folder}/tls.pem --cacert {folder}/roots.pem https://{example}/"
    )
    _then(screen, identity)


def _export_policy(project: Project, kind: str, path: Path) -> None:
    """A policy holds no secret, and is the same for every client."""
    screen, said = Screen(), project.inventory
    roots = [root.certificate for root in _generations(project, "root")]
    label = file_name(said.organisation)
    if kind == "firefox-policy":
        folder = _new(path, f"{label}-firefox")
        files = {folder / name: (data, filesystem.PUBLIC) for name, data in firefox_policy.files(roots).items()}
        target, places = folder, firefox_policy.PLACES
    else:
        target = _new(path, f"{label}-chrome", "json")
        clients = [one.certificate for one in _generations(project, "client")]
        policy = chrome_policy.policy(mtls_names(said), clients, roots, said.domains, permitted_addresses(said))
        files, places = {target: (policy, filesystem.PUBLIC)}, chrome_policy.PLACES
    filesystem.write_all(files)
    screen.done("exported", kind, str(target))
    columns = ("on", "goes to", "the other files go to") if kind == "firefox-policy" else ("on", "goes to")
    screen.table("where it belongs", columns, places)
    screen.line("export it again when services, domains or authorities change")


# -- parts ------------------------------------------------------------------------------------------------------------


def _client_name(said: Inventory, name: str) -> str:
    """`admin`, `client-admin` and `cert:client-admin` mean a client."""
    bare = ArtifactId.parse(name).short
    return bare if bare in said.clients else bare.removeprefix("client-")


def _generations(project: Project, authority: str) -> list[Generation]:
    """What is live of an authority, newest first."""
    found = [one for name in reversed(project.live(authority)) if (one := project.generation(name))]
    if not found:
        raise project.missing_authority(authority)
    return found


def _example(said: Inventory) -> str:
    """One service to try; empty when none is behind mutual TLS."""
    return next((name for name in mtls_names(said) if "*" not in name), "")


def _new(path: Path, name: str, suffix: str = "") -> Path:
    """Where something goes: `path`, or below it under its own name where `path` is a folder."""
    own = f"{name}.{suffix}" if suffix else name
    if older := next((one for one in ("key.pem", "tls.pem") if (path / one).exists()), ""):
        text = f"{path}: holds an older export; the new key would lie beside {older}, which has the old one"
        raise PkiError(text, "take it away, or name another folder: --output")
    return _new_file(path / own if path.is_dir() else path)


def _new_file(path: Path) -> Path:
    if path.exists():
        raise PkiError(f"{path}: is there already, and is not overwritten", "take it away, or name another: --output")
    folder = next(one for one in path.parents if one.is_dir())
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise PkiError(f"{folder}: others may write to this folder", f"name another one, or: chmod go-w {folder}")
    return path


def _confirm(client: str, target: Path, *, yes: bool) -> None:
    if not yes and typed(f"hand the private key of {client} out, as {target}? (yes/no) ") not in {"y", "yes"}:
        raise PkiError("stopped; nothing was written")


def _hand_out(project: Project, identity: Identity, kind: str, files: Files) -> None:
    """Put files in place that hold an identity, while the project is held: the ledger knows of it before anybody can see them."""
    artifact, serial = client_artifact(identity.name), identity.certificate.serial_number
    with filesystem.Beside(files) as waiting:
        waiting.flush()
        project.ledger.record_decision(artifact, "exported", f"{serial:x} {kind}", project.now)
        waiting.place()


def _end(identity: Identity) -> str:
    return f"{identity.certificate.not_valid_after_utc:%Y-%m-%d}"


def _then(screen: Screen, identity: Identity) -> None:
    screen.line(f"once it is on the device: ./run invoke client.installed {identity.name}")
