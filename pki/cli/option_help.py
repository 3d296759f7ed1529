"""What each option and argument of a command means: one line for `--help`."""

from __future__ import annotations

from collections.abc import Iterable

MEANING = "pki_meanings"  # the attribute of a command that has them

MEANINGS = {
    "ansible_vault_password_file": "file with a password for ansible-vault",
    "again": "destroy a root that signed nothing, for this reason, and make another one",
    "all_": "all hosts",
    "drop_earlier": "drop what the open request was asked for in addition",
    "args": "options for the program that is started, in one word",
    "at_most": "changes of each module; 0: all of them",
    "authority": "name of the adopted authority in pki.yaml; needed where several are adopted",
    "campaign": "the campaign's name",
    "cards": "folder for cards to print, instead of showing the shares",
    "case": "JSON file with the steps of one trial, to carry them out again",
    "certificates_only": "permit exactly the files of the host's release, and roots by their SHA-256",
    "client": "NAME=ADDRESS, such as admin=admin@lab.internal; may be given several times",
    "cron": "lines of a crontab",
    "crls": "new root CRLs",
    "despite": "go on for this reason although the machine is not fit; it goes on record",
    "destroy": "a root whose key is to be destroyed, such as root-1",
    "domain": "a domain, the most used one first; may be given several times",
    "dry_run": "show what would be done, and change nothing",
    "email": "its e-mail address",
    "events": "folder job_events of ansible-runner, or the list of AWX as JSON",
    "file": "the file",
    "folder": "the folder",
    "folder_as_vault": "take any folder as the vault for this reason; it goes on record",
    "format": "p12, p12-legacy, mobileconfig, pem, chrome-policy or firefox-policy",
    "generation": "an intermediate, such as server-1",
    "host": "a host of pki.yaml",
    "hosts": "hosts of pki.yaml",
    "hours": "how long trials are started; left out, the size of continuous integration",
    "hsm": "bring along what speaks to tokens",
    "install": "write it, after it was shown and agreed to",
    "json": "as JSON, for programs",
    "keep": "leave the machines running",
    "key": "a public key of yours, in a file, instead of a new one",
    "login": "the account that prepares the host: root, or one with sudo",
    "modules": "files or folders below pki/, such as authority/crls; left out, all that decide on security",
    "name": "a certificate, client, host, service, DNS name or serial number",
    "network": "NAME=NETWORK, such as lan=192.168.1.0/24; may be given several times",
    "new": "a new generation of server, client or root; may be given several times",
    "new_passphrase_file": "file with the new passphrase in its first line",
    "no_ceremonies": "suppose that nobody holds the next ceremony",
    "no_replace": "issue no replacement before it is renewed by hand",
    "old_passphrase_file": "file with the old passphrase in its first line",
    "of": "a command that has --json, such as plan; pki.yaml where it is left out",
    "organisation": "name of the organisation",
    "output": "where to write it",
    "own": "choose the passphrase yourself",
    "passphrase_file": "file with the passphrase in its first line",
    "passphrase_to": "write the passphrase into this file",
    "platform": "platform of the offline machine, such as manylinux_2_28_aarch64",
    "publish": "URL=HOST that serves CRLs and CA certificates, such as http://pki.lab.internal=web",
    "python": "Python of the offline machine, such as 3.13",
    "reason": "why: key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn, unspecified",
    "remove": "take it away again",
    "request": "the request, on the medium",
    "response": "folder response-NNNN that ceremony.sign wrote",
    "revoke": "an intermediate to revoke, such as server-1; may be given several times",
    "root": "the root whose key is meant, where the vault has several",
    "sandbox": "a try-out: the root is made on this machine",
    "seed": "seed of an earlier run, to repeat it",
    "serial": "a serial number in hexadecimal, as ledger.list shows it",
    "service": "HOST/SERVICE=UPSTREAM,tls or mtls; may be given several times",
    "share_file": "file with a custodian's share; may be given several times",
    "shares": "split the passphrase, such as 2of3",
    "sheet": "a page to print, with the passphrase, written into this file",
    "show": "print the script instead of running it",
    "systemd": "a service and a timer of systemd",
    "to": "where it goes",
    "token": "make the key in a token: pkcs11:token=NAME?module-path=FILE",
    "vault": "the mounted drive with the root key",
    "with_config": "permit the folders that the files of the host's release lie in",
    "without": "a host that cannot be reached, to go on without it; may be given several times",
    "words": "first words of the SHA-256, instead of being asked for them",
    "years": "how many years ahead",
    "yes": "do not prompt",
}
SPECIAL = {
    "client_commands.add": {"name": "a name for it, one for each person and device, such as admin@laptop"},
    "client_export.export": {"name": "a client, or the kind of policy", "output": "file or folder that it goes to"},
    "client_commands.installed": {
        "name": "a client",
        "serial": "the certificate that the device has, if not the newest",
    },
    "client_commands.revoke": {"name": "a client"},
    "ansible_commands.export": {
        "folder": "folder that the Ansible project goes to",
    },
    "deploy_commands.rollback": {"to": "the release to go back to, as deploy.history shows it"},
    "backup_commands.backup": {"file": "where the backup goes"},
    "backup_commands.restore": {"file": "the backup", "to": "folder that the project goes to"},
    "ledger_commands.recover": {"file": "a CRL from elsewhere, PEM or DER"},
    "ledger_commands.show_list": {"name": "a certificate or adopted authority"},
    "import_command.take_in": {"folder": "the folder of `openssl ca`, pki/ of easy-rsa, or one with certificates"},
    "ceremony_offline.copy": {"to": "the second drive"},
    "ceremony_offline.change_passphrase": {"to": "a new drive"},
}


def help_of(command: str, names: Iterable[str]) -> dict[str, str]:
    """Return one line for each parameter of a command, which is called after its module and function.

    Raises KeyError for a parameter without a meaning.
    """
    special = SPECIAL.get(command, {})
    return {name: special.get(name) or MEANINGS[name] for name in names}
