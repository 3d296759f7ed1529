"""Create a new project: pki.yaml with comments, an empty templates/ and README, completely or not at all."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.program_files import executable
from pki.common.template_folders import ORIGINALS
from pki.config import editor_schemas, loader, template_versions

PROGRAM_MODE = 0o755
TOLERATED_FILES = re.compile(r"\.git|(README|LICENSE|COPYING)(\.\w+)?", re.IGNORECASE)
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/@-]*(?<! )")
# scalars that other YAML parsers do not read as text
WORDS = re.compile(r"true|false|yes|no|on|off|y|n|null|[0-9._]+(e[0-9]+)?", re.IGNORECASE)

GITIGNORE = """\
# Keys, secrets and generated files: never in git
/ca/
/ca.before-restore-*/
/build/
/offline/
secrets.yaml
*.p12
*.mobileconfig
.*.new
"""
SECRETS = (
    "# The passphrase of each CA's key, by its name. The program writes here; keep it out of git, and back it up.\n"
)
RUN = """\
#!/bin/sh
# Start doit-pki for the project in this folder: ./run doit, ./run invoke plan
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for program in "${{DOIT_PKI:-}}" {program} "$(command -v doit-pki)"; do
    [ -x "$program" ] || continue
    PKI_HOME=$here PKI_RUN=$here/run
    export PKI_HOME PKI_RUN
    exec "$program" "$@"
done
echo "run: doit-pki, which created this folder, is no longer at" {program} >&2
echo "→ pipx install doit-pki, or name another one: DOIT_PKI=/path/to/doit-pki/run ./run doit" >&2
exit 1
"""
README = """\
# {organisation}: certificates

The project of an internal certificate authority, run by doit-pki.

- `pki.yaml`: the configuration. Change it, then run `./run invoke plan`, then `./run doit`.
- `templates/`: your own files for hosts, each with a header that names its target. The program has templates for proxies, trust
  stores and monitoring: `./run invoke templates.list` lists them, `templates.eject PATH` copies one here, so that you can change it.
- `ca/`, `secrets.yaml`: keys, passphrases and the ledger. Never in git; back them up: `./run invoke backup`.
- `build/`: everything else. It can be generated again.
- `run`, `dodo.py`, `tasks.py`: start the program, also as `doit` and `invoke` where it is installed.
"""


def check_place(folder: Path, program: Path) -> None:
    """Raise PkiError if a project cannot be created in `folder`; `program` is the folder of the program."""
    if folder.is_relative_to(program):
        raise PkiError(
            f"{folder}: is in the program's own folder, which an upgrade changes",
            "name another one: ./run invoke init /srv/pki",
        )
    if (folder / "pki.yaml").exists():
        raise PkiError(f"{folder}/pki.yaml: exists already", "a project is initialised once; edit its pki.yaml")
    try:
        other_names = sorted(path.name for path in folder.iterdir() if not TOLERATED_FILES.fullmatch(path.name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise PkiError(f"{folder}: cannot be a project's folder: {error.strerror}", "name another one") from None
    if other_names:
        raise PkiError(f"{folder}: is not empty: {other_names[0]}", "name a new folder: ./run invoke init DIR")


def create_project(folder: Path, tree: dict[str, Any], program: Path) -> list[str]:
    """Create a new project in `folder`; returns the names of the created files and folders.

    Raises PkiError if pki.yaml would be invalid or a file cannot be written; then nothing is created.
    """
    check_place(folder, program)
    files = project_files(folder, tree, program)
    with tempfile.TemporaryDirectory() as temporary_folder:
        trial_file = Path(temporary_folder) / "pki.yaml"
        trial_file.write_bytes(files["pki.yaml"][0])
        loader.load(trial_file)
    new_parent = next((parent for parent in (*reversed(folder.parents), folder) if not parent.exists()), None)
    try:
        filesystem.make_folder(folder)
        filesystem.write_all({folder / name: content for name, content in files.items()})
    except BaseException as error:
        for name in {name.partition("/")[0] for name in files}:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        if new_parent:
            shutil.rmtree(new_parent, ignore_errors=True)
        if isinstance(error, OSError):
            raise PkiError(f"{folder}: cannot be written: {error.strerror}", "name another folder") from None
        raise
    return sorted({name.partition("/")[0] for name in files})


def project_files(folder: Path, tree: dict[str, Any], program: Path) -> dict[str, tuple[bytes, int]]:
    """Return path → content and mode of every file of a new project; pki.yaml is last, because it marks a project."""
    texts = {".gitignore": GITIGNORE, **{name: (program / name).read_text() for name in ("dodo.py", "tasks.py")}}
    if not any(path.name.lower().startswith("readme") for path in (folder.iterdir() if folder.is_dir() else ())):
        texts["README.md"] = README.format(organisation=tree["organisation"])
    return {
        f"templates/{ORIGINALS}": (template_versions.encode_originals({}), filesystem.PUBLIC),
        **{name: (text.encode(), filesystem.PUBLIC) for name, text in texts.items()},
        "run": (RUN.format(program=shlex.quote(str(executable()))).encode(), PROGRAM_MODE),
        **{name: (content, filesystem.PUBLIC) for name, content in editor_schemas.schema_files().items()},
        "secrets.yaml": (f"{editor_schemas.line_for('secrets.yaml')}{SECRETS}".encode(), filesystem.SECRET),
        "pki.yaml": (render_pki_yaml(tree).encode(), filesystem.PUBLIC),
    }


# -- pki.yaml ---------------------------------------------------------------------------------------------------------


def render_pki_yaml(tree: dict[str, Any]) -> str:
    """Return pki.yaml for `tree`, with comments."""
    publish = f"{{url: {_scalar(tree['publish']['url'])}, host: {_scalar(tree['publish']['host'])}}}"
    sandbox = "sandbox: true   # a trial: the first run creates the root, in offline/\n" if tree.get("sandbox") else ""
    return f"""\
{editor_schemas.line_for("pki.yaml")}# The desired state. Every key and default: docs/reference/keys.md of doit-pki;
# editors show them with .schema/pki.json
organisation: {_scalar(tree["organisation"])}
# every DNS name must be in one of them; signed into the CA certificates
domains: {_list(tree["domains"])}
# plain http: the address of CRLs; signed into every certificate
publish: {publish}
{sandbox}secrets: secrets.yaml   # or a source for each passphrase; never in git

networks:
{_lines(_networks(tree))}
# access: mtls requires a client certificate, tls does not
hosts:
{_lines(_hosts(tree))}
# one for each person and device: admin@laptop, admin@phone
clients:
{_lines(_clients(tree))}"""


def _networks(tree: dict[str, Any]) -> Iterator[str]:
    for name, network in tree["networks"].items():
        yield f"  {_scalar(name)}: {_value(network)}"


def _hosts(tree: dict[str, Any]) -> Iterator[str]:
    for name, host in tree["hosts"].items():
        yield f"  {_scalar(name)}:"
        yield from (f"    {key}: {_value(value)}" for key, value in host.items() if isinstance(value, str | list))
        if host.get("services"):
            yield "    services:"
        for service, settings in host.get("services", {}).items():
            yield f"      {_scalar(service)}: {{{', '.join(f'{key}: {_value(value)}' for key, value in settings.items())}}}"


def _value(value: str | list[str]) -> str:
    return _list(value) if isinstance(value, list) else _scalar(value)


def _clients(tree: dict[str, Any]) -> Iterator[str]:
    for name, client in tree["clients"].items():
        yield f"  {_scalar(name)}: {{email: {_scalar(client['email'])}}}"


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _list(values: list[str]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(text: str) -> str:
    """Return a text as a YAML scalar: plain if every parser reads it as this text, else in double quotes as in JSON."""
    is_plain = PLAIN.fullmatch(text) and (text.count(".") == 3 or not WORDS.fullmatch(text))
    return text if is_plain else json.dumps(text, ensure_ascii=False)
