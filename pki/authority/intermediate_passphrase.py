"""Change the passphrase of an intermediate's key.

At any moment, the secrets file has a passphrase that decrypts the key. The program stores the new passphrase there under
a second name, writes the key, reads the key back, and only then replaces the old passphrase.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import RESTORE
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.project.secrets import NEW, Passphrases
from pki.x509 import keys


def change_passphrase(project: Project, name: str, *, new: str | None = None, old: str | None = None) -> str:
    """Encrypt the key of a generation with another passphrase; returns the name of the source that holds it.

    Without `new`, the passphrase is generated. `old` is needed only where pki.yaml names a source other than the secrets
    file: this source then has the new passphrase already. Raises PkiError, with key and secrets file unchanged, when
    the key cannot be decrypted.
    """
    generation = _intermediate(project.store, project.authorities, name)
    path = project.store.authority_file(name, "key.pem")
    shown = project.store.shown(path)
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{shown}: the key of {name} is missing", project.keys.lost_key_remedy(name))
    new_passphrase = _new_passphrase(project.passphrases, name, new)
    has_source = project.passphrases.is_elsewhere(name)
    present_passphrase, key = _opened(
        project.inventory,
        project.store,
        project.passphrases,
        name,
        data,
        old=[old] if old else [],
        new=[new_passphrase] if has_source else [],
    )
    if new_passphrase == present_passphrase:  # a killed run had written the key already, or nothing changes
        project.passphrases.save({name: None, name + NEW: None} if has_source else {})
        return project.passphrases.source_of(name)
    encrypted = keys.encrypted_pem(key, new_passphrase)
    _check(generation, encrypted, new_passphrase, shown)
    if not has_source:
        project.passphrases.save({name: present_passphrase, name + NEW: new_passphrase})
    filesystem.write(path, encrypted, filesystem.SECRET)
    _check(generation, filesystem.read(path) or b"", new_passphrase, shown)
    project.passphrases.save({name: None if has_source else new_passphrase, name + NEW: None})
    return project.passphrases.source_of(name)


def _intermediate(store: Store, authorities: Authorities, name: str) -> Generation:
    """Return an intermediate by name. Raises PkiError for a root and for a name that does not exist."""
    generations = [name for authority in ("server", "client", "peer") for name in store.generations(authority)]
    generation = authorities.generation(name) if name in generations else None
    if name.startswith("root"):
        raise PkiError(f"{name}: the key of a root is on its vault, not in ca/", f"defined: {', '.join(generations)}")
    if generation is None:
        raise PkiError(f"{name}: no such generation", f"defined: {', '.join(generations) or 'none'}")
    return generation


def _opened(
    inventory: Inventory,
    store: Store,
    passphrases: Passphrases,
    name: str,
    data: bytes,
    *,
    old: list[str],
    new: list[str],
) -> tuple[str, keys.PrivateKey]:
    """Return the passphrase that decrypts the key at present, and the key.

    Tries `old`, or without it the two passphrases in the secrets file, and then `new`.
    """
    shown = store.shown(store.authority_file(name, "key.pem"))
    stored = passphrases.stored()
    candidates = [*(old or [stored[key] for key in (name, name + NEW) if key in stored]), *new]
    source = "--old-passphrase-file" if old else inventory.secrets.file
    for passphrase in candidates:
        with suppress(PkiError):  # another passphrase: the next one may be right
            return passphrase, keys.open_key(data, passphrase, shown, source)
    raise PkiError(
        f"{shown}: its key cannot be opened with what {source} holds",
        f"name a file that holds its present passphrase: ./run invoke ca.change-passphrase {name} --old-passphrase-file FILE",
    )


def _new_passphrase(passphrases: Passphrases, name: str, new: str | None) -> str:
    """Return the new passphrase of the key: from the source that pki.yaml names, else `new`, else generated (160 bits)."""
    configured = passphrases.named(name)
    if configured and new:
        raise PkiError(
            f"{name}: pki.yaml names {configured.source} as the source of its passphrase", "leave --passphrase-file out"
        )
    if configured:
        return configured.value
    return new or secrets.token_hex(20)


def _check(generation: Generation, data: bytes, passphrase: str, shown: str) -> None:
    """Raise PkiError unless `data` is decrypted by the passphrase and is the key of the certificate."""
    key = keys.open_key(data, passphrase, shown, "this command")
    if keys.public_der(key.public_key()) != keys.public_der(generation.certificate.public_key()):
        raise PkiError(f"{shown}: is not the key of {generation.name}'s certificate", RESTORE)
