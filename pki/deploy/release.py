"""A release: every file of one host as it should be there, with owner, mode and digest, complete before it leaves.

`build/release/<host>/manifest.json` names the files and everything that they follow from, so that a look at the
manifest tells whether the release must be made again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.cache import Cache, token
from pki.common.errors import FaultsError, PkiError, of_bug
from pki.common.reasons import Outcome, Reason, Verb, Why, joined, stated
from pki.common.templating import Templates
from pki.config import upstreams
from pki.config.identifiers import ArtifactId
from pki.deploy.managed_files import FIX_HEADER, ManagedFile, Selection, render_header
from pki.x509.keys import pkcs1_pem

FORMAT = 1
PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
LOOSEST_SECRET = 0o640
OWNER = re.compile(r"{0}:{0}".format(r"[A-Za-z_][A-Za-z0-9_.-]*"))  # Debian-exim, first.last

Sources = Callable[[str], list[tuple[str, Path]]]


class Shared:
    """A value that the templates of many hosts may read: the digest of each of its sections is made once."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def digest(self, section: str) -> str:
        """One text for a section (`domains` of `inventory.domains`), or for the whole when it is empty."""
        if section not in self._digests:
            self._digests[section] = token(self.content(section))
        return self._digests[section]

    def content(self, section: str) -> object:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """What a host's release is made of.

    `context` are the values that templates may use. `sources` turns an artifact's name (`tls:media`) into its files,
    each with the generation it belongs to or an empty text; it raises PkiError for a name that is none. `faults`
    stop the release outright. `waiting` are artifacts that will not be there until a ceremony has been held.
    """

    host: str
    selection: Selection
    templates: Templates
    context: Mapping[str, Any]
    sources: Sources
    waiting: tuple[str, ...] = ()
    faults: tuple[PkiError, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """One file of a release; `path` is absolute on the host, `mode` octal text.

    Files of one `set` (a folder) change together; a `crl` travels first and never goes back. What is in one of an
    `upstream` are certificates of others, which the proxy believes.
    """

    path: str
    mode: str
    owner: str
    sha256: str
    managed: str
    validate: str
    reload: str
    set: str = ""
    crl: bool = False
    upstream: bool = field(default=False, repr=False)  # which the digest of a release does not need

    def below(self, folder: Path) -> Path:
        """Where this file lies when `folder` stands for the root directory."""
        return folder / self.path.lstrip("/")


FILE_FIELDS = tuple(one.name for one in fields(File))


@dataclass(frozen=True, slots=True)
class Release:
    """`inputs` are digests of what the files follow from, `uses` of the artifacts whose content is in them."""

    host: str
    files: tuple[File, ...]
    inputs: Mapping[str, str]
    uses: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One text for all that a host would get, the CRLs aside, which change every week and never go back."""
        return token(tuple(file for file in self.files if not file.crl))

    def manifest(self) -> bytes:
        files = [{name: getattr(file, name) for name in FILE_FIELDS} for file in self.files]
        known = {"format": FORMAT, "host": self.host, "release": self.digest}
        return sealed_records.sealed({**known, "files": files, "inputs": self.inputs, "uses": self.uses})


def load(folder: Path) -> Release | None:
    """The release in a folder, None when there is none or it cannot be read."""
    try:
        data = sealed_records.unsealed(filesystem.read(folder / "manifest.json")) or {}
        if data.get("format") != FORMAT:
            return None
        return Release(data["host"], tuple(File(**file) for file in data["files"]), data["inputs"], data["uses"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def stale(release_spec: ReleaseSpec, folder: str, cache: Cache) -> list[Reason]:
    """Why a host's release must be made again."""
    if release_spec.faults:
        return stated(FaultsError.of(release_spec.faults).message)
    name, known = ArtifactId("release", release_spec.host), _known(release_spec)
    if cache.recall(name, known):
        return []
    release = load(Path(folder))
    if release is None:
        return [Why.MANIFEST_DAMAGED() if os.path.lexists(f"{folder}/manifest.json") else Why.NOT_CREATED()]
    inputs = _inputs(release_spec)
    every = sorted(inputs.keys() | release.inputs.keys())
    reasons = [
        (Why.ADDED if what not in release.inputs else Why.CHANGED if what in inputs else Why.LEFT)(what=what)
        for what in every
        if inputs.get(what) != release.inputs.get(what)
    ]
    used: list[Path] = []
    for artifact, digest in release.uses.items():
        try:
            paths = [path for _, path in release_spec.sources(artifact)]
        except PkiError:
            paths = []
        used += paths
        if _digest_of(paths) != digest:
            reasons.append(Why.CHANGED(what=artifact))
    copies = [file.below(Path(folder, "files")) for file in release.files]
    for file, path in zip(release.files, copies, strict=True):
        if _sha256(filesystem.read(path) or b"") != file.sha256 or filesystem.mode_of(path) != int(file.mode, 8):
            reasons.append(Why.COPY_DAMAGED(file=file.path))
    if not reasons:
        cache.remember(name, known, [f"{folder}/manifest.json", *map(str, (*copies, *used))], True)
    return reasons


def damaged(folder: Path) -> str:
    """What of a release is not as it was written, as a phrase after its name; empty where there is no release."""
    release = load(folder)
    if release is None:
        return "its manifest is damaged" if os.path.lexists(folder / "manifest.json") else ""
    for file in release.files:
        if _sha256(filesystem.read(file.below(folder / "files")) or b"") != file.sha256:
            return f"its copy of {file.path} is damaged"
    return ""


@dataclass(slots=True)
class Gathered:
    """The files of a release with their contents, what of artifacts is in them, and what is wrong, by template."""

    files: list[tuple[File, bytes]] = field(default_factory=list)
    uses: dict[str, str] = field(default_factory=dict)
    faults: dict[str, PkiError] = field(default_factory=dict)


def gather(release_spec: ReleaseSpec, begin: Callable[[str], None], skipped: Collection[str] = ()) -> Gathered:
    """Render every file of a release but the templates `skipped`; `begin` is told of each before it is rendered."""
    gathered = Gathered()
    for managed in release_spec.selection.files:
        if managed.fault or managed.name in skipped:
            continue
        begin(managed.name)
        try:
            gathered.files += _gather(release_spec, managed, gathered.uses)
        except PkiError as fault:
            gathered.faults[managed.name] = fault
        except Exception as error:  # noqa: BLE001 - whatever is in one template stops it alone
            gathered.faults[managed.name] = FaultsError.of([_named(managed, of_bug(error))])
    return gathered


def _named(managed: ManagedFile, error: PkiError) -> PkiError:
    return PkiError(f"templates/{managed.name}: {error.message}", error.hint)


def build(
    release_spec: ReleaseSpec,
    folder: Path,
    render: Callable[[], Gathered],
    faults_of: Callable[[str], list[Reason]] = lambda _: [],
) -> Outcome:
    """Render every file of a release, check it as a whole, and write it with its manifest last.

    `faults_of` tells, by a full check, why the files of an artifact cannot be delivered.

    Raises PkiError, with the old release as it was, that names all that is wrong with any file of it.
    """
    verb = Verb.UPDATED if (folder / "manifest.json").exists() else Verb.CREATED
    gathered = render()
    faults = [*release_spec.faults, *gathered.faults.values()]
    for artifact in gathered.uses:
        if found := faults_of(artifact):
            text = f"{artifact} cannot be delivered: {joined(found)}"
            faults.append(PkiError(text, "./run doit makes it again"))
    contents: dict[str, tuple[File, bytes]] = {}
    by_name = {managed.name: managed for managed in release_spec.selection.files}
    for file, content in gathered.files:
        if file.path in contents:
            place, other = by_name[file.managed].place("deploy-target"), contents[file.path][0].managed
            faults.append(PkiError(f"{place}: {file.path} is claimed by templates/{other} too"))
        contents[file.path] = (file, content)
    for path, (file, _) in contents.items():
        if any(str(parent) in contents for parent in PurePosixPath(path).parents):
            faults.append(PkiError(f"templates/{file.managed}: {path} lies below another file's path"))
    if faults:
        raise FaultsError.of(faults)
    copies = {file.below(folder / "files"): (content, int(file.mode, 8)) for file, content in contents.values()}
    filesystem.write_all(filesystem.differing(copies))
    release = Release(
        release_spec.host,
        tuple(file for file, _ in contents.values()),
        _inputs(release_spec),
        dict(sorted(gathered.uses.items())),
    )
    filesystem.write(folder / "manifest.json", release.manifest())
    _sweep(folder / "files", {str(path) for path in copies})
    return Outcome(verb)


# -- one managed file -------------------------------------------------------------------------------------------------


def _gather(release_spec: ReleaseSpec, managed: ManagedFile, uses: dict[str, str]) -> list[tuple[File, bytes]]:
    """What one managed file delivers to the host: one file, or one for each live generation of an authority."""
    context = {**release_spec.context, "artifact": lambda name: _used(release_spec, managed, name, uses)}
    templates = release_spec.templates
    if "deploy-artifact" not in managed.headers:
        content = templates.render(managed.name, context).encode()
        if not content.strip():
            raise PkiError(f"templates/{managed.name}: renders to nothing for {release_spec.host}")
        return [(_file(managed, release_spec, context, content), content)]
    artifact = render_header(managed, "deploy-artifact", templates, context)
    if artifact in release_spec.waiting:
        return []
    made = []
    for generation, path in _sources(release_spec, managed, artifact):
        content = _content(path, artifact)
        uses[artifact] = _digest_of([source for _, source in release_spec.sources(artifact)])
        made.append((_file(managed, release_spec, {**context, "generation": generation}, content), content))
    return made


def _file(managed: ManagedFile, release_spec: ReleaseSpec, context: Mapping[str, Any], content: bytes) -> File:
    def header(name: str) -> str:
        return render_header(managed, name, release_spec.templates, context)

    path, mode, owner = header("deploy-target"), header("deploy-mode"), header("deploy-owner")
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or path.endswith("/") or not path.isprintable():
        raise PkiError(f"{managed.place('deploy-target')}: {path!r} is not an absolute path of a file, without ..")
    if not OWNER.fullmatch(owner):
        what = f"{managed.place('deploy-owner')}: expected user:group such as root:Debian-exim, got {owner!r}"
        raise PkiError(what, FIX_HEADER)
    secret = PRIVATE.search(content) is not None
    mode = mode or ("0600" if secret else "0644")
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise PkiError(f"{managed.place('deploy-mode')}: expected an octal mode such as 0644, got {mode!r}")
    if secret and int(mode, 8) & ~LOOSEST_SECRET:
        raise PkiError(
            f"{managed.place('deploy-mode')}: {mode} would let others read a private key",
            "use 0600, or 0640 at most",
        )
    together, is_crl = (
        header("deploy-set"),
        ArtifactId.parse(managed.header("deploy-artifact")).kind in {"crl", "crl-pem"},
    )
    if together and (is_crl or str(PurePosixPath(path).parent) != together):
        raise PkiError(
            f"{managed.place('deploy-set')}: {'a CRL travels alone' if is_crl else f'{path} does not lie in {together}'}",
            "a set is the folder of its targets, without a slash at its end",
        )
    return File(
        path=str(PurePosixPath(path)),
        mode=f"{int(mode, 8):04o}",
        owner=owner,
        sha256=_sha256(content),
        managed=managed.name,
        validate=header("deploy-validate"),
        reload=header("deploy-reload"),
        set=together,
        crl=is_crl,
        upstream=ArtifactId.parse(managed.header("deploy-artifact")).kind == upstreams.ARTIFACT,
    )


def _used(release_spec: ReleaseSpec, managed: ManagedFile, name: str, uses: dict[str, str]) -> str:
    """An artifact's content as text, inside a template: `{{ artifact("trust:roots") }}`."""
    paths = [path for _, path in _sources(release_spec, managed, name)]
    uses[name] = _digest_of(paths)
    try:
        return b"".join(_content(path, name) for path in paths).decode("ascii")
    except UnicodeDecodeError:
        raise PkiError(f"templates/{managed.name}: {name} is binary; deliver it with deploy-artifact") from None


def _sources(release_spec: ReleaseSpec, managed: ManagedFile, artifact: str) -> list[tuple[str, Path]]:
    try:
        return release_spec.sources(artifact)
    except PkiError as error:
        raise PkiError(f"{managed.place('deploy-artifact')}: {error.message}", error.hint) from None


def _content(path: Path, artifact: str) -> bytes:
    content, kind = filesystem.read(path), ArtifactId.parse(artifact).kind
    if kind == upstreams.ARTIFACT:
        return upstreams.read_ca_certificates(content, str(path))
    if content is None:
        raise PkiError(f"{artifact} is not there yet", "./run doit")
    if kind == "key-pkcs1" and (content := pkcs1_pem(content)) is None:
        raise PkiError(f"{artifact}: the key that is there is no RSA key", "./run doit, which issues another one")
    return content


# -- digests ----------------------------------------------------------------------------------------------------------


def _known(release_spec: ReleaseSpec) -> str:
    """One text for all inputs: cheaper than their digests, for the daily look that finds nothing changed."""
    values = [
        value.digest(section) if isinstance(value, Shared) else value
        for _, top, section in release_spec.selection.reads
        if (value := release_spec.context.get(top)) is not None
    ]
    return token(release_spec.selection.digest, values, release_spec.waiting)


def _inputs(release_spec: ReleaseSpec) -> dict[str, str]:
    """Digests of all that a release follows from, artifacts aside: templates, and the values that they read."""
    inputs = dict(release_spec.selection.digests)
    for name, top, section in release_spec.selection.reads:
        if top in release_spec.context:
            value = release_spec.context[top]
            inputs[name] = value.digest(section) if isinstance(value, Shared) else token(value)
    if release_spec.waiting:
        inputs["what waits for a ceremony"] = token(release_spec.waiting)
    return inputs


def _digest_of(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(filesystem.read(path) or b"").digest())
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sweep(folder: Path, kept: set[str]) -> None:
    """Remove what a release no longer holds, and folders that this leaves empty."""
    for root, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if f"{root}/{name}" not in kept:
                (Path(root) / name).unlink()
        for name in folders:
            if not any((Path(root) / name).iterdir()):
                shutil.rmtree(Path(root) / name)
