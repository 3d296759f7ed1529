"""Request configurations to try: by hand, and at random."""

from __future__ import annotations

import random

# -- files by hand ----------------------------------------------------------------------------------------------------

BOX = """\
[ req ]
prompt = no
distinguished_name = dn
req_extensions = v3
[ dn ]
CN = box.lab.internal
[ v3 ]
subjectAltName = DNS:box.lab.internal
"""
NAMES = "DNS:box.lab.internal"
INCLUDED = {
    "names.inc": "[ v3 ]\nsubjectAltName = DNS:inc.lab.internal\n",
    "open.inc": "[ dn ]\nCN = open.lab.internal\n",
}


def _with(old: str, *new: str) -> list[str]:
    assert old in BOX
    return [BOX.replace(old, replacement) for replacement in new]


def _names(*values: str, before: str = "", after: str = "") -> list[str]:
    return [f"{before}{text}{after}" for text in _with(NAMES, *values)]


BY_HAND: dict[str, list[str]] = {
    "the default section": [
        *(
            f"{line}\n{BOX}"
            for line in ("HOME = .", "HOME = .\nRANDFILE = $ENV::HOME/.rnd", "openssl_conf_x =", "x = 1")
        ),
        *_names(
            "$ENV::SAN", "${ENV::SAN}", "$(ENV::SAN)", "$SAN", "${SAN},IP:10.1.2.3", before="SAN = DNS:a.lab.internal\n"
        ),
        *_names("$ENV::SAN", before="[ ENV ]\nSAN = DNS:a.lab.internal\n"),
        *_names("$default::SAN", before="SAN = DNS:a.lab.internal\n"),
        "prompt = no\ndistinguished_name = dn\n" + BOX.replace("prompt = no\ndistinguished_name = dn\n", ""),
        "req_extensions = gone\n" + BOX,
    ],
    "lines": [
        BOX.replace("\n", "\r\n"),
        "\ufeff" + BOX,
        BOX.rstrip("\n"),
        *_names("DNS:a.lab.internal, \\\n  DNS:b.lab.internal", "DNS:a.lab.internal,\\\r\nDNS:b.lab.internal"),
        *_names("DNS:a.lab.internal \\\n", "DNS:a.lab.internal # \\\nx = 1", "DNS:a.lab.internal\t\t"),
        f"# goes on \\\n[ req ]\n{BOX}",
        f"\n\n \t\n# {BOX}{BOX}",
        BOX.replace(" = ", "="),
        BOX.replace(" = ", "\t=  "),
        *_names("DNS:a.lab.internal\\\\", "DNS:a.lab.internal\r"),
    ],
    "sections": [
        *_with("[ req ]", "[req]", "[\treq\t] # main", "[ req ] x", "[ req", "[req ]]"),
        *(BOX.replace("dn", name) for name in ("the names", "a/b", "a.b", "x-y", "a;b", "my_dn@1")),
        *(BOX.replace("v3", name) for name in ("my  ext", "[v3]", "v3_req", "a'b")),
        BOX + "[ dn ]\nO = Lab\n[ v3 ]\nkeyUsage = digitalSignature\n",
        BOX.replace("[ req ]", "[ x ]\ny = 1\n[ req ]").replace("prompt", "req::prompt"),
    ],
    "quotes and variables": [
        *_names("'DNS:a.lab.internal, DNS:b.lab.internal'", '"DNS:a.lab.internal"', "`DNS:a.lab.internal`"),
        *_names("'DNS:a.$domain'", "DNS:a\\.lab\\.internal", "DNS:'a'.lab\".\"internal", "'DNS:a.lab.internal"),
        *_names(
            "DNS:a.$domain", "DNS:a.${domain}", "DNS:a.$(domain)", "DNS:a.${domain", before="domain = lab.internal\n"
        ),
        *_names("DNS:a.$x::y", "DNS:a.${x::y},DNS:b.$z", before="z = q.lab.internal\n[ x ]\ny = lab.internal\n"),
        *_names("$domain", "DNS:$", before=".pragma = dollarid:true\ndomain = DNS:a.lab.internal\n"),
        *_names("DNS:a.lab.internal # 'x", "DNS:a.lab.internal\\# x", "DNS:a.lab.internal '#'"),
    ],
    "names": [
        *_names(
            "critical,DNS:a.lab.internal",
            "critical,  @alt",
            "critical ,DNS:a.lab.internal",
            "critical",
            "@alt",
            "@ alt",
            after="[ alt ]\nDNS.1 = a.lab.internal\nDNS.b.c = b.lab.internal\nIP.1 = 10.1.2.3\nDNS.1 = c.lab.internal\n",
        ),
        *_names("DNS : a.lab.internal", "DNS.1:a.lab.internal", "dns:a.lab.internal", "DNS:a,,DNS:b", "DNS:", "DNS:a,"),
        *_names("IP:10.1.2.3, DNS:a.lab.internal", "email:a@lab.internal", "IP:fd00::1", "URI:http://a/"),
    ],
    "addresses of the subject": [
        text.replace("[ dn ]", f"[ dn ]\n{line}")
        for line in (
            "emailAddress = a@lab.internal",
            "0.emailAddress = a@lab.internal\n1.emailAddress = b@lab.internal",
            "",
        )
        for text in _names(
            "email:copy", "email:move", "email:copy,email:b@lab.internal", "email:copy, DNS:a.lab.internal"
        )
    ],
    "subject": [
        *(
            BOX.replace("CN =", f"{key} =")
            for key in ("commonName", "0.commonName", "1.CN", "a,CN", "a:CN", "0.2.5.4.3")
        ),
        *(
            BOX.replace("CN =", f"{key} =")
            for key in ("+CN", "0.+CN", "2.5.4.3", "cn", "CN_default", "CN.", "name", "foo")
        ),
        *_with(
            "CN = box.lab.internal", "CN = Media Server", "CN = 'a # b'", "CN = a, b", "CN =", "C = DE", "O = Lab", ""
        ),
        *_with("prompt = no", "prompt = yes", "", "prompt = NO", "prompt = no # x", "prompt = 'no'"),
        BOX.replace("prompt = no", "").replace("CN = box", "CN = Name\nCN_default = box"),
        BOX.replace("prompt = no", "").replace("CN = box", "0.CN = Name\n0.CN_value = box"),
    ],
    "purposes": [
        f"{BOX}extendedKeyUsage = {value}\n[ eku ]\n1 = clientAuth\n"
        for value in (
            *(
                "serverAuth",
                "clientAuth",
                "critical,clientAuth",
                "critical, clientAuth",
                "1.3.6.1.5.5.7.3.2",
                "@eku",
                "",
            ),
            *(
                "TLS Web Client Authentication",
                "why:clientAuth",
                "serverAuth,serverAuth",
                "clientauth",
                "critical,@eku",
            ),
        )
    ],
    "authorities": [
        f"{BOX.replace('req_extensions = v3', f'req_extensions = v3{more}')}{line}\n[ bc ]\nCA = yes\n[ ca ]\nbasicConstraints = CA:TRUE\n"
        for more in ("", "\nx509_extensions = ca")
        for line in (
            *(
                "basicConstraints = CA:TRUE",
                "basicConstraints = critical,CA:true,pathlen:0",
                "basicConstraints = @bc",
                "",
            ),
            *(
                "basicConstraints = CA:FALSE",
                "keyUsage = keyCertSign",
                "keyUsage = critical, cRLSign",
                "keyUsage = keyAgreement",
            ),
        )
    ],
    "included files": [
        *(
            f"{BOX.partition('[ v3 ]')[0]}{line}\n"
            for line in (".include names.inc", ".include = names.inc", ".include ./names.inc")
        ),
        *(
            f"{BOX.partition('[ v3 ]')[0]}{line}\n"
            for line in ("[ v3 ]\n.include\tnames.inc # x", ".include 'names.inc'")
        ),
        *(
            f"{BOX}{line}\n"
            for line in (".include names.inc", "file = names\n.include $file.inc", ".include sub/../names.inc")
        ),
        BOX.replace("[ dn ]\nCN = box.lab.internal\n", ".include open.inc\n"),
        BOX.replace("CN = box.lab.internal\n", ".include open.inc\nO = Lab\n"),
        f".include names.inc\n{BOX.replace('[ v3 ]', '[ other ]')}",
    ],
}


def _edits(old: str, *new: str) -> list[str]:
    """`old` with each of these lines behind it."""
    return [BOX.replace(old, f"{old}\n{line}") for line in new]


_TO_V3 = BOX.partition("[ v3 ]")[0]
_ALT = "[ alt ]\nDNS.1 = a.lab.internal\nDNS.10 = c.lab.internal\nDNS.2 = b.lab.internal\nIP.1 = 10.1.2.3\n"
FURTHER: dict[str, list[str]] = {
    "further: environment and default section": [
        *(
            f"{line}\n{BOX}"
            for line in ("HOME = $ENV::HOME", "ENV::X = 1", "RANDFILE\t= ${ENV::HOME}/.rnd", "config_diagnostics = 1")
        ),
        *(f"{line}\n{BOX}" for line in ("openssl_conf = gone", "ssl_conf = gone", "oid_file = ./none")),
        f"openssl_conf = d\n{BOX}[d]\nssl_conf = s\n[s]\nsystem_default = t\n[t]\nMinProtocol = TLSv1.2\n",
        *_names(
            "DNS:${ENV::H}.lab.internal", "DNS:$(ENV::H).lab.internal", "DNS:$ENV::H.lab.internal", before="H = box\n"
        ),
        *_names("$SAN", before="SAN = DNS:a.lab.internal\nSAN = DNS:b.lab.internal\n"),
        *_names("DNS:a.lab.internal,${ENV::E}DNS:b.lab.internal", before="E =\n"),
        *_names("DNS:${default::h}", "DNS:$h", before="[ default ]\nh = a.lab.internal\n[ x ]\n"),
    ],
    "further: what OpenSSL loads": [
        *(f"RANDFILE = {path}\n{BOX}" for path in (".rnd", "", ".", "/etc", "/nowhere/x/.rnd", "nowhere/.rnd")),
        BOX.replace("prompt", "RANDFILE = /nowhere/x/.rnd\nprompt", 1),
        f"RANDFILE = /nowhere/x\n{BOX.replace('prompt', 'RANDFILE = .rnd' + chr(10) + 'prompt', 1)}",
        *(f"oid_section = {name}\n{BOX}[ ids ]\nmy = 1.2.3.4\n[ none ]\n" for name in ("ids", "gone", "", "none")),
        *(
            f"oid_section = ids\n{BOX}[ ids ]\n{line}\n"
            for line in (
                "my = 2.50.3.1",
                "my = 1.50.3",
                "my = 1",
                "my =",
                "my = 2.5.4.3",
                "CN = 1.2.3.4.5",
                "my = a, 1.2",
            )
        ),
        *(
            f"openssl_conf = oc\n{BOX}[ oc ]\n{line}\n"
            for line in (
                *(f"{name} = gone" for name in ("oid_section", "engines", "providers", "ssl_conf", "alg_section")),
                *("random = gone", "stbl_section = gone", "nonsense = gone", "oid_section.1 = gone", "", "x = req"),
                "engines = e\n[ e ]\nx = y\n[ y ]\nengine_id = x\ndynamic_path = /nowhere.so",
                "engines = e\n[ e ]\nx = y\n[ y ]\nengine_id = dynamic\ninit = 0",
                "providers = p\n[ p ]\ndefault = d\nlegacy = d\n[ d ]\nactivate = 1",
                "providers = p\n[ p ]\nlegacy = d\n[ d ]\nactivate = 1",
                "providers = p\n[ p ]\nbase = d\n[ d ]\nactivate = 0",
                "providers = p\n[ p ]\nlegacy = d\n[ d ]\nx = 1",
                "providers = p\n[ p ]\nlegacy = gone",
                "alg_section = a\n[ a ]\nnonsense = 1",
                "alg_section = a\n[ a ]\nfips_mode = no",
                "alg_section = a\n[ a ]\nfips_mode = yes",
                "ssl_conf = a\n[ a ]\nsystem_default = b\n[ b ]\nMinProtocol = TLSv1.2",
            )
        ),
    ],
    "further: lines": [
        *_names("DNS:a.lab.internal,\\\r\nDNS:b.lab.internal\\\r\n", "DNS:a.lab.internal,\\\n\\\nDNS:b.lab.internal"),
        *_names(
            "DNS:a.lab.internal\\ ", "DNS:a.lab.internal #,DNS:b", "DNS:a.lab.internal ; x", "DNS:a.lab.internal # \\"
        ),
        *_names("\\\n".join(f"DNS:h{number}.lab.internal," for number in range(40)) + "DNS:z.lab.internal"),
        BOX.replace("\n", "\r"),
        BOX.replace("\n", "\n\n"),
        *(f"{line}{BOX}" for line in ("\t", "\ufeff# c\n", "\ufeff\n", "\ufeff\ufeff")),
        *(
            f"{BOX}{line}"
            for line in (
                "\x1a",
                "# caf\u00e9\n",
                "!x = 1\n",
                "= 1\n",
                "a b = 1\n",
                "a\n",
                "\ufeff",
                "x = " + "y" * 70000,
            )
        ),
    ],
    "further: sections": [
        *(BOX.replace("v3", name) for name in ("v3-req_1", "my v3 ext", "a  b", "v3=x", "\u00e4", "1")),
        *_with("[ v3 ]", "[v3]", "[ v3  ]", "[ 'v3' ]", "[ $x ]", "#[ v3 ]\n[ v3 ]"),
        *_with("[ req ]", "[ req ]]", "[[ req ]", "[ req ] # [ x ]", "[ REQ ]"),
        *_with("= v3", '= "v3"', "= V3", "=\tv3\t"),
        BOX.replace("= dn", "= $d").replace("prompt", "d = dn\nprompt"),
        *(f"{BOX}{line}\n" for line in ("[]\nx = 1", "[ ]", "[ req ]\nprompt = no")),
    ],
    "further: subject": [
        *(
            BOX.replace("CN =", f"{key} =")
            for key in ("99.commonName", "commonName.1", "cn.CN", "1.2.CN", "CN_value", "1.CN.")
        ),
        *_edits(
            "[ dn ]", "C = DE\nST = X\nL = Y\nO = Z\nOU = 1\n2.OU = 2", "UID = u\nDC = lab\n1.DC = internal", "C = DEU"
        ),
        *_edits(
            "[ dn ]",
            "serialNumber = 12\ntitle = x\nGN = y\nSN = z\ninitials = q",
            "O =",
            f"O = {'x' * 65}",
            f"L = {'x' * 129}",
        ),
        *_with("CN = box", "CN = \\\n box", "CN = a/b+c,", 'CN = "a;b"', "CN=box"),
        *(
            BOX.replace("prompt = no\n", "").replace(
                "CN = box.lab.internal", f"CN = x\nCN_default = box.lab.internal\n{line}"
            )
            for line in (
                "CN_min = 50",
                "CN_max = 5",
                "CN_max = 64\nemailAddress = Email",
                "O = Organisation\nO_default = Lab",
            )
        ),
        *_with("prompt = no", "prompt = no # not asked", "prompt = false", "prompt = 0"),
    ],
    "further: alternative names": [
        *_names(
            "DNS:a.lab.internal,DNS:a.lab.internal",
            "DNS:*.lab.internal",
            "DNS: a.lab.internal",
            "DNS:xn--kche-0ra.lab.internal",
        ),
        *_names(
            "IP:10.1.2.3, IP:10.1.2.4",
            "IP Address:10.1.2.3",
            "RID:1.2.3.4",
            "dirName:dn",
            "URI:https://a.lab.internal/",
        ),
        *_names(
            "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a@lab.internal",
            "critical, DNS:a.lab.internal, critical",
            "critical,,DNS:a",
        ),
        *_names("CRITICAL,DNS:a.lab.internal", "DNS:a.lab.internal:443", '"DNS:a.lab.internal","DNS:b.lab.internal"'),
        *_names("@alt", "@alt,DNS:b.lab.internal", "DNS:b.lab.internal,@alt", "critical,@alt", after=_ALT),
        *_names("@alt", after="[ alt ]\n"),
        *_names("@alt", after="[ alt ]\nDNS.1 = a.lab.internal,DNS:b.lab.internal\n"),
        *_names("@alt", after="[ alt ]\n1.DNS = a.lab.internal\n"),
        *_names("@alt", after="[ alt ]\nemail = copy\nDNS.0 = a.lab.internal\n"),
        *_names("@default", before="DNS.1 = a.lab.internal\n"),
        *(
            BOX.replace("subjectAltName", key)
            for key in ("subjectAltName.1", "1.subjectAltName", "X509v3 Subject Alternative Name")
        ),
    ],
    "further: purposes": [
        f"p = clientAuth\n{BOX}extendedKeyUsage = {value}\n[ e ]\n1 = clientAuth\n"
        for value in (
            *(
                "serverAuth, 1.3.6.1.5.5.7.3.1",
                "critical, critical, serverAuth",
                "anyExtendedKeyUsage",
                "serverAuth,msSGC,nsSGC",
            ),
            *(
                "clientAuth,emailProtection",
                "critical,@e",
                "ServerAuth",
                "serverAuth clientAuth",
                "serverAuth;clientAuth",
            ),
            *("serverAuth,", "ipsecEndSystem", "'serverAuth'", '"clientAuth"', "$p", "id-kp", "1.3.6.1.5.5.7.3.17"),
        )
    ],
    "further: extensions": [
        f"{BOX}{line}\n"
        for line in (
            *(
                "X509v3 Extended Key Usage = clientAuth",
                "extendedkeyusage = clientAuth",
                "1.2.3.4.5 = ASN1:UTF8String:x",
            ),
            *(
                "nsCertType = server",
                "nsCertType = bogus",
                "keyUsage = bogus",
                "keyUsage = Digital Signature",
                "keyUsage = @k\n[ k ]\n1 = keyAgreement",
            ),
            *(
                "basicConstraints = CA:0",
                "subjectKeyIdentifier = none",
                "certificatePolicies = 1.2.3.4",
                "certificatePolicies = ia5org,1.2.3.4,@pol",
            ),
            *(
                "tlsfeature = status_request",
                "crlDistributionPoints = URI:http://x/",
                "noCheck = ignored",
                "issuerAltName = issuer:copy",
            ),
            *(
                "authorityInfoAccess = OCSP;URI:http://x/",
                "inhibitAnyPolicy = 2",
                "challengePassword = x",
                "nsComment = 'x, y'",
            ),
        )
    ],
    "further: authorities": [
        f"{BOX}{line}\n"
        for line in (
            *(
                "basicConstraints=critical,CA:TRUE,pathlen:1",
                "basicConstraints = CA:true",
                "basicConstraints = CA:1",
                "basicConstraints = CA:t",
            ),
            *(
                "basicConstraints = CA:Yes",
                "basicConstraints = CA:YES",
                "basicConstraints = ca:TRUE",
                "basicConstraints = CA : TRUE",
            ),
            *("keyUsage = critical,keyCertSign", "keyUsage = @k\n[ k ]\n1 = keyCertSign", "basicConstraints = @gone"),
        )
    ],
    "further: included files": [
        *(
            f"{_TO_V3}{line}\n"
            for line in (
                ".include=names.inc",
                ".include sub",
                ".include sub/",
                ".include nested.inc",
                ".include bom.inc",
            )
        ),
        *(
            f"{_TO_V3}{line}\n"
            for line in (
                ".include crlf.inc",
                ".include 'with space.inc'",
                ".include with space.inc",
                ".include ./names.inc # c",
            )
        ),
        *(f"{BOX}{line}\n" for line in (" .include names.inc", ".include", ".include sub/c.txt")),
        f".pragma abspath:true\n{_TO_V3}.include names.inc\n",
        f".pragma dollarid:on\n{BOX.replace('= no', '= no' + chr(10) + 'price = 5$')}",
        f".include vars.inc\n{BOX.replace(NAMES, 'DNS:a.$dom')}",
    ],
    "further: settings": [
        *_edits(
            "prompt = no",
            "default_md = nonsense",
            "default_md = SHA256",
            "default_md = sha3-256",
            "string_mask = bogus",
            "string_mask = nombstr",
        ),
        *_edits(
            "prompt = no",
            "utf8 = yes",
            "encrypt_key = no",
            "default_keyfile = k.pem",
            "attributes = gone",
            "attributes = at\n[ at ]\nchallengePassword = x",
        ),
        *_edits(
            "prompt = no",
            "x509_extensions = gone",
            "req_extensions =",
            "prompt = yes",
            "default_days = 10",
            "string_mask = MASK:0x2002",
        ),
    ],
}
INCLUDED |= {
    "with space.inc": "[ v3 ]\nsubjectAltName = DNS:sp.lab.internal\n",
    "vars.inc": "dom = lab.internal\n",
    "nested.inc": ".include sub/../names.inc\n",
    "bom.inc": "\ufeff[ v3 ]\nsubjectAltName = DNS:bom.lab.internal\n",
    "crlf.inc": "[ v3 ]\r\nsubjectAltName = DNS:crlf.lab.internal\r\n",
    "sub/a.cnf": "[ v3 ]\nsubjectAltName = DNS:sub.lab.internal\n",
    "sub/b.conf": "[ v3 ]\nkeyUsage = digitalSignature\n",
    "sub/c.txt": "garbage",
}


# -- files at random --------------------------------------------------------------------------------------------------


def random_file(seed: int) -> str:
    """A file with some of what config(5), req(1) and x509v3_config(5) permit, and some slips of people."""
    return _Writer(random.Random(seed)).file()  # noqa: S311 - files to try, no secrets


GOOD_NAMES = (
    "CRITICALDNS:a.lab.internal",
    "CRITICALDNS:a.lab.internal, DNS : b.lab.internal,IP:10.1.2.3",
    "CRITICAL@alt",
    "CRITICAL@my alt",
    "DNS:a.lab.internal, \\\n  DNS:b.lab.internal",
    'DNS:"a.lab.internal"',
    "'DNS:a.lab.internal, DNS:b.lab.internal'",
    "DNS:a.lab.internal\\nDNS:b.lab.internal",
    "email:copy",
    "email:move, DNS:a.lab.internal",
    "email:copy,email:copy",
    "email.x:copy,DNS.x:b.lab.internal",
    "$SAN,DNS:c-1.$domain",
    "$ENV::SAN",
    "IP:fd00::1",
)
ODD_NAMES = (
    "@ alt",
    "@gone",
    "DNS:a.lab.internal,",
    "DNS:a.lab.internal,,DNS:b.lab.internal",
    "dns:a.lab.internal",
    "DNS1:a.lab.internal",
    "DNS",
    "${SAN}",
    "URI:http://a.lab.internal/",
    "RID:1.2.3",
    "otherName:1.2.3;UTF8:x",
    "dirName:dir",
    "DER:30:00",
    "ASN1:UTF8:x",
    "CRITICALDER:30:00",
    "DNS:\\,a.lab.internal",
    "'DNS:a#b'",
    "DNS:a.lab.internal;DNS:b.lab.internal",
    "",
)


class _Writer:
    def __init__(self, choice: random.Random) -> None:
        self._random = choice
        self._names = [f"{label}.lab.internal" for label in ("a", "b", "c-1", "mail")]

    def _one(self, *of: str) -> str:
        return self._random.choice(of)

    def _mostly(self, good: tuple[str, ...], odd: tuple[str, ...]) -> str:
        return self._random.choice(good if self._random.random() < 0.7 else odd)

    def _often(self, text: str, share: float = 0.5) -> str:
        return text if self._random.random() < share else ""

    def file(self) -> str:
        lines = [
            self._often("HOME = .\nRANDFILE = $ENV::HOME/.rnd", 0.3),
            self._often("RANDFILE = $ENV::HOME/.rnd", 0.03),
            self._often("domain = lab.internal", 0.95),
            self._often("prompt = no", 0.2),
            self._often("SAN = DNS:env.lab.internal", 0.4),
            self._often(f"name={self._one('x', 'x y', '$domain', '${domain}')}", 0.3),
            self._often("oid_section = oids\n[ oids ]\nours = 1.2.3.4", 0.2),
        ]
        dn, ext = self._one("dn", "req_distinguished_name", "my dn"), self._one("v3_req", "ext", "my ext")
        sections = [self._req(dn, ext), self._subject(dn), self._extensions(ext), self._others()]
        if self._random.random() < 0.3:
            self._random.shuffle(sections)
        else:
            sections.reverse()  # variables stand above where they are used
        text = "\n".join([*lines, *sections])
        if self._random.random() < 0.15:
            text = text.replace("\n", "\r\n")
        return self._often("\ufeff", 0.1) + text

    def _req(self, dn: str, ext: str) -> str:
        return "\n".join(
            [
                self._one("[req]", "[ req ]", "[\treq ] # main", "[req ]"),
                self._mostly(
                    ("prompt = no", "prompt=no # yes", 'prompt = "no"', "prompt = n\\o"), ("prompt = yes", "")
                ),
                self._often(f"distinguished_name = {dn}", 0.97),
                self._mostly(
                    (f"req_extensions = {ext}", f"req_extensions={ext} # one"), ("", f"x509_extensions = {ext}")
                ),
                self._often(f"x509_extensions = {self._one('v3_ca', 'v3_ca', 'v3_ca', ext, 'gone')}", 0.3),
                self._often(f"default_bits = {self._one('2048', '3072')}", 0.4),
                self._often("default_md = sha256\nstring_mask = utf8only\nattributes = req_attributes", 0.2),
                self._often("req::encrypt_key = no", 0.1),
            ]
        )

    def _subject(self, dn: str) -> str:
        cn = self._mostly(
            ("CN", "commonName", "0.commonName", "1.CN", "0.2.5.4.3", "+CN"),
            ("2.5.4.3", "0.0.CN", "cn", "CN_default", "1.", "x:CN", "Common Name"),
        )
        value = self._one(
            *self._names,
            "a.$domain",
            "a.${domain}",
            "a.$(domain)",
            "Media Server",
            '"quoted.lab.internal"',
            "'q u' # no",
            "a\\.lab\\.internal",
            "with\\#hash",
            '"with # hash"',
            "$ENV::name",
            "${other::word}",
            "a`b c`d",
            "$name",
            "",
        )
        return "\n".join(
            [
                f"[ {dn} ]",
                self._one("C = DE", "countryName = DE", ""),
                self._often(f"{cn} = {value}", 0.9),
                self._often(f"commonName_default = {self._one(*self._names)}", 0.05),
                self._often("CN_max = 64", 0.03),
                self._often(f"{self._one('emailAddress', '1.emailAddress')} = bot@lab.internal", 0.3),
                self._often("emailAddress_default = ops@lab.internal", 0.04),
                self._often("O = Lab, Inc.\nOU = a, b", 0.3),
                self._often(f"CN = {self._one(*self._names)}", 0.04),
            ]
        )

    def _extensions(self, ext: str) -> str:
        critical = self._often(self._mostly(("critical,", "critical, "), ("critical ,", "critical,critical,")), 0.3)
        names = self._mostly(GOOD_NAMES, ODD_NAMES).replace("CRITICAL", critical)
        return "\n".join(
            [
                f"[{self._often(' ')}{ext}{self._often(' ')}]",
                self._often(f"subjectAltName = {names}", 0.85),
                self._often(self._purpose(critical), 0.5),
                self._often(
                    "basicConstraints = "
                    + self._mostly(
                        ("CA:FALSE", "critical,CA:false", "@bc"), ("CA:TRUE", "CA:yes", "ca:true", "CA : TRUE")
                    ),
                    0.4,
                ),
                self._often(
                    "keyUsage = " + self._one("digitalSignature, keyEncipherment", "critical, keyAgreement"), 0.4
                ),
                self._often("keyUsage = " + self._one("keyCertSign", "cRLSign", "Certificate Sign"), 0.05),
                self._often('subjectKeyIdentifier = hash\nnsComment = "a, b"', 0.2),
                self._often(
                    self._one("subjectAltNames = DNS:x", "authorityKeyIdentifier = keyid,issuer", "1.2.3.4 = DER:0500"),
                    0.1,
                ),
            ]
        )

    def _purpose(self, critical: str) -> str:
        value = self._mostly(
            ("serverAuth", "clientAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.2"), ("ours", "codeSigning")
        )
        more = self._often(self._one(",serverAuth", ", clientAuth", ",emailProtection", ", critical"), 0.2)
        return "extendedKeyUsage = " + self._one(f"{critical}{value}{more}", f"{critical}@eku", f"x:{value}")

    def _others(self) -> str:
        names = "\n".join(f"DNS.{number} = {self._one(*self._names)}" for number in range(self._random.randint(1, 3)))
        return "\n".join(
            [
                f"[ alt ]\n{names}\n"
                + self._often("IP.1 = 10.1.2.3\nemail.1 = copy", 0.3)
                + self._often("\nDNS.1 = z.$domain", 0.2),
                self._often("[ my alt ]\nDNS.a.b = my.lab.internal\nDNS = two.lab.internal", 0.9),
                "[ eku ]\n1 = " + self._one("serverAuth", "clientAuth"),
                "[ other ]\nword = w.lab.internal" + self._often("\nlost = $nowhere", 0.03),
                "[ bc ]\nCA = FALSE",
                "[ dir ]\nC = DE",
                "[ v3_ca ]\nbasicConstraints = critical, CA:TRUE\nauthorityKeyIdentifier = keyid:always,issuer",
                self._often("[ unclosed\n", 0.03) + self._often("no equals sign\n", 0.03) + self._often("; x\n", 0.03),
                self._often("# a comment that goes on \\\nDNS.9 = swallowed\n", 0.2),
                self._often("[ req_attributes ]\nunstructuredName = x", 0.9),
            ]
        )
