"""The eyes: why an artifact must be made anew.

Each function returns reasons, phrases that read well after the artifact's name; none means that it is fresh. They
look at the thing itself, held against the inventory, its issuer and `now`. They change nothing.
"""

from pki.freshness.authorities import authority, some_authority_ages
from pki.freshness.crls import adopted_crl, crl, due_rung, no_rung, root_crl, signed_crl, unrecorded, unrecorded_reason
from pki.freshness.derived import derived, remembered
from pki.freshness.leaves import (
    Held,
    damage,
    damaged_files,
    examine,
    held,
    is_known,
    leaf,
    leaf_files,
    leaf_waits,
    must_issue,
    unsigned,
    withheld,
    withheld_damage,
)

__all__ = [
    "Held",
    "adopted_crl",
    "authority",
    "crl",
    "damage",
    "damaged_files",
    "derived",
    "due_rung",
    "examine",
    "held",
    "is_known",
    "leaf",
    "leaf_files",
    "leaf_waits",
    "must_issue",
    "no_rung",
    "remembered",
    "root_crl",
    "signed_crl",
    "some_authority_ages",
    "unrecorded",
    "unrecorded_reason",
    "unsigned",
    "withheld",
    "withheld_damage",
]
