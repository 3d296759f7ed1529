"""What each key of pki.yaml and secrets.yaml does, for the JSON Schema: one sentence, and an example in YAML.

Read only when a schema is made: a run does not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Key(NamedTuple):
    """The description of a key; `default` is stated in words where the value does not say it."""

    text: str
    example: str
    default: str = ""


KEY_KINDS = "ec-p256, ec-p384, ed25519 (refused by browsers), rsa-2048, rsa-3072 or rsa-4096"
DURATION = "a number of h, d, w, mo (30 days) or y (365 days)"

LEAF_KEY_KINDS = KEY_KINDS.replace("rsa-2048", "ml-dsa-65 (refused by nearly every program of 2026), rsa-2048")
KEY = Key(f"Kind of key: {LEAF_KEY_KINDS}.", "rsa-2048", "that of the profile")
REKEY = Key("Whether a renewal generates a new key (`new`) or reuses the key (`keep`).", "keep", "that of the profile")
REQUEST = Key(
    "File with a certificate request of the device, PEM or DER, below the folder of pki.yaml: only its public key is used.",
    "requests/switch.csr",
)
CRL_LIFETIME = Key(f"Time until a CRL of this CA expires; most proxies then refuse every client: {DURATION}.", "30d")
PROFILE = {
    "lifetime": Key(f"Time for which a certificate is valid: {DURATION}.", "60d"),
    "renew_before": Key(f"Time before the expiry at which a certificate is renewed: {DURATION}.", "20d"),
    "renew_spread": Key(
        f"Renewals start up to this much earlier, at a time fixed for each certificate, so that not all are renewed in one night: {DURATION}.",
        "7d",
    ),
    "key": Key(f"Kind of key of new certificates: {KEY_KINDS}.", "ec-p384"),
    "rekey": Key("Whether a renewal generates a new key (`new`) or reuses the key (`keep`).", "keep"),
}

PKI_YAML: Mapping[str, Mapping[str, Key]] = {
    "Inventory": {
        "organisation": Key(
            "Name of the organisation: O of every subject and part of every CA's name, at most 40 characters.",
            "Example Lab",
        ),
        "domains": Key(
            "Domains that every DNS name must be in; they become the name constraints of the intermediates.",
            "[lab.internal]",
        ),
        "permit_addresses": Key(
            "Networks whose addresses certificates may name.",
            "[10.0.0.0/8]",
            "the private blocks (RFC 1918, RFC 4193) that contain `networks`",
        ),
        "publish": Key(
            "Where CRLs and CA certificates are published.", '{url: "http://pki.lab.internal", host: monitoring}'
        ),
        "sandbox": Key("Whether this is a trial, in which the run creates the root without a ceremony.", "true"),
        "roots": Key(
            "SHA-256 of each root of the project, in hexadecimal; ceremony.accept writes it.", f"[{'3f' * 32}]"
        ),
        "secrets": Key(
            "File with the passphrases of CA keys, which is never in git; or a source for each passphrase.",
            "{file: secrets.yaml, server: {command: pass show pki/server}}",
            "secrets.yaml",
        ),
        "ledger": Key(
            "Database of the ledger: sqlite (ca/ledger.db), postgresql (its URL is the secret ledger), or a SQLAlchemy URL without password.",
            "postgresql+psycopg://pki@db.lab.internal/pki",
        ),
        "authorities": Key(
            "Lifetimes, keys and CRLs of the CAs; every key other than root, server and client is an adopted CA.",
            "{server: {lifetime: 3y}}",
        ),
        "profiles": Key("Lifetime, renewal and key of server and client certificates.", "{server: {lifetime: 60d}}"),
        "networks": Key(
            "Networks by name, each with its addresses: IPv4, IPv6, or a list of both.",
            "{lan: [192.168.1.0/24, fd00:1::/64]}",
        ),
        "hosts": Key(
            "Hosts by name: how files are delivered to them, and their services.",
            "{web: {network: lan, address: 192.168.1.10, proxy: nginx}}",
        ),
        "clients": Key(
            "Client certificates by name: one for each person and device, or machine.",
            "{admin@laptop: {email: admin@lab.internal}}",
        ),
        "alerts": Key("Who is notified of findings.", "{email: {to: admin@lab.internal, from: pki@lab.internal}}"),
        "metrics": Key(
            "Where the metrics are written, besides build/report/pki.prom.",
            "{textfile: /var/lib/prometheus/node-exporter/doit-pki.prom}",
        ),
        "deploy": Key("Options of all deliveries.", "{ca: local}"),
        "templates": Key(
            "Which of the program's templates the project uses: by default all of them.", "{without: [tls/tls.pem]}"
        ),
        "schedule": Key(
            "Times of day, local time, at which systemd or cron runs doit; each `window` of a host must contain one.",
            '["06:00"]',
        ),
        "holidays": Key(
            "Days, or first and last day, on which timeline and calendar plan no ceremony.",
            "[2027-05-01, 2026-12-20..2027-01-06]",
        ),
    },
    "Publish": {
        "url": Key(
            "Plain http address of CRLs and CA certificates, signed into every certificate.", "http://pki.lab.internal"
        ),
        "host": Key("Host of `hosts` that serves this address.", "monitoring"),
    },
    "Secrets": {
        "file": Key(
            "File for every passphrase without a source of its own, below the folder of pki.yaml; generated ones are stored here.",
            "secrets.yaml",
        ),
    },
    "SecretSource": {
        "command": Key(
            "Command whose first line of output is the passphrase; it runs without a shell, for at most 60 s.",
            "pass show pki/server",
        ),
        "credential": Key("systemd credential whose first line is the passphrase.", "pki-client"),
        "env": Key("Environment variable that contains the passphrase.", "PKI_BACKUP"),
        "file": Key(
            "File whose first line is the passphrase, and which only its owner can read.", "/etc/pki/mail-password"
        ),
        "fd": Key("Number of an open file descriptor whose first line is the passphrase.", "3"),
        "prompt": Key("Long form of `prompt`: the passphrase is typed at the terminal.", '"true"'),
    },
    "AuthorityRules": {
        "root": Key("The roots.", "{lifetime: 15y}"),
        "server": Key("The CA that issues server certificates.", "{lifetime: 3y}"),
        "client": Key("The CA that issues client certificates.", "{lifetime: 3y}"),
        "peer": Key(
            "Adds a CA for clusters whose members are servers and clients of one another, below a root of its own; `{}` for the defaults.",
            "{lifetime: 2y}",
            "no such CA",
        ),
    },
    "RootRule": {
        "lifetime": Key(f"Time for which a new root is valid: {DURATION}.", "15y"),
        "key": Key("Kind of key of a new root: ec-p256, ec-p384, rsa-3072 or rsa-4096.", "ec-p384"),
        "overlap": Key(
            f"Time for the ceremony that creates a successor, before the root can no longer sign an intermediate with its full lifetime: {DURATION}.",
            "180d",
        ),
        "crl": Key("The root's CRLs, which are signed in advance at a ceremony.", "{lifetime: 13mo, presigned: 2}"),
    },
    "RootCrlRule": {
        "lifetime": Key(f"Time until a CRL of a root expires: {DURATION}.", "13mo"),
        "presigned": Key(
            "Number of CRLs that a ceremony signs: the current one and those that follow, which overlap by 30 days.",
            "3",
        ),
    },
    "IntermediateRule": {
        "lifetime": Key(f"Time for which a new intermediate is valid: {DURATION}.", "3y"),
        "key": Key("Kind of key of a new intermediate: ec-p256, ec-p384, rsa-3072 or rsa-4096.", "ec-p384"),
        "overlap": Key(
            f"Time for the ceremony that creates a successor, before certificates can no longer get their full lifetime: {DURATION}.",
            "60d",
        ),
        "crl": Key("The CRLs of this CA.", "{lifetime: 21d, refresh: 7d}"),
        "token": Key(
            "PKCS#11 address of the token in which the keys of later generations are generated.",
            '"pkcs11:token=doit-pki?module-path=/usr/lib/softhsm/libsofthsm2.so"',
        ),
    },
    "CrlRule": {
        "lifetime": CRL_LIFETIME,
        "refresh": Key(f"Time after which a new CRL is issued, although nothing was revoked: {DURATION}.", "7d"),
    },
    "AdoptedRule": {
        "adopt": Key("Folder with the certificate and the key of a CA that was created elsewhere.", "/root/old-ca"),
        "crl": Key("The CRLs of this CA.", "{lifetime: 21d, refresh: 7d}"),
    },
    "ExternalRule": {
        "external": Key(
            "File with the certificate request (PEM) of the server that has the key of this intermediate: only its public key is used.",
            "requests/acme.csr",
        ),
        "domains": Key(
            "DNS domains for which this intermediate may issue certificates, with their subdomains; no addresses.",
            "[acme.lab.internal]",
        ),
        "lifetime": Key(f"Time for which a new generation is valid: {DURATION}.", "1y"),
        "overlap": Key(
            f"Time before the expiry in which a new request is asked for and a ceremony certifies it: {DURATION}.",
            "60d",
        ),
    },
    "Profiles": {
        "server": Key("Profile of server certificates.", "{lifetime: 60d, renew_before: 20d}"),
        "client": Key("Profile of client certificates.", "{lifetime: 1y, renew_before: 30d}"),
        "peer": Key("Profile of the certificates of cluster members.", "{lifetime: 60d, renew_before: 20d}"),
    },
    "ServerRule": PROFILE,
    "ClientRule": PROFILE,
    "Host": {
        "network": Key("Network of `networks` in which the host is.", "lan"),
        "address": Key(
            "Address of the host in its network: IPv4, IPv6, or a list of both; ssh connects to the first one.",
            "[192.168.1.10, fd00:1::10]",
        ),
        "port": Key("TCP port on which the proxy accepts TLS.", "8443"),
        "deliver": Key(
            "How files get to the host: ssh, local (this machine), folder (in build/hosts/), none, or a `command` on this machine.",
            "ssh",
        ),
        "ssh": Key("Account, port and name for ssh, where they are not in your ssh configuration.", "{user: deploy}"),
        "scope": Key(
            "Which files are delivered: every managed file (`config`), or only those with `deploy-artifact` (`certificates`).",
            "certificates",
        ),
        "trust": Key("Trust stores of the host that get the root: debian, rhel, nss, java; or none.", "[debian, java]"),
        "window": Key(
            "Maintenance window in local time, in which alone the host may be changed.", "22:00-05:00", "always"
        ),
        "group": Key("Name of a group of hosts that are never changed at the same time.", "web-pair"),
        "probe": Key(
            "How doit connects to the services as a client to probe them: none, direct, or the jump host for ssh.",
            "user@bastion:2222",
            "direct with deliver: ssh or local and a proxy, else none",
        ),
        "proxy": Key(
            "Reverse proxy of the host, which selects the templates: nginx, haproxy, caddy, apache or traefik.", "nginx"
        ),
        "reload": Key(
            "Command on the host that reloads the proxy, for one in a container or without systemd; one line.",
            "docker kill -s HUP proxy",
            "that of the proxy, such as systemctl reload nginx",
        ),
        "services": Key(
            "Services of the host by name; without `names`, the DNS name is that name and the first domain.",
            '{wiki: {upstream: "http://127.0.0.1:3000", access: mtls}}',
        ),
        "names": Key(
            "Further DNS names and addresses in the host's `tls` certificate, for devices without a service.",
            "[switch.lab.internal, 10.10.0.2]",
        ),
        "peer": Key(
            "DNS names and addresses in the host's certificate as a member of a cluster, for servers and clients; needs `authorities.peer`.",
            "[etcd1.lab.internal, 10.10.0.21]",
            "no such certificate",
        ),
        "shared": Key("Whether its certificates may have names that belong to another host.", "true"),
        "key": KEY,
        "rekey": REKEY,
        "request": REQUEST,
    },
    "DeliverCommand": {
        "command": Key(
            "Command on this machine, started without a shell once for each certificate of the host, as a deploy hook of "
            "lego or certbot.",
            "hooks/appliance https://10.0.0.9",
        ),
    },
    "Ssh": {
        "user": Key("Account on the host.", "deploy", "that of the ssh configuration"),
        "port": Key("TCP port of sshd.", "2222", "that of the ssh configuration"),
        "name": Key("Name or alias of the host for ssh.", "web.lab.internal", "the name of the host in pki.yaml"),
    },
    "Service": {
        "upstream": Key(
            "Address of the backend behind the proxy: scheme, host and port; or `url` with how its certificate is verified.",
            "http://127.0.0.1:3000",
            "without one, the server reads the certificate itself",
        ),
        "speaks": Key(
            "Protocol of a server that reads the certificate itself, which says how TLS begins: https, tls (any other), "
            "postgres, mysql, smtp, smtps, imap, imaps, ldap, ldaps, mqtts; openvpn and radius are never probed.",
            "postgres",
        ),
        "port": Key("Port of a server that reads the certificate itself.", "5433", "that of the protocol"),
        "access": Key("Who may connect: everybody (`tls`), or clients with a certificate (`mtls`).", "mtls"),
        "names": Key("DNS names of the service.", "[wiki.lab.internal]", "its name and the first domain"),
        "upgrade": Key(
            "Protocols that the header Upgrade may request, besides WebSocket; never h2c.", "SPDY/3.1", "WebSocket only"
        ),
        "recipe": Key(
            "Ready-made templates for a server that reads the certificate itself: `recipe.list` shows them.",
            "postgres",
            "files of your own",
        ),
        "verifier": Key(
            "TLS library with which such a server checks clients: openssl or gnutls. A GnuTLS server never gets the root.",
            "openssl",
            "that of the recipe; gnutls for ldap and ldaps",
        ),
    },
    "Upstream": {
        "url": Key("Address of the backend: scheme, host and port.", "https://10.10.0.20:8443"),
        "name": Key("DNS name that the certificate of the backend must have.", "nas.lab.internal", "the host in `url`"),
        "ca": Key(
            "CA of the backend's certificate: a file below the folder of pki.yaml, an external authority, or system for the host's trust store.",
            "requests/nas-ca.pem",
            "the roots of the project",
        ),
        "verify": Key("With none, the certificate of the backend is not verified.", "none", "it is verified"),
    },
    "Client": {
        "email": Key(
            "E-mail address of the person, an alternative name in the certificate.",
            "admin@lab.internal",
            "no e-mail address",
        ),
        "dns": Key(
            "DNS names of a machine that is a client, by which services recognise it.",
            "db1.lab.internal",
            "none; for a name of letters, digits and hyphens, NAME.client.DOMAIN",
        ),
        "uri": Key(
            "SPIFFE ID of a machine that is a client: one URI in the certificate.",
            "spiffe://lab.internal/backup",
            "none",
        ),
        "key": KEY,
        "rekey": REKEY,
        "request": REQUEST,
    },
    "Alerts": {
        "email": Key("Mail about findings.", "{to: admin@lab.internal, from: pki@lab.internal}"),
        "notify": Key(
            "Secrets with the addresses of other services: `notify`, `notify-NAME`.", "[notify, notify-matrix]"
        ),
    },
    "EmailAlert": {
        "to": Key("Recipients of the mail.", "[admin@lab.internal]"),
        "from": Key("Sender of the mail.", "pki@lab.internal"),
        "smtp": Key("Mail server: smtp://host:port, smtps://host:port, or outbox.", "smtps://mail.lab.internal:465"),
        "user": Key("Account at the mail server; its password is the secret `smtp`.", "pki@lab.internal"),
    },
    "TemplateOptions": {
        "without": Key(
            "Templates of the program that no host gets: their paths below templates/, or `all`.", "[tls/tls.pem]"
        ),
    },
    "Metrics": {
        "textfile": Key(
            "Second file for the metrics, in the folder that node_exporter reads: an absolute path that ends in .prom.",
            "/var/lib/prometheus/node-exporter/doit-pki.prom",
        ),
    },
    "Deploy": {
        "engine": Key("Program that delivers to hosts: the built-in one, or Ansible.", "ansible"),
        "ansible": Key("Options of Ansible, with `engine: ansible`.", "{serial: [1, 20%]}"),
        "ssh_config": Key(
            "File for `ssh -F`, below the folder of pki.yaml.", "ssh_config", "the ssh configuration of the account"
        ),
        "ca": Key("With local, the machine that runs doit gets its own files too.", "local"),
        "progress_timeout": Key("Longest time of a host without progress, in s or m, at most 15m.", "120s"),
        "host_timeout": Key("Longest total time of a host, in s or m, at most 15m.", "10m"),
    },
    "Ansible": {
        "serial": Key("Sizes of the batches of hosts: a number, a percentage, or a list of them.", "[1, 20%]"),
        "max_fail_percentage": Key("Percentage of failed hosts in a batch that ends the run.", "10"),
        "forks": Key("Number of hosts that Ansible contacts at once.", "50"),
        "command": Key(
            "ansible-runner: a program on PATH, below the folder of pki.yaml, or with an absolute path.",
            "/opt/ansible/bin/ansible-runner",
        ),
    },
}

SECRETS_YAML: Mapping[str, Key] = {
    "ledger": Key(
        "URL of the ledger's database with its password, for `ledger: postgresql` in pki.yaml.",
        "postgresql://pki:PASSWORD@db.lab.internal/pki?sslmode=verify-full",
    ),
    "smtp": Key("Password of `alerts.email.user` at the mail server.", "correct horse battery staple"),
    "root": Key("Passphrase of a root key of the sandbox, such as root-1.", "correct horse battery staple"),
    "intermediate": Key(
        "Passphrase of the key of one generation, such as server-1 or client-2; with .new, the next one during a change.",
        "correct horse battery staple",
        "one is generated",
    ),
    "notify": Key("Address, with its token, of a service that alerts.notify names.", "ntfys://ntfy.example/pki-alerts"),
    "p12": Key("Passphrase of the PKCS#12 files of all leaves (p12), or of one leaf (p12-LEAF).", "k7mp-w3xq-hr4d"),
    "adopted": Key("Passphrase of the key of an adopted CA, such as legacy.", "correct horse battery staple"),
}
