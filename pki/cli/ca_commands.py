"""The command ca.change-passphrase."""

from __future__ import annotations

from invoke.context import Context

from pki.authority.intermediate_passphrase import change_passphrase as change_passphrase_of_key
from pki.cli.decorator import command, held_project_of, passphrase_in
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId, GenerationName


@command
def change_passphrase(
    context: Context, generation: str, passphrase_file: str = "", old_passphrase_file: str = ""
) -> None:
    """Change the passphrase that encrypts the key of an intermediate (server-1, …) in ca/.

    The new passphrase is generated, or read from --passphrase-file or from the source that pki.yaml names for it. In the
    last case the old one is read from the secrets file or --old-passphrase-file. Older backups contain the old one.
    """
    with held_project_of(context) as project:
        source = change_passphrase_of_key(
            project,
            generation,
            new=passphrase_in(context, passphrase_file),
            old=passphrase_in(context, old_passphrase_file),
        )
    Screen().done(
        "changed",
        ArtifactId("authority", GenerationName.parse(generation).authority),
        f"the passphrase of {generation}, from {source}",
    )
    Screen().line("the last backup contains the old one; create a new backup: ./run invoke backup")
