"""A new passphrase for the key of an intermediate.

At every instant the key opens with what the secrets file holds: the new passphrase stands there under a second name
before the key is written, and takes the first one's place after the key was read back.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import RESTORE
from pki.project.generations import Generation
from pki.project.project import Project
from pki.project.secrets import NEW
from pki.x509 import keys


def change_passphrase(project: Project, name: str, *, new: str | None = None, old: str | None = None) -> str:
    """Encrypt the key of a generation under another passphrase; returns the source that has it.

    `new` is generated when it is not given; `old` is needed only where pki.yaml names a source besides the secrets
    file, which holds the new one already. Raises PkiError, with everything as it was, when the key cannot be opened.
    """
    found = _intermediate(project, name)
    path = project.store.authority_file(name, "key.pem")
    shown = project.store.shown(path)
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{shown}: the key of {name} is missing", RESTORE)
    wanted = _wanted(project, name, new)
    elsewhere = project.passphrases.is_elsewhere(name)
    present, key = _opened(project, name, data, [old] if old else [], [wanted] if elsewhere else [])
    if wanted == present:  # of a run that was killed, or nothing at all
        project.passphrases.keep({name: None, name + NEW: None} if elsewhere else {})
        return project.passphrases.source_of(name)
    wrapped = keys.encrypted_pem(key, wanted)
    _check(found, wrapped, wanted, shown)
    if not elsewhere:
        project.passphrases.keep({name: present, name + NEW: wanted})
    filesystem.write(path, wrapped, filesystem.SECRET)
    _check(found, filesystem.read(path) or b"", wanted, shown)
    project.passphrases.keep({name: None if elsewhere else wanted, name + NEW: None})
    return project.passphrases.source_of(name)


def _intermediate(project: Project, name: str) -> Generation:
    known = [one for authority in ("server", "client") for one in project.store.generations(authority)]
    found = project.generation(name) if name in known else None
    if name.startswith("root"):
        raise PkiError(f"{name}: the key of a root lies on its medium, not in ca/", f"there are: {', '.join(known)}")
    if found is None:
        raise PkiError(f"{name}: no such generation", f"there are: {', '.join(known) or 'none'}")
    return found


def _opened(project: Project, name: str, data: bytes, old: list[str], new: list[str]) -> tuple[str, keys.PrivateKey]:
    """The passphrase that opens the key now, and the key."""
    shown = project.store.shown(project.store.authority_file(name, "key.pem"))
    kept = project.passphrases.kept()
    tried = [*(old or [kept[key] for key in (name, name + NEW) if key in kept]), *new]
    source = "--old-passphrase-file" if old else project.inventory.secrets.file
    for passphrase in tried:
        with suppress(PkiError):
            return passphrase, keys.open_key(data, passphrase, shown, source)
    raise PkiError(
        f"{shown}: its key cannot be opened with what {source} holds",
        f"name a file that holds its present passphrase: ./run invoke ca.change-passphrase {name} --old-passphrase-file FILE",
    )


def _wanted(project: Project, name: str, new: str | None) -> str:
    named = project.passphrases.named(name)
    if named and new:
        raise PkiError(
            f"{name}: pki.yaml says that its passphrase comes from {named.source}", "leave --passphrase-file out"
        )
    return named.value if named else new or secrets.token_hex(20)


def _check(found: Generation, data: bytes, passphrase: str, shown: str) -> None:
    """The key as it will lie there opens, and is the one that the certificate names."""
    key = keys.open_key(data, passphrase, shown, "this command")
    if keys.public_der(key.public_key()) != keys.public_der(found.certificate.public_key()):
        raise PkiError(f"{shown}: is not the key of {found.name}'s certificate", RESTORE)
