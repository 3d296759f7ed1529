"""The command client.export: an identity, a network that a device joins with it, or a policy for a browser."""

from __future__ import annotations

import hashlib
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from invoke.context import Context

from pki.authority import certificates
from pki.cli.client_networks import SUFFIXES, WHERE_TO_PUT, NetworkRequest, requested_network
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, held_project_of, path_of, project_of
from pki.cli.prompt import is_yes
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.reasons import joined
from pki.common.remedies import for_this_project
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import client_artifact, client_leaf, mtls_names, permitted_addresses
from pki.config.model import Inventory, Leaf
from pki.pipeline.permitted_leaves import domain_of_clients
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.x509.export import chrome_policy, firefox_policy, mobileconfig, pem_files, pkcs12
from pki.x509.export.client_identity import ClientIdentity, file_name
from pki.x509.export.generated_passphrase import new_passphrase
from pki.x509.export.passphrase_sheet import Sheet
from pki.x509.keys import ML_DSA, key_kind

Files = dict[Path, tuple[bytes, int]]  # content and mode by path


class SealedFormat(NamedTuple):
    """A format whose file is protected by a passphrase: the suffix of the file, and the function that returns it."""

    suffix: str
    seal: Callable[[Inventory, ClientIdentity, str, NetworkRequest], bytes]


SEALED = {
    "p12": SealedFormat("p12", lambda _, identity, passphrase, _network: pkcs12.modern(identity, passphrase)),
    "p12-legacy": SealedFormat("p12", lambda _, identity, passphrase, _network: pkcs12.legacy(identity, passphrase)),
    "mobileconfig": SealedFormat(
        "mobileconfig",
        lambda inventory, identity, passphrase, network: mobileconfig.with_identity(
            identity, inventory.domains[0], passphrase, network.wifi
        ),
    ),
}
FORMATS = (*SEALED, "pem", "networkmanager", "chrome-policy", "firefox-policy")
UNSUPPORTED = {  # kind of key → which programs do not accept it
    "ed25519": "browsers and phones do not accept Ed25519 keys",
    ML_DSA: "no browser or phone accepts ML-DSA keys, and of other programs only those with OpenSSL 3.5 or newer",
}
WHICH = (
    "p12: Windows, Linux, Firefox, Android 13; p12-legacy: Mac, older systems; mobileconfig: iPhone, iPad, Mac; "
    "pem: curl and scripts; networkmanager: wireless networks on Linux; "
    "chrome-policy, firefox-policy: browsers that choose the certificate without a prompt"
)


@command
def export(
    context: Context,
    name: str,
    format: str = "",  # noqa: A002 - what the option is called
    output: str = "",
    passphrase_to: str = "",
    sheet: str = "",
    wifi: str = "",
    openvpn: bool = False,
    server: str = "",
    yes: bool = False,
) -> None:
    """Export the identity of a client, or a policy for its browser, as a file for one device.

    --format is p12, p12-legacy (Mac, older systems), mobileconfig (iPhone, iPad, Mac), pem (curl, scripts; a folder),
    networkmanager (Linux, with --wifi), chrome-policy or firefox-policy. --wifi SSID configures a wireless network with
    EAP-TLS (mobileconfig, networkmanager), --openvpn writes a configuration of OpenVPN; --server HOST/SERVICE names the
    server if pki.yaml has several. --output FILE or DIR is where it is written, instead of the current folder. Its
    passphrase is shown once; --sheet FILE.html writes a printable page with it, --passphrase-to FILE a file. Asks for
    confirmation unless --yes is given.
    """
    project = project_of(context)
    _check_format(name, format, has_default=bool(wifi or openvpn))
    client = require_one_of(_client_name(project.inventory, name), project.inventory.clients, "client")
    request = requested_network(project.inventory, format, wifi, server, with_openvpn=openvpn)
    _check_passphrase_options(request.format, passphrase_to, sheet)
    if request.format.endswith("-policy"):
        _export_policy(project.inventory, project.authorities, request.format, path_of(context, output or "."))
        return
    target = _target(path_of(context, output or "."), _identity(project, client), request)
    passphrase_file = _new_file(path_of(context, sheet or passphrase_to)) if sheet or passphrase_to else None
    if passphrase_file == target:
        raise PkiError(f"{target}: the passphrase and the identity cannot be in the same file", "name another file")
    if not yes and not is_yes(f"export the private key of {client} as {target}?"):
        raise PkiError("cancelled; nothing was written")
    with held_project_of(context) as project:
        identity = _identity(project, require_one_of(client, project.inventory.clients, "client"))
        request = requested_network(project.inventory, format, wifi, server, with_openvpn=openvpn)
        if request.format in SEALED:
            _export_sealed(project, identity, request, target, passphrase_file, as_page=bool(sheet))
        elif request.format == "pem":
            _export_pem(project.inventory, project.now, project.ledger_view, identity, target)
        else:
            _export_open_file(project.inventory, project.now, project.ledger_view, identity, request, target)


def _check_format(name: str, kind: str, *, has_default: bool) -> None:
    """Raise PkiError if a format is unknown, or missing where the other options do not define one."""
    if kind:
        require_one_of(kind, FORMATS, "format")
    elif not has_default:
        raise PkiError(f"{name}: --format is missing", WHICH)


def _check_passphrase_options(kind: str, passphrase_to: str, sheet: str) -> None:
    """Raise PkiError if the options for the passphrase do not fit the format, or each other."""
    if (sheet or passphrase_to) and kind not in SEALED:
        raise PkiError(f"{kind}: has no passphrase", "leave out --sheet and --passphrase-to")
    if sheet and passphrase_to:
        raise PkiError("--sheet and --passphrase-to exclude each other", "give one of them")
    if kind in SEALED and not (sheet or passphrase_to or sys.stdout.isatty()):
        raise PkiError("there is no terminal to show the passphrase", "--sheet FILE.html, or --passphrase-to FILE")


def _target(path: Path, identity: ClientIdentity, request: NetworkRequest) -> Path:
    """Return the path of the exported file or folder, which does not exist yet: `admin-office.mobileconfig`.

    Raises PkiError if it exists, or if the format cannot contain the key.
    """
    if request.format in SEALED:  # each of them contains a PKCS#12 file
        pkcs12.writable_key(identity.key, identity.name)
    suffix = SEALED[request.format].suffix if request.format in SEALED else SUFFIXES.get(request.format, "")
    label = file_name(request.label)
    return _new_path(path, f"{identity.file_name}-{label}" if label else identity.file_name, suffix)


# -- what is exported -------------------------------------------------------------------------------------------------


def _identity(project: Project, client: str) -> ClientIdentity:
    """Return the current identity of a client. Raises PkiError if there is no valid one with its key in this project."""
    leaf = client_leaf(
        project.inventory,
        client,
        project.inventory.clients[client],
        domain_of_clients(project.inventory, project.authorities),
    )
    if leaf.request is not None:
        raise PkiError(
            f"{client}: its key is not in this project: pki.yaml uses the request {leaf.request}",
            f"copy {project.store.shown(project.store.bundle(leaf))} to where the key is; or remove `request`, and "
            "./run doit creates a key here",
        )
    _require_usable(project, leaf)
    roots = b"".join(root.pem for root in _generations(project.authorities, "root"))
    bundle = filesystem.read(project.store.bundle(leaf)) or b""
    return ClientIdentity.read(client, project.inventory.organisation, bundle, roots)


def _require_usable(project: Project, leaf: Leaf) -> None:
    """Raise PkiError unless the certificate of a leaf is what pki.yaml declares, and has not expired."""
    examination = certificates.LeafCertificates(project).examine(leaf)
    fault, summary = joined(examination.differences), examination.summary
    if summary and summary.not_after < project.now:
        fault = f"expired on {summary.not_after:%Y-%m-%d}"
    if fault:
        hint = "./run doit (./run invoke plan shows what blocks it), then again"
        raise PkiError(f"{ArtifactId('cert', leaf.name)}: {fault}", hint)


def _export_sealed(
    project: Project,
    identity: ClientIdentity,
    request: NetworkRequest,
    target: Path,
    passphrase_file: Path | None,
    *,
    as_page: bool,
) -> None:
    screen, passphrase, kind = Screen(), new_passphrase(), request.format
    data = SEALED[kind].seal(project.inventory, identity, passphrase, request)
    files: Files = {target: (data, filesystem.SECRET)}
    if passphrase_file:
        page = Sheet(
            identity=identity,
            format=kind,
            file=target.name,
            digest=hashlib.sha256(data).hexdigest(),
            passphrase=passphrase,
            at=project.now,
            example=_example(project.inventory),
        )
        files[passphrase_file] = (page.page() if as_page else f"{passphrase}\n".encode(), filesystem.SECRET)
    _write(project.now, project.ledger_view, identity, kind, files)
    screen.done("exported", client_artifact(identity.name), f"{target}, valid until {_end(identity)}")
    if passphrase_file:
        screen.line(
            f"its passphrase is only in {passphrase_file}: send it by another way than {target.name}, then destroy it"
        )
    else:
        screen.line(f"its passphrase, which is not shown again: {passphrase}")
    _warn_of_key(screen, identity)
    screen.line(for_this_project("to install it, see docs/how-to/clients.md; then delete the file"))
    _print_next_step(screen, identity)


def _export_pem(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, identity: ClientIdentity, folder: Path
) -> None:
    filesystem.make_folder(folder, 0o700)
    try:
        files = {folder / name: (data, filesystem.SECRET) for name, data in pem_files.files(identity).items()}
        _write(now, ledger_view, identity, "pem", files)
    except PkiError:
        with suppress(OSError):  # a folder that existed before, with other files in it, stays
            folder.rmdir()
        raise
    screen = Screen()
    screen.done("exported", client_artifact(identity.name), f"{folder}, valid until {_end(identity)}")
    example = next(iter(mtls_names(inventory)), inventory.domains[0])
    screen.line(
        f"the key in it is not encrypted:  curl --cert {folder}/tls.pem --cacert {folder}/roots.pem https://{example}/"
    )
    _warn_of_key(screen, identity)
    _print_next_step(screen, identity)


def _export_open_file(
    inventory: Inventory,
    now: datetime,
    ledger_view: LedgerView,
    identity: ClientIdentity,
    request: NetworkRequest,
    target: Path,
) -> None:
    """Write the configuration of a network, with the key of the client unencrypted in it."""
    data = request.open_file(identity, inventory.domains[0])
    _write(now, ledger_view, identity, request.format, {target: (data, filesystem.SECRET)})
    screen = Screen()
    screen.done("exported", client_artifact(identity.name), f"{target}, valid until {_end(identity)}")
    screen.line(f"the key in it is not encrypted; put it into {WHERE_TO_PUT[request.format]}")
    _warn_of_key(screen, identity)
    screen.line(for_this_project("see docs/how-to/clients.md; then delete the file"))
    _print_next_step(screen, identity)


def _export_policy(inventory: Inventory, authorities: Authorities, kind: str, path: Path) -> None:
    """Write a policy, which contains no secret and is the same for every client."""
    screen, config = Screen(), inventory
    roots = [root.certificate for root in _generations(authorities, "root")]
    label = file_name(config.organisation)
    if kind == "firefox-policy":
        folder = _new_path(path, f"{label}-firefox")
        files = {folder / name: (data, filesystem.PUBLIC) for name, data in firefox_policy.files(roots).items()}
        target, places = folder, firefox_policy.PLACES
    else:
        target = _new_path(path, f"{label}-chrome", "json")
        clients = [ca.certificate for ca in _generations(authorities, "client")]
        policy = chrome_policy.policy(mtls_names(config), clients, roots, config.domains, permitted_addresses(config))
        files, places = {target: (policy, filesystem.PUBLIC)}, chrome_policy.PLACES
    filesystem.write_all(files)
    screen.done("exported", kind, str(target))
    columns = ("system", "place", "place of the other files") if kind == "firefox-policy" else ("system", "place")
    screen.table("where to put it", columns, places)
    screen.line("export it again when services, domains or authorities change")


# -- names, paths and files ------------------------------------------------------------------------------------------------------------


def _client_name(config: Inventory, name: str) -> str:
    """Return the client that `admin`, `client-admin` or `cert:client-admin` means."""
    bare = ArtifactId.parse(name).short
    return bare if bare in config.clients else bare.removeprefix("client-")


def _generations(authorities: Authorities, authority: str) -> list[Generation]:
    """Return the generations of an authority that are in use, newest first. Raises PkiError if there is none."""
    names = reversed(authorities.live(authority))
    generations = [generation for name in names if (generation := authorities.generation(name))]
    if not generations:
        raise authorities.missing_authority(authority)
    return generations


def _example(config: Inventory) -> str:
    """Return the name of one service with mutual TLS, or "" if there is none."""
    return next((name for name in mtls_names(config) if "*" not in name), "")


def _new_path(path: Path, name: str, suffix: str = "") -> Path:
    """Return the path of a new file: `path`, or `name` in it if `path` is a folder. Raises PkiError if it exists."""
    full_name = f"{name}.{suffix}" if suffix else name
    if older := next((file_name for file_name in ("key.pem", "tls.pem") if (path / file_name).exists()), ""):
        text = f"{path}: contains an older export with its key in {older}"
        raise PkiError(text, "remove it, or name another folder: --output")
    return _new_file(path / full_name if path.is_dir() else path)


def _new_file(path: Path) -> Path:
    if path.exists():
        raise PkiError(f"{path}: exists already, and is not overwritten", "remove it, or name another: --output")
    folder = next(parent for parent in path.parents if parent.is_dir())
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise PkiError(f"{folder} can be written by other users", f"name another folder, or: chmod go-w {folder}")
    return path


def _write(now: datetime, ledger_view: LedgerView, identity: ClientIdentity, kind: str, files: Files) -> None:
    """Write the files of an identity under the project's lock; the export is recorded before the files appear."""
    artifact, serial = client_artifact(identity.name), identity.certificate.serial_number
    with filesystem.StagedFiles(files) as staged:
        staged.flush()
        ledger_view.ledger.record_decision(artifact, "exported", f"{serial:x} {kind}", now)
        staged.place()


def _warn_of_key(screen: Screen, identity: ClientIdentity) -> None:
    """Print which programs do not accept the kind of key of a client."""
    if warning := UNSUPPORTED.get(key_kind(identity.key)):
        screen.line(f"{warning}; set in pki.yaml for this client: key: ec-p256")


def _end(identity: ClientIdentity) -> str:
    return f"{identity.certificate.not_valid_after_utc:%Y-%m-%d}"


def _print_next_step(screen: Screen, identity: ClientIdentity) -> None:
    screen.line(f"next, when it is on the device: ./run invoke client.installed {identity.name}")
