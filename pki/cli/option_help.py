"""The help text of each option and argument of the commands: one line for `--help`."""

from __future__ import annotations

from collections.abc import Iterable

MEANING = "pki_meanings"  # the attribute of a command that contains its help texts

MEANINGS = {
    "again": "for this reason: destroy a root that signed nothing, and create another one",
    "all_": "all hosts",
    "drop_earlier": "drop the additional options of the open request",
    "args": "options of the started program, quoted as one word",
    "at_most": "number of changes in each module; 0: all",
    "authority": "name of the adopted authority in pki.yaml; required if several are adopted",
    "campaign": "the campaign's name",
    "cards": "folder for printable cards, instead of showing the shares",
    "case": "JSON file with the steps of one trial, to repeat it",
    "certificates_only": "permit exactly the files of the host's release, and roots by their SHA-256",
    "client": "NAME=ADDRESS, such as admin=admin@lab.internal; may be given several times",
    "cron": "lines of a crontab",
    "crls": "new root CRLs",
    "despite": "for this reason: continue although the machine fails a check; the reason is recorded",
    "destroy": "a root whose key is to be destroyed, such as root-1",
    "domain": "a domain, the most used one first; may be given several times",
    "dry_run": "show what would be done, and change nothing",
    "email": "its e-mail address",
    "events": "folder job_events of ansible-runner, or the events of AWX as JSON",
    "file": "the file",
    "folder": "the folder",
    "folder_as_vault": "for this reason: use an ordinary folder as the vault; the reason is recorded",
    "format": "p12, p12-legacy, mobileconfig, pem, networkmanager, chrome-policy or firefox-policy",
    "generation": "an intermediate, such as server-1",
    "host": "a host of pki.yaml",
    "hosts": "hosts of pki.yaml",
    "hours": "for how many hours trials are started; default: the size of continuous integration",
    "hsm": "include the packages for PKCS#11 tokens",
    "install": "write the files, after confirmation",
    "json": "as JSON, for programs",
    "keep": "open a shell at the end, before the machines are removed",
    "key": "file with an ssh public key of yours, instead of a new key",
    "login": "account that prepares the host: root, or one with sudo",
    "man": "write the man page docs/doit-pki.1; needs help2man",
    "modules": "files or folders below pki/, such as authority/crls; default: all that are relevant to security",
    "name": "a certificate, client, host, service, DNS name or serial number",
    "network": "NAME=NETWORK, such as lan=192.168.1.0/24; may be given several times, also with one NAME",
    "new": "a new generation of server, client or root; may be given several times",
    "new_passphrase_file": "file with the new passphrase in its first line",
    "no_ceremonies": "assume that no further ceremony is performed",
    "no_replace": "issue no replacement until `renew`",
    "old_passphrase_file": "file with the old passphrase in its first line",
    "of": "secrets.yaml, or a command that has --json, such as plan; default: pki.yaml",
    "organisation": "name of the organisation",
    "output": "file or folder to write to",
    "own": "choose the passphrase yourself",
    "passphrase_file": "file with the passphrase in its first line",
    "passphrase_to": "write the passphrase into this file",
    "pictures": "write the pictures of docs/images/; needs chromium",
    "platform": "platform of the offline machine, such as manylinux_2_28_aarch64",
    "publish": "URL=HOST that serves CRLs and CA certificates, such as http://pki.lab.internal=web",
    "python": "Python of the offline machine, such as 3.13",
    "reason": "why: key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn, unspecified",
    "openvpn": "a configuration of OpenVPN (.ovpn), with the key of the client unencrypted",
    "outdated": "also unchanged copies of earlier versions; their hosts get the newer version",
    "reference": "write the generated pages of docs/reference/",
    "remove": "remove it again",
    "request": "the request file on the USB drive",
    "response": "folder response-NNNN that ceremony.sign wrote",
    "revoke": "an intermediate to revoke, such as server-1; may be given several times",
    "root": "the root, if the vault contains several",
    "sandbox": "a trial project: the root key is created on this machine",
    "seed": "seed of an earlier run, to repeat it",
    "serial": "a serial number in hexadecimal, as ledger.list shows it",
    "service": "HOST/SERVICE=UPSTREAM,tls or mtls; may be given several times",
    "share_file": "file with a custodian's share; may be given several times",
    "shares": "split the passphrase, such as 2of3",
    "sheet": "write a printable page with the passphrase into this file",
    "show": "print the script instead of running it",
    "systemd": "a service and a timer of systemd",
    "template": "path of a template below templates/, such as nginx/pki-services.conf",
    "three_way": "merge the program's newer version of one template into the project's, and print the result",
    "to": "target folder or file",
    "token": "create the key in a token: pkcs11:token=NAME?module-path=FILE",
    "vault": "the mounted drive with the root key",
    "wifi": "the wireless network (SSID) that the device joins with EAP-TLS",
    "with_config": "permit the folders of all files in the host's release",
    "without": "continue without this unreachable host; may be given several times",
    "words": "first words of the SHA-256, instead of a prompt",
    "years": "how many years ahead",
    "yes": "carry out without asking",
}
SPECIAL = {
    "client_commands.add": {
        "name": "one for each person and device, such as admin@laptop",
        "email": "e-mail address of a person",
        "dns": "DNS name of a machine; may be given several times",
        "uri": "SPIFFE ID of a machine, such as spiffe://lab.internal/backup",
    },
    "client_export.export": {
        "name": "a client",
        "server": "the service with speaks: radius or openvpn, if pki.yaml has several",
    },
    "client_commands.installed": {"name": "a client", "serial": "the certificate on the device, if not the newest"},
    "client_commands.revoke": {"name": "a client"},
    "ansible_commands.export": {
        "folder": "folder for the Ansible playbooks",
        "ansible_vault_password_file": "file with a password for ansible-vault",
    },
    "deploy_commands.rollback": {"to": "the release to go back to, as deploy.history shows it"},
    "backup_commands.backup": {"file": "the backup to write"},
    "backup_commands.restore": {"file": "the backup", "to": "folder for the project"},
    "ledger_commands.recover": {"file": "a CRL from elsewhere, PEM or DER"},
    "ledger_commands.show_list": {"name": "a certificate or adopted authority"},
    "import_command.import_records": {
        "folder": "the folder of `openssl ca`, pki/ of easy-rsa, or one with certificates"
    },
    "ceremony_offline.copy": {
        "to": "the second drive",
        "despite": "for this reason: give up the records that only the second drive has; the reason is recorded",
    },
    "ceremony_offline.change_passphrase": {"to": "a new drive"},
}


def help_of(command: str, names: Iterable[str]) -> dict[str, str]:
    """Return the help text of each parameter in `names`; `command` is the module and function, `daily_commands.plan`.

    Raises KeyError for a parameter without a text.
    """
    special = SPECIAL.get(command, {})
    return {name: special.get(name) or MEANINGS[name] for name in names}
