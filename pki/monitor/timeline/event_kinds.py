"""The kinds of events in the timeline."""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """What happens once, on one day."""

    REQUEST = "request"  # doit prepares the request for a ceremony
    CEREMONY = "ceremony"
    HOLIDAY = "holiday"  # the assumed day of a ceremony is a holiday, and no other one is possible
    PRESIGNED_CRL = "presigned_crl"  # the next pre-signed CRL of a root is published
    TAKEOVER = "turn"  # the leaves of an authority get another issuer, or a shorter chain
    EXPIRY = "end"  # of an authority
    SHORT_VALIDITY = "short"  # of a certificate, because its authority expires
    GAP = "gap"  # a time without a valid certificate or CRL
