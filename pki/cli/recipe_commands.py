"""The commands recipe.list and recipe.add."""

from __future__ import annotations

from typing import Any

from invoke.context import Context

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, command_with, held_project_of, home_of, project_as_it_is
from pki.common.reasons import Verb
from pki.common.remedies import as_started, here
from pki.common.terminal import Screen
from pki.config import editing
from pki.config.fields import RecipeName
from pki.config.recipes import RECIPES, Recipe, default_access, service_settings, services_of


@command
def show_list(context: Context) -> None:
    """Show each recipe: the server, its protocols, and the hosts of this project that use it."""
    hosts = project_as_it_is(context).inventory.hosts
    rows = [
        (
            name,
            recipe.title,
            _protocols(recipe),
            ", ".join(host for host in hosts if services_of(hosts[host], name)),
        )
        for name, recipe in RECIPES.items()
    ]
    Screen().table("recipes", ("recipe", "server", "speaks", "hosts"), rows)


def _protocols(recipe: Recipe) -> str:
    return "any protocol" if recipe.is_for_any_protocol else ", ".join(recipe.protocols)


@command_with(many=("dns",))
def add(context: Context, name: str, host: str, dns: list[str], access: str = "") -> None:
    """Add the services of a recipe to a host in pki.yaml, and print how the server reads the delivered files.

    The program's templates of the recipe are used from then on. Comments and layout of pki.yaml stay. --dns NAME, the
    name of the host and the first domain by default, may be given several times; --access tls admits everybody, which
    is the default of servers that check no client certificates.
    """
    path = home_of(context) / "pki.yaml"
    with held_project_of(context) as project:
        inventory, recipe_name = project.inventory, recipe_called(name)
        require_one_of(host, inventory.hosts, "host")
        names = dns or [f"{host}.{inventory.domains[0]}"]
        editing.write(
            editing.add_services(
                path, host, service_settings(recipe_name, names, access or default_access(recipe_name))
            )
        )
    screen = Screen()
    added = ", ".join(f"hosts.{host}.services.{service}" for service in RECIPES[recipe_name].services)
    screen.done(Verb.UPDATED, "pki.yaml", f"added {added}")
    if inventory.hosts[host].deliver == "ssh":
        prepare = here("invoke", "deploy.bootstrap", host)
        screen.line(f"→ before the first delivery, because the files are in new folders: {prepare}")
    print_setup(screen, recipe_name, host)
    screen.line(f"→ then: {here('invoke', 'plan')}")


def print_setup(screen: Screen, recipe: RecipeName, host: str) -> None:
    """Print what must be done once on a host with a recipe, and the page of the recipe."""
    screen.line(f"→ on {host}: {RECIPES[recipe].setup}")
    screen.line(as_started(f"→ its traps, and how to change it: docs/how-to/recipe-{recipe}.md"))


def recipe_called(name: str) -> RecipeName:
    """Return the name of a recipe as it was typed. Raises PkiError with the closest one."""
    require_one_of(name, RECIPES, "recipe")
    return next(recipe for recipe in RECIPES if recipe == name)


TASKS: dict[str, Any] = {"list": show_list, "add": add}
