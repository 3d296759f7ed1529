"""OpenSSL request configurations of other people: the names, key and purpose that `openssl req -new` would ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.common.errors import PkiError
from pki.common.file_headers import included_files
from pki.config import openssl_cnf, openssl_cnf_syntax
from tests.support.opensslfiles import BOX
from tests.support.projects import Home, Report

HEADER = "# deploy-target: /opt/cnf/{name}\n"


def reading(text: str, folder: Path = Path("/nowhere")) -> openssl_cnf.RequestReading:
    """What a file in a folder declares; without one, nothing is looked at beside it."""
    parsed = openssl_cnf_syntax.parse(text, "box.cnf", partial(included_files, folder, "box.cnf"))
    return openssl_cnf.read_request(parsed, "box.cnf", folder if folder.is_dir() else None)


def asked(text: str, folder: Path = Path("/nowhere")) -> openssl_cnf.CnfRequest:
    request = reading(text, folder).request
    assert request is not None
    return request


def refusal(text: str, folder: Path = Path("/nowhere")) -> str:
    with pytest.raises(PkiError) as caught:
        reading(text, folder)
    return f"{caught.value.message} → {caught.value.hint}"


def edited(*edits: tuple[str, str], text: str = BOX) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def names_line(value: str) -> str:
    return edited(("DNS:box.lab.internal", value))


# -- the file itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "HOME = .\nRANDFILE = $ENV::HOME/.rnd\n" + BOX,
        "RANDFILE = $ENV::HOME/.rnd\n" + BOX,
        "oid_file = $ENV::HOME/.oid\n[ CA_default ]\ndir = ${nowhere}/CA\ncerts = $dir/certs\n" + BOX,
        BOX + "[ policy ]\nx = $(gone)\ny = ${unclosed\nz = $\n",
        "\ufeff" + BOX,
        BOX.replace("\n", "\r\n"),
        edited(("[ req ]", "[req]"), ("[ v3 ]", "[\tv3 ] # names")),
        edited(("= dn", "= the names"), ("[ dn ]", "[ the names ]")),
        edited(("= v3", "= 'my ext'"), ("[ v3 ]", "[my ext]")),
        "prompt = no\ndistinguished_name = dn\n" + edited(("prompt = no\ndistinguished_name = dn\n", "")),
        edited(("= no", "= n\\o"), ("CN = box", 'CN = "box"')),
        edited(("CN = box.lab.internal", "CN = box.lab.internal # the box")),
        "# a comment that goes on \\\nsubjectAltName = DNS:x\n" + BOX,
        ".pragma = dollarid:true\nprice = $5\n" + BOX,
        "req::default_md = sha256\n" + BOX,
        edited(("[ dn ]\n", "[ dn ]\nCN = other\n")),
    ],
    ids=range(16),
)
def test_what_openssl_reads_is_read_the_same(text: str) -> None:
    found = asked(text)
    assert (found.common_name, found.dns, found.profile, found.key) == (
        "box.lab.internal",
        ("box.lab.internal",),
        "server",
        "",
    )


@pytest.mark.parametrize(
    ("before", "value", "dns"),
    [
        ("domain = lab.internal\n", "DNS:a.$domain,DNS:b.${domain},DNS:c.$(domain)", ["a", "b", "c"]),
        ("SAN = DNS:a.lab.internal\n", "$ENV::SAN", ["a"]),
        ("SAN = DNS:a.lab.internal\n", "${ENV::SAN}, DNS:b.lab.internal", ["a", "b"]),
        ("[ ENV ]\nSAN = DNS:a.lab.internal\n", "$ENV::SAN", ["a"]),
        ("[ names ]\nfirst = a.lab.internal\n", "DNS:$names::first", ["a"]),
        ("[ alt ]\nDNS.1 = a.lab.internal\nDNS.x.y = b.lab.internal\nDNS = c.lab.internal\n", "@alt", ["a", "b", "c"]),
        ("[ my alt ]\nDNS.1 = a.lab.internal\n", "critical, @my alt", ["a"]),
        ("[ alt ]\nDNS.1 = x\nDNS.2 = b.lab.internal\nDNS.1 = a.lab.internal\n", "@alt", ["b", "a"]),
        ("", "critical,DNS:a.lab.internal", ["a"]),
        ("", "critical,   DNS:a.lab.internal , DNS : b.lab.internal", ["a", "b"]),
        ("", "DNS:a.lab.internal, \\\n  DNS:b.lab.internal", ["a", "b"]),
        ("", "DNS:a.lab.internal, \\\r\n  DNS:b.lab.internal\r", ["a", "b"]),
        ("", "'DNS:a.lab.internal', \"DNS:b.lab.internal\"", ["a", "b"]),
        ("", "DNS:a\\.lab.internal", ["a"]),
    ],
)
def test_names_are_found_where_openssl_finds_them(before: str, value: str, dns: list[str]) -> None:
    found = asked(before + names_line(value))
    assert list(found.dns) == [f"{name}.lab.internal" for name in dns]


@pytest.mark.parametrize(
    ("subject", "value", "emails"),
    [
        ("emailAddress = ops@lab.internal", "email:copy", ["ops@lab.internal"]),
        ("1.emailAddress = ops@lab.internal", "email:move,DNS:a.lab.internal", ["ops@lab.internal"]),
        (
            "emailAddress = ops@lab.internal",
            "email:copy,email:bot@lab.internal",
            ["ops@lab.internal", "bot@lab.internal"],
        ),
        (
            "0.emailAddress = a@lab.internal\n1.emailAddress = b@lab.internal",
            "email:copy",
            ["a@lab.internal", "b@lab.internal"],
        ),
        ("", "email:copy", []),
    ],
)
def test_addresses_of_the_subject_become_names_where_the_file_says_so(
    subject: str, value: str, emails: list[str]
) -> None:
    assert list(asked(edited(("[ dn ]\n", f"[ dn ]\n{subject}\n"), text=names_line(value))).emails) == emails


@pytest.mark.parametrize("key", ["commonName", "0.commonName", "1.CN", "a,CN", "0.2.5.4.3", "+CN"])
def test_a_cn_is_found_under_each_of_its_names(key: str) -> None:
    assert asked(edited(("CN =", f"{key} ="))).common_name == "box.lab.internal"


@pytest.mark.parametrize(
    ("value", "profile"),
    [
        ("serverAuth", "server"),
        ("critical,clientAuth", "client"),
        ("critical, clientAuth", "client"),
        ("1.3.6.1.5.5.7.3.2", "client"),
        ("TLS Web Client Authentication", "client"),
        ("1.3.6.1.5.5.7.3.1, serverAuth", "server"),
        ("@purposes", "client"),
        ("why:clientAuth", "client"),
    ],
)
def test_a_purpose_is_found_under_each_of_its_names(value: str, profile: str) -> None:
    text = f"{BOX}extendedKeyUsage = {value}\n[ purposes ]\n1 = clientAuth\n"
    assert asked(text).profile == profile


def test_a_file_that_would_ask_has_the_answers_of_an_empty_line() -> None:
    text = edited(
        ("prompt = no\n", "prompt = yes\n"),
        ("CN = box.lab.internal", "CN = Name of the host\nCN_default = box.lab.internal\nCN_max = 64"),
    )
    assert asked(text).common_name == "box.lab.internal"
    said = refusal(edited(("prompt = no\n", "")))
    assert said.startswith("box.cnf:5: box.lab.internal is the prompt for the CN")
    assert said.endswith("write prompt = no into [ req ]")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("DNS:box", "dns:box"), "box.cnf:8: subjectAltName: dns: expected DNS, IP or email"),
        (("DNS:box.lab.internal", "DNS:box.lab.internal,"), "one part is empty"),
        (("DNS:box.lab.internal", "@ alt"), "subjectAltName names [  alt ], which does not exist"),
        (("DNS:box.lab.internal", "critical ,DNS:a"), "subjectAltName: critical: expected DNS"),
        (("DNS:box.lab.internal", "DER:30:00"), "subjectAltName: DER is not supported"),
        (("DNS:box.lab.internal", "$nowhere"), "box.cnf:8: $nowhere: no such variable above this line"),
        (("DNS:box.lab.internal", "$ENV::SAN"), "or SAN = VALUE above the first section"),
        (
            ("DNS:box.lab.internal", "DNS:{{ host.name }}"),
            "names are read before the template is rendered, so it cannot use variables of a host",
        ),
        (("subjectAltName", "subjectAltNames"), "is an unknown extension (did you mean subjectAltName?)"),
        (("subjectAltName = DNS:box.lab.internal", "2.5.29.17 = DER:3000"), "write subjectAltName = …"),
        (("= v3", "= v4"), "box.cnf:4: req_extensions names [ v4 ], which does not exist"),
        (("= dn", "= nd"), "box.cnf:3: distinguished_name names [ nd ], which does not exist"),
        (("distinguished_name = dn\n", ""), "[ req ] has no distinguished_name"),
        (("CN =", "cn ="), "box.cnf:6: cn is an unknown attribute of a subject (did you mean CN?)"),
        (("CN =", "CN_default ="), "with prompt = no OpenSSL reads this as an attribute"),
        (("CN =", "2.5.4.3 ="), "2.5.4.3 is an unknown attribute"),
        (("CN = box.lab.internal", "CN ="), "box.cnf:6: CN is empty"),
        (("CN = ", "0.CN = other\n1.CN = "), "box.cnf:7: a second CN"),
        (("CN = ", "0.CN =\n1.CN = "), "box.cnf:6: CN is empty"),
        (("[ v3 ]", "[ v3"), "box.cnf:7: expected [ section ], got '[ v3'"),
        (("[ v3 ]", "; names\n[ v3 ]"), "comments begin with #"),
        (("prompt = no", "prompt = no\ndefault_bits = 1024"), "box.cnf:3: default_bits = 1024: expected 2048"),
        (("[ v3 ]", "[ v3 ]\nauthorityKeyIdentifier = keyid,issuer"), "a request has no issuer"),
        (("[ v3 ]", "[ v3 ]\nnsCertType = client"), "→ extendedKeyUsage = clientAuth"),
        (("[ dn ]", "[ dn ]\nC = DEU"), "box.cnf:6: C = DEU: expected 2 letters"),
        (("[ dn ]", "[ dn ]\nO ="), "box.cnf:6: O = : expected 1 to 64 characters"),
        (
            ("prompt = no", "prompt = no\ndefault_md = sha265"),
            "box.cnf:3: default_md = sha265: unknown digest",
        ),
        (("prompt = no", "prompt = no\nstring_mask = utf8"), "expected default, nombstr, pkix, utf8only"),
        (("[ v3 ]", "[ v3 ]\nkeyUsage = digitalSignatur"), "'digitalSignatur' is none of cRLSign, dataEncipherment"),
        (("[ v3 ]", "[ v3 ]\nkeyUsage = @ku\n[ ku ]\n1 = keyAgreement\n[ v3 ]"), "'1' in [ ku ] is not a keyUsage"),
        (("[ v3 ]", "[ v3 ]\ncertificatePolicies = 1.2.3, @pol"), "[ pol ] does not exist"),
        (("[ v3 ]", "[ v3 ]\nissuerAltName = issuer:copy"), "a request has no issuer"),
        (("DNS:box.lab.internal", "@alt\n[ alt ]"), "[ alt ] is empty"),
        (("[ req ]", "openssl_conf = gone\n[ req ]"), "box.cnf:1: openssl_conf names [ gone ], which does not exist"),
        (
            ("[ req ]", ".pragma abspath:true\n.include x\n[ req ]"),
            "no path may be relative after .pragma abspath:true",
        ),
        (
            ("prompt = no\ndistinguished_name = dn", "distinguished_name = dn\nprompt = yes"),
            "is the prompt for the CN",
        ),
        (("[ v3 ]", "[ v3 ]\nextendedKeyUsage = codeSigning"), "certificates for codeSigning are not issued"),
    ],
)
def test_what_openssl_refuses_or_nobody_can_have_is_refused_with_the_reason(edit: tuple[str, str], said: str) -> None:
    assert said in refusal(edited(edit))


def test_a_default_that_its_own_limits_refuse_is_refused() -> None:
    asks = ("prompt = no\n", ""), ("CN = box", "CN = Name\nCN_max = 5\nCN_default = box")
    assert "box.lab.internal has 16 characters, and CN_max is 5" in refusal(edited(*asks))


def test_everything_wrong_is_said_at_once() -> None:
    said = refusal(edited(("CN =", "cn ="), ("DNS:", "URI:"), ("prompt = no", "prompt = no\ndefault_bits = 512")))
    assert all(part in said for part in ("cn is an unknown attribute", "URI: expected DNS", "default_bits = 512"))


def test_a_file_with_both_purposes_is_told_what_to_write_instead() -> None:
    said = refusal(f"{BOX}extendedKeyUsage = serverAuth, clientAuth\n")
    assert "expected serverAuth or clientAuth, not both → use two files with one purpose each" in said


# -- authorities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "basicConstraints = critical, CA:TRUE",
        "basicConstraints = CA:true, pathlen:0",
        "basicConstraints = @ca\n[ ca ]\nCA = yes",
        "keyUsage = critical, keyCertSign, cRLSign",
        "keyUsage = digitalSignature, Certificate Sign",
        "nsCertType = sslCA, emailCA",
    ],
)
def test_a_file_whose_request_is_that_of_a_ca_declares_no_leaf_and_says_so(line: str) -> None:
    found = reading(f"{BOX}{line}\n")
    assert found.request is None
    assert [remark.text.endswith("requests a CA: this file declares no certificate") for remark in found.remarks] == [
        True
    ]


def test_only_what_is_in_the_request_makes_a_ca() -> None:
    ca = "[ v3_ca ]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = keyCertSign\n"
    found = reading(edited(("req_extensions = v3\n", "req_extensions = v3\nx509_extensions = v3_ca\n")) + ca)
    assert found.request is not None
    assert [remark.text for remark in found.remarks] == [
        "box.cnf:5: x509_extensions = v3_ca describes a CA, and is not in the request"
    ]


def test_names_in_x509_extensions_are_in_no_request() -> None:
    found = reading(edited(("req_extensions", "x509_extensions")))
    assert found.request is not None
    assert found.request.dns == ()
    assert found.remarks[0].text == "box.cnf:4: x509_extensions = v3: its names are not in the request"
    said = refusal(edited(("req_extensions", "x509_extensions"), ("CN = box.lab.internal", "O = Lab")))
    assert said.endswith("its names are not in the request → write req_extensions = v3")


# -- included files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "templates/more").mkdir(parents=True)
    (tmp_path / "templates/names.inc").write_text("[ v3 ]\nsubjectAltName = DNS:inc.lab.internal\n")
    (tmp_path / "templates/more/a.cnf").write_text("[ v3 ]\nsubjectAltName = @alt\n")
    (tmp_path / "templates/more/b.conf").write_text("[ alt ]\nDNS.1 = inc.lab.internal\n")
    (tmp_path / "templates/more/c.txt").write_text("no part of it")
    (tmp_path / "templates/open.inc").write_text("subjectAltName = DNS:inc.lab.internal\n[ other ]\n")
    (tmp_path / "templates/twice.inc").write_text(".include names.inc\n")
    (tmp_path / "templates/itself.inc").write_text(".include itself.inc\n")
    (tmp_path / "outside.inc").write_text("[ v3 ]\nsubjectAltName = DNS:inc.lab.internal\n")
    (tmp_path / "templates/link.inc").symlink_to("../outside.inc")
    return tmp_path / "templates"


@pytest.mark.parametrize(
    "line",
    [
        ".include names.inc",
        ".include = names.inc",
        ".include\tnames.inc # names",
        ".include more",
        ".include ./more/../names.inc",
        "[ x ]\nfile = names\n.include ${file}.inc",
        "[ v3 ]\n.include open.inc",
        ".include twice.inc",
    ],
)
def test_an_included_file_is_read(folder: Path, line: str) -> None:
    text = f"{BOX.partition('[ v3 ]')[0]}{line}\n"
    found = asked(text, folder)
    assert found.dns == ("inc.lab.internal",)
    assert found.places["inc.lab.internal"].startswith("templates/")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../outside.inc", "is outside templates/"),
        ("link.inc", "is outside templates/"),
        ("/etc/hostname", "is outside templates/"),
        ("gone.inc", "does not exist relative to this file"),
        ("itself.inc", "templates/itself.inc includes itself"),
    ],
)
def test_what_is_not_there_or_lies_elsewhere_is_not_included(folder: Path, path: str, said: str) -> None:
    found = refusal(f"{BOX}.include {path}\n", folder)
    assert f".include {path}: " in found
    assert said in found


# -- in a project -----------------------------------------------------------------------------------------------------


def put(home: Home, name: str, text: str, encoding: str = "utf-8") -> None:
    path = home.path / "templates" / name
    path.write_bytes((HEADER.format(name=name) + text).encode(encoding))


def issued(home: Home, name: str) -> tuple[str, list[str]]:
    """CN and alternative names of a certificate."""
    cert = x509.load_pem_x509_certificate(home.read(f"build/certs/{name}/cert.pem"))
    try:
        names = [str(one.value) for one in cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]
    except x509.ExtensionNotFound:
        names = []
    return "".join(str(one.value) for one in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), names


def client(cn: str) -> str:
    return edited(
        ("CN = box.lab.internal", f"CN = {cn}"),
        ("subjectAltName = DNS:box.lab.internal", "extendedKeyUsage = clientAuth"),
    )


def test_files_of_other_people_get_the_certificates_that_they_ask_for(home: Home) -> None:
    for name, cn in (
        *(("media", "Media Server"), ("short", "mserver"), ("upper", "BOX-3")),
        *(("prose", "Lab (main): e-mail & more"), ("case", "Case.lab.internal")),
    ):
        text = edited(("CN = box.lab.internal", f"CN = {cn}"), ("DNS:box.", f"DNS:{name}."))
        put(home, f"x-{name}.cnf", text.replace("DNS:case.", "DNS:case."))
    put(home, "agent.cnf", client("backup-agent"))
    put(home, "agent2.cnf", client("backup-agent2"))
    put(home, "bom.cnf", BOX.replace("box.", "bom."))
    (home.path / "templates/bom.cnf").write_bytes(b"\xef\xbb\xbf" + home.read("templates/bom.cnf"))
    put(
        home,
        "dos.cnf",
        names_line("DNS:dos.lab.internal, \\\n DNS:dos2.lab.internal").replace("box.", "dos.").replace("\n", "\r\n"),
    )
    put(home, "var.cnf", BOX.replace("box.lab.internal", "var.{{ inventory.domains[0] }}"))
    put(
        home,
        "loop.cnf",
        names_line("{% for one in inventory.domains %}DNS:loop.{{ one }}{% endfor %}").replace("box.", "loop."),
    )
    put(home, "mine.conf", "# deploy-certificate: yes\n" + BOX.replace("box.", "mine."))
    put(
        home,
        "own.cnf",
        "# deploy-hosts: media\n# deploy-validate: true {{ host.name }}\n"
        + BOX.replace("box.", "own.").replace("[ dn ]", "[ dn ]\nO = {{ host.name }}"),
    )
    report = home.doit()
    assert report.failed == {}
    assert issued(home, "x-media") == ("Media Server", ["media.lab.internal"])
    assert issued(home, "x-short") == ("mserver", ["short.lab.internal"])
    assert issued(home, "x-upper") == ("BOX-3", ["upper.lab.internal"])
    assert issued(home, "x-prose") == ("Lab (main): e-mail & more", ["prose.lab.internal"])
    assert issued(home, "x-case") == ("Case.lab.internal", ["case.lab.internal"])
    assert issued(home, "agent") == ("backup-agent", [])
    assert issued(home, "agent2") == ("backup-agent2", [])
    assert issued(home, "dos") == ("dos.lab.internal", ["dos.lab.internal", "dos2.lab.internal"])
    for name in ("bom", "var", "loop", "mine", "own"):
        assert issued(home, name) == (f"{name}.lab.internal", [f"{name}.lab.internal"])
    assert home.doit().made == {}


def faults_of(report: Report, name: str) -> str:
    return next(text for failed, text in report.failed.items() if failed == name)


def test_all_faulty_files_are_told_in_one_run(home: Home) -> None:
    for number in range(3):
        put(home, f"f{number}.cnf", BOX.replace("box.", f"F{number}."))
    put(home, "six.cnf", names_line("DNS:box.lab.internal, IP:fe80::6"))
    put(home, "wide.cnf", BOX.replace("box.lab.internal", "box.{% if host.name %}lab{% endif %}.internal"))
    put(home, "utf16.cnf", BOX, "utf-16")
    put(home, "be.cnf", BOX, "utf-16-be")
    put(home, "cuisine.cnf", edited(("CN = box.lab.internal", "CN = Küche")))
    put(home, "empty.conf", "# deploy-certificate: yes\n[ server ]\n")
    put(home, "odd.cnf", "# deploy-certificate: maybe\n" + BOX)
    report = home.doit()
    said = "\n".join(report.failed.values())
    for number in range(3):
        assert f"templates/f{number}.cnf:9: write host names in lower case: f{number}.lab.internal" in said
    assert "templates/six.cnf:9: link-local addresses are valid on one link only; expected one that is routed" in said
    assert "templates/wide.cnf: its names are read with `inventory` alone: 'host' is undefined" in said
    assert "templates/utf16.cnf: is UTF-16LE text" in said
    assert "iconv -f UTF-16BE -t UTF-8 templates/be.cnf" in said
    assert "templates/cuisine.cnf:7: CN 'K\\xfcche': expected printable ASCII" in said
    assert "templates/empty.conf:2: deploy-certificate: there is no section [ req ]" in said
    assert "templates/odd.cnf:2: deploy-certificate: 'maybe': expected yes or no" in said
    assert not [name for name in report.made if name.startswith("cert:")]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("inventory.domain", "the value 'domain' does not exist (did you mean domains?)"),
        ("inventory.domains[7]", "element 7"),
        ("inventory.networks.attic", "the value 'attic' does not exist"),
        ("host.name", "so it cannot use variables of a host"),
        ("inventory.domains[0] ~ host.name", "so it cannot use variables of a host"),
    ],
)
def test_a_name_that_cannot_be_rendered_is_refused_with_the_true_reason(home: Home, expression: str, why: str) -> None:
    put(home, "var.cnf", BOX.replace("box.lab", f"var.{{{{ {expression} }}}}"))
    said = faults_of(home.doit(), "release:ca")
    assert f"templates/var.cnf:7: '{{{{ {expression} }}}}': " in said
    assert why in said
    assert ("variables of a host" in said) == ("host" in expression)
    assert issued(home, "media")[1]


def test_plan_notes_what_declares_no_certificate_until_the_header_says_whether_it_should(home: Home) -> None:
    def notes() -> dict[str, str]:
        return {note.subject: note.text for note in home.plan().actions_required}

    ca = "[ v3_ca ]\nbasicConstraints = critical, CA:TRUE\n"
    put(home, "san.conf", BOX)
    put(home, "OPENSSL.CFG", BOX)
    put(home, "other.conf", "[ server ]\nreq = 1\n.include more\n")
    put(home, "split.cnf", ".include split.inc\n")
    (home.path / "templates/split.inc").write_text(BOX.replace("box.", "split."))
    put(home, "ca.cnf", edited(("req_extensions = v3", "req_extensions = v3_ca")) + ca)
    put(home, "stock.cnf", edited(("[ dn ]", "x509_extensions = v3_ca\n[ dn ]")) + ca)
    assert home.doit().failed == {}
    assert notes() == {
        "templates/san.conf": "has a section [ req ], but declares no certificate",
        "templates/OPENSSL.CFG": "has a section [ req ], but declares no certificate",
        "templates/ca.cnf": "templates/ca.cnf:11: CA:TRUE requests a CA: this file declares no certificate",
        "templates/stock.cnf": "templates/stock.cnf:6: x509_extensions = v3_ca describes a CA, and is not in the request",
    }
    assert {path.name for path in (home.path / "build/certs").iterdir()} >= {"stock", "split"}
    assert not {"ca", "san", "openssl"} & {path.name for path in (home.path / "build/certs").iterdir()}
    for name, answer in (("san.conf", "no"), ("OPENSSL.CFG", "no"), ("ca.cnf", "no"), ("stock.cnf", "yes")):
        home.edit("cnf/", "cnf/", f"templates/{name}")
        home.edit("[ req ]", f"# deploy-certificate: {answer}\n[ req ]", f"templates/{name}")
    assert notes() == {}


@pytest.mark.parametrize(
    "header", ["# deploy-hosts: nobody\n", "# deploy-hosts: media\n# deploy-certificate: no!\n", "# deploy-oddity: 1\n"]
)
def test_a_certificate_stays_while_the_conf_that_declares_it_cannot_be_read(home: Home, header: str) -> None:
    put(home, "mine.conf", "# deploy-certificate: yes\n" + BOX)
    assert home.doit().status == 0
    before = home.read("build/certs/mine/tls.pem")
    home.edit("# deploy-certificate", f"{header}# deploy-certificate", "templates/mine.conf")
    assert home.doit().status != 0
    assert home.read("build/certs/mine/tls.pem") == before
    (home.path / "templates/mine.conf").unlink()
    (home.path / "templates/mine.conf").symlink_to("nowhere")
    assert home.doit().status != 0
    assert home.read("build/certs/mine/tls.pem") == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RANDFILE = gone/.rnd", "there is no folder "),
        ("RANDFILE =", "is not a file"),
        ("oid_section = gone", "oid_section names [ gone ], which does not exist"),
        ("openssl_conf = dn", "there is no module "),
    ],
)
def test_what_openssl_cannot_load_is_refused_as_openssl_does(tmp_path: Path, line: str, why: str) -> None:
    said = refusal(f"{line}\n{BOX}", tmp_path)
    assert said.startswith("box.cnf:")
    assert why in said
    assert said.endswith("OpenSSL refuses it too: correct it, or remove the line")
