"""Certificates whose kind of key programs do not support: Ed25519 in browsers, ML-DSA nearly everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pki.authority.certificates import LeafCertificates
from pki.authority.declared_keys import declared_kind
from pki.common.counts import join_names
from pki.common.notice import Notice
from pki.common.reasons import Outcome, Verb, Why
from pki.config.model import Leaf
from pki.project.layout import Store
from pki.x509.keys import ML_DSA

ED25519 = "ed25519"  # Chrome, Firefox and Safari do not offer it in signature_algorithms (RFC 8446 §4.2.3)
REQUEST_AGAIN = "; on a device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"
# measured, except browsers: docs/explanation/post-quantum.md
WITHOUT_ML_DSA = "browsers, OpenSSL 3.0, GnuTLS 3.7, NSS 3.87, Java 17 and Caddy 2.11"

MAY_STAY = "it may stay where server and clients use OpenSSL 3.5 or newer: docs/explanation/post-quantum.md"


def remarks(store: Store, leaves: Iterable[Leaf]) -> Iterator[Notice]:
    """Yield one remark about all server certificates with Ed25519 keys, and one about all certificates with ML-DSA keys."""
    kinds = [(leaf, declared_kind(store, leaf.request, leaf.key)) for leaf in leaves]
    servers = [leaf for leaf, kind in kinds if leaf.profile == "server" and kind == ED25519]
    if servers:
        text = f"Chrome, Firefox and Safari refuse the {ED25519} key of {_names(servers)}"
        places = list(dict.fromkeys(leaf.declared for leaf in servers))
        where = f"under {places[0]}" if len(places) == 1 else "under each of them, or under profiles.server"
        yield _notice(servers, text, f"key: ec-p256 {where}; it may stay if no browser connects to them")
    post_quantum = [leaf for leaf, kind in kinds if kind == ML_DSA]
    if post_quantum:
        text = f"{WITHOUT_ML_DSA} cannot use the {ML_DSA} key of {_names(post_quantum)}"
        yield _notice(post_quantum, text, f"key: ec-p256 under {_places(post_quantum)}; {MAY_STAY}")


def issue_with_warning(certificate_maker: LeafCertificates, leaf: Leaf) -> Outcome:
    """Issue a leaf if that is necessary; the outcome warns of such a key. Raises PkiError as `issue_if_due` does."""
    outcome = certificate_maker.issue_if_due(leaf)
    kind = declared_kind(certificate_maker.project.store, leaf.request, leaf.key)
    is_rare = kind == ML_DSA or (kind == ED25519 and leaf.profile == "server")
    if not is_rare or outcome.verb not in {Verb.ISSUED, Verb.RENEWED, Verb.REISSUED}:
        return outcome
    return replace(outcome, reasons=(*outcome.reasons, Why.RARE_KEY(kind=kind)))


def _places(leaves: list[Leaf]) -> str:
    return join_names(list(dict.fromkeys(leaf.declared for leaf in leaves)))


def _names(leaves: list[Leaf]) -> str:
    return join_names([leaf.name for leaf in leaves])


def _notice(leaves: list[Leaf], text: str, remedy: str) -> Notice:
    subject = leaves[0].artifact if len(leaves) == 1 else "certificates"
    return Notice(subject, text, remedy + (REQUEST_AGAIN if any(leaf.request for leaf in leaves) else ""))
