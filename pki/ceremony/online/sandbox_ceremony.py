"""Ceremonies of the sandbox: the same code as the real ones, in one process, with `offline/` as the vault."""

from __future__ import annotations

import shutil

from pki.ceremony.offline import key_storage, session, steps
from pki.ceremony.online import accept_response, make_request
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.vault import Vault
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.fields import SANDBOX
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import keys


def perform_ceremony(project: Project, options: RequestOptions = RequestOptions()) -> None:  # noqa: B008 - frozen
    """Prepare a request for all requirements and options, sign it, and accept the response, without confirmations.

    Raises PkiError.
    """
    project.clock.check()
    try:
        _perform(project, make_request.RequestPreparation(project).prepare(options))
    except PkiError as error:
        hint = "to begin again: move ca/, build/ and offline/ away"
        raise PkiError(error.message, f"{error.hint}\n{hint}" if error.hint else hint) from None


def _delete_orphaned_vault(store: Store) -> None:
    """Delete the vault of a sandbox whose `ca/` was deleted: the project has no records of the vault's ceremonies."""
    vault = Vault(store.offline)
    requests_in_project = {filesystem.read(folder / "request.yaml") for folder in store.ceremonies()}
    requests_in_vault = [filesystem.read(past.folder / "request.yaml") for past in vault.history()]
    is_sandbox = all(SANDBOX in root.subject.rfc4514_string() for root in vault.roots().values())
    if requests_in_vault and requests_in_project.isdisjoint(requests_in_vault) and is_sandbox:
        shutil.rmtree(vault.folder)


def _perform(project: Project, open_request: OpenRequest) -> None:
    _delete_orphaned_vault(project.store)
    filesystem.make_folder(project.store.offline, 0o700)
    data = filesystem.read(open_request.path) or b""
    ceremony = session.open_session(Vault(project.store.offline), data, str(open_request.path), lambda: project.now)
    ceremony.transcript.record("deviation", text="one machine holds everything", reason="this is the sandbox")
    if any(root.name not in ceremony.contents.roots for root in ceremony.request.roots):
        steps.make_roots(
            ceremony, lambda name, kind: key_storage.store_in_file(keys.new_key(kind), project.passphrases.new(name))
        )
    out = project.store.offline / ".out"
    shutil.rmtree(out, ignore_errors=True)  # of an interrupted run
    filesystem.make_folder(out, 0o700)
    acceptance = accept_response.ResponseAcceptance(project)
    response_folder = steps.sign(ceremony, project.passphrases.new, out)
    acceptance.store(acceptance.verify(response_folder))
    shutil.rmtree(out)
