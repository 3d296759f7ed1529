"""What a revocation will break, said before it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pki.config.model import Leaf
from pki.ledger.types import Issued
from pki.monitor import dependents
from pki.pipeline.plan import Plan
from pki.project.project import Project


def consequences(project: Project, plan: Plan, going: Sequence[Issued], *, follows: str) -> Iterator[str]:
    """Line after line: which certificates, who uses them and where, and what follows. All of `going` bear one name.

    `follows` is replacement, nothing, or removal from pki.yaml.
    """
    name = going[-1].artifact.short
    leaf = plan.leaves.get(name)
    for one in going:
        yield f"{name}, serial {one.serial:x}, valid until {one.not_after:%Y-%m-%d}"
    yield f"  used by      {', '.join(going[-1].names) or going[-1].subject}"
    if going[-1].artifact.kind != "cert":  # which an authority from elsewhere signed
        yield f"  refused by   whoever reads the CRL of {going[-1].issuer}"
    elif going[-1].profile == "client":
        asking = dependents.asking(project)
        refusing = (use for use in asking if _can_refuse(use))
        yield f"  refused by   {dependents.listed(refusing, 'none of those declared here' if asking else dependents.NOT_SEEN)}"
        for use in asking:
            if not _can_refuse(use):
                why = use.program.caveat if use.program else "nothing is known of its proxy"
                yield f"  let in by    {use}, until it ends: {why}"
    else:
        yield f"  served by    {dependents.listed(dependents.serving(project, name))}"
    yield f"  then         {_then(project, leaf, going, follows=follows)}"


def _can_refuse(use: dependents.Use) -> bool:
    return use.program is not None and use.program.revokes


def _then(project: Project, leaf: Leaf | None, going: Sequence[Issued], *, follows: str) -> str:
    if leaf is None:
        return "nothing replaces it, for it is not in pki.yaml"
    if not dependents.present(project, leaf, going):
        return "the present certificate of this name stays as it is"
    if follows == "removal":
        return "it leaves pki.yaml, and nothing replaces it"
    if follows == "nothing":
        keeps = "" if leaf.profile == "client" else "its host keeps it; "
        return f"{keeps}nothing replaces it before: ./run invoke renew {leaf.name}"
    if leaf.request:
        return f"a new certificate for the same key follows at once: the one in {leaf.request}; else: --no-replace"
    installs = "; its person has to install it" if leaf.profile == "client" else ""
    return f"a new certificate with a new key follows at once{installs}"
