"""Releases: every file of a host with owner, mode and digest, rendered and checked before anything leaves.

`build/release/<host>/manifest.json` names the files and digests of everything they follow from, so that the manifest
alone shows whether the release is out of date.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.cache import Cache, digest_of
from pki.common.errors import FaultsError, PkiError, from_bug
from pki.common.file_headers import FIX_HEADER
from pki.common.reasons import Outcome, Reason, Verb, Why, joined, reasons_from_text
from pki.common.templating import Templates
from pki.config import upstreams
from pki.config.identifiers import ArtifactId
from pki.deploy.artifact_content import PKCS12_KINDS, Sources, certificates_in, contents, digest_of_files
from pki.deploy.header_values import is_any_order, octal_mode
from pki.deploy.managed_files import TEMPLATE, ManagedFile, Selection, render_header

FORMAT = 1
UNSEALED_KEYS = ("format", "host", "release", "files", "inputs", "uses")  # of version 0.1.0
TEMPLATES_NAMED = 2  # in one reason, of those that were added, changed or removed together
PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
OWNER = re.compile(r"{0}:{0}".format(r"[A-Za-z_][A-Za-z0-9_.-]*"))  # Debian-exim, first.last


class SharedValue:
    """A value that the templates of many hosts read; the digest of each of its sections is computed once."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def digest(self, section: str) -> str:
        """Return the digest of a section (`domains` of `inventory.domains`), or of the whole value for ""."""
        if section not in self._digests:
            self._digests[section] = digest_of(self.content(section))
        return self._digests[section]

    def content(self, section: str) -> object:
        """Return the value of a section, or the whole value for ""."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """Everything that the release of a host is built from.

    `context` are the values that templates may use. `sources` turns the name of an artifact (`tls:media`) into its
    files, each with the generation that it belongs to ("" if none); it raises PkiError for an unknown artifact.
    `faults` stop the release. `awaiting_ceremony` are artifacts that exist only after the next ceremony: the release is
    built without their files.
    """

    host: str
    selection: Selection
    templates: Templates
    context: Mapping[str, Any]
    sources: Sources
    awaiting_ceremony: tuple[str, ...] = ()
    faults: tuple[PkiError, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """One file of a release; `path` is absolute on the host, `mode` is octal text (`0644`).

    Files with the same `set` (a folder) change together. A `crl` is delivered first and never goes back to an older
    one. An `upstream` file holds certificates of other CAs, which the proxy trusts for its upstreams. A `pkcs12` file is
    that of the leaf of this name, and `certificates` (PEM) are in it. `any_order` means that the first certificate need
    not be that of the key.
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
    # not part of the release's digest, which covers repr():
    upstream: bool = field(default=False, repr=False)
    pkcs12: str = field(default="", repr=False)
    certificates: str = field(default="", repr=False)
    any_order: bool = field(default=False, repr=False)

    def below(self, folder: Path) -> Path:
        """Return the path of this file when `folder` takes the place of the root directory."""
        return folder / self.path.lstrip("/")


FILE_FIELDS = tuple(field.name for field in fields(File))
RARE_FIELDS = {"pkcs12", "certificates", "any_order"}  # in a manifest only where they are used


@dataclass(frozen=True, slots=True)
class Release:
    """A release; `inputs` are digests of templates and values, `uses` digests of the artifacts in its files."""

    host: str
    files: tuple[File, ...]
    inputs: Mapping[str, str]
    uses: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The name of the release: a digest of its files without the CRLs, which change weekly and never go back."""
        return digest_of(tuple(file for file in self.files if not file.crl))

    def manifest(self) -> bytes:
        """Return the content of manifest.json."""
        files = [
            {name: value for name in FILE_FIELDS if (value := getattr(file, name)) or name not in RARE_FIELDS}
            for file in self.files
        ]
        head = {"format": FORMAT, "host": self.host, "release": self.digest}
        return sealed_records.encode_sealed({**head, "files": files, "inputs": self.inputs, "uses": self.uses})


def load(folder: Path) -> Release | None:
    """Return the release in a folder, None if there is none or its manifest is damaged."""
    try:
        data = sealed_records.decode_record(filesystem.read(folder / "manifest.json"), UNSEALED_KEYS) or {}
        if data.get("format") != FORMAT:
            return None
        return Release(data["host"], tuple(File(**file) for file in data["files"]), data["inputs"], data["uses"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def stale_reasons(release_spec: ReleaseSpec, folder: str, cache: Cache) -> list[Reason]:
    """Return why the release of a host is out of date; empty if it is up to date."""
    if release_spec.faults:
        return reasons_from_text(FaultsError.of(release_spec.faults).message)
    name, key = ArtifactId("release", release_spec.host), _cache_key(release_spec)
    if cache.recall(name, key):
        return []
    release = load(Path(folder))
    if release is None:
        return [Why.MANIFEST_DAMAGED() if os.path.lexists(f"{folder}/manifest.json") else Why.NOT_CREATED()]
    inputs = _inputs(release_spec)
    reasons = [*_input_reasons(release.inputs, inputs)]
    artifact_paths: list[Path] = []
    for artifact, digest in release.uses.items():
        try:
            paths = [path for _, path in release_spec.sources(artifact)]
        except PkiError:  # the artifact is no longer in pki.yaml: its digest then differs
            paths = []
        artifact_paths += paths
        if digest_of_files(paths) != digest:
            reasons.append(Why.CHANGED(what=artifact))
    copies = [file.below(Path(folder, "files")) for file in release.files]
    for file, path in zip(release.files, copies, strict=True):
        if _sha256(filesystem.read(path) or b"") != file.sha256 or filesystem.mode_of(path) != int(file.mode, 8):
            reasons.append(Why.COPY_DAMAGED(file=file.path))
    if not reasons:
        cache.remember(name, key, [f"{folder}/manifest.json", *map(str, (*copies, *artifact_paths))], True)
    return reasons


def _input_reasons(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Reason]:
    """Yield a reason for each input whose digest differs; for several templates that were all added, one for them."""
    groups = (
        (Why.ADDED, Why.MANY_ADDED, now.keys() - before.keys()),
        (Why.CHANGED, Why.CHANGED, {name for name in now.keys() & before.keys() if now[name] != before[name]}),
        (Why.LEFT, Why.MANY_LEFT, before.keys() - now.keys()),
    )
    for code, code_of_many, names in groups:
        templates = sorted(name.removeprefix(TEMPLATE) for name in names if name.startswith(TEMPLATE))
        if len(templates) > 1:
            more = [f"{len(templates) - TEMPLATES_NAMED} more"] if len(templates) > TEMPLATES_NAMED else []
            template_names = " and ".join([", ".join(templates[:TEMPLATES_NAMED]), *more])
            yield code_of_many(what=f"{len(templates)} templates ({template_names})")
        yield from (code(what=name) for name in sorted(names) if len(templates) < 2 or not name.startswith(TEMPLATE))


def damage_text(folder: Path) -> str:
    """Return what is damaged in a release, as the rest of a sentence that begins with its name; "" without damage."""
    release = load(folder)
    if release is None:
        return "its manifest is damaged" if os.path.lexists(folder / "manifest.json") else ""
    for file in release.files:
        if _sha256(filesystem.read(file.below(folder / "files")) or b"") != file.sha256:
            return f"its copy of {file.path} is damaged"
    return ""


@dataclass(slots=True)
class RenderedFiles:
    """The rendered files of a release; `uses` are digests of artifacts, `faults` are kept by template."""

    files: list[tuple[File, bytes]] = field(default_factory=list)
    uses: dict[str, str] = field(default_factory=dict)
    faults: dict[str, PkiError] = field(default_factory=dict)


def render_files(
    release_spec: ReleaseSpec, begin: Callable[[str], None], skipped: Collection[str] = ()
) -> RenderedFiles:
    """Render every file of a release except the templates in `skipped`; `begin` is called before each template."""
    rendered_files = RenderedFiles()
    for managed in release_spec.selection.files:
        if managed.fault or managed.name in skipped:
            continue
        begin(managed.name)
        try:
            rendered_files.files += _render_file(release_spec, managed, rendered_files.uses)
        except PkiError as fault:
            rendered_files.faults[managed.name] = fault
        except Exception as error:  # noqa: BLE001 - a fault in one template must not stop the others
            rendered_files.faults[managed.name] = FaultsError.of([_error_of_template(managed, from_bug(error))])
    return rendered_files


def _error_of_template(managed: ManagedFile, error: PkiError) -> PkiError:
    return PkiError(f"templates/{managed.name}: {error.message}", error.hint)


def build(
    release_spec: ReleaseSpec,
    folder: Path,
    render: Callable[[], RenderedFiles],
    faults_of: Callable[[str], list[Reason]] = lambda _: [],
) -> Outcome:
    """Render the files of a release, check it as a whole, and write it with its manifest last.

    `faults_of` returns, after a full check, why the files of an artifact cannot be delivered. Raises PkiError with all
    faults of all files; the old release stays then.
    """
    verb = Verb.UPDATED if (folder / "manifest.json").exists() else Verb.CREATED
    rendered_files = render()
    faults = [*release_spec.faults, *rendered_files.faults.values()]
    for artifact in rendered_files.uses:
        if reasons := faults_of(artifact):
            text = f"{artifact} cannot be delivered: {joined(reasons)}"
            faults.append(PkiError(text, "issue it again: ./run doit"))
    contents: dict[str, tuple[File, bytes]] = {}
    by_name = {managed.name: managed for managed in release_spec.selection.files}
    for file, content in rendered_files.files:
        if file.path in contents:
            header_place, other_template = by_name[file.managed].place("deploy-target"), contents[file.path][0].managed
            faults.append(PkiError(f"{header_place}: {file.path} is already the target of templates/{other_template}"))
        contents[file.path] = (file, content)
    for path, (file, _) in contents.items():
        if any(str(parent) in contents for parent in PurePosixPath(path).parents):
            faults.append(PkiError(f"templates/{file.managed}: {path} is below the path of another file"))
    if faults:
        raise FaultsError.of(faults)
    copies = {file.below(folder / "files"): (content, int(file.mode, 8)) for file, content in contents.values()}
    filesystem.write_all(filesystem.changed_files(copies))
    release = Release(
        release_spec.host,
        tuple(file for file, _ in contents.values()),
        _inputs(release_spec),
        dict(sorted(rendered_files.uses.items())),
    )
    filesystem.write(folder / "manifest.json", release.manifest())
    _remove_other_files(folder / "files", {str(path) for path in copies})
    return Outcome(verb)


# -- one managed file -------------------------------------------------------------------------------------------------


def _render_file(release_spec: ReleaseSpec, managed: ManagedFile, uses: dict[str, str]) -> list[tuple[File, bytes]]:
    """Return what one managed file delivers: one file, or one for each live generation of an authority."""
    context = {**release_spec.context, "artifact": lambda name: _artifact_text(release_spec, managed, name, uses)}
    templates = release_spec.templates
    if "deploy-artifact" not in managed.headers:
        content = templates.render(managed.name, context).encode()
        if not content.strip():
            raise PkiError(f"templates/{managed.name}: renders to an empty file for {release_spec.host}")
        return [(_file_of(managed, release_spec, context, content), content)]
    artifact = render_header(managed, "deploy-artifact", templates, context)
    if artifact in release_spec.awaiting_ceremony:
        return []
    files = []
    for generation, content in _contents(release_spec, managed, artifact):
        uses[artifact] = _digest_of_artifact(release_spec, artifact)
        file = _file_of(managed, release_spec, {**context, "generation": generation}, content, artifact)
        files.append((file, content))
    return files


def _file_of(
    managed: ManagedFile, release_spec: ReleaseSpec, context: Mapping[str, Any], content: bytes, artifact: str = ""
) -> File:
    def header(name: str) -> str:
        return render_header(managed, name, release_spec.templates, context)

    path, owner = header("deploy-target"), header("deploy-owner")
    is_absolute_file = path.startswith("/") and not path.endswith("/")
    if not is_absolute_file or ".." in PurePosixPath(path).parts or not path.isprintable():
        raise PkiError(f"{managed.place('deploy-target')}: {path!r} is not an absolute path of a file, without ..")
    if not OWNER.fullmatch(owner):
        what = f"{managed.place('deploy-owner')}: expected user:group such as root:Debian-exim, got {owner!r}"
        raise PkiError(what, FIX_HEADER)
    artifact_kind, leaf = ArtifactId.parse(artifact).parts
    is_pkcs12 = artifact_kind in PKCS12_KINDS
    is_secret = is_pkcs12 or PRIVATE.search(content) is not None
    set_folder, is_crl = header("deploy-set"), artifact_kind in {"crl", "crl-pem"}
    if set_folder and (is_crl or str(PurePosixPath(path).parent) != set_folder):
        fault = "a CRL cannot be part of a set" if is_crl else f"{path} is not in {set_folder}"
        raise PkiError(
            f"{managed.place('deploy-set')}: {fault}", "write the folder of the targets, without a slash at the end"
        )
    return File(
        path=str(PurePosixPath(path)),
        mode=octal_mode(managed, header("deploy-mode"), is_secret=is_secret),
        owner=owner,
        sha256=_sha256(content),
        managed=managed.name,
        validate=header("deploy-validate"),
        reload=header("deploy-reload"),
        set=set_folder,
        crl=is_crl,
        upstream=artifact_kind == upstreams.ARTIFACT,
        pkcs12=leaf if is_pkcs12 else "",
        certificates=certificates_in(release_spec.sources, artifact),
        any_order=is_any_order(managed, header("deploy-order")),
    )


def _artifact_text(release_spec: ReleaseSpec, managed: ManagedFile, name: str, uses: dict[str, str]) -> str:
    """Return the content of an artifact as text, for `{{ artifact("trust:roots") }}` in a template."""
    parts = [content for _, content in _contents(release_spec, managed, name)]
    uses[name] = _digest_of_artifact(release_spec, name)
    try:
        return b"".join(parts).decode("ascii")
    except UnicodeDecodeError:
        raise PkiError(f"templates/{managed.name}: {name} is binary; deliver it with deploy-artifact") from None


def _contents(release_spec: ReleaseSpec, managed: ManagedFile, artifact: str) -> list[tuple[str, bytes]]:
    """Return the contents of an artifact, each with its generation or ""."""
    try:
        release_spec.sources(artifact)
    except PkiError as error:
        raise PkiError(f"{managed.place('deploy-artifact')}: {error.message}", error.hint) from None
    return contents(release_spec.sources, artifact)


def _digest_of_artifact(release_spec: ReleaseSpec, artifact: str) -> str:
    return digest_of_files([path for _, path in release_spec.sources(artifact)])


# -- digests ----------------------------------------------------------------------------------------------------------


def _cache_key(release_spec: ReleaseSpec) -> str:
    """Return one text for all inputs: cheaper to compute than their digests, for the run that finds nothing changed."""
    values = [
        value.digest(section) if isinstance(value, SharedValue) else value
        for _, top, section in release_spec.selection.reads
        if (value := release_spec.context.get(top)) is not None
    ]
    return digest_of(release_spec.selection.digest, values, release_spec.awaiting_ceremony)


def _inputs(release_spec: ReleaseSpec) -> dict[str, str]:
    """Return digests of all inputs except artifacts: the templates, and the values that they read."""
    inputs = dict(release_spec.selection.digests)
    for name, top, section in release_spec.selection.reads:
        if top in release_spec.context:
            value = release_spec.context[top]
            inputs[name] = value.digest(section) if isinstance(value, SharedValue) else digest_of(_part(value, section))
    if release_spec.awaiting_ceremony:
        inputs["what waits for a ceremony"] = digest_of(release_spec.awaiting_ceremony)
    return inputs


def _part(value: Any, section: str) -> Any:
    """Return the part of a value that a template reads; all of it if it reads no single key."""
    return value[section] if isinstance(value, dict) and section in value else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remove_other_files(folder: Path, paths: set[str]) -> None:
    """Remove files that a release no longer has, and folders that this leaves empty."""
    for root, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if f"{root}/{name}" not in paths:
                (Path(root) / name).unlink()
        for name in folders:
            if not any((Path(root) / name).iterdir()):
                shutil.rmtree(Path(root) / name)
