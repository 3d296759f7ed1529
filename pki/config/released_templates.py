"""Digests of the templates of earlier versions, by which unchanged copies of them are recognised.

A release adds a digest for each template that changed: `released_templates.digest` of its content, behind the version.
"""

from __future__ import annotations

import hashlib

_RELEASED = """\
apache/pki-services.conf 0.1.0:0d111e9f534d578e 0.2.0:7e6c06d97be84630
caddy/Caddyfile 0.1.0:72f380539284803f 0.2.0:c4b74d5eac0cfb76
caddy/pki-reload.conf 0.1.0:ff163292db56b1a1
grafana/doit-pki.json 0.1.0:5602a133f461f6bd 0.2.0:bd2cadc856eb8c88
grafana/doit-pki.yaml 0.1.0:13de5db2cb2a740e
haproxy/haproxy.cfg 0.1.0:5bd10d69cbd4c8d2 0.2.0:99bb7bb594ab0e7a
haproxy/pki-crt-list.txt 0.1.0:9f2dcda3bee8adc1
nginx/pki-drain.conf 0.1.0:d51f1bb0eb638d4c
nginx/pki-services.conf 0.1.0:7db773eee41f9b32 0.2.0:83a1b2bceb3629ee
prometheus/doit-pki.rules.yml 0.1.0:205bfd7fecf84278 0.2.0:96204be926cf710e
publish/apple.profile 0.1.0:0d489124948d87f6
publish/ca.crt 0.1.0:aefb5fadba0fcdf2
publish/ca.pem 0.1.0:fd3d1f612f96a646
publish/crl.crl 0.1.0:0d768f241e568504
publish/index.html 0.1.0:d9154c0189b35615
publish/root.crt 0.1.0:0bc0f0bba8000818
tls/client-ca.pem 0.1.0:53590152e89a51ea
tls/client-chain.pem 0.1.0:49cefceb602e1beb
tls/client-crl.pem 0.1.0:2277539763a28c77
tls/tls-mtls.pem 0.1.0:d41ddb366a044627
tls/tls.pem 0.1.0:bb7b38400f502539
tls/upstream-ca.pem 0.2.0:50dcc26a932ea07a
traefik/pki-services.yml 0.1.0:20186074230744d9 0.2.0:8ec802b9881fe321
traefik/traefik.yml 0.1.0:79f80912bf4ceecb 0.2.0:d73c649d381b3722
trust/java-root.pem 0.1.0:eb63dd50b9418003
trust/nss-root.pem 0.1.0:c1806769a47fc0e1
trust/rhel-root.pem 0.1.0:c6d3836918294b28
trust/roots.pem 0.1.0:6de63987056ecf96
trust/system-root.crt 0.1.0:d4ee009916d1045f
"""


def digest(content: bytes) -> str:
    """Return the digest of a template: the first 64 bits of its SHA-256, which only has to tell our own versions apart."""
    return hashlib.sha256(content).hexdigest()[:16]


def _parse() -> dict[str, dict[str, str]]:
    entries = (line.split() for line in _RELEASED.splitlines())
    return {
        name: {sha256: version for version, _, sha256 in (entry.partition(":") for entry in versions)}
        for name, *versions in entries
    }


RELEASED = _parse()  # path below templates/ → digest → the first version with this content


def version_of(name: str, content: bytes) -> str:
    """Return the version of the program that had this content as a template; "" if none had it."""
    return RELEASED.get(name, {}).get(digest(content), "")
