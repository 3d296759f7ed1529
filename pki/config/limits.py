"""The longest lifetimes that a vault signs."""

from __future__ import annotations

from datetime import timedelta

ROOT_LIMIT = timedelta(days=25 * 365)  # a root
PRESIGNED_CRL_LIMIT = timedelta(days=3 * 365)  # a CRL that a root signs at a ceremony, for later
