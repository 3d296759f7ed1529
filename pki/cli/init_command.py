"""The command init."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from invoke.context import Context

from pki.cli.decorator import command_with, path_of
from pki.cli.init_questions import Options, Questions, parse_recipe, tree_of
from pki.cli.recipe_commands import print_setup
from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.remedies import as_started, typed_in
from pki.common.terminal import Screen
from pki.config import scaffold

QUESTIONS = ("organisation", "domains", "networks", "publish", "hosts", "clients", "sandbox")


@command_with(may_lack="folder", many=("domain", "network", "host", "service", "recipe", "client"))
def init(
    context: Context,
    domain: list[str],
    network: list[str],
    host: list[str],
    service: list[str],
    recipe: list[str],
    client: list[str],
    folder: str | None = None,
    organisation: str = "",
    publish: str = "",
    sandbox: bool = False,
    yes: bool = False,
) -> None:
    """Create a project in DIR or the current folder: pki.yaml, templates/, a secrets file. Asks for what no option says.

    --network lan=192.168.1.0/24, --host web,network=lan,address=192.168.1.10,proxy=nginx,
    --service web/wiki=http://127.0.0.1:3000,mtls, --recipe postgres=web and --client admin=admin@lab.internal may be
    given several times; --recipe postgres is for the only host, with the templates that `recipe.list` shows;
    --publish http://pki.lab.internal=web. With --yes, it uses the defaults and does not ask. --sandbox creates a trial
    project, whose root key is on this machine.
    """
    target = path_of(context, folder or ".")
    target = target.resolve()
    scaffold.check_place(target, PROGRAM)
    tree = tree_of(Options(organisation, domain, network, publish, host, service, recipe, client))
    if sandbox:
        tree["sandbox"] = "true"
    if not yes:
        options = (organisation, domain, network, publish, host or service or recipe, client, sandbox)
        answered = {name for name, value in zip(QUESTIONS, options, strict=True) if value}
        try:
            tree = Questions(tree, answered).ask_all()
        except (EOFError, KeyboardInterrupt):
            print()
            raise PkiError("stopped before the last answer; nothing was written", "--yes uses the defaults") from None
    if tree.get("sandbox") != "true":
        tree.pop("sandbox", None)
    created = scaffold.create_project(target, tree, PROGRAM)
    screen = Screen()
    screen.done("created", "project", f"{target}\n{', '.join(created)}")
    _print_next_steps(screen, target, sandbox="sandbox" in tree, in_git=_create_repository(screen, target))
    for text in recipe:
        screen.line("")
        print_setup(screen, *parse_recipe(tree, text))


def _create_repository(screen: Screen, folder: Path) -> bool:
    """Create a git repository if git is installed; return whether the project is in one."""
    if not shutil.which("git"):
        return False
    if _git(folder, "rev-parse", "--is-inside-work-tree"):
        return True
    if not _git(folder, "init", "--quiet"):
        screen.line(f"git init failed in {folder}; the project is complete without it")
        return False
    screen.done("created", "git", f"{folder}/.git\nnothing is committed yet")
    return True


def _git(folder: Path, *arguments: str) -> bool:
    """Return whether git succeeds in a folder. Variables that name another repository are not passed on, an author is."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))
    }
    line = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return not done.returncode


def _print_next_steps(screen: Screen, folder: Path, *, sandbox: bool, in_git: bool) -> None:
    screen.line("\nnext: edit pki.yaml (your hosts, services and clients), then type:")
    if folder != typed_in():
        screen.line(f"  cd {shlex.quote(str(folder))}")
    if in_git:
        if not (_git(folder, "var", "GIT_AUTHOR_IDENT") and _git(folder, "var", "GIT_COMMITTER_IDENT")):
            screen.line("  git config user.name 'YOUR NAME' && git config user.email YOUR@ADDRESS")
        screen.line("  git add . && git commit -m 'Create the project'")
    screen.line(as_started(f"  ./run {'doit' if sandbox else 'invoke ceremony.request'}"))
    if not sandbox:
        screen.line(as_started("\nto try it without a ceremony: write sandbox: true in pki.yaml, then ./run doit"))
