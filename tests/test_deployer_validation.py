"""Deployer validation: what the headers of a managed file may say, and who is told what when they say it wrongly."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.common import templating
from pki.x509 import keys
from tests.support.projects import Home, Report

HOSTS = ("monitoring", "forge", "media")


def only(*hosts: str) -> set[str]:
    return {f"{kind}:{host}" for kind in ("release", "deploy") for host in hosts}


def delivered(home: Home, host: str, path: str) -> bytes | None:
    file = home.path / "build" / "hosts" / host / path.lstrip("/")
    return file.read_bytes() if file.is_file() else None


def hosts_with(home: Home, path: str) -> set[str]:
    return {host for host in (*HOSTS, "ca") if delivered(home, host, path) is not None}


def listed(home: Home, host: str, path: str) -> dict[str, Any]:
    """What the manifest says of one file."""
    found: dict[str, dict[str, Any]] = {
        file["path"]: file for file in json.loads(home.read(f"build/release/{host}/manifest.json"))["files"]
    }
    return found[path]


def managed(home: Home, *lines: str, name: str = "extra/file.conf") -> Report:
    """Add a managed file for `media` and run."""
    home.write(f"templates/{name}", "".join(f"{line}\n" for line in lines))
    return home.doit()


def append(home: Home, path: str, text: str) -> None:
    home.write(path, home.read(path).decode() + text)


def the_failure(report: Report) -> str:
    """What went wrong, when exactly one thing did."""
    assert report.status in {1, 2}
    assert len(report.failed) == 1, report.failed
    return next(iter(report.failed.values())).removesuffix(" → ")


# -- comment marks ----------------------------------------------------------------------------------------------------


MARKS = {
    "hash": "# deploy-target: /etc/{}\n# deploy-hosts: media\n",
    "hash-tight": "#deploy-target: /etc/{}\n#deploy-hosts:media\n",
    "hash-twice": "## deploy-target: /etc/{}\n## deploy-hosts: media\n",
    "semicolon": "; deploy-target: /etc/{}\n; deploy-hosts: media\n",
    "slashes": "// deploy-target: /etc/{}\n// deploy-hosts: media\n",
    "dashes": "-- deploy-target: /etc/{}\n-- deploy-hosts: media\n",
    "xml": "<!-- deploy-target: /etc/{} -->\n<!-- deploy-hosts: media -->\n",
    "xml-block": "<!--\n  deploy-target: /etc/{}\n  deploy-hosts: media\n-->\n",
    "jinja": "{{# deploy-target: /etc/{} #}}\n{{# deploy-hosts: media #}}\n",
    "jinja-block": "{{#\ndeploy-target: /etc/{}\ndeploy-hosts: media\n#}}\n",
    "script": "#!/bin/sh\n# deploy-target: /etc/{}\n# deploy-hosts: media\n",
    "prose": "\n# What this file is for.\n#\n\n# deploy-target: /etc/{}\n#   deploy-hosts:   media  \n",
    "windows": "# deploy-target: /etc/{}\r\n# deploy-hosts: media\r\n",
}


def test_every_comment_mark_is_understood(home: Home) -> None:
    for name, head in MARKS.items():
        home.write(f"templates/extra/{name}", f"{head.format(name)}the body of {name}\n")
    report = home.doit()
    assert report.status == 0
    assert set(report.made) == only("media")
    bodies = {name: (delivered(home, "media", f"/etc/{name}") or b"").splitlines()[-1:] for name in MARKS}
    assert bodies == {name: [f"the body of {name}".encode()] for name in MARKS}


def test_a_jinja_comment_leaves_no_trace_in_what_is_delivered(home: Home) -> None:
    managed(home, "{# deploy-target: /etc/x.json #}", "{# deploy-hosts: media #}", '{"a": 1}')
    assert delivered(home, "media", "/etc/x.json") == b'{"a": 1}\n'


@pytest.mark.parametrize(
    "text",
    [
        "body first\n# deploy-target: /etc/x.conf\n# deploy-hosts: media\n",
        "# a comment about the deploy of targets\nbody\n",
        "deploy-target: /etc/x.conf\n",
        "* deploy-target: /etc/x.conf\n",
        "",
    ],
    ids=["after the body", "prose", "no mark", "another mark", "empty"],
)
def test_a_file_without_a_header_in_its_leading_comments_is_not_managed(home: Home, text: str) -> None:
    home.write("templates/extra/x.conf", text)
    report = home.doit()
    assert (report.status, report.made) == (0, {})


@pytest.mark.parametrize("name", [".hidden.conf", "backup.conf~"])
def test_hidden_files_and_editors_backups_are_not_managed(home: Home, name: str) -> None:
    report = managed(home, "# deploy-target: /etc/x.conf", "# deploy-hosts: media", "x", name=name)
    assert (report.status, report.made) == (0, {})


# -- what is wrong with a header --------------------------------------------------------------------------------------

TARGET, MEDIA = "# deploy-target: /etc/x.conf", "# deploy-hosts: media"
PATH = "is not an absolute path of a file, without .."
FILE = "templates/extra/file.conf"
KNOWN = "deploy-artifact, deploy-certificate, deploy-hosts, deploy-mode, deploy-order, deploy-owner, deploy-reload, deploy-set, deploy-target, deploy-validate"
FIX = " → fix the template, then: ./run doit"
FIX_HEADER = " → fix the header, then: ./run doit"
FIX_OR_RAW = f" → {templating.FIX_OR_RAW}"
TLS_MEDIA = "# deploy-artifact: tls:media"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [TARGET, MEDIA, "# deploy-mod: 0600", "x"],
            f"{FILE}:3: deploy-mod: unknown header; expected one of {KNOWN}",
        ),
        ([TARGET, MEDIA, "# deploy-target: /etc/y.conf", "x"], f"{FILE}:3: deploy-target: duplicate header"),
        (["# deploy-target:", MEDIA, "x"], f"{FILE}:1: deploy-target: is empty"),
        ([MEDIA, "# deploy-mode: 0644", "x"], f"{FILE}:1: deploy-target is missing"),
    ],
    ids=["unknown", "twice", "empty", "no target"],
)
def test_a_header_that_cannot_be_read_is_said_with_file_and_line(home: Home, lines: list[str], said: str) -> None:
    assert the_failure(managed(home, *lines)) == said + FIX_HEADER


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([MEDIA, "# deploy-target: etc/x.conf", "x"], f"{FILE}:2: deploy-target: 'etc/x.conf' {PATH}"),
        ([MEDIA, "# deploy-target: /etc/../x", "x"], f"{FILE}:2: deploy-target: '/etc/../x' {PATH}"),
        ([MEDIA, "# deploy-target: /etc/x/", "x"], f"{FILE}:2: deploy-target: '/etc/x/' {PATH}"),
        ([MEDIA, "# deploy-target: /", "x"], f"{FILE}:2: deploy-target: '/' {PATH}"),
        ([MEDIA, "# deploy-target: /etc/{{ '..' }}/x", "x"], f"{FILE}:2: deploy-target: '/etc/../x' {PATH}"),
        (
            [MEDIA, "# deploy-target: /a{{ '\\n' }}b", "x"],
            f"{FILE}:2: deploy-target: expected one line of printable characters, got U+000A → fix the header, then: ./run doit",
        ),
        (
            [TARGET, MEDIA, "# deploy-owner: root", "x"],
            f"{FILE}:3: deploy-owner: expected user:group such as root:Debian-exim, got 'root' → fix the header, then: ./run doit",
        ),
        (
            [TARGET, MEDIA, "# deploy-owner: root:root; id", "x"],
            f"{FILE}:3: deploy-owner: expected user:group such as root:Debian-exim, got 'root:root; id' → fix the header, then: ./run doit",
        ),
        (
            [TARGET, MEDIA, "# deploy-mode: rw-r--r--", "x"],
            f"{FILE}:3: deploy-mode: expected an octal mode such as 0644, got 'rw-r--r--'",
        ),
        (
            [TARGET, MEDIA, "# deploy-mode: 0888", "x"],
            f"{FILE}:3: deploy-mode: expected an octal mode such as 0644, got '0888'",
        ),
        (
            [TARGET, MEDIA, "# deploy-mode: 4755", "x"],
            f"{FILE}:3: deploy-mode: expected an octal mode such as 0644, got '4755'",
        ),
        (
            [TARGET, MEDIA, TLS_MEDIA, "# deploy-mode: 0644"],
            f"{FILE}:4: deploy-mode: 0644 lets other accounts read a private key → use 0600, or 0640 at most",
        ),
        (
            [TARGET, MEDIA, "# deploy-mode: 0660", '{{ artifact("key:media") }}'],
            f"{FILE}:3: deploy-mode: 0660 lets other accounts read a private key → use 0600, or 0640 at most",
        ),
        (
            ["# deploy-target: /etc/caddy/Caddyfile", MEDIA, "x"],
            f"{FILE}:1: deploy-target: /etc/caddy/Caddyfile is already the target of templates/caddy/Caddyfile",
        ),
        (["# deploy-target: /etc/caddy//Caddyfile", MEDIA, "x"], "is already the target of templates/caddy/Caddyfile"),
        (["# deploy-target: /etc/caddy/Caddyfile/x", MEDIA, "x"], "is below the path of another file"),
        ([TARGET, MEDIA, "{{ nothing }}"], f"{FILE}:3: 'nothing' is undefined{FIX_OR_RAW}"),
        ([TARGET, MEDIA, "", "{{ host.nothing }}"], f"{FILE}:4: the value 'nothing' does not exist{FIX_OR_RAW}"),
        (
            [TARGET, MEDIA, "", "", "{% if %}"],
            f"{FILE}:5: Expected an expression, got 'end of statement block'{FIX_OR_RAW}",
        ),
        ([TARGET, MEDIA, "", "{% include 'none.conf' %}"], "none.conf"),
        (
            ["{# deploy-target: /etc/x #}", "{# deploy-hosts: media #}", " "],
            f"{FILE}: renders to an empty file for media",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_a_fault_of_a_file_for_one_host_names_file_line_and_header_and_stops_that_host_alone(
    home: Home, lines: list[str], said: str
) -> None:
    before = delivered(home, "media", "/etc/caddy/Caddyfile")
    home.edit("127.0.0.1:9090", "127.0.0.1:9091")
    report = managed(home, *lines)
    assert set(report.failed) == {"release:media"}
    assert said in the_failure(report) if not said.startswith(FILE) else the_failure(report) == said
    assert set(report.made) == only("monitoring")
    assert delivered(home, "media", "/etc/caddy/Caddyfile") == before


@pytest.mark.parametrize(
    "selector", ["medium", "proxy:lighttpd", "service:Wiki", "network:lan", "access:none", "media, forg"]
)
def test_a_selector_that_names_nothing_is_said_and_stops_no_host(home: Home, selector: str) -> None:
    home.edit("127.0.0.1:8096", "127.0.0.1:8097")
    report = managed(home, TARGET, f"# deploy-hosts: {selector}", "x")
    wrong = selector.rpartition(", ")[2]
    assert (
        the_failure(report)
        == f"{FILE}:2: deploy-hosts: {wrong!r} names no host, proxy, network, access, service, recipe or trust store"
    )
    assert only("media") <= report.made.keys()


@pytest.mark.parametrize("artifact", ["tls:nobody", "tls", "crl:media", "trust:all", "ca:", "roots"])
def test_an_artifact_that_is_none_is_said_with_those_that_are(home: Home, artifact: str) -> None:
    said = the_failure(managed(home, TARGET, MEDIA, f"# deploy-artifact: {artifact}"))
    assert said.startswith(f"{FILE}:3: deploy-artifact: unknown artifact {artifact!r} → tls:LEAF, ")


def test_an_artifact_that_is_none_is_said_in_a_body_too(home: Home) -> None:
    said = the_failure(managed(home, TARGET, MEDIA, '{{ artifact("trust:all") }}'))
    assert "unknown artifact 'trust:all'" in said
    assert FILE in said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("deploy-target: /etc/{{ nothing }}.conf", "deploy-target: 'nothing' is undefined"),
        ("deploy-target: /etc/{{ host. }}.conf", "deploy-target: expected name or number"),
        ("deploy-target: /etc/{{ host.nothing }}", "deploy-target: the value 'nothing' does not exist"),
    ],
)
def test_a_broken_variable_in_a_header_names_file_line_and_header(home: Home, header: str, said: str) -> None:
    failure = the_failure(managed(home, MEDIA, f"# {header}", "# deploy-artifact: trust:roots"))
    assert failure == f"{FILE}:2: {said} → fix the header, then: ./run doit"


def test_a_broken_variable_in_a_header_of_a_rendered_file_names_at_least_file_and_line(home: Home) -> None:
    """The headers are part of the body there, so the body's own fault may be said first."""
    assert the_failure(managed(home, MEDIA, "# deploy-target: /etc/{{ nothing }}", "x")).startswith(f"{FILE}:2: ")


def test_a_body_that_is_no_text_needs_an_artifact(home: Home) -> None:
    path = home.path / "templates/extra/file.conf"
    path.parent.mkdir()
    path.write_bytes(f"{TARGET}\n{MEDIA}\n".encode() + b"\xff\xfe\x00binary")
    assert the_failure(home.doit()) == f"{FILE}: is not UTF-8 text → deliver binary files with deploy-artifact"
    path.write_bytes(f"{TARGET}\n{MEDIA}\n# deploy-artifact: ca:root\n".encode() + b"\xff\xfe\x00binary")
    assert home.doit().status == 0


# -- artifacts --------------------------------------------------------------------------------------------------------


def test_a_binary_artifact_is_delivered_byte_for_byte(home: Home) -> None:
    managed(home, "# deploy-target: /etc/root.der", MEDIA, "# deploy-artifact: ca:root", "this is ignored {{ so }}")
    content = delivered(home, "media", "/etc/root.der")
    assert content == home.read("build/trust/root-1.crt")
    assert content is not None
    x509.load_der_x509_certificate(content)


ARTIFACTS = {
    "tls:media": "build/certs/media/tls.pem",
    "key:media": "build/certs/media/key.pem",
    "cert:media": "build/certs/media/cert.pem",
    "chain:media": "build/certs/media/chain.pem",
    "fullchain:media": "build/certs/media/fullchain.pem",
    "crl:client": "build/crl/client-1.crl",
    "crl-pem:client": "build/crl/client-1.pem",
    "crl:bundle-client": "build/crl/bundle-client.pem",
    "ca-pem:server": "ca/server/server-1/cert.pem",
    "trust:roots": "build/trust/roots.pem",
    "trust:client-ca": "build/trust/client-ca.pem",
    "trust:client-chain": "build/trust/client-chain.pem",
    "trust:profile": "build/trust/roots.mobileconfig",
    "page:trust": "build/trust/index.html",
}


def test_each_artifact_is_the_file_that_it_names_and_keys_are_secret_without_being_told(home: Home) -> None:
    for number, artifact in enumerate(ARTIFACTS):
        head = f"# deploy-target: /etc/{artifact}\n{MEDIA}\n# deploy-artifact: {artifact}\n"
        home.write(f"templates/extra/{number}", head)
    assert home.doit().status == 0
    found = {artifact: delivered(home, "media", f"/etc/{artifact}") for artifact in ARTIFACTS}
    assert found == {artifact: home.read(source) for artifact, source in ARTIFACTS.items()}
    secret = {artifact for artifact in ARTIFACTS if listed(home, "media", f"/etc/{artifact}")["mode"] == "0600"}
    assert secret == {"tls:media", "key:media"}


def test_an_artifact_of_several_generations_is_delivered_once_for_each(home: Home) -> None:
    managed(home, "# deploy-target: /etc/{{ generation }}.crl", MEDIA, "# deploy-artifact: crl:all")
    for generation in ("root-1", "server-1", "client-1"):
        assert delivered(home, "media", f"/etc/{generation}.crl") == home.read(f"build/crl/{generation}.crl")


def test_an_artifact_inside_a_body_is_an_input_of_the_release(home: Home) -> None:
    managed(home, TARGET, MEDIA, '{{ artifact("crl-pem:client") }}')
    assert (
        delivered(home, "media", "/etc/x.conf")
        == f"{TARGET}\n{MEDIA}\n".encode() + home.read("build/crl/client-1.pem") + b"\n"
    )
    made = home.doit(days=7).made
    assert "crl-pem:client changed" in made["release:media"]


def test_a_key_inside_a_body_makes_the_file_secret(home: Home) -> None:
    managed(home, TARGET, MEDIA, '{{ artifact("key:media") }}')
    assert listed(home, "media", "/etc/x.conf")["mode"] == "0600"


def test_a_key_may_be_read_by_one_group(home: Home) -> None:
    managed(home, TARGET, MEDIA, TLS_MEDIA, "# deploy-mode: 0640", "# deploy-owner: root:ssl-cert")
    assert listed(home, "media", "/etc/x.conf")["mode"] == "0640"
    assert listed(home, "media", "/etc/x.conf")["owner"] == "root:ssl-cert"


# -- hosts ------------------------------------------------------------------------------------------------------------


SELECTORS = {
    "": {"ca"},
    "ca": {"ca"},
    "media": {"media"},
    "all": set(HOSTS),
    "all, ca": {*HOSTS, "ca"},
    "proxy:nginx": {"monitoring"},
    "proxy:haproxy, proxy:caddy": {"forge", "media"},
    "network:dev": {"forge"},
    "access:tls": {"media"},
    "access:mtls": {"monitoring", "forge"},
    "access:mtls,media": set(HOSTS),
    "trust:debian": {"monitoring", "forge"},
    "trust:java": {"forge", "media"},
    "trust:none": set(),
    "{{ inventory.publish.host }}": {"monitoring"},
    "network:av, network:av, media": {"media"},
}


def test_a_selector_chooses_hosts(home: Home) -> None:
    home.edit("    proxy: haproxy\n", "    proxy: haproxy\n    trust: [debian, java]\n")
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    trust: java\n")
    for number, selector in enumerate(SELECTORS):
        header = f"# deploy-hosts: {selector}\n" if selector else ""
        home.write(f"templates/extra/{number}", f"# deploy-target: /etc/{number}\n{header}{{{{ host.name }}}}\n")
    assert home.doit().status == 0
    found = {selector: hosts_with(home, f"/etc/{number}") for number, selector in enumerate(SELECTORS)}
    assert found == SELECTORS


@pytest.mark.parametrize(("selector", "hosts"), [("network:dev", {"forge"}), ("access:mtls", {"monitoring", "forge"})])
def test_a_new_file_concerns_only_the_hosts_that_it_is_for(home: Home, selector: str, hosts: set[str]) -> None:
    assert set(managed(home, TARGET, f"# deploy-hosts: {selector}", "x").made) == only(*hosts)


def test_headers_may_use_variables(home: Home) -> None:
    managed(
        home,
        "# deploy-target: /etc/{{ host.proxy }}/{{ host.name }}.conf",
        "# deploy-hosts: all",
        "# deploy-owner: {{ host.proxy }}:{{ host.proxy }}",
        "# deploy-mode: {{ '0640' if host.proxy == 'caddy' else '0644' }}",
        "# deploy-reload: systemctl reload {{ host.proxy }}",
        "x",
    )
    file = listed(home, "media", "/etc/caddy/media.conf")
    assert (file["owner"], file["mode"], file["reload"]) == ("caddy:caddy", "0640", "systemctl reload caddy")
    assert listed(home, "forge", "/etc/haproxy/forge.conf")["mode"] == "0644"


def test_the_variables_are_what_the_documents_say(home: Home) -> None:
    managed(
        home,
        TARGET,
        "# deploy-hosts: media",
        "{{ host.name }} {{ host.network }} {{ host.subnet }} {{ host.address }} {{ host.proxy }}",
        "{% for s in services %}{{ s.name }} {{ s.names | join }} {{ s.upstream }} {{ s.access }} {{ s.leaf }}",
        "{% endfor %}",
        "{{ leaf.tls }} {{ inventory.domains[0] }} {{ authority.client[0].name }} "
        "{{ authority.client[0].common_name }}",
    )
    content = delivered(home, "media", "/etc/x.conf")
    assert content is not None
    assert content.decode().splitlines()[2:] == [
        "media av 10.30.0.0/24 10.30.0.10 caddy",
        "jellyfin jellyfin.lab.internal http://127.0.0.1:8096 tls media",
        "media lab.internal client-1 Example Lab SANDBOX Client CA 1",
    ]


# -- what a release follows from --------------------------------------------------------------------------------------


def test_a_changed_template_rebuilds_only_its_hosts(home: Home) -> None:
    append(home, "templates/haproxy/haproxy.cfg", "# one line more\n")
    assert set(home.doit().made) == only("forge")


def test_a_touched_template_rebuilds_nothing(home: Home) -> None:
    os.utime(home.path / "templates/haproxy/haproxy.cfg")
    assert home.doit().made == {}


def test_a_template_that_renders_as_before_is_rebuilt_and_not_delivered(home: Home) -> None:
    append(home, "templates/haproxy/haproxy.cfg", "{# a note #}")
    assert set(home.doit().made) == {"release:forge"}


def test_an_included_file_is_an_input_of_exactly_the_releases_that_use_it(home: Home) -> None:
    home.write("templates/snippets/banner.txt", "one {% include 'snippets/inner.txt' %}\n")
    home.write("templates/snippets/inner.txt", "inner\n")
    managed(home, TARGET, "# deploy-hosts: media, forge", "{% include 'snippets/banner.txt' %}")
    assert b"one inner" in (delivered(home, "media", "/etc/x.conf") or b"")
    home.write("templates/snippets/banner.txt", "two {% include 'snippets/inner.txt' %}\n")
    assert set(home.doit().made) == only("media", "forge")
    home.write("templates/snippets/inner.txt", "changed\n")
    assert set(home.doit().made) == only("media", "forge")
    assert b"two changed" in (delivered(home, "forge", "/etc/x.conf") or b"")
    home.write("templates/snippets/unused.txt", "x\n")
    assert home.doit().made == {}


def test_an_imported_macro_and_an_extended_layout_are_inputs_too(home: Home) -> None:
    home.write("templates/parts/macros.j2", "{% macro greet() %}hello{% endmacro %}")
    home.write("templates/parts/layout.j2", "top\n{% block inner %}{% endblock %}\n")
    managed(
        home,
        "{# deploy-target: /etc/x.conf #}",
        "{# deploy-hosts: media #}",
        "{% extends 'parts/layout.j2' %}",
        "{% from 'parts/macros.j2' import greet %}",
        "{% block inner %}{{ greet() }}{% endblock %}",
    )
    assert delivered(home, "media", "/etc/x.conf") == b"top\nhello"
    home.edit("hello", "good day", "templates/parts/macros.j2")
    assert set(home.doit().made) == only("media")
    home.edit("top", "head", "templates/parts/layout.j2")
    assert set(home.doit().made) == only("media")
    assert delivered(home, "media", "/etc/x.conf") == b"head\ngood day"


def test_a_broken_include_is_named_itself(home: Home) -> None:
    home.write("templates/snippets/banner.txt", "fine\n{% broken %}\n")
    said = the_failure(managed(home, TARGET, MEDIA, "{% include 'snippets/banner.txt' %}"))
    assert said.startswith("templates/snippets/banner.txt:2: ")


def test_an_undefined_variable_in_an_include_is_named_there(home: Home) -> None:
    home.write("templates/snippets/banner.txt", "fine\n{{ nothing }}\n")
    said = the_failure(managed(home, TARGET, MEDIA, "{% include 'snippets/banner.txt' %}"))
    assert "'nothing' is undefined" in said
    assert said.startswith((f"{FILE}:3: ", "templates/snippets/banner.txt:2: "))


def test_a_service_of_another_host_is_no_input(home: Home) -> None:
    managed(home, TARGET, MEDIA, "{% for s in services %}{{ s.name }}{% endfor %}")
    home.edit("127.0.0.1:9090", "127.0.0.1:9091")
    assert set(home.doit().made) == only("monitoring")


def test_a_template_that_reads_the_whole_inventory_follows_every_change_of_it(home: Home) -> None:
    managed(home, TARGET, MEDIA, "{% for name in inventory.hosts %}{{ name }} {% endfor %}")
    home.edit("address: 10.20.0.10", "address: 10.20.0.11")
    assert "release:media" in home.doit().made


# -- OpenSSL request configurations -----------------------------------------------------------------------------------

SWITCH = """\
# deploy-target: /etc/ssl/switch.cnf
# deploy-hosts: media
domain = lab.internal

[ req ]
default_bits       = 2048
prompt             = no
default_md         = sha256
distinguished_name = req_distinguished_name
req_extensions     = req_ext

[ req_distinguished_name ]
C  = DE
O  = Example Lab
CN = switch.$domain

[ req_ext ]
subjectAltName = @alt_names

[ alt_names ]
DNS.1 = switch.$domain
DNS.2 = core.${domain}
IP.1  = 10.10.0.2
"""
PROMPTING = """\
# deploy-target: /etc/ssl/printer.cnf
[req]
distinguished_name = req_distinguished_name
req_extensions = v3_req
[req_distinguished_name]
countryName = Country Name (2 letter code)
countryName_default = DE
commonName = Common Name (e.g. server FQDN or YOUR name)
commonName_default = printer.lab.internal
commonName_max = 64
[v3_req]
basicConstraints = CA:FALSE
keyUsage = nonRepudiation, digitalSignature, keyEncipherment
subjectAltName = DNS:printer.lab.internal, IP:10.10.0.7
"""


def declare(home: Home, text: str, name: str = "switch") -> Report:
    home.write(f"templates/openssl/{name}.cnf", text)
    return home.doit()


def issued(home: Home, name: str = "switch") -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.read(f"build/certs/{name}/cert.pem"))


def names(cert: x509.Certificate) -> list[str]:
    return [str(name.value) for name in cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_a_request_configuration_is_delivered_and_gets_its_certificate(home: Home) -> None:
    report = declare(home, SWITCH)
    assert report.status == 0
    assert set(report.made) == {"cert:switch"} | only("media")
    assert delivered(home, "media", "/etc/ssl/switch.cnf") == SWITCH.encode()
    cert = issued(home)
    assert names(cert) == ["switch.lab.internal", "core.lab.internal", "10.10.0.2"]
    assert keys.key_kind(cert.public_key()) == "rsa-2048"
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "switch.lab.internal"
    assert cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH]
    )
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(home.read("ca/server/server-1/cert.pem")))
    assert home.doit().made == {}


def test_a_declared_certificate_can_be_delivered_like_any_other(home: Home) -> None:
    declare(home, SWITCH)
    report = managed(home, "# deploy-target: /etc/ssl/switch.pem", MEDIA, "# deploy-artifact: tls:switch")
    assert report.status == 0
    assert delivered(home, "media", "/etc/ssl/switch.pem") == home.read("build/certs/switch/tls.pem")


def test_a_declared_certificate_is_renewed_like_any_other(home: Home) -> None:
    declare(home, SWITCH.replace("default_bits       = 2048\n", ""))
    assert home.doit(days=61).made["cert:switch"] == "28 of 90 days left, renewal starts at 30"


def test_a_configuration_that_would_prompt_is_read_by_its_defaults(home: Home) -> None:
    report = declare(home, PROMPTING, "printer")
    assert report.status == 0
    cert = issued(home, "printer")
    assert names(cert) == ["printer.lab.internal", "10.10.0.7"]
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "printer.lab.internal"
    assert keys.key_kind(cert.public_key()) == "ec-p256"  # no default_bits: the profile says


def test_a_question_is_not_taken_for_a_name(home: Home) -> None:
    declare(home, PROMPTING.replace("commonName_default = printer.lab.internal\n", ""), "printer")
    cert = issued(home, "printer")
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME) == []
    assert names(cert) == ["printer.lab.internal", "10.10.0.7"]


@pytest.mark.parametrize(("curve", "kind"), [("P-384", "ec-p384"), ("prime256v1", "ec-p256")])
def test_a_curve_is_obeyed(home: Home, curve: str, kind: str) -> None:
    declare(home, SWITCH.replace("default_bits       = 2048", f"ec_paramgen_curve = {curve}"))
    assert keys.key_kind(issued(home).public_key()) == kind


def test_client_auth_makes_a_leaf_of_the_client_profile(home: Home) -> None:
    text = SWITCH.replace("default_bits       = 2048\n", "").replace(
        "subjectAltName = @alt_names",
        "extendedKeyUsage = critical, clientAuth\nsubjectAltName = email:bot@lab.internal",
    )
    declare(home, text.replace("CN = switch.$domain", "CN = bot"), "bot")
    cert = issued(home, "bot")
    assert cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    assert names(cert) == ["bot@lab.internal"]
    assert (cert.not_valid_after_utc - cert.not_valid_before_utc).days == 179
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(home.read("ca/client/client-1/cert.pem")))


def test_a_changed_name_in_the_configuration_issues_the_certificate_again(home: Home) -> None:
    declare(home, SWITCH)
    home.edit("core.${domain}", "spine.${domain}", "templates/openssl/switch.cnf")
    made = home.doit().made
    assert made["cert:switch"] == "lacked spine.lab.internal; still named core.lab.internal"
    assert set(made) == {"cert:switch"} | only("media")


def test_a_configuration_that_goes_takes_certificate_and_file_along(home: Home) -> None:
    declare(home, SWITCH)
    (home.path / "templates/openssl/switch.cnf").unlink()
    report = home.doit()
    assert report.status == 0
    assert only("media") <= report.made.keys()
    assert not (home.path / "build/certs/switch").exists()
    assert delivered(home, "media", "/etc/ssl/switch.cnf") is None
    assert home.doit().made == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("= 2048", "= 1024", "default_bits = 1024: expected 2048, 3072 or 4096"),
        ("core.${domain}", "core.example.com", "core.example.com is outside domains (lab.internal)"),
        ("IP.1  = 10.10.0.2", "IP.1 = 8.8.8.8", "8.8.8.8 is outside permit_addresses (10.0.0.0/8)"),
        ("IP.1  = 10.10.0.2", "IP.1 = fe80::1", "fe80::1"),
        ("@alt_names", "@alternatives", "subjectAltName names [ alternatives ], which does not exist"),
        (
            "core.${domain}",
            "$ENV::HOSTNAME",
            "templates/openssl/switch.cnf:22: $ENV::HOSTNAME: the environment is not read",
        ),
        (
            "core.${domain}",
            "${nowhere}",
            "templates/openssl/switch.cnf:22: ${nowhere}: no such variable above this line",
        ),
        (
            "subjectAltName = @",
            "extendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = @",
            "extendedKeyUsage = serverAuth, clientAuth: expected serverAuth or clientAuth, not both",
        ),
        ("default_bits       = 2048", "ec_paramgen_curve = secp521r1", "curve secp521r1: expected P-256 or P-384"),
        ("IP.1 ", "URI.1", "subjectAltName: URI: expected DNS, IP or email"),
        ("CN = switch.$domain", "CN switch", "templates/openssl/switch.cnf:15: expected [ section ] or name = value"),
        ("core.${domain}", "Core.lab.internal", "write host names in lower case: core.lab.internal"),
    ],
    ids=lambda text: text[:40],
)
def test_a_fault_in_a_configuration_names_the_file_and_stops_its_own_release_alone(
    home: Home, old: str, new: str, said: str
) -> None:
    home.edit("127.0.0.1:9090", "127.0.0.1:9091")
    assert old in SWITCH
    report = declare(home, SWITCH.replace(old, new))
    failure = the_failure(report)
    assert set(report.failed) == {"release:media"}
    assert failure.startswith("templates/openssl/switch.cnf:")
    assert said in failure
    assert "cert:switch" not in report.made
    assert set(report.made) == only("monitoring")


@pytest.mark.parametrize("name", ["media", "client-admin"])
def test_a_configuration_cannot_take_the_name_of_another_leaf(home: Home, name: str) -> None:
    before = home.read("build/certs/media/cert.pem")
    failure = the_failure(declare(home, SWITCH, name))
    assert failure == f"templates/openssl/{name}.cnf: another leaf is called {name} → rename the file"
    assert home.read("build/certs/media/cert.pem") == before


def test_two_configurations_of_one_name_are_a_fault_of_the_second(home: Home) -> None:
    declare(home, SWITCH.replace("default_bits       = 2048\n", ""))
    home.write("templates/other/switch.cnf", SWITCH.replace("/etc/ssl/switch.cnf", "/etc/ssl/other.cnf"))
    failure = the_failure(home.doit())
    assert failure.startswith("templates/other/switch.cnf: another leaf is called switch")


def test_a_configuration_without_a_header_is_left_alone(home: Home) -> None:
    report = declare(home, SWITCH.partition("# deploy-hosts: media\n")[2])
    assert (report.status, report.made) == (0, {})


def test_a_configuration_file_of_another_kind_declares_nothing(home: Home) -> None:
    report = declare(home, "# deploy-target: /etc/my.cnf\n# deploy-hosts: media\n[mysqld]\nport = 3306\n", "my")
    assert set(report.made) == only("media")
    assert not (home.path / "build/certs/my").exists()


def test_a_declared_name_that_the_intermediate_does_not_permit_waits_for_a_ceremony(home: Home) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    report = declare(home, SWITCH.replace("core.${domain}", "core.new.internal"))
    assert report.status == 0
    [note] = home.plan().actions_required
    assert (note.subject, note.text) == (
        "cert:switch",
        "core.new.internal waits: server-1 does not permit it; needs a ceremony",
    )
    assert "cert:switch" not in report.made


def test_a_leaf_name_that_is_no_file_name_is_a_fault(home: Home) -> None:
    """A leaf is named after its file, in doit, in the ledger and on disk, as strictly as everything else is named."""
    failure = the_failure(declare(home, SWITCH, "My Switch = 1"))
    assert failure.startswith("templates/openssl/My Switch = 1.cnf")
