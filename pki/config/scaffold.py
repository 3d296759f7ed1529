"""A new project: its pki.yaml as a person would write it, and its folder, which appears whole or not at all."""

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
from pki.config import loader

WELCOME = re.compile(r"\.git|(README|LICENSE|COPYING)(\.\w+)?", re.IGNORECASE)
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/@-]*(?<! )")
WORDS = re.compile(r"true|false|yes|no|on|off|y|n|null|[0-9._]+(e[0-9]+)?", re.IGNORECASE)  # of a meaning elsewhere

GITIGNORE = """\
# What the pipeline makes or holds: never in git
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
README = """\
# {organisation}: certificates

The project of an internal certificate authority, kept alive by doit-pki.

- `pki.yaml`: what should be. Change it, then `{call} invoke plan`, then `{call} doit`.
- `templates/`: the files that hosts get, each with a header that says where it goes. They are yours.
- `ca/`, `secrets.yaml`: keys, passphrases and the ledger. Never in git, never lost: `{call} invoke backup`.
- `build/`: all else. It may be lost.
"""


def check_place(folder: Path, program: Path) -> None:
    """Raise PkiError when a project cannot be founded in `folder`."""
    if folder.is_relative_to(program):
        raise PkiError(
            f"{folder}: lies in the program's own folder, which an upgrade changes",
            "name another one: ./run invoke init /srv/pki",
        )
    if (folder / "pki.yaml").exists():
        raise PkiError(f"{folder}/pki.yaml: is there already", "a project is founded once; edit its pki.yaml")
    try:
        others = sorted(path.name for path in folder.iterdir() if not WELCOME.fullmatch(path.name))
    except FileNotFoundError:
        return
    except OSError as error:
        raise PkiError(f"{folder}: cannot be a project's folder: {error.strerror}", "name another one") from None
    if others:
        raise PkiError(f"{folder}: is not empty: {others[0]}", "name a new folder: ./run invoke init DIR")


def found(folder: Path, tree: dict[str, Any], program: Path) -> list[str]:
    """Put a new project into `folder`; returns the names of what was put there.

    Raises PkiError, and then there is no more than before, when pki.yaml would be wrong or a file cannot be written.
    """
    check_place(folder, program)
    files = contents(folder, tree, program)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / "pki.yaml"
        trial.write_bytes(files["pki.yaml"][0])
        loader.load(trial)
    made = next((parent for parent in (*reversed(folder.parents), folder) if not parent.exists()), None)
    try:
        filesystem.make_folder(folder)
        filesystem.write_all({folder / name: kept for name, kept in files.items()})
    except BaseException as error:
        for name in {name.partition("/")[0] for name in files}:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        if made:
            shutil.rmtree(made, ignore_errors=True)
        if isinstance(error, OSError):
            raise PkiError(f"{folder}: cannot be written: {error.strerror}", "name another folder") from None
        raise
    return sorted({name.partition("/")[0] for name in files})


def contents(folder: Path, tree: dict[str, Any], program: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a new project with its mode, by path; pki.yaml, which makes it a project, last."""
    call = f"PKI_HOME={shlex.quote(str(folder))} {shlex.quote(str(program / 'run'))}"
    texts = {".gitignore": GITIGNORE}
    if not any(path.name.lower().startswith("readme") for path in (folder.iterdir() if folder.is_dir() else ())):
        texts["README.md"] = README.format(organisation=tree["organisation"], call=call)
    return {
        **{
            f"templates/{path.relative_to(program / 'templates')}": (path.read_bytes(), filesystem.PUBLIC)
            for path in sorted((program / "templates").rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        },
        **{name: (text.encode(), filesystem.PUBLIC) for name, text in texts.items()},
        "secrets.yaml": (SECRETS.encode(), filesystem.SECRET),
        "pki.yaml": (pki_yaml(tree).encode(), filesystem.PUBLIC),
    }


# -- pki.yaml ---------------------------------------------------------------------------------------------------------


def pki_yaml(tree: dict[str, Any]) -> str:
    """The text of pki.yaml that means `tree`, with comments."""
    publish = f"{{url: {_scalar(tree['publish']['url'])}, host: {_scalar(tree['publish']['host'])}}}"
    sandbox = (
        "sandbox: true   # a try-out: the first run makes the root, below offline/\n" if tree.get("sandbox") else ""
    )
    return f"""\
# What should be. Every key and default: docs/inventory.md of doit-pki; for editors: ./run invoke schema
organisation: {_scalar(tree["organisation"])}
domains: {_list(tree["domains"])}   # every DNS name must lie under one of them; signed into the authorities
publish: {publish}   # plain http: where CRLs are found; signed into every certificate
{sandbox}secrets: secrets.yaml   # or a source for each passphrase; never in git

networks:
{_lines(_networks(tree))}
# access: mtls asks for a client's certificate, tls for none
hosts:
{_lines(_hosts(tree))}
# one for each person and device: admin@laptop, admin@phone
clients:
{_lines(_clients(tree))}"""


def _networks(tree: dict[str, Any]) -> Iterator[str]:
    for name, network in tree["networks"].items():
        yield f"  {_scalar(name)}: {_scalar(network)}"


def _hosts(tree: dict[str, Any]) -> Iterator[str]:
    for name, host in tree["hosts"].items():
        yield f"  {_scalar(name)}:"
        yield from (f"    {key}: {_scalar(value)}" for key, value in host.items() if isinstance(value, str))
        if host.get("services"):
            yield "    services:"
        for service, said in host.get("services", {}).items():
            yield f"      {_scalar(service)}: {{upstream: {_scalar(said['upstream'])}, access: {_scalar(said['access'])}}}"


def _clients(tree: dict[str, Any]) -> Iterator[str]:
    for name, client in tree["clients"].items():
        yield f"  {_scalar(name)}: {{email: {_scalar(client['email'])}}}"


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _list(values: list[str]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(text: str) -> str:
    """Text as YAML reads it back: plain where that is sure, else in double quotes, as in JSON."""
    is_plain = PLAIN.fullmatch(text) and (text.count(".") == 3 or not WORDS.fullmatch(text))
    return text if is_plain else json.dumps(text, ensure_ascii=False)
