"""What a revocation will break, shown before it is confirmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from pki.config.model import Inventory, Leaf
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.monitor.revocation_publication import root_that_revoked
from pki.pipeline.plan import Plan
from pki.project.authorities import Authorities
from pki.project.layout import Store

REFUSED = "will be refused by"


class AfterRevocation(StrEnum):
    """What becomes of a name after its certificates are revoked."""

    REPLACEMENT = "replacement"  # the next run issues another certificate
    NOTHING = "nothing"  # not before `invoke renew`
    REMOVAL = "removal"  # it leaves pki.yaml


def consequences(
    inventory: Inventory,
    store: Store,
    authorities: Authorities,
    plan: Plan,
    certificates: Sequence[Issued],
    *,
    follows: AfterRevocation,
) -> Iterator[tuple[str, str]]:
    """Yield labels and texts: who uses the certificates and where, and what follows. All have one name."""
    name = certificates[-1].artifact.short
    leaf = plan.leaves.get(name)
    yield "used by", ", ".join(certificates[-1].names) or certificates[-1].subject
    issuer = certificates[-1].issuer
    if root := root_that_revoked(inventory, authorities, issuer):
        yield REFUSED, f"every program that checks the CRL of {root}, which lists {issuer}, its issuer"
    elif certificates[-1].artifact.kind != "cert":  # issued by an adopted CA
        yield REFUSED, f"every program that checks the CRL of {issuer}"
    elif certificates[-1].profile == "client":
        uses = dependents.uses_requiring_clients(inventory)
        refusing_uses = (use for use in uses if _can_refuse(use))
        yield REFUSED, dependents.join_uses(refusing_uses)
        for use in uses:
            if not _can_refuse(use):
                why = use.program.caveat if use.program else "its proxy is unknown"
                verb = "will" if use.program is None or use.program.is_known else "may"
                yield f"{verb} still be accepted by", f"{use}, until it expires: {why}"
            elif use.remark:
                yield "check", f"{use}: {use.remark}"
    elif certificates[-1].profile == "peer":
        yield REFUSED, "every member of its cluster that reads the CRLs; nobody else ever accepted it"
    else:
        yield "served by", dependents.join_uses(dependents.uses_serving(inventory, name))
    yield "then", _then(store, leaf, certificates, follows=follows)


def _can_refuse(use: dependents.Use) -> bool:
    return use.program is not None and use.program.revokes


def _then(store: Store, leaf: Leaf | None, certificates: Sequence[Issued], *, follows: AfterRevocation) -> str:
    if leaf is None:
        return "nothing replaces it, because it is not in pki.yaml"
    if not dependents.current_bundle(store, leaf, certificates):
        return "the present certificate of this name is not affected"
    if follows is AfterRevocation.REMOVAL:
        return "it is removed from pki.yaml, and nothing replaces it"
    if follows is AfterRevocation.NOTHING:
        keeps = "" if leaf.profile == "client" else "its host keeps it; "
        return f"{keeps}nothing replaces it until: ./run invoke renew {leaf.name}"
    if leaf.request:
        return f"a new certificate for the same key follows at once: the one in {leaf.request}; else: --no-replace"
    installs = "; its owner must install it" if leaf.profile == "client" else ""
    return f"a new certificate with a new key follows at once{installs}"
