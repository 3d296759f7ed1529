"""What another version of the program changes in a project: the record in `ca/.format.json`, and the notices of `plan`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from pki import __version__
from pki.common import state_format
from pki.common.filesystem import read_if_possible
from pki.common.notice import Notice
from pki.common.remedies import here
from pki.common.state_format import StateFormat
from pki.common.template_folders import PROGRAM_TEMPLATES, TemplateFolders, program_names
from pki.config import defaults, loader
from pki.config.model import Inventory
from pki.project.layout import Store
from pki.project.project_templates import keeps_templates, unrecorded_templates

MOST_NAMES = 3  # of templates in one notice
UPGRADING = "read Upgrading in CHANGELOG.md, then: ./run doit"


def begin(store: Store) -> None:
    """Record the format before anything else is created in a new project. A later run then knows that it is not older."""
    if state_format.read(store.ca) is None and not keeps_templates(store):
        state_format.record(store.ca, _current(keeps=False))


def is_recorded(inventory: Inventory, store: Store) -> bool:
    """Return whether this format is recorded. From then on, a template that is gone does not count as missing."""
    state = state_format.read(store.ca)
    return state is not None and state.format >= state_format.FORMAT and not unrecorded_templates(inventory, store)


def record(inventory: Inventory, store: Store) -> bool:
    """Record the format and this version at the beginning of a run. Return False if they were recorded already."""
    state = state_format.read(store.ca)
    is_older = state is None or state.format < state_format.FORMAT
    lacks_templates = inventory.templates is not None and keeps_templates(store)
    keeps = lacks_templates if is_older else bool(state and state.keeps_templates)
    is_of_this_version = state is not None and state.program == __version__ and bool(state.defaults)
    if is_older or not is_of_this_version:
        return state_format.record(store.ca, _current(keeps=keeps))
    return False


def _current(*, keeps: bool) -> StateFormat:
    return StateFormat(state_format.FORMAT, __version__, keeps, defaults.defaults(), _template_digests())


def _template_digests() -> dict[str, str]:
    return {
        name: hashlib.sha256(read_if_possible(PROGRAM_TEMPLATES / name) or b"").hexdigest()[:16]
        for name in sorted(program_names())
    }


def notices(inventory: Inventory, store: Store, templates: TemplateFolders) -> Iterator[Notice]:
    """Yield what this version changes, until doit has run with it: version, defaults and templates.

    Keys of pki.yaml that it does not know are errors of pki.yaml.
    """
    state = state_format.read(store.ca)
    if state and state.program != __version__:
        text = f"the last run was by {state.program}, this is {__version__}; what is to do may follow from that"
        yield Notice("doit-pki", text, UPGRADING)
        yield from _default_notices(store, state.defaults)
        yield from _template_notices(templates, state.templates)
    elif state is None and keeps_templates(store):
        text = f"the last run was by a version before 0.2.0, this is {__version__}; what is to do may follow from that"
        yield Notice("doit-pki", text, UPGRADING)
    if names := unrecorded_templates(inventory, store):
        text = f"the project lacks {_counted_names(names)} of the program, and keeps its own: doit lists them as templates.without"
        yield Notice("pki.yaml", text, str(here("invoke", "templates.list")))


def _default_notices(store: Store, before: Mapping[str, str]) -> Iterator[Notice]:
    path = store.home / "pki.yaml"
    tree = loader.load_with_tree(path, loader.read(path))[1] if before else {}
    for key, earlier, default in defaults.changed_defaults(before, tree) if before else ():
        text = f"the default is {default} now, and was {earlier}"
        yield Notice(f"pki.yaml {key}", text, f"to keep it, write {key}: {earlier}")


def _template_notices(templates: TemplateFolders, before: Mapping[str, str]) -> Iterator[Notice]:
    """Yield the program's templates that the project uses and that are new or changed."""
    now = {
        name: digest for name, digest in _template_digests().items() if templates.folder_of(name) != templates.project
    }
    new_templates = [name for name in now if name not in before] if before else []
    changed_templates = [name for name in now if name in before and before[name] != now[name]]
    removed = [name for name in before if name not in program_names() and not (templates.project / name).exists()]
    show = str(here("invoke", "templates.list"))
    if new_templates:
        without = f"not for this project: templates: {{without: [{', '.join(new_templates)}]}} in pki.yaml"
        yield Notice("templates", f"the program has {_counted_names(new_templates)} more", without)
    if changed_templates:
        yield Notice("templates", f"the program changed {_counted_names(changed_templates)}", show)
    if removed:
        yield Notice("templates", f"the program no longer has {_counted_names(removed)}", show)


def _counted_names(names: Sequence[str]) -> str:
    """Return the number of some templates, and the first names."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    count = f"{len(names)} template{'s' if len(names) > 1 else ''}"
    return f"{count} ({', '.join(names[:MOST_NAMES])}{more})"
