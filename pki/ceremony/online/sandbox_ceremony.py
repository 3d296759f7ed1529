"""The sandbox holds its own ceremonies: the same code as the real ones, in one process, with `offline/` as the vault."""

from __future__ import annotations

import shutil

from pki.ceremony.offline import key_storage, session, steps
from pki.ceremony.online import accept_response, make_request
from pki.ceremony.online.ceremony_archive import Open
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.vault import Vault
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.fields import SANDBOX
from pki.project.project import Project
from pki.x509 import keys


def ceremony(project: Project, options: RequestOptions = RequestOptions()) -> None:  # noqa: B008 - frozen
    """Ask, make, sign, accept: everything that is needed or wished. Nobody confirms anything: this is a try-out."""
    project.clock.check()
    try:
        _hold(project, make_request.prepare(project, options))
    except PkiError as error:
        again = "to begin again: move ca/, build/ and offline/ away"
        raise PkiError(error.message, f"{error.hint}\n{again}" if error.hint else again) from None


def _forget_vault(project: Project) -> None:
    """Delete the vault of a sandbox whose `ca/` was deleted: it would continue ceremonies that nobody remembers."""
    vault = Vault(project.store.offline)
    known = {filesystem.read(folder / "request.yaml") for folder in project.store.ceremonies()}
    held = [filesystem.read(past.folder / "request.yaml") for past in vault.history()]
    is_sandbox = all(SANDBOX in root.subject.rfc4514_string() for root in vault.roots().values())
    if held and known.isdisjoint(held) and is_sandbox:
        shutil.rmtree(vault.folder)


def _hold(project: Project, asked: Open) -> None:
    _forget_vault(project)
    filesystem.make_folder(project.store.offline, 0o700)
    data = filesystem.read(asked.path) or b""
    held = session.opened(Vault(project.store.offline), data, str(asked.path), lambda: project.now)
    held.transcript.record("deviation", text="one machine holds everything", reason="this is the sandbox")
    if any(root.name not in held.known.roots for root in held.request.roots):
        steps.make_roots(
            held, lambda name, kind: key_storage.in_file(keys.new_key(kind), project.passphrases.new(name))
        )
    out = project.store.offline / ".out"
    shutil.rmtree(out, ignore_errors=True)  # of a run that was killed
    filesystem.make_folder(out, 0o700)
    accept_response.file(project, accept_response.brought(project, steps.sign(held, project.passphrases.new, out)))
    shutil.rmtree(out)
