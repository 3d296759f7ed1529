"""Which templates a project uses: its own, and those of the program that it does not leave out.

A project of a version before format 2 has copies of the program's templates, and nothing else is delivered to its hosts.
It keeps them: the first run lists in pki.yaml, as `templates: {without: […]}`, those of the program that it lacks.
"""

from __future__ import annotations

from pki.common import state_format
from pki.common.errors import PkiError
from pki.common.template_folders import ORIGINALS, PROGRAM_TEMPLATES, TemplateFolders, file_names, program_names
from pki.config import editing
from pki.config.model import ALL_TEMPLATES, Inventory
from pki.config.recipes import recipe_of_template, used_recipes
from pki.project.layout import Store


def templates_of(inventory: Inventory, store: Store) -> TemplateFolders:
    """Return the templates that a project uses: those of a recipe if a service names it, also beside `without: all`."""
    left_out = set(inventory.templates.without if inventory.templates else unrecorded_templates(inventory, store))
    used = used_recipes(inventory)
    if ALL_TEMPLATES in left_out:
        if not used:
            return TemplateFolders(store.templates)
        left_out |= {name for name in program_names() if not recipe_of_template(name)}
    left_out |= {name for name in program_names() if recipe_of_template(name) not in {"", *used}}
    return TemplateFolders(store.templates, PROGRAM_TEMPLATES, frozenset(left_out))


def unrecorded_templates(inventory: Inventory, store: Store) -> tuple[str, ...]:
    """Return the program's templates that an existing project lacks while pki.yaml does not list them; sorted.

    Recipes are not among them: nothing is delivered from them until pki.yaml names one.
    """
    if inventory.templates is not None or not keeps_templates(store):
        return ()
    names = {name for name in program_names() if not recipe_of_template(name)}
    return tuple(sorted(names - set(file_names(store.templates))))


def keeps_templates(store: Store) -> bool:
    """Return whether the project keeps exactly the templates that it has: a version before format 2 created it.

    Version 0.1.0 recorded neither its format nor the origin of templates; it left CAs, or copies of its templates.
    """
    if store.templates == PROGRAM_TEMPLATES or not store.templates.is_dir():
        return False
    if state := state_format.read(store.ca):
        return state.keeps_templates if state.format > 1 else True
    if (store.templates / ORIGINALS).exists():
        return False
    has_run = any((store.ca / name).exists() for name in ("root", "server", "client", "ledger.db"))
    return has_run or not program_names().isdisjoint(file_names(store.templates))


def record_unrecorded(inventory: Inventory, store: Store) -> tuple[str, ...]:
    """List in pki.yaml the program's templates that an existing project lacks; return them.

    Raises PkiError if pki.yaml cannot be edited; its hint has the lines to write by hand.
    """
    names, path = unrecorded_templates(inventory, store), store.home / "pki.yaml"
    if names:
        edit = editing.leave_out_templates(path, names)
        try:
            editing.write(edit)
        except PkiError as error:  # such as a read-only file system
            raise PkiError(error.message, editing.left_out_by_hand(path, names)) from None
    return names
